//! Automated backups replicated into another region.

use serde_json::{Value, json};

use super::{BACKUP, INSTANCE, split_arn};
use crate::{
    durations::{BACKUP_REPLICATION_START, BACKUP_REPLICATION_STOP},
    request::{Failure, Reply, Request},
    services::{kms, page},
    world::{World, shown, tag_map},
};

/// The source of a replication, called for from the destination region.
fn source(world: &World, request: &Request) -> Result<(String, String), Failure> {
    let arn = request.required("SourceDBInstanceArn")?;
    let missing = || Failure::new("DBInstanceNotFound", format!("DBInstance {arn} not found."));
    let (region, id) = split_arn(arn).ok_or_else(missing)?;
    world.get(&region, INSTANCE, &id).ok_or_else(missing)?;
    Ok((region, id))
}

pub(super) fn start(world: &mut World, request: &Request) -> Reply {
    let arn = request.required("SourceDBInstanceArn")?.to_owned();
    let (region, id) = source(world, request)?;
    if region == request.region {
        let message = "The source region and the destination region must be different.";
        return Err(Failure::new("InvalidParameterValue", message));
    }
    let instance = world.table(&region, INSTANCE)[&id].clone();
    if instance["DBInstanceStatus"] != "available" {
        let message = format!(
            "The DB instance {id} must be in the available state to start replicating automated backups."
        );
        return Err(Failure::new("InvalidDBInstanceState", message));
    }
    if instance["BackupRetentionPeriod"].as_i64().unwrap_or(0) == 0 {
        let message = "Automated backups are not enabled for the source DB instance.";
        return Err(Failure::new("InvalidDBInstanceState", message));
    }
    if world
        .table(&request.region, BACKUP)
        .values()
        .any(|one| one["DBInstanceArn"] == arn.as_str() && one["Status"] != "retained")
    {
        let message = "Automated backups are already being replicated to this region.";
        return Err(Failure::new("InvalidDBInstanceAutomatedBackupState", message));
    }
    if world.table(&request.region, BACKUP).len() >= 20 {
        return Err(Failure::new(
            "DBInstanceAutomatedBackupQuotaExceeded",
            "The quota for retained automated backups was exceeded.",
        ));
    }
    let encrypted = instance["StorageEncrypted"] == true;
    let key = match request.text("KmsKeyId") {
        None if encrypted => {
            return Err(Failure::new(
                "InvalidParameterValue",
                "Encrypted instances require a valid KMS key ID",
            ));
        }
        None => None,
        Some(key) => Some(super::granted_key(world, request, key)?),
    };
    let retention = request.number("BackupRetentionPeriod").unwrap_or(7);
    if !(1..=35).contains(&retention) {
        return Err(Failure::new(
            "InvalidParameterValue",
            "Backup retention period must be between 1 and 35",
        ));
    }
    let backup = request.arn("rds", &format!("auto-backup:ab-{}", &world.digest()[..26]));
    let record = json!({
        "DBInstanceArn": arn, "DbiResourceId": instance["DbiResourceId"], "Region": region, "DBInstanceIdentifier": id,
        "AllocatedStorage": instance["AllocatedStorage"], "Status": "pending", "Port": instance["DbInstancePort"],
        "InstanceCreateTime": instance["InstanceCreateTime"], "MasterUsername": instance["MasterUsername"],
        "Engine": "postgres", "EngineVersion": instance["EngineVersion"], "Encrypted": encrypted, "KmsKeyId": key,
        "StorageType": instance["StorageType"], "BackupRetentionPeriod": retention, "BackupTarget": "region",
        "DBInstanceAutomatedBackupsArn": backup, "_arn": backup, "_origin": instance.clone(),
        "_tags": tag_map(request.get("Tags"), "Key", "Value"),
    });
    world.put(&request.region, BACKUP, &backup, record.clone());
    mark_source(world, &region, &id, &backup, true);
    world.after(BACKUP_REPLICATION_START, &request.region, &backup, |world, region, id| {
        if let Some(backup) =
            world.get_mut(region, BACKUP, id).filter(|one| one["Status"] == "pending")
        {
            backup["Status"] = "Replicating".into();
            backup["RestoreWindow"] = json!({});
        }
    });
    Ok(json!({"DBInstanceAutomatedBackup": shown(&record)}))
}

fn mark_source(world: &mut World, region: &str, id: &str, backup: &str, present: bool) {
    let Some(instance) = world.get_mut(region, INSTANCE, id) else { return };
    let list = &mut instance["DBInstanceAutomatedBackupsReplications"]["DBInstanceAutomatedBackupsReplication"];
    let mut all = list.as_array().cloned().unwrap_or_default();
    all.retain(|one| one["DBInstanceAutomatedBackupsArn"] != backup);
    if present {
        all.push(json!({"DBInstanceAutomatedBackupsArn": backup}));
    }
    *list = all.into();
}

/// Replication ends; what was replicated stays, retained and paid for.
pub(super) fn stop(world: &mut World, request: &Request) -> Reply {
    let arn = request.required("SourceDBInstanceArn")?.to_owned();
    let (region, id) = source(world, request)?;
    let found = world
        .table(&request.region, BACKUP)
        .iter()
        .find(|(_, one)| one["DBInstanceArn"] == arn.as_str() && one["Status"] != "retained");
    let Some((backup, _)) = found else {
        let message = format!("The DB instance {id} is not replicating to the current region.");
        return Err(Failure::new("InvalidDBInstanceState", message));
    };
    let backup = backup.clone();
    let status = world.table(&region, INSTANCE)[&id]["DBInstanceStatus"].clone();
    if status == "deleting" || status == "creating" {
        let message = format!("Database instance {id} is not in the available state.");
        return Err(Failure::new("InvalidDBInstanceState", message));
    }
    if let Some(record) = world.get_mut(&request.region, BACKUP, &backup) {
        record["Status"] = "retained".into();
    }
    mark_source(world, &region, &id, &backup, false);
    super::busy(world, &region, &id, "modifying", BACKUP_REPLICATION_STOP);
    Ok(json!({"DBInstanceAutomatedBackup": shown(&world.table(&request.region, BACKUP)[&backup])}))
}

/// What was replicated of an instance that is gone stays, retained.
pub(super) fn retain_all(world: &mut World, instance: &Value) {
    let mut sent: Vec<(String, String)> = Vec::new();
    for (region, _, table) in world.tables().filter(|(_, kind, _)| *kind == BACKUP) {
        let of = table.iter().filter(|(_, one)| one["DBInstanceArn"] == *instance);
        sent.extend(of.map(|(id, _)| (region.to_owned(), id.clone())));
    }
    for (region, id) in sent {
        if let Some(backup) = world.get_mut(&region, BACKUP, &id) {
            backup["Status"] = "retained".into();
        }
    }
}

/// A region's own backups besides those that it is sent.
pub(super) fn describe(world: &mut World, request: &Request) -> Reply {
    let own = world
        .table(&request.region, INSTANCE)
        .iter()
        .filter(|(_, one)| one["BackupRetentionPeriod"].as_i64() > Some(0));
    let own = own.map(|(id, one)| {
        json!({
            "DBInstanceArn": one["DBInstanceArn"], "DbiResourceId": one["DbiResourceId"], "Region": request.region,
            "DBInstanceIdentifier": id, "Status": "active", "Engine": "postgres", "EngineVersion": one["EngineVersion"],
            "Encrypted": one["StorageEncrypted"], "KmsKeyId": one["KmsKeyId"], "BackupRetentionPeriod": one["BackupRetentionPeriod"],
        })
    });
    let sent = world.table(&request.region, BACKUP).values().map(shown);
    let fits = |one: &Value| {
        ["DbiResourceId", "DBInstanceIdentifier", "DBInstanceAutomatedBackupsArn"]
            .iter()
            .all(|member| !request.has(member) || request.get(member) == &one[*member])
    };
    let all: Vec<Value> = own.chain(sent).filter(fits).collect();
    let missing = request.has("DBInstanceAutomatedBackupsArn") || request.has("DbiResourceId");
    if all.is_empty() && missing {
        return Err(Failure::new(
            "DBInstanceAutomatedBackupNotFound",
            "No automated backup for this DB instance was found.",
        ));
    }
    let (items, next) = page(&all, request.text("Marker"), 100);
    Ok(json!({"DBInstanceAutomatedBackups": {"DBInstanceAutomatedBackup": items}, "Marker": next}))
}

pub(super) fn delete(world: &mut World, request: &Request) -> Reply {
    let arn = request.required("DBInstanceAutomatedBackupsArn")?;
    let record = world.get(&request.region, BACKUP, arn).ok_or_else(|| {
        Failure::new(
            "DBInstanceAutomatedBackupNotFound",
            "No automated backup for this DB instance was found.",
        )
    })?;
    if record["Status"] != "retained" {
        let message = "Only retained automated backups can be deleted. Stop the replication first.";
        return Err(Failure::new("InvalidDBInstanceAutomatedBackupState", message));
    }
    let record = world.remove(&request.region, BACKUP, arn).unwrap_or_default();
    Ok(json!({"DBInstanceAutomatedBackup": shown(&record)}))
}

/// Whether a key still protects backups or instances.
pub(super) fn usable_key(world: &World, region: &str, key: &str) -> Option<String> {
    kms::usable_arn(world, region, key)
}
