//! The provider dies right after a call that changed something: the next run brings the same cluster about,
//! makes nothing twice, and a destroy leaves nothing.
//!
//! A run is recorded once, with a copy of the world after each such call; each copy is then lived on in.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use aws_sandbox::{CallRecord, Sandbox, World};
use serde_json::Value as Json;
use trading::plugin::Value;

use crate::support::{
    aws::{Way, only_reads, simulate},
    user::{State, User, change, configuration, errors},
};

/// A world as it was when the provider died, and the call that it died after.
type Death = (String, World);

pub fn changes_something(call: &CallRecord) -> bool {
    let reads = only_reads(&call.operation);
    // Heartbeats all look alike.
    let beats = call.parameters["Name"].as_str().is_some_and(|name| name.contains("/lease/"));
    !reads && call.error.is_none() && !(beats && call.parameters["Overwrite"] == true)
}

type Deaths = Arc<Mutex<Vec<Death>>>;

/// A user whose provider's deaths are collected.
async fn watched(sandbox: Sandbox) -> (User, Deaths) {
    let deaths = Deaths::default();
    let into = Arc::clone(&deaths);
    let witness = move |sandbox: &Sandbox| {
        sandbox.with(|world| {
            let Some(call) = world.last_call().filter(|call| changes_something(call)) else {
                return;
            };
            let name = format!("{}:{} in {}", call.service, call.operation, call.region);
            let mut copy = world.clone();
            copy.forget_calls();
            into.lock().unwrap().push((name, copy));
            world.forget_calls();
        });
    };
    let way = Way::watched(Arc::new(witness));
    (User::by(sandbox, way).await, deaths)
}

/// How many things there are of each kind: the same however often the making was interrupted.
pub fn census(sandbox: &Sandbox) -> BTreeMap<String, usize> {
    let inventory = sandbox.with(|world| world.inventory());
    let mut all = BTreeMap::new();
    for (region, kinds) in inventory.as_object().unwrap() {
        for (kind, records) in kinds.as_object().unwrap() {
            if kind != "ssm-parameter" {
                let records = records.as_object().unwrap().values();
                let (going, living): (Vec<_>, Vec<_>) = records.partition(|one| {
                    // AWS shows both for a while.
                    one["KeyState"] == "PendingDeletion" || one["status"]["code"] == "deleted"
                });
                all.insert(format!("{region}/{kind}"), living.len());
                // One that was made twice shows among them.
                all.insert(format!("{region}/{kind}, pending deletion"), going.len());
            }
        }
    }
    all
}

struct Expected {
    components: Value,
    census: BTreeMap<String, usize>,
}

fn expected(user: &User) -> Expected {
    let state = user.state.value.as_ref().unwrap();
    Expected { components: state.get("components").clone(), census: census(&user.sandbox) }
}

/// Tells how many points were tried, and how long the run took that came to the end, in minutes of the account's time.
pub fn tell(what: &str, mut seconds: Vec<u64>) {
    seconds.sort_unstable();
    let minutes = |at: usize| (seconds.get(at).copied().unwrap_or_default() + 30) / 60;
    let (count, median) = (seconds.len(), minutes(seconds.len() / 2));
    let longest = minutes(count.saturating_sub(1));
    println!(
        "| {what}: points, all converged | {count} | the next run took {median} min, {longest} at most |"
    );
}

/// Lives on in the copies on two threads, as many as the machine has cores; `each` says how many seconds of the account's
/// time the next run took.
fn live_on(what: &str, deaths: &[Death], each: impl Fn(&str, Sandbox) -> u64 + Sync) {
    let times = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (each, times) = (&each, &times);
            scope.spawn(move || {
                for (name, world) in deaths.iter().skip(half).step_by(2) {
                    let took = each(name, Sandbox::with_world(world.clone(), 1.0));
                    times.lock().unwrap().push(took);
                }
            });
        }
    });
    tell(&format!("{what}, killed after a call"), times.into_inner().unwrap());
}

/// A life in virtual time; what it says.
fn lived(life: impl AsyncFnOnce() -> u64 + Send) -> u64 {
    let mut took = 0;
    simulate(async || took = life().await);
    took
}

/// Seconds of the account's time since a moment.
fn since(user: &User, begun: u64) -> u64 {
    (user.sandbox.now().0 - begun) / 1000
}

#[test]
fn a_create_that_died_after_any_call_is_finished_by_the_next() {
    let (mut deaths, mut wanted, mut config) = (Vec::new(), None, Json::Null);
    simulate(async || {
        let (mut user, found) = watched(Sandbox::new(1.0)).await;
        config = configuration(&user.sandbox);
        user.must_apply(&config).await;
        deaths = found.lock().unwrap().clone();
        wanted = Some(expected(&user));
    });
    let wanted = wanted.unwrap();
    assert!(deaths.len() > 50, "only {} calls changed something", deaths.len());
    live_on("Create", &deaths, |name, sandbox| {
        lived(async || {
            // Terraform was killed as well: it has no state.
            let mut user = User::of(sandbox).await;
            let begun = user.sandbox.now().0;
            let found = user.apply(&config).await;
            let took = since(&user, begun);
            let complete = name.contains("ssm:PutParameter")
                && errors(&found).iter().any(|one| one.contains("import"));
            if complete {
                assert!(!user.import("prod").await.has_errors());
            } else {
                assert!(!found.has_errors(), "after {name}: {:#?}", errors(&found));
            }
            let state = user.state.value.clone().unwrap();
            assert_eq!(state.get("components"), &wanted.components, "after {name}");
            assert_eq!(census(&user.sandbox), wanted.census, "after {name}");
            user.must_destroy().await;
            assert_eq!(user.leftovers(), Vec::<String>::new(), "after {name}");
            took
        })
    });
}

#[test]
fn an_update_that_died_after_any_call_is_finished_by_the_next() {
    let (mut deaths, mut wanted, mut config) = (Vec::new(), None, Json::Null);
    let mut before = State::default();
    simulate(async || {
        let (mut user, found) = watched(Sandbox::new(1.0)).await;
        config = configuration(&user.sandbox);
        user.must_apply(&config).await;
        before = user.state.clone();
        found.lock().unwrap().clear();
        change(&mut config);
        user.must_apply(&config).await;
        deaths = found.lock().unwrap().clone();
        wanted = Some(expected(&user));
    });
    let wanted = wanted.unwrap();
    assert!(deaths.len() > 25, "only {} calls changed something", deaths.len());
    live_on("Update", &deaths, |name, sandbox| {
        lived(async || {
            let mut user = User::of(sandbox).await;
            user.state = before.clone();
            let begun = user.sandbox.now().0;
            user.must_apply(&config).await;
            let took = since(&user, begun);
            let state = user.state.value.clone().unwrap();
            assert_eq!(state.get("components"), &wanted.components, "after {name}");
            assert_eq!(census(&user.sandbox), wanted.census, "after {name}");
            user.must_destroy().await;
            assert_eq!(user.leftovers(), Vec::<String>::new(), "after {name}");
            took
        })
    });
}

#[test]
fn a_destroy_that_died_after_any_call_is_finished_by_the_next() {
    let mut deaths = Vec::new();
    let mut before = State::default();
    simulate(async || {
        let (mut user, found) = watched(Sandbox::new(1.0)).await;
        let config = configuration(&user.sandbox);
        user.must_apply(&config).await;
        before = user.state.clone();
        found.lock().unwrap().clear();
        user.must_destroy().await;
        deaths = found.lock().unwrap().clone();
    });
    assert!(deaths.len() > 30, "only {} calls changed something", deaths.len());
    live_on("Destroy", &deaths, |name, sandbox| {
        lived(async || {
            let mut user = User::of(sandbox).await;
            user.state = before.clone();
            let begun = user.sandbox.now().0;
            let found = user.destroy().await;
            let took = since(&user, begun);
            assert!(!found.has_errors(), "after {name}: {:#?}", errors(&found));
            assert_eq!(user.leftovers(), Vec::<String>::new(), "after {name}");
            took
        })
    });
}
