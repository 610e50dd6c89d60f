//! Forms of flat names (`Tags.Tag.1.Key=…`) to trees.

use serde_json::{Map, Value};

/// The names that the query protocol puts between a list and its numbers.
const LIST_NAMES: &[&str] = &[
    "member",
    "Tag",
    "SubnetIdentifier",
    "Parameter",
    "VpcSecurityGroupId",
    "Filter",
    "Value",
    "SourceId",
    "EventCategory",
];

/// Parses an `application/x-www-form-urlencoded` body. `None` for what is no form.
pub(crate) fn parse(body: &str) -> Option<Value> {
    let mut root = Value::Object(Map::new());
    for pair in body.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (unescape(name)?, unescape(value)?);
        let mut slot = &mut root;
        for step in name.split('.') {
            if slot.is_null() {
                *slot = Value::Object(Map::new());
            }
            slot = slot.as_object_mut()?.entry(step.to_owned()).or_insert(Value::Null);
        }
        *slot = Value::String(value);
    }
    Some(fold(root))
}

/// Turns objects whose keys are 1, 2, 3… into arrays, and takes away the list names above them.
fn fold(value: Value) -> Value {
    let Value::Object(entries) = value else { return value };
    let numbered = !entries.is_empty() && entries.keys().all(|key| key.parse::<usize>().is_ok());
    if numbered {
        let mut items: Vec<_> = entries
            .into_iter()
            .map(|(key, item)| (key.parse::<usize>().unwrap_or(0), fold(item)))
            .collect();
        items.sort_by_key(|(number, _)| *number);
        return Value::Array(items.into_iter().map(|(_, item)| item).collect());
    }
    let folded: Map<_, _> = entries.into_iter().map(|(key, item)| (key, fold(item))).collect();
    let only = folded.len() == 1;
    match folded.iter().next() {
        Some((key, items @ Value::Array(_))) if only && LIST_NAMES.contains(&key.as_str()) => {
            items.clone()
        }
        _ => Value::Object(folded),
    }
}

/// Undoes percent-encoding.
pub(crate) fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::parse;
    use serde_json::json;

    #[test]
    fn lists_of_every_dialect_become_arrays() {
        let parsed = parse(
            "Tags.Tag.2.Key=b&Tags.Tag.1.Key=a&SubnetIds.SubnetIdentifier.1=s%2D1&Filter.1.Name=x&Filter.1.Value.1=y+z",
        );
        assert_eq!(
            parsed.unwrap(),
            json!({
                "Tags": [{"Key": "a"}, {"Key": "b"}],
                "SubnetIds": ["s-1"],
                "Filter": [{"Name": "x", "Value": ["y z"]}],
            })
        );
    }

    #[test]
    fn a_structure_that_holds_one_list_stays_a_structure() {
        let parsed = parse("Logs.EnableLogTypes.member.1=postgresql").unwrap();
        assert_eq!(parsed, json!({"Logs": {"EnableLogTypes": ["postgresql"]}}));
    }
}
