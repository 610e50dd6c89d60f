//! What becomes of a cluster while a run is under way, or right after one that did not get to its end: what AWS finishes by
//! itself, a failover, a destroy that is called off, a record that is given back in part.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sandbox::{Effect, Fault, Rule, Sandbox};
use serde_json::{Value as Json, json};

use crate::support::{
    agent::{EAST, LEDGER, WEST},
    aws::{Way, connect, pass, simulate},
    user::{State, User, configuration, differences, errors, lines, set},
};

const STANDBY: &str = "trading-db-replica-prod";
const RECORD: &str = "/trading-db/prod/cluster";

fn record(sandbox: &Sandbox, region: &str, kind: &str, id: &str) -> Json {
    sandbox.with(|world| world.record(region, kind, id))
}

/// Who holds the monitors of a region.
fn holder(user: &User, region: &str) -> Option<String> {
    let item = user.sandbox.with(|world| world.item(region, LEDGER, "prod", "intent"));
    item["held_by"]["S"].as_str().map(str::to_owned)
}

/// Interrupts what runs as soon as an operation was called.
async fn interrupt_after(sandbox: Sandbox, cancel: trading::plugin::CancellationToken, name: &str) {
    let has = |sandbox: &Sandbox| sandbox.calls().iter().any(|call| call.operation == name);
    while !has(&sandbox) {
        pass(1).await;
    }
    cancel.cancel();
}

#[test]
fn the_monitors_act_again_however_slowly_aws_answers() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        set(&mut config, "database.instance_class", json!("db.r6g.large"));
        let rule = Rule { service: Some("dynamodb".into()), ..Rule::default() };
        user.sandbox.add_fault(Fault::new(rule, Effect::Delay { milliseconds: 4000 }));
        let told = lines(&user.apply(&config).await);
        assert!(!told.iter().any(|one| one.contains("monitors")), "{told:#?}");
        for region in [EAST, WEST] {
            assert_eq!(holder(&user, region), None, "{region}");
        }
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn what_aws_finishes_after_an_interrupt_leaves_the_monitors_waiting_and_an_apply_ends_that() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        set(&mut config, "database.instance_class", json!("db.r6g.large"));
        user.sandbox.forget_calls();
        let (sandbox, cancel) = (user.sandbox.clone(), user.cancel.clone());
        let (found, ()) = futures::join!(
            user.apply(&config),
            interrupt_after(sandbox, cancel, "ModifyDBInstance")
        );
        assert!(found.has_errors());
        user.restart().await;
        // RDS goes on, one instance after the other where that is needed.
        let mut rounds = 0;
        loop {
            pass(1800).await;
            let planned = user.plan(&config).await;
            let told = lines(&planned.diagnostics);
            let planned = planned.state.unwrap();
            let shown = user.component_changes(&planned);
            assert_eq!(holder(&user, WEST).as_deref(), Some("apply"));
            if shown.is_empty() {
                // The only change is that they are to act again.
                let all = differences(user.state.value.as_ref().unwrap(), &planned);
                assert!(all.iter().any(|one| one.starts_with("status: ")), "{all:#?}");
                let seen = lines(&user.refresh().await);
                let is_told = |one: &String| one.contains("The monitors promote nothing");
                assert!(seen.iter().any(is_told), "{seen:#?} {told:#?}");
                break;
            }
            rounds += 1;
            assert!(rounds < 4, "{shown:#?}");
            user.sandbox.forget_calls();
            let (sandbox, cancel) = (user.sandbox.clone(), user.cancel.clone());
            let (found, ()) = futures::join!(
                user.apply(&config),
                interrupt_after(sandbox, cancel, "ModifyDBInstance")
            );
            assert!(found.has_errors());
            user.restart().await;
        }
        user.must_apply(&config).await;
        assert_eq!(holder(&user, WEST), None);
        user.must_be_unchanged(&config).await;
    });
}

/// The standby writes once an operation was called in a region so often, as after a promotion; `None` is never.
fn promoted_at(operation: &'static str, region: &'static str) -> (Way, Arc<Mutex<Option<usize>>>) {
    let calls: Arc<Mutex<Option<usize>>> = Arc::default();
    let left = Arc::clone(&calls);
    let witness = move |sandbox: &Sandbox| {
        let mut left = left.lock().unwrap();
        let last = sandbox.with(|world| world.last_call().cloned());
        let is_it = last.is_some_and(|call| call.operation == operation && call.region == region);
        let Some(count) = (*left).filter(|_| is_it) else { return };
        *left = count.checked_sub(1).filter(|count| *count > 0);
        if left.is_none() {
            let change = json!({
                "ReadReplicaSourceDBInstanceIdentifier": null, "_source": null, "StatusInfos": null,
            });
            let change = Some(&change);
            sandbox.with(|world| world.drift(WEST, "db-instance", STANDBY, change)).unwrap();
        }
    };
    (Way::watched(Arc::new(witness)), calls)
}

/// The line of the instance in the DR region.
fn standby(user: &User) -> String {
    let components = user.state.value.as_ref().unwrap().get("components");
    components.get("us-west-2/db-instance").as_str().unwrap().to_owned()
}

#[test]
fn a_failover_during_an_update_is_told_and_is_no_fault_of_the_provider() {
    simulate(async || {
        let (way, calls) = promoted_at("PutMetricAlarm", EAST);
        let mut user = User::by(Sandbox::new(1.0), way).await;
        let mut config = configuration(&user.sandbox);
        user.must_apply(&config).await;
        set(&mut config, "monitoring.cpu_percent", json!(70));
        *calls.lock().unwrap() = Some(1);
        let found = user.apply(&config).await;
        assert_eq!(*calls.lock().unwrap(), None);
        let told = errors(&found);
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].contains("changed by itself while this apply ran"), "{told:#?}");
        assert!(told[0].contains("us-west-2/db-instance"), "{told:#?}");
        assert!(!user.state.tainted);
        assert!(standby(&user).contains("role=writer"), "{}", standby(&user));
        // What was asked for is done.
        let planned = user.plan(&config).await;
        assert!(!planned.diagnostics.has_errors(), "{:#?}", errors(&planned.diagnostics));
        let shown = user.component_changes(planned.state.as_ref().unwrap());
        assert!(shown.iter().all(|one| !one.contains("alarm/cpu")), "{shown:#?}");
    });
}

#[test]
fn a_promotion_at_the_end_of_a_create_shows_with_the_next_read() {
    let mut count = 0;
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        let is_look = |call: &&aws_sandbox::CallRecord| {
            call.operation == "DescribeDBInstances" && call.region == WEST
        };
        count = user.sandbox.calls().iter().filter(is_look).count();
    });
    assert!(count > 2);
    simulate(async || {
        // All but the last look at it.
        let (way, calls) = promoted_at("DescribeDBInstances", WEST);
        let mut user = User::by(Sandbox::new(1.0), way).await;
        let config = configuration(&user.sandbox);
        *calls.lock().unwrap() = Some(count - 1);
        user.must_apply(&config).await;
        assert_eq!(*calls.lock().unwrap(), None);
        assert!(standby(&user).contains("role=replica"), "as planned: {}", standby(&user));
        user.refresh().await;
        assert!(standby(&user).contains("role=writer"), "{}", standby(&user));
    });
}

#[test]
fn of_a_create_of_which_nothing_could_be_looked_at_the_account_is_known() {
    simulate(async || {
        // Whatever is looked at is refused once the create has failed.
        let witness = |sandbox: &Sandbox| {
            let last = sandbox.with(|world| world.last_call().cloned());
            if last.is_some_and(|call| call.operation == "CreateDBInstance") {
                let refused = Effect::Fail {
                    code: "AccessDeniedException".into(),
                    message: "not authorized".into(),
                    status: 400,
                };
                let rule = Rule { operation: Some("ListKeys".into()), ..Rule::default() };
                sandbox.add_fault(Fault::new(rule, refused));
            }
        };
        let mut user = User::by(Sandbox::new(1.0), Way::watched(Arc::new(witness))).await;
        let config = configuration(&user.sandbox);
        user.refuse("CreateDBInstance");
        let found = user.apply(&config).await;
        assert!(found.has_errors() && user.state.tainted);
        let state = user.state.value.clone().unwrap();
        assert_eq!(state.get("components").entries().count(), 0, "it knows nothing");
        user.sandbox.clear_faults();
        // Somebody goes on with credentials of another account: here, the state is the one that moves.
        let kept = user.state.private.clone();
        let elsewhere = String::from_utf8(kept.clone()).unwrap();
        assert!(elsewhere.contains(aws_sandbox::ACCOUNT), "{elsewhere}");
        user.state.private = elsewhere.replace(aws_sandbox::ACCOUNT, "210987654321").into_bytes();
        user.restart().await;
        for found in [user.refresh().await, user.destroy().await] {
            let told = errors(&found);
            assert!(told.iter().any(|one| one.contains("are of another account")), "{told:#?}");
        }
        assert_eq!(user.state.value, Some(state));
        user.state.private = kept;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_record_that_could_not_be_given_back_still_says_that_the_cluster_was_whole() {
    simulate(async || {
        for effect in [Effect::DropBefore, Effect::DropAfter] {
            let (mut user, config) = User::with_cluster().await;
            // The first one removes the lease of the create.
            let operation = Some("DeleteParameters".into());
            let rule = Rule { operation, after: 1, ..Rule::default() };
            user.sandbox.add_fault(Fault::new(rule, effect.clone()));
            let told = errors(&user.destroy().await);
            user.sandbox.clear_faults();
            // What went by a call whose answer was lost is gone: a look shows it.
            let is_told = told.iter().any(|one| one.contains("goes on from there"));
            assert_eq!(is_told, effect == Effect::DropBefore, "{told:#?}");
            assert_eq!(user.state.value.is_some(), is_told, "{told:#?}");
            let there = |name: &str| !record(&user.sandbox, WEST, "ssm-parameter", name).is_null();
            let all = ["cluster", "complete", "arguments"];
            let all = all.map(|name| there(&format!("/trading-db/prod/{name}")));
            assert_eq!(all, [effect == Effect::DropBefore; 3], "{effect:?}");
            // Somebody else takes the suffix, where it is free.
            let mut other = User::of(user.sandbox.clone()).await;
            pass(600).await;
            let found = other.apply(&config).await;
            assert_eq!(found.has_errors(), all[0], "{:#?}", errors(&found));
            user.restart().await;
            if all[0] {
                user.must_destroy().await;
            } else {
                other.must_be_unchanged(&config).await;
                other.must_destroy().await;
            }
            assert_eq!(user.leftovers(), Vec::<String>::new());
        }
    });
}

#[test]
fn a_create_that_is_refused_before_it_makes_anything_leaves_no_record() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let planned = user.plan(&config).await;
        assert!(!planned.diagnostics.has_errors());
        // Somebody takes a name between plan and apply.
        let sns = connect(&user.sandbox).await.region(EAST).sns.clone();
        let topic = sns.create_topic().name("trading-db-alerts-prod").send().await.unwrap();
        let found = user.apply_planned(&config, planned).await;
        assert!(found.has_errors() && user.state.value.is_none());
        assert_eq!(record(&user.sandbox, WEST, "ssm-parameter", RECORD), Json::Null);
        sns.delete_topic().topic_arn(topic.topic_arn().unwrap()).send().await.unwrap();
        assert_eq!(user.leftovers(), Vec::<String>::new());
        // What another one has begun is not given back.
        let killed = tokio::time::timeout(Duration::from_secs(900), user.apply(&config)).await;
        assert!(killed.is_err(), "it is killed in the middle");
        user.state = State::default();
        user.restart().await;
        pass(600).await;
        let mut elsewhere = config.clone();
        set(&mut elsewhere, "failover.witness_region", json!("eu-west-1"));
        assert!(user.apply(&elsewhere).await.has_errors());
        assert_ne!(record(&user.sandbox, WEST, "ssm-parameter", RECORD), Json::Null);
        user.must_apply(&config).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn whoever_calls_a_destroy_off_is_told_that_nothing_is_promoted_any_more() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        user.sandbox.forget_calls();
        let (sandbox, cancel) = (user.sandbox.clone(), user.cancel.clone());
        let (found, ()) =
            futures::join!(user.destroy(), interrupt_after(sandbox, cancel, "UpdateItem"));
        assert!(found.has_errors());
        let told = lines(&found);
        let is_told = |one: &String| {
            one.contains("Nothing may be promoted") && one.contains("terraform apply")
        };
        assert!(told.iter().any(is_told), "{told:#?}");
        let calls = user.sandbox.calls().into_iter().filter(|one| one.service != "ssm");
        let removed = calls.into_iter().find(|one| one.operation.starts_with("Del"));
        assert!(removed.is_none(), "{removed:?}");
        user.restart().await;
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn a_table_that_somebody_has_protected_goes_with_the_cluster() {
    simulate(async || {
        let (mut user, _) = User::with_cluster().await;
        for region in [EAST, WEST] {
            let dynamodb = connect(&user.sandbox).await.region(region).dynamodb.clone();
            let call = dynamodb.update_table().table_name(LEDGER).deletion_protection_enabled(true);
            call.send().await.unwrap();
            pass(60).await;
            let table = record(&user.sandbox, region, "dynamodb-table", LEDGER);
            assert_eq!(table["DeletionProtectionEnabled"], true);
        }
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn nothing_goes_out_over_ipv6_either() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        for (region, site) in [(EAST, "primary"), (WEST, "dr")] {
            let vpc = config[site]["vpc_id"].as_str().unwrap();
            let block = json!([{
                "associationId": "vpc-cidr-assoc-0a1b2c3d", "ipv6CidrBlock": "2600:1f18:1::/56",
                "ipv6CidrBlockState": {"state": "associated"},
            }]);
            let change = json!({"ipv6CidrBlockAssociationSet": {"item": block}});
            user.sandbox.with(|world| world.drift(region, "vpc", vpc, Some(&change))).unwrap();
        }
        user.must_apply(&config).await;
        for region in [EAST, WEST] {
            for name in ["trading-db-sg-prod", crate::support::agent::PROBE_GROUP] {
                let group = user.sandbox.with(|world| world.group_id(region, name));
                let rules =
                    record(&user.sandbox, region, "security-group", &group)["_rules"].clone();
                let rules = rules.as_array().unwrap();
                assert!(!rules.is_empty());
                assert!(rules.iter().all(|rule| rule["cidr6"].is_null()), "{rules:#?}");
            }
        }
        user.must_be_unchanged(&config).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_replica_that_is_made_anew_is_told_of_again() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let rds = connect(&user.sandbox).await.region(WEST).rds.clone();
        let call = rds.delete_db_instance().db_instance_identifier(STANDBY);
        call.skip_final_snapshot(true).send().await.unwrap();
        pass(3600).await;
        let id = super::drift::id_of(&user, WEST, "db-event-subscription");
        let state = |user: &User| {
            let one = record(&user.sandbox, WEST, "db-event-subscription", &id);
            one["Status"].as_str().unwrap().to_owned()
        };
        assert_eq!(state(&user), "all-sources-deleted");
        user.must_apply(&config).await;
        assert_eq!(state(&user), "active");
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn the_probe_is_put_where_lambda_is() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let network = user.sandbox.with(|world| world.network());
        let subnet = network[EAST]["private_subnet_ids"][0].as_str().unwrap().to_owned();
        let change = json!({"availabilityZoneId": "use1-az3"});
        user.sandbox.with(|world| world.drift(EAST, "subnet", &subnet, Some(&change))).unwrap();
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        let probe = record(&user.sandbox, EAST, "function", "trading-db-probe-prod");
        let subnets =
            probe["VpcConfig"]["SubnetIds"].as_array().unwrap_or_else(|| panic!("{probe:#}"));
        assert!(subnets.len() > 1 && !subnets.contains(&json!(subnet)), "{probe:#}");
    });
}

#[test]
fn no_replica_of_a_secret_outlives_its_primary() {
    simulate(async || {
        for is_deleted in [false, true] {
            let (mut user, config) = User::with_cluster().await;
            // Somebody has had it removed a moment ago: nothing lists it any more.
            let name = "trading-db-master-prod";
            let secrets = connect(&user.sandbox).await.region(EAST).secrets.clone();
            let call = secrets.remove_regions_from_replication().secret_id(name);
            call.remove_replica_regions(WEST).send().await.unwrap();
            let replica = record(&user.sandbox, WEST, "secret", name);
            assert_eq!(replica["PrimaryRegion"], EAST, "{replica:#}");
            if is_deleted {
                // Put back, it is replicated again once the old replica is gone.
                user.sandbox.with(|world| {
                    let date =
                        json!({"DeletedDate": world.record(EAST, "secret", name)["CreatedDate"]});
                    world.drift(EAST, "secret", name, Some(&date)).unwrap();
                });
                user.must_apply(&config).await;
                user.must_be_unchanged(&config).await;
            }
            user.must_destroy().await;
            pass(3600).await;
            assert_eq!(user.leftovers(), Vec::<String>::new());
        }
    });
}

#[test]
fn after_a_failover_nothing_is_planned_for_what_told_of_the_lost_writer() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let rds = |region: &'static str| {
            let sandbox = user.sandbox.clone();
            async move { connect(&sandbox).await.region(region).rds.clone() }
        };
        let promote = rds(WEST).await.promote_read_replica().db_instance_identifier(STANDBY);
        promote.send().await.unwrap();
        pass(1800).await;
        let call = rds(EAST).await.delete_db_instance().skip_final_snapshot(true);
        call.db_instance_identifier("trading-db-primary-prod").send().await.unwrap();
        pass(3600).await;
        let id = super::drift::id_of(&user, EAST, "db-event-subscription");
        let one = record(&user.sandbox, EAST, "db-event-subscription", &id);
        assert_eq!(one["Status"], "all-sources-deleted");
        user.refresh().await;
        user.must_be_unchanged(&config).await;
        let mut other = config.clone();
        set(&mut other, "monitoring.cpu_percent", json!(70));
        user.must_apply(&other).await;
    });
}
