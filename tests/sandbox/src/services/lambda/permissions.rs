//! Who else may invoke a function.

use serde_json::{Map, Value, json};

use super::{FUNCTION, conflict, found_mut, name};
use crate::{
    iam::{self, Need},
    request::{Failure, Reply, Request},
    world::World,
};

pub(super) fn statements(function: &Value) -> &[Value] {
    function["_policy"].as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn add_permission(world: &mut World, request: &Request) -> Reply {
    let id = request.required("StatementId")?.to_owned();
    let (action, principal) = (request.required("Action")?, request.required("Principal")?);
    let mut condition = Map::new();
    if let Some(source) = request.text("SourceArn") {
        condition.insert("ArnLike".into(), json!({"AWS:SourceArn": source}));
    }
    if let Some(account) = request.text("SourceAccount") {
        condition.insert("StringEquals".into(), json!({"AWS:SourceAccount": account}));
    }
    let statement = json!({
        "Sid": id, "Effect": "Allow", "Principal": {"Service": principal}, "Action": action,
        "Resource": request.arn("lambda", &format!("function:{}", name(request))), "Condition": condition,
    });
    let function = found_mut(world, request)?;
    if statements(function).iter().any(|one| one["Sid"] == id.as_str()) {
        return Err(conflict(format!(
            "The statement id ({id}) provided already exists. Please provide a new statement id, or remove the existing statement."
        )));
    }
    if let Some(all) = function["_policy"].as_array_mut() {
        all.push(statement.clone());
    }
    Ok(json!({"Statement": statement.to_string(), "_status": 201}))
}

pub(super) fn remove_permission(world: &mut World, request: &Request) -> Reply {
    let id = request.required("StatementId")?.to_owned();
    let function = found_mut(world, request)?;
    let before = statements(function).len();
    if let Some(all) = function["_policy"].as_array_mut() {
        all.retain(|one| one["Sid"] != id.as_str());
        if all.len() == before {
            let message = format!("Statement {id} is not found in resource policy.");
            return Err(Failure {
                status: 404,
                ..Failure::new("ResourceNotFoundException", message)
            });
        }
    }
    Ok(json!({"_status": 204}))
}

/// Whether a service may invoke a function on behalf of a source.
pub(crate) fn lets(world: &World, function: &str, service: &str, source: &str) -> bool {
    let mut parts = function.split(':').skip(3);
    let (region, name) = (parts.next().unwrap_or_default(), parts.nth(2).unwrap_or_default());
    let Some(record) = world.get(region, FUNCTION, name) else { return false };
    let need = Need::new("lambda:InvokeFunction", function)
        .with("AWS:SourceArn", source)
        .with("AWS:SourceAccount", crate::ACCOUNT);
    iam::lets_service(&json!({"Statement": record["_policy"]}), service, &need)
}
