//! Runs that meet trouble or each other: interruption, timeouts, throttling, a second apply.

use std::{collections::BTreeSet, time::Duration};

use aws_sandbox::{CallRecord, Effect, Fault, Rule, World};
use serde_json::{Value as Json, json};

use super::crash::changes_something;
use crate::support::{
    aws::{connect, simulate},
    traffic,
    user::{User, change, configuration, differences, errors, lines},
};

fn rule(operation: &str) -> Rule {
    Rule { operation: Some(operation.into()), ..Rule::default() }
}

/// Where what a run kept is not what there is: its components and their ARNs. Another process goes on.
async fn inexact(user: &mut User) -> Vec<String> {
    let kept = user.state.value.clone().unwrap();
    user.restart().await;
    user.refresh().await;
    let all = differences(&kept, user.state.value.as_ref().unwrap()).into_iter();
    all.filter(|one| one.starts_with("components ") || one.starts_with("arns ")).collect()
}

#[test]
fn an_interrupt_ends_soon_keeps_what_was_made_and_the_next_run_goes_on() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let cancel = user.cancel.clone();
        tokio::spawn(async move {
            // In the middle of the primary's creation.
            tokio::time::sleep(Duration::from_secs(300)).await;
            cancel.cancel();
        });
        let begun = tokio::time::Instant::now();
        let found = errors(&user.apply(&config).await);
        assert!(begun.elapsed() < Duration::from_secs(315), "{:?}", begun.elapsed());
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains("The create was not finished: interrupted"), "{found:#?}");
        assert!(found[0].contains("us-east-1/db-instance"), "{found:#?}");
        assert!(found[0].contains("terraform untaint"), "{found:#?}");
        assert!(user.state.tainted);
        let state = user.state.value.clone().unwrap();
        assert_eq!(state.get("status").as_str(), Some("incomplete"));
        assert!(!state.get("components").get("us-east-1/db-instance").is_null());
        assert_eq!(inexact(&mut user).await, Vec::<String>::new());
        user.state.tainted = false;
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn an_interrupt_while_a_call_is_repeated_is_no_failure_of_it() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        // What AWS says of a role that it does not know everywhere yet: asked again for minutes.
        user.sandbox.add_fault(Fault::new(
            rule("CreateFunction"),
            Effect::Fail {
                code: "InvalidParameterValueException".into(),
                message: "The role defined for the function cannot be assumed by Lambda.".into(),
                status: 400,
            },
        ));
        let cancel = user.cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(100)).await;
            cancel.cancel();
        });
        let found = errors(&user.apply(&config).await);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains("The create was not finished: interrupted"), "{found:#?}");
        assert!(found[0].contains("us-west-2/lambda-function/monitor"), "{found:#?}");
    });
}

#[test]
fn a_tainted_cluster_that_is_not_untainted_is_rebuilt_cleanly() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        user.sandbox.add_fault(Fault::new(
            Rule { times: Some(1), ..rule("CreateDBInstance") },
            Effect::Fail {
                code: "InsufficientDBInstanceCapacity".into(),
                message: "none left".into(),
                status: 400,
            },
        ));
        let found = errors(&user.apply(&config).await);
        assert!(found[0].contains("Creating us-east-1/db-instance failed"), "{found:#?}");
        assert!(found[0].contains("InsufficientDBInstanceCapacity: none left"), "{found:#?}");
        assert!(user.state.tainted);
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_timeout_ends_as_an_interrupt_does() {
    simulate(async || {
        let mut user = User::new().await;
        let mut config = configuration(&user.sandbox);
        config["timeouts"] = json!({"create": "10m"});
        let begun = user.sandbox.now().0;
        let found = errors(&user.apply(&config).await);
        assert!(user.sandbox.now().0 - begun < 620_000, "it goes on after its time");
        assert!(found[0].contains("terraform untaint") && user.state.tainted, "{found:#?}");
        assert!(
            found[0].contains("The create was not finished: the timeout has passed"),
            "{found:#?}"
        );
        assert_eq!(inexact(&mut user).await, Vec::<String>::new());
        user.state.tainted = false;
        config["timeouts"] = Json::Null;
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn a_timeout_of_an_update_or_of_a_destroy_keeps_the_state_and_the_next_run_goes_on() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        config["timeouts"] = json!({"update": "4m", "delete": "4m"});
        user.must_apply(&config).await;
        config["database"] = json!({"instance_class": "db.r6g.large"});
        let begun = user.sandbox.now().0;
        let found = errors(&user.apply(&config).await);
        assert!(user.sandbox.now().0 - begun < 260_000, "it goes on after its time");
        assert!(
            found[0].contains("The update was not finished: the timeout has passed"),
            "{found:#?}"
        );
        assert!(!user.state.tainted && !found[0].contains("untaint"), "{found:#?}");
        assert_eq!(inexact(&mut user).await, Vec::<String>::new());
        config["timeouts"] = json!({"delete": "4m"});
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        let found = errors(&user.destroy().await);
        assert!(
            found[0].contains("The destroy was not finished: the timeout has passed"),
            "{found:#?}"
        );
        assert_eq!(inexact(&mut user).await, Vec::<String>::new());
        for _ in 0..10 {
            user.restart().await;
            if !user.destroy().await.has_errors() {
                break;
            }
        }
        assert!(user.state.value.is_none());
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn an_interrupt_of_an_update_or_of_a_destroy_keeps_the_state_and_the_next_run_goes_on() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        let interrupt = |user: &User, seconds| {
            let cancel = user.cancel.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                cancel.cancel();
            });
        };
        change(&mut config);
        for seconds in [5, 60, 200] {
            interrupt(&user, seconds);
            let begun = tokio::time::Instant::now();
            let found = errors(&user.apply(&config).await);
            assert!(begun.elapsed() < Duration::from_secs(seconds + 15), "{:?}", begun.elapsed());
            assert!(found[0].contains("The update was not finished: interrupted"), "{found:#?}");
            assert!(!user.state.tainted);
            assert_eq!(inexact(&mut user).await, Vec::<String>::new(), "after {seconds} s");
        }
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        for seconds in [5, 60, 200] {
            interrupt(&user, seconds);
            let found = errors(&user.destroy().await);
            assert!(found[0].contains("The destroy was not finished: interrupted"), "{found:#?}");
            assert_eq!(inexact(&mut user).await, Vec::<String>::new(), "after {seconds} s");
        }
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

/// That AWS throttles is an answer: what fails after it is counted anew.
#[test]
fn a_call_that_was_throttled_for_long_is_repeated_when_it_then_fails() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        for (times, effect) in [(9, Effect::Throttle), (6, Effect::DropBefore)] {
            let rule = Rule { times: Some(times), ..rule("GetDashboard") };
            let rule = Rule { region: Some("us-east-1".into()), ..rule };
            user.sandbox.add_fault(Fault::new(rule, effect));
        }
        user.restart().await;
        user.must_be_unchanged(&config).await;
        assert_eq!(user.sandbox.hits(), 15);
    });
}

#[test]
fn an_answer_that_is_lost_makes_nothing_twice() {
    simulate(async || {
        let creations = [
            "CreateKey",
            "CreateAlias",
            "CreateVpcPeeringConnection",
            "CreateRoute",
            "CreateSecurityGroup",
            "AuthorizeSecurityGroupIngress",
            "CreateDBSubnetGroup",
            "CreateDBParameterGroup",
            "CreateRole",
            "CreateSecret",
            "CreateLogGroup",
            "CreateDBInstance",
            "CreateDBInstanceReadReplica",
            "StartDBInstanceAutomatedBackupsReplication",
            "PutParameter",
            "CreateTable",
            "CreateFunction",
            "AddPermission",
            "PutRule",
            "PutTargets",
            "Invoke",
        ];
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        for operation in creations {
            let once = Rule { times: Some(1), ..rule(operation) };
            user.sandbox.add_fault(Fault::new(once, Effect::DropAfter));
        }
        user.must_apply(&config).await;
        user.sandbox.clear_faults();
        user.must_be_unchanged(&config).await;
        let inventory = user.sandbox.with(|world| world.inventory());
        for (region, kind, count) in [
            ("us-east-1", "kms-key", 1),
            ("us-west-2", "kms-key", 1),
            ("us-east-1", "vpc-peering-connection", 1),
            // Of the database and of the probe.
            ("us-east-1", "security-group", 2),
            ("us-east-1", "function", 2),
        ] {
            assert_eq!(
                inventory[region][kind].as_object().unwrap().len(),
                count,
                "{region} {kind}"
            );
        }
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn of_two_creates_of_one_suffix_one_wins_and_the_other_is_told_why() {
    simulate(async || {
        let mut one = User::new().await;
        let mut other = User::of(one.sandbox.clone()).await;
        let config = configuration(&one.sandbox);
        let (first, second) = tokio::join!(one.apply(&config), other.apply(&config));
        let failed: Vec<_> =
            [errors(&first), errors(&second)].into_iter().filter(|all| !all.is_empty()).collect();
        assert_eq!(failed.len(), 1, "{failed:#?}");
        assert!(failed[0][0].contains("Somebody else is changing the cluster prod"), "{failed:#?}");
        assert!(failed[0][0].contains("another create is running since 2026-"), "{failed:#?}");
        let (mut winner, loser) = if first.has_errors() { (other, one) } else { (one, other) };
        // Tainted there, its next apply would rebuild what the other one has.
        assert!(loser.state.value.is_none() && !loser.state.tainted);
        winner.must_be_unchanged(&config).await;
    });
}

#[test]
fn a_run_that_cannot_show_that_it_lives_stops_says_so_and_is_gone_on_with() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let sandbox = user.sandbox.clone();
        tokio::spawn(async move {
            // In the middle of the primary's creation.
            tokio::time::sleep(Duration::from_secs(300)).await;
            let rule = Rule { service: Some("ssm".into()), ..Rule::default() };
            sandbox.add_fault(Fault::new(rule, Effect::DropBefore));
        });
        let begun = tokio::time::Instant::now();
        let found = errors(&user.apply(&config).await);
        assert!(begun.elapsed() < Duration::from_secs(420), "{:?}", begun.elapsed());
        let has = |text: &str| found.iter().any(|one| one.contains(text));
        assert!(has("The cluster's lease could not be renewed"), "{found:#?}");
        assert!(
            has("SSM in us-west-2 took no heartbeat") && has("terraform untaint"),
            "{found:#?}"
        );
        assert!(!has("Another run has taken over"), "{found:#?}");
        user.sandbox.clear_faults();
        user.state.tainted = false;
        user.restart().await;
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
    });
}

/// SSM throttles everything from right before it is noted that the cluster is made.
#[test]
fn a_finished_create_that_lost_its_lease_is_no_error_and_is_noted_by_the_next_apply() {
    simulate(async || {
        let (user, config) = User::with_cluster().await;
        let calls = user.sandbox.calls();
        let is_end = |call: &&CallRecord| {
            call.parameters["Name"].as_str().is_some_and(|name| name.ends_with("/complete"))
        };
        let end = calls.iter().filter(|call| call.service == "ssm").position(|call| is_end(&call));
        let rule =
            Rule { service: Some("ssm".into()), after: end.unwrap() as u64, ..Rule::default() };
        let mut user = User::new().await;
        user.sandbox.add_fault(Fault::new(rule, Effect::Throttle));
        let found = user.apply(&config).await;
        assert!(!found.has_errors() && !user.state.tainted, "{:#?}", errors(&found));
        let told = lines(&found);
        let has = |text: &str| told.iter().any(|one| one.contains(text));
        assert!(has("could not be renewed") && has("had reached its end by then"), "{told:#?}");
        user.sandbox.clear_faults();
        user.restart().await;
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn of_two_updates_one_waits_for_nobody_and_the_other_is_told_who_is_at_work() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let mut other = User::of(user.sandbox.clone()).await;
        other.state = user.state.clone();
        let (mut first, mut second) = (config.clone(), config);
        first["database"] = json!({"instance_class": "db.r6g.large"});
        second["database"] = json!({"instance_class": "db.r6g.xlarge"});
        // Both are planned before either is applied.
        let (one, two) = (user.plan(&first).await, other.plan(&second).await);
        let late = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            other.apply_planned(&second, two).await
        };
        let (one, two) = tokio::join!(user.apply_planned(&first, one), late);
        assert!(!one.has_errors(), "{:#?}", errors(&one));
        assert!(errors(&two)[0].contains("another update is running"), "{:#?}", errors(&two));
        user.must_be_unchanged(&first).await;
        // Whoever was told plans anew, by what there is now.
        other.must_apply(&second).await;
        other.must_be_unchanged(&second).await;
    });
}

#[test]
fn an_update_and_a_destroy_do_not_meet() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        let mut other = User::of(user.sandbox.clone()).await;
        other.state = user.state.clone();
        config["database"] = json!({"instance_class": "db.r6g.large"});
        let update = user.apply(&config);
        let destroy = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            other.destroy().await
        };
        let (update, destroy) = tokio::join!(update, destroy);
        assert!(!update.has_errors(), "{:#?}", errors(&update));
        assert!(
            errors(&destroy)[0].contains("another update is running"),
            "{:#?}",
            errors(&destroy)
        );
        assert!(other.state.value.is_some());
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn a_region_that_is_down_is_named_and_nothing_is_lost() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        let before = user.state.clone();
        user.sandbox.set_down("us-east-1", true);
        config["tags"] = json!({"team": "risk"});
        let found = lines(&user.plan(&config).await.diagnostics);
        assert!(
            found.iter().any(|one| one.contains("in us-east-1 did not answer while")),
            "{found:#?}"
        );
        assert!(found[0].contains("us-west-2 has no record of its monitors"), "{found:#?}");
        assert_eq!(user.state.value, before.value);
        let found = errors(&user.destroy().await);
        assert!(
            found[0].contains("in us-east-1 did not answer while looking at what is there"),
            "{found:#?}"
        );
        assert_eq!(user.state.value, before.value);
        user.sandbox.set_down("us-east-1", false);
        user.restart().await;
        user.must_apply(&config).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_plan_that_became_stale_is_not_applied() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        config["tags"] = json!({"team": "risk"});
        let planned = user.plan(&config).await;
        let rds = connect(&user.sandbox).await.region("us-west-2").rds.clone();
        let promote = rds.promote_read_replica().db_instance_identifier("trading-db-replica-prod");
        promote.send().await.unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        user.sandbox.forget_calls();
        let found = errors(&user.apply_planned(&config, planned).await);
        assert!(found[0].contains("The plan is stale"), "{found:#?}");
        assert!(found[0].contains("other roles"), "{found:#?}");
        let changing = user.sandbox.calls().into_iter().filter(|call| call.service != "ssm");
        let changing: Vec<_> = changing.filter(changes_something).collect();
        assert!(changing.is_empty(), "{changing:#?}");
    });
}

#[test]
fn two_clusters_whose_names_begin_alike_do_not_touch_each_other() {
    simulate(async || {
        let mut one = User::new().await;
        one.sandbox.with(World::record_traffic);
        let first = configuration(&one.sandbox);
        one.must_apply(&first).await;
        let mut other = User::of(one.sandbox.clone()).await;
        let mut second = first.clone();
        second["environment_suffix"] = json!("prod-2");
        // AWS allows one peering between two VPCs: the second cluster is told, and uses the first one's.
        let found = errors(&other.plan(&second).await.diagnostics);
        assert!(
            found.iter().any(|one| one.contains("us-east-1/vpc-peering cannot be brought")),
            "{found:#?}"
        );
        let arns = one.state.value.as_ref().unwrap().get("arns").clone();
        let peering = arns
            .get("us-east-1/vpc-peering")
            .as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned();
        second["peering_connection_id"] = json!(peering);
        other.must_apply(&second).await;
        other.must_be_unchanged(&second).await;
        one.must_be_unchanged(&first).await;
        other.must_destroy().await;
        one.must_be_unchanged(&first).await;
        second["peering_connection_id"] = json!("pcx-0nowhere");
        let found = errors(&other.plan(&second).await.diagnostics);
        assert!(found[0].contains("There is no peering pcx-0nowhere in us-east-1"), "{found:#?}");
        one.must_destroy().await;
        assert_eq!(one.leftovers(), Vec::<String>::new());
        traffic::keep("two-clusters", &[&one.sandbox]);
    });
}

/// The other way round: the name that goes is the beginning of the one that stays, and owns less.
#[test]
fn the_end_of_a_cluster_touches_nothing_of_one_whose_name_begins_with_its_own() {
    simulate(async || {
        let mut long = User::new().await;
        let mut second = configuration(&long.sandbox);
        second["environment_suffix"] = json!("prod-2");
        long.must_apply(&second).await;
        let before = long.leftovers();
        assert!(before.len() > 50, "{before:#?}");
        let arns = long.state.value.as_ref().unwrap().get("arns").clone();
        let peering = arns.get("us-east-1/vpc-peering").as_str().unwrap();
        let mut short = User::of(long.sandbox.clone()).await;
        let mut first = configuration(&long.sandbox);
        first["peering_connection_id"] = json!(peering.rsplit('/').next());
        short.must_apply(&first).await;
        long.must_be_unchanged(&second).await;
        short.must_destroy().await;
        assert_eq!(long.leftovers(), before);
        long.must_be_unchanged(&second).await;
        long.must_destroy().await;
        assert_eq!(long.leftovers(), Vec::<String>::new());
    });
}

/// What `change` is for: an update that leaves a kind of component out would not try it.
#[test]
fn an_update_of_the_crash_matrix_touches_every_kind_that_can_change() {
    /// Kinds that no argument changes in place: what they hold are names and ids.
    const FIXED: [&str; 6] = [
        "dashboard",
        "database-role",
        "kms-alias",
        "lambda-permission",
        "route",
        "vpc-peering-options",
    ];
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        let kind = |address: &str| address.split('/').nth(1).unwrap_or_default().to_owned();
        let known = user.state.value.clone().unwrap();
        let all: BTreeSet<_> =
            known.get("components").entries().map(|(address, _)| kind(address)).collect();
        change(&mut config);
        let planned = user.must_plan(&config).await;
        let touched: BTreeSet<_> =
            user.changed_components(&planned).iter().map(|one| kind(one)).collect();
        let left: Vec<_> = all.difference(&touched).map(String::as_str).collect();
        assert_eq!(left, FIXED, "of {all:?}");
    });
}
