//! A request as handlers see it, whatever protocol it came in.

use serde_json::Value;

use crate::{clock::Time, iam::Principal};

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        let status = match code {
            "InternalFailure" => 500,
            "ServiceUnavailable" => 503,
            "AccessDenied" | "UnauthorizedOperation" | "InvalidClientTokenId" => 403,
            "NoSuchEntity"
            | "DBInstanceNotFound"
            | "DBSubnetGroupNotFoundFault"
            | "DBParameterGroupNotFound"
            | "NoSuchHostedZone" => 404,
            "DeleteConflict" | "EntityAlreadyExists" => 409,
            _ => 400,
        };
        Self { status, code: code.to_owned(), message: message.into() }
    }
}

/// What a handler answers.
pub(crate) type Reply = Result<Value, Failure>;

/// A decoded, authenticated request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) region: String,
    pub(crate) principal: Principal,
    pub(crate) params: Value,
    pub(crate) now: Time,
    /// Whether calls of AWS itself skip authorisation.
    pub(crate) service: &'static str,
}

impl Request {
    pub(crate) fn get(&self, name: &str) -> &Value {
        &self.params[name]
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        !self.params[name].is_null()
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.params[name].as_str()
    }

    /// A parameter that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<&str, Failure> {
        let missing = || {
            Failure::new(
                if self.service == "rds" || self.service == "ec2" {
                    "MissingParameter"
                } else {
                    "ValidationError"
                },
                format!("The request must contain the parameter {name}"),
            )
        };
        self.text(name).filter(|text| !text.is_empty()).ok_or_else(missing)
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        truth(&self.params[name])
    }

    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        integer(&self.params[name])
    }

    /// The elements of a list of strings.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        texts(&self.params[name])
    }

    /// The elements of a list of structures.
    pub(crate) fn items(&self, name: &str) -> &[Value] {
        self.params[name].as_array().map_or(&[], Vec::as_slice)
    }

    pub(crate) fn arn(&self, service: &str, resource: &str) -> String {
        arn(service, &self.region, resource)
    }
}

pub(crate) fn arn(service: &str, region: &str, resource: &str) -> String {
    format!("arn:aws:{service}:{region}:{}:{resource}", crate::ACCOUNT)
}

/// Query protocols send booleans as text.
pub(crate) fn truth(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| match value.as_str()? {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    })
}

/// Query protocols send numbers as text.
pub(crate) fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

pub(crate) fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}
