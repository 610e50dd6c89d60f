//! Any one call of a create, an update or a destroy is refused, fails, hangs, or loses its answer: the run copes or
//! fails with a message that names it, and the next one brings the same cluster about, or leaves nothing.
//!
//! `make test` tries a sample, drawn by `SEED`, which of reads that are repeated has the first one and one more; `make crash`
//! tries all.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use aws_sandbox::{CallRecord, Effect, Fault, Rule, Sandbox, World};
use serde_json::Value as Json;
use trading::plugin::Diagnostics;

use super::crash::{census, changes_something, tell};
use crate::support::{
    aws::{Way, only_reads, simulate},
    user::{State, User, change, configuration, errors, lines},
};

/// The n-th call of an operation in a region.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    service: String,
    operation: String,
    region: String,
    earlier: u64,
}

impl Call {
    /// Rights that are missing are missing for good; everything else happens once.
    fn rule(&self, effect: &Effect) -> Rule {
        Rule {
            service: Some(self.service.clone()),
            operation: Some(self.operation.clone()),
            region: Some(self.region.clone()),
            after: self.earlier,
            times: (!is_denial(effect)).then_some(1),
            percent: None,
        }
    }

    /// A heartbeat or a release that fails is nobody's loss. What else is written to SSM, `tests/simulation/undone.rs`
    /// tries.
    fn is_of_the_lease(&self) -> bool {
        self.operation == "PutParameter"
    }
}

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Create,
    Update,
    Destroy,
}

/// A run, recorded: where it begins, what it calls, and what there is in the end.
struct Recorded {
    deed: Deed,
    world: World,
    state: State,
    config: Json,
    calls: Vec<Call>,
    reads: Vec<Call>,
    census: BTreeMap<String, usize>,
}

/// A call that was just made, by those that were made before.
fn counted(call: CallRecord, all: &[Call]) -> Call {
    let CallRecord { service, operation, region, .. } = call;
    let mut one = Call { service, operation, region, earlier: 0 };
    let same = |other: &&Call| Call { earlier: 0, ..(*other).clone() } == one;
    one.earlier = all.iter().filter(same).count() as u64;
    one
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
    fn of(deed: Deed) -> Self {
        let mut recorded = None;
        simulate(async || {
            let seen: Arc<Mutex<[Vec<Call>; 2]>> = Arc::default();
            let into = Arc::clone(&seen);
            let witness = move |sandbox: &Sandbox| {
                let Some(call) = sandbox.with(|world| world.last_call().cloned()) else { return };
                let mut both = into.lock().unwrap();
                let is_read = only_reads(&call.operation);
                if is_read || changes_something(&call) {
                    let all = &mut both[usize::from(is_read)];
                    let call = counted(call, all);
                    all.push(call);
                }
            };
            let mut user = User::by(Sandbox::new(1.0), Way::watched(Arc::new(witness))).await;
            let mut config = configuration(&user.sandbox);
            if deed != Deed::Create {
                user.must_apply(&config).await;
            }
            if deed == Deed::Update {
                change(&mut config);
            }
            *seen.lock().unwrap() = Default::default();
            let (world, state) = (user.sandbox.world(), user.state.clone());
            match deed {
                Deed::Create | Deed::Update => user.must_apply(&config).await,
                Deed::Destroy => user.must_destroy().await,
            }
            let [calls, reads] = seen.lock().unwrap().clone();
            let census = census(&user.sandbox);
            recorded = Some(Self { deed, world, state, config, calls, reads, census });
        });
        recorded.unwrap()
    }

    /// Lives through the run with one call that fares so, and through another one after it, which goes on with what there
    /// is, or builds it anew where Terraform would; how many seconds of the account's time the latter took.
    async fn live(&self, call: &Call, effect: &Effect, goes_on: bool) -> u64 {
        let way = if goes_on { "goes on" } else { "builds anew" };
        let told = format!("{:?}: {call:?} {effect:?}, {way}, SEED={}", self.deed, seed());
        let mut user = User::of(Sandbox::with_world(self.world.clone(), 1.0)).await;
        user.state = self.state.clone();
        user.sandbox.add_fault(Fault::new(call.rule(effect), effect.clone()));
        let found = lines(&self.run(&mut user).await);
        // Keys of others deny that one looks at them, so that some reads may be.
        let may_be = only_reads(&call.operation) && self.is_done(&user, &found);
        if is_denial(effect) && !may_be {
            let service = if call.service == "tagging" { "tag" } else { &call.service };
            let name = format!("{service}:{}", call.operation);
            assert!(found.iter().any(|one| one.contains(&name)), "{told}: {found:#?}");
        }
        let hits = user.sandbox.hits();
        assert!(hits == 1 || hits > 1 && is_denial(effect), "{told}: {hits}");
        user.sandbox.clear_faults();
        user.restart().await;
        let is_anew = user.state.tainted && !goes_on;
        user.state.tainted = is_anew;
        let begun = user.sandbox.now().0;
        let found = errors(&self.run(&mut user).await);
        let took = (user.sandbox.now().0 - begun) / 1000;
        assert_eq!(found, Vec::<String>::new(), "{told}");
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

    /// Whether a run that said nothing did all that there is to be done.
    fn is_done(&self, user: &User, found: &[String]) -> bool {
        let is_quiet = !found.iter().any(|one| one.contains("enied"));
        let is_right = match self.deed {
            Deed::Create | Deed::Update => census(&user.sandbox) == self.census,
            Deed::Destroy => user.leftovers().is_empty(),
        };
        is_quiet && is_right
    }

    async fn run(&self, user: &mut User) -> Diagnostics {
        match self.deed {
            Deed::Create | Deed::Update => user.apply(&self.config).await,
            // Terraform does not destroy what is in no state.
            Deed::Destroy if user.state.value.is_none() => Diagnostics::new(),
            Deed::Destroy => user.destroy().await,
        }
    }
}

fn is_denial(effect: &Effect) -> bool {
    matches!(effect, Effect::Fail { status: 403, .. })
}

/// What may become of a call.
fn effects() -> [Effect; 9] {
    let fail = |code: &str, message: &str, status| Effect::Fail {
        code: code.into(),
        message: message.into(),
        status,
    };
    [
        fail("AccessDenied", "not authorized to perform: this", 403),
        fail("ValidationError", "not like this", 400),
        fail("InternalFailure", "try again", 500),
        fail("ExpiredToken", "The security token included in the request is expired", 400),
        fail("ResourceInUseException", "it is being changed", 400),
        fail("MalformedPolicyDocument", "Invalid principal in policy", 400),
        Effect::Throttle,
        Effect::Hang,
        Effect::DropAfter,
    ]
}

/// What draws the sample.
fn seed() -> u64 {
    std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(15)
}

/// How many points are tried of a deed's calls that change something, and of its reads, unless all are.
const SAMPLES: [usize; 2] = [30, 15];

fn try_points(deed: Deed) {
    let recorded = Recorded::of(deed);
    assert!(recorded.calls.len() > 25, "{deed:?}: {}", recorded.calls.len());
    assert!(recorded.reads.len() > 25, "{deed:?}: {}", recorded.reads.len());
    let mut draw = fastrand::Rng::with_seed(seed());
    let effects = effects();
    let is_whole = std::env::var_os("CRASH_POINTS").is_some_and(|all| all == "all");
    let reads =
        if is_whole { recorded.reads.clone() } else { drawn(recorded.reads.clone(), &mut draw) };
    let mut points = Vec::new();
    for (calls, sample) in [&recorded.calls, &reads].into_iter().zip(SAMPLES) {
        let calls = calls.iter().filter(|call| !call.is_of_the_lease());
        let mut some: Vec<_> =
            calls.flat_map(|call| effects.iter().map(move |effect| (call, effect))).collect();
        if !is_whole {
            draw.shuffle(&mut some);
            some.truncate(sample);
        }
        let some = some.into_iter();
        points.extend(some.map(|(call, effect)| (call, effect, draw.u32(0..3) > 0)));
    }
    let times = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (points, recorded, times) = (&points, &recorded, &times);
            scope.spawn(move || {
                for (call, effect, goes_on) in points.iter().skip(half).step_by(2) {
                    simulate(async || {
                        let took = recorded.live(call, effect, *goes_on).await;
                        times.lock().unwrap().push(took);
                    });
                }
            });
        }
    });
    tell(&format!("{deed:?}, a call fails"), times.into_inner().unwrap());
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
