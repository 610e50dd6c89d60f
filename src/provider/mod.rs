//! The `trading` provider: its configuration, its resource and its data source.

mod apply;
pub mod archive;
mod checks;
mod cluster_schema;
mod configuration;
mod connect;
mod data_source;
mod draft;
mod elsewhere;
mod ending;
mod explain;
mod flow;
pub mod graph;
mod intent;
mod overview;
pub mod package;
mod plan;
mod read;
mod recovery;
mod removal;
mod resource;
mod state;
pub mod status;
mod unfinished;
mod walk;

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;

use self::{connect::Configured, data_source::ClusterDataSource, resource::ClusterResource};
use crate::{
    aws::Aws,
    components::Archive,
    plugin::{DataSource, Diagnostics, Provider, Resource, Schema, Value},
};

/// The provider that Terraform knows as `tradingdr/trading`.
pub struct TradingProvider {
    schema: Schema,
    configured: Arc<OnceLock<Configured>>,
    resource: Arc<ClusterResource>,
    data_source: Arc<ClusterDataSource>,
    progress: Option<PathBuf>,
}

impl TradingProvider {
    /// A provider that is not configured yet.
    pub fn new() -> Self {
        let configured = Arc::new(OnceLock::new());
        let resource = Arc::new(ClusterResource::new(Arc::clone(&configured)));
        let data_source = Arc::new(ClusterDataSource::new(Arc::clone(&configured)));
        Self { schema: configuration::schema(), configured, resource, data_source, progress: None }
    }

    /// The same, whose runs tell what they do in a file in that folder ([`crate::progress`]).
    #[must_use]
    pub fn with_progress_in(self, folder: PathBuf) -> Self {
        Self { progress: Some(folder), ..self }
    }

    /// A provider that reaches AWS in a way of the caller's own, whatever its configuration says, and that has
    /// this archive of the agent.
    pub fn connected(aws: Aws, archive: Option<Archive>) -> Self {
        let provider = Self::new();
        let archive = archive.ok_or_else(|| "there is none".to_owned());
        let configured = Configured::new(aws, std::collections::BTreeMap::new(), Some(archive));
        let _ = provider.configured.set(configured);
        provider
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
        vec![Arc::clone(&self.resource) as _]
    }

    fn data_sources(&self) -> Vec<Arc<dyn DataSource>> {
        vec![Arc::clone(&self.data_source) as _]
    }

    async fn configure(&self, config: Value, terraform_version: &str) -> Diagnostics {
        if let Some(configured) = self.configured.get() {
            configured.begin_walk();
            return Diagnostics::new();
        }
        // With values that are known only after apply there is nothing to connect with yet; each operation
        // says so by itself.
        if !config.is_wholly_known() {
            return Diagnostics::new();
        }
        match Configured::connect(&config, Some(terraform_version)).await {
            Ok(configured) => {
                let _ = self.configured.set(configured.with_progress_in(self.progress.clone()));
                Diagnostics::new()
            }
            Err(found) => found,
        }
    }
}
