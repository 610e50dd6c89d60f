//! What is kept for the functions that watch of the runs that Lambda lets an account have at once.

use serde_json::{Value as Json, json};
use trading::plugin::Value;

use crate::support::{
    agent::{EAST, WEST},
    aws::simulate,
    user::{User, configuration, differences, errors, lines},
};

const WARNING: &str = "Nothing keeps other functions from displacing the monitors";

/// What is kept for the cluster's functions, by region and function.
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

/// How many are kept for each of them that watches, if it is the same for all, and nothing for the others.
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

/// The addresses of the lines that differ.
fn changed(user: &User, planned: &Value) -> Vec<String> {
    let all = differences(user.state.value.as_ref().unwrap(), planned);
    let components = all.iter().filter_map(|one| one.strip_prefix("components "));
    components.filter_map(|one| one.split(':').next()).map(str::to_owned).collect()
}

const WATCHING: [&str; 4] = [
    "us-east-1/lambda-function/monitor",
    "us-east-1/lambda-function/probe",
    "us-west-2/lambda-function/monitor",
    "us-west-2/lambda-function/probe",
];

#[test]
fn runs_are_kept_where_the_account_has_room_and_given_back_when_that_is_asked_for() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        must_be_reserved(&user, Some(10));
        // What others keep now is not theirs to take back, and nothing changes by it.
        user.sandbox.with(|world| world.set_concurrency(120));
        user.must_be_unchanged(&config).await;
        let refused = with(&user, json!(false));
        let planned = user.must_plan(&refused).await;
        assert_eq!(changed(&user, &planned), WATCHING);
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
        for said in ["us-east-1 has 10", "us-west-2 has 10", "reserve_concurrency = false"] {
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
        assert_eq!(changed(&user, planned.state.as_ref().unwrap()), WATCHING);
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
        for said in
            ["failover.reserve_concurrency", "Lambda's quota has no room", "us-west-2 has 100"]
        {
            assert!(found[0].contains(said), "{}", found[0]);
        }
        user.sandbox.with(|world| world.set_concurrency(120));
        user.must_apply(&with(&user, json!(true))).await;
        must_be_reserved(&user, Some(10));
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
