//! The life of a cluster: made, looked at, changed, removed.

use aws_sandbox::World;
use serde_json::{Value as Json, json};

use crate::support::{
    aws::{connect, simulate},
    traffic,
    user::{User, configuration, differences, errors, lines, set},
};

fn records(user: &User, region: &str, kind: &str) -> Json {
    user.sandbox.with(|world| world.inventory())[region][kind].clone()
}

#[test]
fn a_cluster_is_made_is_what_was_planned_and_goes_without_a_trace() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let state = user.state.value.clone().unwrap();
        assert_eq!(state.get("status").as_str(), Some("available"));
        assert_eq!(state.get("writer_region").as_str(), Some("us-east-1"));
        assert!(
            state.get("primary_endpoint").as_str().unwrap().contains("trading-db-primary-prod")
        );
        assert!(state.get("replica_endpoint").as_str().unwrap().contains("us-west-2"));
        user.restart().await;
        user.must_be_unchanged(&config).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn the_instances_are_what_disaster_recovery_needs() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        let primary = records(&user, "us-east-1", "db-instance")["trading-db-primary-prod"].clone();
        let replica = records(&user, "us-west-2", "db-instance")["trading-db-replica-prod"].clone();
        assert_eq!(primary["MultiAZ"], true);
        for one in [&primary, &replica] {
            assert_eq!(one["StorageEncrypted"], true);
            assert_eq!(one["PubliclyAccessible"], false);
            assert_eq!(one["AutoMinorVersionUpgrade"], false);
            assert_eq!(one["BackupRetentionPeriod"], 7);
            assert_eq!(one["DBInstanceClass"], "db.t3.medium");
            assert_eq!(one["EngineLifecycleSupport"], "open-source-rds-extended-support-disabled");
            let group = &one["DBParameterGroups"]["DBParameterGroup"][0];
            assert_eq!(group["DBParameterGroupName"], "trading-db-params-prod");
            assert_eq!(group["ParameterApplyStatus"], "in-sync");
        }
        assert_eq!(replica["ReadReplicaSourceDBInstanceIdentifier"], primary["DBInstanceArn"]);
        assert_ne!(primary["PreferredBackupWindow"], replica["PreferredBackupWindow"]);
        let backups = records(&user, "us-west-2", "db-automated-backup");
        assert_eq!(backups.as_object().unwrap().len(), 1);
        let secret = records(&user, "us-west-2", "secret")["trading-db-master-prod"].clone();
        assert_eq!(secret["PrimaryRegion"], "us-east-1");
    });
}

#[test]
fn a_source_that_may_connect_is_one_line_and_one_rule() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        set(&mut config, "dr.allowed_cidr_blocks", json!(["192.168.0.0/24"]));
        let planned = user.must_plan(&config).await;
        let line =
            "us-west-2/security-group-rule/192.168.0.0/24: null → from 192.168.0.0/24 · port=5432";
        assert_eq!(user.component_changes(&planned), [line]);
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        set(&mut config, "dr.allowed_cidr_blocks", Json::Null);
        let planned = user.must_plan(&config).await;
        assert_eq!(user.component_changes(&planned), [line.replace("null → ", "") + " → null"]);
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn every_argument_that_can_change_in_place_does() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        user.sandbox.with(World::record_traffic);
        config["database"] = json!({});
        config["backup"] = json!({});
        let changes = [
            ("database.instance_class", json!("db.r6g.large")),
            ("database.dr_instance_class", json!("db.r6g.xlarge")),
            ("database.allocated_storage", json!(200)),
            ("database.max_allocated_storage", json!(1000)),
            ("database.max_allocated_storage", Json::Null),
            ("database.port", json!(6432)),
            ("database.parameters", json!({"work_mem": "65536"})),
            ("database.parameters", json!({"work_mem": "65536", "max_connections": "700"})),
            ("database.parameters", json!({"log_lock_waits": "default"})),
            ("database.performance_insights", json!(false)),
            ("database.monitoring_interval", json!(0)),
            ("database.monitoring_interval", json!(15)),
            ("database.dr_multi_az", json!(true)),
            ("database.maintenance_window", json!("sat:10:00-sat:11:00")),
            ("database.ca_certificate_identifier", json!("rds-ca-ecc384-g1")),
            ("database.engine_version", json!("15.14")),
            ("database.storage_type", json!("io2")),
            ("backup.retention_days", json!(14)),
            ("backup.cross_region", json!(false)),
            ("backup.cross_region", json!(true)),
            ("backup.window", json!("01:00-02:00")),
            ("tags", json!({"team": "risk", "cost": "1"})),
            ("tags", Json::Null),
        ];
        for (argument, value) in changes {
            if argument == "database.storage_type" {
                set(&mut config, "database.iops", json!(3000));
            }
            set(&mut config, argument, value.clone());
            let planned = user.must_plan(&config).await;
            let changed = user.changed_components(&planned);
            assert!(!changed.is_empty(), "{argument} = {value} changes nothing");
            user.must_apply(&config).await;
            user.must_be_unchanged(&config).await;
        }
        for (region, id) in
            [("us-east-1", "trading-db-primary-prod"), ("us-west-2", "trading-db-replica-prod")]
        {
            let instance = records(&user, region, "db-instance")[id].clone();
            assert_eq!(instance["Endpoint"]["Port"], 6432);
            assert_eq!(instance["StorageType"], "io2");
            assert_eq!(instance["EngineVersion"], "15.14");
        }
        user.must_destroy().await;
        traffic::keep("arguments", &[&user.sandbox]);
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

/// The order of calls that change or restart an instance, by its region.
fn restarts(user: &User) -> Vec<String> {
    let calls = user.sandbox.calls().into_iter();
    calls
        .filter(|call| call.operation == "RebootDBInstance" && call.error.is_none())
        .map(|call| call.region)
        .collect()
}

#[test]
fn limits_rise_on_the_replica_first_and_fall_on_the_writer_first() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        config["database"] = json!({"parameters": {"max_connections": "800"}});
        user.sandbox.forget_calls();
        user.must_apply(&config).await;
        assert_eq!(restarts(&user), ["us-west-2", "us-east-1"]);
        config["database"] = json!({"parameters": {"max_connections": "300"}});
        user.sandbox.forget_calls();
        user.must_apply(&config).await;
        assert_eq!(restarts(&user), ["us-east-1", "us-west-2"]);
        let replica = records(&user, "us-west-2", "db-instance")["trading-db-replica-prod"].clone();
        assert_eq!(replica["StatusInfos"]["DBInstanceStatusInfo"][0]["Status"], "replicating");
    });
}

#[test]
fn what_waits_for_the_maintenance_window_is_listed_and_is_no_difference() {
    simulate(async || {
        let mut user = User::new().await;
        let mut config = configuration(&user.sandbox);
        config["database"] = json!({"apply_immediately": false});
        user.must_apply(&config).await;
        config["database"]["instance_class"] = json!("db.r6g.large");
        config["database"]["parameters"] = json!({"max_connections": "300"});
        user.must_apply(&config).await;
        let pending =
            user.state.value.as_ref().unwrap().get("pending_changes").to_json().to_string();
        assert!(
            pending.contains("us-east-1/db-instance class: db.t3.medium → db.r6g.large"),
            "{pending}"
        );
        assert!(
            pending.contains("us-west-2/db-instance parameters: take effect at the next restart"),
            "{pending}"
        );
        user.must_be_unchanged(&config).await;
        let class = || {
            records(&user, "us-east-1", "db-instance")["trading-db-primary-prod"]["DBInstanceClass"]
                .clone()
        };
        assert_eq!(class(), "db.t3.medium");
        // Wanted now after all, it is planned and made.
        let mut now = config.clone();
        now["database"]["apply_immediately"] = json!(true);
        let mut other = User::of(aws_sandbox::Sandbox::with_world(user.sandbox.world(), 1.0)).await;
        other.state = user.state.clone();
        let warnings = lines(&other.plan(&now).await.diagnostics);
        let told =
            warnings.iter().any(|one| one.contains("us-east-1/db-instance restarts for this"));
        assert!(told, "{warnings:#?}");
        other.must_apply(&now).await;
        let made = records(&other, "us-east-1", "db-instance")["trading-db-primary-prod"].clone();
        assert_eq!(made["DBInstanceClass"], "db.r6g.large");
        tokio::time::sleep(std::time::Duration::from_secs(8 * 86_400)).await;
        assert_eq!(class(), "db.r6g.large");
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn what_would_lose_data_is_refused_with_the_way_out() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        for (argument, value, expected) in [
            ("db_name", json!("other"), "database.db_name cannot be changed"),
            ("username", json!("other"), "database.username cannot be changed"),
            (
                "allocated_storage",
                json!(50),
                "database.allocated_storage: Storage cannot shrink from 100 to 50 GiB",
            ),
        ] {
            config["database"] = json!({argument: value});
            let found = errors(&user.plan(&config).await.diagnostics);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(expected), "{found:?}");
            assert!(
                found[0].contains("new cluster") || found[0].contains("second cluster"),
                "{found:?}"
            );
        }
    });
}

#[test]
fn another_suffix_makes_everything_anew() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        config["environment_suffix"] = json!("prod-2");
        let planned = user.plan(&config).await;
        let paths: Vec<_> = planned.requires_replace.iter().map(ToString::to_string).collect();
        assert_eq!(paths, ["environment_suffix"]);
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        assert!(user.leftovers().iter().all(|one| one.contains("prod-2") || !one.contains("prod")));
    });
}

#[test]
fn a_cluster_is_imported_by_its_suffix_and_then_matches_its_configuration() {
    simulate(async || {
        let mut user = User::new().await;
        let mut config = configuration(&user.sandbox);
        config["database"] = json!({"parameters": {"work_mem": "65536"}, "allocated_storage": 120});
        user.must_apply(&config).await;
        let before = user.state.value.clone();
        user.restart().await;
        let found = errors(&user.plan_without_state(&config).await.diagnostics);
        assert!(found[0].contains("terraform import trading_dr_cluster.<name> prod"), "{found:?}");
        let imported = user.import("prod").await;
        assert!(!imported.has_errors(), "{:?}", lines(&imported));
        assert_eq!(user.state.value, before);
        user.must_be_unchanged(&config).await;
        for (id, expected) in [
            ("prod-2", "There is no cluster prod-2 in us-west-2"),
            ("Prod", "is no id of a cluster"),
            ("prod/eu-west-1/us-west-2", "is in other regions"),
        ] {
            let found = errors(&user.import(id).await);
            assert!(found[0].contains(expected), "{found:?}");
        }
    });
}

#[test]
fn protection_is_honoured_and_a_final_snapshot_stays() {
    simulate(async || {
        let mut user = User::new().await;
        let mut config = configuration(&user.sandbox);
        config["deletion"] = json!({"protection": true});
        user.must_apply(&config).await;
        let found = errors(&user.destroy().await);
        assert!(
            found[0].contains("deletion.protection keeps the cluster from being destroyed"),
            "{found:?}"
        );
        config["deletion"] = json!({"protection": false, "final_snapshot": true});
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        user.must_destroy().await;
        let left = user.leftovers();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(left[0].starts_with("us-east-1/db-snapshot/trading-db-final-"), "{left:?}");
        // The next cluster of that suffix is not hindered, neither when it comes nor when it goes.
        user.must_apply(&config).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers().len(), 2);
    });
}

#[test]
fn after_a_failover_nothing_is_planned_for_what_holds_the_data() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        let rds = connect(&user.sandbox).await.region("us-west-2").rds.clone();
        let promote = rds.promote_read_replica().db_instance_identifier("trading-db-replica-prod");
        promote.backup_retention_period(7).send().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(600)).await;
        let planned = user.plan(&config).await;
        let warnings = lines(&planned.diagnostics);
        assert!(
            warnings[0].contains("The cluster has failed over: us-west-2 writes"),
            "{warnings:?}"
        );
        let state = user.state.value.clone().unwrap();
        assert_eq!(state.get("writer_region").as_str(), Some("us-west-2"));
        assert_eq!(state.get("status").as_str(), Some("failed_over"));
        assert_eq!(differences(&state, &planned.state.unwrap()), Vec::<String>::new());
        // Everything else is still managed.
        config["tags"] = json!({"team": "risk"});
        let planned = user.must_plan(&config).await;
        let changed = user.changed_components(&planned);
        assert!(changed.contains(&"us-west-2/kms-key".to_owned()), "{changed:?}");
        assert!(
            !changed.iter().any(|one| one.contains("db-instance") || one.contains("backup")),
            "{changed:?}"
        );
        user.must_apply(&config).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_lost_writer_is_not_made_anew_beside_the_only_copy_of_the_data() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        user.sandbox
            .with(|world| world.drift("us-east-1", "db-instance", "trading-db-primary-prod", None))
            .unwrap();
        let found = errors(&user.plan(&config).await.diagnostics);
        assert!(found[0].contains("holds the only copy of the data"), "{found:?}");
        assert!(found[0].contains("promote-read-replica"), "{found:?}");
    });
}
