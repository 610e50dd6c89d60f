//! EventBridge: rules that fire on a schedule.

mod schedule;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::{Value, json};

use schedule::Schedule;

use super::{Operation, Service, lambda, op, page};
use crate::{
    iam::Need,
    request::{Failure, Reply, Request},
    services::lambda::Invocation,
    wire::Protocol,
    world::{World, shown, tag_list, tag_map, tags},
};

pub(crate) const SERVICE: Service = Service {
    name: "events",
    protocol: Protocol::Json,
    namespace: "",
    global: false,
    operations: OPERATIONS,
};

const RULE: &str = "event-rule";

const OPERATIONS: &[Operation] = &[
    op("PutRule", "Name ScheduleExpression State Description Tags EventBusName", on_rule, put_rule),
    op(
        "ListRules",
        "NamePrefix NextToken Limit EventBusName",
        |_, request| vec![Need::new("", request.arn("events", "rule/*"))],
        list_rules,
    ),
    op("DescribeRule", "Name EventBusName", on_rule, |world, request| {
        let rule = found_mut(world, request)?;
        Ok(shown(rule))
    }),
    op("DeleteRule", "Name EventBusName Force", on_rule, |world, request| {
        bus(request)?;
        let name = request.required("Name")?.to_owned();
        if let Some(rule) = world.get(&request.region, RULE, &name)
            && rule["_targets"].as_array().is_some_and(|all| !all.is_empty())
        {
            return Err(invalid("Rule can't be deleted since it has targets."));
        }
        world.remove(&request.region, RULE, &name);
        Ok(Value::Null)
    }),
    op("PutTargets", "Rule Targets EventBusName", on_rule, put_targets),
    op("ListTargetsByRule", "Rule EventBusName NextToken Limit", on_rule, |world, request| {
        let rule = found_mut(world, request)?;
        let all = rule["_targets"].as_array().cloned().unwrap_or_default();
        let size = usize::try_from(request.number("Limit").unwrap_or(100)).unwrap_or(100);
        let (targets, next) = page(&all, request.text("NextToken"), size);
        Ok(json!({"Targets": targets, "NextToken": next}))
    }),
    op("RemoveTargets", "Rule Ids EventBusName Force", on_rule, |world, request| {
        let gone = request.texts("Ids");
        let rule = found_mut(world, request)?;
        if let Some(all) = rule["_targets"].as_array_mut() {
            all.retain(|one| !gone.iter().any(|id| one["Id"] == id.as_str()));
        }
        Ok(json!({"FailedEntryCount": 0, "FailedEntries": []}))
    }),
    op("TagResource", "ResourceARN Tags", on_rule, |world, request| {
        let new = tag_map(request.get("Tags"), "Key", "Value");
        let rule = found_mut(world, request)?;
        let mut all = tags(rule);
        all.extend(new);
        rule["_tags"] = Value::Object(all);
        Ok(Value::Null)
    }),
    op("UntagResource", "ResourceARN TagKeys", on_rule, |world, request| {
        let gone = request.texts("TagKeys");
        let rule = found_mut(world, request)?;
        let mut all = tags(rule);
        all.retain(|key, _| !gone.contains(key));
        rule["_tags"] = Value::Object(all);
        Ok(Value::Null)
    }),
    op("ListTagsForResource", "ResourceARN", on_rule, |world, request| {
        let rule = found_mut(world, request)?;
        Ok(json!({"Tags": tag_list(rule, "Key", "Value")}))
    }),
];

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new("ValidationException", message)
}

fn name(request: &Request) -> String {
    let arn = request.text("ResourceARN").map(|arn| arn.rsplit('/').next().unwrap_or_default());
    let name = arn.or_else(|| request.text("Rule")).or_else(|| request.text("Name"));
    name.unwrap_or_default().to_owned()
}

fn on_rule(world: &World, request: &Request) -> Vec<Need> {
    let name = name(request);
    let record = world.get(&request.region, RULE, &name);
    vec![Need::new("", request.arn("events", &format!("rule/{name}"))).on(record)]
}

/// The account has no other bus than the one it comes with.
fn bus(request: &Request) -> Result<(), Failure> {
    let name = request.text("EventBusName").unwrap_or("default");
    if name == "default" || name == request.arn("events", "event-bus/default") {
        return Ok(());
    }
    let message = format!("Event bus {name} does not exist.");
    Err(Failure::new("ResourceNotFoundException", message))
}

fn found_mut<'a>(world: &'a mut World, request: &Request) -> Result<&'a mut Value, Failure> {
    bus(request)?;
    let name = name(request);
    world.get_mut(&request.region, RULE, &name).ok_or_else(|| {
        let message = format!("Rule {name} does not exist on EventBus default.");
        Failure::new("ResourceNotFoundException", message)
    })
}

fn put_rule(world: &mut World, request: &Request) -> Reply {
    bus(request)?;
    let name = request.required("Name")?.to_owned();
    let expression = request.required("ScheduleExpression")?;
    if Schedule::parse(expression).is_none() {
        return Err(invalid("Parameter ScheduleExpression is not valid."));
    }
    let arn = request.arn("events", &format!("rule/{name}"));
    let old = world.get(&request.region, RULE, &name).cloned().unwrap_or_default();
    let new_tags = if old.is_null() {
        json!(tag_map(request.get("Tags"), "Key", "Value"))
    } else {
        old["_tags"].clone()
    };
    let record = json!({
        "Name": name, "Arn": arn, "ScheduleExpression": expression,
        "State": request.text("State").unwrap_or("ENABLED"), "Description": request.get("Description"),
        "EventBusName": "default", "_arn": arn, "_tags": new_tags,
        "_targets": if old.is_null() { json!([]) } else { old["_targets"].clone() },
    });
    world.put(&request.region, RULE, &name, record);
    Ok(json!({"RuleArn": arn}))
}

fn list_rules(world: &mut World, request: &Request) -> Reply {
    bus(request)?;
    let prefix = request.text("NamePrefix").unwrap_or_default();
    let all = world.table(&request.region, RULE).iter();
    let all: Vec<Value> =
        all.filter(|(name, _)| name.starts_with(prefix)).map(|(_, rule)| shown(rule)).collect();
    let size = usize::try_from(request.number("Limit").unwrap_or(100)).unwrap_or(100);
    if !(1..=100).contains(&size) {
        return Err(invalid("Value at 'limit' failed to satisfy constraint"));
    }
    let (items, next) = page(&all, request.text("NextToken"), size);
    Ok(json!({"Rules": items, "NextToken": next}))
}

/// Answered with 200 whatever becomes of the entries (aws-facts 1.5).
fn put_targets(world: &mut World, request: &Request) -> Reply {
    let new = request.items("Targets").to_vec();
    let region = request.region.clone();
    let rule = found_mut(world, request)?;
    let mut failed = Vec::new();
    for target in new {
        let arn = target["Arn"].as_str().unwrap_or_default();
        if arn.split(':').nth(3) != Some(&region) {
            let message = "Provided Arn is not in correct format or is of another region.";
            failed.push(json!({"TargetId": target["Id"], "ErrorCode": "ValidationException", "ErrorMessage": message}));
            continue;
        }
        if let Some(all) = rule["_targets"].as_array_mut() {
            all.retain(|one| one["Id"] != target["Id"]);
            all.push(target);
        }
    }
    Ok(json!({"FailedEntryCount": failed.len(), "FailedEntries": failed}))
}

/// A target that a schedule is going to call.
pub(crate) struct Firing {
    /// In how many milliseconds.
    pub(crate) late: u64,
    pub(crate) region: String,
    rule: String,
    function: String,
    payload: Value,
}

/// How far into its minute a rule fires, in milliseconds: anywhere in it (aws-facts 12b), and in each minute always at
/// the same moment.
fn drift(rule: &str, minute: u64, time: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (rule, minute, time).hash(&mut hasher);
    hasher.finish() % 60_000
}

/// What fires in the minute that begins now. Now and then AWS fires twice; here it does so every tenth minute.
pub(crate) fn due(world: &mut World) -> Vec<Firing> {
    let minute = world.now.0 / 60_000;
    let mut all = Vec::new();
    for (region, kind, table) in world.tables() {
        if kind != RULE {
            continue;
        }
        for (name, rule) in table {
            let schedule = rule["ScheduleExpression"].as_str().and_then(Schedule::parse);
            if !schedule.is_some_and(|schedule| schedule.fires(world.now)) {
                continue;
            }
            for target in rule["_targets"].as_array().into_iter().flatten() {
                let input = target["Input"].as_str().unwrap_or("{}");
                let times = if minute.is_multiple_of(10) { 2 } else { 1 };
                for time in 0..times {
                    all.push(Firing {
                        late: drift(rule["Arn"].as_str().unwrap_or_default(), minute, time),
                        region: region.to_owned(),
                        rule: name.clone(),
                        function: target["Arn"].as_str().unwrap_or_default().to_owned(),
                        payload: serde_json::from_str(input).unwrap_or_default(),
                    });
                }
            }
        }
    }
    all
}

/// What is called when the moment has come: nothing where the region is down or the rule is gone, and what policies do
/// not let through is dropped.
pub(crate) fn fire(world: &mut World, firing: Firing) -> Option<Invocation> {
    let Firing { region, rule, function, payload, .. } = firing;
    let rule = world.get(&region, RULE, &rule).filter(|rule| rule["State"] == "ENABLED")?;
    let source = rule["Arn"].as_str().unwrap_or_default();
    let is_let = lambda::lets(world, &function, "events.amazonaws.com", source);
    if !is_let || world.down.contains(&region) {
        return None;
    }
    lambda::invocation(world, &function, payload)
}
