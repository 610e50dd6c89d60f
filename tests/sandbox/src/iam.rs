//! Who may do what: policies are evaluated on every call.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Map, Value};

use crate::{
    ACCOUNT,
    request::{Failure, texts},
    world::{GLOBAL, World},
};

/// Something that a principal needed and was allowed: an action on a resource, with the context of the call.
#[derive(Clone, Debug)]
pub struct Access {
    who: Principal,
    need: Need,
}

impl Access {
    /// `arn:aws:iam::…:user/…` or `arn:aws:sts::…:assumed-role/…`.
    pub fn principal(&self) -> &str {
        &self.who.arn
    }

    /// As policies spell it, such as `rds:CreateDBInstance`.
    pub fn action(&self) -> &str {
        &self.need.action
    }

    /// An ARN, or `*`.
    pub fn resource(&self) -> &str {
        &self.need.resource
    }

    /// The same, wanted by another role.
    #[must_use]
    pub fn by_role(&self, name: &str) -> Self {
        let arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{name}/another");
        let who = Principal { arn, kind: "role", name: name.to_owned(), ..Principal::default() };
        Self { who, need: self.need.clone() }
    }
}

/// What was needed and allowed since the record began, each once; shared by every copy of the world.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccessRecord(Option<Arc<Mutex<BTreeMap<String, Access>>>>);

impl AccessRecord {
    fn keep(&self, who: &Principal, need: &Need) {
        let Some(record) = &self.0 else { return };
        let key = format!("{} {} {} {:?}", who.arn, need.action, need.resource, need.context);
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        record.entry(key).or_insert_with(|| Access { who: who.clone(), need: need.clone() });
    }
}

impl World {
    /// Begins to keep what principals need and are allowed, from nothing.
    pub fn record_access(&mut self) {
        self.access = AccessRecord(Some(Arc::default()));
    }

    /// What was needed and allowed since then, each once.
    pub fn accesses(&self) -> Vec<Access> {
        let Some(record) = &self.access.0 else { return Vec::new() };
        let record = record.lock().unwrap_or_else(PoisonError::into_inner);
        record.values().cloned().collect()
    }

    /// Whether that would be allowed now, by the policies that now hold.
    pub fn would_allow(&self, access: &Access) -> bool {
        judged(self, &access.who, &access.need) == Verdict::Allowed
    }
}

/// Who calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Principal {
    /// `arn:aws:iam::…:user/…` or `arn:aws:sts::…:assumed-role/…`.
    pub(crate) arn: String,
    /// The record in IAM: `user` or `role`, and its name.
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    /// The unique id that STS tells.
    pub(crate) id: String,
    /// A policy that narrows an assumed role's session.
    pub(crate) session_policy: Option<Value>,
    /// The session's own tags.
    pub(crate) tags: BTreeMap<String, String>,
    /// Those of them that a session which follows this one inherits.
    pub(crate) transitive: Vec<String>,
    /// Who began the chain of sessions, where that was said.
    pub(crate) source_identity: Option<String>,
}

impl Principal {
    /// How resource policies name it.
    fn iam_arn(&self) -> String {
        format!("arn:aws:iam::{ACCOUNT}:{}/{}", self.kind, self.name)
    }
}

/// What a call needs to be allowed: one action on one resource.
#[derive(Clone, Debug)]
pub(crate) struct Need {
    pub(crate) action: String,
    pub(crate) resource: String,
    pub(crate) context: Vec<(String, Vec<String>)>,
}

impl Need {
    pub(crate) fn new(action: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { action: action.into(), resource: resource.into(), context: Vec::new() }
    }

    #[must_use]
    pub(crate) fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.context.push((key.to_owned(), vec![value.into()]));
        self
    }

    /// The tags of the resource that is acted on.
    #[must_use]
    pub(crate) fn on(self, record: Option<&Value>) -> Self {
        self.tagged(record.map(crate::world::tags).unwrap_or_default())
    }

    /// The same of a key: its tags count for conditions a while after they were set.
    #[must_use]
    pub(crate) fn on_key(self, world: &World, key: Option<&Value>) -> Self {
        let Some(key) = key else { return self };
        let is_late = key["_tags_count"].as_u64().is_some_and(|from| world.now.0 < from);
        let before = key["_tags_before"].as_object().cloned().unwrap_or_default();
        self.tagged(if is_late { before } else { crate::world::tags(key) })
    }

    fn tagged(mut self, all: Map<String, Value>) -> Self {
        for (key, value) in all {
            let value = value.as_str().unwrap_or_default().to_owned();
            self.context.push((format!("aws:ResourceTag/{key}"), vec![value]));
        }
        self
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Denied,
    Silent,
    Allowed,
}

/// Whether `text` fits a pattern with `*` and `?`.
pub(crate) fn like(pattern: &str, text: &str) -> bool {
    fn fits(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                fits(rest, text) || text.split_first().is_some_and(|(_, tail)| fits(pattern, tail))
            }
            (Some((b'?', rest)), Some((_, tail))) => fits(rest, tail),
            (Some((one, rest)), Some((other, tail))) => one == other && fits(rest, tail),
            _ => false,
        }
    }
    fits(pattern.as_bytes(), text.as_bytes())
}

/// One text or a list of them.
fn several(value: &Value) -> Vec<String> {
    value.as_str().map_or_else(|| texts(value), |one| vec![one.to_owned()])
}

fn action_fits(patterns: &Value, action: &str) -> bool {
    let action = action.to_lowercase();
    several(patterns).iter().any(|pattern| like(&pattern.to_lowercase(), &action))
}

fn condition_holds(operator: &str, key: &str, wanted: &[String], need: &Need) -> Option<bool> {
    let (operator, if_exists) =
        operator.strip_suffix("IfExists").map_or((operator, false), |bare| (bare, true));
    let (operator, quantifier) = match operator.split_once(':') {
        Some((quantifier, operator)) => (operator, quantifier),
        None => (operator, ""),
    };
    let found = need.context.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
    if operator == "Null" {
        return Some((wanted == ["true"]) == found.is_none());
    }
    let Some((_, values)) = found else {
        let negated = operator.contains("Not");
        return Some(if_exists || negated || quantifier == "ForAllValues");
    };
    let one = |value: &String| -> Option<bool> {
        Some(match operator {
            "StringEquals" => wanted.contains(value),
            "StringNotEquals" => !wanted.contains(value),
            "StringLike" | "ArnLike" | "ArnEquals" => wanted.iter().any(|text| like(text, value)),
            "StringNotLike" | "ArnNotLike" => !wanted.iter().any(|text| like(text, value)),
            "Bool" => wanted.iter().any(|text| text.eq_ignore_ascii_case(value)),
            _ => return None,
        })
    };
    let verdicts: Option<Vec<bool>> = values.iter().map(one).collect();
    let verdicts = verdicts?;
    Some(if quantifier == "ForAllValues" || operator.contains("Not") {
        verdicts.iter().all(|held| *held)
    } else {
        verdicts.iter().any(|held| *held)
    })
}

fn conditions_hold(statement: &Value, need: &Need) -> bool {
    let Some(operators) = statement["Condition"].as_object() else { return true };
    operators.iter().all(|(operator, keys)| {
        keys.as_object().into_iter().flatten().all(|(key, wanted)| {
            condition_holds(operator, key, &several(wanted), need).unwrap_or(false)
        })
    })
}

pub(crate) fn statements(policy: &Value) -> Vec<&Value> {
    match &policy["Statement"] {
        Value::Array(items) => items.iter().collect(),
        Value::Object(_) => vec![&policy["Statement"]],
        _ => Vec::new(),
    }
}

fn judge(policy: &Value, need: &Need, concerns: &dyn Fn(&Value) -> bool) -> Verdict {
    let mut verdict = Verdict::Silent;
    for statement in statements(policy) {
        let action = if statement["NotAction"].is_null() {
            action_fits(&statement["Action"], &need.action)
        } else {
            !action_fits(&statement["NotAction"], &need.action)
        };
        let resources = |patterns: &Value| {
            several(patterns).iter().any(|pattern| like(pattern, &need.resource))
        };
        let resource = if statement["NotResource"].is_null() {
            statement["Resource"].is_null() || resources(&statement["Resource"])
        } else {
            !resources(&statement["NotResource"])
        };
        if action && resource && concerns(statement) && conditions_hold(statement, need) {
            if statement["Effect"] == "Deny" {
                return Verdict::Denied;
            }
            verdict = Verdict::Allowed;
        }
    }
    verdict
}

/// What the principal's own policies say.
fn identity(world: &World, who: &Principal, need: &Need) -> Verdict {
    let Some(record) = world.get(GLOBAL, who.kind, &who.name) else { return Verdict::Silent };
    let inline = record["_policies"].as_object().into_iter().flatten().map(|(_, policy)| policy);
    let managed = several(&record["_attached"]);
    let managed = managed.iter().filter_map(|arn| world.get(GLOBAL, "policy", arn));
    let all = inline.chain(managed.map(|record| &record["_document"]));
    let mut verdict = Verdict::Silent;
    for policy in all {
        match judge(policy, need, &|_| true) {
            Verdict::Denied => return Verdict::Denied,
            Verdict::Allowed => verdict = Verdict::Allowed,
            Verdict::Silent => {}
        }
    }
    match &who.session_policy {
        Some(policy) if verdict == Verdict::Allowed => match judge(policy, need, &|_| true) {
            Verdict::Allowed => Verdict::Allowed,
            _ => Verdict::Silent,
        },
        _ => verdict,
    }
}

/// Whether a statement's principal is one of these texts.
fn names(statement: &Value, kind: &str, any_of: &[String]) -> bool {
    let principal = &statement["Principal"];
    principal == "*"
        || several(&principal[kind]).iter().any(|one| one == "*" || any_of.contains(one))
}

/// What a key's policy says: to the principal itself, or to its account, which then asks IAM.
fn key_policy(policy: &Value, who: &Principal, need: &Need, identity: Verdict) -> Verdict {
    let direct = [who.arn.clone(), who.iam_arn()];
    let account = [format!("arn:aws:iam::{ACCOUNT}:root"), ACCOUNT.to_owned()];
    let to_self = judge(policy, need, &|statement| names(statement, "AWS", &direct));
    let to_account = judge(policy, need, &|statement| names(statement, "AWS", &account));
    match (to_self, to_account, identity) {
        (Verdict::Denied, ..) | (_, Verdict::Denied, _) | (_, _, Verdict::Denied) => {
            Verdict::Denied
        }
        (Verdict::Allowed, ..) | (_, Verdict::Allowed, Verdict::Allowed) => Verdict::Allowed,
        _ => Verdict::Silent,
    }
}

/// Whether a principal may do something, policies of the resource included.
pub(crate) fn allowed(world: &World, who: &Principal, need: &Need) -> bool {
    let is_allowed = judged(world, who, need) == Verdict::Allowed;
    if is_allowed {
        world.access.keep(who, need);
    }
    is_allowed
}

fn judged(world: &World, who: &Principal, need: &Need) -> Verdict {
    let own = identity(world, who, need);
    let policy = (need.action.starts_with("kms:"))
        .then(|| key_of(world, &need.resource))
        .flatten()
        .map(|key| &key["_policy"]);
    match policy {
        Some(policy) => key_policy(policy, who, need, own),
        None => own,
    }
}

/// Whether the key policy would let `who` do `action`: for policies that are not in force yet.
pub(crate) fn policy_allows(
    world: &World,
    policy: &Value,
    who: &Principal,
    action: &str,
    resource: &str,
) -> bool {
    let need = Need::new(action, resource).on_key(world, key_of(world, resource));
    key_policy(policy, who, &need, identity(world, who, &need)) == Verdict::Allowed
}

/// Whether a key lets an AWS service do something.
pub(crate) fn service_may(world: &World, key_arn: &str, service: &str, need: &Need) -> bool {
    key_of(world, key_arn).is_some_and(|key| lets_service(&key["_policy"], service, need))
}

/// The access key of a function that runs as a role.
pub(crate) fn role_key(role: &str) -> String {
    format!("{ROLE_KEY}{role}")
}

const ROLE_KEY: &str = "ASIAFUNCTION.";

/// Who runs as a role.
pub(crate) fn role_principal(role: &str) -> Principal {
    Principal {
        arn: format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/function"),
        kind: "role",
        name: role.to_owned(),
        id: format!("AROA{role}:function"),
        ..Principal::default()
    }
}

/// Whether it is a function's own session.
pub(crate) fn is_of_function(who: &Principal) -> bool {
    *who == role_principal(&who.name)
}

/// The function that has this access key, if it is one's.
pub(crate) fn function_principal(world: &World, access_key: &str) -> Option<Principal> {
    let role = access_key.strip_prefix(ROLE_KEY)?;
    world.get(GLOBAL, "role", role).map(|_| role_principal(role))
}

/// Whether a role's trust policy lets a principal do something with the role.
pub(crate) fn trusts(policy: &Value, who: &Principal, need: &Need) -> bool {
    let named = [
        who.arn.clone(),
        who.iam_arn(),
        format!("arn:aws:iam::{ACCOUNT}:root"),
        ACCOUNT.to_owned(),
    ];
    judge(policy, need, &|statement| names(statement, "AWS", &named)) == Verdict::Allowed
}

/// The same for whoever comes with a token of an identity provider.
pub(crate) fn trusts_federated(policy: &Value, provider: &str, need: &Need) -> bool {
    let named = [provider.to_owned()];
    judge(policy, need, &|statement| names(statement, "Federated", &named)) == Verdict::Allowed
}

/// Whether a resource's policy lets an AWS service do something.
pub(crate) fn lets_service(policy: &Value, service: &str, need: &Need) -> bool {
    let named = [service.to_owned()];
    judge(policy, need, &|statement| names(statement, "Service", &named)) == Verdict::Allowed
}

pub(crate) fn key_of<'a>(world: &'a World, arn: &str) -> Option<&'a Value> {
    let mut parts = arn.split(':').skip(3);
    let region = parts.next()?;
    let id = parts.nth(1)?.strip_prefix("key/")?;
    world.get(region, "kms-key", id)
}

/// AWS's way of saying no.
pub(crate) fn denial(service: &str, who: &Principal, need: &Need) -> Failure {
    let code = match service {
        "ec2" => "UnauthorizedOperation",
        "rds" | "iam" | "sts" | "route53" | "cloudwatch" => "AccessDenied",
        "sns" => "AuthorizationError",
        _ => "AccessDeniedException",
    };
    let message = if service == "ec2" {
        format!(
            "You are not authorized to perform this operation. User: {} is not authorized to perform: {} \
             on resource: {} because no identity-based policy allows the {} action",
            who.arn, need.action, need.resource, need.action
        )
    } else {
        format!(
            "User: {} is not authorized to perform: {} on resource: {} because no identity-based policy \
             allows the {} action",
            who.arn, need.action, need.resource, need.action
        )
    };
    Failure::new(code, message)
}

/// Principals of a policy that do not exist, or not everywhere yet.
pub(crate) fn unknown_principals(world: &World, policy: &Value) -> Vec<String> {
    let named = statements(policy).into_iter().flat_map(|one| several(&one["Principal"]["AWS"]));
    named
        .filter(|arn| {
            let Some(rest) = arn.strip_prefix(&format!("arn:aws:iam::{ACCOUNT}:")) else {
                return arn != "*" && arn != ACCOUNT;
            };
            let known = |kind: &'static str, name: &str| {
                let record = world.get(GLOBAL, kind, name);
                record.is_some_and(|record| {
                    record["_visible"].as_u64().is_none_or(|at| at <= world.now.0)
                })
            };
            match rest.split_once('/') {
                Some(("role", name)) => !known("role", name),
                Some(("user", name)) => !known("user", name),
                _ => rest != "root",
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Need, Verdict, judge, like};
    use serde_json::json;

    fn verdict(statement: &serde_json::Value, need: &Need) -> Verdict {
        judge(&json!({ "Statement": statement }), need, &|_| true)
    }

    #[test]
    fn patterns_match_as_in_aws() {
        assert!(like("arn:aws:rds:*:*:db:trading-*", "arn:aws:rds:us-east-1:1:db:trading-db"));
        assert!(like("kms:?reateKey", "kms:CreateKey"));
        assert!(!like("kms:Create", "kms:CreateKey"));
    }

    #[test]
    fn a_denial_beats_every_permission() {
        let need = Need::new("kms:CreateKey", "*").with("aws:RequestedRegion", "us-east-1");
        let allow = json!({"Effect": "Allow", "Action": "kms:*", "Resource": "*"});
        let deny = json!({"Effect": "Deny", "Action": "*", "Resource": "*",
            "Condition": {"StringEquals": {"aws:RequestedRegion": "us-east-1"}}});
        assert_eq!(verdict(&allow, &need), Verdict::Allowed);
        assert_eq!(verdict(&json!([allow, deny]), &need), Verdict::Denied);
    }

    #[test]
    fn a_condition_on_an_absent_key_holds_only_where_aws_says_so() {
        let need = Need::new("a:B", "*");
        let with = |operator: &str| {
            json!({"Effect": "Allow", "Action": "*", "Resource": "*",
                "Condition": {operator: {"aws:ResourceTag/x": "1"}}})
        };
        assert_eq!(verdict(&with("StringEquals"), &need), Verdict::Silent);
        assert_eq!(verdict(&with("StringEqualsIfExists"), &need), Verdict::Allowed);
        assert_eq!(verdict(&with("StringNotEquals"), &need), Verdict::Allowed);
        assert_eq!(
            verdict(&with("NoSuchOperator"), &need.with("aws:ResourceTag/x", "1")),
            Verdict::Silent
        );
    }
}
