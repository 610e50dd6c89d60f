//! What may become of a call: the network's part, and each class of error that the operation can answer with.
//!
//! The codes are those that AWS's models have for the operation, which `make contract` holds the file against, and those that
//! all operations share. Of the codes of a class one is drawn.

use std::{collections::BTreeMap, sync::LazyLock};

use aws_sandbox::Effect;

/// HTTP statuses by code.
type Codes = BTreeMap<String, u16>;

/// What each operation of a service may answer with.
static DECLARED: LazyLock<BTreeMap<String, BTreeMap<String, Codes>>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../fixtures/errors.json")).unwrap());

/// What a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It is not taken, and never will be.
    Invalid,
    /// There are too many already.
    Quota,
    /// The thing is in a state in which this cannot be done.
    State,
    /// The credentials have expired.
    Expired,
    /// They may not do it.
    Denied,
    /// Something else is being done to the thing.
    Busy,
    /// What it refers to is not known everywhere yet.
    Late,
    /// It is wrongly said not to be there.
    Missing,
    /// It is wrongly said to be there.
    Exists,
    /// The service fails.
    Failing,
}

use Class::{Busy, Denied, Exists, Expired, Failing, Invalid, Late, Missing, Quota, State};

/// What becomes of a call: of one, or of all from then on.
#[derive(Clone, Debug)]
pub struct Fate {
    pub effect: Effect,
    pub lasts: bool,
    pub class: Option<Class>,
}

/// Who hears this of a deletion, or of what follows one, has what was wanted.
const SWALLOWED: [&str; 5] = [
    "ConditionalCheckFailedException",
    "InvalidRequestException",
    "InvalidStateTransition",
    "KMSInvalidStateException",
    "LastVPCAssociation",
];

impl Fate {
    pub fn is_denial(&self) -> bool {
        self.class == Some(Denied)
    }

    /// Something else fails by what is wrongly said to be there, or not to be, or to be on its way already.
    pub fn misleads(&self) -> bool {
        let Effect::Fail { code, .. } = &self.effect else { return false };
        matches!(self.class, Some(Missing | Exists)) || SWALLOWED.contains(&code.as_str())
    }
}

/// Another change of the same thing, or of what uses it, is under way.
const BUSY: [&str; 14] = [
    "ConcurrentAccess",
    "ConcurrentModification",
    "ConcurrentModificationException",
    "ConcurrentTagAccess",
    "ConflictException",
    "DeleteConflict",
    "DependencyViolation",
    "OperationAbortedException",
    "PriorRequestNotComplete",
    "ReplicatedWriteConflictException",
    "ResourceConflictException",
    "StaleTag",
    "TooManyUpdates",
    "TransactionConflictException",
];
/// It is in a state in which AWS does not take the call, or a condition of the call does not hold.
const STATES: [&str; 12] = [
    "ConditionalCheckFailedException",
    "DisabledException",
    "HostedZoneNotEmpty",
    "InvalidDocumentOperation",
    "InvalidRequestException",
    "InvalidState",
    "InvalidStateTransition",
    "KMSInvalidStateException",
    "LastVPCAssociation",
    "ManagedRuleException",
    "PreconditionFailedException",
    "UnmodifiableEntity",
];
/// States of things of RDS that pass.
const PASSING: [&str; 7] = [
    "InvalidDBInstanceAutomatedBackupState",
    "InvalidDBInstanceState",
    "InvalidDBParameterGroupState",
    "InvalidDBSnapshotState",
    "InvalidDBSubnetGroupStateFault",
    "InvalidDBSubnetStateFault",
    "InvalidEventSubscriptionState",
];

/// What a code is about; `None` for throttling, which is a fate of its own, and what means something by its message only.
fn class_of(code: &str, status: u16) -> Option<Class> {
    let has = |parts: &[&str]| parts.iter().any(|part| code.contains(part));
    let is_one = |all: &[&str]| all.contains(&code);
    Some(match code {
        _ if has(&["Throttl", "TooManyRequests", "ProvisionedThroughput"]) => return None,
        "MalformedPolicyDocument"
        | "MalformedPolicyDocumentException"
        | "OperationNotPermitted" => {
            return None;
        }
        _ if status >= 500 || has(&["InternalS", "InternalE"]) => Failing,
        _ if is_one(&BUSY) || is_one(&PASSING) || code == "ResourceInUseException" => Busy,
        _ if is_one(&STATES) => State,
        "AuthorizationError" | "AccessDeniedException" | "NotAuthorizedException" => return None,
        _ if has(&["AlreadyExist", "ResourceExists", "Duplicate"]) => Exists,
        _ if has(&["NotFound", "NoSuch"]) || is_one(&["InvalidDocument", "InvalidResourceId"]) => {
            Missing
        }
        _ if has(&["LimitExceeded", "LimitsExceeded", "Quota", "TooMany", "Insufficient"]) => Quota,
        _ if has(&["StorageExceeded", "LengthExceeded"]) => Quota,
        _ => Invalid,
    })
}

/// What is refused in the same words whatever it was.
fn common(service: &str, operation: &str) -> Vec<(Class, &'static str, u16)> {
    let mut all = match service {
        "ec2" => vec![
            (Invalid, "InvalidParameterValue", 400),
            (Denied, "UnauthorizedOperation", 403),
            (Expired, "RequestExpired", 400),
            (Failing, "InternalError", 500),
        ],
        "rds" | "iam" | "sns" | "sts" | "route53" | "cloudwatch" => {
            let denied = if service == "sns" { "AuthorizationError" } else { "AccessDenied" };
            vec![
                (Invalid, "ValidationError", 400),
                (Denied, denied, 403),
                (Expired, "ExpiredToken", 403),
                (Failing, "InternalFailure", 500),
            ]
        }
        _ => {
            let status = if service == "lambda" { 403 } else { 400 };
            vec![
                (Invalid, "ValidationException", 400),
                (Denied, "AccessDeniedException", status),
                (Expired, "ExpiredTokenException", status),
                (Failing, "InternalFailure", 500),
            ]
        }
    };
    // What the message says of the same codes.
    all.extend(match (service, operation) {
        ("iam", "CreateRole" | "UpdateAssumeRolePolicy") => {
            Some((Late, "MalformedPolicyDocument", 400))
        }
        ("kms", "CreateKey" | "PutKeyPolicy") => {
            Some((Late, "MalformedPolicyDocumentException", 400))
        }
        ("lambda", "CreateFunction" | "UpdateFunctionConfiguration") => {
            Some((Late, "InvalidParameterValueException", 400))
        }
        ("rds", "CreateDBInstance" | "CreateDBInstanceReadReplica" | "ModifyDBInstance") => {
            Some((Late, "InvalidParameterValue", 400))
        }
        ("ec2", "ModifyVpcPeeringConnectionOptions") => Some((Late, "OperationNotPermitted", 400)),
        ("logs", "CreateLogGroup") => Some((Late, "InvalidParameterException", 400)),
        ("lambda", "AddPermission") => Some((Exists, "ResourceConflictException", 409)),
        ("dynamodb", "CreateTable") => Some((Exists, "ResourceInUseException", 400)),
        _ => None,
    });
    if (service, operation) == ("lambda", "CreateFunction") {
        all.push((Exists, "ResourceConflictException", 409));
    }
    all
}

/// A message that such a refusal has: some mean by it what they mean.
fn message(class: Class, service: &str) -> &'static str {
    match (class, service) {
        (Denied, _) => "not authorized to perform: this",
        (Expired, _) => "The security token included in the request is expired",
        (Busy, "rds") => "it is not currently in the available state",
        (Busy, _) => "it is being changed",
        (Late, "iam") => "Invalid principal in policy",
        (Late, "kms") => "The new key policy contains one or more invalid principals.",
        (Late, "lambda") => "The role defined for the function cannot be assumed by Lambda.",
        (Late, "rds") => "IAM role ARN value is invalid, or ENHANCED_MONITORING is not known yet",
        (Late, "ec2") => "The peering connection is not active",
        (Late, _) => "The specified KMS key does not exist or is not allowed",
        (Missing, _) => "there is no such thing",
        (Exists, _) => "it already exists",
        (Failing, _) => "try again",
        (Invalid | Quota | State, _) => "not like this",
    }
}

/// How an operation may be refused: of each class, with one of its codes.
fn refusals(service: &str, operation: &str, draw: &mut fastrand::Rng) -> Vec<(Class, Effect)> {
    let none = Codes::new();
    let declared = DECLARED.get(service).and_then(|all| all.get(operation)).unwrap_or(&none);
    let mut all: BTreeMap<Class, Vec<(&str, u16)>> = BTreeMap::new();
    for (code, status) in declared {
        if let Some(class) = class_of(code, *status) {
            all.entry(class).or_default().push((code, *status));
        }
    }
    for (class, code, status) in common(service, operation) {
        all.entry(class).or_default().push((code, status));
    }
    let one = |(class, codes): (Class, Vec<(&str, u16)>)| {
        let (code, status) = codes[draw.usize(..codes.len())];
        let message = message(class, service).into();
        (class, Effect::Fail { code: code.into(), message, status })
    };
    all.into_iter().map(one).collect()
}

/// What may become of a call of an operation. Rights that are missing are missing for good, and a service that fails does so
/// once or goes on; of the other refusals each is drawn to be one or the other.
pub fn fates(service: &str, operation: &str, draw: &mut fastrand::Rng) -> Vec<Fate> {
    let mut all = Vec::new();
    for (class, effect) in refusals(service, operation, draw) {
        let lasting: &[bool] = match class {
            Denied => &[true],
            Failing => &[false, true],
            // A lie that lasts about what is there, or is not, is one that nobody could find out.
            Missing | Exists | State => &[false],
            _ if draw.bool() => &[true],
            _ => &[false],
        };
        let of = |lasts: &bool| Fate { effect: effect.clone(), lasts: *lasts, class: Some(class) };
        all.extend(lasting.iter().map(of));
    }
    let once = [Effect::Throttle, Effect::Hang, Effect::DropBefore, Effect::DropAfter];
    let lasting = [Effect::Throttle, Effect::Hang, Effect::DropBefore];
    let of = |lasts| move |effect| Fate { effect, lasts, class: None };
    all.extend(once.into_iter().map(of(false)));
    all.extend(lasting.into_iter().map(of(true)));
    all
}

/// A class that no code leads to any more would be tried by nobody.
#[test]
fn every_class_of_error_is_drawn_of_some_operation() {
    let mut draw = fastrand::Rng::with_seed(1);
    let mut seen: BTreeMap<Class, usize> = BTreeMap::new();
    for (service, operations) in DECLARED.iter() {
        for operation in operations.keys() {
            for (class, _) in refusals(service, operation, &mut draw) {
                *seen.entry(class).or_default() += 1;
            }
        }
    }
    assert_eq!(seen.len(), 10, "{seen:?}");
    assert!(seen.values().all(|count| *count >= 5), "{seen:?}");
}
