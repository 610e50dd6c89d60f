//! Terraform's plugin protocol, major version 6: the host that a provider written in Rust runs in.
//!
//! This module knows nothing of AWS. A provider implements [`Provider`], [`Resource`] and [`DataSource`], whose
//! methods speak of [`Value`]s, and calls [`serve`]. Everything between that and Terraform is here: the handshake,
//! mutual TLS, gRPC, encoding, logs and the life of the process.
//!
//! It exists because the one published crate for this does not authenticate its caller, cannot be
//! cancelled, refuses nested attributes and cannot upgrade a state.

mod codec;
mod diagnostics;
mod go_plugin;
mod handshake;
mod host;
mod listener;
mod logging;
mod number;
mod path;
mod schema;
mod service;
mod tls;
mod value;

use std::sync::Arc;

use async_trait::async_trait;
pub use codec::{DecodeError, from_json, from_msgpack, to_msgpack};
pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use handshake::{Cookie, HandshakeError};
pub use host::{Host, ServeError, serve};
pub use logging::{init as init_logging, level_from_environment};
pub use number::{InvalidNumber, Number};
pub use path::{Path, Step};
pub use schema::{Attribute, Kind, Nesting, OnChange, Presence, Schema, Type, Validator};
pub use service::Service;
pub use tokio_util::sync::CancellationToken;
pub use value::Value;

/// The messages of the provider service.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod wire {
    tonic::include_proto!("tfplugin6");
}

/// The messages of go-plugin's own services.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod go_plugin_wire {
    tonic::include_proto!("plugin");
}

/// Bytes that Terraform keeps beside a state or a plan and hands back unseen.
pub type Private = Vec<u8>;

/// What an operation gets besides its arguments.
#[derive(Clone, Debug)]
pub struct Context {
    /// Fires when the user interrupts Terraform, or when Terraform went away. Work in progress then ends
    /// as soon as nothing would be forgotten, and returns what it knows.
    pub cancel: CancellationToken,
}

/// A provider: its own configuration and its resources.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// What its configuration block may hold.
    fn schema(&self) -> &Schema;

    /// The resources that it has.
    fn resources(&self) -> Vec<Arc<dyn Resource>>;

    /// The data sources that it has.
    fn data_sources(&self) -> Vec<Arc<dyn DataSource>>;

    /// Takes its configuration, before any resource is read, planned or applied.
    async fn configure(&self, config: Value, terraform_version: &str) -> Diagnostics;
}

/// The state after a read, plan, apply or import, and what is to be said about it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The state; `None` when the thing does not exist (any more).
    pub state: Option<Value>,
    /// To be kept beside the state.
    pub private: Private,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
}

/// A planned change.
#[derive(Clone, Debug, Default)]
pub struct Planned {
    /// The state to be reached, with unknowns; `None` for a destroy.
    pub state: Option<Value>,
    /// The paths of the arguments whose change makes a replacement necessary.
    pub requires_replace: Vec<Path>,
    /// To be handed to apply.
    pub private: Private,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
}

/// What is to be planned. An absent `prior` is a create, an absent `config` a destroy.
#[derive(Clone, Debug)]
pub struct PlanInput {
    /// The state as last read.
    pub prior: Option<Value>,
    /// The configuration as the user wrote it.
    pub config: Option<Value>,
    /// What was kept beside the prior state.
    pub private: Private,
}

/// What is to be applied. An absent `planned` is a destroy.
#[derive(Clone, Debug)]
pub struct ApplyInput {
    /// The state before.
    pub prior: Option<Value>,
    /// The state that was planned.
    pub planned: Option<Value>,
    /// The configuration, now wholly known.
    pub config: Option<Value>,
    /// What the plan handed over.
    pub private: Private,
}

/// A managed resource.
///
/// Operations that may change something run in a task of their own: a connection that breaks does not
/// drop them, and a panic becomes a diagnostic.
#[async_trait]
pub trait Resource: Send + Sync + 'static {
    /// Its name in HCL.
    fn type_name(&self) -> &'static str;

    /// Its arguments and attributes.
    fn schema(&self) -> &Schema;

    /// Checks a configuration in which values may be unknown, without asking anybody, beyond what the
    /// schema's own validators check.
    fn validate(&self, config: &Value) -> Diagnostics;

    /// Turns a state of an older schema version into JSON of the present shape.
    ///
    /// # Errors
    /// A version that is not known, or a state that is not of that version.
    fn upgrade(
        &self,
        version: u32,
        state: serde_json::Value,
    ) -> Result<serde_json::Value, Diagnostics>;

    /// Observes what exists.
    async fn read(&self, context: Context, state: Value, private: Private) -> Outcome;

    /// Decides what would change. Changes nothing.
    async fn plan(&self, context: Context, input: PlanInput) -> Planned;

    /// Makes it so. On failure, the outcome holds errors and the state that was reached all the same.
    async fn apply(&self, context: Context, input: ApplyInput) -> Outcome;

    /// Finds by id what was made elsewhere.
    async fn import(&self, context: Context, id: &str) -> Outcome;
}

/// What a data source has found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The configuration, with everything that the provider sets; `None` where there is nothing to show.
    pub state: Option<Value>,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
}

/// A data source: looks at what exists, and changes nothing.
#[async_trait]
pub trait DataSource: Send + Sync + 'static {
    /// Its name in HCL; a resource may have the same.
    fn type_name(&self) -> &'static str;

    /// Its arguments and attributes.
    fn schema(&self) -> &Schema;

    /// Looks. Everything in the configuration is known by now.
    async fn read(&self, context: Context, config: Value) -> Found;
}
