//! RDS for PostgreSQL.

mod backups;
mod catalog;
mod engine;
mod events;
mod instances;
mod model;
mod modify;
mod parameters;
mod restores;
mod snapshots;
mod subnets;

use serde_json::{Value, json};

use super::{Operation, Service, any, kms, op};
use crate::{
    durations::DB_STATUS_LAG,
    iam::Need,
    request::{Failure, Reply, Request},
    wire::Protocol,
    world::{World, tag_list, tag_map, tags},
};

pub(crate) const SERVICE: Service = Service {
    name: "rds",
    protocol: Protocol::Query,
    namespace: "http://rds.amazonaws.com/doc/2014-10-31/",
    global: false,
    operations: OPERATIONS,
};

const INSTANCE: &str = "db-instance";
const SUBNET_GROUP: &str = "db-subnet-group";
const PARAMETER_GROUP: &str = "db-parameter-group";
const BACKUP: &str = "db-automated-backup";
const SNAPSHOT: &str = "db-snapshot";

pub(crate) use engine::{Origin, Wanted, evaluated};
pub(crate) use events::publish_metrics;
pub use model::{SessionView, Source, Visitor};

const OPERATIONS: &[Operation] = &[
    op(
        "CreateDBInstance",
        "DBInstanceIdentifier DBInstanceClass Engine EngineVersion AllocatedStorage MaxAllocatedStorage StorageType Iops StorageThroughput MasterUsername MasterUserPassword ManageMasterUserPassword DBName Port MultiAZ KmsKeyId StorageEncrypted VpcSecurityGroupIds DBSubnetGroupName DBParameterGroupName BackupRetentionPeriod PreferredBackupWindow PreferredMaintenanceWindow AutoMinorVersionUpgrade PubliclyAccessible CopyTagsToSnapshot MonitoringInterval MonitoringRoleArn EnablePerformanceInsights PerformanceInsightsKMSKeyId PerformanceInsightsRetentionPeriod EnableCloudwatchLogsExports DeletionProtection CACertificateIdentifier EngineLifecycleSupport Tags",
        on_new_instance,
        instances::create,
    ),
    op(
        "CreateDBInstanceReadReplica",
        "DBInstanceIdentifier SourceDBInstanceIdentifier DBInstanceClass AvailabilityZone Port MultiAZ AutoMinorVersionUpgrade Iops StorageThroughput StorageType MaxAllocatedStorage PubliclyAccessible Tags DBSubnetGroupName VpcSecurityGroupIds CopyTagsToSnapshot MonitoringInterval MonitoringRoleArn KmsKeyId PreSignedUrl EnablePerformanceInsights PerformanceInsightsKMSKeyId PerformanceInsightsRetentionPeriod EnableCloudwatchLogsExports DeletionProtection DBParameterGroupName CACertificateIdentifier",
        on_replica,
        instances::create_replica,
    ),
    op(
        "DescribeDBInstances",
        "DBInstanceIdentifier Filters MaxRecords Marker",
        |_, request| {
            let id = request.text("DBInstanceIdentifier").unwrap_or("*");
            vec![Need::new("", request.arn("rds", &format!("db:{id}")))]
        },
        instances::describe,
    ),
    op(
        "ModifyDBInstance",
        "DBInstanceIdentifier AllocatedStorage MaxAllocatedStorage DBInstanceClass VpcSecurityGroupIds ApplyImmediately MasterUserPassword ManageMasterUserPassword DBParameterGroupName BackupRetentionPeriod PreferredBackupWindow PreferredMaintenanceWindow MultiAZ EngineVersion AutoMinorVersionUpgrade Iops StorageThroughput StorageType CopyTagsToSnapshot MonitoringInterval MonitoringRoleArn DBPortNumber PubliclyAccessible EnablePerformanceInsights PerformanceInsightsKMSKeyId PerformanceInsightsRetentionPeriod CloudwatchLogsExportConfiguration DeletionProtection CACertificateIdentifier",
        on_instance_and_groups,
        modify::modify,
    ),
    op("RebootDBInstance", "DBInstanceIdentifier ForceFailover", on_instance, modify::reboot),
    op(
        "PromoteReadReplica",
        "DBInstanceIdentifier BackupRetentionPeriod PreferredBackupWindow",
        on_instance,
        modify::promote,
    ),
    op(
        "DeleteDBInstance",
        "DBInstanceIdentifier SkipFinalSnapshot FinalDBSnapshotIdentifier DeleteAutomatedBackups",
        on_instance_that_ends,
        modify::delete,
    ),
    op(
        "CreateDBSubnetGroup",
        "DBSubnetGroupName DBSubnetGroupDescription SubnetIds Tags",
        |world, request| on(world, request, "DBSubnetGroupName", "subgrp", SUBNET_GROUP),
        subnets::create,
    ),
    op(
        "DescribeDBSubnetGroups",
        "DBSubnetGroupName MaxRecords Marker",
        |world, request| on(world, request, "DBSubnetGroupName", "subgrp", SUBNET_GROUP),
        subnets::describe,
    ),
    op(
        "ModifyDBSubnetGroup",
        "DBSubnetGroupName DBSubnetGroupDescription SubnetIds",
        |world, request| on(world, request, "DBSubnetGroupName", "subgrp", SUBNET_GROUP),
        subnets::modify,
    ),
    op(
        "DeleteDBSubnetGroup",
        "DBSubnetGroupName",
        |world, request| on(world, request, "DBSubnetGroupName", "subgrp", SUBNET_GROUP),
        subnets::delete,
    ),
    op(
        "CreateDBParameterGroup",
        "DBParameterGroupName DBParameterGroupFamily Description Tags",
        |world, request| on(world, request, "DBParameterGroupName", "pg", PARAMETER_GROUP),
        parameters::create,
    ),
    op(
        "DescribeDBParameterGroups",
        "DBParameterGroupName MaxRecords Marker",
        |world, request| on(world, request, "DBParameterGroupName", "pg", PARAMETER_GROUP),
        parameters::describe_groups,
    ),
    op(
        "DescribeDBParameters",
        "DBParameterGroupName Source MaxRecords Marker",
        |world, request| on(world, request, "DBParameterGroupName", "pg", PARAMETER_GROUP),
        parameters::describe,
    ),
    op(
        "DescribeEngineDefaultParameters",
        "DBParameterGroupFamily MaxRecords Marker",
        any,
        parameters::describe_defaults,
    ),
    op(
        "ModifyDBParameterGroup",
        "DBParameterGroupName Parameters",
        |world, request| on(world, request, "DBParameterGroupName", "pg", PARAMETER_GROUP),
        parameters::modify,
    ),
    op(
        "ResetDBParameterGroup",
        "DBParameterGroupName ResetAllParameters Parameters",
        |world, request| on(world, request, "DBParameterGroupName", "pg", PARAMETER_GROUP),
        parameters::reset,
    ),
    op(
        "DeleteDBParameterGroup",
        "DBParameterGroupName",
        |world, request| on(world, request, "DBParameterGroupName", "pg", PARAMETER_GROUP),
        parameters::delete,
    ),
    op(
        "StartDBInstanceAutomatedBackupsReplication",
        "SourceDBInstanceArn BackupRetentionPeriod KmsKeyId Tags",
        on_new_backups,
        backups::start,
    ),
    op(
        "StopDBInstanceAutomatedBackupsReplication",
        "SourceDBInstanceArn",
        on_source,
        backups::stop,
    ),
    op(
        "DescribeDBInstanceAutomatedBackups",
        "DbiResourceId DBInstanceIdentifier DBInstanceAutomatedBackupsArn MaxRecords Marker",
        any,
        backups::describe,
    ),
    op(
        "DeleteDBInstanceAutomatedBackup",
        "DBInstanceAutomatedBackupsArn",
        |world, request| {
            let arn = request.text("DBInstanceAutomatedBackupsArn").unwrap_or("*");
            vec![Need::new("", arn).on(world.get(&request.region, BACKUP, arn))]
        },
        backups::delete,
    ),
    op(
        "DescribeDBSnapshots",
        "DBInstanceIdentifier DBSnapshotIdentifier SnapshotType MaxRecords Marker",
        any,
        snapshots::describe,
    ),
    op(
        "CopyDBSnapshot",
        "SourceDBSnapshotIdentifier TargetDBSnapshotIdentifier KmsKeyId CopyTags Tags",
        snapshots::on_copy,
        snapshots::copy,
    ),
    op(
        "DeleteDBSnapshot",
        "DBSnapshotIdentifier",
        |world, request| on(world, request, "DBSnapshotIdentifier", "snapshot", SNAPSHOT),
        snapshots::delete,
    ),
    op(
        "RestoreDBInstanceFromDBSnapshot",
        "DBInstanceIdentifier DBSnapshotIdentifier DBInstanceClass DBSubnetGroupName VpcSecurityGroupIds DBParameterGroupName MultiAZ PubliclyAccessible AutoMinorVersionUpgrade CopyTagsToSnapshot EngineLifecycleSupport Tags",
        restores::on_snapshot,
        restores::from_snapshot,
    ),
    op(
        "RestoreDBInstanceToPointInTime",
        "SourceDBInstanceIdentifier SourceDBInstanceAutomatedBackupsArn TargetDBInstanceIdentifier RestoreTime UseLatestRestorableTime DBInstanceClass DBSubnetGroupName VpcSecurityGroupIds DBParameterGroupName MultiAZ PubliclyAccessible AutoMinorVersionUpgrade CopyTagsToSnapshot EngineLifecycleSupport Tags",
        restores::on_moment,
        restores::to_moment,
    ),
    op(
        "DescribeDBEngineVersions",
        "Engine EngineVersion DefaultOnly MaxRecords Marker",
        any,
        catalog::describe_engine_versions,
    ),
    op(
        "DescribeOrderableDBInstanceOptions",
        "Engine EngineVersion DBInstanceClass Vpc MaxRecords Marker",
        any,
        catalog::describe_orderable,
    ),
    op(
        "CreateEventSubscription",
        "SubscriptionName SnsTopicArn SourceType EventCategories SourceIds Enabled Tags",
        on_subscription,
        events::create,
    ),
    op(
        "DescribeEventSubscriptions",
        "SubscriptionName MaxRecords Marker",
        on_subscription,
        events::describe,
    ),
    op(
        "ModifyEventSubscription",
        "SubscriptionName SnsTopicArn SourceType EventCategories Enabled",
        on_subscription,
        events::modify,
    ),
    op(
        "AddSourceIdentifierToSubscription",
        "SubscriptionName SourceIdentifier",
        on_subscription,
        events::add_source,
    ),
    op(
        "RemoveSourceIdentifierFromSubscription",
        "SubscriptionName SourceIdentifier",
        on_subscription,
        events::remove_source,
    ),
    op("DeleteEventSubscription", "SubscriptionName", on_subscription, events::delete),
    op(
        "DescribeEvents",
        "SourceIdentifier SourceType Duration EventCategories MaxRecords Marker",
        any,
        events::describe_events,
    ),
    op("AddTagsToResource", "ResourceName Tags", on_named, |world, request| {
        let new = tag_map(request.get("Tags"), "Key", "Value");
        let record = named(world, request)?;
        let mut all = tags(record);
        all.extend(new);
        record["_tags"] = Value::Object(all);
        Ok(Value::Null)
    }),
    op("RemoveTagsFromResource", "ResourceName TagKeys", on_named, |world, request| {
        let gone = request.texts("TagKeys");
        let record = named(world, request)?;
        let mut all = tags(record);
        all.retain(|key, _| !gone.contains(key));
        record["_tags"] = Value::Object(all);
        Ok(Value::Null)
    }),
    op("ListTagsForResource", "ResourceName", on_named, |world, request| {
        let record = named(world, request)?;
        Ok(json!({"TagList": {"Tag": tag_list(record, "Key", "Value")}}))
    }),
];

fn on_subscription(_: &World, request: &Request) -> Vec<Need> {
    let name = request.text("SubscriptionName").unwrap_or("*");
    vec![Need::new("", request.arn("rds", &format!("es:{name}")))]
}

fn on(
    world: &World,
    request: &Request,
    member: &str,
    prefix: &str,
    kind: &'static str,
) -> Vec<Need> {
    let name = request.text(member).unwrap_or("*").to_lowercase();
    let record = world.get(&request.region, kind, &name);
    vec![Need::new("", request.arn("rds", &format!("{prefix}:{name}"))).on(record)]
}

fn on_instance(world: &World, request: &Request) -> Vec<Need> {
    on(world, request, "DBInstanceIdentifier", "db", INSTANCE)
}

fn on_instance_and_groups(world: &World, request: &Request) -> Vec<Need> {
    let mut needs = on_instance(world, request);
    for (member, prefix, kind) in [
        ("DBSubnetGroupName", "subgrp", SUBNET_GROUP),
        ("DBParameterGroupName", "pg", PARAMETER_GROUP),
    ] {
        if request.has(member) {
            needs.extend(on(world, request, member, prefix, kind));
        }
    }
    if let Some(role) = request.text("MonitoringRoleArn") {
        needs.push(
            Need::new("iam:PassRole", role)
                .with("iam:PassedToService", "monitoring.rds.amazonaws.com"),
        );
    }
    needs
}

fn on_new_instance(world: &World, request: &Request) -> Vec<Need> {
    let mut needs = on_instance_and_groups(world, request);
    needs.extend(on_defaults(request, &Value::Null));
    needs
}

/// Whoever makes an instance may use the groups that it gets unasked as well: the option group always, and those of
/// its source or AWS's own (RDS guide, "Permission policies to create, modify and delete resources").
fn on_defaults(request: &Request, source: &Value) -> Vec<Need> {
    let mut arns = vec![request.arn("rds", "og:default:postgres-15")];
    if !request.has("DBSubnetGroupName") {
        let own = source["DBSubnetGroup"]["DBSubnetGroupName"].as_str().unwrap_or("default");
        arns.push(request.arn("rds", &format!("subgrp:{own}")));
    }
    if !request.has("DBParameterGroupName") {
        let own = &source["DBParameterGroups"]["DBParameterGroup"][0]["DBParameterGroupName"];
        let own = own.as_str().unwrap_or("default.postgres15");
        arns.push(request.arn("rds", &format!("pg:{own}")));
    }
    arns.into_iter().map(|arn| Need::new("", arn)).collect()
}

/// A policy must allow it on both instances (aws-facts 1.1).
fn on_replica(world: &World, request: &Request) -> Vec<Need> {
    let mut needs = on_instance_and_groups(world, request);
    let source = request.text("SourceDBInstanceIdentifier").unwrap_or_default();
    if source.starts_with("arn:") {
        needs.push(Need::new("", source));
        needs.extend(on_defaults(request, &Value::Null));
    } else {
        needs.push(Need::new("", request.arn("rds", &format!("db:{source}"))));
        let record = world.get(&request.region, INSTANCE, source);
        needs.extend(on_defaults(request, record.unwrap_or(&Value::Null)));
    }
    needs
}

/// A final snapshot is made by whoever removes the instance (Service Authorization Reference).
fn on_instance_that_ends(world: &World, request: &Request) -> Vec<Need> {
    let mut needs = on_instance(world, request);
    if let Some(name) = request.text("FinalDBSnapshotIdentifier") {
        let snapshot = request.arn("rds", &format!("snapshot:{name}"));
        // With CopyTagsToSnapshot, whoever does so tags the snapshot as well (announced in August 2024).
        let id = request.text("DBInstanceIdentifier").unwrap_or_default();
        let record = world.get(&request.region, INSTANCE, id);
        if record.is_some_and(|one| one["CopyTagsToSnapshot"] == true) {
            needs.push(Need::new("rds:AddTagsToResource", snapshot.clone()));
        }
        needs.push(Need::new("rds:CreateDBSnapshot", snapshot));
        needs.extend(on_instance(world, request).into_iter().map(|mut need| {
            need.action = "rds:CreateDBSnapshot".into();
            need
        }));
    }
    needs
}

/// What is made, whose id RDS draws, and the instance that it is made of (Service Authorization Reference).
fn on_new_backups(world: &World, request: &Request) -> Vec<Need> {
    let mut needs = vec![Need::new("", request.arn("rds", "auto-backup:*"))];
    needs.extend(on_source(world, request));
    needs
}

fn on_source(_: &World, request: &Request) -> Vec<Need> {
    vec![Need::new("", request.text("SourceDBInstanceArn").unwrap_or("*"))]
}

fn on_named(world: &World, request: &Request) -> Vec<Need> {
    let arn = request.text("ResourceName").unwrap_or_default();
    let record = locate(arn).and_then(|(kind, id)| world.get(&request.region, kind, &id));
    vec![Need::new("", arn).on(record)]
}

/// The table and key of a resource by its ARN.
fn locate(arn: &str) -> Option<(&'static str, String)> {
    let mut parts = arn.splitn(7, ':').skip(5);
    let (prefix, name) = (parts.next()?, parts.next()?);
    Some(match prefix {
        "db" => (INSTANCE, name.to_owned()),
        "subgrp" => (SUBNET_GROUP, name.to_owned()),
        "pg" => (PARAMETER_GROUP, name.to_owned()),
        "snapshot" => (SNAPSHOT, name.to_owned()),
        "es" => (events::SUBSCRIPTION, name.to_owned()),
        "auto-backup" => (BACKUP, arn.to_owned()),
        _ => return None,
    })
}

fn named<'a>(world: &'a mut World, request: &Request) -> Result<&'a mut Value, Failure> {
    let arn = request.required("ResourceName")?.to_owned();
    let (kind, id) = locate(&arn).ok_or_else(|| {
        Failure::new(
            "InvalidParameterValue",
            format!(
                "The specified resource name does not match an RDS resource in this region: {arn}"
            ),
        )
    })?;
    let code = match kind {
        INSTANCE => "DBInstanceNotFound",
        SNAPSHOT => "DBSnapshotNotFound",
        PARAMETER_GROUP => "DBParameterGroupNotFound",
        SUBNET_GROUP => "DBSubnetGroupNotFoundFault",
        events::SUBSCRIPTION => "SubscriptionNotFound",
        _ => "DBInstanceAutomatedBackupNotFound",
    };
    let missing = Failure::new(code, format!("{arn} not found."));
    world.get_mut(&request.region, kind, &id).ok_or(missing)
}

/// Region and identifier of an instance's ARN.
fn split_arn(arn: &str) -> Option<(String, String)> {
    let parts: Vec<_> = arn.split(':').collect();
    let ["arn", "aws", "rds", region, _, "db", id] = parts[..] else { return None };
    Some((region.to_owned(), id.to_owned()))
}

fn check_name(name: &str, member: &str, longest: usize) -> Result<(), Failure> {
    let fits = name.chars().next().is_some_and(|one| one.is_ascii_alphabetic())
        && name.chars().all(|one| one.is_ascii_alphanumeric() || one == '-')
        && !name.ends_with('-')
        && !name.contains("--")
        && name.len() <= longest;
    if fits {
        return Ok(());
    }
    let message = format!(
        "The parameter {member} is not a valid identifier. Identifiers must begin with a letter; must contain only ASCII letters, digits, and hyphens; and must not end with a hyphen or contain two consecutive hyphens."
    );
    Err(Failure::new("InvalidParameterValue", message))
}

fn missing_instance(id: &str) -> Failure {
    Failure::new("DBInstanceNotFound", format!("DBInstance {id} not found."))
}

fn group_of(instance: &Value) -> String {
    let group = &instance["DBParameterGroups"]["DBParameterGroup"][0]["DBParameterGroupName"];
    group.as_str().unwrap_or_default().to_owned()
}

fn set_replication(instance: &mut Value, status: &str, message: &str) {
    instance["StatusInfos"] = json!({"DBInstanceStatusInfo": [{
        "StatusType": "read replication", "Normal": status == "replicating", "Status": status,
        "Message": Some(message).filter(|text| !text.is_empty()),
    }]});
}

/// Busy in `status` for a while, beginning a little after the call: the trap that a look right after it
/// still says `available`.
fn busy(world: &mut World, region: &str, id: &str, status: &'static str, seconds: u64) {
    let until = world.now.plus_seconds(DB_STATUS_LAG + seconds).0;
    let Some(instance) = world.get_mut(region, INSTANCE, id) else { return };
    instance["_next_status"] = status.into();
    instance["_busy_until"] = instance["_busy_until"].as_u64().unwrap_or(0).max(until).into();
    world.after(DB_STATUS_LAG, region, id, |world, region, id| {
        let Some(instance) = world.get_mut(region, INSTANCE, id) else { return };
        if instance["DBInstanceStatus"] == "available" && !instance["_next_status"].is_null() {
            instance["DBInstanceStatus"] = instance["_next_status"].take();
        }
    });
    world.after(DB_STATUS_LAG + seconds, region, id, |world, region, id| {
        let now = world.now.0;
        let Some(instance) = world.get_mut(region, INSTANCE, id) else { return };
        let over = instance["_busy_until"].as_u64().is_some_and(|until| until <= now);
        if over && matches!(instance["DBInstanceStatus"].as_str(), Some("modifying" | "rebooting"))
        {
            instance["DBInstanceStatus"] = "available".into();
        }
    });
}

/// A usable key of this region that the caller may let RDS use.
fn granted_key(world: &World, request: &Request, key: &str) -> Result<String, Failure> {
    let refused = || {
        let message = format!(
            "The specified KMS key [{key}] does not exist, is not enabled or you do not have permissions to access it."
        );
        Failure::new("KMSKeyNotAccessibleFault", message)
    };
    let arn = backups::usable_key(world, &request.region, key).ok_or_else(refused)?;
    if kms::may_grant(world, request, &arn) { Ok(arn) } else { Err(refused()) }
}

/// An instance without its key is an instance without its data.
pub(crate) fn key_changed(world: &mut World, region: &str, key: &str) {
    let usable = kms::usable_arn(world, region, key).is_some();
    for instance in world.table_mut(region, INSTANCE).values_mut() {
        if instance["KmsKeyId"] != key {
            continue;
        }
        if !usable {
            instance["DBInstanceStatus"] = "inaccessible-encryption-credentials-recoverable".into();
        } else if instance["DBInstanceStatus"] == "inaccessible-encryption-credentials-recoverable"
        {
            instance["DBInstanceStatus"] = "available".into();
        }
    }
}

pub(crate) fn uses_security_group(world: &World, region: &str, group: &str) -> bool {
    world.table(region, INSTANCE).values().any(|one| {
        let all =
            one["VpcSecurityGroups"]["VpcSecurityGroupMembership"].as_array().into_iter().flatten();
        all.into_iter().any(|member| member["VpcSecurityGroupId"] == group)
    })
}

fn answer(instance: &Value) -> Reply {
    Ok(json!({"DBInstance": instances::described(instance)}))
}
