//! The concurrency that Lambda reserves for the functions that watch.

use std::sync::Arc;

use aws_sandbox::{CallRecord, Effect, Fault, RESTRICTED_KEY, Rule, Sandbox, World};
use serde_json::{Value as Json, json};

use crate::support::{
    agent::{EAST, WEST},
    aws::{Way, simulate},
    user::{User, configuration, errors, lines},
};

const WARNING: &str = "Nothing keeps other functions from displacing the monitors";

/// What is reserved for the cluster's functions, by region and function.
fn reserved(user: &User) -> Vec<(String, Option<u64>)> {
    let mut all = Vec::new();
    for (region, function) in [
        (EAST, "monitor"),
        (EAST, "probe"),
        (WEST, "copier"),
        (WEST, "drill"),
        (WEST, "monitor"),
        (WEST, "probe"),
    ] {
        let name = format!("trading-db-{function}-prod");
        let record = user.sandbox.with(|world| world.record(region, "function", &name));
        all.push((format!("{region} {function}"), record["_reserved"].as_u64()));
    }
    all
}

/// Each of them that watches has the same, and the others have nothing.
#[track_caller]
fn must_be_reserved(user: &User, runs: Option<u64>) {
    let all = reserved(user);
    let fits = |(name, found): &(String, Option<u64>)| {
        let watches = name.ends_with("monitor") || name.ends_with("probe");
        *found == runs.filter(|_| watches)
    };
    assert!(all.iter().all(fits), "{all:?}");
}

fn with(user: &User, wanted: Json) -> Json {
    let mut config = configuration(&user.sandbox);
    config["failover"] = json!({"reserve_concurrency": wanted});
    config
}

const WATCHING: [&str; 4] = [
    "us-east-1/lambda-function/monitor",
    "us-east-1/lambda-function/probe",
    "us-west-2/lambda-function/monitor",
    "us-west-2/lambda-function/probe",
];

#[test]
fn it_is_reserved_where_the_account_has_room_and_given_back_when_that_is_asked_for() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        must_be_reserved(&user, Some(10));
        // What others have reserved since changes nothing.
        user.sandbox.with(|world| world.set_concurrency(120));
        user.must_be_unchanged(&config).await;
        let refused = with(&user, json!(false));
        let planned = user.must_plan(&refused).await;
        assert_eq!(user.changed_components(&planned), WATCHING);
        user.must_apply(&refused).await;
        must_be_reserved(&user, None);
        user.must_be_unchanged(&refused).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_new_account_is_told_and_gets_it_once_its_quota_is_raised() {
    simulate(async || {
        let mut user = User::new().await;
        user.sandbox.with(|world| world.set_concurrency(10));
        let config = configuration(&user.sandbox);
        let planned = user.plan(&config).await;
        let told = lines(&planned.diagnostics);
        let warning = told.iter().find(|one| one.contains(WARNING)).expect("a warning");
        for said in [
            "us-east-1 needs 20 more and has 10",
            "us-west-2 needs 20",
            "reserve_concurrency = false",
        ] {
            assert!(warning.contains(said), "{warning}");
        }
        user.must_apply(&config).await;
        must_be_reserved(&user, None);
        user.must_be_unchanged(&config).await;
        // 20 of them, beside the 100 that Lambda leaves to all others.
        user.sandbox.with(|world| world.set_concurrency(119));
        user.must_be_unchanged(&config).await;
        user.sandbox.with(|world| world.set_concurrency(120));
        let planned = user.plan(&config).await;
        assert!(!lines(&planned.diagnostics).iter().any(|one| one.contains(WARNING)));
        assert_eq!(user.changed_components(planned.state.as_ref().unwrap()), WATCHING);
        user.must_apply(&config).await;
        must_be_reserved(&user, Some(10));
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn whoever_wants_none_is_not_warned_and_whoever_insists_is_refused_at_plan() {
    simulate(async || {
        let mut user = User::new().await;
        user.sandbox.with(|world| world.set_concurrency(100));
        let planned = user.plan(&with(&user, json!(false))).await;
        assert_eq!(lines(&planned.diagnostics), Vec::<String>::new());
        let found = user.plan(&with(&user, json!(true))).await.diagnostics;
        let found = errors(&found);
        assert_eq!(found.len(), 1, "{found:#?}");
        for said in [
            "failover.reserve_concurrency",
            "Lambda's quota has no room",
            "us-west-2 needs 20 more and has 100",
        ] {
            assert!(found[0].contains(said), "{}", found[0]);
        }
        user.sandbox.with(|world| world.set_concurrency(120));
        user.must_apply(&with(&user, json!(true))).await;
        must_be_reserved(&user, Some(10));
    });
}

#[test]
fn what_is_reserved_stays_where_what_is_missing_cannot_be_had() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let gone = json!({"_reserved": null});
        let probe = "trading-db-probe-prod";
        user.sandbox.with(|world| world.drift(WEST, "function", probe, Some(&gone))).unwrap();
        // Of 119, this one has ten there, and 100 have to stay: nine are left.
        user.sandbox.with(|world| world.set_concurrency(119));
        let planned = user.plan(&config).await;
        let told = lines(&planned.diagnostics);
        assert!(
            told.iter().any(|one| one.contains("us-west-2 needs 10 more and has 109")),
            "{told:#?}"
        );
        assert_eq!(user.changed_components(planned.state.as_ref().unwrap()), Vec::<String>::new());
        user.sandbox.with(|world| world.set_concurrency(120));
        user.refresh().await;
        let planned = user.must_plan(&config).await;
        assert_eq!(user.changed_components(&planned), ["us-west-2/lambda-function/probe"]);
        user.must_apply(&config).await;
        must_be_reserved(&user, Some(10));
    });
}

#[test]
fn whoever_may_not_ask_for_the_quota_does_without_and_is_told() {
    simulate(async || {
        let user = User::new().await;
        let all = json!({"all": {"Statement": [
            {"Effect": "Allow", "Action": "*", "Resource": "*"},
            {"Effect": "Deny", "Action": "lambda:GetAccountSettings", "Resource": "*"},
        ]}});
        let policies = json!({"_policies": all});
        let who = |world: &mut World| world.drift("global", "user", "restricted", Some(&policies));
        user.sandbox.with(who).unwrap();
        let mut user = User::by(user.sandbox.clone(), Way::of(RESTRICTED_KEY)).await;
        let config = configuration(&user.sandbox);
        let told = lines(&user.plan(&config).await.diagnostics);
        let is_said = |one: &String| {
            one.contains(WARNING) && one.contains("lambda:GetAccountSettings is denied")
        };
        assert!(told.iter().any(is_said), "{told:#?}");
        user.must_apply(&config).await;
        must_be_reserved(&user, None);
        user.refresh().await;
        user.must_be_unchanged(&config).await;
        // Whoever insists learns it from Lambda.
        user.must_apply(&with(&user, json!(true))).await;
        must_be_reserved(&user, Some(10));
        user.must_destroy().await;
    });
}

#[test]
fn what_others_reserve_after_the_plan_is_told_with_the_way_on() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let rule = Rule {
            service: Some("lambda".into()),
            operation: Some("PutFunctionConcurrency".into()),
            ..Rule::default()
        };
        let (code, message) =
            ("InvalidParameterValueException", "below its minimum value of [100].");
        let effect = Effect::Fail { status: 400, code: code.into(), message: message.into() };
        user.sandbox.add_fault(Fault::new(rule, effect));
        let found = errors(&user.apply(&config).await).join("\n");
        for said in [
            "10 runs cannot be reserved",
            "below its minimum",
            "reserve_concurrency = false",
            "untaint",
        ] {
            assert!(found.contains(said), "{said}: {found}");
        }
        user.sandbox.clear_faults();
        user.state.tainted = false;
        user.must_apply(&config).await;
        must_be_reserved(&user, Some(10));
    });
}

#[test]
fn a_cluster_under_another_name_gets_what_the_one_before_it_leaves() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        user.sandbox.with(|world| world.set_concurrency(120));
        config["environment_suffix"] = json!("next");
        config["failover"] = json!({"reserve_concurrency": true});
        let found = user.plan_without_state(&config).await.diagnostics;
        assert!(errors(&found).iter().any(|one| one.contains("no room")), "the other one stays");
        // One that goes before it comes: Terraform asks with the old one first.
        user.must_apply(&config).await;
        let named = |world: &mut World| world.record(WEST, "function", "trading-db-probe-next");
        assert_eq!(user.sandbox.with(named)["_reserved"], 10);
    });
}

#[test]
fn what_is_around_a_cluster_and_changed_since_the_plan_makes_it_stale() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let planned = user.plan(&config).await;
        user.sandbox.with(|world| world.set_concurrency(10));
        let found = errors(&user.apply_planned(&config, planned).await);
        assert!(found[0].contains("The plan is stale"), "{found:#?}");
        let said = ["us-west-2/lambda-function/probe would be", "reserved_concurrency=none"];
        assert!(said.iter().all(|one| found[0].contains(one)), "{found:#?}");
        assert!(user.sandbox.with(|world| world.inventory())[EAST]["db-instance"].is_null());
        // What is planned now can be applied.
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn an_apply_goes_by_the_quota_that_it_has_begun_with() {
    simulate(async || {
        let raises = |sandbox: &Sandbox| {
            sandbox.with(|world| {
                let is_it = |call: &CallRecord| call.operation == "CreateDBInstance";
                if world.last_call().is_some_and(is_it) {
                    world.set_concurrency(1000);
                }
            });
        };
        let sandbox = Sandbox::new(1.0);
        sandbox.with(|world| world.set_concurrency(10));
        let mut user = User::by(sandbox, Way::watched(Arc::new(raises))).await;
        let config = configuration(&user.sandbox);
        // What it promised holds, and the next plan has what has changed.
        user.must_apply(&config).await;
        must_be_reserved(&user, None);
        user.refresh().await;
        let planned = user.must_plan(&config).await;
        assert_eq!(user.changed_components(&planned), WATCHING);
    });
}
