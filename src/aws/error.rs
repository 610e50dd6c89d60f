//! One error for every AWS call, and the one table that says what each code means for us.

use std::fmt;

use super::session::Api;

/// What an error means for whoever made the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Too many calls; nothing was done.
    Throttled,
    /// AWS or the network failed; whether something was done is not known.
    Transient,
    /// Something that was just made is not visible everywhere yet; nothing was done.
    NotYetConsistent,
    /// The thing is busy with an earlier change; nothing was done.
    Busy,
    /// The thing does not exist.
    NotFound,
    /// A thing of that name exists already.
    AlreadyExists,
    /// Policies forbid the call.
    Denied,
    /// No credentials, or none that AWS takes.
    Credentials,
    /// Credentials of an account that the provider's configuration rules out.
    WrongAccount,
    /// The user interrupted, or the time was up.
    Stopped,
    /// Anything else: repeating would not help.
    Refused,
}

impl ErrorClass {
    /// Whether repeating the same call may help.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Throttled | Self::Transient | Self::NotYetConsistent | Self::Busy)
    }
}

/// A call to AWS that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The call.
    pub api: Api,
    /// What it means.
    pub class: ErrorClass,
    /// AWS's code, where an answer arrived.
    pub code: Option<Box<str>>,
    /// AWS's message, or what happened to the request.
    pub message: String,
    /// AWS's id of the request, for a support case.
    pub request_id: Option<Box<str>>,
}

impl ApiError {
    /// Whether the thing that was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        self.class == ErrorClass::NotFound
    }

    /// Whether AWS answered with this code.
    pub fn has_code(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// Whether AWS says in it what is wrong: an answer without a code may be anybody's.
    pub fn is_of_aws(&self) -> bool {
        self.code.as_deref().is_some_and(|code| !code.starts_with("HTTP "))
    }

    /// An error of ours about an answer that makes no sense.
    pub fn unusable(api: Api, message: impl Into<String>) -> Self {
        let class = ErrorClass::Refused;
        Self { api, class, code: None, message: message.into(), request_id: None }
    }
}

impl ApiError {
    /// A run that was stopped before a call told what it was to tell.
    pub fn stopped(api: Api, why: impl Into<String>) -> Self {
        Self { class: ErrorClass::Stopped, ..Self::unusable(api, why) }
    }

    /// An error of ours about the account that the credentials belong to.
    pub fn wrong_account(api: Api, message: impl Into<String>) -> Self {
        Self { class: ErrorClass::WrongAccount, ..Self::unusable(api, message) }
    }
}

impl std::error::Error for ApiError {}

impl fmt::Display for ApiError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} in {}: ", self.api, self.api.region)?;
        if let Some(code) = &self.code {
            write!(out, "{code}: ")?;
        }
        write!(out, "{}", self.message)?;
        if let Some(id) = &self.request_id {
            write!(out, " (request {id})")?;
        }
        Ok(())
    }
}

/// A row: the codes, a text that the message must hold (empty: any), and what it means.
type Row = (&'static [&'static str], &'static str, ErrorClass);

/// The first row that fits decides. Sources: aws-facts 1.5 and the services' own models.
const MEANINGS: &[Row] = &[
    (
        &[
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestThrottledException",
            "TooManyRequestsException",
            "EC2ThrottledException",
            "ProvisionedThroughputExceededException",
            // SNS, of the key of a topic.
            "KMSThrottling",
            "PriorRequestNotComplete",
        ],
        "",
        ErrorClass::Throttled,
    ),
    (
        &[
            // What STS could not ask an identity provider.
            "IDPCommunicationError",
            "InternalFailure",
            "InternalError",
            "InternalServerError",
            "InternalServiceError",
            "InternalServiceException",
            // EventBridge's and Lambda's own.
            "InternalException",
            "ServiceException",
            "KMSInternalException",
            "DependencyTimeoutException",
            "ServiceUnavailable",
            "ServiceUnavailableException",
            "Unavailable",
            "ServiceFailure",
            "ServiceFailureException",
            "RequestTimeout",
        ],
        "",
        ErrorClass::Transient,
    ),
    (
        &[
            "ExpiredToken",
            "ExpiredTokenException",
            // EC2, of credentials that have expired, and of a request that was signed by a clock that is wrong.
            "RequestExpired",
            // SNS, of a signature that is not right.
            "InvalidSecurity",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
            "AuthFailure",
            "MissingAuthenticationToken",
            "IncompleteSignature",
        ],
        "",
        ErrorClass::Credentials,
    ),
    // CloudWatch Logs, of a key whose policy does not count yet (terraform-provider-aws #29282, terraform #24194): before
    // what is denied.
    (
        &["AccessDeniedException"],
        "KMS key does not exist or is not allowed",
        ErrorClass::NotYetConsistent,
    ),
    (
        &[
            "AccessDenied",
            "AccessDeniedException",
            "NotAuthorized",
            "NotAuthorizedException",
            "UnauthorizedOperation",
            "AuthorizationError",
            "KMSKeyNotAccessibleFault",
        ],
        "",
        ErrorClass::Denied,
    ),
    // A role or key that was made seconds ago.
    (&["InvalidParameterValue"], "ENHANCED_MONITORING", ErrorClass::NotYetConsistent),
    (&["InvalidParameterValue"], "IAM role ARN value is invalid", ErrorClass::NotYetConsistent),
    (&["MalformedPolicyDocument"], "Invalid principal", ErrorClass::NotYetConsistent),
    (&["MalformedPolicyDocumentException"], "invalid principals", ErrorClass::NotYetConsistent),
    (
        &["InvalidParameterValueException"],
        "cannot be assumed by Lambda",
        ErrorClass::NotYetConsistent,
    ),
    (
        &["InvalidParameterValueException"],
        "The provided execution role does not have permissions",
        ErrorClass::NotYetConsistent,
    ),
    (
        &["InvalidParameterValueException"],
        "KMS key is invalid for CreateGrant",
        ErrorClass::NotYetConsistent,
    ),
    (&["InvalidParameterValueException"], "throttled by EC2", ErrorClass::Throttled),
    // Lambda, of a role whose rights do not count yet when a function runs, and of what its configuration lacks: in
    // answers whose status says that Lambda failed.
    (&["KMSAccessDeniedException", "EC2AccessDeniedException"], "", ErrorClass::NotYetConsistent),
    (
        &[
            "KMSDisabledException",
            "KMSNotFoundException",
            "KMSInvalidStateException",
            "ENILimitReachedException",
            "SubnetIPAddressLimitReachedException",
            "InvalidSubnetIDException",
            "InvalidSecurityGroupIDException",
            "InvalidRuntimeException",
            "InvalidZipFileException",
        ],
        "",
        ErrorClass::Refused,
    ),
    // Lambda and DynamoDB have one code for both.
    (&["ResourceConflictException"], "already exist", ErrorClass::AlreadyExists),
    (&["ResourceInUseException"], "already exists", ErrorClass::AlreadyExists),
    (&["ResourceConflictException", "ResourceInUseException"], "", ErrorClass::Busy),
    // Another change of the same thing is under way.
    (&["InvalidDBInstanceState"], "your request later", ErrorClass::Busy),
    (&["InvalidDBInstanceState"], "is not currently in the available state", ErrorClass::Busy),
    (&["InvalidDBInstanceState"], "not in available state", ErrorClass::Busy),
    (&["InvalidDBInstanceState"], "must be in the available state", ErrorClass::Busy),
    (&["InvalidRequestException"], "already scheduled for deletion", ErrorClass::Busy),
    (&["InvalidDBInstanceState"], "not a read replica", ErrorClass::Refused),
    (&["InvalidDBInstanceState"], "already being deleted", ErrorClass::Refused),
    (&["InvalidDBInstanceState"], "backups are not enabled", ErrorClass::Refused),
    (&["InvalidDBInstanceState"], "not replicating to the current region", ErrorClass::Refused),
    // Whatever else its state is, it is on its way somewhere.
    (&["InvalidDBInstanceState", "InvalidDBInstanceAutomatedBackupState"], "", ErrorClass::Busy),
    (&["OperationNotPermitted"], "is not active", ErrorClass::NotYetConsistent),
    (&["InvalidParameterException"], "KMS key", ErrorClass::NotYetConsistent),
    (&["InvalidParameterException"], "KMS Key Id", ErrorClass::NotYetConsistent),
    (&["SNSNoAuthorization", "SNSTopicArnNotFound"], "", ErrorClass::NotYetConsistent),
    (
        &["InvalidParameterCombination"],
        "previous storage change is being optimized",
        ErrorClass::Busy,
    ),
    // DynamoDB, of too many tables that are made or changed at once; elsewhere it is a quota.
    (&["LimitExceededException"], "simultaneous", ErrorClass::Busy),
    (
        &[
            "InvalidDBParameterGroupState",
            "InvalidDBSnapshotState",
            "InvalidDBSubnetStateFault",
            "DependencyViolation",
            "InvalidGroup.InUse",
            "DeleteConflict",
            "ConcurrentModification",
            "ConcurrentModificationException",
            // CloudWatch's word for it, and DynamoDB's, of an item.
            "ConflictException",
            "TransactionConflictException",
            "ReplicatedWriteConflictException",
            // Lambda, of an interface that it is still making.
            "ResourceNotReadyException",
            // SSM's word for it, and EC2's, of tags.
            "TooManyUpdates",
            "ConcurrentTagAccess",
            // SNS, of a topic whose name another one had a moment ago.
            "StaleTag",
            "OperationAbortedException",
            "InvalidDBSubnetGroupStateFault",
            "InvalidEventSubscriptionState",
            "ConcurrentAccess",
        ],
        "",
        ErrorClass::Busy,
    ),
    (
        &[
            "DBInstanceNotFound",
            "DBInstanceAutomatedBackupNotFound",
            "DBParameterGroupNotFound",
            "DBSubnetGroupNotFoundFault",
            "DBSnapshotNotFound",
            "InvalidGroup.NotFound",
            "InvalidSecurityGroupID.NotFound",
            "InvalidPermission.NotFound",
            "InvalidSecurityGroupRuleId.NotFound",
            "InvalidRoute.NotFound",
            "InvalidVpcPeeringConnectionID.NotFound",
            "InvalidVpcID.NotFound",
            "InvalidSubnetID.NotFound",
            "InvalidRouteTableID.NotFound",
            "NoSuchEntity",
            "NotFoundException",
            "ParameterNotFound",
            // SSM, of documents, and of what is to be tagged.
            "InvalidDocument",
            "InvalidResourceId",
            "ResourceNotFoundException",
            "NoSuchHostedZone",
            "NoSuchHealthCheck",
            "NoSuchChange",
            "NotFound",
            "ResourceNotFound",
            "SubscriptionNotFound",
            "SourceNotFound",
            "VPCAssociationNotFound",
        ],
        "",
        ErrorClass::NotFound,
    ),
    (
        &[
            "DBInstanceAlreadyExists",
            "DBParameterGroupAlreadyExists",
            "DBSnapshotAlreadyExists",
            "DBSubnetGroupAlreadyExists",
            "InvalidGroup.Duplicate",
            "InvalidPermission.Duplicate",
            "RouteAlreadyExists",
            "VpcPeeringConnectionAlreadyExists",
            "EntityAlreadyExists",
            "AlreadyExistsException",
            "ParameterAlreadyExists",
            "DocumentAlreadyExists",
            "ResourceExistsException",
            "ResourceAlreadyExistsException",
            "HealthCheckAlreadyExists",
            "HostedZoneAlreadyExists",
            "SubscriptionAlreadyExist",
        ],
        "",
        ErrorClass::AlreadyExists,
    ),
];

/// What a code and a message mean. Where AWS sent no known code, the HTTP status decides.
pub(super) fn classify(code: Option<&str>, message: &str, status: u16) -> ErrorClass {
    let known = code.and_then(|code| {
        MEANINGS
            .iter()
            .find(|(codes, text, _)| codes.contains(&code) && message.contains(text))
            .map(|(_, _, class)| *class)
    });
    known.unwrap_or(match status {
        429 => ErrorClass::Throttled,
        500 | 502..=599 => ErrorClass::Transient,
        _ => ErrorClass::Refused,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_means_what_its_row_says_and_its_message_may_decide() {
        let class = |code, message| classify(Some(code), message, 400);
        assert_eq!(class("Throttling", "Rate exceeded"), ErrorClass::Throttled);
        assert_eq!(
            class("InvalidParameterValue", "ENHANCED_MONITORING"),
            ErrorClass::NotYetConsistent
        );
        assert_eq!(class("InvalidParameterValue", "max_connections"), ErrorClass::Refused);
        assert_eq!(class("InternalFailure", ""), ErrorClass::Transient);
        assert_eq!(class("DBInstanceNotFound", ""), ErrorClass::NotFound);
        let tables = "Only 500 tables can be created, updated, or deleted simultaneously";
        assert_eq!(class("LimitExceededException", tables), ErrorClass::Busy);
        assert_eq!(class("LimitExceededException", "too many keys"), ErrorClass::Refused);
        let lambda = |code| classify(Some(code), "", 502);
        assert_eq!(lambda("InvalidZipFileException"), ErrorClass::Refused);
        assert_eq!(lambda("SomethingNew"), ErrorClass::Transient);
    }

    #[test]
    fn without_a_known_code_the_status_decides() {
        assert_eq!(classify(None, "", 503), ErrorClass::Transient);
        assert_eq!(classify(Some("Odd"), "", 429), ErrorClass::Throttled);
        assert_eq!(classify(None, "", 501), ErrorClass::Refused);
        assert_eq!(classify(Some("Odd"), "", 400), ErrorClass::Refused);
    }

    /// Each code that AWS's models have for an operation stands in the table, or among those that are refused knowingly.
    #[test]
    fn every_code_of_the_models_is_decided_about() {
        use std::collections::{BTreeMap, BTreeSet};
        type Operations = BTreeMap<String, BTreeMap<String, u16>>;
        let models = include_str!("../../tests/fixtures/errors.json");
        let models: BTreeMap<String, Operations> = serde_json::from_str(models).unwrap();
        let named: BTreeSet<_> = MEANINGS.iter().flat_map(|(codes, ..)| codes.iter()).collect();
        let open: BTreeSet<_> = (models.values().flat_map(BTreeMap::values))
            .flat_map(BTreeMap::keys)
            .map(String::as_str)
            .filter(|code| !named.contains(code))
            .collect();
        let refused = include_str!("../../tests/fixtures/refused-codes.txt");
        let refused: BTreeSet<_> = refused.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(open, refused, "codes without a row, and codes that are refused knowingly");
    }

    #[test]
    fn no_code_stands_in_two_unconditional_rows() {
        let mut seen = std::collections::BTreeSet::new();
        for (codes, text, _) in MEANINGS {
            for code in codes.iter().filter(|_| text.is_empty()) {
                assert!(seen.insert(code), "{code} stands twice");
            }
        }
    }
}
