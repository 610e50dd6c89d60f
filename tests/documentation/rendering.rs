//! A schema as the Registry's pages show it, in the layout of HashiCorp's own generator.

use std::fmt::Write as _;

use trading::plugin::{Attribute, Kind, Nesting, OnChange, Presence, Schema, Type, Value};

/// The reference of a schema.
pub fn reference(schema: &Schema) -> String {
    let mut out = String::from("## Schema\n");
    let mut nested = Vec::new();
    groups(&mut out, &schema.attributes, "", &mut nested, |title| format!("### {title}"));
    while !nested.is_empty() {
        let (path, attributes) = nested.remove(0);
        let mut deeper = Vec::new();
        let (anchor, name) = (anchor(&path), path.replace('/', "."));
        write!(out, "\n<a id=\"{anchor}\"></a>\n### Nested Schema for `{name}`\n").unwrap();
        groups(&mut out, attributes, &path, &mut deeper, |title| format!("{title}:"));
        deeper.append(&mut nested);
        nested = deeper;
    }
    out
}

fn anchor(path: &str) -> String {
    format!("nestedatt--{}", path.replace('/', "--"))
}

type Nested<'a> = Vec<(String, &'a [Attribute])>;

fn groups<'a>(
    out: &mut String,
    attributes: &'a [Attribute],
    path: &str,
    nested: &mut Nested<'a>,
    heading: impl Fn(&str) -> String,
) {
    let is_optional =
        |one: &Attribute| matches!(one.presence, Presence::Optional | Presence::Default(_));
    type Belongs<'a> = &'a dyn Fn(&Attribute) -> bool;
    let kinds: [(&str, Belongs<'_>); 3] = [
        ("Required", &|one| matches!(one.presence, Presence::Required)),
        ("Optional", &is_optional),
        ("Read-Only", &|one| matches!(one.presence, Presence::Computed)),
    ];
    for (title, belongs) in kinds {
        let mut all: Vec<_> = attributes.iter().filter(|one| belongs(one)).collect();
        all.sort_by_key(|one| one.name);
        if all.is_empty() {
            continue;
        }
        write!(out, "\n{}\n\n", heading(title)).unwrap();
        for one in all {
            let place =
                if path.is_empty() { one.name.to_owned() } else { format!("{path}/{}", one.name) };
            writeln!(out, "- {}", line(one, &place)).unwrap();
            if let Kind::Nested(_, attributes) = &one.kind {
                nested.push((place, attributes));
            }
        }
    }
}

fn line(one: &Attribute, path: &str) -> String {
    let mut of = word(&one.kind);
    if one.sensitive {
        of.push_str(", Sensitive");
    }
    if one.write_only {
        of.push_str(", Write-only");
    }
    let mut text = format!("`{}` ({of}) {}", one.name, one.description);
    if let Presence::Default(value) = &one.presence
        && let Some(default) = shown(value)
    {
        write!(text, " Default: `{default}`.").unwrap();
    }
    match one.on_change {
        OnChange::InPlace => {}
        OnChange::Reboot => text.push_str(" A change restarts the instances."),
        OnChange::Replace => text.push_str(" A change makes the whole cluster anew."),
        OnChange::Refuse(_) => text.push_str(" A change is refused."),
    }
    if let Some(instead) = one.deprecated {
        write!(text, " **Deprecated**: {instead}").unwrap();
    }
    if matches!(one.kind, Kind::Nested(..)) {
        write!(text, " (see [below for nested schema](#{}))", anchor(path)).unwrap();
    }
    text
}

/// A default as it would be written; an object's are those of its members.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Mapping(_) | Value::Null => None,
        other => Some(other.to_json().to_string()),
    }
}

fn word(kind: &Kind) -> String {
    match kind {
        Kind::Plain(of) => plain(of),
        Kind::Nested(Nesting::Single, _) => "Attributes".into(),
        Kind::Nested(Nesting::List, _) => "Attributes List".into(),
        Kind::Nested(Nesting::Set, _) => "Attributes Set".into(),
        Kind::Nested(Nesting::Map, _) => "Attributes Map".into(),
    }
}

fn plain(of: &Type) -> String {
    match of {
        Type::Bool => "Boolean".into(),
        Type::Number => "Number".into(),
        Type::String => "String".into(),
        Type::List(element) => format!("List of {}", plain(element)),
        Type::Set(element) => format!("Set of {}", plain(element)),
        Type::Map(element) => format!("Map of {}", plain(element)),
        Type::Object(_) => "Object".into(),
    }
}
