//! Which operation a request is.

use serde_json::{Value, json};

use crate::{dispatch::Incoming, wire::query};

/// Paths name the operation.
pub(crate) fn decode(incoming: &Incoming) -> Option<(String, Value)> {
    let path = incoming.path.trim_start_matches('/').trim_end_matches('/');
    let (_, rest) = path.split_once('/')?;
    let parts: Vec<String> = rest.split('/').map(query::unescape).collect::<Option<_>>()?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let mut params = json!({});
    let is_invoke = parts.get(2) == Some(&"invocations");
    if is_invoke {
        params["Payload"] = serde_json::from_slice(&incoming.body).unwrap_or_default();
        params["InvocationType"] = incoming.invocation_type.clone().into();
    } else if !incoming.body.is_empty() {
        params = serde_json::from_slice(&incoming.body).ok()?;
    }
    let keys: Vec<String> = incoming
        .query
        .split('&')
        .filter_map(|pair| query::unescape(pair.strip_prefix("tagKeys=")?))
        .collect();
    if !keys.is_empty() {
        params["tagKeys"] = json!(keys);
    }
    let method = incoming.method.as_str();
    let (name, member) = match (method, &parts[..]) {
        ("GET", ["account-settings"]) => ("GetAccountSettings", None),
        ("POST", ["functions"]) => ("CreateFunction", None),
        ("GET", ["functions", name]) => ("GetFunction", Some(("FunctionName", *name))),
        ("DELETE", ["functions", name]) => ("DeleteFunction", Some(("FunctionName", *name))),
        ("PUT", ["functions", name, "code"]) => {
            ("UpdateFunctionCode", Some(("FunctionName", *name)))
        }
        ("PUT", ["functions", name, "concurrency"]) => {
            ("PutFunctionConcurrency", Some(("FunctionName", *name)))
        }
        ("DELETE", ["functions", name, "concurrency"]) => {
            ("DeleteFunctionConcurrency", Some(("FunctionName", *name)))
        }
        ("PUT", ["functions", name, "configuration"]) => {
            ("UpdateFunctionConfiguration", Some(("FunctionName", *name)))
        }
        ("PUT", ["functions", name, "event-invoke-config"]) => {
            ("PutFunctionEventInvokeConfig", Some(("FunctionName", *name)))
        }
        ("GET", ["functions", name, "event-invoke-config"]) => {
            ("GetFunctionEventInvokeConfig", Some(("FunctionName", *name)))
        }
        ("DELETE", ["functions", name, "event-invoke-config"]) => {
            ("DeleteFunctionEventInvokeConfig", Some(("FunctionName", *name)))
        }
        ("GET", ["functions", name, "code-signing-config"]) => {
            ("GetFunctionCodeSigningConfig", Some(("FunctionName", *name)))
        }
        ("GET", ["functions", name, "versions"]) => {
            ("ListVersionsByFunction", Some(("FunctionName", *name)))
        }
        ("POST", ["functions", name, "policy"]) => ("AddPermission", Some(("FunctionName", *name))),
        ("GET", ["functions", name, "policy"]) => ("GetPolicy", Some(("FunctionName", *name))),
        ("DELETE", ["functions", name, "policy", statement]) => {
            params["StatementId"] = (*statement).into();
            ("RemovePermission", Some(("FunctionName", *name)))
        }
        ("POST", ["functions", name, "invocations"]) => ("Invoke", Some(("FunctionName", *name))),
        ("GET", ["tags", arn]) => ("ListTags", Some(("Resource", *arn))),
        ("POST", ["tags", arn]) => ("TagResource", Some(("Resource", *arn))),
        ("DELETE", ["tags", arn]) => ("UntagResource", Some(("Resource", *arn))),
        _ => (rest, None),
    };
    if let Some((member, value)) = member {
        params[member] = value.into();
    }
    Some((name.to_owned(), params))
}
