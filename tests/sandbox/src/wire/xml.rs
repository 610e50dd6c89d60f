//! Trees to XML and back. An array under a name becomes that element repeated; null is left out.

use serde_json::{Map, Value};

use super::cbor::is_moment;
use crate::clock::Time;

/// The elements of `tree`, without a root.
pub(crate) fn render(tree: &Value) -> String {
    let mut out = String::new();
    write(&mut out, tree);
    out
}

fn write(out: &mut String, tree: &Value) {
    match tree {
        Value::Null => {}
        Value::Object(entries) => {
            for (name, value) in entries {
                match value {
                    Value::Null => {}
                    Value::Array(items) => items.iter().for_each(|item| element(out, name, item)),
                    value => element(out, name, value),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| write(out, item)),
        Value::String(text) => out.push_str(&escape(text)),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
    }
}

fn element(out: &mut String, name: &str, value: &Value) {
    out.push('<');
    out.push_str(name);
    out.push('>');
    write(out, value);
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

/// Replaces what XML reserves.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

/// A tree whose lists get CloudWatch's one name for their elements, and whose moments are written out.
pub(crate) fn listed(tree: &Value) -> Value {
    match tree {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(listed).collect();
            serde_json::json!({"member": items})
        }
        Value::Object(members) => {
            let pair = |(name, value): (&String, &Value)| {
                let value = if is_moment(name) { written(value) } else { value.clone() };
                (name.clone(), listed(&value))
            };
            Value::Object(members.iter().map(pair).collect())
        }
        other => other.clone(),
    }
}

/// Moments in ISO 8601.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn written(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(written).collect()),
        Value::Number(seconds) => {
            let seconds = seconds.as_f64().unwrap_or_default();
            Time((seconds * 1000.0) as u64).to_string().into()
        }
        other => other.clone(),
    }
}

/// What holds a list in Route 53's requests: its children are the list.
const LISTS: &[&str] =
    &["Changes", "ResourceRecords", "AddTags", "RemoveTagKeys", "ResourceIds", "ResetElements"];

/// A document to the tree of its root's children. `None` for what is no XML.
pub(crate) fn parse(body: &str) -> Option<Value> {
    let document = roxmltree::Document::parse(body).ok()?;
    Some(tree(document.root_element()))
}

fn tree(element: roxmltree::Node<'_, '_>) -> Value {
    let children = || element.children().filter(roxmltree::Node::is_element);
    if LISTS.contains(&element.tag_name().name()) {
        return Value::Array(children().map(tree).collect());
    }
    if children().next().is_none() {
        return element.text().unwrap_or_default().into();
    }
    let pair = |child: roxmltree::Node<'_, '_>| (child.tag_name().name().to_owned(), tree(child));
    Value::Object(children().map(pair).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn requests_become_trees() {
        let body =
            "<R xmlns='x'><Changes><Change><Action>CREATE</Action></Change></Changes><N/></R>";
        assert_eq!(super::parse(body), Some(json!({"Changes": [{"Action": "CREATE"}], "N": ""})));
    }
}
