//! Instances: making and describing them.

use serde_json::{Value, json};

use super::{
    INSTANCE, PARAMETER_GROUP, SUBNET_GROUP, answer, busy, catalog, check_name, granted_key,
    missing_instance, parameters, set_replication, snapshots, split_arn, subnets,
};
use crate::{
    durations::{
        DB_CREATE, DB_CREATE_MULTI_AZ, DB_STATUS_LAG, LOCAL_REPLICA_CREATE, REPLICA_CREATE,
        REPLICA_SOURCE_BUSY,
    },
    iam::Need,
    request::{Failure, Reply, Request, texts},
    services::{ec2, iam, logs, page},
    world::{GLOBAL, World, shown, tag_list, tag_map},
};

/// The words of an instance in answers.
pub(super) fn described(instance: &Value) -> Value {
    let mut shown = shown(instance);
    shown["TagList"] = json!({"Tag": tag_list(instance, "Key", "Value")});
    shown
}

pub(super) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new("InvalidParameterValue", message)
}

pub(super) fn combination(message: impl Into<String>) -> Failure {
    Failure::new("InvalidParameterCombination", message)
}

pub(super) fn describe(world: &mut World, request: &Request) -> Reply {
    let table = world.table(&request.region, INSTANCE);
    let wanted = request
        .text("DBInstanceIdentifier")
        .map(|id| split_arn(id).map_or(id.to_lowercase(), |(_, id)| id));
    let mut all: Vec<Value> = match &wanted {
        Some(id) => vec![described(table.get(id).ok_or_else(|| missing_instance(id))?)],
        None => table.values().map(described).collect(),
    };
    for filter in request.items("Filters") {
        let values = texts(&filter["Values"]);
        if filter["Name"] != "db-instance-id" && filter["Name"] != "dbi-resource-id" {
            return Err(invalid(format!(
                "Unrecognized filter name: {}",
                filter["Name"].as_str().unwrap_or_default()
            )));
        }
        all.retain(|one| {
            ["DBInstanceIdentifier", "DBInstanceArn", "DbiResourceId"].iter().any(|member| {
                one[*member].as_str().is_some_and(|text| values.iter().any(|value| value == text))
            })
        });
    }
    let size = usize::try_from(request.number("MaxRecords").unwrap_or(100)).unwrap_or(100);
    let (items, next) = page(&all, request.text("Marker"), size);
    Ok(json!({"DBInstances": {"DBInstance": items}, "Marker": next}))
}

/// What create and modify check alike.
pub(super) fn check_settings(world: &World, request: &Request) -> Result<(), Failure> {
    if let Some(class) = request.text("DBInstanceClass")
        && catalog::memory(class, &request.region).is_none()
    {
        return Err(invalid(format!("Invalid DB Instance class: {class}")));
    }
    if let Some(days) = request.number("BackupRetentionPeriod")
        && !(0..=35).contains(&days)
    {
        return Err(invalid(format!(
            "Invalid backup retention period: {days}. Must be between 0 and 35"
        )));
    }
    if let Some(days) = request.number("PerformanceInsightsRetentionPeriod") {
        let fits = days == 7 || days == 731 || (days % 31 == 0 && (31..=713).contains(&days));
        if !fits {
            return Err(invalid(format!("Invalid Performance Insights retention period: {days}")));
        }
    }
    if let Some(seconds) = request.number("MonitoringInterval") {
        if ![0, 1, 5, 10, 15, 30, 60].contains(&seconds) {
            return Err(invalid(format!("{seconds} is not a valid value for MonitoringInterval")));
        }
        if seconds > 0 {
            let Some(role) = request.text("MonitoringRoleArn") else {
                return Err(combination(
                    "A MonitoringRoleARN value is required if you specify a MonitoringInterval value other than 0.",
                ));
            };
            if iam::unfit_for_monitoring(world, role) {
                return Err(invalid(
                    "IAM role ARN value is invalid or does not include the required permissions for: ENHANCED_MONITORING",
                ));
            }
        }
    }
    if let Some(certificate) = request.text("CACertificateIdentifier")
        && !catalog::CERTIFICATES.contains(&certificate)
    {
        return Err(Failure::new(
            "CertificateNotFound",
            format!(
                "CertificateIdentifier {certificate} does not refer to an existing CA certificate."
            ),
        ));
    }
    for (member, width) in [("PreferredBackupWindow", 11), ("PreferredMaintenanceWindow", 19)] {
        if request.text(member).is_some_and(|text| text.len() != width || !text.contains('-')) {
            return Err(invalid(format!("Invalid {member} format.")));
        }
    }
    for group in request.texts("VpcSecurityGroupIds") {
        if world.get(&request.region, ec2::GROUP, &group).is_none() {
            return Err(invalid(format!("Invalid security group , groupId= {group}, groupName=.")));
        }
    }
    if let Some(name) = request.text("DBParameterGroupName") {
        let missing = || {
            Failure::new("DBParameterGroupNotFound", format!("DBParameterGroup not found: {name}"))
        };
        let group = world.get(&request.region, PARAMETER_GROUP, name).ok_or_else(missing)?;
        if group["DBParameterGroupFamily"] != "postgres15"
            && request.text("EngineVersion").is_none_or(|one| one.starts_with("15"))
        {
            return Err(combination(format!(
                "The Parameter Group {name} with DBParameterGroupFamily {} cannot be used for this instance. Please use a Parameter Group with DBParameterGroupFamily postgres15",
                group["DBParameterGroupFamily"].as_str().unwrap_or_default()
            )));
        }
    }
    Ok(())
}

pub(super) fn check_storage(
    kind: &str,
    gib: i64,
    iops: Option<i64>,
    most: Option<i64>,
) -> Result<(), Failure> {
    let (low, high) = match kind {
        "gp2" | "gp3" => (20, 65_536),
        "io1" | "io2" => (100, 65_536),
        _ => return Err(invalid(format!("Invalid storage type: {kind}"))),
    };
    if !(low..=high).contains(&gib) {
        return Err(invalid(format!(
            "Invalid storage size for engine name postgres and storage type {kind}: {gib}"
        )));
    }
    match iops {
        None if kind.starts_with("io") => {
            return Err(combination(format!(
                "You must specify a value for IOPS when using storage type {kind}."
            )));
        }
        Some(_) if kind == "gp2" => {
            return Err(combination("You can't specify IOPS with storage type gp2."));
        }
        Some(_) if kind == "gp3" && gib < 400 => {
            return Err(combination(
                "You can't specify IOPS or storage throughput for engine postgres and a storage size less than 400.",
            ));
        }
        _ => {}
    }
    // RDS guide, "gp3 storage" and "Provisioned IOPS SSD storage", PostgreSQL; half of one for each GiB at least.
    let range = match kind {
        "gp3" => (12_000, 64_000),
        "io1" => (1_000.max(gib / 2), 256_000.min(gib * 50)),
        _ => (1_000.max(gib / 2), 256_000.min(gib * 1_000)),
    };
    if let Some(iops) = iops.filter(|iops| !(range.0..=range.1).contains(iops)) {
        return Err(combination(format!(
            "Invalid iops value for engine name postgres and storage type {kind}: {iops}. The IOPS must be between {} and {}.",
            range.0, range.1
        )));
    }
    if most.is_some_and(|most| most * 100 < gib * 110) {
        return Err(combination(format!(
            "Invalid max storage size for engine name postgres and storage type {kind}: must be at least 10% above the allocated storage"
        )));
    }
    Ok(())
}

/// The VPC side of an instance: its group, zones and addresses.
fn placed(world: &World, request: &Request, name: &str, multi_az: bool) -> Result<Value, Failure> {
    let group =
        world.get(&request.region, SUBNET_GROUP, name).ok_or_else(|| subnets::missing(name))?;
    for id in request.texts("VpcSecurityGroupIds") {
        let its = &world.table(&request.region, ec2::GROUP)[&id]["vpcId"];
        if *its != group["VpcId"] {
            return Err(combination(format!(
                "The DB instance and EC2 security group are in different VPCs. The DB instance is in {} and the EC2 security group is in {}",
                group["VpcId"].as_str().unwrap_or_default(),
                its.as_str().unwrap_or_default()
            )));
        }
    }
    let all = group["Subnets"]["Subnet"].as_array().cloned().unwrap_or_default();
    let zone = |index: usize| all[index % all.len()]["SubnetAvailabilityZone"]["Name"].clone();
    Ok(json!({
        "DBSubnetGroup": shown(group), "_subnet_group": name, "_subnet": all[0]["SubnetIdentifier"],
        "AvailabilityZone": zone(0), "SecondaryAvailabilityZone": if multi_az { zone(1) } else { Value::Null },
    }))
}

fn groups(request: &Request, status: &str) -> Value {
    let all: Vec<_> = request
        .texts("VpcSecurityGroupIds")
        .into_iter()
        .map(|id| json!({"VpcSecurityGroupId": id, "Status": status}))
        .collect();
    json!({"VpcSecurityGroupMembership": all})
}

/// The members that creating an instance and creating a replica share.
pub(super) fn base(
    world: &mut World,
    request: &Request,
    id: &str,
    subnet_group: &str,
) -> Result<Value, Failure> {
    check_name(id, "DBInstanceIdentifier", 63)?;
    if world.get(&request.region, INSTANCE, id).is_some() {
        return Err(Failure::new("DBInstanceAlreadyExists", "DB instance already exists"));
    }
    check_settings(world, request)?;
    let multi_az = request.flag("MultiAZ").unwrap_or(false);
    let mut record = placed(world, request, subnet_group, multi_az)?;
    let resource = format!("db-{}", world.digest()[..26].to_uppercase());
    let arn = request.arn("rds", &format!("db:{id}"));
    let port = request.number("Port").unwrap_or(5432);
    let insights = request.flag("EnablePerformanceInsights").unwrap_or(false);
    let insights_key = match request.text("PerformanceInsightsKMSKeyId") {
        Some(key) => Some(granted_key(world, request, key)?),
        None => None,
    };
    let more = json!({
        "DBInstanceIdentifier": id, "DBInstanceClass": request.get("DBInstanceClass"), "Engine": "postgres",
        "DBInstanceStatus": "creating", "InstanceCreateTime": Value::Null, "MultiAZ": multi_az,
        "VpcSecurityGroups": groups(request, "active"), "PendingModifiedValues": {},
        "AutoMinorVersionUpgrade": request.flag("AutoMinorVersionUpgrade").unwrap_or(true),
        "PubliclyAccessible": request.flag("PubliclyAccessible").unwrap_or(true),
        "CopyTagsToSnapshot": request.flag("CopyTagsToSnapshot").unwrap_or(false),
        "MonitoringInterval": request.number("MonitoringInterval").unwrap_or(0),
        "MonitoringRoleArn": request.get("MonitoringRoleArn"), "PerformanceInsightsEnabled": insights,
        "PerformanceInsightsKMSKeyId": insights_key,
        "PerformanceInsightsRetentionPeriod": if insights { request.number("PerformanceInsightsRetentionPeriod").unwrap_or(7).into() } else { Value::Null },
        "EnabledCloudwatchLogsExports": {"member": request.texts("EnableCloudwatchLogsExports")},
        "DeletionProtection": false, "CACertificateIdentifier": request.text("CACertificateIdentifier").unwrap_or("rds-ca-rsa2048-g1"),
        "StorageEncrypted": false, "DbiResourceId": resource, "DBInstanceArn": arn, "DbInstancePort": 0,
        "LicenseModel": "postgresql-license", "NetworkType": "IPV4", "IAMDatabaseAuthenticationEnabled": false,
        "CustomerOwnedIpEnabled": false, "BackupTarget": "region", "StorageThroughput": request.number("StorageThroughput"),
        "PreferredMaintenanceWindow": request.text("PreferredMaintenanceWindow").unwrap_or("sun:10:00-sun:10:30"),
        "PreferredBackupWindow": request.text("PreferredBackupWindow").unwrap_or("08:00-08:30"),
        "ReadReplicaDBInstanceIdentifiers": {"ReadReplicaDBInstanceIdentifier": []},
        "_port": port, "_arn": arn, "_tags": tag_map(request.get("Tags"), "Key", "Value"),
    });
    if let (Some(into), Some(from)) = (record.as_object_mut(), more.as_object()) {
        into.extend(from.clone());
    }
    Ok(record)
}

/// RDS makes its service-linked role at the first use, as the caller.
fn need_service_role(world: &mut World, request: &Request) -> Result<(), Failure> {
    if world.get(GLOBAL, "role", "AWSServiceRoleForRDS").is_some() {
        return Ok(());
    }
    let arn = format!(
        "arn:aws:iam::{}:role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS",
        crate::ACCOUNT
    );
    let need = Need::new("iam:CreateServiceLinkedRole", arn)
        .with("iam:AWSServiceName", "rds.amazonaws.com");
    crate::dispatch::authorise(world, request, need)
        .map_err(|_| invalid("Unable to create the resource. Verify that you have permission to create service linked role. Otherwise wait and try again later"))?;
    iam::put_service_linked(world);
    Ok(())
}

pub(super) fn create(world: &mut World, request: &Request) -> Reply {
    let id = request.required("DBInstanceIdentifier")?.to_lowercase();
    if request.required("Engine")? != "postgres" {
        return Err(invalid("the sandbox has only postgres"));
    }
    if request.flag("ManageMasterUserPassword") == Some(true) && request.has("MasterUserPassword") {
        return Err(combination(
            "MasterUserPassword can't be specified together with ManageMasterUserPassword.",
        ));
    }
    let managed = request.flag("ManageMasterUserPassword").unwrap_or(false);
    let password = request.text("MasterUserPassword").unwrap_or_default();
    if !managed
        && (password.len() < 8
            || password.len() > 128
            || password.chars().any(|one| "/@\" ".contains(one) || !one.is_ascii_graphic()))
    {
        return Err(invalid(
            "The parameter MasterUserPassword is not a valid password. Only printable ASCII characters besides '/', '@', '\"', ' ' may be used.",
        ));
    }
    let user = request.required("MasterUsername")?;
    if ["rdsadmin", "postgres_admin", "admin", "rds_superuser", "public"].contains(&user)
        || user.starts_with("pg_")
        || user.len() > 63
    {
        return Err(invalid(format!(
            "MasterUsername {user} cannot be used as it is a reserved word used by the engine"
        )));
    }
    let given = request.text("EngineVersion").unwrap_or("15");
    let version = catalog::resolve_version(given)
        .ok_or_else(|| combination(format!("Cannot find version {given} for postgres")))?;
    let kind = request.text("StorageType").unwrap_or("gp2").to_owned();
    let gib = request.number("AllocatedStorage").unwrap_or(0);
    check_storage(&kind, gib, request.number("Iops"), request.number("MaxAllocatedStorage"))?;
    let mut record = base(world, request, &id, request.required("DBSubnetGroupName")?)?;
    if request.flag("StorageEncrypted").unwrap_or(false) {
        record["StorageEncrypted"] = true.into();
        let key = request
            .text("KmsKeyId")
            .ok_or_else(|| invalid("the sandbox has no aws/rds key; name your own"))?;
        record["KmsKeyId"] = granted_key(world, request, key)?.into();
    } else if request.has("KmsKeyId") {
        return Err(combination("You must specify StorageEncrypted when you specify a KMS key."));
    }
    need_service_role(world, request)?;
    let multi_az = record["MultiAZ"] == true;
    let more = json!({
        "EngineVersion": version, "MasterUsername": user, "DBName": request.get("DBName"), "AllocatedStorage": gib,
        "MaxAllocatedStorage": request.number("MaxAllocatedStorage"), "StorageType": kind,
        "Iops": request.number("Iops").or((kind == "gp3").then_some(3000)), "BackupRetentionPeriod": request.number("BackupRetentionPeriod").unwrap_or(1),
        "DeletionProtection": request.flag("DeletionProtection").unwrap_or(false),
        "EngineLifecycleSupport": request.text("EngineLifecycleSupport").unwrap_or("open-source-rds-extended-support"),
        "MasterUserSecret": if managed { json!({"SecretStatus": "active"}) } else { Value::Null },
        "DBParameterGroups": {"DBParameterGroup": [{"DBParameterGroupName": request.text("DBParameterGroupName").unwrap_or("default.postgres15"), "ParameterApplyStatus": "in-sync"}]},
        "_password": request.get("MasterUserPassword"),
    });
    if let (Some(into), Some(from)) = (record.as_object_mut(), more.as_object()) {
        into.extend(from.clone());
    }
    world.put(&request.region, INSTANCE, &id, record.clone());
    let seconds = if multi_az { DB_CREATE_MULTI_AZ } else { DB_CREATE };
    // The first backup is part of the creation.
    world.after(seconds - 60, &request.region, &id, |world, region, id| {
        if let Some(instance) =
            world.get_mut(region, INSTANCE, id).filter(|one| one["DBInstanceStatus"] == "creating")
        {
            instance["DBInstanceStatus"] = "backing-up".into();
        }
    });
    world.after(seconds, &request.region, &id, ready);
    answer(&record)
}

/// A new instance is there.
pub(super) fn ready(world: &mut World, region: &str, id: &str) {
    let created = world.now.to_string();
    let Some(instance) = world.get_mut(region, INSTANCE, id) else { return };
    if !matches!(instance["DBInstanceStatus"].as_str(), Some("creating" | "backing-up")) {
        return;
    }
    // An engine that runs real databases may take longer.
    if instance["_engine"] == "preparing" {
        world.after(DB_STATUS_LAG, region, id, ready);
        return;
    }
    let token = instance["DbiResourceId"].as_str().unwrap_or_default().to_lowercase();
    let address = format!("{id}.{}.{region}.rds.amazonaws.com", &token[3..15]);
    instance["Endpoint"] =
        json!({"Address": address, "Port": instance["_port"], "HostedZoneId": "Z2R2ITUGPM61AM"});
    instance["InstanceCreateTime"] = created.into();
    if !instance["ReadReplicaSourceDBInstanceIdentifier"].is_null() {
        set_replication(instance, "replicating", "");
    }
    let monitored = instance["MonitoringInterval"].as_i64() > Some(0);
    let started = parameters::start_with(world, region, id);
    if let Some(instance) = world.get_mut(region, INSTANCE, id) {
        instance["DBInstanceStatus"] =
            if started.is_ok() { "available" } else { "incompatible-parameters" }.into();
    }
    if monitored && world.get(region, logs::KIND, "RDSOSMetrics").is_none() {
        logs::put(world, region, "RDSOSMetrics", &Value::Null, &Value::Null);
    }
    flush_logs(world, region, id);
    snapshots::daily(world, region, id);
}

/// RDS writes what it exports, and makes the group if it is not there.
pub(super) fn flush_logs(world: &mut World, region: &str, id: &str) {
    let Some(instance) = world.get(region, INSTANCE, id) else { return };
    for kind in texts(&instance["EnabledCloudwatchLogsExports"]["member"]) {
        let name = format!("/aws/rds/instance/{id}/{kind}");
        if world.get(region, logs::KIND, &name).is_none() {
            logs::put(world, region, &name, &Value::Null, &Value::Null);
        }
    }
}

/// How far replicas may follow each other (aws-facts 1.1).
const MOST_LEVELS: usize = 3;

/// How many instances there are from one to the writer that it follows in the end, both counted.
fn levels(world: &World, instance: &Value) -> usize {
    let source = instance["_source"].as_str().and_then(split_arn);
    let next = source.and_then(|(region, id)| world.get(&region, INSTANCE, &id));
    1 + next.map_or(0, |next| levels(world, next))
}

pub(super) fn create_replica(world: &mut World, request: &Request) -> Reply {
    let id = request.required("DBInstanceIdentifier")?.to_lowercase();
    let source_arn = request.required("SourceDBInstanceIdentifier")?.to_owned();
    let (source_region, source_id) = split_arn(&source_arn)
        .unwrap_or_else(|| (request.region.clone(), source_arn.to_lowercase()));
    let is_local = source_region == request.region;
    let source = world
        .get(&source_region, INSTANCE, &source_id)
        .ok_or_else(|| missing_instance(&source_arn))?
        .clone();
    if request.has("DBParameterGroupName") {
        return Err(combination(
            "A parameter group can't be specified during Read Replica creation for the following DB engine: postgres",
        ));
    }
    // A presigned URL is for GovCloud and China; other regions ignore it (aws-facts 1.1).
    if source["BackupRetentionPeriod"].as_i64().unwrap_or(0) == 0 {
        return Err(Failure::new(
            "InvalidDBInstanceState",
            format!(
                "Automated backups are not enabled for this database instance. To enable automated backups, use ModifyDBInstance to set the backup retention period to a non-zero value. [{source_id}]"
            ),
        ));
    }
    if !source["MasterUserSecret"].is_null() {
        return Err(invalid(
            "Creating read replicas for source instance with engine postgres where ManageMasterUserPassword is enabled is not supported",
        ));
    }
    if source["DBInstanceStatus"] != "available" {
        return Err(Failure::new(
            "InvalidDBInstanceState",
            format!(
                "DB instance {source_id} is not currently in the available state; try your request later"
            ),
        ));
    }
    let encrypted = source["StorageEncrypted"] == true;
    // In the same region, key and subnets are the source's (RDS API, CreateDBInstanceReadReplica).
    if is_local && request.has("KmsKeyId") {
        return Err(combination(
            "A read replica in the same region is encrypted with its source's key: do not specify another.",
        ));
    }
    if is_local && request.has("DBSubnetGroupName") {
        return Err(Failure::new(
            "DBSubnetGroupNotAllowedFault",
            "DbSubnetGroupName should not be specified for read replicas that are created in the same region as the master",
        ));
    }
    if levels(world, &source) > MOST_LEVELS {
        return Err(Failure::new(
            "InvalidDBInstanceState",
            format!(
                "Cannot create a read replica from {source_id}: too many levels of replication."
            ),
        ));
    }
    if encrypted && !is_local && !request.has("KmsKeyId") {
        return Err(combination(
            "Cannot create a cross region unencrypted read replica from encrypted source.",
        ));
    }
    let subnet_group = if is_local {
        source["_subnet_group"].as_str().unwrap_or_default().to_owned()
    } else {
        request.required("DBSubnetGroupName")?.to_owned()
    };
    let mut record = base(world, request, &id, &subnet_group)?;
    let key = if is_local { source["KmsKeyId"].as_str() } else { request.text("KmsKeyId") };
    if let Some(key) = key {
        record["KmsKeyId"] = granted_key(world, request, key)?.into();
    }
    // Its source's group in the same region, and none of ours in another one (aws-facts 0.1).
    let parameters =
        if is_local { super::group_of(&source) } else { "default.postgres15".to_owned() };
    let source_arn = source["DBInstanceArn"].as_str().unwrap_or_default().to_owned();
    need_service_role(world, request)?;
    let class = if request.has("DBInstanceClass") {
        request.get("DBInstanceClass")
    } else {
        &source["DBInstanceClass"]
    };
    let more = json!({
        "DBInstanceClass": class, "EngineVersion": source["EngineVersion"], "MasterUsername": source["MasterUsername"],
        "DBName": source["DBName"], "AllocatedStorage": source["AllocatedStorage"],
        "_port": request.number("Port").map_or_else(|| source["_port"].clone(), Value::from),
        "MaxAllocatedStorage": request.number("MaxAllocatedStorage"),
        "StorageType": request.text("StorageType").map_or_else(|| source["StorageType"].clone(), Value::from),
        "Iops": request.number("Iops").map_or_else(|| source["Iops"].clone(), Value::from),
        "StorageEncrypted": encrypted, "ReadReplicaSourceDBInstanceIdentifier": if is_local { source_id.clone() } else { source_arn.clone() },
        "_source": source_arn, "_roles": source["_roles"],
        // Created without backups and without protection, whatever was asked for (aws-facts 0).
        "BackupRetentionPeriod": 0, "DeletionProtection": false, "EngineLifecycleSupport": source["EngineLifecycleSupport"],
        "DBParameterGroups": {"DBParameterGroup": [{"DBParameterGroupName": parameters, "ParameterApplyStatus": "in-sync"}]},
        "_password": source["_password"],
    });
    if let (Some(into), Some(from)) = (record.as_object_mut(), more.as_object()) {
        into.extend(from.clone());
    }
    world.put(&request.region, INSTANCE, &id, record.clone());
    let arn = record["DBInstanceArn"].clone();
    if let Some(source) = world.get_mut(&source_region, INSTANCE, &source_id)
        && let Some(all) =
            source["ReadReplicaDBInstanceIdentifiers"]["ReadReplicaDBInstanceIdentifier"]
                .as_array_mut()
    {
        all.push(if is_local { id.as_str().into() } else { arn });
    }
    busy(world, &source_region, &source_id, "modifying", REPLICA_SOURCE_BUSY);
    let seconds = if is_local { LOCAL_REPLICA_CREATE } else { REPLICA_CREATE };
    world.after(seconds, &request.region, &id, ready);
    answer(&record)
}
