use serde_json::json;

use super::{Caller, EAST, WEST, refused};

/// aws-facts 0.1, 0.4, 0.6, 0.7.
#[test]
fn a_replica_is_made_without_parameter_group_backups_and_protection() {
    let mut caller = Caller::new();
    let source = caller.instance(json!({}));
    let good = caller.replica_of(&source);
    let mut bad = good.clone();
    bad["DBParameterGroupName"] = json!("default.postgres15");
    let words = "A parameter group can't be specified during Read Replica creation";
    refused(
        caller.rds(WEST, "CreateDBInstanceReadReplica", bad),
        "InvalidParameterCombination",
        words,
    );
    let mut bad = good.clone();
    bad.as_object_mut().unwrap().remove("KmsKeyId");
    let words = "Cannot create a cross region unencrypted read replica from encrypted source";
    refused(
        caller.rds(WEST, "CreateDBInstanceReadReplica", bad),
        "InvalidParameterCombination",
        words,
    );
    let mut bad = good.clone();
    bad["BackupRetentionPeriod"] = json!("7");
    refused(
        caller.rds(WEST, "CreateDBInstanceReadReplica", bad),
        "NotImplemented",
        "BackupRetentionPeriod",
    );
    let mut protected = good;
    protected["DeletionProtection"] = json!("true");
    caller.must(WEST, "rds", "CreateDBInstanceReadReplica", protected);
    caller.pass(1300);
    let replica = caller.described(WEST, "copy");
    assert_eq!(replica["DeletionProtection"], false);
    assert_eq!(replica["BackupRetentionPeriod"], 0);
    assert_eq!(caller.replication(WEST, "copy"), "replicating");
}

/// aws-facts 0.2.
#[test]
fn a_managed_master_password_forbids_replicas() {
    let mut caller = Caller::new();
    let source =
        caller.instance(json!({"MasterUserPassword": null, "ManageMasterUserPassword": "true"}));
    let params = caller.replica_of(&source);
    let words = "ManageMasterUserPassword is enabled is not supported";
    refused(
        caller.rds(WEST, "CreateDBInstanceReadReplica", params),
        "InvalidParameterValue",
        words,
    );
}

/// aws-facts 0.3, 1.5.
#[test]
fn a_modification_must_modify_something_that_can_be() {
    let mut caller = Caller::new();
    caller.pair();
    let modify = |more: serde_json::Value, id: &str| {
        let mut params = json!({"DBInstanceIdentifier": id, "ApplyImmediately": "true"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    let password = modify(json!({"MasterUserPassword": "another-one"}), "copy");
    let words = "Cannot change master user password on an RDS postgres Read Replica";
    refused(caller.rds(WEST, "ModifyDBInstance", password), "InvalidParameterCombination", words);
    let words = "No modifications were requested";
    refused(
        caller.rds(EAST, "ModifyDBInstance", modify(json!({}), "db")),
        "InvalidParameterCombination",
        words,
    );
    let smaller = modify(json!({"AllocatedStorage": "15"}), "db");
    refused(
        caller.rds(EAST, "ModifyDBInstance", smaller),
        "InvalidParameterCombination",
        "can't be reduced",
    );
    let little = modify(json!({"AllocatedStorage": "21"}), "db");
    refused(
        caller.rds(EAST, "ModifyDBInstance", little),
        "InvalidParameterCombination",
        "at least 10%",
    );
    let none = modify(json!({"BackupRetentionPeriod": "0"}), "db");
    refused(
        caller.rds(EAST, "ModifyDBInstance", none),
        "InvalidParameterCombination",
        "source of read replicas",
    );
}

/// aws-facts 0.5.
#[test]
fn a_replica_leaves_no_final_snapshot_and_after_its_promotion_it_can() {
    let mut caller = Caller::new();
    caller.pair();
    let with_snapshot =
        json!({"DBInstanceIdentifier": "copy", "FinalDBSnapshotIdentifier": "last"});
    let words = "FinalDBSnapshotIdentifier can not be specified when deleting a replica instance";
    refused(
        caller.rds(WEST, "DeleteDBInstance", with_snapshot.clone()),
        "InvalidParameterCombination",
        words,
    );
    caller.must(WEST, "rds", "PromoteReadReplica", json!({"DBInstanceIdentifier": "copy"}));
    // The status lags behind the call (aws-facts 1.3).
    assert_eq!(caller.status(WEST, "copy"), "available");
    caller.pass(200);
    let promoted = caller.described(WEST, "copy");
    assert!(promoted["ReadReplicaSourceDBInstanceIdentifier"].is_null());
    // One day, whatever it had before (aws-facts 1.2).
    assert_eq!(promoted["BackupRetentionPeriod"], 1);
    refused(
        caller.rds(WEST, "PromoteReadReplica", json!({"DBInstanceIdentifier": "copy"})),
        "InvalidDBInstanceState",
        "not a read replica",
    );
    caller.must(WEST, "rds", "DeleteDBInstance", with_snapshot);
    let again = json!({"DBInstanceIdentifier": "copy", "SkipFinalSnapshot": "true"});
    refused(
        caller.rds(WEST, "DeleteDBInstance", again),
        "InvalidDBInstanceState",
        "already being deleted",
    );
}

/// aws-facts 0.11, 1.1.
#[test]
fn a_source_needs_backups_is_busy_meanwhile_and_leaves_its_replica_behind() {
    let mut caller = Caller::new();
    let source = caller.instance(json!({"BackupRetentionPeriod": "0"}));
    let params = caller.replica_of(&source);
    let words = "Automated backups are not enabled";
    refused(
        caller.rds(WEST, "CreateDBInstanceReadReplica", params.clone()),
        "InvalidDBInstanceState",
        words,
    );
    let retention = json!({"DBInstanceIdentifier": "db", "BackupRetentionPeriod": "7", "ApplyImmediately": "true"});
    caller.must(EAST, "rds", "ModifyDBInstance", retention.clone());
    caller.pass(300);
    caller.must(WEST, "rds", "CreateDBInstanceReadReplica", params);
    caller.pass(10);
    assert_eq!(caller.status(EAST, "db"), "modifying");
    refused(
        caller.rds(EAST, "ModifyDBInstance", retention),
        "InvalidDBInstanceState",
        "not in available state",
    );
    caller.pass(1300);
    caller.must(
        EAST,
        "rds",
        "DeleteDBInstance",
        json!({"DBInstanceIdentifier": "db", "SkipFinalSnapshot": "true"}),
    );
    caller.pass(400);
    refused(
        caller.rds(EAST, "DescribeDBInstances", json!({"DBInstanceIdentifier": "db"})),
        "DBInstanceNotFound",
        "db not found",
    );
    assert_eq!(caller.replication(WEST, "copy"), "terminated");
    assert!(!caller.described(WEST, "copy")["ReadReplicaSourceDBInstanceIdentifier"].is_null());
}

/// aws-facts 0.12, 1.2.
#[test]
fn replicated_backups_need_a_key_and_are_retained_when_they_end() {
    let mut caller = Caller::new();
    let source = caller.instance(json!({}));
    let without = json!({"SourceDBInstanceArn": source});
    let start = "StartDBInstanceAutomatedBackupsReplication";
    let words = "Encrypted instances require a valid KMS key ID";
    refused(caller.rds(WEST, start, without.clone()), "InvalidParameterValue", words);
    let key = caller.key(WEST);
    let params = json!({"SourceDBInstanceArn": source, "KmsKeyId": key});
    refused(caller.rds(EAST, start, params.clone()), "InvalidParameterValue", "must be different");
    caller.must(WEST, "rds", start, params.clone());
    refused(
        caller.rds(WEST, start, params),
        "InvalidDBInstanceAutomatedBackupState",
        "already being replicated",
    );
    caller.pass(400);
    let list = |caller: &mut Caller| {
        let answer = caller.must(
            WEST,
            "rds",
            "DescribeDBInstanceAutomatedBackups",
            json!({"DBInstanceIdentifier": "db"}),
        );
        answer["DBInstanceAutomatedBackups"]["DBInstanceAutomatedBackup"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    // Spelt in more than one way.
    assert_eq!(list(&mut caller)[0]["Status"].as_str().unwrap().to_lowercase(), "replicating");
    let stop = "StopDBInstanceAutomatedBackupsReplication";
    caller.must(WEST, "rds", stop, without.clone());
    refused(
        caller.rds(WEST, stop, without),
        "InvalidDBInstanceState",
        "not replicating to the current region",
    );
    assert_eq!(list(&mut caller)[0]["Status"], "retained");
    caller.pass(10);
    // The source is busy, and cannot leave a final snapshot meanwhile (aws-facts 1.2).
    let delete = json!({"DBInstanceIdentifier": "db", "FinalDBSnapshotIdentifier": "last"});
    refused(
        caller.rds(EAST, "DeleteDBInstance", delete),
        "InvalidDBInstanceState",
        "Cannot create a snapshot",
    );
    let arn = list(&mut caller)[0]["DBInstanceAutomatedBackupsArn"].clone();
    caller.must(
        WEST,
        "rds",
        "DeleteDBInstanceAutomatedBackup",
        json!({"DBInstanceAutomatedBackupsArn": arn}),
    );
    assert!(list(&mut caller).is_empty());
}

/// aws-facts 1.2, 1.3.
#[test]
fn a_protected_instance_stays_and_one_that_is_backed_up_is_not_promoted() {
    let mut caller = Caller::new();
    caller.pair();
    let protect = json!({"DBInstanceIdentifier": "db", "DeletionProtection": "true"});
    caller.must(EAST, "rds", "ModifyDBInstance", protect);
    let delete = json!({"DBInstanceIdentifier": "db", "SkipFinalSnapshot": "true"});
    refused(
        caller.rds(EAST, "DeleteDBInstance", delete),
        "InvalidParameterCombination",
        "disable deletion pro",
    );
    caller
        .world
        .drift(WEST, "db-instance", "copy", Some(&json!({"DBInstanceStatus": "backing-up"})))
        .unwrap();
    let promote = json!({"DBInstanceIdentifier": "copy"});
    refused(
        caller.rds(WEST, "PromoteReadReplica", promote),
        "InvalidDBInstanceState",
        "not in an available state",
    );
}

/// aws-facts 2.
#[test]
fn parameters_are_set_by_their_kind_in_small_batches_and_never_in_a_default_group() {
    let mut caller = Caller::new();
    let group = json!({"DBParameterGroupName": "params", "DBParameterGroupFamily": "postgres15", "Description": "x"});
    caller.must(EAST, "rds", "CreateDBParameterGroup", group.clone());
    refused(
        caller.rds(EAST, "CreateDBParameterGroup", group),
        "DBParameterGroupAlreadyExists",
        "params",
    );
    let set = |name: &str, value: &str, method: &str| json!({"DBParameterGroupName": "params", "Parameters": [{"ParameterName": name, "ParameterValue": value, "ApplyMethod": method}]});
    let modify = "ModifyDBParameterGroup";
    let words = "cannot use immediate apply method for static parameter";
    refused(
        caller.rds(EAST, modify, set("max_connections", "100", "immediate")),
        "InvalidParameterCombination",
        words,
    );
    refused(
        caller.rds(EAST, modify, set("max_conections", "100", "immediate")),
        "InvalidParameterValue",
        "Could not find parameter",
    );
    refused(
        caller.rds(EAST, modify, set("max_connections", "1", "pending-reboot")),
        "InvalidParameterValue",
        "allowed values",
    );
    let many: Vec<_> = (0..21).map(|_| json!({"ParameterName": "work_mem", "ParameterValue": "64", "ApplyMethod": "immediate"})).collect();
    let many = json!({"DBParameterGroupName": "params", "Parameters": many});
    refused(caller.rds(EAST, modify, many), "InvalidParameterValue", "maximum of 20 parameters");
    let mut default = set("work_mem", "64", "immediate");
    default["DBParameterGroupName"] = json!("default.postgres15");
    assert!(caller.rds(EAST, modify, default).is_err());
    caller.must(EAST, "rds", modify, set("max_connections", "100", "pending-reboot"));
}

/// aws-facts 2.
#[test]
fn a_group_takes_effect_at_a_restart_and_cannot_go_while_it_is_used() {
    let mut caller = Caller::new();
    caller.instance(json!({}));
    let group = json!({"DBParameterGroupName": "params", "DBParameterGroupFamily": "postgres15", "Description": "x"});
    caller.must(EAST, "rds", "CreateDBParameterGroup", group);
    let attach = json!({"DBInstanceIdentifier": "db", "DBParameterGroupName": "params", "ApplyImmediately": "true"});
    caller.must(EAST, "rds", "ModifyDBInstance", attach);
    let in_force = |caller: &mut Caller| {
        let group =
            caller.described(EAST, "db")["DBParameterGroups"]["DBParameterGroup"][0].clone();
        (group["DBParameterGroupName"].clone(), group["ParameterApplyStatus"].clone())
    };
    assert_eq!(in_force(&mut caller), (json!("params"), json!("applying")));
    caller.pass(60);
    assert_eq!(in_force(&mut caller).1, "pending-reboot");
    let delete = json!({"DBParameterGroupName": "params"});
    refused(
        caller.rds(EAST, "DeleteDBParameterGroup", delete),
        "InvalidDBParameterGroupState",
        "still members",
    );
    caller.must(EAST, "rds", "RebootDBInstance", json!({"DBInstanceIdentifier": "db"}));
    caller.pass(90);
    assert_eq!(in_force(&mut caller).1, "in-sync");
}

/// aws-facts 2.
#[test]
fn a_value_that_the_machine_cannot_carry_stops_the_instance_and_a_lower_limit_the_standby() {
    let mut caller = Caller::new();
    caller.pair();
    for region in [EAST, WEST] {
        let group = json!({"DBParameterGroupName": "params", "DBParameterGroupFamily": "postgres15", "Description": "x"});
        caller.must(region, "rds", "CreateDBParameterGroup", group);
        let id = if region == EAST { "db" } else { "copy" };
        let attach = json!({"DBInstanceIdentifier": id, "DBParameterGroupName": "params", "ApplyImmediately": "true"});
        caller.must(region, "rds", "ModifyDBInstance", attach);
        caller.pass(60);
        caller.must(region, "rds", "RebootDBInstance", json!({"DBInstanceIdentifier": id}));
        caller.pass(90);
    }
    let set = |name: &str, value: &str| json!({"DBParameterGroupName": "params", "Parameters": [{"ParameterName": name, "ParameterValue": value, "ApplyMethod": "pending-reboot"}]});
    // The writer's limit rises before the standby's: recovery pauses, and RDS says so only there.
    caller.must(EAST, "rds", "ModifyDBParameterGroup", set("max_wal_senders", "40"));
    caller.pass(10);
    caller.must(EAST, "rds", "RebootDBInstance", json!({"DBInstanceIdentifier": "db"}));
    caller.pass(90);
    assert_eq!(caller.status(EAST, "db"), "available");
    assert_eq!(caller.replication(WEST, "copy"), "error");
    caller.must(EAST, "rds", "ModifyDBParameterGroup", set("shared_buffers", "1000000"));
    caller.pass(10);
    caller.must(EAST, "rds", "RebootDBInstance", json!({"DBInstanceIdentifier": "db"}));
    caller.pass(90);
    assert_eq!(caller.status(EAST, "db"), "incompatible-parameters");
}

/// aws-facts 1.1, 1.5.
#[test]
fn subnet_groups_need_two_zones_of_one_vpc_and_stay_while_they_are_used() {
    let mut caller = Caller::new();
    let network = caller.network(EAST);
    let one = json!([network["private_subnet_ids"][0], network["public_subnet_ids"][0]]);
    let params =
        json!({"DBSubnetGroupName": "few", "DBSubnetGroupDescription": "x", "SubnetIds": one});
    refused(
        caller.rds(EAST, "CreateDBSubnetGroup", params),
        "DBSubnetGroupDoesNotCoverEnoughAZs",
        "at least 2 AZs",
    );
    caller.instance(json!({}));
    let delete = json!({"DBSubnetGroupName": "subnets"});
    refused(
        caller.rds(EAST, "DeleteDBSubnetGroup", delete),
        "InvalidDBSubnetGroupStateFault",
        "still using it",
    );
}

/// RDS API, CreateDBInstanceReadReplica; RDS guide, "Deleting a DB instance that has read replicas";
/// aws-facts 1.1.
#[test]
fn a_replica_in_its_sources_region_takes_after_it_and_survives_it() {
    let mut caller = Caller::new();
    caller.pair();
    let good = json!({"DBInstanceIdentifier": "third", "SourceDBInstanceIdentifier": "copy"});
    // What is copied has to be backed up.
    let words = "Automated backups are not enabled";
    let reply = caller.rds(WEST, "CreateDBInstanceReadReplica", good.clone());
    refused(reply, "InvalidDBInstanceState", words);
    let backups = json!({
        "DBInstanceIdentifier": "copy", "BackupRetentionPeriod": "7", "ApplyImmediately": "true",
    });
    caller.must(WEST, "rds", "ModifyDBInstance", backups);
    caller.pass(400);
    let mut bad = good.clone();
    bad["KmsKeyId"] = caller.key(WEST).into();
    let reply = caller.rds(WEST, "CreateDBInstanceReadReplica", bad);
    refused(reply, "InvalidParameterCombination", "source's key");
    let mut bad = good.clone();
    bad["DBSubnetGroupName"] = json!("subnets");
    let reply = caller.rds(WEST, "CreateDBInstanceReadReplica", bad);
    refused(reply, "DBSubnetGroupNotAllowedFault", "same region");
    caller.must(WEST, "rds", "CreateDBInstanceReadReplica", good);
    caller.pass(10);
    assert_eq!(caller.status(WEST, "copy"), "modifying", "the source is busy, and is not promoted");
    let promote = json!({"DBInstanceIdentifier": "copy"});
    let reply = caller.rds(WEST, "PromoteReadReplica", promote);
    refused(reply, "InvalidDBInstanceState", "not in an available state");
    caller.pass(700);
    let (source, third) = (caller.described(WEST, "copy"), caller.described(WEST, "third"));
    assert_eq!(third["DBInstanceStatus"], "available");
    for member in ["KmsKeyId", "DBParameterGroups", "DBSubnetGroup", "DBInstanceClass"] {
        assert_eq!(third[member], source[member], "{member}");
    }
    assert_eq!(third["ReadReplicaSourceDBInstanceIdentifier"], "copy");
    let gone = json!({"DBInstanceIdentifier": "copy", "SkipFinalSnapshot": "true"});
    caller.must(WEST, "rds", "DeleteDBInstance", gone);
    caller.pass(400);
    let third = caller.described(WEST, "third");
    assert!(third["ReadReplicaSourceDBInstanceIdentifier"].is_null(), "promoted by RDS: {third}");
}
