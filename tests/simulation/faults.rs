//! Any one call that changes something is denied, hangs, or loses its answer: the run copes or fails with a
//! message, and the next one brings the same cluster about.
//!
//! `make test` tries a sample, `make crash` all.

use std::sync::{Arc, Mutex};

use aws_sandbox::{Effect, Fault, Rule, Sandbox};
use serde_json::Value as Json;

use super::crash::{census, changes_something};
use crate::support::{
    aws::{Way, simulate},
    user::{User, configuration, errors},
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
    fn rule(&self) -> Rule {
        Rule {
            service: Some(self.service.clone()),
            operation: Some(self.operation.clone()),
            region: Some(self.region.clone()),
            after: self.earlier,
            times: Some(1),
            percent: None,
        }
    }
}

/// The calls of a create that change something, in their order, and what it makes.
fn recorded() -> (Vec<Call>, std::collections::BTreeMap<String, usize>, Json) {
    let (mut calls, mut made, mut config) = (Vec::new(), None, Json::Null);
    simulate(async || {
        let sandbox = Sandbox::new(1.0);
        let seen: Arc<Mutex<Vec<Call>>> = Arc::default();
        let into = Arc::clone(&seen);
        let witness = move |sandbox: &Sandbox| {
            sandbox.with(|world| {
                let Some(call) = world.last_call().filter(|call| changes_something(call)) else {
                    return;
                };
                let mut all = into.lock().unwrap();
                let mut one = Call {
                    service: call.service.clone(),
                    operation: call.operation.clone(),
                    region: call.region.clone(),
                    earlier: 0,
                };
                let same = |other: &&Call| {
                    (&other.service, &other.operation, &other.region)
                        == (&one.service, &one.operation, &one.region)
                };
                one.earlier = all.iter().filter(same).count() as u64;
                all.push(one);
            });
        };
        let way = Way::watched(Arc::new(witness));
        let mut user = User::by(sandbox, way).await;
        config = configuration(&user.sandbox);
        user.must_apply(&config).await;
        made = Some(census(&user.sandbox));
        calls = seen.lock().unwrap().clone();
    });
    (calls, made.unwrap(), config)
}

#[test]
fn any_call_may_be_denied_hang_or_lose_its_answer() {
    let (calls, made, config) = recorded();
    assert!(calls.len() > 50, "{}", calls.len());
    let denied = Effect::Fail {
        code: "AccessDenied".into(),
        message: "not authorized to perform: this".into(),
        status: 403,
    };
    let every = std::env::var_os("CRASH_POINTS").is_some_and(|all| all == "all");
    let mut points: Vec<(Call, Effect)> = Vec::new();
    for effect in [denied, Effect::Hang, Effect::DropAfter] {
        // A heartbeat or a release that fails is nobody's loss.
        let calls = calls.iter().filter(|call| !call.operation.contains("Parameter"));
        points.extend(calls.map(|call| (call.clone(), effect.clone())));
    }
    let step = if every { 1 } else { 6 };
    let points: Vec<_> = points.into_iter().step_by(step).collect();
    println!("{} points", points.len());
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (points, made, config) = (&points, &made, &config);
            scope.spawn(move || {
                for (call, effect) in points.iter().skip(half).step_by(2) {
                    simulate(async || {
                        let mut user = User::new().await;
                        user.sandbox.add_fault(Fault::new(call.rule(), effect.clone()));
                        let found = errors(&user.apply(config).await);
                        if matches!(effect, Effect::Fail { .. }) {
                            assert!(!found.is_empty(), "{call:?} was denied and nobody noticed");
                            let named = found.iter().any(|one| {
                                one.contains(&format!("{}:{}", call.service, call.operation))
                            });
                            assert!(named, "{call:?}: {found:#?}");
                        }
                        user.sandbox.clear_faults();
                        user.restart().await;
                        user.state.tainted = false;
                        user.must_apply(config).await;
                        user.must_be_unchanged(config).await;
                        assert_eq!(&census(&user.sandbox), made, "{call:?} {effect:?}");
                    });
                }
            });
        }
    });
}
