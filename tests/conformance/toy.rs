//! A provider with one resource whose operations do what its `name` says, for looking at the host.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use tokio::sync::Notify;
use trading::plugin::{
    ApplyInput, Attribute, Context, DataSource, Diagnostics, Found, Nesting, Outcome, PlanInput,
    Planned, Presence, Private, Provider, Resource, Schema, Type, Value, to_msgpack, wire,
};

pub struct Toy {
    schema: Schema,
    resource: Arc<ToyResource>,
    source: Arc<ToySource>,
}

/// Looks, or does what its `name` says.
pub struct ToySource {
    pub schema: Schema,
}

pub struct ToyResource {
    pub schema: Schema,
    /// Fires when an apply has begun.
    pub begun: Notify,
    pub finished: AtomicUsize,
}

impl Toy {
    pub fn new() -> Self {
        let schema = Schema {
            version: 1,
            description: "A toy.",
            attributes: vec![
                Attribute::required("name", Type::String, "What to do."),
                Attribute::with_default("size", Type::Number, Value::integer(3), "How much."),
                Attribute::optional("secret", Type::String, "Never stored.").write_only(),
                Attribute::nested(
                    "inner",
                    Nesting::List,
                    Presence::Optional,
                    vec![Attribute::optional("hidden", Type::String, "Never stored.").write_only()],
                    "Inner.",
                ),
                Attribute::computed("id", Type::String, "Its id."),
            ],
        };
        let resource = ToyResource { schema, begun: Notify::new(), finished: AtomicUsize::new(0) };
        let source = Schema {
            version: 0,
            description: "A toy that is there.",
            attributes: vec![
                Attribute::required("name", Type::String, "What to do."),
                Attribute::computed("seen", Type::String, "What was seen."),
            ],
        };
        let source = Arc::new(ToySource { schema: source });
        let schema = Schema {
            version: 0,
            description: "Toys.",
            attributes: vec![Attribute::optional("zones", Type::strings(), "Zones.")],
        };
        Self { schema, resource: Arc::new(resource), source }
    }

    pub fn resource(&self) -> Arc<ToyResource> {
        Arc::clone(&self.resource)
    }
}

#[async_trait]
impl Provider for Toy {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn resources(&self) -> Vec<Arc<dyn Resource>> {
        vec![Arc::clone(&self.resource) as _]
    }

    fn data_sources(&self) -> Vec<Arc<dyn DataSource>> {
        vec![Arc::clone(&self.source) as _]
    }

    async fn configure(&self, _: Value, _: &str) -> Diagnostics {
        Diagnostics::new()
    }
}

#[async_trait]
impl DataSource for ToySource {
    fn type_name(&self) -> &'static str {
        "toy"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    async fn read(&self, _: Context, config: Value) -> Found {
        let mut found = Found::default();
        match config.get("name").as_str() {
            Some("panic") => panic!("as it was told"),
            Some("fail") => found.diagnostics.error("It failed", "As it was told."),
            _ => found.state = Some(config.with("seen", Value::string("a toy"))),
        }
        found
    }
}

#[async_trait]
impl Resource for ToyResource {
    fn type_name(&self) -> &'static str {
        "toy"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn validate(&self, _: &Value) -> Diagnostics {
        Diagnostics::new()
    }

    fn upgrade(
        &self,
        version: u32,
        state: serde_json::Value,
    ) -> Result<serde_json::Value, Diagnostics> {
        assert_eq!(version, 0);
        let mut state = state;
        state["name"] = state["title"].take();
        Ok(state)
    }

    async fn read(&self, _: Context, state: Value, private: Private) -> Outcome {
        let state = (state.get("name").as_str() != Some("gone")).then_some(state);
        Outcome { state, private, diagnostics: Diagnostics::new() }
    }

    async fn plan(&self, _: Context, input: PlanInput) -> Planned {
        Planned {
            state: input.config.map(|config| self.schema.with_defaults(&config)),
            private: b"planned".to_vec(),
            ..Default::default()
        }
    }

    async fn apply(&self, context: Context, input: ApplyInput) -> Outcome {
        self.begun.notify_one();
        let name = input.planned.as_ref().and_then(|state| state.get("name").as_str());
        let mut diagnostics = Diagnostics::new();
        match name {
            Some("panic") => panic!("as it was told"),
            Some("wait") => {
                context.cancel.cancelled().await;
                diagnostics.error("interrupted", "as it should be");
            }
            _ => {}
        }
        self.finished.fetch_add(1, Ordering::SeqCst);
        Outcome { state: input.planned.or(input.prior), private: input.private, diagnostics }
    }

    async fn import(&self, _: Context, id: &str) -> Outcome {
        let state = Value::string_map([("id", id)]);
        Outcome { state: Some(self.schema.with_defaults(&state)), ..Default::default() }
    }
}

/// A whole value of the resource, encoded.
pub fn object(name: &str, secret: Option<&str>) -> wire::DynamicValue {
    let of = Toy::new().resource.schema.object_type();
    let secret = secret.map_or(Value::Null, Value::string);
    let inner = Value::Sequence(vec![Value::Mapping([("hidden".into(), secret.clone())].into())]);
    let value = Value::Mapping(
        [
            ("name".to_owned(), Value::string(name)),
            ("size".to_owned(), Value::integer(3)),
            ("secret".to_owned(), secret),
            ("inner".to_owned(), inner),
        ]
        .into(),
    );
    wire::DynamicValue { msgpack: to_msgpack(&value, &of), json: vec![] }
}
