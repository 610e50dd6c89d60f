//! The resource `trading_dr_cluster`.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;

use super::{
    apply, cluster_schema, connect::Configured, draft::Draft, draft::diagnose, plan, read,
};
use crate::plugin::{
    ApplyInput, Context, Diagnostics, Outcome, PlanInput, Planned, Private, Resource, Schema, Value,
};

/// The resource; its provider tells it how AWS is reached.
pub(super) struct ClusterResource {
    schema: Schema,
    configured: Arc<OnceLock<Configured>>,
}

impl ClusterResource {
    pub(super) fn new(configured: Arc<OnceLock<Configured>>) -> Self {
        Self { schema: cluster_schema::cluster(), configured }
    }

    fn configured(&self) -> Result<&Configured, Diagnostics> {
        configured(&self.configured)
    }
}

/// How AWS is reached, once the provider is configured.
pub(super) fn configured(all: &OnceLock<Configured>) -> Result<&Configured, Diagnostics> {
    all.get().ok_or_else(|| {
        Diagnostics::from_error(
            "The provider is not configured yet",
            "Its configuration depends on values that are known only after apply. Apply what they come \
             from first: `terraform apply -target=…`.",
        )
    })
}

#[async_trait]
impl Resource for ClusterResource {
    fn type_name(&self) -> &'static str {
        "trading_dr_cluster"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn validate(&self, config: &Value) -> Diagnostics {
        let filled = self.schema.with_defaults(config);
        match Draft::decode(&filled, &std::collections::BTreeMap::new()) {
            Ok(_) => Diagnostics::new(),
            Err(mistakes) => diagnose(&mistakes),
        }
    }

    fn upgrade(
        &self,
        version: u32,
        _: serde_json::Value,
    ) -> Result<serde_json::Value, Diagnostics> {
        // Version 0 is the first; states of it need no upgrade.
        Err(Diagnostics::from_error(
            "The saved state cannot be read",
            format!(
                "This version of the provider knows no schema version {version} of trading_dr_cluster."
            ),
        ))
    }

    async fn read(&self, context: Context, state: Value, private: Private) -> Outcome {
        match self.configured() {
            Ok(configured) => read::read(configured, &self.schema, &context, state, private).await,
            Err(diagnostics) => Outcome { state: Some(state), private, diagnostics },
        }
    }

    async fn plan(&self, context: Context, input: PlanInput) -> Planned {
        match self.configured() {
            Ok(configured) => plan::plan(configured, &self.schema, &context, input).await,
            Err(diagnostics) => Planned { state: input.prior, diagnostics, ..Default::default() },
        }
    }

    async fn apply(&self, context: Context, input: ApplyInput) -> Outcome {
        match self.configured() {
            Ok(configured) => apply::apply(configured, &self.schema, &context, input).await,
            Err(diagnostics) => Outcome { state: input.prior, private: input.private, diagnostics },
        }
    }

    async fn import(&self, context: Context, id: &str) -> Outcome {
        match self.configured() {
            Ok(configured) => read::import(configured, &self.schema, &context, id).await,
            Err(diagnostics) => Outcome { diagnostics, ..Default::default() },
        }
    }
}
