//! Settings as the blueprint says them: texts that may point at other components, and what a change means.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::Address;

/// Something about a component that AWS decides: an id, an ARN, an endpoint.
pub type Output = &'static str;

/// The output that names the component itself for whoever refers to it.
pub const ARN: Output = "arn";
/// AWS's id, where it is another thing than the ARN.
pub const ID: Output = "id";
/// A database's DNS name.
pub const ENDPOINT: Output = "endpoint";
/// Where a replica replicates from; absent on an instance that writes.
pub const SOURCE: Output = "source";
/// What AWS knows an instance by that no later instance of the same name has.
pub const RESOURCE_ID: Output = "resource_id";
/// AWS's word for an instance's state.
pub const STATUS: Output = "status";

/// The value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// Known.
    Known(String),
    /// What AWS will have given another component.
    Ref(Address, Output),
    /// A text with [`slot`]s for what AWS will have given others.
    Template(String, Vec<(Address, Output)>),
}

/// Where a [`Text::Template`] has what AWS will have given another component. Addresses hold none of these
/// signs, and JSON leaves all of them as they are.
fn slot(address: &Address, output: Output) -> String {
    format!("{{{address}#{output}}}")
}

impl Text {
    /// A known text.
    pub fn known(text: impl Into<String>) -> Self {
        Self::Known(text.into())
    }

    /// As a plan shows it: an id that AWS assigns appears as the address of what has it.
    pub fn shown(&self) -> &str {
        match self {
            Self::Known(text) | Self::Template(text, _) => text,
            Self::Ref(address, _) => address.as_str(),
        }
    }

    /// Whatever it refers to.
    pub fn refs(&self) -> Vec<(&Address, Output)> {
        match self {
            Self::Known(_) => Vec::new(),
            Self::Ref(address, output) => vec![(address, output)],
            Self::Template(_, refs) => refs.iter().map(|(one, output)| (one, *output)).collect(),
        }
    }

    /// With nothing left to fill in.
    ///
    /// # Errors
    /// The address of the first one that `find` does not know.
    pub fn filled(
        &self,
        find: impl Fn(&Address, Output) -> Option<String>,
    ) -> Result<String, Address> {
        let find = |address: &Address, output| find(address, output).ok_or_else(|| address.clone());
        match self {
            Self::Known(text) => Ok(text.clone()),
            Self::Ref(address, output) => find(address, output),
            Self::Template(text, refs) => {
                let mut text = text.clone();
                for (address, output) in refs {
                    text = text.replace(&slot(address, output), &find(address, output)?);
                }
                Ok(text)
            }
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::Known(text.to_owned())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Known(text)
    }
}

/// Collects what a text refers to while it is written.
#[derive(Debug, Default)]
pub struct Slots(Vec<(Address, Output)>);

impl Slots {
    /// The place of another component's output.
    pub fn of(&mut self, address: &Address, output: Output) -> String {
        let place = (address.clone(), output);
        if !self.0.contains(&place) {
            self.0.push(place);
        }
        slot(address, output)
    }

    /// The text that was written.
    pub fn into_text(self, text: impl Into<String>) -> Text {
        Text::Template(text.into(), self.0)
    }
}

/// What it takes to change a setting of something that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is changed while it runs.
    InPlace,
    /// It is changed in place, and the database that uses it restarts: now, or in its maintenance window.
    Reboot,
    /// The same, and nothing can put it off.
    RebootNow,
    /// The component is removed and made anew; nothing that it holds is lost.
    Replace,
    /// AWS cannot change it without losing data; the text says what to do.
    Refuse(&'static str),
}

/// How a value is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// As `#` and eight hexadecimal digits: too long for a line.
    Digest,
}

/// When two values are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Equality {
    /// When their texts are.
    Exact,
    /// When the wanted one is the other, or a version that the other belongs to: 15 holds 15.14.
    Version,
    /// When the other is the wanted number or a larger one: storage that has grown by itself.
    AtLeast,
    /// When they are the same JSON, however it is spelled.
    Json,
}

/// One setting of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name in plans.
    pub name: &'static str,
    /// What it shall be.
    pub value: Text,
    /// The argument that it comes from, as in `database.instance_class`; empty for what we decide.
    pub argument: &'static str,
    /// What a change means.
    pub effect: Effect,
    /// How it is printed.
    pub style: Style,
    /// When it counts as reached.
    pub equality: Equality,
}

impl Field {
    /// A setting that is changed in place and printed as it is.
    pub fn new(name: &'static str, value: impl Into<Text>) -> Self {
        Self {
            name,
            value: value.into(),
            argument: "",
            effect: Effect::InPlace,
            style: Style::Plain,
            equality: Equality::Exact,
        }
    }

    /// Names the argument that it comes from.
    #[must_use]
    pub fn from(mut self, argument: &'static str) -> Self {
        self.argument = argument;
        self
    }

    /// Says what a change means.
    #[must_use]
    pub fn effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    /// Prints it short.
    #[must_use]
    pub fn digest(mut self) -> Self {
        self.style = Style::Digest;
        self
    }

    /// Compares it as a version.
    #[must_use]
    pub fn version(mut self) -> Self {
        self.equality = Equality::Version;
        self
    }

    /// Compares it as a number that may have grown.
    #[must_use]
    pub fn at_least(mut self) -> Self {
        self.equality = Equality::AtLeast;
        self
    }

    /// Compares it as JSON, and prints it short.
    #[must_use]
    pub fn json(mut self) -> Self {
        self.equality = Equality::Json;
        self.digest()
    }

    /// Whether an observed value is what is wanted; `wanted` is the resolved text of this field.
    pub fn is_reached(&self, wanted: &str, observed: &str) -> bool {
        let number = |text: &str| text.parse::<u64>().ok();
        wanted == observed
            || match self.equality {
                Equality::Exact => false,
                Equality::Json => canonical_json(wanted) == canonical_json(observed),
                Equality::Version => {
                    observed.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'))
                }
                Equality::AtLeast => number(wanted)
                    .zip(number(observed))
                    .is_some_and(|(wanted, observed)| observed >= wanted),
            }
    }

    /// A value in this field's style.
    pub fn print(&self, value: &str) -> String {
        match self.style {
            Style::Plain => value.to_owned(),
            Style::Digest => short_digest(value),
        }
    }
}

/// `#` and eight hexadecimal digits.
pub fn short_digest(text: &str) -> String {
    let mut out = String::from("#");
    for byte in &Sha256::digest(text.as_bytes())[..4] {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// A JSON document in one spelling: keys sorted, no spaces, single-element lists as their element, as AWS
/// hands policies back.
pub fn canonical_json(text: &str) -> String {
    fn normal(value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::Array(mut items) if items.len() == 1 => normal(items.remove(0)),
            Value::Array(items) => {
                let mut items: Vec<_> = items.into_iter().map(normal).collect();
                if items.iter().all(Value::is_string) {
                    items.sort_by_key(ToString::to_string);
                }
                Value::Array(items)
            }
            Value::Object(members) => {
                let mut members: Vec<_> =
                    members.into_iter().map(|(key, value)| (key, normal(value))).collect();
                members.sort_by(|one, other| one.0.cmp(&other.0));
                Value::Object(members.into_iter().collect())
            }
            other => other,
        }
    }
    serde_json::from_str(text).map_or_else(|_| text.to_owned(), |value| normal(value).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_equal_whatever_their_spelling() {
        let one = r#"{"Version": "1", "Statement": [{"Action": ["a:B"], "Resource": ["y", "x"]}]}"#;
        let other = r#"{"Statement":{"Resource":["x","y"],"Action":"a:B"},"Version":"1"}"#;
        assert_eq!(canonical_json(one), canonical_json(other));
        assert_ne!(canonical_json(one), canonical_json(&one.replace("a:B", "a:C")));
        assert_eq!(canonical_json("no json"), "no json");
    }

    #[test]
    fn a_major_version_is_reached_by_its_minor_ones_only() {
        let field = Field::new("engine_version", "15").version();
        assert!(field.is_reached("15", "15.14") && field.is_reached("15", "15"));
        assert!(!field.is_reached("15", "151.2") && !field.is_reached("15.1", "15.14"));
    }

    #[test]
    fn templates_are_filled_or_say_what_is_missing() {
        let (key, group) = (Address::new("a", "key"), Address::new("a", "group"));
        let text = format!("{{\"k\":\"{}\",\"g\":\"{}\"}}", slot(&key, ARN), slot(&group, ID));
        let template = Text::Template(text, vec![(key.clone(), ARN), (group.clone(), ID)]);
        let all = |address: &Address, output: Output| Some(format!("{address}:{output}"));
        assert_eq!(template.filled(all).unwrap(), r#"{"k":"a/key:arn","g":"a/group:id"}"#);
        let some = |address: &Address, _: Output| (*address == key).then(|| "x".to_owned());
        assert_eq!(template.filled(some), Err(group));
    }

    #[test]
    fn long_values_are_printed_short() {
        assert_eq!(Field::new("policy", "x").digest().print("x"), "#2d711642");
        assert_eq!(Field::new("size", "x").print("x"), "x");
    }
}
