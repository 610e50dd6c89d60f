//! STS: who one is, and becoming a role.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::{Operation, Service, iam::ISSUER, op, requested_tags};
use crate::{
    ACCOUNT, SESSION_SECRET,
    clock::Time,
    iam::{self, Need, Principal, statements},
    request::{Failure, Reply, Request, texts},
    wire::Protocol,
    world::{GLOBAL, World},
};

pub(crate) const SERVICE: Service = Service {
    name: "sts",
    protocol: Protocol::Query,
    namespace: "https://sts.amazonaws.com/doc/2011-06-15/",
    global: false,
    operations: OPERATIONS,
};

const OPERATIONS: &[Operation] = &[
    op("GetCallerIdentity", "", |_, _| Vec::new(), get_caller_identity),
    op(
        "AssumeRole",
        "RoleArn RoleSessionName ExternalId Policy PolicyArns DurationSeconds SourceIdentity Tags TransitiveTagKeys",
        |_, request| needs(request),
        assume_role,
    ),
    op(
        UNSIGNED,
        "RoleArn RoleSessionName WebIdentityToken Policy PolicyArns DurationSeconds",
        |_, _| Vec::new(),
        assume_role_with_web_identity,
    ),
];

/// The operation that nobody has credentials for yet.
pub(crate) const UNSIGNED: &str = "AssumeRoleWithWebIdentity";

fn get_caller_identity(_: &mut World, request: &Request) -> Reply {
    let who = &request.principal;
    Ok(json!({"Arn": who.arn, "UserId": who.id, "Account": ACCOUNT}))
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new("ValidationError", message)
}

/// What the caller has to be allowed, and the role's trust policy has to allow them; who tags the session is
/// asked for that with every operation that takes tags.
fn needs(request: &Request) -> Vec<Need> {
    let role = request.text("RoleArn").unwrap_or("*");
    let mut all = vec![with_context(Need::new("sts:AssumeRole", role), request)];
    if request.has("SourceIdentity") {
        all.push(with_context(Need::new("sts:SetSourceIdentity", role), request));
    }
    all
}

fn with_context(mut need: Need, request: &Request) -> Need {
    let keys = [
        ("sts:ExternalId", "ExternalId"),
        ("sts:RoleSessionName", "RoleSessionName"),
        ("sts:SourceIdentity", "SourceIdentity"),
    ];
    for (key, parameter) in keys {
        if let Some(text) = request.text(parameter) {
            need = need.with(key, text);
        }
    }
    let tags = requested_tags(request);
    if !tags.is_empty() {
        need.context.push(("aws:TagKeys".into(), tags.keys().cloned().collect()));
    }
    for (key, value) in tags {
        need = need.with(&format!("aws:RequestTag/{key}"), value.as_str().unwrap_or_default());
    }
    for (key, value) in &request.principal.tags {
        need = need.with(&format!("aws:PrincipalTag/{key}"), value);
    }
    if let Some(identity) = &request.principal.source_identity {
        need = need.with("aws:SourceIdentity", identity);
    }
    let transitive = request.texts("TransitiveTagKeys");
    if !transitive.is_empty() {
        need.context.push(("sts:TransitiveTagKeys".into(), transitive));
    }
    need
}

/// A text of so many characters out of letters, digits and `_+=,.@-`.
fn check_name(request: &Request, parameter: &str) -> Result<(), Failure> {
    let Some(text) = request.text(parameter) else { return Ok(()) };
    let fits = |one: char| one.is_ascii_alphanumeric() || "_+=,.@-".contains(one);
    if (2..=64).contains(&text.len()) && text.chars().all(fits) {
        return Ok(());
    }
    let member = format!("{}{}", parameter[..1].to_lowercase(), &parameter[1..]);
    Err(invalid(format!(
        "1 validation error detected: Value '{text}' at '{member}' failed to satisfy constraint: Member must \
         satisfy regular expression pattern: [\\w+=,.@-]*"
    )))
}

/// The role that is to be assumed, and its name.
fn role<'a>(world: &'a World, request: &Request) -> Result<(&'a Value, String), Failure> {
    let arn = request.required("RoleArn")?;
    if arn.len() < 20 || !arn.starts_with("arn:") {
        return Err(invalid(format!("{arn} is invalid")));
    }
    let name = arn.rsplit('/').next().unwrap_or_default().to_owned();
    let record = world.get(GLOBAL, "role", &name).filter(|role| role["Arn"] == arn);
    record.map(|role| (role, name)).ok_or_else(|| denied(request, "sts:AssumeRole"))
}

fn denied(request: &Request, action: &str) -> Failure {
    let role = request.text("RoleArn").unwrap_or_default();
    let message = format!(
        "User: {} is not authorized to perform: {action} on resource: {role}",
        request.principal.arn
    );
    Failure { status: 403, ..Failure::new("AccessDenied", message) }
}

/// How long the session lasts.
fn duration(role: &Value, request: &Request) -> Result<u64, Failure> {
    let seconds = request.number("DurationSeconds").unwrap_or(3600);
    let most = role["MaxSessionDuration"].as_i64().unwrap_or(3600);
    if !(900..=43_200).contains(&seconds) {
        return Err(invalid(format!(
            "1 validation error detected: Value '{seconds}' at 'durationSeconds' failed to satisfy constraint"
        )));
    }
    if request.principal.kind == "role" && seconds > 3600 {
        return Err(invalid(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
        ));
    }
    if seconds > most {
        return Err(invalid(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ));
    }
    Ok(seconds.unsigned_abs())
}

/// What a session may do at most: the union of the policies that it is given, or everything.
fn session_policy(world: &World, request: &Request) -> Result<Value, Failure> {
    let mut all = Vec::new();
    if let Some(text) = request.text("Policy") {
        let policy: Value = serde_json::from_str(text).map_err(|_| {
            Failure::new("MalformedPolicyDocument", "The policy is not valid JSON.")
        })?;
        all.extend(statements(&policy).into_iter().cloned());
    }
    let managed = request.items("PolicyArns");
    if managed.len() > 10 {
        return Err(invalid("at most 10 managed policies can be passed"));
    }
    for one in managed {
        let arn = one["arn"].as_str().unwrap_or_default();
        let record = world.get(GLOBAL, "policy", arn);
        let record = record.ok_or_else(|| invalid(format!("Policy {arn} does not exist")))?;
        all.extend(statements(&record["_document"]).into_iter().cloned());
    }
    let is_narrowed = request.has("Policy") || !managed.is_empty();
    Ok(if is_narrowed { json!({ "Statement": all }) } else { Value::Null })
}

/// The tags that a session is given, and those that it inherits from the session that it follows.
fn session_tags(request: &Request) -> Result<(Map<String, Value>, Vec<String>), Failure> {
    let who = &request.principal;
    let mut tags = requested_tags(request);
    if tags.len() > 50 {
        return Err(invalid("at most 50 session tags can be passed"));
    }
    let mut transitive = request.texts("TransitiveTagKeys");
    // Keys of session tags are the same in either case (IAM guide, "Pass session tags in AWS STS").
    let has =
        |tags: &Map<String, Value>, key: &str| tags.keys().any(|one| one.eq_ignore_ascii_case(key));
    if transitive.iter().any(|key| !has(&tags, key)) {
        return Err(Failure::new(
            "InvalidParameterValue",
            "The specified transitive tag key must be included in the requested tags.",
        ));
    }
    for key in &who.transitive {
        if has(&tags, key) {
            return Err(Failure::new(
                "InvalidParameterValue",
                "One of the specified session tags conflicts with an inherited transitive tag key.",
            ));
        }
        tags.insert(key.clone(), who.tags[key].clone().into());
        transitive.push(key.clone());
    }
    Ok((tags, transitive))
}

fn assume_role(world: &mut World, request: &Request) -> Reply {
    for name in ["RoleSessionName", "SourceIdentity"] {
        check_name(request, name)?;
    }
    request.required("RoleSessionName")?;
    let (role, _) = role(world, request)?;
    let mut asked = needs(request);
    if request.has("Tags") {
        let arn = request.text("RoleArn").unwrap_or_default();
        asked.push(with_context(Need::new("sts:TagSession", arn), request));
    }
    if let Some(need) =
        asked.iter().find(|need| !iam::trusts(&role["_trust"], &request.principal, need))
    {
        return Err(denied(request, &need.action));
    }
    // Whoever set it first is remembered along the whole chain.
    let given = request.text("SourceIdentity");
    let inherited = request.principal.source_identity.as_deref();
    if inherited.is_some() && given.is_some() && inherited != given {
        return Err(denied(request, "sts:SetSourceIdentity"));
    }
    let (tags, transitive) = session_tags(request)?;
    let more = json!({
        "_tags": tags, "_transitive": transitive, "_source_identity": given.or(inherited),
    });
    session(world, request, more)
}

/// Opens the session.
fn session(world: &mut World, request: &Request, more: Value) -> Reply {
    let (role, name) = role(world, request)?;
    let expires = request.now.plus_seconds(duration(role, request)?);
    let policy = session_policy(world, request)?;
    let session = request.required("RoleSessionName")?;
    let id = format!("{}:{session}", role["RoleId"].as_str().unwrap_or_default());
    let key = format!("ASIA{}", world.digest()[..16].to_uppercase());
    let session_arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{session}");
    let mut record = json!({
        "_arn": session_arn, "_kind": "role", "_name": name, "_id": id,
        "_expires": expires.0, "_session_policy": policy, "_token": format!("session of {key}"),
    });
    let source_identity = more["_source_identity"].clone();
    if let (Some(record), Value::Object(more)) = (record.as_object_mut(), more) {
        record.extend(more);
    }
    world.put(GLOBAL, "access-key", &key, record);
    let mut answer = json!({
        "AssumedRoleUser": {"AssumedRoleId": id, "Arn": session_arn},
        "Credentials": {
            "AccessKeyId": key,
            "SecretAccessKey": SESSION_SECRET,
            "SessionToken": format!("session of {key}"),
            "Expiration": expires.to_string(),
        },
    });
    if !source_identity.is_null() {
        answer["SourceIdentity"] = source_identity;
    }
    Ok(answer)
}

/// What a token says. Nobody checks its signature here: no issuer's keys are at hand.
fn claims(token: &str) -> Option<Value> {
    let parts: Vec<_> = token.split('.').collect();
    let [_, payload, _] = parts[..] else { return None };
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

fn assume_role_with_web_identity(world: &mut World, request: &Request) -> Reply {
    let refused = |message: String| Failure::new("InvalidIdentityToken", message);
    check_name(request, "RoleSessionName")?;
    let token = claims(request.required("WebIdentityToken")?).ok_or_else(|| {
        refused("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)".into())
    })?;
    let issuer = token["iss"].as_str().unwrap_or_default().to_owned();
    let provider = issuer.trim_start_matches("https://").to_owned();
    let known = world.get(GLOBAL, ISSUER, &provider).ok_or_else(|| {
        refused(format!("No OpenIDConnect provider found in your account for {issuer}"))
    })?;
    let audience = token["aud"].as_str().unwrap_or_default().to_owned();
    if !texts(&known["ClientIDList"]).contains(&audience) {
        return Err(refused("Incorrect token audience".into()));
    }
    let expires = Time(token["exp"].as_u64().unwrap_or_default() * 1000);
    if expires <= request.now {
        let message = format!(
            "Token expired: current date/time {} must be before the expiration date/time {expires}",
            request.now
        );
        return Err(Failure::new("ExpiredTokenException", message));
    }
    let arn = request.required("RoleArn")?;
    let subject = token["sub"].as_str().unwrap_or_default().to_owned();
    let need = Need::new("sts:AssumeRoleWithWebIdentity", arn)
        .with(&format!("{provider}:aud"), &audience)
        .with(&format!("{provider}:sub"), &subject);
    let federated = format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{provider}");
    let trusts = |role: &Value| iam::trusts_federated(&role["_trust"], &federated, &need);
    if !role(world, request).is_ok_and(|(role, _)| trusts(role)) {
        let message = "Not authorized to perform sts:AssumeRoleWithWebIdentity";
        return Err(Failure { status: 403, ..Failure::new("AccessDenied", message) });
    }
    let mut answer = session(world, request, json!({}))?;
    answer["SubjectFromWebIdentityToken"] = subject.into();
    answer["Audience"] = audience.into();
    answer["Provider"] = federated.into();
    Ok(answer)
}

/// Who calls without credentials.
pub(crate) fn nobody() -> Principal {
    Principal { arn: "anonymous".into(), kind: "user", ..Principal::default() }
}
