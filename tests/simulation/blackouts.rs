//! A region that swallows what it is sent: nothing refuses, nothing answers. Whoever runs Terraform is told soon.

use std::time::Duration;

use aws_sandbox::{CallRecord, Effect, Fault, Rule, Sandbox};
use tokio::time::Instant;

use super::crash::{changes_something, kind};
use crate::support::{
    agent::{EAST, WEST, WITNESS},
    aws::{pass, simulate},
    user::{User, change, configuration, errors, lines},
};

/// How long somebody waits for a word, at most.
const SOON: Duration = Duration::from_secs(300);

fn swallow(sandbox: &Sandbox, region: &str) {
    let rule = Rule { region: Some(region.into()), ..Rule::default() };
    sandbox.add_fault(Fault::new(rule, Effect::Hang));
}

fn changing(user: &User) -> Vec<String> {
    let all = user.sandbox.calls().into_iter().filter(|call| call.error.is_none());
    // The lease says that somebody looks.
    let is_lease =
        |name: &serde_json::Value| name.as_str().is_some_and(|one| one.contains("/lease/"));
    let of_a_lease = |call: &CallRecord| {
        let names = call.parameters["Names"].as_array().into_iter().flatten();
        let mut names = names.chain([&call.parameters["Name"]]).filter(|name| name.is_string());
        call.service == "ssm" && names.all(is_lease)
    };
    let all = all.filter(changes_something).filter(|call| !of_a_lease(call));
    all.map(|call| kind(&call)).collect()
}

#[test]
fn a_silent_region_is_named_soon_by_a_plan_and_by_a_destroy() {
    simulate(async || {
        for region in [EAST, WEST, WITNESS] {
            let (mut user, mut config) = User::with_cluster().await;
            change(&mut config);
            let before = user.state.value.clone();
            user.restart().await;
            swallow(&user.sandbox, region);
            user.sandbox.forget_calls();
            let begun = Instant::now();
            let found = lines(&user.plan(&config).await.diagnostics);
            let took = begun.elapsed();
            assert!(took <= SOON, "{region}: a plan takes {took:?}");
            assert!(found.iter().any(|one| one.contains(region)), "{region}: {found:#?}");
            assert!(found.iter().any(|one| one.contains("did not answer")), "{region}: {found:#?}");
            assert_eq!(user.state.value, before, "{region}");

            user.restart().await;
            let begun = Instant::now();
            let found = errors(&user.destroy().await);
            let took = begun.elapsed();
            assert!(took <= SOON, "{region}: a destroy takes {took:?}");
            assert!(found.iter().any(|one| one.contains(region)), "{region}: {found:#?}");
            assert_eq!(user.state.value, before, "{region}: what is known is kept");
            assert_eq!(changing(&user), Vec::<String>::new(), "{region}");

            user.sandbox.clear_faults();
            user.restart().await;
            user.must_apply(&config).await;
            user.must_destroy().await;
            assert_eq!(user.leftovers(), Vec::<String>::new());
        }
    });
}

#[test]
fn a_region_that_falls_silent_ends_an_apply_and_the_next_one_goes_on() {
    simulate(async || {
        for region in [EAST, WEST] {
            for seconds in [20, 90, 1000] {
                let told = format!("{region} after {seconds} s");
                let mut user = User::new().await;
                let config = configuration(&user.sandbox);
                let sandbox = user.sandbox.clone();
                let silent = tokio::spawn(async move {
                    pass(seconds).await;
                    swallow(&sandbox, region);
                    Instant::now()
                });
                let found = errors(&user.apply(&config).await);
                let took = silent.await.unwrap().elapsed();
                // What has been begun in the other region, as a replica, is brought to its end first.
                let most = if seconds < 1000 { SOON } else { Duration::from_secs(1800) };
                assert!(took <= most, "{told}: it ends after {took:?}");
                assert!(found.iter().any(|one| one.contains(region)), "{told}: {found:#?}");
                assert!(found.iter().any(|one| one.contains("done")), "{told}: {found:#?}");
                user.sandbox.clear_faults();
                user.restart().await;
                user.state.tainted = false;
                user.must_apply(&config).await;
                user.must_be_unchanged(&config).await;
                user.must_destroy().await;
                assert_eq!(user.leftovers(), Vec::<String>::new(), "{told}");
            }
        }
    });
}
