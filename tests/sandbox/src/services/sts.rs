//! STS: who one is, and becoming a role.

use serde_json::{Value, json};

use super::{Operation, Service, op};
use crate::{
    ACCOUNT,
    iam::{Need, like, statements},
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
        "RoleArn RoleSessionName ExternalId Policy DurationSeconds",
        |_, request| vec![Need::new("", request.text("RoleArn").unwrap_or("*"))],
        assume_role,
    ),
];

fn get_caller_identity(_: &mut World, request: &Request) -> Reply {
    let who = &request.principal;
    Ok(json!({"Arn": who.arn, "UserId": who.id, "Account": ACCOUNT}))
}

/// Whether a role's trust policy lets somebody assume it.
fn trusts(policy: &Value, arn: &str, external_id: Option<&str>) -> bool {
    statements(policy).into_iter().any(|statement| {
        let named = &statement["Principal"]["AWS"];
        let all = named.as_str().map_or_else(|| texts(named), |one| vec![one.to_owned()]);
        let root = format!("arn:aws:iam::{ACCOUNT}:root");
        let fits = all.iter().any(|one| one == arn || *one == root || like(one, arn));
        let wanted = &statement["Condition"]["StringEquals"]["sts:ExternalId"];
        fits && statement["Effect"] == "Allow"
            && (wanted.is_null() || wanted.as_str() == external_id)
    })
}

fn assume_role(world: &mut World, request: &Request) -> Reply {
    let arn = request.required("RoleArn")?.to_owned();
    let session = request.required("RoleSessionName")?.to_owned();
    let name = arn.rsplit('/').next().unwrap_or_default().to_owned();
    let refused = || {
        let message = format!(
            "User: {} is not authorized to perform: sts:AssumeRole on resource: {arn}",
            request.principal.arn
        );
        Failure::new("AccessDenied", message)
    };
    let role = world.get(GLOBAL, "role", &name).ok_or_else(refused)?;
    if !trusts(&role["_trust"], &request.principal.arn, request.text("ExternalId")) {
        return Err(refused());
    }
    let id = format!("{}:{session}", role["RoleId"].as_str().unwrap_or_default());
    let policy: Value = request
        .text("Policy")
        .map_or(Ok(Value::Null), serde_json::from_str)
        .map_err(|_| Failure::new("MalformedPolicyDocument", "The policy is not valid JSON."))?;
    let key = format!("ASIA{}", world.digest()[..16].to_uppercase());
    let session_arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{session}");
    let expires = request.now.plus_seconds(
        u64::try_from(request.number("DurationSeconds").unwrap_or(3600)).unwrap_or(3600),
    );
    let record = json!({
        "_arn": session_arn, "_kind": "role", "_name": name, "_id": id,
        "_expires": expires.0, "_session_policy": policy,
    });
    world.put(GLOBAL, "access-key", &key, record);
    Ok(json!({
        "AssumedRoleUser": {"AssumedRoleId": id, "Arn": session_arn},
        "Credentials": {
            "AccessKeyId": key,
            "SecretAccessKey": "sandbox",
            "SessionToken": "sandbox",
            "Expiration": expires.to_string(),
        },
    }))
}
