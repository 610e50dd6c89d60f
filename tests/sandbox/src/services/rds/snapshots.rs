//! Snapshots: those that RDS takes by itself every day, final ones, and copies in other regions.

use serde_json::{Value, json};

use super::{INSTANCE, SNAPSHOT, check_name};
use crate::{
    durations::SNAPSHOT_COPY,
    iam::Need,
    request::{Failure, Reply, Request, arn},
    services::{kms, page},
    world::{World, shown, tag_map, tags},
};

const DAY: u64 = 24 * 3600;

pub(super) fn put(world: &mut World, region: &str, name: &str, kind: &str, instance: &Value) {
    let arn = arn("rds", region, &format!("snapshot:{name}"));
    let copies_tags = instance["CopyTagsToSnapshot"] == true;
    let record = json!({
        "DBSnapshotIdentifier": name, "DBInstanceIdentifier": instance["DBInstanceIdentifier"], "Engine": "postgres",
        "SnapshotCreateTime": world.now.to_string(), "Status": "available", "SnapshotType": kind, "PercentProgress": 100,
        "EngineVersion": instance["EngineVersion"], "AllocatedStorage": instance["AllocatedStorage"],
        "Encrypted": instance["StorageEncrypted"], "KmsKeyId": instance["KmsKeyId"], "DBSnapshotArn": arn, "_arn": arn,
        "_tags": if copies_tags { instance["_tags"].clone() } else { json!({}) },
        "_taken": world.now.0, "_origin": instance.clone(),
        // Nobody made those that RDS takes.
        "_account": kind == "automated",
    });
    world.put(region, SNAPSHOT, name, record);
}

/// Takes the automated snapshot of a day, removes those that are older than the retention, and comes back in
/// the next backup window. The first one is part of a creation. What the status says meanwhile is not
/// simulated.
pub(super) fn daily(world: &mut World, region: &str, id: &str) {
    let Some(instance) = world.get(region, INSTANCE, id).cloned() else { return };
    let days = instance["BackupRetentionPeriod"].as_u64().unwrap_or(0);
    if days > 0 && instance["DBInstanceStatus"] == "available" {
        let at = world.now.to_string();
        let stamp = at[..16].replace(['T', ':'], "-");
        put(world, region, &format!("rds:{id}-{stamp}"), "automated", &instance);
    }
    let oldest = world.now.0.saturating_sub(days * DAY * 1000);
    world.table_mut(region, SNAPSHOT).retain(|_, one| {
        let is_automated = one["SnapshotType"] == "automated" && one["DBInstanceIdentifier"] == id;
        !is_automated || one["_taken"].as_u64() > Some(oldest)
    });
    let window = instance["PreferredBackupWindow"].as_str().unwrap_or("08:00-08:30");
    let minutes = window[..2].parse::<u64>().unwrap_or(0) * 60;
    let begin = minutes + window[3..5].parse::<u64>().unwrap_or(0);
    let (_, now) = world.now.weekday_and_minute();
    let left = (begin + 24 * 60 - now) % (24 * 60);
    let left = if left == 0 { 24 * 60 } else { left };
    world.after(left * 60, region, id, daily);
}

/// Automated snapshots go with their instance (aws-facts 10).
pub(super) fn forget(world: &mut World, region: &str, id: &str) {
    world
        .table_mut(region, SNAPSHOT)
        .retain(|_, one| one["SnapshotType"] != "automated" || one["DBInstanceIdentifier"] != id);
}

pub(super) fn describe(world: &mut World, request: &Request) -> Reply {
    let table = world.table(&request.region, SNAPSHOT);
    if let Some(id) = request.text("DBSnapshotIdentifier") {
        let one = table.get(id).ok_or_else(|| missing(id))?;
        return Ok(json!({"DBSnapshots": {"DBSnapshot": [described(one)]}}));
    }
    let of = request.text("DBInstanceIdentifier");
    let kind = request.text("SnapshotType");
    let all: Vec<Value> = table
        .values()
        .filter(|one| of.is_none_or(|id| one["DBInstanceIdentifier"] == id))
        .filter(|one| kind.is_none_or(|kind| one["SnapshotType"] == kind))
        .map(described)
        .collect();
    let (items, next) = page(&all, request.text("Marker"), 100);
    Ok(json!({"DBSnapshots": {"DBSnapshot": items}, "Marker": next}))
}

fn described(one: &Value) -> Value {
    let mut view = shown(one);
    view["TagList"] = json!({"Tag": crate::world::tag_list(one, "Key", "Value")});
    view
}

pub(super) fn missing(id: &str) -> Failure {
    Failure::new("DBSnapshotNotFound", format!("DBSnapshot {id} not found."))
}

pub(super) fn delete(world: &mut World, request: &Request) -> Reply {
    let id = request.required("DBSnapshotIdentifier")?;
    let one = world.get(&request.region, SNAPSHOT, id).ok_or_else(|| missing(id))?;
    let is_odd = one["SnapshotType"] == "automated" || one["Status"] == "creating";
    if is_odd {
        let message = format!("Cannot delete the snapshot {id}: it is automated or being created.");
        return Err(Failure::new("InvalidDBSnapshotState", message));
    }
    let gone = world.remove(&request.region, SNAPSHOT, id).unwrap_or_default();
    Ok(json!({"DBSnapshot": shown(&gone)}))
}

/// The source as well as the copy is acted on (RDS guide, "Copying a DB snapshot").
pub(super) fn on_copy(_: &World, request: &Request) -> Vec<Need> {
    let target = request.text("TargetDBSnapshotIdentifier").unwrap_or_default();
    let source = request.text("SourceDBSnapshotIdentifier").unwrap_or_default();
    vec![Need::new("", request.arn("rds", &format!("snapshot:{target}"))), Need::new("", source)]
}

pub(super) fn copy(world: &mut World, request: &Request) -> Reply {
    let source = request.required("SourceDBSnapshotIdentifier")?;
    let name = request.required("TargetDBSnapshotIdentifier")?.to_owned();
    check_name(&name, "TargetDBSnapshotIdentifier", 255)?;
    let (region, id) = snapshot_in(source).ok_or_else(|| missing(source))?;
    let original = world.get(&region, SNAPSHOT, &id).cloned().ok_or_else(|| missing(&id))?;
    if world.get(&request.region, SNAPSHOT, &name).is_some() {
        let message = format!(
            "Cannot create the snapshot because a snapshot with the identifier {name} already exists."
        );
        return Err(Failure::new("DBSnapshotAlreadyExists", message));
    }
    let key = match request.text("KmsKeyId") {
        None if original["Encrypted"] == true => {
            let message = "KmsKeyId should be explicitly specified when copying an encrypted snapshot across regions";
            return Err(Failure::new("InvalidParameterValue", message));
        }
        None => Value::Null,
        Some(key) => kms::usable_arn(world, &request.region, key)
            .filter(|arn| kms::may_copy(world, request, arn))
            .filter(|_| {
                let old = original["KmsKeyId"].as_str();
                old.is_none_or(|old| kms::may_copy(world, request, old))
            })
            .ok_or_else(|| {
                let message = format!("The KMS key {key} is not accessible");
                Failure::new("KMSKeyNotAccessibleFault", message)
            })?
            .into(),
    };
    let mut all = tag_map(request.get("Tags"), "Key", "Value");
    if request.flag("CopyTags") == Some(true) {
        all.extend(tags(&original));
    }
    let own = arn("rds", &request.region, &format!("snapshot:{name}"));
    let mut record = original;
    record["DBSnapshotIdentifier"] = name.as_str().into();
    record["SourceDBSnapshotIdentifier"] = source.into();
    record["SnapshotType"] = "manual".into();
    record["Status"] = "creating".into();
    record["KmsKeyId"] = key;
    record["DBSnapshotArn"] = own.as_str().into();
    record["_arn"] = own.into();
    record["_tags"] = all.into();
    record["_account"] = false.into();
    world.put(&request.region, SNAPSHOT, &name, record.clone());
    world.after(SNAPSHOT_COPY, &request.region, &name, |world, region, name| {
        if let Some(one) = world.get_mut(region, SNAPSHOT, name) {
            one["Status"] = "available".into();
        }
    });
    Ok(json!({"DBSnapshot": described(&record)}))
}

fn snapshot_in(arn: &str) -> Option<(String, String)> {
    let parts: Vec<&str> = arn.splitn(7, ':').collect();
    match parts[..] {
        ["arn", _, "rds", region, _, "snapshot", name] => {
            Some((region.to_owned(), name.to_owned()))
        }
        _ => None,
    }
}
