//! An interrupt while AWS works on a call: the answer is waited for a while, the run ends soon, and the next one goes on.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use aws_sandbox::{Effect, Fault};

use super::{
    crash::{census, is_whole, made_by},
    faults::{Call, Deed, Recorded, WAYS, failures, only, seed},
};
use crate::support::{
    aws::simulate,
    user::{User, differences, errors},
};

/// How long AWS takes to answer what it has done, in milliseconds: less than a call in flight is waited for, and more.
const ANSWERS: [u64; 2] = [3_000, 30_000];
/// How many calls of a deed are tried, unless all are.
const SAMPLE: usize = 6;

/// Cancels shortly after a fault has met a call; when that was.
fn cancel_when_met(user: &User) -> tokio::task::JoinHandle<tokio::time::Instant> {
    let (sandbox, cancel) = (user.sandbox.clone(), user.cancel.clone());
    tokio::spawn(async move {
        while sandbox.hits() == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        cancel.cancel();
        tokio::time::Instant::now()
    })
}

impl Recorded {
    /// Interrupts the run while AWS takes its time to answer a call that it has acted on. Whether the run had anything left
    /// to do.
    async fn interrupt(&self, call: &Call, milliseconds: u64) -> bool {
        let told = format!("{:?}: {call:?}, answered after {milliseconds} ms", self.deed);
        let mut user = self.begin().await;
        user.sandbox.add_fault(Fault::new(call.rule(false), Effect::Delay { milliseconds }));
        let interrupted = cancel_when_met(&user);
        let found = self.run(&mut user).await;
        let ended = tokio::time::Instant::now();
        assert_eq!(user.sandbox.hits(), 1, "{told}");
        let took = ended.duration_since(interrupted.await.unwrap());
        assert!(took <= Duration::from_secs(10), "{told}: it ends after {took:?}");
        let was_ended = found.has_errors();
        if was_ended {
            for one in errors(&found) {
                assert!(WAYS.iter().any(|way| one.contains(way)), "{told}: what to do? {one}");
            }
        } else {
            assert!(self.is_right(&user), "{told}: succeeds, and has not done it");
        }
        user.sandbox.clear_faults();
        // Somebody follows the advice.
        user.restart().await;
        user.state.tainted = false;
        // What was answered is known: what is there, the state has. What is being deleted may be gone by now.
        let kept = user.state.value.clone();
        user.refresh().await;
        if let (Some(kept), Some(there), true) = (kept, &user.state.value, milliseconds < 4_000) {
            let mut unknown = differences(kept.get("components"), there.get("components"));
            unknown.retain(|one| one.contains(": null → "));
            assert_eq!(unknown, Vec::<String>::new(), "{told}: not in the state");
        }
        let found = errors(&self.run(&mut user).await);
        assert_eq!(found, Vec::<String>::new(), "{told}");
        assert_eq!(made_by(&user.sandbox.calls()), self.made, "{told}: made twice");
        if self.deed != Deed::Destroy {
            user.must_be_unchanged(&self.config).await;
            assert_eq!(census(&user.sandbox), self.census, "{told}");
            user.must_destroy().await;
        }
        assert_eq!(user.leftovers(), Vec::<String>::new(), "{told}");
        was_ended
    }
}

fn try_points(deed: Deed) {
    let recorded = Recorded::of(deed);
    let mut draw = fastrand::Rng::with_seed(seed());
    let mut points: Vec<_> = recorded
        .calls
        .iter()
        .flat_map(|call| ANSWERS.map(|milliseconds| (call, milliseconds)))
        .collect();
    draw.shuffle(&mut points);
    if !is_whole() {
        points.truncate(SAMPLE);
    }
    if let Some(part) = only() {
        points.retain(|(call, _)| format!("{call:?}").contains(&part));
        if points.is_empty() {
            return println!("{deed:?}: none of them is of {part}");
        }
    }
    let ended = AtomicUsize::new(0);
    let failed = failures(&points, |(call, milliseconds)| {
        simulate(async || {
            let was_ended = recorded.interrupt(call, *milliseconds).await;
            ended.fetch_add(usize::from(was_ended), Ordering::Relaxed);
        });
    });
    let ended = ended.into_inner();
    println!("{deed:?}, interrupted in flight: {} points, {ended} ended", points.len());
    assert_eq!(failed, 0, "{failed} of {} points, each told above", points.len());
    // All but what is called when everything is done, of which a sample may have some.
    assert!(only().is_some() || ended * 2 >= points.len(), "{deed:?}: {ended} of {}", points.len());
}

#[test]
fn a_create_is_interrupted_while_aws_acts() {
    try_points(Deed::Create);
}

#[test]
fn an_update_is_interrupted_while_aws_acts() {
    try_points(Deed::Update);
}

#[test]
fn a_destroy_is_interrupted_while_aws_acts() {
    try_points(Deed::Destroy);
}
