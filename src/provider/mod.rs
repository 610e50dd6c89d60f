//! The `trading` provider: its configuration and its resource.

mod schema;

use std::sync::Arc;

use async_trait::async_trait;

use crate::plugin::{Diagnostics, Provider, Resource, Schema, Value};

/// The provider that Terraform knows as `tradingdr/trading`.
pub struct TradingProvider {
    schema: Schema,
}

impl TradingProvider {
    /// A provider that is not configured yet.
    pub fn new() -> Self {
        Self { schema: schema::provider() }
    }
}

impl Default for TradingProvider {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Provider for TradingProvider {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn resources(&self) -> Vec<Arc<dyn Resource>> {
        Vec::new()
    }

    async fn configure(&self, _config: Value, _terraform_version: &str) -> Diagnostics {
        Diagnostics::new()
    }
}
