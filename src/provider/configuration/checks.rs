//! Checks of the provider's own arguments, one by one. Each has a value that is known and not null.

use crate::{
    cluster::spec::is_reserved_tag,
    plugin::{Diagnostics, Path, Value},
    provider::checks::{each, one_of, within, wrong},
};

/// A role's name in its ARN: `arn:aws:iam::123456789012:role/ci/deployer`.
pub(super) fn role_arn(value: &Value, path: &Path, found: &mut Diagnostics) {
    let parts: Vec<_> = value.as_str().unwrap_or_default().splitn(6, ':').collect();
    let is_account = |text: &str| text.len() == 12 && text.bytes().all(|one| one.is_ascii_digit());
    let fits = matches!(parts[..], ["arn", _, "iam", "", account, role]
        if is_account(account) && role.strip_prefix("role/").is_some_and(|name| !name.is_empty()));
    if !fits {
        let why = "a role's ARN is written as arn:aws:iam::123456789012:role/deployer is";
        wrong(value, path, found, why);
    }
}

/// Of a session, or of who is behind it.
pub(super) fn session_name(value: &Value, path: &Path, found: &mut Diagnostics) {
    let text = value.as_str().unwrap_or_default();
    let fits = |one: char| one.is_ascii_alphanumeric() || "_+=,.@-".contains(one);
    if !(2..=64).contains(&text.len()) || !text.chars().all(fits) {
        wrong(value, path, found, "it has 2 to 64 letters, digits and characters of _+=,.@-");
    }
}

pub(super) fn external_id(value: &Value, path: &Path, found: &mut Diagnostics) {
    let text = value.as_str().unwrap_or_default();
    let fits = |one: char| one.is_ascii_alphanumeric() || "_+=,.@:/-".contains(one);
    if !(2..=1224).contains(&text.len()) || !text.chars().all(fits) {
        wrong(value, path, found, "it has 2 to 1224 letters, digits and characters of _+=,.@:/-");
    }
}

pub(super) fn policy(value: &Value, path: &Path, found: &mut Diagnostics) {
    let text = value.as_str().unwrap_or_default();
    let parsed = serde_json::from_str::<serde_json::Value>(text);
    if !parsed.is_ok_and(|policy| policy["Statement"].is_array() || policy["Statement"].is_object())
    {
        wrong(value, path, found, "a policy is a JSON object with a Statement");
    }
}

pub(super) fn policy_arns(value: &Value, path: &Path, found: &mut Diagnostics) {
    let fits = |text: &str| text.starts_with("arn:") && text.contains(":policy/");
    let why = "a policy's ARN is written as arn:aws:iam::aws:policy/ReadOnlyAccess is";
    each(value, path, found, fits, why);
    if value.items().len() > 10 {
        found.error_at(path.clone(), "More than 10 managed policies", "AWS takes at most 10.");
    }
}

pub(super) fn session_tags(value: &Value, path: &Path, found: &mut Diagnostics) {
    if value.entries().count() > 50 {
        found.error_at(path.clone(), "More than 50 session tags", "AWS takes at most 50.");
    }
    for (key, tag) in value.entries().filter_map(|(key, tag)| Some((key, tag.as_str()?))) {
        if !(1..=128).contains(&key.chars().count()) || tag.chars().count() > 256 {
            let why = "A key has 1 to 128 characters, a value 256 at most.";
            found.error_at(path.key(key), format!("The session tag {key} is too long"), why);
        }
    }
}

pub(super) fn default_tags(value: &Value, path: &Path, found: &mut Diagnostics) {
    for (key, _) in value.entries().filter(|(key, _)| is_reserved_tag(key)) {
        let why = "Tags that begin with aws: or trading-dr:, and Name, cannot be chosen.";
        let summary = format!("The tag {key} is set by AWS or this provider");
        found.error_at(path.key(key), summary, why);
    }
}

pub(super) fn retries(value: &Value, path: &Path, found: &mut Diagnostics) {
    within(value, path, found, 0..=1000);
}

pub(super) fn retry_mode(value: &Value, path: &Path, found: &mut Diagnostics) {
    one_of(value, path, found, &["standard", "adaptive"]);
}

pub(super) fn endpoints(value: &Value, path: &Path, found: &mut Diagnostics) {
    for (key, endpoint) in value.entries() {
        let (service, region) =
            key.split_once('.').map_or((key, None), |(one, two)| (one, Some(two)));
        if let Some(region) = region {
            crate::provider::checks::region(&Value::string(region), &path.key(key), found);
        }
        if service == "*" {
            let why = "AWS_ENDPOINT_URL names one endpoint for every service.";
            found.error_at(path.key(key), "An endpoint belongs to a service", why);
        }
        let Some(text) = endpoint.as_str() else { continue };
        if text.contains('@') {
            // Without what may be a password.
            let why = "An endpoint's URL holds neither a user nor a password.";
            found.error_at(path.key(key), format!("{} cannot be used", path.key(key)), why);
            continue;
        }
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let host = host.map(|rest| rest.split('/').next().unwrap_or_default());
        let is_url = host.is_some_and(|host| !host.is_empty());
        if !is_url || text.chars().any(char::is_whitespace) {
            let why =
                "an endpoint is a URL, as https://vpce-1234.rds.us-west-2.vpce.amazonaws.com is";
            wrong(endpoint, &path.key(key), found, why);
        }
    }
}
