//! Any one call of a create, an update or a destroy that changes something is refused, fails, hangs, or loses its
//! answer: the run copes or fails with a message that names it, and the next one brings the same cluster about, or
//! leaves nothing.
//!
//! `make test` tries a sample, `make crash` all.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use aws_sandbox::{Effect, Fault, Rule, Sandbox, World};
use serde_json::Value as Json;
use trading::plugin::Diagnostics;

use super::crash::{census, changes_something, tell};
use crate::support::{
    aws::{Way, simulate},
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

    /// A heartbeat or a release that fails is nobody's loss.
    fn is_of_the_lease(&self) -> bool {
        self.operation.contains("Parameter") && self.service == "ssm"
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
    census: BTreeMap<String, usize>,
}

impl Recorded {
    fn of(deed: Deed) -> Self {
        let mut recorded = None;
        simulate(async || {
            let seen: Arc<Mutex<Vec<Call>>> = Arc::default();
            let into = Arc::clone(&seen);
            let witness = move |sandbox: &Sandbox| {
                let last = sandbox.with(|world| world.last_call().cloned());
                if let Some(call) = last.filter(changes_something) {
                    let mut all = into.lock().unwrap();
                    let mut one = Call {
                        service: call.service,
                        operation: call.operation,
                        region: call.region,
                        earlier: 0,
                    };
                    let same = |other: &&Call| Call { earlier: 0, ..(*other).clone() } == one;
                    one.earlier = all.iter().filter(same).count() as u64;
                    all.push(one);
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
            seen.lock().unwrap().clear();
            let (world, state) = (user.sandbox.world(), user.state.clone());
            match deed {
                Deed::Create | Deed::Update => user.must_apply(&config).await,
                Deed::Destroy => user.must_destroy().await,
            }
            let calls = seen.lock().unwrap().clone();
            let census = census(&user.sandbox);
            recorded = Some(Self { deed, world, state, config, calls, census });
        });
        recorded.unwrap()
    }

    /// Lives through the run with one call that fares so, and through another one after it; how many seconds of the
    /// account's time the latter took.
    async fn live(&self, call: &Call, effect: &Effect) -> u64 {
        let told = format!("{:?}: {call:?} {effect:?}", self.deed);
        let mut user = User::of(Sandbox::with_world(self.world.clone(), 1.0)).await;
        user.state = self.state.clone();
        user.sandbox.add_fault(Fault::new(call.rule(effect), effect.clone()));
        let found = lines(&self.run(&mut user).await);
        if is_denial(effect) {
            // An error; a warning where the cluster is all the same as it should be.
            let name = format!("{}:{}", call.service, call.operation);
            assert!(found.iter().any(|one| one.contains(&name)), "{told}: {found:#?}");
        }
        let hits = user.sandbox.hits();
        assert!(hits == 1 || hits > 1 && is_denial(effect), "{told}: {hits}");
        user.sandbox.clear_faults();
        user.restart().await;
        user.state.tainted = false;
        let begun = user.sandbox.now().0;
        let found = errors(&self.run(&mut user).await);
        let took = (user.sandbox.now().0 - begun) / 1000;
        assert_eq!(found, Vec::<String>::new(), "{told}");
        if self.deed == Deed::Destroy {
            assert_eq!(user.leftovers(), Vec::<String>::new(), "{told}");
        } else {
            user.must_be_unchanged(&self.config).await;
            assert_eq!(census(&user.sandbox), self.census, "{told}");
        }
        took
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
fn effects() -> [Effect; 5] {
    let fail = |code: &str, status| Effect::Fail {
        code: code.into(),
        message: "not authorized to perform: this".into(),
        status,
    };
    [
        fail("AccessDenied", 403),
        fail("InternalFailure", 500),
        Effect::Throttle,
        Effect::Hang,
        Effect::DropAfter,
    ]
}

fn try_points(deed: Deed, sample: usize) {
    let recorded = Recorded::of(deed);
    assert!(recorded.calls.len() > 25, "{deed:?}: {}", recorded.calls.len());
    let every = std::env::var_os("CRASH_POINTS").is_some_and(|all| all == "all");
    let effects = effects();
    let calls = recorded.calls.iter().filter(|call| !call.is_of_the_lease());
    let points = calls.flat_map(|call| effects.iter().map(move |effect| (call, effect)));
    // The sample is no multiple of the effects, so that each of them has its turn.
    let points: Vec<_> = points.step_by(if every { 1 } else { sample }).collect();
    let times = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (points, recorded, times) = (&points, &recorded, &times);
            scope.spawn(move || {
                for (call, effect) in points.iter().skip(half).step_by(2) {
                    simulate(async || {
                        let took = recorded.live(call, effect).await;
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
    try_points(Deed::Create, 19);
}

#[test]
fn any_call_of_an_update_may_fail_hang_or_lose_its_answer() {
    try_points(Deed::Update, 16);
}

#[test]
fn any_call_of_a_destroy_may_fail_hang_or_lose_its_answer() {
    try_points(Deed::Destroy, 16);
}
