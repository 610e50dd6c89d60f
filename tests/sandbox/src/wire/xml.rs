//! Trees to XML. An array under a name becomes that element repeated; null is left out.

use serde_json::Value;

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
