//! Events and who is told of them, and the metrics that RDS publishes.

use serde_json::{Value, json};

use super::{INSTANCE, instances::combination, missing_instance};
use crate::{
    durations::EVENT_SUBSCRIPTION,
    iam::Need,
    request::{Failure, Reply, Request},
    services::{cloudwatch, page, sns},
    world::{World, shown, tag_map},
};

pub(super) const SUBSCRIPTION: &str = "db-event-subscription";
const EVENT: &str = "db-event";
/// Categories of events of instances (DescribeEventCategories).
const CATEGORIES: &[&str] = &[
    "availability",
    "backup",
    "backtrack",
    "configuration change",
    "creation",
    "deletion",
    "failover",
    "failure",
    "low storage",
    "maintenance",
    "notification",
    "read replica",
    "recovery",
    "restoration",
    "security",
    "security patching",
];

fn missing(name: &str) -> Failure {
    let message = format!("Event Subscription {name} not found.");
    Failure { status: 404, ..Failure::new("SubscriptionNotFound", message) }
}

fn described(one: &Value) -> Value {
    let mut view = shown(one);
    view["SourceIdsList"] = json!({"SourceId": one["SourceIdsList"]});
    view["EventCategoriesList"] = json!({"EventCategory": one["EventCategoriesList"]});
    view
}

fn check(world: &World, request: &Request, topic: Option<&str>) -> Result<(), Failure> {
    if let Some(odd) =
        request.texts("EventCategories").iter().find(|one| !CATEGORIES.contains(&one.as_str()))
    {
        let message = format!("The specified event category {odd} does not exist.");
        return Err(Failure {
            status: 404,
            ..Failure::new("SubscriptionCategoryNotFound", message)
        });
    }
    if request.text("SourceType").is_some_and(|kind| kind != "db-instance") {
        return Err(combination("the sandbox has events of instances only"));
    }
    let name = request.required("SubscriptionName")?;
    let source = request.arn("rds", &format!("es:{name}"));
    match topic.map(|topic| sns::rds_may_publish(world, topic, &source)) {
        Some(None) => {
            let message = "The SNS topic ARN does not exist.";
            Err(Failure { status: 404, ..Failure::new("SNSTopicArnNotFound", message) })
        }
        Some(Some(false)) => {
            let message = "You do not have permission to publish to the SNS topic ARN.";
            Err(Failure::new("SNSNoAuthorization", message))
        }
        Some(Some(true)) | None => Ok(()),
    }
}

pub(super) fn create(world: &mut World, request: &Request) -> Reply {
    let name = request.required("SubscriptionName")?.to_owned();
    if world.get(&request.region, SUBSCRIPTION, &name).is_some() {
        let message = format!("Event Subscription {name} already exists.");
        return Err(Failure::new("SubscriptionAlreadyExist", message));
    }
    let topic = request.required("SnsTopicArn")?.to_owned();
    check(world, request, Some(&topic))?;
    let sources = request.texts("SourceIds");
    if !sources.is_empty() && !request.has("SourceType") {
        return Err(combination("Source type must be specified together with source ids."));
    }
    for id in &sources {
        if world.get(&request.region, INSTANCE, id).is_none() {
            let message = format!("Could not find source for {id}");
            return Err(Failure { status: 404, ..Failure::new("SourceNotFound", message) });
        }
    }
    let arn = request.arn("rds", &format!("es:{name}"));
    let record = json!({
        "CustomerAwsId": crate::ACCOUNT, "CustSubscriptionId": name, "SnsTopicArn": topic, "Status": "creating",
        "SubscriptionCreationTime": world.now.to_string(), "SourceType": request.get("SourceType"),
        "SourceIdsList": sources, "EventCategoriesList": request.texts("EventCategories"),
        "Enabled": request.flag("Enabled").unwrap_or(true), "EventSubscriptionArn": arn, "_arn": arn,
        "_tags": tag_map(request.get("Tags"), "Key", "Value"),
    });
    world.put(&request.region, SUBSCRIPTION, &name, record.clone());
    settle(world, &request.region, &name);
    Ok(json!({"EventSubscription": described(&record)}))
}

/// The state of a subscription of which no instance is left.
const SOURCELESS: &str = "all-sources-deleted";

fn settle(world: &mut World, region: &str, name: &str) {
    world.after(EVENT_SUBSCRIPTION, region, name, |world, region, name| {
        let one = world.get_mut(region, SUBSCRIPTION, name);
        if let Some(one) = one.filter(|one| one["Status"] != "deleting") {
            one["Status"] = "active".into();
        }
    });
}

pub(super) fn describe(world: &mut World, request: &Request) -> Reply {
    let table = world.table(&request.region, SUBSCRIPTION);
    let all: Vec<Value> = match request.text("SubscriptionName") {
        Some(name) => vec![described(table.get(name).ok_or_else(|| missing(name))?)],
        None => table.values().map(described).collect(),
    };
    let (items, next) = page(&all, request.text("Marker"), 100);
    Ok(json!({"EventSubscriptionsList": {"EventSubscription": items}, "Marker": next}))
}

fn ready<'a>(world: &'a mut World, request: &Request) -> Result<&'a mut Value, Failure> {
    let name = request.required("SubscriptionName")?;
    let one = world.get_mut(&request.region, SUBSCRIPTION, name).ok_or_else(|| missing(name))?;
    // One that RDS has given up on can be changed: that is how it is mended.
    if one["Status"] == "creating" || one["Status"] == "modifying" {
        let message = format!("Event Subscription {name} is currently being changed.");
        return Err(Failure::new("InvalidEventSubscriptionState", message));
    }
    Ok(one)
}

pub(super) fn modify(world: &mut World, request: &Request) -> Reply {
    let topic = request.text("SnsTopicArn").map(str::to_owned);
    ready(world, request)?;
    check(world, request, topic.as_deref())?;
    let one = ready(world, request)?;
    if let Some(topic) = topic {
        one["SnsTopicArn"] = topic.into();
    }
    if request.has("EventCategories") {
        one["EventCategoriesList"] = json!(request.texts("EventCategories"));
    }
    if let Some(flag) = request.flag("Enabled") {
        one["Enabled"] = flag.into();
    }
    // Without instances it stays what it is, whatever else is changed.
    let is_sourceless = one["Status"] == SOURCELESS;
    if !is_sourceless {
        one["Status"] = "modifying".into();
    }
    let answer = described(one);
    let name = request.required("SubscriptionName")?.to_owned();
    if !is_sourceless {
        settle(world, &request.region, &name);
    }
    Ok(json!({"EventSubscription": answer}))
}

fn sources(world: &mut World, request: &Request, adds: bool) -> Reply {
    let id = request.required("SourceIdentifier")?.to_owned();
    if adds && world.get(&request.region, INSTANCE, &id).is_none() {
        return Err(missing_instance(&id));
    }
    let one = ready(world, request)?;
    if let Some(all) = one["SourceIdsList"].as_array_mut() {
        all.retain(|other| *other != id.as_str());
        if adds {
            all.push(id.into());
        }
    }
    if adds && one["Status"] == SOURCELESS {
        one["Status"] = "active".into();
    }
    Ok(json!({"EventSubscription": described(one)}))
}

pub(super) fn add_source(world: &mut World, request: &Request) -> Reply {
    sources(world, request, true)
}

pub(super) fn remove_source(world: &mut World, request: &Request) -> Reply {
    sources(world, request, false)
}

pub(super) fn delete(world: &mut World, request: &Request) -> Reply {
    let name = request.required("SubscriptionName")?;
    let gone = world.get_mut(&request.region, SUBSCRIPTION, name).ok_or_else(|| missing(name))?;
    // It is shown so for a while.
    gone["Status"] = "deleting".into();
    let answer = described(gone);
    world.after(EVENT_SUBSCRIPTION, &request.region, name, |world, region, name| {
        world.remove(region, SUBSCRIPTION, name);
    });
    Ok(json!({"EventSubscription": answer}))
}

/// What becomes of subscriptions when an instance is gone.
pub(super) fn lose(world: &mut World, region: &str, id: &str) {
    let there: Vec<String> = world.table(region, INSTANCE).keys().cloned().collect();
    let all = world.table_mut(region, SUBSCRIPTION).values_mut();
    for one in all.filter(|one| one["Status"] == "active") {
        let sources = one["SourceIdsList"].as_array().cloned().unwrap_or_default();
        let left = |source: &Value| there.iter().any(|id| *source == id.as_str());
        if sources.iter().any(|source| *source == id) && !sources.iter().any(left) {
            one["Status"] = SOURCELESS.into();
        }
    }
}

/// Something happened to an instance: it is on record, and subscribers are told.
pub(super) fn happened(
    world: &mut World,
    region: &str,
    id: &str,
    category: &str,
    code: &str,
    text: &str,
) {
    let arn = crate::request::arn("rds", region, &format!("db:{id}"));
    let record = json!({
        "SourceIdentifier": id, "SourceType": "db-instance", "Message": text, "SourceArn": arn,
        "EventCategories": [category], "Date": world.now.to_string(), "_at": world.now.0,
        "_code": code, "_account": true,
    });
    let key = format!("{:020}", world.next());
    world.put(region, EVENT, &key, record);
    let subscribers: Vec<Value> = world
        .table(region, SUBSCRIPTION)
        .values()
        .filter(|one| {
            let lists = |member: &str, what: &str| {
                let all = one[member].as_array();
                all.is_none_or(|all| all.is_empty() || all.iter().any(|other| other == what))
            };
            one["Enabled"] == true
                && lists("SourceIdsList", id)
                && lists("EventCategoriesList", category)
        })
        .cloned()
        .collect();
    for one in subscribers {
        let text_of = |member: &str| one[member].as_str().unwrap_or_default();
        let need = Need::new("sns:Publish", text_of("SnsTopicArn"))
            .with("aws:SourceArn", text_of("EventSubscriptionArn"))
            .with("aws:SourceAccount", crate::ACCOUNT);
        let message = json!({"Event Source": "db-instance", "Source ID": id, "Event ID": code, "Event Message": text});
        let subject = "RDS Notification Message";
        let topic = text_of("SnsTopicArn").to_owned();
        sns::publish_as(world, &topic, "events.rds.amazonaws.com", &need, subject, &message);
    }
}

pub(super) fn describe_events(world: &mut World, request: &Request) -> Reply {
    let minutes = request.number("Duration").unwrap_or(60).max(0);
    let since = world.now.0.saturating_sub(u64::try_from(minutes).unwrap_or(60) * 60_000);
    let wanted = request.text("SourceIdentifier");
    if wanted.is_some() && !request.has("SourceType") {
        return Err(combination("SourceType must be given with SourceIdentifier."));
    }
    let categories = request.texts("EventCategories");
    let all: Vec<Value> = world
        .table(&request.region, EVENT)
        .values()
        .filter(|one| one["_at"].as_u64().is_some_and(|at| at >= since))
        .filter(|one| wanted.is_none_or(|id| one["SourceIdentifier"] == id))
        .filter(|one| {
            let its = one["EventCategories"][0].as_str().unwrap_or_default();
            categories.is_empty() || categories.iter().any(|category| category == its)
        })
        .map(|one| {
            let mut view = shown(one);
            view["EventCategories"] = json!({"EventCategory": one["EventCategories"]});
            view
        })
        .collect();
    let (items, next) = page(&all, request.text("Marker"), 100);
    Ok(json!({"Events": {"Event": items}, "Marker": next}))
}

/// What an instance's metrics are when nothing is wrong, and what a test set them to.
fn metric(instance: &Value, name: &str, usual: f64) -> f64 {
    instance["_metrics"][name].as_f64().unwrap_or(usual)
}

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// Publishes a minute's metrics of a region's instances (aws-facts 3).
pub(crate) fn publish_metrics(world: &mut World, region: &str) {
    let up = |instance: &&Value| {
        let status = instance["DBInstanceStatus"].as_str().unwrap_or_default();
        !["creating", "stopped", "deleting", "failed", "rebooting"].contains(&status)
    };
    let all: Vec<Value> = world.table(region, INSTANCE).values().filter(up).cloned().collect();
    let now = world.now;
    for instance in all {
        let storage = instance["AllocatedStorage"].as_f64().unwrap_or(100.0) * GIB;
        let is_replica = !instance["ReadReplicaSourceDBInstanceIdentifier"].is_null();
        let mut rows = vec![
            ("CPUUtilization", 12.0),
            ("FreeStorageSpace", storage * 0.9),
            ("FreeableMemory", GIB),
            ("DatabaseConnections", 20.0),
            ("WriteIOPS", 50.0),
            ("ReadIOPS", 20.0),
        ];
        if is_replica {
            rows.push(("ReplicaLag", lag(world, region, &instance)));
        } else {
            rows.push(("TransactionLogsDiskUsage", 0.5 * GIB));
            rows.push(("OldestReplicationSlotLag", 0.0));
        }
        let dimensions =
            json!([{"Name": "DBInstanceIdentifier", "Value": instance["DBInstanceIdentifier"]}]);
        for (name, usual) in rows {
            let value = metric(&instance, name, usual);
            // What a minute says is there when it is over: a moment before the next one begins.
            let at = crate::clock::Time(now.0 - 1);
            cloudwatch::publish(world, region, "AWS/RDS", name, &dimensions, at, value);
        }
    }
}

/// The lag of a replica in seconds. On an idle source it climbs until the log switches every five minutes,
/// without any fault (aws-facts 0.10); somebody who writes keeps it low.
#[allow(clippy::cast_precision_loss)]
fn lag(world: &World, here: &str, replica: &Value) -> f64 {
    let seconds = |since: u64| world.now.0.saturating_sub(since) / 1000;
    let source = replica["_source"].as_str().and_then(super::split_arn);
    let writer = source.as_ref().and_then(|(region, id)| world.get(region, INSTANCE, id));
    let written = writer.and_then(|one| one["_written"].as_u64()).unwrap_or(0);
    let is_fed = source.zip(writer).is_some_and(|((region, _), writer)| {
        world.flows(&region, writer) && !world.is_cut(&region, here)
    });
    let idle = seconds(written).min(world.now.0 / 1000 % 300);
    // Where nothing arrives, not even the WAL of an idle writer, it grows from the last commit that did.
    let last = replica["_replayed"].as_u64().filter(|_| !is_fed);
    last.map_or(idle, seconds) as f64
}
