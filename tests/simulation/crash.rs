//! The provider dies right after a call that changed something: the next run brings the same cluster about,
//! makes nothing twice, and a destroy leaves nothing.
//!
//! A run is recorded once, with a copy of the world after each such call; each copy is then lived on in.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use aws_sandbox::{CallRecord, Sandbox, World};
use serde_json::{Value as Json, json};
use trading::{
    contract::drill::Step,
    plugin::{Diagnostics, Value},
};

use super::drill;
use crate::support::{
    agent::begin_only,
    aws::{Way, only_reads, pass, simulate},
    user::{State, User, change, configuration, errors},
};

/// A world as it was when the provider died, the call that it died after, and what it had made by then.
#[derive(Clone)]
struct Death {
    name: String,
    world: World,
    made: Made,
}

/// How often each call was answered that makes something, by region.
pub type Made = BTreeMap<String, usize>;

/// What makes another thing each time it succeeds. Of topics there is one of a name, of subscriptions one of an address,
/// and of peerings one between two VPCs, however often they are asked for.
fn makes(call: &CallRecord) -> bool {
    let verbs = ["Create", "Authorize", "Copy", "Start", "Replicate"];
    let is_maker = verbs.iter().any(|verb| call.operation.starts_with(verb));
    let is_repeatable =
        ["CreateTopic", "CreateTags", "CreateServiceLinkedRole", "CreateVpcPeeringConnection"]
            .contains(&call.operation.as_str());
    // One whose answer was lost was done all the same.
    let is_done = call.error.as_deref().is_none_or(|why| why == "(connection lost after)");
    is_done && is_maker && !is_repeatable
}

/// A call's kind: what is called, and where.
pub fn kind(call: &CallRecord) -> String {
    format!("{}:{} in {}", call.service, call.operation, call.region)
}

/// What these calls made.
pub fn made_by(calls: &[CallRecord]) -> Made {
    let mut all = Made::new();
    for call in calls.iter().filter(|call| makes(call)) {
        *all.entry(kind(call)).or_default() += 1;
    }
    all
}

/// What two lives made.
fn both(one: &Made, other: &Made) -> Made {
    let mut all = one.clone();
    for (name, count) in other {
        *all.entry(name.clone()).or_default() += count;
    }
    all
}

pub fn changes_something(call: &CallRecord) -> bool {
    let reads = only_reads(&call.operation);
    // Heartbeats all look alike.
    let beats = call.parameters["Name"].as_str().is_some_and(|name| name.contains("/lease/"));
    !reads && call.error.is_none() && !(beats && call.parameters["Overwrite"] == true)
}

/// Gives a cluster all that one comes to have: subscriptions, copies of snapshots, and a drill that is under way. Its
/// functions have stopped.
pub async fn grown() -> (Sandbox, State, Json) {
    let (mut user, mut config) = User::with_cluster().await;
    config["notifications"] = json!({
        "emails": ["oncall@example.com"],
        "sqs_queue_arns": ["arn:aws:sqs:us-east-1:123456789012:alerts"],
    });
    user.must_apply(&config).await;
    begin_only(&user.sandbox, &["copier", "drill", "probe"]);
    // RDS has backed the standby up once.
    pass(30 * 3600).await;
    drill::ask(&user.sandbox).await;
    drill::until(&user.sandbox, Some(Step::Promoting)).await;
    user.refresh().await;
    (Sandbox::with_world(user.sandbox.world(), 1.0), user.state.clone(), config)
}

/// Whether all that a cluster may come to have was taken away by calls to these.
pub fn takes_all_away<'a>(calls: impl IntoIterator<Item = &'a str>) -> bool {
    let calls: Vec<&str> = calls.into_iter().collect();
    let count = |name: &str| calls.iter().filter(|call| call.contains(name)).count();
    count("Unsubscribe") > 0
        && count("DeleteDBSnapshot") > 0
        // The writer, the standby, and the drill's copy.
        && count("DeleteDBInstance ") == 3
}

type Deaths = Arc<Mutex<Vec<Death>>>;

/// A user whose provider's deaths are collected.
async fn watched(sandbox: Sandbox) -> (User, Deaths) {
    let deaths = Deaths::default();
    let into = Arc::clone(&deaths);
    let made = Mutex::new(Made::new());
    let witness = move |sandbox: &Sandbox| {
        let calls = sandbox.calls();
        let Some(call) = calls.last().filter(|call| changes_something(call)) else { return };
        let mut made = made.lock().unwrap();
        *made = both(&made, &made_by(&calls));
        sandbox.forget_calls();
        let death = Death { name: kind(call), world: sandbox.world(), made: made.clone() };
        into.lock().unwrap().push(death);
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

/// What an undisturbed run comes to.
struct Expected {
    components: Value,
    census: BTreeMap<String, usize>,
    made: Made,
}

impl Expected {
    /// After a run of which these are the points at which it might have died.
    fn of(user: &User, deaths: &[Death]) -> Self {
        let state = user.state.value.as_ref().unwrap();
        let (components, census) = (state.get("components").clone(), census(&user.sandbox));
        let made = both(&deaths.last().unwrap().made, &made_by(&user.sandbox.calls()));
        Self { components, census, made }
    }

    /// One that died and one that went on have come to the same, and made nothing twice.
    fn must_be(&self, user: &User, death: &Death, made: &Made) {
        let (state, name) = (user.state.value.as_ref().unwrap(), &death.name);
        assert_eq!(state.get("components"), &self.components, "after {name}");
        assert_eq!(census(&user.sandbox), self.census, "after {name}");
        assert_eq!(both(&death.made, made), self.made, "after {name}: made twice");
    }

    /// Whoever has this state creates it in what the dead one left; how long that took.
    fn must_be_made(&self, death: &Death, sandbox: Sandbox, state: &State, config: &Json) -> u64 {
        let name = &death.name;
        lived(async || {
            let mut user = User::of(sandbox).await;
            user.state = state.clone();
            let begun = user.sandbox.now().0;
            let found = user.apply(config).await;
            let (took, made) = (since(&user, begun), made_by(&user.sandbox.calls()));
            if finished(death, &found) {
                assert!(!user.import("prod").await.has_errors());
            } else {
                assert!(!found.has_errors(), "after {name}: {:#?}", errors(&found));
            }
            self.must_be(&user, death, &made);
            user.must_destroy().await;
            assert_eq!(user.leftovers(), Vec::<String>::new(), "after {name}");
            took
        })
    }
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
fn live_on(what: &str, deaths: &[Death], each: impl Fn(&Death, Sandbox) -> u64 + Sync) {
    let times = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (each, times) = (&each, &times);
            scope.spawn(move || {
                for death in deaths.iter().skip(half).step_by(2) {
                    let took = each(death, Sandbox::with_world(death.world.clone(), 1.0));
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

/// Whether it was finished before it died: whoever comes next is told to import it.
fn finished(death: &Death, found: &Diagnostics) -> bool {
    death.name.contains("ssm:PutParameter")
        && errors(found).iter().any(|one| one.contains("import"))
}

/// Whether all is tried, and not a sample: `make crash`.
pub fn is_whole() -> bool {
    std::env::var("CRASH_POINTS").is_ok_and(|points| points == "all")
}

#[test]
fn a_create_that_died_after_any_call_is_finished_by_the_next() {
    let (mut deaths, mut wanted, mut config) = (Vec::new(), None, Json::Null);
    simulate(async || {
        let (mut user, found) = watched(Sandbox::new(1.0)).await;
        config = configuration(&user.sandbox);
        user.must_apply(&config).await;
        deaths = found.lock().unwrap().clone();
        wanted = Some(Expected::of(&user, &deaths));
    });
    let wanted = wanted.unwrap();
    assert!(deaths.len() > 50, "only {} calls changed something", deaths.len());
    // Terraform was killed as well: it has no state.
    live_on("Create", &deaths, |death, sandbox| {
        wanted.must_be_made(death, sandbox, &State::default(), &config)
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
        wanted = Some(Expected::of(&user, &deaths));
    });
    let wanted = wanted.unwrap();
    assert!(deaths.len() > 25, "only {} calls changed something", deaths.len());
    live_on("Update", &deaths, |death, sandbox| {
        let name = &death.name;
        lived(async || {
            let mut user = User::of(sandbox).await;
            user.state = before.clone();
            let begun = user.sandbox.now().0;
            user.must_apply(&config).await;
            let (took, made) = (since(&user, begun), made_by(&user.sandbox.calls()));
            wanted.must_be(&user, death, &made);
            user.must_destroy().await;
            assert_eq!(user.leftovers(), Vec::<String>::new(), "after {name}");
            took
        })
    });
}

/// The snapshot that was asked for is made once; the other destroys leave nothing at all.
#[test]
fn a_destroy_that_died_after_any_call_is_finished_by_the_next() {
    let mut deaths = Vec::new();
    let mut before = State::default();
    simulate(async || {
        let (sandbox, state, mut config) = grown().await;
        let (mut user, found) = watched(sandbox).await;
        user.state = state;
        config["deletion"] = json!({"final_snapshot": true});
        user.must_apply(&config).await;
        before = user.state.clone();
        found.lock().unwrap().clear();
        user.must_destroy().await;
        deaths = found.lock().unwrap().clone();
    });
    assert!(deaths.len() > 30, "only {} calls changed something", deaths.len());
    assert!(takes_all_away(deaths.iter().map(|one| one.name.as_str())));
    live_on("Destroy", &deaths, |death, sandbox| {
        let name = &death.name;
        lived(async || {
            let mut user = User::of(sandbox).await;
            user.state = before.clone();
            let begun = user.sandbox.now().0;
            let found = user.destroy().await;
            let took = since(&user, begun);
            assert!(!found.has_errors(), "after {name}: {:#?}", errors(&found));
            let left = user.leftovers();
            let is_final =
                |one: &String| one.starts_with("us-east-1/db-snapshot/trading-db-final-");
            assert!(left.len() == 1 && left.iter().all(is_final), "after {name}: {left:?}");
            took
        })
    });
}

/// One in so many of a rebuild's deaths is tried, unless all are: its halves are a destroy and a create.
const REBUILDS: usize = 12;

/// A create fails late, and is not gone on with: Terraform destroys what it left, and creates again. Whatever happens
/// meanwhile, its state may still be that of the failed create.
#[test]
fn a_rebuild_that_died_after_any_call_is_finished_by_the_next() {
    let (mut deaths, mut wanted, mut config) = (Vec::new(), None, Json::Null);
    let mut before = State::default();
    simulate(async || {
        let (mut user, found) = watched(Sandbox::new(1.0)).await;
        config = configuration(&user.sandbox);
        user.refuse("CreateDBInstanceReadReplica");
        assert!(user.apply(&config).await.has_errors() && user.state.tainted);
        user.sandbox.clear_faults();
        before = user.state.clone();
        found.lock().unwrap().clear();
        user.restart().await;
        user.must_apply(&config).await;
        deaths = found.lock().unwrap().clone();
        wanted = Some(Expected::of(&user, &deaths));
    });
    let wanted = wanted.unwrap();
    assert!(deaths.len() > 100, "only {} calls changed something", deaths.len());
    let step = if is_whole() { 1 } else { REBUILDS };
    let deaths: Vec<_> = deaths.into_iter().step_by(step).collect();
    live_on("Rebuild", &deaths, |death, sandbox| {
        wanted.must_be_made(death, sandbox, &before, &config)
    });
}
