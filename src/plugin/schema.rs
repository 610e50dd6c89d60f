//! The schema: the one authority on what may be written and what it means.
//!
//! Decoding, validation, defaults, planning, Terraform's own view of the resource and the reference
//! documentation are all derived from the declarations made with these types; nothing of it is said twice.

use super::{Diagnostics, Path, Value, wire};

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// Elements in order.
    List(Box<Type>),
    /// Elements without an order, each once.
    Set(Box<Type>),
    /// Elements by key.
    Map(Box<Type>),
    /// Named attributes, each of its own type.
    Object(Vec<(String, Type)>),
}

impl Type {
    /// A list of strings.
    pub fn strings() -> Self {
        Self::List(Box::new(Self::String))
    }

    /// A set of strings.
    pub fn string_set() -> Self {
        Self::Set(Box::new(Self::String))
    }

    /// A map of strings.
    pub fn string_map() -> Self {
        Self::Map(Box::new(Self::String))
    }

    /// The notation of Terraform's language, as in `map(string)`.
    pub fn describe(&self) -> String {
        match self {
            Self::Bool => "bool".into(),
            Self::Number => "number".into(),
            Self::String => "string".into(),
            Self::List(element) => format!("list({})", element.describe()),
            Self::Set(element) => format!("set({})", element.describe()),
            Self::Map(element) => format!("map({})", element.describe()),
            Self::Object(_) => "object".into(),
        }
    }

    /// The JSON form in which a schema names a type on the wire.
    fn to_json(&self) -> serde_json::Value {
        use serde_json::json;
        match self {
            Self::Bool => json!("bool"),
            Self::Number => json!("number"),
            Self::String => json!("string"),
            Self::List(element) => json!(["list", element.to_json()]),
            Self::Set(element) => json!(["set", element.to_json()]),
            Self::Map(element) => json!(["map", element.to_json()]),
            Self::Object(attributes) => {
                let attributes: serde_json::Map<_, _> =
                    attributes.iter().map(|(name, kind)| (name.clone(), kind.to_json())).collect();
                json!(["object", attributes])
            }
        }
    }
}

/// How a nested attribute repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nesting {
    /// One object.
    Single,
    /// A list of objects.
    List,
    /// A set of objects.
    Set,
    /// A map of objects.
    Map,
}

/// What an attribute holds.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A plain value.
    Plain(Type),
    /// Objects with declared attributes of their own.
    Nested(Nesting, Vec<Attribute>),
}

/// Who sets an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Presence {
    /// The user must.
    Required,
    /// The user may; null otherwise.
    Optional,
    /// The user may; this value otherwise.
    Default(Value),
    /// The provider does.
    Computed,
}

/// What a change of an argument does to what exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnChange {
    /// Changed while it runs.
    InPlace,
    /// Changed in place, and the database restarts for it.
    Reboot,
    /// Everything is destroyed and made anew.
    Replace,
    /// Refused at plan, because data would be lost; the text says what to do instead.
    Refuse(&'static str),
}

/// Checks a known, non-null value; pushes errors with the path that it is given.
pub type Validator = fn(&Value, &Path, &mut Diagnostics);

/// One argument or computed attribute.
#[derive(Clone, Debug)]
pub struct Attribute {
    /// Its name in HCL.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Who sets it.
    pub presence: Presence,
    /// What it is for, in Markdown: units, limits, default, consequences.
    pub description: &'static str,
    /// Whether Terraform hides it.
    pub sensitive: bool,
    /// Whether it is given to the provider and never stored.
    pub write_only: bool,
    /// What to use instead, if it is on its way out.
    pub deprecated: Option<&'static str>,
    /// What its change means.
    pub on_change: OnChange,
    /// What it is checked for, beyond its type.
    pub validators: Vec<Validator>,
}

impl Attribute {
    fn new(name: &'static str, kind: Kind, presence: Presence, description: &'static str) -> Self {
        Self {
            name,
            kind,
            presence,
            description,
            sensitive: false,
            write_only: false,
            deprecated: None,
            on_change: OnChange::InPlace,
            validators: Vec::new(),
        }
    }

    /// An argument that must be given.
    pub fn required(name: &'static str, of: Type, description: &'static str) -> Self {
        Self::new(name, Kind::Plain(of), Presence::Required, description)
    }

    /// An argument that may be given.
    pub fn optional(name: &'static str, of: Type, description: &'static str) -> Self {
        Self::new(name, Kind::Plain(of), Presence::Optional, description)
    }

    /// An argument with a default.
    pub fn with_default(
        name: &'static str,
        of: Type,
        default: Value,
        description: &'static str,
    ) -> Self {
        Self::new(name, Kind::Plain(of), Presence::Default(default), description)
    }

    /// An attribute that the provider sets.
    pub fn computed(name: &'static str, of: Type, description: &'static str) -> Self {
        Self::new(name, Kind::Plain(of), Presence::Computed, description)
    }

    /// A nested attribute.
    pub fn nested(
        name: &'static str,
        nesting: Nesting,
        presence: Presence,
        attributes: Vec<Attribute>,
        description: &'static str,
    ) -> Self {
        Self::new(name, Kind::Nested(nesting, attributes), presence, description)
    }

    /// Marks what its change means.
    #[must_use]
    pub fn on_change(mut self, what: OnChange) -> Self {
        self.on_change = what;
        self
    }

    /// Marks it as hidden in Terraform's output.
    #[must_use]
    pub fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }

    /// Marks it as never stored.
    #[must_use]
    pub fn write_only(mut self) -> Self {
        self.write_only = true;
        self
    }

    /// Marks it as on its way out.
    #[must_use]
    pub fn deprecated(mut self, instead: &'static str) -> Self {
        self.deprecated = Some(instead);
        self
    }

    /// Adds a check.
    #[must_use]
    pub fn validate(mut self, check: Validator) -> Self {
        self.validators.push(check);
        self
    }

    /// Its type, nested attributes included.
    pub fn value_type(&self) -> Type {
        match &self.kind {
            Kind::Plain(of) => of.clone(),
            Kind::Nested(nesting, attributes) => {
                let object = object_type(attributes);
                match nesting {
                    Nesting::Single => object,
                    Nesting::List => Type::List(Box::new(object)),
                    Nesting::Set => Type::Set(Box::new(object)),
                    Nesting::Map => Type::Map(Box::new(object)),
                }
            }
        }
    }

    fn to_wire(&self) -> wire::schema::Attribute {
        use wire::schema::object::NestingMode;
        let (of, nested_type) = match &self.kind {
            Kind::Plain(of) => (of.to_json().to_string().into_bytes(), None),
            Kind::Nested(nesting, attributes) => {
                let nesting = match nesting {
                    Nesting::Single => NestingMode::Single,
                    Nesting::List => NestingMode::List,
                    Nesting::Set => NestingMode::Set,
                    Nesting::Map => NestingMode::Map,
                };
                let attributes = attributes.iter().map(Self::to_wire).collect();
                (Vec::new(), Some(wire::schema::Object { attributes, nesting: nesting.into() }))
            }
        };
        wire::schema::Attribute {
            name: self.name.into(),
            r#type: of,
            nested_type,
            description: self.description.into(),
            description_kind: wire::StringKind::Markdown.into(),
            required: self.presence == Presence::Required,
            optional: matches!(self.presence, Presence::Optional | Presence::Default(_)),
            computed: matches!(self.presence, Presence::Computed | Presence::Default(_)),
            sensitive: self.sensitive,
            deprecated: self.deprecated.is_some(),
            write_only: self.write_only,
        }
    }
}

fn object_type(attributes: &[Attribute]) -> Type {
    Type::Object(attributes.iter().map(|one| (one.name.to_owned(), one.value_type())).collect())
}

/// The schema of a provider or resource.
#[derive(Clone, Debug)]
pub struct Schema {
    /// Raised when the state's shape changes incompatibly; starts at 0.
    pub version: u32,
    /// What it is, in Markdown.
    pub description: &'static str,
    /// Its arguments and attributes.
    pub attributes: Vec<Attribute>,
}

impl Schema {
    /// The type of a whole configuration or state.
    pub fn object_type(&self) -> Type {
        object_type(&self.attributes)
    }

    /// Runs every validator on what is known in `config`.
    pub fn validate(&self, config: &Value) -> Diagnostics {
        self.validate_for(config, true)
    }

    /// The same for a Terraform that may not know write-only arguments: it would keep them in its state.
    pub fn validate_for(&self, config: &Value, knows_write_only: bool) -> Diagnostics {
        let mut found = Diagnostics::new();
        validate_object(&self.attributes, config, &Path::root(), knows_write_only, &mut found);
        found
    }

    /// `config` with defaults in the places that the user left out. Computed attributes are null.
    pub fn with_defaults(&self, config: &Value) -> Value {
        fill_object(&self.attributes, config)
    }

    /// A state without what the provider computes: what the user could have written.
    pub fn arguments_of(&self, state: &Value) -> Value {
        let arguments = self.attributes.iter().filter(|one| one.presence != Presence::Computed);
        Value::Mapping(
            arguments.map(|one| (one.name.to_owned(), state.get(one.name).clone())).collect(),
        )
    }

    /// `value` with every write-only attribute null, as it may be stored.
    pub fn without_write_only(&self, value: Value) -> Value {
        erase_write_only(&self.attributes, value)
    }

    /// Every argument whose value differs between two objects, with its path, where an object that has
    /// declared attributes of its own counts attribute by attribute.
    pub fn changed_arguments(&self, before: &Value, after: &Value) -> Vec<(Path, &Attribute)> {
        let mut found = Vec::new();
        changed(&self.attributes, before, after, &Path::root(), &mut found);
        found
    }

    pub(super) fn to_wire(&self) -> wire::Schema {
        wire::Schema {
            version: self.version.into(),
            block: Some(wire::schema::Block {
                version: self.version.into(),
                attributes: self.attributes.iter().map(Attribute::to_wire).collect(),
                description: self.description.into(),
                description_kind: wire::StringKind::Markdown.into(),
                deprecated: false,
            }),
        }
    }
}

/// Applies `each` to every object that a nested attribute holds.
fn map_objects(nesting: Nesting, value: Value, each: &dyn Fn(Value) -> Value) -> Value {
    match (nesting, value) {
        (_, value @ (Value::Null | Value::Unknown)) => value,
        (Nesting::Single, object) => each(object),
        (_, Value::Sequence(items)) => {
            let mut items: Vec<_> = items.into_iter().map(each).collect();
            if nesting == Nesting::Set {
                items.sort();
            }
            Value::Sequence(items)
        }
        (_, Value::Mapping(items)) => {
            Value::Mapping(items.into_iter().map(|(key, item)| (key, each(item))).collect())
        }
        (_, other) => other,
    }
}

fn fill_object(attributes: &[Attribute], object: &Value) -> Value {
    if object.is_unknown() {
        return Value::Unknown;
    }
    let filled = attributes.iter().map(|attribute| {
        let given = match (object.get(attribute.name), &attribute.presence) {
            (Value::Null, Presence::Default(default)) => default,
            (given, _) => given,
        };
        let value = match &attribute.kind {
            Kind::Plain(_) => given.clone(),
            Kind::Nested(nesting, inner) => {
                map_objects(*nesting, given.clone(), &|item| fill_object(inner, &item))
            }
        };
        (attribute.name.to_owned(), value)
    });
    Value::Mapping(filled.collect())
}

fn erase_write_only(attributes: &[Attribute], object: Value) -> Value {
    let Value::Mapping(mut items) = object else { return object };
    for attribute in attributes {
        let Some(slot) = items.get_mut(attribute.name) else { continue };
        if attribute.write_only {
            *slot = Value::Null;
        } else if let Kind::Nested(nesting, inner) = &attribute.kind {
            let old = std::mem::replace(slot, Value::Null);
            *slot = map_objects(*nesting, old, &|item| erase_write_only(inner, item));
        }
    }
    Value::Mapping(items)
}

fn validate_object(
    attributes: &[Attribute],
    object: &Value,
    path: &Path,
    knows_write_only: bool,
    found: &mut Diagnostics,
) {
    for attribute in attributes {
        let (value, path) = (object.get(attribute.name), path.attribute(attribute.name));
        match (&attribute.presence, value) {
            (Presence::Required, Value::Null) => {
                found.error_at(
                    path.clone(),
                    format!("{path} is required"),
                    "It may not be null either. Give it a value.",
                );
                continue;
            }
            (_, Value::Null) => continue,
            _ if attribute.write_only && !knows_write_only => {
                found.error_at(
                    path.clone(),
                    format!("{path} needs Terraform 1.11 or newer"),
                    "It is write-only: this version of Terraform would keep it in its state. Leave it out, or use a \
                     newer one.",
                );
                continue;
            }
            (_, Value::Unknown) => continue,
            (Presence::Computed, _) => {
                found.error_at(
                    path.clone(),
                    format!("{path} cannot be set"),
                    "The provider sets it. Leave it out.",
                );
                continue;
            }
            _ => {}
        }
        if let Some(instead) = attribute.deprecated {
            found.warning_at(path.clone(), format!("{path} is deprecated"), instead);
        }
        for check in &attribute.validators {
            check(value, &path, found);
        }
        if let (Kind::Plain(_), Value::Sequence(items)) = (&attribute.kind, value)
            && items.iter().any(Value::is_null)
        {
            found.error_at(
                path.clone(),
                format!("{path} holds a null"),
                "Each element needs a value: leave out what may be null, with compact() or an `if` in a `for`.",
            );
        }
        let Kind::Nested(nesting, inner) = &attribute.kind else { continue };
        match (nesting, value) {
            (Nesting::Single, object) => {
                validate_object(inner, object, &path, knows_write_only, found);
            }
            (_, Value::Sequence(items)) => {
                for (index, item) in items.iter().enumerate() {
                    validate_object(inner, item, &path.index(index), knows_write_only, found);
                }
            }
            (_, Value::Mapping(items)) => {
                for (key, item) in items {
                    validate_object(inner, item, &path.key(key), knows_write_only, found);
                }
            }
            _ => {}
        }
    }
}

fn changed<'a>(
    attributes: &'a [Attribute],
    before: &Value,
    after: &Value,
    path: &Path,
    found: &mut Vec<(Path, &'a Attribute)>,
) {
    for attribute in attributes {
        let (old, new) = (before.get(attribute.name), after.get(attribute.name));
        if old == new || attribute.presence == Presence::Computed {
            continue;
        }
        let path = path.attribute(attribute.name);
        match &attribute.kind {
            Kind::Nested(Nesting::Single, inner)
                if matches!((old, new), (Value::Mapping(_), Value::Mapping(_))) =>
            {
                changed(inner, old, new, &path, found);
            }
            _ => found.push((path, attribute)),
        }
    }
}
