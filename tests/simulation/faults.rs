//! Any one call of a create, an update or a destroy is refused, fails, hangs, or loses its answer: the run copes or
//! fails with a message that names it, and the next one brings the same cluster about, or leaves nothing.
//!
//! `make test` tries a sample, drawn by `SEED`. `make crash` tries everything with all calls that change something, and draws
//! what becomes of reads: of the first one of each, and of another, as a wait may repeat them a hundred times.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_sandbox::{CallRecord, Fault, Rule, Sandbox, World};
use serde_json::Value as Json;
use trading::plugin::Diagnostics;

use super::{
    crash::{Made, census, changes_something, grown, is_whole, made_by, takes_all_away, tell},
    fates::{Fate, fates},
};
use crate::support::{
    aws::{Way, only_reads, simulate},
    traffic,
    user::{State, User, change, configuration, errors, lines},
};

/// The n-th call of an operation in a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    service: String,
    operation: String,
    region: String,
    earlier: u64,
    /// A lease is made, shown to be alive, or given back.
    is_of_the_lease: bool,
}

impl Call {
    pub(super) fn rule(&self, lasts: bool) -> Rule {
        Rule {
            service: Some(self.service.clone()),
            operation: Some(self.operation.clone()),
            region: Some(self.region.clone()),
            after: self.earlier,
            times: (!lasts).then_some(1),
            percent: None,
        }
    }

    /// As errors have it.
    fn name(&self) -> String {
        let service = if self.service == "tagging" { "tag" } else { &self.service };
        format!("{service}:{}", self.operation)
    }
}

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Create,
    Update,
    Destroy,
}

/// A run, recorded: where it begins, what it calls, and what there is in the end.
pub(super) struct Recorded {
    pub(super) deed: Deed,
    world: World,
    state: State,
    pub(super) config: Json,
    pub(super) calls: Vec<Call>,
    reads: Vec<Call>,
    pub(super) census: BTreeMap<String, usize>,
    /// What is made, each how often.
    pub(super) made: Made,
}

/// What a run was seen to call.
#[derive(Default)]
struct Seen {
    /// How often each operation was called in each region, whether the call is kept here or not.
    counts: BTreeMap<[String; 3], u64>,
    changes: Vec<Call>,
    reads: Vec<Call>,
    beats: usize,
}

/// Of heartbeats, which all look alike, one in so many is kept.
const BEATS: usize = 16;

impl Seen {
    fn note(&mut self, call: &CallRecord) {
        let CallRecord { service, operation, region, .. } = call;
        let of = [service.clone(), operation.clone(), region.clone()];
        let count = self.counts.entry(of).or_default();
        let earlier = *count;
        *count += 1;
        let lease = call.parameters["Name"].as_str().is_some_and(|name| name.contains("/lease/"));
        let is_of_the_lease = operation == "PutParameter" && lease;
        let (service, operation, region) = (service.clone(), operation.clone(), region.clone());
        let one = Call { service, operation, region, earlier, is_of_the_lease };
        let is_beat = is_of_the_lease && call.parameters["Overwrite"] == true;
        if only_reads(&one.operation) {
            self.reads.push(one);
        } else if is_beat && self.beats.is_multiple_of(BEATS) || changes_something(call) {
            self.changes.push(one);
        }
        self.beats += usize::from(is_beat);
    }
}

/// Of each read the first one, and another that is drawn.
fn drawn(reads: Vec<Call>, draw: &mut fastrand::Rng) -> Vec<Call> {
    let mut kinds = BTreeMap::<_, Vec<Call>>::new();
    for one in reads {
        let kind = (one.service.clone(), one.operation.clone(), one.region.clone());
        kinds.entry(kind).or_default().push(one);
    }
    let some = kinds.into_values().flat_map(|mut all| {
        let first = all.remove(0);
        let more = (!all.is_empty()).then(|| all.swap_remove(draw.usize(..all.len())));
        std::iter::once(first).chain(more)
    });
    some.collect()
}

impl Recorded {
    pub(super) fn of(deed: Deed) -> Self {
        let mut recorded = None;
        simulate(async || {
            let seen: Arc<Mutex<Seen>> = Arc::default();
            let into = Arc::clone(&seen);
            let witness = move |sandbox: &Sandbox| {
                let call = sandbox.with(|world| world.last_call().cloned());
                if let Some(call) = call {
                    into.lock().unwrap().note(&call);
                }
            };
            let way = Way::watched(Arc::new(witness));
            let (mut user, mut config) = match deed {
                Deed::Create | Deed::Update => {
                    let user = User::by(Sandbox::new(1.0), way).await;
                    let config = configuration(&user.sandbox);
                    (user, config)
                }
                Deed::Destroy => {
                    let (sandbox, state, config) = grown().await;
                    let mut user = User::by(sandbox, way).await;
                    user.state = state;
                    (user, config)
                }
            };
            if deed == Deed::Update {
                user.must_apply(&config).await;
                change(&mut config);
            }
            *seen.lock().unwrap() = Seen::default();
            user.sandbox.forget_calls();
            let (world, state) = (user.sandbox.world(), user.state.clone());
            match deed {
                Deed::Create | Deed::Update => user.must_apply(&config).await,
                Deed::Destroy => user.must_destroy().await,
            }
            let Seen { changes: calls, reads, .. } = std::mem::take(&mut *seen.lock().unwrap());
            if deed == Deed::Destroy {
                let names: Vec<_> = calls.iter().map(|one| format!("{} ", one.operation)).collect();
                assert!(takes_all_away(names.iter().map(String::as_str)), "{names:#?}");
            }
            let (census, made) = (census(&user.sandbox), made_by(&user.sandbox.calls()));
            recorded = Some(Self { deed, world, state, config, calls, reads, census, made });
        });
        recorded.unwrap()
    }

    /// Somebody who is about to run it.
    pub(super) async fn begin(&self) -> User {
        let mut user = User::of(Sandbox::with_world(self.world.clone(), 1.0)).await;
        user.state = self.state.clone();
        user
    }

    /// Whether everything is as an undisturbed run leaves it.
    pub(super) fn is_right(&self, user: &User) -> bool {
        match self.deed {
            Deed::Create | Deed::Update => census(&user.sandbox) == self.census,
            Deed::Destroy => user.leftovers().is_empty(),
        }
    }

    /// Lives through the run with a call that fares so, and through another one after it, which goes on with what there
    /// is, or builds it anew where Terraform would; how many seconds of the account's time the latter took.
    async fn live(&self, call: &Call, fate: &Fate, goes_on: bool) -> u64 {
        let way = if goes_on { "goes on" } else { "builds anew" };
        let told = format!("{:?}: {call:?} {fate:?}, {way}, SEED={}", self.deed, seed());
        let mut user = self.begin().await;
        user.sandbox.add_fault(Fault::new(call.rule(fate.lasts), fate.effect.clone()));
        let found = self.run(&mut user).await;
        let hits = user.sandbox.hits();
        assert!(hits == 1 || hits > 1 && fate.lasts, "{told}: {hits}");
        let is_anew = user.state.tainted && !goes_on;
        self.must_be_told(call, fate, &user, &found, &told);
        user.sandbox.clear_faults();
        user.restart().await;
        user.state.tainted = is_anew;
        let begun = user.sandbox.now().0;
        let found = errors(&self.run(&mut user).await);
        let took = (user.sandbox.now().0 - begun) / 1000;
        assert_eq!(found, Vec::<String>::new(), "{told}");
        if !is_anew {
            assert_eq!(made_by(&user.sandbox.calls()), self.made, "{told}: made twice");
        }
        if self.deed != Deed::Destroy {
            user.must_be_unchanged(&self.config).await;
            let (mut there, mut wanted) = (census(&user.sandbox), self.census.clone());
            if is_anew {
                // What was built first is gone, but for its keys.
                for all in [&mut there, &mut wanted] {
                    all.retain(|kind, _| !kind.ends_with("pending deletion"));
                }
            }
            assert_eq!(there, wanted, "{told}");
            user.must_destroy().await;
        }
        assert_eq!(user.leftovers(), Vec::<String>::new(), "{told}");
        took
    }

    /// The run either did all that there was to be done, or says which call failed and how to go on.
    fn must_be_told(&self, call: &Call, fate: &Fate, user: &User, found: &Diagnostics, told: &str) {
        let all = lines(found);
        let is_told = |text: &str| all.iter().any(|one| one.contains(text));
        let is_named = is_told(&call.name());
        // Who does not hear from SSM loses the lease before a call to it is given up.
        let is_silenced = call.service == "ssm" && is_told("lease could not be renewed");
        if !found.has_errors() {
            assert!(self.is_right(user), "{told}: succeeds, and has not done it: {all:#?}");
            // Keys of others deny that one looks at them, so that some reads may be; and a run that ends before its
            // lease is in danger says nothing of it.
            let may_be = only_reads(&call.operation) || call.is_of_the_lease;
            assert!(is_named || may_be || !fate.is_denial(), "{told}: {all:#?}");
            return;
        }
        assert!(is_named || is_silenced || fate.misleads(), "{told}: {all:#?}");
        for one in errors(found) {
            // What to do about the call itself, before what comes next for the whole run.
            let of_the_call = one.split(" changes are done, ").next().unwrap_or_default();
            let text = if of_the_call.contains(&call.name()) { of_the_call } else { &one };
            assert!(WAYS.iter().any(|way| text.contains(way)), "{told}: what to do? {one}");
        }
        assert!(!user.state.tainted || is_told("terraform untaint"), "{told}: {all:#?}");
    }

    pub(super) async fn run(&self, user: &mut User) -> Diagnostics {
        match self.deed {
            Deed::Create | Deed::Update => user.apply(&self.config).await,
            // Terraform does not destroy what is in no state.
            Deed::Destroy if user.state.value.is_none() => Diagnostics::new(),
            Deed::Destroy => user.destroy().await,
        }
    }
}

/// How an error says what to do about it.
pub(super) const WAYS: [&str; 12] = [
    "try again",
    "Try again",
    "plan again",
    "Plan again",
    "apply again",
    "same command again",
    "goes on from there",
    "goes on without",
    "Check the id and the credentials",
    "terraform untaint",
    "shows whether they work",
    "in the policies of whoever runs Terraform",
];

/// What draws the sample.
pub(super) fn seed() -> u64 {
    std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(15)
}

/// How many points are tried of a deed's calls that change something, and of its reads, unless all are.
const SAMPLES: [usize; 2] = [16, 8];
/// How many fates a read meets where all points are tried, drawn from all that there are.
const FATES_OF_A_READ: usize = 3;

/// How many points were tried before, by a run of `make crash` that was stopped.
fn tried_before() -> usize {
    let from = std::env::var("CRASH_FROM").ok().filter(|_| is_whole());
    from.map_or(0, |text| text.parse().expect("CRASH_FROM is a number"))
}

/// What the points have in common that are tried, of all that a run of `make crash` would: part of a call or of its fate,
/// as failures print them.
pub(super) fn only() -> Option<String> {
    std::env::var("CRASH_ONLY").ok().filter(|_| is_whole())
}

/// Tries all of them, in two threads; how many failed. One that fails keeps the others from nothing: what was wrong was
/// printed.
pub(super) fn failures<T: Sync>(points: &[T], try_one: impl Fn(&T) + Sync) -> usize {
    let failed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (failed, try_one) = (&failed, &try_one);
            scope.spawn(move || {
                for point in points.iter().skip(half).step_by(2) {
                    if catch_unwind(AssertUnwindSafe(|| try_one(point))).is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    failed.into_inner()
}

fn try_points(deed: Deed) {
    let mut recorded = Recorded::of(deed);
    recorded.world.record_traffic();
    let recorded = recorded;
    assert!(recorded.calls.len() > 25, "{deed:?}: {}", recorded.calls.len());
    assert!(recorded.reads.len() > 25, "{deed:?}: {}", recorded.reads.len());
    let mut draw = fastrand::Rng::with_seed(seed());
    let is_whole = is_whole();
    let reads = drawn(recorded.reads.clone(), &mut draw);
    let mut points = Vec::new();
    for (calls, sample) in [&recorded.calls, &reads].into_iter().zip(SAMPLES) {
        let mut some = Vec::new();
        for call in calls {
            let of = fates(&call.service, &call.operation, &mut draw);
            some.extend(of.into_iter().map(|fate| (call, fate)));
        }
        draw.shuffle(&mut some);
        let is_read = sample == SAMPLES[1];
        some.truncate(match is_whole {
            true if is_read => calls.len() * FATES_OF_A_READ,
            true => some.len(),
            false => sample,
        });
        let some = some.into_iter();
        points.extend(some.map(|(call, fate)| (call, fate, draw.u32(0..3) > 0)));
    }
    let (calls, of, all) = (recorded.calls.len(), recorded.reads.len(), points.len());
    println!(
        "{deed:?}: {all} points: {calls} calls that change something, {} of {of} reads",
        reads.len()
    );
    if let Some(part) = only() {
        points.retain(|(call, fate, _)| format!("{call:?} {fate:?}").contains(&part));
        // A destroy makes nothing, and a create deletes nothing.
        if points.is_empty() {
            return println!("{deed:?}: none of them is of {part}");
        }
    }
    let (before, all) = (tried_before(), points.len());
    assert!(before < all, "CRASH_FROM={before} leaves nothing to try");
    let points = points.split_off(before);
    let tried = points.len();
    let (times, begun) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    let failed = failures(&points, |(call, fate, goes_on)| {
        let count = before + begun.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_multiple_of(500) {
            println!("{deed:?}: {count} of {all} points");
        }
        simulate(async || {
            let took = recorded.live(call, fate, *goes_on).await;
            times.lock().unwrap().push(took);
        });
    });
    let name = format!("faults-of-{deed:?}").to_lowercase();
    traffic::keep(&name, &[&Sandbox::with_world(recorded.world.clone(), 1.0)]);
    assert_eq!(failed, 0, "{failed} of {tried} points, each told above");
    tell(&format!("{deed:?}, a call fails, seed {}", seed()), times.into_inner().unwrap());
}

#[test]
fn any_call_of_a_create_may_fail_hang_or_lose_its_answer() {
    try_points(Deed::Create);
}

#[test]
fn any_call_of_an_update_may_fail_hang_or_lose_its_answer() {
    try_points(Deed::Update);
}

#[test]
fn any_call_of_a_destroy_may_fail_hang_or_lose_its_answer() {
    try_points(Deed::Destroy);
}
