//! Trouble on demand, call by call.

use serde_json::Value;

use super::{Caller, EAST};
use crate::{
    ACCESS_KEY, Effect, Fault, Rule,
    dispatch::{Incoming, Outgoing, handle},
};

/// A call to KMS as it comes in from outside, where trouble strikes.
fn ask(caller: &mut Caller, operation: &str) -> Outgoing {
    let incoming = Incoming {
        method: "POST".into(),
        path: "/".into(),
        query: String::new(),
        target: Some(format!("TrentService.{operation}")),
        authorization: Some(format!(
            "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260105/{EAST}/kms/aws4_request, SignedHeaders=host"
        )),
        invocation_type: None,
        token: None,
        body: b"{}".to_vec(),
    };
    handle(&mut caller.world, &incoming)
}

fn keys(caller: &mut Caller) -> usize {
    let answer: Value = serde_json::from_slice(&ask(caller, "ListKeys").body).unwrap();
    answer["Keys"].as_array().unwrap().len()
}

fn behind(seconds: u64, percent: u64) -> Fault {
    let rule = Rule { service: Some("kms".into()), percent: Some(percent), ..Rule::default() };
    Fault::new(rule, Effect::Stale { seconds })
}

#[test]
fn a_read_that_is_behind_shows_what_was_and_what_changes_something_happens() {
    let mut caller = Caller::new();
    let before = keys(&mut caller);
    caller.world.faults.push(behind(60, 100));
    assert_eq!(keys(&mut caller), before);
    assert_eq!(ask(&mut caller, "CreateKey").status, 200);
    for seconds in [0, 30, 29] {
        caller.pass(seconds);
        assert_eq!(keys(&mut caller), before, "it shows too early");
    }
    caller.pass(2);
    assert_eq!(keys(&mut caller), before + 1, "it shows after a minute");
    assert_eq!(ask(&mut caller, "CreateKey").status, 200);
    assert_eq!(keys(&mut caller), before + 1);
    caller.world.faults.clear();
    assert_eq!(keys(&mut caller), before + 2, "it was there all the time");
}

#[test]
fn of_reads_that_are_behind_now_and_then_the_others_are_not() {
    let mut caller = Caller::new();
    let before = keys(&mut caller);
    caller.world.faults.push(behind(60, 50));
    // What was before is known from the first call on.
    assert_eq!(keys(&mut caller), before);
    ask(&mut caller, "CreateKey");
    let seen: Vec<usize> = (0..4).map(|_| keys(&mut caller) - before).collect();
    assert_eq!(seen.iter().sum::<usize>(), 2, "{seen:?}");
}

#[test]
fn what_is_down_answers_nothing_however_far_behind_its_reads_are() {
    let mut caller = Caller::new();
    caller.world.faults.push(behind(60, 100));
    caller.world.down.insert(EAST.into());
    assert_eq!(ask(&mut caller, "ListKeys").effect, Some(Effect::DropBefore));
    assert_eq!(ask(&mut caller, "CreateKey").effect, Some(Effect::DropBefore));
    caller.world.down.clear();
    assert_eq!(ask(&mut caller, "ListKeys").status, 200);
}
