//! Alarms: what they are set to, how they are evaluated, what they do when their state changes.

use serde_json::{Value, json};

use super::{
    decimal,
    metrics::{key, statistic, values},
};
use crate::{
    clock::Time,
    iam::Need,
    request::{Failure, Reply, Request, texts},
    services::{page, rds, sns},
    world::{World, shown, tag_map},
};

pub(crate) const ALARM: &str = "alarm";

/// How many periods beyond the evaluated ones are looked at for values that came (CloudWatch guide, "How
/// alarm state is evaluated when data is missing").
const EXTRA_PERIODS: u64 = 2;

fn refused(message: impl Into<String>) -> Failure {
    Failure::new("ValidationError", message)
}

/// What CloudWatch checks before it takes an alarm.
fn check(request: &Request) -> Result<(), Failure> {
    let name = request.required("AlarmName")?;
    if name.len() > 255 || request.text("AlarmDescription").is_some_and(|text| text.len() > 1024) {
        return Err(refused("the name or the description of the alarm is too long"));
    }
    let period = request.number("Period").unwrap_or(0);
    if ![10, 20, 30].contains(&period) && (period < 60 || period % 60 != 0) {
        return Err(refused("Period must be 10, 20, 30 or a multiple of 60"));
    }
    let count = request.number("EvaluationPeriods").unwrap_or(0);
    let limit = if period >= 3600 { 604_800 } else { 86_400 };
    if count < 1 || count * period > limit {
        return Err(refused(
            "Metrics cannot be checked across more than a day (EvaluationPeriods * Period must be <= 86400)",
        ));
    }
    if request.number("DatapointsToAlarm").is_some_and(|some| !(1..=count).contains(&some)) {
        return Err(refused("DatapointsToAlarm must be between 1 and EvaluationPeriods"));
    }
    let one_of = |member: &str, allowed: &[&str]| {
        let text = request.text(member);
        let fits = text.is_none_or(|text| allowed.contains(&text));
        if fits { Ok(()) } else { Err(refused(format!("{member} must be one of {allowed:?}"))) }
    };
    one_of("Statistic", &["SampleCount", "Average", "Sum", "Minimum", "Maximum"])?;
    one_of("TreatMissingData", &["breaching", "notBreaching", "ignore", "missing"])?;
    one_of(
        "ComparisonOperator",
        &[
            "GreaterThanOrEqualToThreshold",
            "GreaterThanThreshold",
            "LessThanThreshold",
            "LessThanOrEqualToThreshold",
        ],
    )?;
    for member in ["MetricName", "Namespace", "Statistic", "ComparisonOperator"] {
        request.required(member)?;
    }
    if decimal(request.get("Threshold")).is_none() {
        return Err(Failure::new("MissingParameter", "The parameter Threshold is required"));
    }
    for member in ["AlarmActions", "OKActions", "InsufficientDataActions"] {
        let all = request.texts(member);
        if all.len() > 5 {
            return Err(refused(format!("{member} holds at most 5 actions")));
        }
        for action in all {
            let parts: Vec<&str> = action.split(':').collect();
            let known = parts.len() >= 6 && ["sns", "lambda"].contains(&parts[2]);
            if !known {
                return Err(refused(format!("Invalid arn syntax: {action}")));
            }
            if parts[3] != request.region {
                let region = &request.region;
                return Err(refused(format!(
                    "Invalid region {} specified. Only {region} is supported.",
                    parts[3]
                )));
            }
        }
    }
    Ok(())
}

pub(super) fn put(world: &mut World, request: &Request) -> Reply {
    check(request)?;
    let name = request.required("AlarmName")?.to_owned();
    let region = request.region.clone();
    let arn = request.arn("cloudwatch", &format!("alarm:{name}"));
    let now = request.now.as_seconds();
    let old = world.get(&region, ALARM, &name).cloned();
    let mut record = old.clone().unwrap_or_else(|| {
        json!({
            "AlarmName": name, "AlarmArn": arn, "StateValue": "INSUFFICIENT_DATA",
            "StateReason": "Unchecked: Initial alarm creation", "StateUpdatedTimestamp": now,
            "StateTransitionedTimestamp": now, "_arn": arn,
            // Tags of an alarm that exists are not changed by putting it again.
            "_tags": tag_map(request.get("Tags"), "Key", "Value"),
        })
    });
    record["AlarmConfigurationUpdatedTimestamp"] = now.into();
    for member in [
        "AlarmDescription",
        "MetricName",
        "Namespace",
        "Statistic",
        "ComparisonOperator",
        "TreatMissingData",
        "Unit",
    ] {
        record[member] = request.get(member).clone();
    }
    record["Dimensions"] =
        if request.has("Dimensions") { request.get("Dimensions").clone() } else { json!([]) };
    record["ActionsEnabled"] = request.flag("ActionsEnabled").unwrap_or(true).into();
    for member in ["AlarmActions", "OKActions", "InsufficientDataActions"] {
        record[member] = json!(request.texts(member));
    }
    for member in ["Period", "EvaluationPeriods", "DatapointsToAlarm"] {
        record[member] = request.number(member).map_or(Value::Null, Value::from);
    }
    record["Threshold"] = json!(decimal(request.get("Threshold")));
    world.put(&region, ALARM, &name, record);
    if old.is_none() {
        begin(world, &region);
    }
    Ok(Value::Null)
}

pub(super) fn describe(world: &mut World, request: &Request) -> Reply {
    let names = request.texts("AlarmNames");
    let prefix = request.text("AlarmNamePrefix");
    if prefix.is_some() && !names.is_empty() {
        return Err(refused("AlarmNames and AlarmNamePrefix cannot be used together"));
    }
    let state = request.text("StateValue");
    let all: Vec<Value> = world
        .table(&request.region, ALARM)
        .iter()
        .filter(|(name, _)| names.is_empty() || names.contains(name))
        .filter(|(name, _)| prefix.is_none_or(|prefix| name.starts_with(prefix)))
        .filter(|(_, alarm)| state.is_none_or(|state| alarm["StateValue"] == state))
        .map(|(_, alarm)| shown(alarm))
        .collect();
    let size = request.number("MaxRecords").unwrap_or(50);
    if !(1..=100).contains(&size) {
        return Err(refused("MaxRecords must be between 1 and 100"));
    }
    let (items, next) = page(&all, request.text("NextToken"), usize::try_from(size).unwrap_or(50));
    Ok(json!({"MetricAlarms": items, "CompositeAlarms": [], "NextToken": next}))
}

/// All or none: one name that is not there, and nothing is deleted.
pub(super) fn delete(world: &mut World, request: &Request) -> Reply {
    let names = request.texts("AlarmNames");
    let table = world.table_mut(&request.region, ALARM);
    if names.iter().any(|name| !table.contains_key(name)) {
        let failure = Failure::new("ResourceNotFound", "Alarms to be deleted cannot be found");
        return Err(Failure { status: 404, ..failure });
    }
    table.retain(|name, _| !names.contains(name));
    Ok(Value::Null)
}

/// The metric that an alarm watches, as metrics are kept.
pub(crate) fn metric_of(alarm: &Value) -> String {
    let text = |member: &str| alarm[member].as_str().unwrap_or_default();
    key(text("Namespace"), text("MetricName"), &alarm["Dimensions"])
}

/// How many minutes any alarm of ours, any health check and any look at a metric goes back, and more: three periods of
/// an hour, and what of the current one has passed.
const LONGEST_LOOK_BACK: u64 = 240;

/// Minute after minute, for as long as a region has alarms: AWS's own metrics come, alarms are evaluated.
fn begin(world: &mut World, region: &str) {
    if world.table(region, ALARM).len() == 1 {
        let next = (world.now.0 / 60_000 + 1) * 60_000;
        world.at(Time(next), region, "", minute);
    }
}

fn minute(world: &mut World, region: &str, _: &str) {
    if world.table(region, ALARM).is_empty() {
        return;
    }
    if !world.down.contains(region) {
        rds::publish_metrics(world, region);
        let names: Vec<String> = world.table(region, ALARM).keys().cloned().collect();
        for name in names {
            evaluate(world, region, &name);
        }
    }
    // Where nobody calls for longer than anything looks back, the minutes between are left out.
    let resumes = Time(world.until.0.saturating_sub(LONGEST_LOOK_BACK * 60_000) / 60_000 * 60_000);
    let next = world.now.plus_seconds(60).max(resumes);
    world.at(next, region, "", minute);
}

/// Whether a value breaches.
pub(crate) fn breaches(alarm: &Value, value: f64) -> bool {
    let threshold = alarm["Threshold"].as_f64().unwrap_or_default();
    match alarm["ComparisonOperator"].as_str().unwrap_or_default() {
        "GreaterThanOrEqualToThreshold" => value >= threshold,
        "GreaterThanThreshold" => value > threshold,
        "LessThanOrEqualToThreshold" => value <= threshold,
        _ => value < threshold,
    }
}

/// The statistic of each of the last whole periods until `end`, the newest first.
pub(crate) fn recent<'a>(
    world: &'a World,
    region: &'a str,
    alarm: &'a Value,
    end: Time,
    count: u64,
) -> impl Iterator<Item = Option<f64>> + 'a {
    let step = alarm["Period"].as_u64().unwrap_or(60) * 1000;
    let last = end.0 / step * step;
    let metric = metric_of(alarm);
    let name = alarm["Statistic"].as_str().unwrap_or_default();
    let period = move |index: u64| {
        let to = last.saturating_sub(index * step);
        let found = values(world, region, &metric, Time(to.saturating_sub(step)), Time(to));
        statistic(name, &found)
    };
    (0..count).map(period)
}

/// The state that an alarm has by its metric.
fn judged(world: &World, region: &str, alarm: &Value) -> &'static str {
    let count = alarm["EvaluationPeriods"].as_u64().unwrap_or(1);
    let needed = alarm["DatapointsToAlarm"].as_u64().unwrap_or(count);
    let all = recent(world, region, alarm, world.now, count + EXTRA_PERIODS);
    let real: Vec<f64> = all.flatten().collect();
    let treatment = alarm["TreatMissingData"].as_str().unwrap_or("missing");
    // Real values count wherever in the range they are, the newest first; only what is lacking then is filled up.
    let filled = match treatment {
        "breaching" => Some(true),
        "notBreaching" => Some(false),
        _ => None,
    };
    let count = usize::try_from(count).unwrap_or(1);
    let newest = real.iter().map(|value| Some(breaches(alarm, *value)));
    let verdicts: Vec<Option<bool>> = newest.chain(std::iter::repeat(filled)).take(count).collect();
    let known = verdicts.iter().flatten().count();
    let breaching = verdicts.iter().flatten().filter(|one| **one).count();
    if u64::try_from(breaching).unwrap_or(0) >= needed {
        "ALARM"
    } else if known == 0 && treatment == "ignore" {
        ""
    } else if known == 0 {
        "INSUFFICIENT_DATA"
    } else {
        "OK"
    }
}

fn evaluate(world: &mut World, region: &str, name: &str) {
    let Some(alarm) = world.get(region, ALARM, name).cloned() else { return };
    let state = judged(world, region, &alarm);
    if state.is_empty() || alarm["StateValue"] == state {
        return;
    }
    let now = world.now.as_seconds();
    if let Some(record) = world.get_mut(region, ALARM, name) {
        record["StateValue"] = state.into();
        record["StateReason"] = "Threshold Crossed".into();
        record["StateUpdatedTimestamp"] = now.into();
        record["StateTransitionedTimestamp"] = now.into();
    }
    // Actions are taken when a state changes, never again while it lasts (aws-facts 8).
    let member = match state {
        "ALARM" => "AlarmActions",
        "OK" => "OKActions",
        _ => "InsufficientDataActions",
    };
    if alarm["ActionsEnabled"] == false {
        return;
    }
    for action in texts(&alarm[member]) {
        let arn = alarm["AlarmArn"].as_str().unwrap_or_default();
        let message = json!({
            "AlarmName": name, "NewStateValue": state, "OldStateValue": alarm["StateValue"],
            "AWSAccountId": crate::ACCOUNT, "AlarmArn": arn, "Region": region,
        });
        let need = Need::new("sns:Publish", &*action)
            .with("aws:SourceArn", arn)
            .with("aws:SourceAccount", crate::ACCOUNT);
        let subject = format!("{state}: \"{name}\" in {region}");
        sns::publish_as(world, &action, "cloudwatch.amazonaws.com", &need, &subject, &message);
    }
}

/// What Route 53 copies of an alarm; an error where it cannot use it (aws-facts 4).
pub(crate) fn copied(world: &World, region: &str, name: &str) -> Result<Value, Failure> {
    let missing = || Failure::new("InvalidInput", "The specified CloudWatch alarm does not exist.");
    let alarm = world.get(region, ALARM, name).ok_or_else(missing)?;
    let period = alarm["Period"].as_i64().unwrap_or(0);
    let some = alarm["DatapointsToAlarm"].as_i64();
    if period < 60 || some.is_some_and(|some| Some(some) != alarm["EvaluationPeriods"].as_i64()) {
        let message =
            "The CloudWatch alarm is of high resolution or evaluates M out of N datapoints.";
        return Err(Failure::new("InvalidInput", message));
    }
    let mut copy = json!({});
    for member in [
        "EvaluationPeriods",
        "Threshold",
        "ComparisonOperator",
        "Period",
        "MetricName",
        "Namespace",
        "Statistic",
        "Dimensions",
    ] {
        copy[member] = alarm[member].clone();
    }
    Ok(copy)
}
