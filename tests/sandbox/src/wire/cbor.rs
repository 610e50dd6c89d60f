//! CBOR to and from trees: the Smithy RPC protocol that the Rust SDK speaks to CloudWatch.

use ciborium::Value as Cbor;
use serde_json::{Map, Number, Value};

/// Members that are moments. In trees they are seconds since 1970, in CBOR tag 1, in XML ISO 8601.
pub(crate) fn is_moment(name: &str) -> bool {
    name.ends_with("Timestamp") || name.ends_with("Timestamps") || name == "LastModified"
}

/// A body to a tree; an empty one is an empty structure. `None` for what is no CBOR.
pub fn parse(body: &[u8]) -> Option<Value> {
    if body.is_empty() {
        return Some(Value::Object(Map::new()));
    }
    tree(ciborium::from_reader(body).ok()?)
}

fn tree(value: Cbor) -> Option<Value> {
    Some(match value {
        Cbor::Null => Value::Null,
        Cbor::Bool(flag) => flag.into(),
        Cbor::Integer(number) => i64::try_from(number).ok()?.into(),
        Cbor::Float(number) => Number::from_f64(number)?.into(),
        Cbor::Text(text) => text.into(),
        Cbor::Tag(1, inner) => tree(*inner)?,
        Cbor::Array(items) => Value::Array(items.into_iter().map(tree).collect::<Option<_>>()?),
        Cbor::Map(members) => {
            let pair = |(name, value): (Cbor, Cbor)| Some((name.into_text().ok()?, tree(value)?));
            Value::Object(members.into_iter().map(pair).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

/// A tree as a body.
pub fn render(value: &Value) -> Vec<u8> {
    let mut body = Vec::new();
    // Writing into memory cannot fail.
    let _ = ciborium::into_writer(&cbor(value, false), &mut body);
    body
}

fn cbor(value: &Value, is_time: bool) -> Cbor {
    match value {
        Value::Null => Cbor::Null,
        Value::Bool(flag) => Cbor::Bool(*flag),
        Value::Number(number) if is_time => {
            Cbor::Tag(1, Box::new(Cbor::Float(number.as_f64().unwrap_or_default())))
        }
        Value::Number(number) => match number.as_i64() {
            Some(number) => Cbor::Integer(number.into()),
            None => Cbor::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Cbor::Text(text.clone()),
        Value::Array(items) => Cbor::Array(items.iter().map(|one| cbor(one, is_time)).collect()),
        Value::Object(members) => {
            let members = members.iter().filter(|(_, value)| !value.is_null());
            let pair = |(name, value): (&String, &Value)| {
                (name.as_str().into(), cbor(value, is_moment(name)))
            };
            Cbor::Map(members.map(pair).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{parse, render};

    #[test]
    fn trees_survive_the_way_there_and_back() {
        let tree = json!({"A": [1, 2.5, "x"], "StateUpdatedTimestamp": 7.25, "B": {"C": true}});
        assert_eq!(parse(&render(&tree)), Some(tree));
        assert_eq!(parse(b""), Some(json!({})));
        assert_eq!(parse(b"\xff"), None);
    }

    #[test]
    fn moments_carry_their_tag() {
        // A map of one and its name, then tag 1 and a floating-point number of any size.
        let body = render(&json!({"Timestamp": 1.0}));
        assert!(body[11] == 0xc1 && body[12] >> 5 == 7, "{body:x?}");
    }
}
