//! What looking costs, what is planned when little is known, and states that older versions wrote.

use aws_sandbox::{Effect, Fault, Rule};
use serde_json::Value as Json;
use trading::plugin::{Attribute, Kind, Nesting, Type, Value};

use crate::support::{
    aws::simulate,
    user::{User, configuration, errors, lines},
};

/// The calls of a refresh. A change here is a change of what every plan costs.
const REFRESH: &str = include_str!("../golden/refresh-calls.txt");

#[test]
fn a_refresh_makes_these_calls_in_four_rounds_and_changes_nothing() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        user.restart().await;
        // The tagging API is up to date again.
        user.sandbox.with(|_| ());
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        user.sandbox.forget_calls();
        // Every answer takes a second, so the seconds count the rounds.
        user.sandbox.add_fault(Fault::new(Rule::default(), Effect::Delay { milliseconds: 1000 }));
        let begun = tokio::time::Instant::now();
        user.must_be_unchanged(&config).await;
        let calls = user.sandbox.calls();
        assert!(begun.elapsed().as_secs() <= 4, "{:?}", begun.elapsed());
        let mut names: Vec<_> = calls
            .iter()
            .map(|one| format!("{}:{} {}", one.service, one.operation, one.region))
            .collect();
        names.sort();
        assert_eq!(names.join("\n"), REFRESH.trim_end());
        assert!(names.len() <= 100);
    });
}

/// Every argument by its path, with its type; nested ones as well.
pub fn arguments(attributes: &[Attribute], prefix: &str, found: &mut Vec<(String, Type)>) {
    for one in attributes {
        if one.presence == trading::plugin::Presence::Computed {
            continue;
        }
        let path =
            if prefix.is_empty() { one.name.to_owned() } else { format!("{prefix}.{}", one.name) };
        found.push((path.clone(), one.value_type()));
        if let Kind::Nested(Nesting::Single, inner) = &one.kind {
            arguments(inner, &path, found);
        }
    }
}

/// The value with another one at a dotted path.
pub fn with(value: Value, path: &str, new: Value) -> Value {
    match path.split_once('.') {
        None => value.with(path, new),
        Some((first, rest)) => {
            let inner = match value.get(first) {
                Value::Null => Value::Mapping(std::collections::BTreeMap::new()),
                inner => inner.clone(),
            };
            value.with(first, with(inner, rest, new))
        }
    }
}

#[test]
fn any_argument_may_be_unknown_at_plan() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let mut paths = Vec::new();
        arguments(&user.resource.schema().attributes, "", &mut paths);
        assert!(paths.len() > 40, "{paths:?}");
        for with_prior in [false, true] {
            if with_prior {
                user.must_apply(&config).await;
            }
            for (path, _) in &paths {
                let value = with(user.value(&config), path, Value::Unknown);
                let planned = user.plan_value(value).await;
                assert!(
                    !planned.diagnostics.has_errors(),
                    "{path}: {:#?}",
                    errors(&planned.diagnostics)
                );
                let state = planned.state.unwrap();
                if state.get("components").is_unknown() {
                    let warnings = lines(&planned.diagnostics);
                    assert!(
                        warnings
                            .iter()
                            .any(|one| one.contains("The plan cannot show the components yet")),
                        "{path}"
                    );
                } else if !path.starts_with("timeouts") && !path.starts_with("deletion.final") {
                    let unknown =
                        state.get("components").entries().filter(|(_, line)| line.is_unknown());
                    // What decides nothing about a component leaves all of them known.
                    let idle = ["database.apply_immediately", "deletion"].contains(&path.as_str());
                    assert!(idle || unknown.count() > 0, "{path}: {:?}", state.get("components"));
                }
            }
        }
    });
}

#[test]
fn a_state_of_version_0_is_read_for_ever() {
    simulate(async || {
        let user = User::new().await;
        let fixture: Json =
            serde_json::from_str(include_str!("../fixtures/state-v0.json")).unwrap();
        assert_eq!(fixture["schema_version"], 0);
        let of = user.resource.schema().object_type();
        let state = trading::plugin::from_json(&fixture["attributes"], &of).unwrap();
        assert_eq!(state.get("components").entries().count(), 33);
        assert_eq!(state.get("environment_suffix").as_str(), Some("prod"));
    });
}
