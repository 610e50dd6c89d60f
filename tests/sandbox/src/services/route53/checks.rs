//! Health checks on the metric of an alarm. They judge the stream of data with the settings that they
//! copied from the alarm, never its state (aws-facts 0.9, 4).

use serde_json::{Value, json};

use super::invalid;
use crate::{
    clock::Time,
    durations::HEALTH_CHECK_LAG,
    request::{Failure, Reply, Request, integer, truth},
    services::cloudwatch,
    world::{GLOBAL, World, shown},
};

pub(crate) const CHECK: &str = "health-check";
/// How many periods back the last known data may lie.
const MEMORY: u64 = 24 * 60;

pub(super) fn missing(id: &str) -> Failure {
    let message = format!("A health check with id {id} does not exist.");
    Failure { status: 404, ..Failure::new("NoSuchHealthCheck", message) }
}

fn alarm_of(world: &World, identifier: &Value) -> Result<Value, Failure> {
    let text = |member: &str| identifier[member].as_str().unwrap_or_default();
    cloudwatch::copied(world, text("Region"), text("Name"))
}

fn view(check: &Value) -> Value {
    let mut view = shown(check);
    let dimensions = &check["CloudWatchAlarmConfiguration"]["Dimensions"];
    view["CloudWatchAlarmConfiguration"]["Dimensions"] = json!({"Dimension": dimensions});
    view
}

pub(super) fn create(world: &mut World, request: &Request) -> Reply {
    let reference = request.required("CallerReference")?.to_owned();
    if reference.len() > 64 {
        return Err(invalid("the caller reference has more than 64 characters"));
    }
    let mut config = request.get("HealthCheckConfig").clone();
    if config["Type"] != "CLOUDWATCH_METRIC" {
        return Err(invalid("the sandbox checks metrics only"));
    }
    let known = ["Type", "AlarmIdentifier", "InsufficientDataHealthStatus", "Inverted", "Disabled"];
    if config.as_object().into_iter().flatten().any(|(name, _)| !known.contains(&name.as_str())) {
        return Err(invalid("a parameter does not go with health checks of this type"));
    }
    // A reference that was ever used is used for good, unless it asks for the same once more.
    if let Some(used) = world.get(GLOBAL, "caller-reference", &reference).cloned() {
        let same = used["id"].as_str().and_then(|id| world.get(GLOBAL, CHECK, id));
        if used["config"] == config
            && let Some(check) = same
        {
            return Ok(
                json!({"HealthCheck": view(check), "_location": "https://route53.amazonaws.com/"}),
            );
        }
        let message = "A health check with the same caller reference already exists.";
        return Err(Failure { status: 409, ..Failure::new("HealthCheckAlreadyExists", message) });
    }
    let given = config.clone();
    let copied = alarm_of(world, &config["AlarmIdentifier"])?;
    for member in ["Inverted", "Disabled"] {
        config[member] = truth(&config[member]).unwrap_or(false).into();
    }
    let id = world.uuid();
    let record = json!({
        "Id": id, "CallerReference": reference, "HealthCheckConfig": config, "HealthCheckVersion": 1,
        "CloudWatchAlarmConfiguration": copied, "_tags": {}, "_since": world.now.0,
        "_arn": format!("arn:aws:route53:::healthcheck/{id}"),
    });
    world.put(GLOBAL, CHECK, &id, record.clone());
    let used = json!({"id": id, "config": given, "_account": true});
    world.put(GLOBAL, "caller-reference", &reference, used);
    Ok(json!({
        "HealthCheck": view(&record),
        "_location": format!("https://route53.amazonaws.com/2013-04-01/healthcheck/{id}"),
    }))
}

pub(super) fn get(world: &mut World, request: &Request) -> Reply {
    let id = request.required("HealthCheckId")?;
    let check = world.get(GLOBAL, CHECK, id).ok_or_else(|| missing(id))?;
    Ok(json!({"HealthCheck": view(check)}))
}

pub(super) fn update(world: &mut World, request: &Request) -> Reply {
    let id = request.required("HealthCheckId")?.to_owned();
    let mut check = world.get(GLOBAL, CHECK, &id).ok_or_else(|| missing(&id))?.clone();
    let version = integer(&check["HealthCheckVersion"]).unwrap_or(1);
    if request.number("HealthCheckVersion").is_some_and(|given| given != version) {
        let message = "The health check version does not match.";
        return Err(Failure { status: 409, ..Failure::new("HealthCheckVersionMismatch", message) });
    }
    if request.has("AlarmIdentifier") {
        let identifier = request.get("AlarmIdentifier").clone();
        check["CloudWatchAlarmConfiguration"] = alarm_of(world, &identifier)?;
        check["HealthCheckConfig"]["AlarmIdentifier"] = identifier;
    }
    for member in ["Inverted", "Disabled"] {
        if let Some(flag) = request.flag(member) {
            check["HealthCheckConfig"][member] = flag.into();
        }
    }
    if request.has("InsufficientDataHealthStatus") {
        check["HealthCheckConfig"]["InsufficientDataHealthStatus"] =
            request.get("InsufficientDataHealthStatus").clone();
    }
    check["HealthCheckVersion"] = (version + 1).into();
    world.put(GLOBAL, CHECK, &id, check.clone());
    Ok(json!({"HealthCheck": view(&check)}))
}

/// Records that refer to it are not looked at (aws-facts 1.5).
pub(super) fn delete(world: &mut World, request: &Request) -> Reply {
    let id = request.required("HealthCheckId")?;
    world.remove(GLOBAL, CHECK, id).map(|_| json!({})).ok_or_else(|| missing(id))
}

pub(super) fn list(world: &mut World, request: &Request) -> Reply {
    let most = request.number("maxitems").and_then(|one| usize::try_from(one).ok()).unwrap_or(100);
    let marker = request.text("marker").unwrap_or_default();
    let mut all: Vec<_> = world.table(GLOBAL, CHECK).range(marker.to_owned()..).collect();
    let next = all.get(most).map(|(id, _)| (*id).clone());
    all.truncate(most);
    let checks: Vec<_> = all.into_iter().map(|(_, one)| view(one)).collect();
    Ok(json!({
        "HealthChecks": {"HealthCheck": checks}, "IsTruncated": next.is_some(), "NextMarker": next,
        "Marker": marker, "MaxItems": most.to_string(),
    }))
}

/// Whether a health check is healthy by now. Until there are data it is, and an inverted one is not.
pub(super) fn is_healthy(world: &World, id: &str) -> bool {
    // A check that is gone is healthy.
    let Some(check) = world.get(GLOBAL, CHECK, id) else { return true };
    let config = &check["HealthCheckConfig"];
    if config["Disabled"] == true {
        return true;
    }
    let alarm = &check["CloudWatchAlarmConfiguration"];
    let region = config["AlarmIdentifier"]["Region"].as_str().unwrap_or_default();
    let end = Time(world.now.0.saturating_sub(HEALTH_CHECK_LAG * 1000));
    let count = usize::try_from(alarm["EvaluationPeriods"].as_u64().unwrap_or(1)).unwrap_or(1);
    let all = cloudwatch::recent(world, region, alarm, end, MEMORY);
    let known: Vec<f64> = all.flatten().take(count).collect();
    let breaching =
        known.len() == count && known.iter().all(|value| cloudwatch::breaches(alarm, *value));
    breaching == (config["Inverted"] == true)
}
