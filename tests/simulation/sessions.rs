//! Sessions of roles over the hours of an apply, and calls that are spaced out, in virtual time.

use std::time::Duration;

use aws_sandbox::{CallRecord, Effect, Fault, Rule, Sandbox};
use serde_json::json;
use trading::aws::{RoleSession, RoleToAssume};

use crate::support::{
    aws::{Way, simulate},
    user::{User, configuration},
};

const ROLE: &str = "arn:aws:iam::123456789012:role/deployer";

/// A sandbox with a role that anybody may assume and that may do everything.
fn with_role() -> Sandbox {
    let sandbox = Sandbox::new(1.0);
    let trust = json!({"Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]});
    let policy = json!({"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
    let role = json!({
        "RoleName": "deployer", "Arn": ROLE, "RoleId": "AROADEPLOYER", "MaxSessionDuration": 3600,
        "_trust": trust, "_policies": {"all": policy}, "_account": true,
    });
    sandbox.with(|world| world.place("global", "role", "deployer", role));
    sandbox
}

/// As that role, a quarter of an hour at a time.
fn by_role() -> Way {
    let session = RoleSession {
        role: ROLE.into(),
        name: "ci".into(),
        duration: Some(Duration::from_secs(900)),
        ..RoleSession::default()
    };
    Way { roles: vec![RoleToAssume { session, ..RoleToAssume::default() }], ..Way::default() }
}

fn assumed(sandbox: &Sandbox) -> Vec<CallRecord> {
    sandbox.calls().into_iter().filter(|one| one.operation == "AssumeRole").collect()
}

#[test]
fn a_session_that_runs_out_during_an_apply_is_renewed() {
    simulate(async || {
        let mut user = User::by(with_role(), by_role()).await;
        let config = configuration(&user.sandbox);
        user.must_apply(&config).await;
        let calls = user.sandbox.calls();
        let took = calls.last().unwrap().at - calls[0].at;
        let sessions = assumed(&user.sandbox).len() as u64;
        // A few calls at once may each ask for the next session.
        let least = took / 900_000;
        assert!((least..=least + 20).contains(&sessions), "{sessions} sessions in {took} ms");
        assert!(sessions > 1, "{sessions}");
        let late = calls.iter().find(|one| one.error.as_deref() == Some("ExpiredToken"));
        assert_eq!(late, None);
    });
}

#[test]
fn an_sts_that_fails_for_a_while_does_not_end_an_apply() {
    for effect in [
        Effect::Throttle,
        Effect::DropBefore,
        Effect::Fail { code: "InternalFailure".into(), message: "no".into(), status: 500 },
    ] {
        simulate(async || {
            let mut user = User::by(with_role(), by_role()).await;
            let config = configuration(&user.sandbox);
            let rule =
                Rule { operation: Some("AssumeRole".into()), times: Some(6), ..Rule::default() };
            // The first session, and one that is renewed while the cluster is being made.
            for after in [0, 1] {
                user.sandbox.clear_faults();
                let rule = Rule { after, ..rule.clone() };
                user.sandbox.add_fault(Fault::new(rule, effect.clone()));
                user.restart().await;
                user.must_apply(&config).await;
                assert_eq!(user.sandbox.hits(), 6, "{effect:?}");
                user.must_destroy().await;
            }
        });
    }
}

/// The shortest time between two calls that were throttled, in milliseconds, without the first five, which may have
/// been under way at once.
fn shortest_pause(sandbox: &Sandbox) -> u64 {
    let is_throttled = |one: &CallRecord| one.error.as_deref() == Some("Throttling");
    let calls = sandbox.calls().into_iter().filter(is_throttled);
    let throttled: Vec<u64> = calls.map(|one| one.at).skip(5).collect();
    assert!(throttled.len() > 5, "{throttled:?}");
    throttled.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or_default()
}

#[test]
fn adaptive_retries_space_out_what_follows_a_throttled_call() {
    let mut pauses = Vec::new();
    for is_adaptive in [false, true] {
        simulate(async || {
            let way = Way { is_adaptive, ..Way::default() };
            let mut user = User::by(Sandbox::new(1.0), way).await;
            let config = configuration(&user.sandbox);
            user.must_apply(&config).await;
            user.sandbox.forget_calls();
            // The first one, for the instance, is alone; those after it are made at once.
            let rule = Rule {
                service: Some("rds".into()),
                region: Some("us-east-1".into()),
                after: 1,
                times: Some(12),
                ..Rule::default()
            };
            user.sandbox.add_fault(Fault::new(rule, Effect::Throttle));
            user.must_be_unchanged(&config).await;
            pauses.push(shortest_pause(&user.sandbox));
        });
    }
    // The SDK lets half a call a second pass at least.
    assert!(pauses[0] < 100 && pauses[1] > 1900, "{pauses:?}");
}
