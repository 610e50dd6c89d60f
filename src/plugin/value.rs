//! Values as Terraform knows them: known, null or not known yet, at any depth.

use std::collections::BTreeMap;

use super::number::Number;

/// A value of Terraform's language. Which of the collection kinds it is belongs to its [`super::Type`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Not set.
    Null,
    /// Known only after apply.
    Unknown,
    /// `true` or `false`.
    Bool(bool),
    /// A number, exactly.
    Number(Number),
    /// A string.
    String(String),
    /// The elements of a list, or of a set in canonical order.
    Sequence(Vec<Value>),
    /// The elements of a map or the attributes of an object.
    Mapping(BTreeMap<String, Value>),
}

impl Value {
    /// A string value.
    pub fn string(text: impl Into<String>) -> Self {
        Self::String(text.into())
    }

    /// A whole number.
    pub fn integer(number: i64) -> Self {
        Self::Number(number.into())
    }

    /// A list or set of strings.
    pub fn strings<S: Into<String>>(all: impl IntoIterator<Item = S>) -> Self {
        Self::Sequence(all.into_iter().map(Self::string).collect())
    }

    /// A map of strings, or an object whose attributes are all strings.
    pub fn string_map<K: Into<String>, V: Into<String>>(
        all: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        Self::Mapping(
            all.into_iter().map(|(key, value)| (key.into(), Self::string(value))).collect(),
        )
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether it is unknown as a whole.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    /// Whether nothing in it is unknown.
    pub fn is_wholly_known(&self) -> bool {
        match self {
            Self::Unknown => false,
            Self::Sequence(items) => items.iter().all(Self::is_wholly_known),
            Self::Mapping(items) => items.values().all(Self::is_wholly_known),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) => true,
        }
    }

    /// The attribute or element of that name; null where there is none or this is no mapping.
    pub fn get(&self, name: &str) -> &Self {
        const NULL: &Value = &Value::Null;
        match self {
            Self::Mapping(items) => items.get(name).unwrap_or(NULL),
            Self::Unknown => &Self::Unknown,
            _ => NULL,
        }
    }

    /// The same as JSON, without what is null or unknown: what a configuration says, to be read back with
    /// [`super::from_json`].
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Null | Self::Unknown => Json::Null,
            Self::Bool(flag) => Json::Bool(*flag),
            // A number that JSON's usual readers would round is kept as its text.
            Self::Number(number) => {
                number.as_i64().map_or_else(|| number.to_string().into(), Json::from)
            }
            Self::String(text) => Json::String(text.clone()),
            Self::Sequence(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Self::Mapping(items) => Json::Object(
                items
                    .iter()
                    .filter(|(_, item)| !matches!(item, Self::Null | Self::Unknown))
                    .map(|(name, item)| (name.clone(), item.to_json()))
                    .collect(),
            ),
        }
    }

    /// The whole number, if it is a known one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Number(number) => number.as_i64(),
            _ => None,
        }
    }

    /// The flag, if it is a known one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    /// The elements, if it is a known list or set.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::Sequence(items) => items,
            _ => &[],
        }
    }

    /// The elements by key, if it is a known map or object.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Self)> {
        let items = match self {
            Self::Mapping(items) => Some(items),
            _ => None,
        };
        items.into_iter().flatten().map(|(key, value)| (key.as_str(), value))
    }

    /// The same object with one attribute set; anything else than an object stays as it is.
    #[must_use]
    pub fn with(mut self, name: &str, value: Self) -> Self {
        if let Self::Mapping(items) = &mut self {
            items.insert(name.to_owned(), value);
        }
        self
    }

    /// The text, if it is a known string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}
