//! Failovers are drilled on a throw-away copy of the standby, and nothing else is touched.

use aws_sandbox::{Effect, Fault, Rule, Sandbox};
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value as Json, json};
use trading::contract::{
    CLUSTER, ITEM,
    drill::{DRILL, Drilled, Drills, Step},
};

use super::overview;
use crate::support::{
    agent::{
        EAST, LEDGER, WEST, alarm, begin_only, begin_the_others, ledger, remembered, set_lost,
    },
    aws::{connect, pass, simulate},
    user::{User, differences, errors, lines},
};

const COPY: &str = "trading-db-drill-prod";
/// What a drill needs.
const ALONE: &[&str] = &["drill", "probe"];

fn drills(sandbox: &Sandbox) -> Drills {
    serde_json::from_value(remembered(sandbox, WEST, "drill")).unwrap_or_default()
}

fn step(sandbox: &Sandbox) -> Option<Step> {
    drills(sandbox).underway.map(|one| one.step)
}

/// Waits until a drill has come so far, for a day at most.
pub(super) async fn until(sandbox: &Sandbox, wanted: Option<Step>) {
    for _ in 0..24 * 360 {
        if step(sandbox) == wanted {
            return;
        }
        pass(10).await;
    }
    panic!("not {wanted:?} but {:#?}", drills(sandbox));
}

fn instances(sandbox: &Sandbox) -> Vec<String> {
    let all = sandbox.with(|world| world.inventory());
    let of = |region: &str| all[region]["db-instance"].as_object().cloned().unwrap_or_default();
    [EAST, WEST].iter().flat_map(|region| of(region).into_iter()).map(|(name, _)| name).collect()
}

fn recovery(user: &User, name: &str) -> String {
    let state = user.state.value.as_ref().unwrap();
    state.get("recovery").get(name).as_str().unwrap_or_default().to_owned()
}

/// Asks for a drill, as a human does.
pub(super) async fn ask(sandbox: &Sandbox) {
    let lambda = connect(sandbox).await.region(WEST).lambda.clone();
    let payload = aws_sdk_lambda::primitives::Blob::new(r#"{"action": "drill"}"#);
    let call = lambda.invoke().function_name(COPY).payload(payload);
    let call = call.invocation_type(aws_sdk_lambda::types::InvocationType::Event);
    call.send().await.unwrap();
}

/// A cluster that is drilled every day at nine, and the last one of its drills once that is over.
pub(super) async fn drilled(more: Json) -> (User, Json, Drilled) {
    let mut user = User::new().await;
    let mut config = crate::support::user::configuration(&user.sandbox);
    config["drill"] = json!({"schedule": "cron(0 9 * * ? *)"});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    user.must_apply(&config).await;
    begin_only(&user.sandbox, ALONE);
    until(&user.sandbox, Some(Step::Creating)).await;
    until(&user.sandbox, None).await;
    let last = drills(&user.sandbox).past.pop().unwrap();
    (user, config, last)
}

#[test]
fn a_drill_promotes_a_copy_measures_it_and_leaves_nothing() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        assert_eq!(recovery(&user, "last_drill"), "no drill has been measured yet");
        begin_only(&user.sandbox, ALONE);
        // Saturday, an hour after the standby's backup.
        pass(5 * 86_400).await;
        until(&user.sandbox, Some(Step::Promoting)).await;
        let copy = user.sandbox.with(|world| world.inventory())[WEST]["db-instance"][COPY].clone();
        assert_eq!(copy["Tags"]["team"], "trading");
        assert_eq!(copy["PubliclyAccessible"], false);
        // No plan speaks of it while it is there.
        user.must_be_unchanged(&config).await;
        until(&user.sandbox, None).await;

        let all = drills(&user.sandbox).past;
        assert_eq!(all.len(), 1, "the schedule fires twice, and one drill is held: {all:#?}");
        let last = &all[0];
        assert_eq!(last.failure, None);
        // RDS takes 125 s in the sandbox, and it is looked at every five.
        assert!((125..=135).contains(&last.promotion.unwrap()), "{last:?}");
        assert!(last.heartbeat_age.unwrap() <= 15, "{last:?}");
        assert!((230..=270).contains(&last.blocked), "{last:?}");
        assert_eq!(
            instances(&user.sandbox),
            ["trading-db-primary-prod", "trading-db-replica-prod"]
        );
        pass(4000).await;
        assert_eq!(alarm(&user.sandbox, WEST, "drill-failed"), "OK");

        let planned = user.plan(&config).await;
        let warned = lines(&planned.diagnostics);
        assert_eq!(warned, Vec::<String>::new());
        let allowed = last.promotion.unwrap() + last.promotion.unwrap() / 5;
        assert!(recovery(&user, "promotion_allowed_for").starts_with(&format!("{allowed} s")));
        assert_eq!(recovery(&user, "at_risk"), "no");
        assert!(recovery(&user, "last_drill").contains(": passed; promoted in 1"));
        let seen = overview::must_hold(overview::look(&user.sandbox).await);
        let seen = seen.get("last_drill");
        let number = |name: &str| seen.get(name).as_i64();
        assert_eq!(number("promotion_seconds"), last.promotion.map(i64::from));
        assert_eq!(number("data_loss_seconds"), last.heartbeat_age.map(|age| i64::from(age) + 10));
        assert_eq!(number("blocked_seconds"), Some(i64::from(last.blocked)));
        assert!(seen.get("failure").is_null());
        let moment = |name: &str| seen.get(name).as_str().unwrap().to_owned();
        assert!(recovery(&user, "last_drill").starts_with(&moment("began")));
        assert!(moment("began") < moment("ended") && moment("ended").ends_with('Z'));
        user.must_be_unchanged(&config).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn an_apply_beside_a_drill_is_one_like_any_other() {
    simulate(async || {
        let (mut user, mut config, last) = drilled(json!({"dns": {"ttl": 10}})).await;
        assert_eq!(last.failure, None);
        pass(60).await;
        user.must_be_unchanged(&config).await;
        assert_eq!(recovery(&user, "at_risk"), "no");
        // What drills find while an apply runs is not promised by its plan.
        ask(&user.sandbox).await;
        until(&user.sandbox, Some(Step::Promoting)).await;
        config["database"] = json!({"monitoring_interval": 30});
        user.must_apply(&config).await;
        until(&user.sandbox, None).await;
        assert_eq!(drills(&user.sandbox).past.len(), 2);
        user.must_be_unchanged(&config).await;
    });
}

/// Puts a drill on record as the function would have.
async fn note(sandbox: &Sandbox, promotion: u32, heartbeat_age: u32) {
    let one = Drilled {
        began: 1_767_600_000_000,
        ended: 1_767_602_000_000,
        promotion: Some(promotion),
        heartbeat_age: Some(heartbeat_age),
        blocked: 245,
        failure: None,
    };
    put(
        sandbox,
        &serde_json::to_string(&Drills { version: 1, underway: None, past: vec![one] }).unwrap(),
    )
    .await;
}

async fn put(sandbox: &Sandbox, body: &str) {
    let dynamodb = connect(sandbox).await.region(WEST).dynamodb.clone();
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let call = dynamodb.put_item().table_name(LEDGER).item(CLUSTER, text("prod"));
    let call = call.item(ITEM, text(DRILL)).item("body", text(body));
    call.item("version", AttributeValue::N("1".into())).send().await.unwrap();
}

#[test]
fn what_drills_find_too_slow_warns_and_refuses_nothing() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        for (promotion, age, words) in [
            (200, 5, "a lost instance would take 390 of 300 s"),
            (100, 51, "61 of 60 s of writes would be lost"),
        ] {
            note(&user.sandbox, promotion, age).await;
            user.restart().await;
            let planned = user.plan(&config).await;
            assert_eq!(errors(&planned.diagnostics), Vec::<String>::new());
            let warned = lines(&planned.diagnostics);
            let is_told =
                |one: &String| one.contains("may miss its objectives") && one.contains(words);
            assert!(warned.iter().any(is_told), "{warned:#?}");
            assert!(
                recovery(&user, "at_risk").starts_with("yes: "),
                "{}",
                recovery(&user, "at_risk")
            );
            assert!(
                recovery(&user, "last_drill")
                    .starts_with("2026-01-05T08:00:00Z: passed; promoted in")
            );
        }
        // Nobody is locked out.
        config["tags"] = json!({"team": "other"});
        user.must_apply(&config).await;
        put(&user.sandbox, "something else").await;
        user.must_be_unchanged(&config).await;
        assert!(recovery(&user, "at_risk").contains("cannot read"));
        let seen = overview::must_hold(overview::look(&user.sandbox).await);
        assert!(seen.get("last_drill").is_null());
    });
}

#[test]
fn a_drill_that_could_not_be_noted_at_once_is_held_all_the_same() {
    simulate(async || {
        for effect in [Effect::DropBefore, Effect::DropAfter] {
            let (user, _, _) = drilled(json!({})).await;
            let rule =
                Rule { operation: Some("PutItem".into()), times: Some(1), ..Rule::default() };
            user.sandbox.add_fault(Fault::new(rule, effect));
            ask(&user.sandbox).await;
            // Long before the schedule asks again.
            pass(120).await;
            assert_eq!(step(&user.sandbox), Some(Step::Creating));
        }
    });
}

#[test]
fn drills_survive_their_own_death_and_make_nothing_twice() {
    simulate(async || {
        for (seed, effect) in [(7, Effect::DropAfter), (8, Effect::DropBefore)] {
            fastrand::seed(seed);
            let mut user = User::new().await;
            let mut config = crate::support::user::configuration(&user.sandbox);
            config["drill"] = json!({"schedule": "cron(0 9 * * ? *)"});
            user.must_apply(&config).await;
            for operation in [
                "Invoke",
                "PutItem",
                "CreateDBInstanceReadReplica",
                "PromoteReadReplica",
                "DeleteDBInstance",
            ] {
                let rule = Rule {
                    operation: Some(operation.into()),
                    percent: Some(40),
                    ..Rule::default()
                };
                user.sandbox.add_fault(Fault::new(rule, effect.clone()));
            }
            begin_only(&user.sandbox, ALONE);
            until(&user.sandbox, Some(Step::Creating)).await;
            user.sandbox.forget_calls();
            until(&user.sandbox, None).await;
            let all = drills(&user.sandbox).past;
            assert_eq!((all.len(), all[0].failure.as_ref()), (1, None), "{all:#?}");
            let calls = user.sandbox.calls();
            let made = calls.iter().filter(|call| {
                call.operation == "CreateDBInstanceReadReplica" && call.error.is_none()
            });
            assert!(made.count() <= 1);
            assert_eq!(instances(&user.sandbox).len(), 2);
        }
    });
}

#[test]
fn a_drill_that_fails_is_told_and_cleaned_up_and_the_next_one_mends_it() {
    simulate(async || {
        let mut user = User::new().await;
        let mut config = crate::support::user::configuration(&user.sandbox);
        config["drill"] = json!({"schedule": "cron(0 9 * * ? *)"});
        user.must_apply(&config).await;
        let rule = Rule { operation: Some("PromoteReadReplica".into()), ..Rule::default() };
        let effect = Effect::Fail {
            code: "InvalidDBInstanceState".into(),
            message: "not in an available state".into(),
            status: 400,
        };
        user.sandbox.add_fault(Fault::new(rule, effect));
        begin_only(&user.sandbox, ALONE);
        until(&user.sandbox, Some(Step::Removing)).await;
        until(&user.sandbox, None).await;
        let last = drills(&user.sandbox).past.pop().unwrap();
        let why = last.failure.unwrap();
        assert!(why.contains("took no write within 20 minutes"), "{why}");
        assert!(why.contains("not in an available state"), "{why}");
        let seen = overview::must_hold(overview::look(&user.sandbox).await);
        let seen = seen.get("last_drill");
        assert_eq!(seen.get("failure").as_str(), Some(why.as_str()));
        assert!(seen.get("promotion_seconds").is_null());
        assert_eq!(instances(&user.sandbox).len(), 2, "the copy is gone");
        pass(4000).await;
        assert_eq!(alarm(&user.sandbox, WEST, "drill-failed"), "ALARM");
        let told = user.sandbox.with(|world| world.messages(WEST, "trading-db-alerts-prod"));
        assert!(
            told.iter().any(|one| one["subject"] == "A failover drill has failed"),
            "{told:#?}"
        );
        let warned = lines(&user.plan(&config).await.diagnostics);
        assert!(
            warned.iter().any(|one| one.contains("The last failover drill has failed")),
            "{warned:#?}"
        );
        user.sandbox.clear_faults();
        until(&user.sandbox, Some(Step::Creating)).await;
        until(&user.sandbox, None).await;
        pass(4000).await;
        assert_eq!(alarm(&user.sandbox, WEST, "drill-failed"), "OK");
    });
}

/// While RDS makes the copy, the standby itself cannot be promoted: what a drill costs, as its record says.
#[test]
fn a_region_that_is_lost_during_a_drill_is_failed_over_as_soon_as_rds_lets_it() {
    simulate(async || {
        for wanted in [Step::Creating, Step::Promoting] {
            let (user, _, last) = drilled(json!({})).await;
            begin_the_others(&user.sandbox);
            pass(200).await;
            ask(&user.sandbox).await;
            until(&user.sandbox, Some(wanted)).await;
            set_lost(&user.sandbox, EAST, true);
            let blocked = if wanted == Step::Creating { u64::from(last.blocked) } else { 0 };
            pass(255 + blocked).await;
            let after = ledger(&user.sandbox, WEST);
            assert_eq!(after["phase"], "promoted", "{wanted:?}: {after:#}");
            until(&user.sandbox, None).await;
            let last = drills(&user.sandbox).past.pop().unwrap();
            assert_eq!(last.failure.as_deref(), Some("a failover has begun"), "{wanted:?}");
            assert!(!instances(&user.sandbox).contains(&COPY.to_owned()));
            // Nothing is drilled any more.
            ask(&user.sandbox).await;
            pass(60).await;
            assert_eq!(step(&user.sandbox), None);
        }
    });
}

#[test]
fn a_drill_whose_own_region_is_lost_ends_when_that_is_back_and_leaves_nothing() {
    simulate(async || {
        for wanted in [Step::Creating, Step::Comparing, Step::Promoting, Step::Removing] {
            let (mut user, config, _) = drilled(json!({})).await;
            ask(&user.sandbox).await;
            until(&user.sandbox, Some(wanted)).await;
            set_lost(&user.sandbox, WEST, true);
            pass(3600).await;
            set_lost(&user.sandbox, WEST, false);
            until(&user.sandbox, None).await;
            let all = drills(&user.sandbox).past;
            assert_eq!(all.len(), 2, "{wanted:?}: {all:#?}");
            assert_eq!(instances(&user.sandbox).len(), 2, "{wanted:?}");
            user.must_be_unchanged(&config).await;
            // What was measured beside an outage says nothing of a promotion.
            let took = all[1].promotion;
            assert!(took.is_none_or(|seconds| seconds <= 200), "{wanted:?}: {took:?}");
        }
    });
}

#[test]
fn a_destroy_during_a_drill_leaves_nothing() {
    simulate(async || {
        for wanted in [Step::Creating, Step::Promoting, Step::Removing] {
            let (mut user, _, _) = drilled(json!({})).await;
            ask(&user.sandbox).await;
            until(&user.sandbox, Some(wanted)).await;
            pass(20).await;
            user.must_destroy().await;
            assert_eq!(user.leftovers(), Vec::<String>::new(), "{wanted:?}");
        }
    });
}

#[test]
fn without_a_schedule_drills_are_held_when_somebody_asks() {
    simulate(async || {
        let (mut user, mut config, _) = drilled(json!({})).await;
        config["drill"] = json!({"enabled": false});
        let before = user.state.value.clone().unwrap();
        let planned = user.must_plan(&config).await;
        let gone: Vec<String> = differences(before.get("components"), planned.get("components"))
            .into_iter()
            .filter(|one| one.ends_with("→ null"))
            .map(|one| one.split(':').next().unwrap().to_owned())
            .collect();
        assert_eq!(gone, ["us-west-2/event-rule/drill", "us-west-2/lambda-permission/drill"]);
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        pass(86_400).await;
        assert_eq!(drills(&user.sandbox).past.len(), 1, "none by itself");
        ask(&user.sandbox).await;
        until(&user.sandbox, Some(Step::Creating)).await;
        until(&user.sandbox, None).await;
        assert_eq!(drills(&user.sandbox).past.len(), 2);
        config["drill"] = json!({"schedule": "rate(1 day)"});
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn a_schedule_that_aws_would_refuse_is_refused_at_plan() {
    simulate(async || {
        let mut user = User::new().await;
        let mut config = crate::support::user::configuration(&user.sandbox);
        config["drill"] = json!({"schedule": "cron(0 9 * * SAT *)"});
        let found = lines(&user.plan(&config).await.diagnostics);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(
            found[0].starts_with("drill.schedule: ") && found[0].contains("Exactly one of the day"),
            "{found:#?}"
        );
    });
}
