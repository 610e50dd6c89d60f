//! Values on the wire (MessagePack) and in stored states (JSON), decoded against a type.
//!
//! A decode error names the path of the value and what was expected there, because a mistake here is
//! otherwise unfindable for whoever meets it.

use std::collections::BTreeMap;

use rmpv::Value as Packed;

use super::{Path, Type, Value, number::Number};

/// How deep values may nest: several times what any schema declares.
const MAX_DEPTH: usize = 64;

/// A value that does not have the shape that the schema declares.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are no MessagePack or JSON at all.
    #[error("not decodable as {format}: {reason}")]
    Malformed {
        /// The encoding that was tried.
        format: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// The value at a path is of another type.
    #[error("{}: expected {expected}, got {got}", display_path(path))]
    Mismatch {
        /// Where.
        path: Path,
        /// What the schema declares.
        expected: String,
        /// What is there.
        got: String,
    },
}

fn display_path(path: &Path) -> String {
    if path.steps().is_empty() { "the value".into() } else { path.to_string() }
}

fn mismatch(path: &Path, expected: impl Into<String>, got: impl Into<String>) -> DecodeError {
    DecodeError::Mismatch { path: path.clone(), expected: expected.into(), got: got.into() }
}

/// Decodes one MessagePack value of type `of`.
///
/// Any extension is taken as unknown: type 0 is Terraform's plain unknown, type 12 one with refinements,
/// which are hints that a provider may ignore.
///
/// # Errors
/// Bytes that are no single MessagePack value; a value of another shape than `of`.
pub fn from_msgpack(bytes: &[u8], of: &Type) -> Result<Value, DecodeError> {
    let malformed = |reason: String| DecodeError::Malformed { format: "MessagePack", reason };
    let mut rest = bytes;
    let packed = rmpv::decode::read_value_with_max_depth(&mut rest, MAX_DEPTH)
        .map_err(|error| malformed(error.to_string()))?;
    if !rest.is_empty() {
        return Err(malformed(format!("{} bytes are left over", rest.len())));
    }
    unpack(packed, of, &Path::root())
}

fn unpack(packed: Packed, of: &Type, path: &Path) -> Result<Value, DecodeError> {
    let got = describe_packed(&packed);
    let expected = || mismatch(path, of.describe(), got);
    Ok(match (packed, of) {
        (Packed::Nil, _) => Value::Null,
        (Packed::Ext(..), _) => Value::Unknown,
        (Packed::Boolean(flag), Type::Bool) => Value::Bool(flag),
        (number, Type::Number) => Value::Number(unpack_number(&number).ok_or_else(expected)?),
        (Packed::String(text), Type::String) => {
            Value::String(text.into_str().ok_or_else(|| mismatch(path, "UTF-8 text", "bytes"))?)
        }
        (Packed::Array(items), Type::List(element)) => {
            Value::Sequence(unpack_items(items, element, path)?)
        }
        (Packed::Array(items), Type::Set(element)) => {
            let mut items = unpack_items(items, element, path)?;
            items.sort();
            Value::Sequence(items)
        }
        (Packed::Map(entries), Type::Map(element)) => {
            let mut all = BTreeMap::new();
            for (key, item) in entries {
                let key = key.as_str().ok_or_else(expected)?.to_owned();
                let item = unpack(item, element, &path.key(&key))?;
                all.insert(key, item);
            }
            Value::Mapping(all)
        }
        (Packed::Map(entries), Type::Object(attributes)) => {
            let mut all = BTreeMap::new();
            for (key, item) in entries {
                let name = key.as_str().ok_or_else(expected)?.to_owned();
                let Some((_, kind)) = attributes.iter().find(|(known, _)| *known == name) else {
                    return Err(mismatch(&path.attribute(&name), "no such attribute", "a value"));
                };
                let item = unpack(item, kind, &path.attribute(&name))?;
                all.insert(name, item);
            }
            for (name, _) in attributes {
                if !all.contains_key(name) {
                    return Err(mismatch(&path.attribute(name), "a value or null", "nothing"));
                }
            }
            Value::Mapping(all)
        }
        _ => return Err(expected()),
    })
}

fn unpack_items(items: Vec<Packed>, of: &Type, path: &Path) -> Result<Vec<Value>, DecodeError> {
    let items = items.into_iter().enumerate();
    items.map(|(index, item)| unpack(item, of, &path.index(index))).collect()
}

fn unpack_number(packed: &Packed) -> Option<Number> {
    match packed {
        Packed::Integer(integer) => Number::parse(&integer.to_string()).ok(),
        Packed::F32(float) => Number::from_f64((*float).into()).ok(),
        Packed::F64(float) => Number::from_f64(*float).ok(),
        Packed::String(digits) => Number::parse(digits.as_str()?).ok(),
        _ => None,
    }
}

fn describe_packed(packed: &Packed) -> &'static str {
    match packed {
        Packed::Nil => "null",
        Packed::Boolean(_) => "a bool",
        Packed::Integer(_) | Packed::F32(_) | Packed::F64(_) => "a number",
        Packed::String(_) => "a string",
        Packed::Binary(_) => "bytes",
        Packed::Array(_) => "a sequence",
        Packed::Map(_) => "a mapping",
        Packed::Ext(..) => "an extension value",
    }
}

/// Encodes a value of type `of`. A missing object attribute is written as null, as the wire demands
/// every attribute to be present.
pub fn to_msgpack(value: &Value, of: &Type) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to a Vec does not fail.
    let _ = rmpv::encode::write_value(&mut bytes, &pack(value, of));
    bytes
}

fn pack(value: &Value, of: &Type) -> Packed {
    match (value, of) {
        (Value::Null, _) => Packed::Nil,
        (Value::Unknown, _) => Packed::Ext(0, vec![0]),
        (Value::Bool(flag), _) => Packed::Boolean(*flag),
        (Value::Number(number), _) => pack_number(number),
        (Value::String(text), _) => Packed::String(text.as_str().into()),
        (Value::Sequence(items), Type::List(element) | Type::Set(element)) => {
            Packed::Array(items.iter().map(|item| pack(item, element)).collect())
        }
        (Value::Mapping(items), Type::Map(element)) => Packed::Map(
            items.iter().map(|(key, item)| (key.as_str().into(), pack(item, element))).collect(),
        ),
        (object @ Value::Mapping(_), Type::Object(attributes)) => Packed::Map(
            attributes
                .iter()
                .map(|(name, kind)| (name.as_str().into(), pack(object.get(name), kind)))
                .collect(),
        ),
        (Value::Sequence(_) | Value::Mapping(_), _) => {
            unreachable!("a {value:?} cannot be of type {}", of.describe())
        }
    }
}

fn pack_number(number: &Number) -> Packed {
    if let Some(integer) = number.as_i128() {
        if let Ok(small) = i64::try_from(integer) {
            return Packed::from(small);
        }
        if let Ok(large) = u64::try_from(integer) {
            return Packed::from(large);
        }
    } else if let Some(float) = number.as_exact_f64() {
        return Packed::F64(float);
    }
    Packed::String(number.to_string().into())
}

/// Decodes a stored state. Attributes that the schema no longer has are dropped, and those that it has
/// since gained are null: Terraform hands over the state as it was saved.
///
/// # Errors
/// A value of another type than the schema declares.
pub fn from_json(json: &serde_json::Value, of: &Type) -> Result<Value, DecodeError> {
    unjson(json, of, &Path::root())
}

fn unjson(json: &serde_json::Value, of: &Type, path: &Path) -> Result<Value, DecodeError> {
    use serde_json::Value as Json;
    Ok(match (json, of) {
        (Json::Null, _) => Value::Null,
        (Json::Bool(flag), Type::Bool) => Value::Bool(*flag),
        (Json::Number(number), Type::Number) => Value::Number(
            Number::parse(&number.to_string())
                .map_err(|_| mismatch(path, "number", number.to_string()))?,
        ),
        (Json::String(text), Type::String) => Value::String(text.clone()),
        (Json::Array(items), Type::List(element) | Type::Set(element)) => {
            let items = items.iter().enumerate();
            let mut items = items
                .map(|(index, item)| unjson(item, element, &path.index(index)))
                .collect::<Result<Vec<_>, _>>()?;
            if matches!(of, Type::Set(_)) {
                items.sort();
            }
            Value::Sequence(items)
        }
        (Json::Object(entries), Type::Map(element)) => {
            let entries = entries.iter();
            let all = entries
                .map(|(key, item)| Ok((key.clone(), unjson(item, element, &path.key(key))?)))
                .collect::<Result<_, DecodeError>>()?;
            Value::Mapping(all)
        }
        (Json::Object(entries), Type::Object(attributes)) => {
            let attributes = attributes.iter();
            let all = attributes
                .map(|(name, kind)| {
                    let item = entries.get(name).unwrap_or(&Json::Null);
                    Ok((name.clone(), unjson(item, kind, &path.attribute(name))?))
                })
                .collect::<Result<_, DecodeError>>()?;
            Value::Mapping(all)
        }
        (other, _) => {
            let got = match other {
                Json::Bool(_) => "a bool",
                Json::Number(_) => "a number",
                Json::String(_) => "a string",
                Json::Array(_) => "an array",
                Json::Object(_) | Json::Null => "an object",
            };
            return Err(mismatch(path, of.describe(), got));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn object() -> Type {
        Type::Object(vec![
            ("name".into(), Type::String),
            ("size".into(), Type::Number),
            ("on".into(), Type::Bool),
            ("zones".into(), Type::strings()),
            ("tags".into(), Type::string_map()),
            (
                "inner".into(),
                Type::Set(Box::new(Type::Object(vec![("port".into(), Type::Number)]))),
            ),
        ])
    }

    fn any_value(of: &Type) -> BoxedStrategy<Value> {
        let known = match of {
            Type::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
            Type::Number => prop_oneof![
                any::<i64>().prop_map(Value::integer),
                (any::<i32>(), 0..9u8).prop_map(|(digits, scale)| Value::Number(
                    Number::parse(&format!("{digits}e-{scale}")).unwrap()
                )),
                any::<u64>()
                    .prop_map(|big| Value::Number(Number::parse(&format!("{big}77")).unwrap())),
            ]
            .boxed(),
            Type::String => ".{0,8}".prop_map(Value::String).boxed(),
            Type::List(element) => {
                prop::collection::vec(any_value(element), 0..4).prop_map(Value::Sequence).boxed()
            }
            Type::Set(element) => prop::collection::vec(any_value(element), 0..4)
                .prop_map(|mut items| {
                    items.sort();
                    Value::Sequence(items)
                })
                .boxed(),
            Type::Map(element) => prop::collection::btree_map(".{0,4}", any_value(element), 0..4)
                .prop_map(Value::Mapping)
                .boxed(),
            Type::Object(attributes) => attributes
                .iter()
                .map(|(name, kind)| (Just(name.clone()), any_value(kind)))
                .collect::<Vec<_>>()
                .prop_map(|items| Value::Mapping(items.into_iter().collect()))
                .boxed(),
        };
        prop_oneof![8 => known, 1 => Just(Value::Null), 1 => Just(Value::Unknown)].boxed()
    }

    proptest! {
        #[test]
        fn every_value_survives_the_wire(value in any_value(&object())) {
            let bytes = to_msgpack(&value, &object());
            prop_assert_eq!(from_msgpack(&bytes, &object()).unwrap(), value);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_msgpack(&bytes, &object());
        }
    }

    #[test]
    fn a_refined_unknown_is_an_unknown() {
        let bytes = [0xc7, 3, 12, 0x81, 0x01, 0xc3];
        assert_eq!(from_msgpack(&bytes, &Type::String), Ok(Value::Unknown));
    }

    #[test]
    fn numbers_arrive_in_three_forms() {
        let mut digits = vec![0xa3];
        digits.extend(b"0.1");
        let exact = Value::Number(Number::parse("0.1").unwrap());
        assert_eq!(from_msgpack(&digits, &Type::Number), Ok(exact));
        assert_eq!(from_msgpack(&[7], &Type::Number), Ok(Value::integer(7)));
        let mut float = vec![0xcb];
        float.extend(7f64.to_be_bytes());
        assert_eq!(from_msgpack(&float, &Type::Number), Ok(Value::integer(7)));
    }

    #[test]
    fn an_error_names_the_path_and_what_was_expected() {
        let of = Type::Object(vec![("zones".into(), Type::strings())]);
        let wrong = Packed::Map(vec![(
            "zones".into(),
            Packed::Array(vec!["a".into(), Packed::Boolean(true)]),
        )]);
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &wrong).unwrap();
        let error = from_msgpack(&bytes, &of).unwrap_err();
        assert_eq!(error.to_string(), "zones[1]: expected string, got a bool");
    }

    #[test]
    fn a_saved_state_may_lack_new_attributes_and_hold_dropped_ones() {
        let of = Type::Object(vec![("old".into(), Type::Number), ("new".into(), Type::String)]);
        let json = serde_json::json!({"old": 3, "gone": true});
        let state = from_json(&json, &of).unwrap();
        assert_eq!(state.get("old"), &Value::integer(3));
        assert!(state.get("new").is_null());
        assert_eq!(state.get("gone"), &Value::Null);
    }
}
