//! Instances: changing, rebooting, promoting and deleting them.

use serde_json::{Map, Value, json};

use super::{
    INSTANCE, SNAPSHOT, answer, backups, busy, catalog,
    events::{self, happened},
    granted_key,
    instances::{check_settings, check_storage, combination, flush_logs, invalid},
    missing_instance, parameters, snapshots,
};
use crate::{
    durations::{
        DB_DELETE, DB_FINAL_SNAPSHOT, DB_MODIFY, DB_MODIFY_CLASS, DB_PROMOTE, DB_REBOOT,
        DB_STATUS_LAG, PARAMETER_GROUP_APPLYING,
    },
    request::{Failure, Reply, Request, integer, texts, truth},
    world::World,
};

/// Settings that take their time, and may be left for the maintenance window: the request's name and ours.
const DEFERRABLE: &[(&str, &str)] = &[
    ("AllocatedStorage", "AllocatedStorage"),
    ("DBInstanceClass", "DBInstanceClass"),
    ("MultiAZ", "MultiAZ"),
    ("EngineVersion", "EngineVersion"),
    ("Iops", "Iops"),
    ("StorageThroughput", "StorageThroughput"),
    ("StorageType", "StorageType"),
    ("MasterUserPassword", "MasterUserPassword"),
    ("CACertificateIdentifier", "CACertificateIdentifier"),
];
/// Settings that are changed as soon as possible, whatever ApplyImmediately says.
const PROMPT: &[&str] = &[
    "AutoMinorVersionUpgrade",
    "CopyTagsToSnapshot",
    "DeletionProtection",
    "MaxAllocatedStorage",
    "MonitoringInterval",
    "MonitoringRoleArn",
    "PreferredBackupWindow",
    "PreferredMaintenanceWindow",
    "PubliclyAccessible",
    "PerformanceInsightsRetentionPeriod",
];

fn found<'a>(world: &'a World, request: &Request) -> Result<(String, &'a Value), Failure> {
    let id = request.required("DBInstanceIdentifier")?.to_lowercase();
    let instance =
        world.get(&request.region, INSTANCE, &id).ok_or_else(|| missing_instance(&id))?;
    Ok((id, instance))
}

/// Forms bring text; records hold what AWS answers with.
fn typed(name: &str, value: &Value) -> Value {
    let numeric = [
        "AllocatedStorage",
        "Iops",
        "StorageThroughput",
        "DBPortNumber",
        "Port",
        "MaxAllocatedStorage",
        "MonitoringInterval",
        "PerformanceInsightsRetentionPeriod",
        "BackupRetentionPeriod",
    ];
    if numeric.contains(&name) {
        return integer(value).map_or(Value::Null, Value::from);
    }
    truth(value).map_or_else(|| value.clone(), Value::from)
}

pub(super) fn modify(world: &mut World, request: &Request) -> Reply {
    let (id, instance) = found(world, request)?;
    let instance = instance.clone();
    let status = instance["DBInstanceStatus"].as_str().unwrap_or_default();
    if !matches!(status, "available" | "storage-full" | "incompatible-parameters") {
        let message = format!(
            "Database instance is not in available state. Instance {id} is currently {status}"
        );
        return Err(Failure::new("InvalidDBInstanceState", message));
    }
    if !instance["_busy_until"].is_null() && instance["_busy_until"].as_u64() > Some(request.now.0)
    {
        let message = format!(
            "Database instance {id} is not currently in the available state; try your request later"
        );
        return Err(Failure::new("InvalidDBInstanceState", message));
    }
    let given = request.params.as_object().cloned().unwrap_or_default();
    if given.keys().all(|name| name == "DBInstanceIdentifier" || name == "ApplyImmediately") {
        return Err(combination("No modifications were requested"));
    }
    check_settings(world, request)?;
    let replica = !instance["ReadReplicaSourceDBInstanceIdentifier"].is_null();
    if replica && request.has("MasterUserPassword") {
        return Err(combination(
            "Cannot change master user password on an RDS postgres Read Replica because it uses physical replication and therefore cannot have users differing from the source DB instance.",
        ));
    }
    let retention = request.number("BackupRetentionPeriod");
    let has_replicas =
        instance["ReadReplicaDBInstanceIdentifiers"]["ReadReplicaDBInstanceIdentifier"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
    if retention == Some(0) && has_replicas {
        return Err(combination(
            "Backups cannot be disabled: the instance is a source of read replicas",
        ));
    }
    check_growth(&instance, request)?;
    let version = match request.text("EngineVersion") {
        Some(given) => Some(upgrade_to(&instance, given)?),
        None => None,
    };
    if let Some(version) = version {
        replicas_first(world, &instance, version)?;
    }
    let immediately = request.flag("ApplyImmediately").unwrap_or(false);
    let mut pending = instance["PendingModifiedValues"].as_object().cloned().unwrap_or_default();
    for (member, shown) in DEFERRABLE {
        if request.has(member) {
            let value = if *member == "EngineVersion" {
                version.into()
            } else {
                typed(member, request.get(member))
            };
            let value = if *member == "MasterUserPassword" { "****".into() } else { value };
            if instance[*shown] == value {
                pending.shift_remove(*shown);
            } else {
                pending.insert((*shown).to_owned(), value);
            }
        }
    }
    let old = instance["BackupRetentionPeriod"].as_i64().unwrap_or(0);
    let mut prompt = Map::new();
    if let Some(days) = retention {
        if (old == 0) == (days == 0) {
            prompt.insert("BackupRetentionPeriod".into(), days.into());
        } else {
            pending.insert("BackupRetentionPeriod".into(), days.into());
        }
    }
    for member in PROMPT {
        if request.has(member) {
            prompt.insert((*member).to_owned(), typed(member, request.get(member)));
        }
    }
    let slow = ["MonitoringInterval", "PubliclyAccessible"]
        .iter()
        .any(|member| prompt.get(*member).is_some_and(|new| *new != instance[*member]));
    let more = others(world, request, &instance)?;
    let takes_time = slow || more.takes_time;
    prompt.extend(more.prompt);
    // A port is changed at once, whatever ApplyImmediately says (RDS API reference, ModifyDBInstance).
    let port = request.number("DBPortNumber").filter(|port| instance["_port"] != *port);
    let has_pending = !pending.is_empty();
    let class = pending.contains_key("DBInstanceClass");
    let record =
        world.get_mut(&request.region, INSTANCE, &id).ok_or_else(|| missing_instance(&id))?;
    record["PendingModifiedValues"] = Value::Object(pending);
    if let Some(port) = port {
        record["PendingModifiedValues"]["Port"] = port.into();
    }
    if !request.get("MasterUserPassword").is_null() {
        record["_password"] = request.get("MasterUserPassword").clone();
    }
    if let Some(into) = record.as_object_mut() {
        into.extend(prompt);
    }
    if request.has("DBParameterGroupName")
        && request
            .get("DBParameterGroupName")
            .as_str()
            .is_none_or(|name| super::group_of(&instance) != name)
    {
        attach(world, request, &id);
    }
    if has_pending && immediately {
        let seconds = if class { DB_MODIFY_CLASS } else { DB_MODIFY };
        busy(world, &request.region, &id, "modifying", seconds);
        world.after(DB_STATUS_LAG + seconds, &request.region, &id, apply_pending);
    } else if port.is_some() {
        busy(world, &request.region, &id, "modifying", DB_MODIFY);
        world.after(DB_STATUS_LAG + DB_MODIFY, &request.region, &id, apply_port);
    } else if takes_time {
        busy(world, &request.region, &id, "modifying", DB_MODIFY);
    }
    if has_pending && !immediately {
        let seconds = until_window(&instance, request.now);
        world.after(seconds, &request.region, &id, apply_pending);
    }
    let record = &world.table(&request.region, INSTANCE)[&id];
    answer(record)
}

/// Settings with rules of their own.
struct Others {
    prompt: Map<String, Value>,
    takes_time: bool,
}

fn others(world: &World, request: &Request, instance: &Value) -> Result<Others, Failure> {
    let mut prompt = Map::new();
    let mut takes_time = false;
    if request.has("VpcSecurityGroupIds") {
        let all: Vec<_> = request
            .texts("VpcSecurityGroupIds")
            .into_iter()
            .map(|id| json!({"VpcSecurityGroupId": id, "Status": "active"}))
            .collect();
        prompt.insert("VpcSecurityGroups".into(), json!({"VpcSecurityGroupMembership": all}));
    }
    if let Some(on) = request.flag("EnablePerformanceInsights") {
        takes_time |= instance["PerformanceInsightsEnabled"] != on;
        prompt.insert("PerformanceInsightsEnabled".into(), on.into());
        if on && instance["PerformanceInsightsKMSKeyId"].is_null() {
            let key = request
                .text("PerformanceInsightsKMSKeyId")
                .ok_or_else(|| invalid("the sandbox has no aws/rds key; name your own"))?;
            prompt.insert(
                "PerformanceInsightsKMSKeyId".into(),
                granted_key(world, request, key)?.into(),
            );
            prompt.entry("PerformanceInsightsRetentionPeriod").or_insert_with(|| {
                request.number("PerformanceInsightsRetentionPeriod").unwrap_or(7).into()
            });
        } else if !on {
            prompt.insert("PerformanceInsightsKMSKeyId".into(), Value::Null);
            prompt.insert("PerformanceInsightsRetentionPeriod".into(), Value::Null);
        }
    }
    let exports = request.get("CloudwatchLogsExportConfiguration");
    if !exports.is_null() {
        let mut all = texts(&instance["EnabledCloudwatchLogsExports"]["member"]);
        let off = texts(&exports["DisableLogTypes"]);
        all.retain(|one| !off.contains(one));
        all.extend(texts(&exports["EnableLogTypes"]));
        all.sort();
        all.dedup();
        takes_time = true;
        prompt.insert("EnabledCloudwatchLogsExports".into(), json!({"member": all}));
    }
    Ok(Others { prompt, takes_time })
}

fn check_growth(instance: &Value, request: &Request) -> Result<(), Failure> {
    let old = instance["AllocatedStorage"].as_i64().unwrap_or(0);
    if let Some(new) = request.number("AllocatedStorage") {
        if new < old {
            return Err(combination(format!(
                "Invalid storage size: {new}. Allocated storage can't be reduced from {old}"
            )));
        }
        if new != old && new * 100 < old * 110 {
            return Err(combination(format!(
                "Invalid storage size: must be at least 10% more than the current {old}"
            )));
        }
    }
    if request.has("StorageType") || request.has("AllocatedStorage") || request.has("Iops") {
        let kind =
            request.text("StorageType").or(instance["StorageType"].as_str()).unwrap_or("gp3");
        let gib = request.number("AllocatedStorage").unwrap_or(old);
        check_storage(kind, gib, request.number("Iops"), request.number("MaxAllocatedStorage"))?;
    }
    Ok(())
}

fn upgrade_to(instance: &Value, given: &str) -> Result<&'static str, Failure> {
    let current = instance["EngineVersion"].as_str().unwrap_or_default();
    let version = catalog::resolve_version(given).ok_or_else(|| {
        combination(format!("Cannot find upgrade path from {current} to {given}."))
    })?;
    let place = |text: &str| catalog::VERSIONS.iter().position(|one| *one == text);
    if place(version) < place(current) {
        return Err(combination(format!("Cannot upgrade postgres from {current} to {version}")));
    }
    if version.split('.').next() != current.split('.').next() {
        return Err(invalid(
            "The AllowMajorVersionUpgrade flag must be present when upgrading to a new major version.",
        ));
    }
    Ok(version)
}

/// A source is upgraded after its replicas.
fn replicas_first(world: &World, source: &Value, version: &str) -> Result<(), Failure> {
    let place = |text: &str| catalog::VERSIONS.iter().position(|one| *one == text);
    let replicas =
        texts(&source["ReadReplicaDBInstanceIdentifiers"]["ReadReplicaDBInstanceIdentifier"]);
    let behind = replicas.iter().filter_map(|arn| super::split_arn(arn)).any(|(region, id)| {
        let replica = world.get(&region, INSTANCE, &id);
        let its = replica.and_then(|one| one["EngineVersion"].as_str()).unwrap_or_default();
        place(its) < place(version)
    });
    if behind {
        let message = "One or more of the DB Instance's read replicas need to be upgraded";
        return Err(Failure::new("DBUpgradeDependencyFailure", message));
    }
    Ok(())
}

/// The new group's name shows at once; its values come with the next reboot.
fn attach(world: &mut World, request: &Request, id: &str) {
    let Some(instance) = world.get_mut(&request.region, INSTANCE, id) else { return };
    instance["DBParameterGroups"] = json!({"DBParameterGroup": [{"DBParameterGroupName": request.get("DBParameterGroupName"), "ParameterApplyStatus": "applying"}]});
    busy(world, &request.region, id, "modifying", PARAMETER_GROUP_APPLYING);
    world.after(PARAMETER_GROUP_APPLYING, &request.region, id, |world, region, id| {
        parameters::set_apply_status(world, region, id, "pending-reboot");
    });
}

/// A new port comes with a restart, and with nothing else that waits.
fn apply_port(world: &mut World, region: &str, id: &str) {
    let Some(instance) = world.get_mut(region, INSTANCE, id) else { return };
    let pending = instance["PendingModifiedValues"].take();
    instance["PendingModifiedValues"] = json!({"Port": pending["Port"]});
    apply_pending(world, region, id);
    if let (Some(instance), Some(mut rest)) =
        (world.get_mut(region, INSTANCE, id), pending.as_object().cloned())
    {
        rest.shift_remove("Port");
        instance["PendingModifiedValues"] = Value::Object(rest);
    }
}

fn apply_pending(world: &mut World, region: &str, id: &str) {
    let Some(instance) = world.get_mut(region, INSTANCE, id) else { return };
    let pending = instance["PendingModifiedValues"].as_object().cloned().unwrap_or_default();
    let restarts = ["DBInstanceClass", "EngineVersion", "CACertificateIdentifier", "Port"]
        .iter()
        .any(|name| pending.contains_key(*name));
    for (name, value) in pending {
        match name.as_str() {
            "MasterUserPassword" => {}
            "Port" => {
                // What is made of it from now on has the new one as well.
                instance["_port"] = value.clone();
                instance["Endpoint"]["Port"] = value;
            }
            _ => instance[&name] = value,
        }
    }
    instance["PendingModifiedValues"] = json!({});
    if instance["MultiAZ"] == true && instance["SecondaryAvailabilityZone"].is_null() {
        let zones =
            instance["DBSubnetGroup"]["Subnets"]["Subnet"].as_array().cloned().unwrap_or_default();
        instance["SecondaryAvailabilityZone"] =
            zones.last().map_or(Value::Null, |one| one["SubnetAvailabilityZone"]["Name"].clone());
    }
    if restarts {
        restart(world, region, id);
    }
    flush_logs(world, region, id);
}

/// Seconds until the maintenance window begins.
fn until_window(instance: &Value, now: crate::Time) -> u64 {
    let window = instance["PreferredMaintenanceWindow"].as_str().unwrap_or("sun:10:00-sun:10:30");
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let day = days.iter().position(|day| window.starts_with(day)).unwrap_or(6) as u64;
    let hour: u64 = window.get(4..6).and_then(|text| text.parse().ok()).unwrap_or(10);
    let minute: u64 = window.get(7..9).and_then(|text| text.parse().ok()).unwrap_or(0);
    let (weekday, passed) = now.weekday_and_minute();
    let (at, from) = (day * 1440 + hour * 60 + minute, weekday * 1440 + passed);
    ((at + 7 * 1440 - from - 1) % (7 * 1440) + 1) * 60
}

fn restart(world: &mut World, region: &str, id: &str) {
    let started = parameters::start_with(world, region, id);
    if let Some(instance) = world.get_mut(region, INSTANCE, id).filter(|_| started.is_err()) {
        instance["DBInstanceStatus"] = "incompatible-parameters".into();
    }
}

pub(super) fn reboot(world: &mut World, request: &Request) -> Reply {
    let (id, instance) = found(world, request)?;
    let status = instance["DBInstanceStatus"].as_str().unwrap_or_default();
    let waiting = instance["_busy_until"].as_u64() > Some(request.now.0);
    if !matches!(status, "available" | "incompatible-parameters") || waiting {
        let message = format!(
            "Instance {id} is not currently in the available state; try your request later"
        );
        return Err(Failure::new("InvalidDBInstanceState", message));
    }
    if request.flag("ForceFailover") == Some(true) && instance["MultiAZ"] != true {
        return Err(combination(
            "Cannot force failover since the DB instance is not configured for Multi-AZ",
        ));
    }
    let record =
        world.get_mut(&request.region, INSTANCE, &id).ok_or_else(|| missing_instance(&id))?;
    record["DBInstanceStatus"] = "rebooting".into();
    record["_busy_until"] = request.now.plus_seconds(DB_REBOOT).0.into();
    world.after(DB_REBOOT, &request.region, &id, |world, region, id| {
        if let Some(instance) =
            world.get_mut(region, INSTANCE, id).filter(|one| one["DBInstanceStatus"] == "rebooting")
        {
            instance["DBInstanceStatus"] = "available".into();
            restart(world, region, id);
            happened(world, region, id, "availability", "RDS-EVENT-0006", "DB instance restarted");
        }
    });
    if request.flag("ForceFailover") == Some(true) {
        fail_over(world, &request.region, &id);
    }
    answer(&world.table(&request.region, INSTANCE)[&id])
}

/// The standby in the other zone takes over.
fn fail_over(world: &mut World, region: &str, id: &str) {
    happened(
        world,
        region,
        id,
        "failover",
        "RDS-EVENT-0013",
        "Multi-AZ instance failover started.",
    );
    if let Some(instance) = world.get_mut(region, INSTANCE, id) {
        let zone = instance["AvailabilityZone"].take();
        instance["AvailabilityZone"] = instance["SecondaryAvailabilityZone"].take();
        instance["SecondaryAvailabilityZone"] = zone;
    }
    world.after(DB_REBOOT, region, id, |world, region, id| {
        happened(
            world,
            region,
            id,
            "failover",
            "RDS-EVENT-0049",
            "Multi-AZ instance failover completed",
        );
    });
}

pub(super) fn promote(world: &mut World, request: &Request) -> Reply {
    let (id, instance) = found(world, request)?;
    if instance["ReadReplicaSourceDBInstanceIdentifier"].is_null() {
        let message = format!("DB Instance {id} is not a read replica.");
        return Err(Failure::new("InvalidDBInstanceState", message));
    }
    if instance["DBInstanceStatus"] != "available"
        || instance["_busy_until"].as_u64() > Some(request.now.0)
    {
        let message = format!("DB Instance {id} is not in an available state.");
        return Err(Failure::new("InvalidDBInstanceState", message));
    }
    check_settings(world, request)?;
    let retention = request.number("BackupRetentionPeriod").unwrap_or(1);
    let record =
        world.get_mut(&request.region, INSTANCE, &id).ok_or_else(|| missing_instance(&id))?;
    record["PendingModifiedValues"] = json!({"BackupRetentionPeriod": retention});
    if let Some(window) = request.text("PreferredBackupWindow") {
        record["PreferredBackupWindow"] = window.into();
    }
    busy(world, &request.region, &id, "modifying", DB_PROMOTE);
    world.after(DB_STATUS_LAG + DB_PROMOTE, &request.region, &id, |world, region, id| {
        cut_from_source(world, region, id);
        if let Some(instance) = world.get_mut(region, INSTANCE, id) {
            stand_alone(instance);
        }
        apply_pending(world, region, id);
    });
    answer(&world.table(&request.region, INSTANCE)[&id])
}

/// It follows nobody any more.
fn stand_alone(instance: &mut Value) {
    for member in ["ReadReplicaSourceDBInstanceIdentifier", "StatusInfos", "_source"] {
        instance[member] = Value::Null;
    }
}

/// The source forgets its replica.
fn cut_from_source(world: &mut World, region: &str, id: &str) {
    let Some(instance) = world.get(region, INSTANCE, id) else { return };
    let instance = instance.clone();
    let (source, arn) = (instance["_source"].clone(), instance["DBInstanceArn"].clone());
    let Some((region, id)) = super::split_arn(source.as_str().unwrap_or_default()) else { return };
    let Some(source) = world.get_mut(&region, INSTANCE, &id) else { return };
    if let Some(all) =
        source["ReadReplicaDBInstanceIdentifiers"]["ReadReplicaDBInstanceIdentifier"].as_array_mut()
    {
        let id = instance["DBInstanceIdentifier"].clone();
        all.retain(|one| *one != arn && *one != id);
    }
}

pub(super) fn delete(world: &mut World, request: &Request) -> Reply {
    let (id, instance) = found(world, request)?;
    let status = instance["DBInstanceStatus"].as_str().unwrap_or_default().to_owned();
    if status == "deleting" {
        let message = format!("Instance {id} is already being deleted.");
        return Err(Failure::new("InvalidDBInstanceState", message));
    }
    if instance["DeletionProtection"] == true {
        return Err(combination(
            "Cannot delete protected DB Instance, please disable deletion protection and try again.",
        ));
    }
    if request.flag("DeleteAutomatedBackups") == Some(false) {
        let message = "the sandbox keeps no automated backups of deleted instances";
        return Err(Failure { status: 501, ..Failure::new("NotImplemented", message) });
    }
    let skip = request.flag("SkipFinalSnapshot").unwrap_or(false);
    let snapshot = request.text("FinalDBSnapshotIdentifier").map(str::to_owned);
    let replica = !instance["ReadReplicaSourceDBInstanceIdentifier"].is_null();
    match (&snapshot, skip) {
        (Some(_), true) => {
            return Err(combination(
                "FinalDBSnapshotIdentifier can not be specified when SkipFinalSnapshot is true",
            ));
        }
        (Some(_), false) if replica => {
            return Err(combination(
                "FinalDBSnapshotIdentifier can not be specified when deleting a replica instance",
            ));
        }
        (None, false) => {
            return Err(combination(
                "FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified.",
            ));
        }
        (Some(name), false) => {
            if status != "available" {
                let message = format!(
                    "Cannot create a snapshot because the database instance {id} is not currently in the available state."
                );
                return Err(Failure::new("InvalidDBInstanceState", message));
            }
            if world.get(&request.region, SNAPSHOT, name).is_some() {
                let message = format!(
                    "Cannot create the snapshot because a snapshot with the identifier {name} already exists."
                );
                return Err(Failure::new("DBSnapshotAlreadyExists", message));
            }
            super::check_name(name, "FinalDBSnapshotIdentifier", 255)?;
        }
        (None, true) => {}
    }
    let instance = instance.clone();
    if let Some(name) = &snapshot {
        snapshots::put(world, &request.region, name, "manual", &instance);
    }
    let record =
        world.get_mut(&request.region, INSTANCE, &id).ok_or_else(|| missing_instance(&id))?;
    record["DBInstanceStatus"] = "deleting".into();
    let seconds = DB_DELETE + if snapshot.is_some() { DB_FINAL_SNAPSHOT } else { 0 };
    world.after(seconds, &request.region, &id, |world, region, id| {
        // The last lines of the log arrive late, and make the group again if it was deleted too early.
        flush_logs(world, region, id);
        cut_from_source(world, region, id);
        let gone = world.remove(region, INSTANCE, id);
        let gone = gone.unwrap_or_default();
        events::lose(world, region, id);
        snapshots::forget(world, region, id);
        orphan_replicas(world, &gone);
        backups::retain_all(world, &gone["DBInstanceArn"]);
    });
    answer(&world.table(&request.region, INSTANCE)[&id])
}

/// Replicas in other regions are left alone with their data (aws-facts 0.11); those in the same one are
/// promoted (RDS guide, "Deleting a DB instance that has read replicas").
fn orphan_replicas(world: &mut World, gone: &Value) {
    let replicas =
        texts(&gone["ReadReplicaDBInstanceIdentifiers"]["ReadReplicaDBInstanceIdentifier"]);
    let own = gone["DBInstanceArn"].as_str().and_then(super::split_arn).unwrap_or_default().0;
    for one in replicas {
        let is_local = super::split_arn(&one).is_none();
        let (region, id) = super::split_arn(&one).unwrap_or_else(|| (own.clone(), one));
        let Some(replica) = world.get_mut(&region, INSTANCE, &id) else { continue };
        if is_local {
            stand_alone(replica);
        } else {
            super::set_replication(replica, "terminated", "the source is gone");
        }
    }
}
