//! Instances that are made from backups: of a moment, or of a snapshot.

use serde_json::{Value, json};

use super::{
    BACKUP, INSTANCE, PARAMETER_GROUP, SNAPSHOT, SUBNET_GROUP, answer, granted_key,
    instances::{base, combination, invalid, ready},
    missing_instance, on, on_defaults, snapshots,
};
use crate::{
    durations::DB_RESTORE,
    iam::Need,
    request::{Failure, Reply, Request},
    world::World,
};

/// What the restored instance takes from what it is restored from.
const INHERITED: [&str; 11] = [
    "EngineVersion",
    "AllocatedStorage",
    "StorageType",
    "Iops",
    "MasterUsername",
    "DBName",
    "Engine",
    "DBInstanceClass",
    "_password",
    "_roles",
    "_port",
];

fn on_new(world: &World, request: &Request, member: &str) -> Vec<Need> {
    let mut needs = on(world, request, member, "db", INSTANCE);
    needs.extend(on(world, request, "DBSubnetGroupName", "subgrp", SUBNET_GROUP));
    if request.has("DBParameterGroupName") {
        needs.extend(on(world, request, "DBParameterGroupName", "pg", PARAMETER_GROUP));
    }
    needs.extend(on_defaults(request, &Value::Null));
    needs
}

pub(super) fn on_snapshot(world: &World, request: &Request) -> Vec<Need> {
    let mut needs = on_new(world, request, "DBInstanceIdentifier");
    needs.extend(on(world, request, "DBSnapshotIdentifier", "snapshot", SNAPSHOT));
    needs
}

pub(super) fn on_moment(world: &World, request: &Request) -> Vec<Need> {
    let mut needs = on_new(world, request, "TargetDBInstanceIdentifier");
    if let Some(arn) = request.text("SourceDBInstanceAutomatedBackupsArn") {
        needs.push(Need::new("", arn));
    } else {
        needs.extend(on(world, request, "SourceDBInstanceIdentifier", "db", INSTANCE));
    }
    needs
}

pub(super) fn from_snapshot(world: &mut World, request: &Request) -> Reply {
    let name = request.required("DBSnapshotIdentifier")?;
    let name = name.rsplit_once(":snapshot:").map_or(name, |(_, name)| name);
    let snapshot =
        world.get(&request.region, SNAPSHOT, name).ok_or_else(|| snapshots::missing(name))?;
    if snapshot["Status"] != "available" {
        let message = format!("Snapshot {name} is not in the available state.");
        return Err(Failure::new("InvalidDBSnapshotState", message));
    }
    let mut origin = snapshot["_origin"].clone();
    origin["KmsKeyId"] = snapshot["KmsKeyId"].clone();
    origin["_restored"] = json!({"snapshot": request.arn("rds", &format!("snapshot:{name}"))});
    let id = request.required("DBInstanceIdentifier")?.to_lowercase();
    make(world, request, &id, &origin)
}

pub(super) fn to_moment(world: &mut World, request: &Request) -> Reply {
    let is_latest = request.flag("UseLatestRestorableTime").unwrap_or(false);
    match (request.text("RestoreTime"), is_latest) {
        (Some(_), true) => {
            return Err(combination(
                "RestoreTime can't be specified if UseLatestRestorableTime is enabled.",
            ));
        }
        (None, false) => {
            return Err(combination(
                "Either RestoreTime or UseLatestRestorableTime must be specified.",
            ));
        }
        (Some(moment), false) if moment > world.now.to_string().as_str() => {
            let message = format!(
                "The specified instance cannot be restored to a time later than {}",
                world.now
            );
            return Err(invalid(message));
        }
        _ => {}
    }
    let origin = match request.text("SourceDBInstanceAutomatedBackupsArn") {
        Some(arn) => replicated(world, request, arn)?,
        None => own(world, request)?,
    };
    let first = origin["InstanceCreateTime"].as_str().unwrap_or_default();
    if request.text("RestoreTime").is_some_and(|moment| moment < first) {
        let message =
            format!("The specified instance cannot be restored to a time earlier than {first}");
        return Err(invalid(message));
    }
    let id = request.required("TargetDBInstanceIdentifier")?.to_lowercase();
    let mut origin = origin;
    let moment = request.text("RestoreTime").map_or_else(|| world.now.to_string(), str::to_owned);
    origin["_restored"] = json!({"of": origin["DbiResourceId"], "moment": moment});
    make(world, request, &id, &origin)
}

/// AWS restores nothing to a moment from a replica (aws-facts 0.8).
fn own(world: &World, request: &Request) -> Result<Value, Failure> {
    let id = request.required("SourceDBInstanceIdentifier")?.to_lowercase();
    let source = world.get(&request.region, INSTANCE, &id).ok_or_else(|| missing_instance(&id))?;
    if !source["ReadReplicaSourceDBInstanceIdentifier"].is_null() {
        let message = format!("Point in time restore is not supported for the read replica {id}.");
        return Err(Failure::new("InvalidDBInstanceState", message));
    }
    if source["BackupRetentionPeriod"].as_i64().unwrap_or(0) == 0 {
        let message = format!("Automated backups are not enabled for {id}.");
        return Err(Failure::new("PointInTimeRestoreNotEnabled", message));
    }
    Ok(source.clone())
}

fn replicated(world: &World, request: &Request, arn: &str) -> Result<Value, Failure> {
    let missing = || {
        let message = format!("No automated backup {arn} in this region.");
        Failure::new("DBInstanceAutomatedBackupNotFound", message)
    };
    let backup = world.get(&request.region, BACKUP, arn).ok_or_else(missing)?;
    if backup["Status"] == "pending" {
        let message = "The automated backup has nothing to restore yet.";
        return Err(Failure::new("InvalidDBInstanceAutomatedBackupState", message));
    }
    let mut origin = backup["_origin"].clone();
    origin["KmsKeyId"] = backup["KmsKeyId"].clone();
    Ok(origin)
}

fn make(world: &mut World, request: &Request, id: &str, origin: &Value) -> Reply {
    let mut record = base(world, request, id, request.required("DBSubnetGroupName")?)?;
    for member in INHERITED {
        record[member] = origin[member].clone();
    }
    if let Some(class) = request.text("DBInstanceClass") {
        record["DBInstanceClass"] = class.into();
    }
    if let Some(key) = origin["KmsKeyId"].as_str() {
        record["StorageEncrypted"] = true.into();
        record["KmsKeyId"] = granted_key(world, request, key)?.into();
    }
    // That is not taken over (RDS API reference, RestoreDBInstanceFromDBSnapshot).
    let support = request.text("EngineLifecycleSupport");
    record["EngineLifecycleSupport"] = support.unwrap_or("open-source-rds-extended-support").into();
    // What an engine that runs real databases restores.
    record["_restored"] = origin["_restored"].clone();
    let parameters = request.text("DBParameterGroupName").unwrap_or("default.postgres15");
    record["DBParameterGroups"] = json!({"DBParameterGroup": [
        {"DBParameterGroupName": parameters, "ParameterApplyStatus": "in-sync"},
    ]});
    record["BackupRetentionPeriod"] = 1.into();
    world.put(&request.region, INSTANCE, id, record.clone());
    world.after(DB_RESTORE, &request.region, id, ready);
    answer(&record)
}
