//! What interrupts a database, or would lose what it holds: restarts that RDS alone knows to be needed, changes that wait
//! and nobody wants any more, and instances that are gone.

use aws_sandbox::World;
use serde_json::{Value as Json, json};

use crate::support::{
    agent::{EAST, WEST},
    aws::{connect, pass, simulate},
    traffic,
    user::{User, errors, lines},
};

const PRIMARY: &str = "trading-db-primary-prod";
const REPLICA: &str = "trading-db-replica-prod";

/// How many restarts RDS was asked for.
fn restarts(user: &User) -> usize {
    let all = user.sandbox.calls();
    all.iter().filter(|one| one.operation == "RebootDBInstance" && one.error.is_none()).count()
}

/// Both instances' lines about restarts in a plan.
async fn restarts_told(user: &mut User, config: &Json) -> Vec<String> {
    let all = lines(&user.plan(config).await.diagnostics);
    all.into_iter().filter(|one| one.contains("restarts for this")).collect()
}

#[test]
fn a_parameter_of_which_rds_alone_knows_that_it_needs_a_restart_gets_one_that_was_planned() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        let mut before = restarts(&user);
        for parameters in [
            json!({"rds.restrict_password_commands": "1"}),
            json!({"rds.restrict_password_commands": "1", "work_mem": "4096"}),
            json!({}),
        ] {
            let restarting = parameters.get("work_mem").is_none();
            config["database"] = json!({"parameters": parameters});
            let told = restarts_told(&mut user, &config).await;
            let sites = if restarting { 2 } else { 0 };
            assert_eq!(told.len(), sites, "{parameters}: {told:#?}");
            assert!(told.iter().all(|one| one.contains("static parameters")), "{told:#?}");
            user.must_apply(&config).await;
            assert_eq!(restarts(&user) - before, sites, "{parameters}");
            before = restarts(&user);
            user.must_be_unchanged(&config).await;
        }
    });
}

#[test]
fn what_waits_at_rds_and_nobody_wants_is_taken_back() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        // From 400 GiB on, operations can be provisioned.
        config["database"] = json!({"allocated_storage": 500});
        user.must_apply(&config).await;
        let record =
            |user: &User| user.sandbox.with(|world| world.record(EAST, "db-instance", PRIMARY));
        // Somebody left it for the maintenance window; any change that is made at once would bring it along.
        for (waits, line) in [
            (json!({"DBInstanceClass": "db.r6g.xlarge"}), "soon db.r6g.xlarge, now db.t3.medium"),
            (json!({"Iops": 20000}), "soon 20000, now baseline"),
            (json!({"EngineVersion": "16.4"}), "soon 16.4, now 15."),
            (json!({"EngineVersion": "15.99"}), "soon 15.99"),
        ] {
            let of_15 = line.contains("15.99");
            let change = json!({"PendingModifiedValues": waits});
            user.sandbox
                .with(|world| world.drift(EAST, "db-instance", PRIMARY, Some(&change)))
                .unwrap();
            user.restart().await;
            user.refresh().await;
            if of_15 {
                // 15 is whatever version RDS prefers: that is no difference.
                user.must_be_unchanged(&config).await;
                continue;
            }
            let version = record(&user)["EngineVersion"].clone();
            let planned = user.must_plan(&config).await;
            let shown = user.component_changes(&planned);
            assert!(shown.iter().any(|one| one.contains(line)), "{shown:#?}");
            assert_eq!(restarts_told(&mut user, &config).await, Vec::<String>::new());
            user.must_apply(&config).await;
            assert_eq!(record(&user)["PendingModifiedValues"], json!({}), "{line}");
            assert_eq!(record(&user)["DBInstanceClass"], "db.t3.medium");
            assert_eq!(record(&user)["EngineVersion"], version);
            user.must_be_unchanged(&config).await;
        }
    });
}

#[test]
fn a_port_changes_at_once_and_the_plan_says_so() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        config["database"] = json!({"apply_immediately": false});
        user.must_apply(&config).await;
        config["database"]["port"] = json!(6000);
        config["database"]["instance_class"] = json!("db.r6g.large");
        let told = restarts_told(&mut user, &config).await;
        assert_eq!(told.len(), 2, "{told:#?}");
        for one in &told {
            assert!(one.contains("Because of: port. "), "{one}");
            assert!(one.contains("RDS never puts off a change of the port"), "{one}");
        }
        user.must_apply(&config).await;
        for (region, name) in [(EAST, PRIMARY), (WEST, REPLICA)] {
            let one = user.sandbox.with(|world| world.record(region, "db-instance", name));
            assert_eq!(one["Endpoint"]["Port"], 6000, "{one:#}");
            assert_eq!(one["DBInstanceClass"], "db.t3.medium", "that waits");
        }
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn a_plan_says_that_restore_points_go_with_the_backups_that_are_made_anew() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        config["backup"] = json!({"retention_days": 10});
        let told = lines(&user.plan(&config).await.diagnostics);
        let about = told.iter().find(|one| one.contains("db-automated-backup is made anew"));
        let about = about.unwrap_or_else(|| panic!("{told:#?}"));
        assert!(about.contains("restore in us-west-2 can go back to are removed"), "{about}");
        assert!(about.contains("Those in us-east-1 stay"), "{about}");
    });
}

#[test]
fn a_cluster_of_which_both_instances_are_gone_is_not_made_anew_empty_and_goes_on_with_a_restored_one()
 {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        user.sandbox.with(World::record_traffic);
        let aws = connect(&user.sandbox).await;
        let key = user.sandbox.with(|world| world.record(EAST, "db-instance", PRIMARY));
        let key = key["KmsKeyId"].clone();
        let rds = |region| aws.region(region).rds.clone();
        let call = rds(WEST).delete_db_instance().db_instance_identifier(REPLICA);
        call.skip_final_snapshot(true).send().await.unwrap();
        pass(1200).await;
        let call = rds(EAST).delete_db_instance().db_instance_identifier(PRIMARY);
        call.final_db_snapshot_identifier("kept").send().await.unwrap();
        pass(1800).await;

        let backups = |user: &User| {
            user.sandbox.with(|world| world.inventory())[WEST]["db-automated-backup"].clone()
        };
        let before = backups(&user);
        assert!(before.to_string().contains("retained"), "{before:#}");
        user.restart().await;
        user.refresh().await;
        let found = errors(&user.plan(&config).await.diagnostics);
        assert!(found.iter().any(|one| one.contains("Both instances are gone")), "{found:#?}");
        for text in [
            PRIMARY,
            "trading-db-subnet-group-prod",
            "environment-suffix = prod",
            "terraform taint",
        ] {
            assert!(found.iter().any(|one| one.contains(text)), "{text}: {found:#?}");
        }
        assert_eq!(backups(&user), before, "nothing is removed");

        // Which the error says how to do.
        let tag = aws_sdk_rds::types::Tag::builder();
        let tag = tag.key("trading-dr:environment-suffix").value("prod").build();
        let call = rds(EAST).restore_db_instance_from_db_snapshot();
        let call = call.db_instance_identifier(PRIMARY).db_snapshot_identifier("kept");
        let call = call.db_subnet_group_name("trading-db-subnet-group-prod").tags(tag);
        let call = call.engine_lifecycle_support("open-source-rds-extended-support-disabled");
        call.send().await.unwrap();
        pass(3600).await;
        user.restart().await;
        user.refresh().await;
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        let restored = user.sandbox.with(|world| world.record(EAST, "db-instance", PRIMARY));
        assert_eq!(restored["KmsKeyId"], key);
        let follows = user.sandbox.with(|world| world.record(WEST, "db-instance", REPLICA));
        assert_eq!(follows["DBInstanceStatus"], "available", "{follows:#}");
        traffic::keep("restored", &[&user.sandbox]);
    });
}
