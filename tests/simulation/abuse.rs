//! Whatever somebody writes, in whatever place: no panic, no hang, no wrong success, and errors that name the argument.

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use serde_json::{Value as Json, json};
use trading::plugin::{Severity, Type, Value, from_json};

use super::{
    crash::{changes_something, is_whole},
    looking::{arguments, with},
};
use crate::support::{
    aws::simulate,
    user::{State, User, configuration, differences, errors, set},
};

/// What people, and scripts, put where text is wanted.
fn texts() -> Vec<String> {
    let mut all: Vec<String> = [
        "",
        " ",
        "-",
        "0",
        "null",
        "prod ",
        "PROD",
        "a\nb",
        "a\0b",
        "../..",
        "${var.x}",
        "%s%n",
        "'; DROP TABLE x; --",
        "ünïcødé",
        "🦀",
        "\u{202e}abc",
        "1e309",
        "vpc-",
        "arn:aws:iam::1:x",
        "10.0.0.0/33",
        "::/0",
        "cron()",
        "rate(0 days)",
        "sun:25:00-sun:26:00",
    ]
    .map(str::to_owned)
    .to_vec();
    all.push("x".repeat(10_000));
    all
}

fn numbers() -> Vec<Json> {
    let huge: Json = serde_json::from_str("100000000000000000000000000000").unwrap();
    vec![json!(0), json!(-1), json!(0.5), json!(i64::MAX), json!(1e300), json!(-1e300), huge]
}

/// Bad values of a type; what Terraform itself refuses is not among them.
fn bad(of: &Type) -> Vec<Json> {
    match of {
        Type::Bool => vec![json!(true), json!(false)],
        Type::Number => numbers(),
        Type::String => texts().into_iter().map(Json::String).collect(),
        Type::List(element) | Type::Set(element) => {
            let mut all = vec![json!([]), json!([null])];
            all.extend(bad(element).into_iter().map(|one| json!([one])));
            all
        }
        Type::Map(element) => {
            let mut all = vec![json!({})];
            all.extend(bad(element).into_iter().map(|one| json!({"key": one})));
            all.extend(texts().into_iter().map(|one| json!({one: "value"})));
            all
        }
        Type::Object(_) => vec![json!({})],
    }
}

/// Anything of a type.
pub fn anything(of: &Type) -> BoxedStrategy<Json> {
    match of {
        Type::Bool => any::<bool>().prop_map(Json::from).boxed(),
        Type::Number => prop_oneof![
            any::<i64>().prop_map(Json::from),
            any::<f64>()
                .prop_filter("no number of JSON", |one| one.is_finite())
                .prop_map(Json::from),
        ]
        .boxed(),
        Type::String => prop_oneof![".*", "[a-z0-9:./-]{0,40}"].prop_map(Json::String).boxed(),
        Type::List(element) | Type::Set(element) => {
            prop::collection::vec(anything(element), 0..4).prop_map(Json::from).boxed()
        }
        Type::Map(element) => prop::collection::btree_map(".{0,20}", anything(element), 0..4)
            .prop_map(|all| Json::Object(all.into_iter().collect()))
            .boxed(),
        Type::Object(attributes) => {
            let each: Vec<_> = attributes
                .iter()
                .map(|(name, of)| {
                    let name = name.clone();
                    prop::option::of(anything(of)).prop_map(move |one| (name.clone(), one))
                })
                .collect();
            each.prop_map(|all| {
                Json::Object(all.into_iter().filter_map(|(name, one)| Some((name, one?))).collect())
            })
            .boxed()
        }
    }
}

/// Plans with a value in a place: a success is one by Terraform's rules, and an error names an argument.
async fn plan_with(user: &mut User, base: &Value, path: &str, bad: Value) -> bool {
    let told = format!("{path} = {bad:?}");
    let planned = user.plan_value(with(base.clone(), path, bad)).await;
    let found = planned.diagnostics.iter().filter(|one| one.severity == Severity::Error);
    for one in found {
        assert!(one.path.is_some(), "{told}: {} — {}", one.summary, one.detail);
        assert!(!one.summary.is_empty() && one.detail.len() > 10, "{told}: {}", one.summary);
    }
    let found = errors(&planned.diagnostics);
    assert!(found.len() < 20, "{told}: {found:#?}");
    found.is_empty()
}

#[test]
fn what_is_written_wrong_is_said_of_the_argument_and_nothing_breaks() {
    simulate(async || {
        let mut user = User::new().await;
        let base = user.value(&configuration(&user.sandbox));
        let mut paths = Vec::new();
        arguments(&user.resource.schema().attributes, "", &mut paths);
        let (mut refused, mut taken) = (0, 0);
        for (path, of) in &paths {
            for one in bad(of) {
                let value = from_json(&one, of).unwrap();
                let is_fine = plan_with(&mut user, &base, path, value).await;
                assert!(
                    !is_fine || one != json!([null]),
                    "{path} = {one}: what is null is left out in silence"
                );
                *(if is_fine { &mut taken } else { &mut refused }) += 1;
            }
            plan_with(&mut user, &base, path, Value::Null).await;
            let unknown = match of {
                Type::List(_) | Type::Set(_) => Value::Sequence(vec![Value::Unknown]),
                Type::Map(_) => Value::Mapping([("key".to_owned(), Value::Unknown)].into()),
                _ => Value::Unknown,
            };
            let is_fine = plan_with(&mut user, &base, path, unknown).await;
            assert!(is_fine, "{path}: what is not known yet is refused");
        }
        assert!(refused > 300 && taken > 50, "{refused} refused, {taken} taken");
    });
}

#[test]
fn whatever_is_written_is_planned_or_refused() {
    let mut runner = TestRunner::deterministic();
    simulate(async || {
        let mut user = User::new().await;
        let base = user.value(&configuration(&user.sandbox));
        let mut paths = Vec::new();
        arguments(&user.resource.schema().attributes, "", &mut paths);
        for (path, of) in &paths {
            for _ in 0..6 {
                let one = anything(of).new_tree(&mut runner).unwrap().current();
                // What JSON cannot carry exactly, Terraform does not send either.
                let Ok(value) = from_json(&one, of) else { continue };
                plan_with(&mut user, &base, path, value).await;
            }
        }
    });
}

/// How many values of an argument are applied, unless all are that a plan takes.
const APPLIED: usize = 1;

/// As a change of a cluster, or as another one in its place.
#[test]
fn what_a_plan_takes_an_apply_does_and_the_next_plan_has_nothing_to_add() {
    let (mut runner, mut draw) = (TestRunner::deterministic(), fastrand::Rng::with_seed(15));
    simulate(async || {
        let (made, base) = User::with_cluster().await;
        let mut paths = Vec::new();
        arguments(&made.resource.schema().attributes, "", &mut paths);
        let (mut applied, mut wrong) = (0, Vec::new());
        for (path, of) in &paths {
            let some = (0..4).map(|_| anything(of).new_tree(&mut runner).unwrap().current());
            let mut all: Vec<_> = bad(of).into_iter().chain(some).collect();
            draw.shuffle(&mut all);
            let mut left = if is_whole() { all.len() } else { APPLIED };
            for one in all {
                if left == 0 {
                    break;
                }
                let mut config = base.clone();
                set(&mut config, path, one.clone());
                if from_json(&config, &made.resource.schema().object_type()).is_err() {
                    continue;
                }
                let sandbox = aws_sandbox::Sandbox::with_world(made.sandbox.world(), 1.0);
                let mut user = User::of(sandbox).await;
                user.state = made.state.clone();
                let planned = user.plan(&config).await;
                let known = user.state.value.as_ref().unwrap();
                let changes = planned.state.map(|state| !differences(known, &state).is_empty());
                if planned.diagnostics.has_errors() || changes != Some(true) {
                    continue;
                }
                user.sandbox.forget_calls();
                let found = errors(&user.apply(&config).await);
                if found.is_empty() {
                    left -= 1;
                    applied += 1;
                    user.must_be_unchanged(&config).await;
                } else if user.sandbox.calls().iter().any(changes_something) {
                    wrong.push(format!("{path} = {one}: {found:#?}"));
                }
                // Otherwise the plan of another cluster in its place has refused it.
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(applied > 20, "{applied} were applied");
    });
}

#[test]
fn whatever_terraform_keeps_beside_a_state_nothing_breaks() {
    let mut runner = TestRunner::deterministic();
    simulate(async || {
        let (made, mut config) = User::with_cluster().await;
        let kept = made.state.private.clone();
        config["tags"] = json!({"team": "risk"});
        let drawn = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            ".{0,64}".prop_map(String::into_bytes),
            // What was kept, with something of it lost or another.
            (0..kept.len(), any::<u8>(), any::<bool>()).prop_map(move |(at, byte, cut)| {
                let mut all = kept.clone();
                all[at] = byte;
                all.truncate(if cut { at } else { all.len() });
                all
            }),
        ];
        let mut refused = 0;
        for _ in 0..25 {
            let private = drawn.new_tree(&mut runner).unwrap().current();
            let sandbox = aws_sandbox::Sandbox::with_world(made.sandbox.world(), 1.0);
            let mut user = User::of(sandbox).await;
            user.state = made.state.clone();
            user.state.private.clone_from(&private);
            let found = errors(&user.apply(&config).await);
            if !found.is_empty() {
                // It may have become another cluster's id, or another account: then this one is not the one that the
                // state means.
                let is_other = |text: &str| found[0].contains(text);
                let told =
                    is_other("There is a cluster prod already") || is_other("of another account");
                assert!(told, "{found:#?}");
                refused += 1;
                continue;
            }
            user.must_be_unchanged(&config).await;
            user.state.private = private;
            user.must_destroy().await;
            assert_eq!(user.leftovers(), Vec::<String>::new());
        }
        assert!(refused < 10, "{refused} of 25 were refused");
    });
}

/// Where a state says which cluster it is, and where that is: with another one there, it may be of none.
fn says_which(path: &str) -> bool {
    ["environment_suffix", "primary.region", "dr.region"].contains(&path)
}

/// States are files, which people edit. One that is wrong in a place is refused, or as good as it was.
#[test]
fn whatever_a_state_holds_nothing_breaks_and_nothing_is_lost() {
    let mut runner = TestRunner::deterministic();
    simulate(async || {
        let (made, mut config) = User::with_cluster().await;
        config["tags"] = json!({"team": "risk"});
        let whole = made.state.value.clone().unwrap();
        let schema = made.resource.schema();
        let mut paths = Vec::new();
        arguments(&schema.attributes, "", &mut paths);
        let Type::Object(all) = schema.object_type() else { unreachable!("states are objects") };
        let computed =
            all.into_iter().filter(|(name, _)| !paths.iter().any(|(path, _)| path == name));
        let computed: Vec<_> = computed.collect();
        paths.extend(computed);
        let (mut refused, mut taken) = (0, 0);
        for (path, of) in &paths {
            for index in 0..2 {
                let drawn = anything(of).new_tree(&mut runner).unwrap().current();
                let bad = if index == 0 { Json::Null } else { drawn };
                let Ok(value) = from_json(&bad, of) else { continue };
                let told = format!("{path} = {value:?}");
                let sandbox = aws_sandbox::Sandbox::with_world(made.sandbox.world(), 1.0);
                let mut user = User::of(sandbox).await;
                user.state =
                    State { value: Some(with(whole.clone(), path, value)), ..made.state.clone() };
                let before = user.state.clone();
                let found = errors(&user.refresh().await);
                let is_kept = user.state.value.is_some() || says_which(path);
                assert!(is_kept, "{told}: all is forgotten");
                if found.is_empty() {
                    taken += 1;
                } else {
                    refused += 1;
                }
                // And without a look first.
                if index == 0 {
                    continue;
                }
                user.state = before;
                let planned = user.plan_unseen(&config).await;
                if planned.diagnostics.has_errors() || !planned.requires_replace.is_empty() {
                    continue;
                }
                let found = errors(&user.apply_planned(&config, planned).await);
                assert!(
                    user.state.value.is_some(),
                    "{told}: an apply has lost the state: {found:#?}"
                );
                let mut honest = User::of(user.sandbox.clone()).await;
                honest.state = made.state.clone();
                honest.must_apply(&config).await;
                honest.must_be_unchanged(&config).await;
            }
        }
        assert!(refused > 5 && taken > 40, "{refused} refused, {taken} taken");
    });
}

#[test]
fn whatever_is_imported_nothing_breaks() {
    let mut runner = TestRunner::deterministic();
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        let drawn = prop_oneof![".{0,60}", "[a-z0-9-]{0,30}(/[a-z0-9-]{0,12}){0,3}"];
        let ids = (0..40).map(|_| drawn.new_tree(&mut runner).unwrap().current());
        for id in texts().into_iter().chain(ids) {
            let mut other = User::of(user.sandbox.clone()).await;
            let found = errors(&other.import(&id).await);
            assert!(!found.is_empty() && other.state.value.is_none(), "{id:?} is imported");
            assert!(found.iter().all(|one| one.len() > 40), "{id:?}: {found:#?}");
        }
    });
}
