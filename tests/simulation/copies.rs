//! Snapshots are copied into the DR region, old copies go, and somebody is told when none come.

use std::time::Duration;

use aws_sandbox::{Effect, Fault, Rule, Sandbox};
use serde_json::{Value as Json, json};

use crate::support::{
    agent::{EAST, WEST, alarm, begin_only},
    aws::{connect, simulate},
    user::{User, differences},
};

async fn pass_hours(hours: u64) {
    tokio::time::sleep(Duration::from_secs(hours * 3600)).await;
}

fn snapshots(sandbox: &Sandbox, region: &str) -> Vec<Json> {
    let all = sandbox.with(|world| world.inventory());
    let table = all[region]["db-snapshot"].as_object().cloned().unwrap_or_default();
    table.into_iter().map(|(_, one)| one).collect()
}

#[test]
fn the_newest_snapshots_are_copied_with_the_dr_regions_key_and_old_copies_go() {
    simulate(async || {
        let mut user = User::new().await;
        let mut config = crate::support::user::configuration(&user.sandbox);
        config["backup"] = json!({"snapshot_copies": 2});
        user.must_apply(&config).await;
        begin_only(&user.sandbox, &["copier"]);
        pass_hours(2).await;
        // The first snapshot is part of the creation.
        let first = snapshots(&user.sandbox, WEST);
        assert_eq!(first.len(), 1, "{first:#?}");
        pass_hours(5 * 24).await;
        let copies = snapshots(&user.sandbox, WEST);
        assert_eq!(copies.len(), 2, "{copies:#?}");
        for copy in &copies {
            assert_eq!(copy["SnapshotType"], "manual");
            assert_eq!(copy["Status"], "available");
            assert!(copy["KmsKeyId"].as_str().unwrap().contains(":us-west-2:"), "{copy}");
            assert_eq!(copy["Tags"]["team"], "trading", "the instance's tags");
            assert_eq!(copy["Tags"]["trading-dr:environment-suffix"], "prod");
            assert_eq!(copy["Tags"]["trading-dr:master-secret"], Json::Null);
            let name = copy["DBSnapshotIdentifier"].as_str().unwrap();
            assert!(name.starts_with("trading-db-copy-2026") && name.ends_with("-prod"), "{name}");
        }
        assert_eq!(alarm(&user.sandbox, WEST, "snapshot-copy-age"), "OK");
        // They come and go, and no plan speaks of them.
        user.must_be_unchanged(&config).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn somebody_is_told_when_no_copies_come() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        begin_only(&user.sandbox, &["copier"]);
        pass_hours(2).await;
        assert_eq!(alarm(&user.sandbox, WEST, "snapshot-copy-age"), "OK");
        let rule = Rule { operation: Some("CopyDBSnapshot".into()), ..Rule::default() };
        let denied = Effect::Fail {
            code: "AccessDenied".into(),
            message: "not authorized".into(),
            status: 403,
        };
        user.sandbox.add_fault(Fault::new(rule, denied));
        pass_hours(24).await;
        assert_eq!(alarm(&user.sandbox, WEST, "snapshot-copier-errors"), "ALARM");
        pass_hours(24).await;
        assert_eq!(alarm(&user.sandbox, WEST, "snapshot-copy-age"), "ALARM");
        user.sandbox.clear_faults();
        pass_hours(4).await;
        for name in ["snapshot-copy-age", "snapshot-copier-errors"] {
            assert_eq!(alarm(&user.sandbox, WEST, name), "OK", "{name}");
        }
    });
}

#[test]
fn somebody_is_told_when_the_copier_does_not_run_and_nobody_when_it_has_just_been_made() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        begin_only(&user.sandbox, &["copier"]);
        let told = || {
            let all = user.sandbox.with(|world| world.messages(WEST, "trading-db-alerts-prod"));
            let subjects = all.iter().map(|one| one["subject"].as_str().unwrap_or("").to_owned());
            subjects.filter(|one| one.contains("snapshot-copy-age")).collect::<Vec<_>>()
        };
        let state = || alarm(&user.sandbox, WEST, "snapshot-copy-age");
        assert_eq!(state(), "INSUFFICIENT_DATA");
        pass_hours(3).await;
        let mut expected = vec!["OK: \"trading-db-snapshot-copy-age-prod\" in us-west-2"];
        assert_eq!(told(), expected);
        let schedule = |state: &str| {
            let change = json!({"State": state});
            let drift = |world: &mut aws_sandbox::World| {
                world.drift(WEST, "event-rule", "trading-db-copier-prod", Some(&change))
            };
            user.sandbox.with(drift).unwrap();
        };
        schedule("DISABLED");
        pass_hours(2).await;
        assert_eq!(state(), "OK");
        pass_hours(6).await;
        assert_eq!(state(), "INSUFFICIENT_DATA");
        expected.push("INSUFFICIENT_DATA: \"trading-db-snapshot-copy-age-prod\" in us-west-2");
        assert_eq!(told(), expected);
        schedule("ENABLED");
        pass_hours(3).await;
        expected.push("OK: \"trading-db-snapshot-copy-age-prod\" in us-west-2");
        assert_eq!(told(), expected);
    });
}

#[test]
fn the_age_of_copies_is_told_while_the_source_does_not_answer() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        begin_only(&user.sandbox, &["copier"]);
        pass_hours(3).await;
        user.sandbox.set_down(EAST, true);
        pass_hours(6).await;
        assert_eq!(alarm(&user.sandbox, WEST, "snapshot-copy-age"), "OK");
        assert_eq!(alarm(&user.sandbox, WEST, "snapshot-copier-errors"), "ALARM");
        pass_hours(28).await;
        assert_eq!(alarm(&user.sandbox, WEST, "snapshot-copy-age"), "ALARM");
    });
}

#[test]
fn a_copier_that_overlaps_or_loses_answers_copies_nothing_twice() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        for operation in ["CopyDBSnapshot", "DeleteDBSnapshot", "PutMetricData"] {
            let rule =
                Rule { operation: Some(operation.into()), percent: Some(50), ..Rule::default() };
            user.sandbox.add_fault(Fault::new(rule, Effect::DropAfter));
        }
        begin_only(&user.sandbox, &["copier"]);
        pass_hours(9 * 24).await;
        let copies = snapshots(&user.sandbox, WEST);
        assert_eq!(copies.len(), 7, "{copies:#?}");
        let moments: std::collections::BTreeSet<String> =
            copies.iter().map(|one| one["SourceDBSnapshotIdentifier"].to_string()).collect();
        assert_eq!(moments.len(), 7);
    });
}

#[test]
fn without_copies_there_is_no_copier_and_old_copies_go_with_the_cluster() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        begin_only(&user.sandbox, &["copier"]);
        pass_hours(2).await;
        assert_eq!(snapshots(&user.sandbox, WEST).len(), 1);
        config["backup"] = json!({"snapshot_copies": 0});
        let before = user.state.value.clone().unwrap();
        let planned = user.must_plan(&config).await;
        let gone: Vec<String> = differences(before.get("components"), planned.get("components"))
            .into_iter()
            .filter(|one| one.ends_with("→ null"))
            .map(|one| one.split(':').next().unwrap().to_owned())
            .collect();
        assert_eq!(
            gone,
            [
                "global/iam-role/copier",
                "us-west-2/alarm/snapshot-copier-errors",
                "us-west-2/alarm/snapshot-copy-age",
                "us-west-2/event-rule/copier",
                "us-west-2/lambda-function/copier",
                "us-west-2/lambda-permission/copier",
                "us-west-2/log-group/copier",
            ]
        );
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        assert_eq!(snapshots(&user.sandbox, WEST).len(), 1, "it stays until a destroy");
        assert!(snapshots(&user.sandbox, EAST).is_empty(), "RDS's own are nobody's");
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

/// It is the newest for a day, and the copier's role has no right on it.
#[test]
fn a_snapshot_that_rds_takes_before_an_upgrade_keeps_nothing_from_being_copied() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        begin_only(&user.sandbox, &["copier"]);
        pass_hours(2).await;
        let name = "rds:preupgrade-trading-db-primary-prod-15-4-to-15-14-2026-01-05-12-00";
        let rds = connect(&user.sandbox).await.region(EAST).rds.clone();
        let all = rds.describe_db_snapshots().snapshot_type("automated").send().await.unwrap();
        let id = all.db_snapshots()[0].db_snapshot_identifier().unwrap();
        user.sandbox.with(|world| {
            let mut newest = world.record(EAST, "db-snapshot", id);
            newest["DBSnapshotIdentifier"] = name.into();
            // Later than any of every night for weeks.
            let made = newest["SnapshotCreateTime"].as_str().unwrap();
            let later = made.replacen("2026-01-0", "2026-02-0", 1);
            assert_ne!(later, made);
            newest["SnapshotCreateTime"] = later.into();
            world.place(EAST, "db-snapshot", name, newest);
        });
        pass_hours(3 * 24).await;
        let copies = snapshots(&user.sandbox, WEST);
        assert!(copies.len() >= 3, "{copies:#?}");
        for name in ["snapshot-copy-age", "snapshot-copier-errors"] {
            assert_eq!(alarm(&user.sandbox, WEST, name), "OK", "{name}");
        }
    });
}
