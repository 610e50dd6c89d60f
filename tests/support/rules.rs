//! What Terraform core enforces on every response, written anew from its behaviour (terraform-facts).

use std::collections::BTreeMap;

use trading::plugin::{Attribute, Kind, Nesting, Path, Presence, Schema, Value};

/// Whether a planned state is one that core takes for this configuration and prior state.
pub fn check_plan(schema: &Schema, config: Option<&Value>, planned: Option<&Value>) {
    match (config, planned) {
        (None, None) => {}
        (None, Some(_)) => panic!("planned for existence, but the configuration wants absence"),
        (Some(_), None) => panic!("planned for absence, but the configuration wants existence"),
        (Some(config), Some(planned)) => {
            plan_object(&schema.attributes, config, planned, &Path::root());
        }
    }
}

fn plan_object(attributes: &[Attribute], config: &Value, planned: &Value, path: &Path) {
    let names: Vec<_> = planned.entries().map(|(name, _)| name.to_owned()).collect();
    for name in &names {
        assert!(attributes.iter().any(|one| one.name == name), "{path}: unknown attribute {name}");
    }
    for attribute in attributes {
        let path = path.attribute(attribute.name);
        let (config, planned) = (config.get(attribute.name), planned.get(attribute.name));
        let computed = matches!(attribute.presence, Presence::Computed | Presence::Default(_));
        match &attribute.kind {
            _ if config.is_null() => {
                assert!(computed || planned.is_null(), "{path}: planned for an unset attribute");
            }
            Kind::Nested(Nesting::Single, inner) if !config.is_unknown() => {
                assert!(matches!(planned, Value::Mapping(_)), "{path}: an object is configured");
                plan_object(inner, config, planned, &path);
            }
            _ => assert_eq!(config, planned, "{path}: the planned value is not the configured one"),
        }
    }
}

/// Whether a second plan, made within the apply, says only more than the first.
///
/// # Errors
/// It does not, for which core ends an apply before anything is done; the text says where.
pub fn check_replanned(first: &Value, second: &Value) -> Result<(), String> {
    compatible(first, second, &Path::root())
}

/// Whether a new state keeps what was planned: what was known then is the same, all is known now.
pub fn check_applied(schema: &Schema, planned: &Value, new: &Value) {
    assert!(new.is_wholly_known(), "a new state with unknowns: {new:?}");
    assert_eq!(new, &schema.without_write_only(new.clone()), "a write-only value was stored");
    compatible(planned, new, &Path::root()).unwrap();
}

fn compatible(planned: &Value, new: &Value, path: &Path) -> Result<(), String> {
    match (planned, new) {
        (Value::Unknown, _) => {}
        (Value::Mapping(before), Value::Mapping(after)) => {
            let has = |all: &BTreeMap<String, Value>, key: &String| {
                all.get(key).is_some_and(|value| !value.is_null())
            };
            for (key, value) in before.iter().filter(|(_, value)| !value.is_null()) {
                if !has(after, key) && !value.is_unknown() {
                    return Err(format!("{path}: {key} was planned and is not there"));
                }
            }
            if let Some(key) = after.keys().find(|key| has(after, key) && !has(before, key)) {
                return Err(format!("{path}: {key} is there and was not planned"));
            }
            for (key, value) in before {
                compatible(value, after.get(key).unwrap_or(&Value::Null), &path.key(key))?;
            }
        }
        (Value::Sequence(before), Value::Sequence(after)) => {
            if before.len() != after.len() {
                return Err(format!("{path}: another number of elements than planned"));
            }
            for (index, (one, other)) in before.iter().zip(after).enumerate() {
                compatible(one, other, &path.index(index))?;
            }
        }
        (one, other) if one == other => {}
        (one, other) => return Err(format!("{path}: was planned as {one:?}, and is {other:?}")),
    }
    Ok(())
}
