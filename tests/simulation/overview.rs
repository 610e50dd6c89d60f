//! The data source: what somebody sees of a cluster who does not manage it.

use aws_sandbox::{CallRecord, Effect, Fault, RESTRICTED_KEY, Rule, Sandbox};
use serde_json::{Value as Json, json};
use trading::{
    plugin::{CancellationToken, Context, Diagnostics, Found, Provider as _, Value, from_json},
    provider::TradingProvider,
};

use crate::support::{
    agent::{EAST, LEDGER, WEST, WITNESS, begin, remembered, set_lost},
    aws::{Way, connect_like, pass, simulate},
    user::{User, configuration, errors, lines},
};

/// What another process sees, by the configuration of a data source.
pub(super) async fn look_as(way: &Way, sandbox: &Sandbox, config: Json) -> Found {
    let provider = TradingProvider::connected(connect_like(sandbox, way).await, None);
    let source = provider.data_sources().remove(0);
    let config: Value = from_json(&config, &source.schema().object_type()).unwrap();
    assert!(!source.schema().validate(&config).has_errors());
    source.read(Context { cancel: CancellationToken::new() }, config).await
}

pub(super) async fn look(sandbox: &Sandbox) -> Found {
    look_as(&Way::default(), sandbox, json!({"environment_suffix": "prod"})).await
}

pub(super) fn must_hold(found: Found) -> Value {
    assert!(!found.diagnostics.has_errors(), "{:#?}", errors(&found.diagnostics));
    found.state.unwrap()
}

fn said(diagnostics: &Diagnostics, text: &str) -> bool {
    lines(diagnostics).iter().any(|one| one.contains(text))
}

fn texts(value: &Value) -> Vec<&str> {
    value.items().iter().filter_map(Value::as_str).collect()
}

#[test]
fn it_says_what_the_resource_says_and_how_the_cluster_is() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        begin(&user.sandbox);
        pass(600).await;
        user.must_apply(&config).await;
        user.sandbox.forget_calls();
        let seen = must_hold(look(&user.sandbox).await);
        let calls = user.sandbox.calls();
        assert!(calls.len() <= 12, "{}", calls.len());
        assert!(!calls.iter().any(super::crash::changes_something), "{calls:#?}");
        let state = user.state.value.clone().unwrap();
        for name in [
            "environment_suffix",
            "id",
            "endpoint",
            "primary_endpoint",
            "replica_endpoint",
            "writer_region",
            "status",
            "master_secret_arn",
            "recovery",
        ] {
            assert_eq!(seen.get(name), state.get(name), "{name}");
        }
        assert_eq!(seen.get("status").as_str(), Some("available"));
        assert_eq!(seen.get("phase").as_str(), Some("normal"));
        assert_eq!(seen.get("port").as_i64(), Some(5432));
        assert_eq!(seen.get("db_name").as_str(), Some("trading"));
        assert_eq!(seen.get("dr_region").as_str(), Some(WEST));
        assert_eq!(texts(seen.get("alarms")), Vec::<&str>::new());
        assert_eq!(seen.get("witness_region").as_str(), Some(WITNESS));
        assert!(seen.get("last_failover").is_null() && seen.get("last_drill").is_null());
        let age = seen.get("heartbeat_age_seconds").as_i64();
        assert!(age.is_some_and(|age| (0..=20).contains(&age)), "{age:?}");
        let lag = seen.get("replica_lag_seconds").as_i64();
        assert!(lag.is_some_and(|lag| (0..=20).contains(&lag)), "{lag:?}");
        let arns = state.get("arns");
        for region in [EAST, WEST] {
            let group = arns.get(&format!("{region}/security-group"));
            let topic = arns.get(&format!("{region}/sns-topic"));
            assert!(group.as_str().is_some() && topic.as_str().is_some(), "{arns:#?}");
            let id = seen.get("security_group_ids").get(region).as_str().unwrap();
            assert!(group.as_str().unwrap().ends_with(id), "{group:?} {id}");
            assert_eq!(seen.get("topic_arns").get(region), topic);
        }
    });
}

#[test]
fn it_says_what_becomes_of_a_cluster_whose_region_is_lost() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        begin(&user.sandbox);
        pass(300).await;
        // Right after the loss, nobody knows more than that a region does not answer.
        set_lost(&user.sandbox, EAST, true);
        let found = look(&user.sandbox).await;
        assert!(said(&found.diagnostics, "us-east-1 does not answer"));
        let seen = must_hold(found);
        assert_eq!(seen.get("status").as_str(), Some("unknown"));
        assert!(seen.get("writer_region").is_null() && seen.get("primary_endpoint").is_null());
        assert!(seen.get("replica_endpoint").as_str().is_some());
        assert!(seen.get("endpoint").as_str().is_some() && seen.get("port").as_i64().is_some());

        pass(600).await;
        let found = look(&user.sandbox).await;
        assert!(said(&found.diagnostics, "The cluster has failed over: us-west-2 writes"));
        assert!(said(&found.diagnostics, "us-east-1 does not answer"));
        let seen = must_hold(found);
        assert_eq!(seen.get("status").as_str(), Some("failed_over"));
        assert_eq!(seen.get("phase").as_str(), Some("promoted"));
        assert_eq!(seen.get("writer_region").as_str(), Some(WEST));
        assert!(seen.get("heartbeat_age_seconds").is_null());
        assert!(seen.get("replica_lag_seconds").is_null());
        let last = seen.get("last_failover");
        for moment in ["first_failure", "decided", "lease_taken", "accepted", "first_write"] {
            let at = last.get(moment).as_str().unwrap_or_default();
            assert!(at.starts_with("2026-01-0") && at.ends_with('Z'), "{moment}: {at}");
        }
        assert!(last.get("sessions_ended").is_null());
        let measured = seen.get("recovery").get("last_failover").as_str().unwrap_or_default();
        assert!(measured.contains(": the standby wrote after "), "{measured}");
        let (took, lost) = (last.get("seconds").as_i64(), last.get("data_loss_seconds").as_i64());
        assert!(took.is_some_and(|took| (60..=300).contains(&took)), "{took:?}");
        assert!(lost.is_some_and(|lost| (0..=60).contains(&lost)), "{lost:?}");
        let alarms = texts(seen.get("alarms"));
        assert!(alarms.contains(&"us-west-2/trading-db-primary-serving-prod"), "{alarms:?}");

        set_lost(&user.sandbox, EAST, false);
        pass(600).await;
        let found = look(&user.sandbox).await;
        assert!(!said(&found.diagnostics, "does not answer"));
        let seen = must_hold(found);
        assert_eq!(seen.get("status").as_str(), Some("failed_over"));
        assert!(seen.get("primary_endpoint").as_str().is_some());
        assert!(seen.get("last_failover").get("fenced").as_str().is_some());
    });
}

#[test]
fn a_cluster_that_is_not_there_is_half_made_or_is_elsewhere_is_said() {
    simulate(async || {
        let mut user = User::new().await;
        let found = look(&user.sandbox).await;
        assert!(found.state.is_none());
        assert!(said(&found.diagnostics, "There is no cluster prod in us-west-2"));
        assert!(said(&found.diagnostics, "set primary_region to <primary region>"));

        let config = configuration(&user.sandbox);
        let cancel = user.cancel.clone();
        tokio::spawn(async move {
            pass(300).await;
            cancel.cancel();
        });
        assert!(user.apply(&config).await.has_errors());
        let seen = must_hold(look(&user.sandbox).await);
        assert_eq!(seen.get("status").as_str(), Some("incomplete"));
        assert!(seen.get("replica_endpoint").is_null() && seen.get("phase").is_null());
        user.restart().await;
        user.state.tainted = false;
        user.must_apply(&config).await;

        let elsewhere = json!({"environment_suffix": "prod", "primary_region": "eu-west-1"});
        let found = look_as(&Way::default(), &user.sandbox, elsewhere).await;
        assert!(found.state.is_none());
        assert!(said(
            &found.diagnostics,
            "Set primary_region to us-east-1 and dr_region to us-west-2."
        ));

        // The name of a zone that is somebody else's is asked for where no name is given.
        let zone = user.sandbox.with(|world| world.network())["hosted_zone"].clone();
        let mut given = config.clone();
        given["dns"] = json!({"zone_id": zone["id"]});
        user.must_apply(&given).await;
        let seen = must_hold(look(&user.sandbox).await);
        assert_eq!(seen.get("endpoint").as_str(), Some("trading-db-prod.trading.internal"));
        user.must_apply(&config).await;

        // An instance of the same name that is not this cluster's is none of it.
        let tags = json!({"_tags": {"trading-dr:environment-suffix": "other"}});
        let name = "trading-db-replica-prod";
        let drifted =
            user.sandbox.with(|world| world.drift(WEST, "db-instance", name, Some(&tags)));
        drifted.unwrap();
        let seen = must_hold(look(&user.sandbox).await);
        assert!(seen.get("replica_endpoint").is_null());
        assert_eq!(seen.get("status").as_str(), Some("incomplete"));
    });
}

#[test]
fn alarms_and_metrics_that_nobody_tells_are_missing_and_nothing_else_is() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        begin(&user.sandbox);
        pass(300).await;
        for operation in ["DescribeAlarms", "GetMetricData", "DescribeSecret"] {
            let rule = Rule { operation: Some(operation.into()), ..Rule::default() };
            user.sandbox.add_fault(Fault::new(rule, Effect::Throttle));
        }
        let found = look(&user.sandbox).await;
        for text in
            ["Alarms in us-east-1", "Alarms in us-west-2", "Metrics in us-west-2", "Secrets in"]
        {
            assert!(said(&found.diagnostics, text), "{text}: {:#?}", lines(&found.diagnostics));
        }
        assert!(!said(&found.diagnostics, "does not answer"));
        let seen = must_hold(found);
        assert_eq!(seen.get("status").as_str(), Some("available"));
        assert_eq!(seen.get("writer_region").as_str(), Some(EAST));
        assert!(seen.get("heartbeat_age_seconds").is_null());
        assert!(seen.get("master_secret_arn").is_null());
        assert_eq!(texts(seen.get("alarms")), Vec::<&str>::new());
    });
}

#[test]
fn a_dr_region_that_takes_too_long_is_told_and_not_waited_for() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        for operation in ["GetParametersByPath", "GetCallerIdentity"] {
            let rule = Rule { operation: Some(operation.into()), ..Rule::default() };
            user.sandbox.add_fault(Fault::new(rule, Effect::Delay { milliseconds: 60_000 }));
            let begun = tokio::time::Instant::now();
            let found = look(&user.sandbox).await;
            assert!(said(&found.diagnostics, "us-west-2 does not answer"), "{operation}");
            assert!(found.state.is_none() && begun.elapsed().as_secs() < 45, "{operation}");
            user.sandbox.clear_faults();
        }
    });
}

#[test]
fn a_failover_that_was_called_off_is_none() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        begin(&user.sandbox);
        pass(300).await;
        // What a monitor leaves that decided, and found the writer back before RDS accepted.
        let mut left = remembered(&user.sandbox, WEST, "ledger");
        left["timeline"] = json!([{"at": 1_767_571_200_000_u64, "what": "decided"}]);
        left["data_loss"] = json!(5);
        for (phase, is_one) in [("normal", false), ("promoting", true)] {
            left["phase"] = json!(phase);
            let item = json!({
                "cluster": {"S": "prod"}, "item": {"S": "ledger"}, "version": {"N": "7"},
                "body": {"S": left.to_string()},
            });
            user.sandbox.with(|world| world.put_item(WEST, LEDGER, "prod", "ledger", item));
            let seen = must_hold(look(&user.sandbox).await);
            assert_eq!(!seen.get("last_failover").is_null(), is_one, "{phase}");
        }
    });
}

/// The policy that the page hands to other teams suffices, and is no larger than it must be.
#[test]
fn whoever_has_the_example_policy_sees_all_and_needs_all_of_it() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        begin(&user.sandbox);
        pass(300).await;
        let text = include_str!("../../examples/iam/data-source.json");
        let policy: Json = serde_json::from_str(text).unwrap();
        let allow = |policy: &Json| {
            let policies = json!({"_policies": {"team": policy}});
            let changed = user
                .sandbox
                .with(|world| world.drift("global", "user", "restricted", Some(&policies)));
            changed.unwrap();
        };
        let config = || json!({"environment_suffix": "prod"});
        let team = Way::of(RESTRICTED_KEY);
        allow(&policy);
        let all = must_hold(look(&user.sandbox).await);
        let seen = must_hold(look_as(&team, &user.sandbox, config()).await);
        assert_eq!(seen.get("status"), all.get("status"));
        assert_eq!(seen.get("master_secret_arn"), all.get("master_secret_arn"));
        for statement in 0..policy["Statement"].as_array().unwrap().len() {
            let actions = policy["Statement"][statement]["Action"].clone();
            let actions = actions.as_array().cloned().unwrap_or_else(|| vec![actions]);
            for gone in &actions {
                let mut less = policy.clone();
                let left: Vec<_> = actions.iter().filter(|one| *one != gone).collect();
                less["Statement"][statement]["Action"] = json!(left);
                if left.is_empty() {
                    less["Statement"].as_array_mut().unwrap().remove(statement);
                }
                allow(&less);
                let found = look_as(&team, &user.sandbox, config()).await;
                assert!(found.state.is_none(), "nothing needs {gone}");
                let denied = lines(&found.diagnostics);
                assert!(denied.iter().any(|one| one.contains("Permission denied")), "{denied:#?}");
            }
        }
        let denied = |call: &&CallRecord| call.error.is_some();
        assert!(user.sandbox.calls().iter().filter(denied).count() >= 7);
    });
}
