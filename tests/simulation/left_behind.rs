//! What would be left behind, lost, or taken from somebody else without an error: credentials of another account, a create
//! that goes on with other arguments, a group that was handed over, a secret that waits to be deleted.

use std::time::Duration;

use aws_sandbox::{Effect, Fault, Rule, Sandbox};
use serde_json::{Value as Json, json};
use trading::{agent::Ledger, plugin::Value};

use super::agent::{doors, write_down};
use crate::support::{
    agent::{EAST, PROBE_GROUP, WEST, begin_only, ledger},
    aws::{connect, pass, simulate},
    user::{State, User, configuration, errors},
};

const SUFFIX: &str = "trading-dr:environment-suffix";

fn drift(user: &User, region: &str, kind: &str, id: &str, change: &Json) {
    user.sandbox.with(|world| world.drift(region, kind, id, Some(change))).unwrap();
}

fn record(sandbox: &Sandbox, region: &str, kind: &str, id: &str) -> Json {
    sandbox.with(|world| world.record(region, kind, id))
}

/// The operations that were called since they were last forgotten.
fn called(user: &User) -> Vec<String> {
    user.sandbox.calls().into_iter().map(|call| call.operation).collect()
}

#[test]
fn with_credentials_of_another_account_no_cluster_counts_as_gone() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let state = user.state.value.as_ref().unwrap().to_json().to_string();
        let elsewhere = state.replace(aws_sandbox::ACCOUNT, "210987654321");
        user.state.value = Some(user.value(&serde_json::from_str(&elsewhere).unwrap()));
        // So has what is kept beside it.
        let kept = String::from_utf8(user.state.private.clone()).unwrap();
        user.state.private = kept.replace(aws_sandbox::ACCOUNT, "210987654321").into_bytes();
        let before = user.state.value.clone();
        user.restart().await;
        user.sandbox.forget_calls();
        let must_tell = |found: Vec<String>| {
            let told = |text: &str| found.iter().any(|one| one.contains(text));
            assert!(told("are of another account") && told("210987654321"), "{found:#?}");
            assert!(told(aws_sandbox::ACCOUNT), "{found:#?}");
        };
        must_tell(errors(&user.refresh().await));
        assert_eq!(user.state.value, before);
        must_tell(errors(&user.plan(&config).await.diagnostics));
        must_tell(errors(&user.plan_unseen(&config).await.diagnostics));
        must_tell(errors(&user.apply(&config).await));
        must_tell(errors(&user.destroy().await));
        assert_eq!(user.state.value, before);
        let called = called(&user);
        assert!(called.iter().all(|one| one == "GetCallerIdentity"), "{called:?}");
    });
}

#[test]
fn an_unfinished_create_does_not_go_on_at_another_place() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let killed = tokio::time::timeout(Duration::from_secs(900), user.apply(&config)).await;
        assert!(killed.is_err(), "it is killed in the middle");
        user.state = State::default();
        user.restart().await;
        // Its lease ends.
        pass(120).await;
        for (path, value) in [
            ("failover.witness_region", json!("eu-west-1")),
            ("database.username", json!("somebody_else")),
        ] {
            let mut other = config.clone();
            crate::support::user::set(&mut other, path, value.clone());
            user.sandbox.forget_calls();
            let found = errors(&user.plan(&other).await.diagnostics);
            let is_its = |one: &String| one.starts_with(path) && one.contains("begun with");
            assert!(found.iter().any(is_its), "{path}: {found:#?}");
        }
        // As it is told to: imported, it can be destroyed, and be made as it shall be.
        let mut goes = User::of(Sandbox::with_world(user.sandbox.world(), 1.0)).await;
        let found = errors(&goes.import("prod/us-east-1/us-west-2").await);
        assert!(found.is_empty(), "{found:#?}");
        goes.must_destroy().await;
        assert_eq!(goes.leftovers(), Vec::<String>::new());
        let mut other = config.clone();
        other["failover"] = json!({"witness_region": "eu-west-1"});
        goes.must_apply(&other).await;
        goes.must_destroy().await;
        assert_eq!(goes.leftovers(), Vec::<String>::new());
        // As it was, it goes on.
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_security_group_that_was_handed_over_keeps_its_rules() {
    simulate(async || {
        let (mut user, _) = User::with_cluster().await;
        let group = user.sandbox.with(|world| world.group_id(EAST, "trading-db-sg-prod"));
        let rules =
            |user: &User| record(&user.sandbox, EAST, "security-group", &group)["_rules"].clone();
        let probe = user.sandbox.with(|world| world.group_id(EAST, PROBE_GROUP));
        let before = rules(&user);
        assert!(before.as_array().is_some_and(|all| all.len() > 1), "{before:#}");
        let theirs = json!({"_tags": {SUFFIX: "others"}});
        drift(&user, EAST, "security-group", &group, &theirs);
        user.sandbox.with(|_| ());
        pass(60).await;
        let found = user.destroy().await;
        assert!(!found.has_errors(), "{:#?}", errors(&found));
        // But for what lets in the probe's group, which was ours, and could not have been removed.
        let is_kept = |rule: &&Json| rule["group"] != probe.as_str();
        let kept: Vec<_> = before.as_array().unwrap().iter().filter(is_kept).cloned().collect();
        assert!(!kept.is_empty());
        assert_eq!(rules(&user), json!(kept));
    });
}

#[test]
fn a_destroy_without_a_final_snapshot_that_was_asked_for_removes_nothing() {
    simulate(async || {
        let mut user = User::new().await;
        let mut config = configuration(&user.sandbox);
        config["deletion"] = json!({"final_snapshot": true});
        user.must_apply(&config).await;
        let (id, state) = ("trading-db-primary-prod", "storage-full");
        drift(&user, EAST, "db-instance", id, &json!({"DBInstanceStatus": state}));
        user.restart().await;
        user.sandbox.forget_calls();
        let before = user.state.value.clone();
        let found = errors(&user.destroy().await);
        let told = |text: &str| found.iter().any(|one| one.contains(text));
        assert!(told("deletion.final_snapshot:") && told(state), "{found:#?}");
        let removed = called(&user).into_iter().find(|one| {
            (one.starts_with("Delete") || one.starts_with("Stop"))
                && !one.starts_with("DeleteParameter")
        });
        assert_eq!(removed, None);
        assert_eq!(user.state.value, before);
        // Without it, all goes, whatever that apply says of the instance.
        config["deletion"] = json!({"final_snapshot": false});
        user.restart().await;
        user.apply(&config).await;
        let asked =
            user.state.value.as_ref().unwrap().get("deletion").get("final_snapshot").as_bool();
        assert_eq!(asked, Some(false));
        user.restart().await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_secret_that_waits_to_be_deleted_goes_with_its_cluster() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let name = "trading-db-master-prod";
        let secrets = connect(&user.sandbox).await.region(EAST).secrets.clone();
        let call = secrets.remove_regions_from_replication().secret_id(name);
        call.remove_replica_regions(WEST).send().await.unwrap();
        pass(120).await;
        secrets.delete_secret().secret_id(name).recovery_window_in_days(30).send().await.unwrap();
        user.restart().await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
        assert_eq!(record(&user.sandbox, EAST, "secret", name), Json::Null);
        user.restart().await;
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn a_name_that_aws_keeps_for_a_deleted_secret_is_told_at_plan() {
    simulate(async || {
        for (region, name) in [(EAST, "trading-db-master-prod"), (WEST, "trading-db-probe-prod")] {
            let mut user = User::new().await;
            let config = configuration(&user.sandbox);
            let secrets = connect(&user.sandbox).await.region(region).secrets.clone();
            secrets.create_secret().name(name).secret_string("theirs").send().await.unwrap();
            secrets
                .delete_secret()
                .secret_id(name)
                .recovery_window_in_days(7)
                .send()
                .await
                .unwrap();
            let found = errors(&user.plan(&config).await.diagnostics);
            let told = found.iter().find(|one| one.starts_with("environment_suffix:"));
            let command = format!("delete-secret --region {region} --secret-id {name}");
            assert!(told.is_some_and(|one| one.contains(&command)), "{found:#?}");
            let call = secrets.delete_secret().secret_id(name).force_delete_without_recovery(true);
            call.send().await.unwrap();
            pass(600).await;
            user.restart().await;
            user.must_apply(&config).await;
            user.must_be_unchanged(&config).await;
        }
    });
}

#[test]
fn copies_of_an_earlier_cluster_are_not_the_copiers() {
    simulate(async || {
        let mut user = User::new().await;
        let mut config = configuration(&user.sandbox);
        config["backup"] = json!({"snapshot_copies": 2});
        user.must_apply(&config).await;
        begin_only(&user.sandbox, &["copier"]);
        let copies = |user: &User| -> Vec<String> {
            let all = user.sandbox.with(|world| world.inventory());
            all[WEST]["db-snapshot"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(id, _)| id.clone())
                .collect()
        };
        pass(3 * 86_400).await;
        let first = copies(&user);
        assert_eq!(first.len(), 2, "{first:?}");
        // One was handed over, the other is encrypted with the key of a cluster that had the suffix before.
        drift(&user, WEST, "db-snapshot", &first[0], &json!({"_tags": {SUFFIX: "others"}}));
        let key = format!("arn:aws:kms:us-west-2:{}:key/earlier", aws_sandbox::ACCOUNT);
        drift(&user, WEST, "db-snapshot", &first[1], &json!({"KmsKeyId": key}));
        pass(5 * 86_400).await;
        let left = copies(&user);
        assert_eq!(left.len(), 4, "{left:?}");
        assert!(first.iter().all(|one| left.contains(one)), "{first:?} {left:?}");
    });
}

#[test]
fn a_writer_is_opened_again_although_somebody_who_was_let_in_is_gone() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let mut open = doors(&user.sandbox, EAST);
        open.sort();
        assert_eq!(open.len(), 2, "{open:?}");
        let rule = |source: &str| {
            json!({"protocol": "tcp", "from": 5432, "to": 5432, "source": source, "description": null}).to_string()
        };
        let closed_here = vec![rule("sg-00000000000000dead"), rule(&open[0]), rule(&open[1])];
        write_down(&user, EAST, &Ledger { version: 7, closed_here, ..Ledger::default() });
        let group = user.sandbox.with(|world| world.group_id(EAST, "trading-db-sg-prod"));
        let probe =
            user.sandbox.with(|world| world.record(EAST, "security-group", &group))["_rules"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|one| !open.iter().any(|open| one.to_string().contains(open)))
                .cloned()
                .collect::<Vec<_>>();
        drift(&user, EAST, "security-group", &group, &json!({"_rules": probe}));
        assert_eq!(doors(&user.sandbox, EAST), Vec::<String>::new());
        // The topic does not take it at first.
        let rule = Rule { operation: Some("Publish".into()), times: Some(1), ..Rule::default() };
        user.sandbox.add_fault(Fault::new(rule, Effect::Throttle));
        begin_only(&user.sandbox, &["monitor", "probe"]);
        pass(200).await;
        let mut again = doors(&user.sandbox, EAST);
        again.sort();
        assert_eq!(again, open);
        assert_eq!(ledger(&user.sandbox, EAST)["closed_here"], json!([]));
        let told = user.sandbox.with(|world| world.messages(EAST, "trading-db-alerts-prod"));
        let told = told.iter().any(|one| {
            one.to_string().contains("not for everybody")
                && one.to_string().contains("00000000000000dead")
        });
        assert!(told);
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn of_a_state_that_names_no_account_nothing_is_held_against_credentials() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let state = user.state.value.clone().unwrap();
        user.state.value = Some(state.with("arns", Value::Mapping(Default::default())));
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
    });
}
