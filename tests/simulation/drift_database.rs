//! Versions and parameters of databases that somebody changed behind Terraform's back: what RDS takes back is put back,
//! and what it does not is refused before anything is done.

use aws_sdk_rds::types::{ApplyMethod, Parameter};
use serde_json::json;

use super::crash::changes_something;
use crate::support::{
    agent::{EAST, WEST},
    aws::{connect, pass, simulate},
    user::{User, errors},
};

const INSTANCES: [(&str, &str); 2] =
    [(EAST, "trading-db-primary-prod"), (WEST, "trading-db-replica-prod")];

/// Makes an instance one of another version, as its owner may.
fn set_version(user: &User, region: &str, id: &str, version: &str) {
    let change = json!({"EngineVersion": version});
    user.sandbox.with(|world| world.drift(region, "db-instance", id, Some(&change))).unwrap();
}

#[test]
fn another_version_15_is_as_good_and_a_named_one_is_upgraded_to() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        for (region, id) in INSTANCES {
            set_version(&user, region, id, "15.13");
        }
        user.must_be_unchanged(&config).await;
        config["database"] = json!({"engine_version": "15.14"});
        let planned = user.must_plan(&config).await;
        let changed = user.changed_components(&planned);
        assert_eq!(changed, ["us-east-1/db-instance", "us-west-2/db-instance"]);
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        // Taken back to an older one, as a restore would: one line, and up again.
        set_version(&user, WEST, "trading-db-replica-prod", "15.12");
        user.refresh().await;
        let planned = user.must_plan(&config).await;
        assert_eq!(user.changed_components(&planned), ["us-west-2/db-instance"]);
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn an_instance_that_somebody_upgraded_is_not_planned_to_go_back() {
    simulate(async || {
        for (region, id) in INSTANCES {
            let mut user = User::new().await;
            let mut config = crate::support::user::configuration(&user.sandbox);
            config["database"] = json!({"engine_version": "15.13"});
            user.must_apply(&config).await;
            set_version(&user, region, id, "15.14");
            user.refresh().await;
            let found = errors(&user.plan(&config).await.diagnostics);
            assert_eq!(found.len(), 1, "{found:#?}");
            for said in ["database.engine_version", "from 15.14 to 15.13", region, "15.14 here"] {
                assert!(found[0].contains(said), "{said}: {}", found[0]);
            }
            // What the error says.
            config["database"] = json!({"engine_version": "15.14"});
            user.must_apply(&config).await;
            user.must_be_unchanged(&config).await;
        }
    });
}

#[test]
fn a_status_that_nobody_knows_is_waited_for_and_named_when_the_time_is_over() {
    simulate(async || {
        for (region, id) in INSTANCES {
            let (mut user, config) = User::with_cluster().await;
            let made = |user: &User| {
                user.sandbox.with(|world| world.record(region, "db-instance", id))["DbiResourceId"]
                    .clone()
            };
            let before = made(&user);
            let odd = |status: &str| json!({"DBInstanceStatus": status});
            let set = |user: &User, status: &str| {
                user.sandbox
                    .with(|world| world.drift(region, "db-instance", id, Some(&odd(status))))
                    .unwrap();
            };
            set(&user, "frobnicating");
            let mut other = config.clone();
            other["timeouts"] = json!({"update": "20m"});
            other["backup"] = json!({"retention_days": 9});
            let found = errors(&user.apply(&other).await);
            let told = found
                .iter()
                .any(|one| one.contains(&format!("{region}/db-instance (frobnicating")));
            assert!(told, "{found:#?}");
            assert_eq!(made(&user), before);
            set(&user, "available");
            user.restart().await;
            user.must_apply(&other).await;
            user.must_be_unchanged(&other).await;
            assert_eq!(made(&user), before);
        }
    });
}

#[test]
fn a_parameter_that_needs_a_restart_is_put_back_with_one() {
    simulate(async || {
        for (region, id) in INSTANCES {
            let (mut user, config) = User::with_cluster().await;
            let rds = connect(&user.sandbox).await.region(region).rds.clone();
            let other = Parameter::builder().parameter_name("max_wal_senders");
            let other = other.parameter_value("33").apply_method(ApplyMethod::PendingReboot);
            let change = rds.modify_db_parameter_group();
            let change = change.db_parameter_group_name("trading-db-params-prod");
            change.parameters(other.build()).send().await.unwrap();
            let lines = [format!("{region}/db-instance"), format!("{region}/db-parameter-group")];
            // Not in force yet, and then in force.
            for restarts in [false, true] {
                if restarts {
                    rds.reboot_db_instance().db_instance_identifier(id).send().await.unwrap();
                    pass(300).await;
                }
                user.refresh().await;
                let planned = user.must_plan(&config).await;
                assert_eq!(user.changed_components(&planned), lines);
            }
            user.must_apply(&config).await;
            user.must_be_unchanged(&config).await;
        }
    });
}

/// On an instance that holds data there is no way back: that is told, with the way out, and nothing is done.
#[test]
fn what_no_call_can_put_back_is_refused_by_name() {
    simulate(async || {
        let (made, config) = User::with_cluster().await;
        let (world, state) = (made.sandbox.world(), made.state.clone());
        let key = json!({"KmsKeyId": "arn:aws:kms:us-east-1:123456789012:key/of-somebody-else"});
        let group = json!({"DBSubnetGroup": {"DBSubnetGroupName": "others"}});
        let extended = json!({"EngineLifecycleSupport": "open-source-rds-extended-support"});
        for (region, id, field, change) in [
            (EAST, "trading-db-primary-prod", "key", &key),
            (WEST, "trading-db-replica-prod", "key", &key),
            (EAST, "trading-db-primary-prod", "subnet_group", &group),
            (WEST, "trading-db-replica-prod", "subnet_group", &group),
            (EAST, "trading-db-primary-prod", "extended_support", &extended),
            (EAST, "trading-db-primary-prod", "db_name", &json!({"DBName": "others"})),
            (EAST, "trading-db-primary-prod", "username", &json!({"MasterUsername": "others"})),
        ] {
            let told = format!("{region} {field}");
            let sandbox = aws_sandbox::Sandbox::with_world(world.clone(), 1.0);
            let mut user = User::of(sandbox).await;
            user.state = state.clone();
            user.sandbox
                .with(|world| world.drift(region, "db-instance", id, Some(change)))
                .unwrap();
            user.sandbox.forget_calls();
            let found = errors(&user.apply(&config).await);
            let address = format!("{region}/db-instance");
            let is_named = |one: &String| one.contains(&address) && one.contains(field);
            assert!(found.iter().any(is_named), "{told}: {found:#?}");
            let way = "restore from a snapshot into a new cluster";
            assert!(found.iter().any(|one| one.contains(way)), "{told}: {found:#?}");
            assert_eq!(found.len(), 1, "{told}: {found:#?}");
            let calls = user.sandbox.calls();
            let changing: Vec<_> = calls.iter().filter(|call| changes_something(call)).collect();
            assert!(changing.is_empty(), "{told}: {changing:#?}");
        }
    });
}
