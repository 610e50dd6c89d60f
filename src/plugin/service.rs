//! The provider service: wire to types, the provider's own logic, types to wire.

use std::{collections::HashMap, sync::Arc};

use tonic::{Request, Response, Status};

use super::{
    ApplyInput, DataSource, Diagnostics, Outcome, Path, PlanInput, Planned, Provider, Resource,
    Schema, Type, Value, codec, host::Lifecycle, wire,
};

/// Answers Terraform's calls for one provider: what [`serve`](super::serve) puts behind a port. By itself it can be called
/// within the process.
pub struct Service {
    provider: Arc<dyn Provider>,
    resources: HashMap<&'static str, Arc<dyn Resource>>,
    data_sources: HashMap<&'static str, Arc<dyn DataSource>>,
    lifecycle: Lifecycle,
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    /// One that nobody but its caller interrupts, by `StopProvider`.
    pub fn new(provider: Arc<dyn Provider>) -> Self {
        Self::within(provider, Lifecycle::default())
    }

    /// One whose process has a life of its own.
    pub(super) fn within(provider: Arc<dyn Provider>, lifecycle: Lifecycle) -> Self {
        let resources = provider.resources().into_iter();
        let resources = resources.map(|resource| (resource.type_name(), resource)).collect();
        let sources = provider.data_sources().into_iter();
        let data_sources = sources.map(|source| (source.type_name(), source)).collect();
        Self { provider, resources, data_sources, lifecycle }
    }

    fn data_source(&self, type_name: &str) -> Result<Arc<dyn DataSource>, Diagnostics> {
        self.data_sources.get(type_name).cloned().ok_or_else(|| {
            Diagnostics::from_error(
                format!("{type_name} is no data source of this provider"),
                "The configuration names a data source that this version of the provider does not have.",
            )
        })
    }

    fn resource(&self, type_name: &str) -> Result<Arc<dyn Resource>, Diagnostics> {
        self.resources.get(type_name).cloned().ok_or_else(|| {
            Diagnostics::from_error(
                format!("{type_name} is no resource of this provider"),
                "The configuration or the state names a resource type that this version of the \
                 provider does not have.",
            )
        })
    }

    /// Runs an operation of a resource in a task of its own; a panic in it becomes a diagnostic.
    async fn run<T: Send + 'static>(
        &self,
        operation: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Diagnostics> {
        self.lifecycle.run(operation).await.ok_or_else(|| {
            Diagnostics::from_error(
                "The provider has a bug and stopped working on this",
                "An assumption in its code did not hold. The log at level ERROR says where. Nothing \
                 that was made is lost: running the same command again continues.",
            )
        })
    }
}

fn capabilities() -> wire::ServerCapabilities {
    wire::ServerCapabilities {
        plan_destroy: true,
        get_provider_schema_optional: true,
        move_resource_state: false,
    }
}

fn decode(value: Option<&wire::DynamicValue>, of: &Type, what: &str) -> Result<Value, Diagnostics> {
    let Some(value) = value else { return Ok(Value::Null) };
    let decoded = if value.msgpack.is_empty() && value.json.is_empty() {
        return Ok(Value::Null);
    } else if value.msgpack.is_empty() {
        serde_json::from_slice(&value.json)
            .map_err(|error| codec::DecodeError::Malformed {
                format: "JSON",
                reason: error.to_string(),
            })
            .and_then(|json| codec::from_json(&json, of))
    } else {
        codec::from_msgpack(&value.msgpack, of)
    };
    decoded.map_err(|error| undecodable(what, &error))
}

fn undecodable(what: &str, error: &codec::DecodeError) -> Diagnostics {
    let mut found = Diagnostics::new();
    let summary = format!("The {what} does not have the shape of the schema");
    match error {
        codec::DecodeError::Mismatch { path, .. } if *path != Path::root() => {
            found.error_at(path.clone(), summary, error.to_string());
        }
        _ => found.error(summary, error.to_string()),
    }
    found
}

/// `None` for a value that is null as a whole: a create has no prior, a destroy no planned state.
fn decode_object(
    value: Option<&wire::DynamicValue>,
    schema: &Schema,
    what: &str,
) -> Result<Option<Value>, Diagnostics> {
    let value = decode(value, &schema.object_type(), what)?;
    Ok((!value.is_null()).then_some(value))
}

fn encode(schema: &Schema, value: Option<Value>) -> wire::DynamicValue {
    let value = value.map_or(Value::Null, |value| schema.without_write_only(value));
    wire::DynamicValue {
        msgpack: codec::to_msgpack(&value, &schema.object_type()),
        json: Vec::new(),
    }
}

#[tonic::async_trait]
impl wire::provider_server::Provider for Service {
    async fn get_metadata(&self, _: Request<wire::Empty>) -> Answer<wire::Metadata> {
        let named = |name: &&str| wire::metadata::Named { type_name: (*name).to_owned() };
        Ok(Response::new(wire::Metadata {
            server_capabilities: Some(capabilities()),
            resources: self.resources.keys().map(named).collect(),
            data_sources: self.data_sources.keys().map(named).collect(),
            ..Default::default()
        }))
    }

    async fn get_provider_schema(&self, _: Request<wire::Empty>) -> Answer<wire::ProviderSchema> {
        let (schemas, sources) = (self.resources.iter(), self.data_sources.iter());
        Ok(Response::new(wire::ProviderSchema {
            provider: Some(self.provider.schema().to_wire()),
            resource_schemas: schemas
                .map(|(name, resource)| ((*name).to_owned(), resource.schema().to_wire()))
                .collect(),
            data_source_schemas: sources
                .map(|(name, source)| ((*name).to_owned(), source.schema().to_wire()))
                .collect(),
            server_capabilities: Some(capabilities()),
            ..Default::default()
        }))
    }

    async fn get_resource_identity_schemas(
        &self,
        _: Request<wire::Empty>,
    ) -> Answer<wire::IdentitySchemas> {
        Ok(Response::new(wire::IdentitySchemas::default()))
    }

    async fn validate_provider_config(
        &self,
        request: Request<wire::ConfigRequest>,
    ) -> Answer<wire::ValidateProviderConfigResponse> {
        let (config, schema) = (request.into_inner().config, self.provider.schema());
        let diagnostics = decode(config.as_ref(), &schema.object_type(), "provider configuration")
            .map_or_else(|found| found, |config| schema.validate(&config))
            .to_wire();
        Ok(Response::new(wire::ValidateProviderConfigResponse { diagnostics }))
    }

    async fn validate_resource_config(
        &self,
        request: Request<wire::TypedConfigRequest>,
    ) -> Answer<wire::DiagnosticsResponse> {
        let request = request.into_inner();
        let validate = || {
            let resource = self.resource(&request.type_name)?;
            let schema = resource.schema();
            let config = decode(request.config.as_ref(), &schema.object_type(), "configuration")?;
            let capabilities = request.client_capabilities.unwrap_or_default();
            let mut found =
                schema.validate_for(&config, capabilities.write_only_attributes_allowed);
            if !found.has_errors() {
                found.extend(resource.validate(&config));
            }
            Ok(found)
        };
        let diagnostics = validate().unwrap_or_else(|found| found).to_wire();
        Ok(Response::new(wire::DiagnosticsResponse { diagnostics }))
    }

    async fn validate_data_resource_config(
        &self,
        request: Request<wire::TypedConfigRequest>,
    ) -> Answer<wire::DiagnosticsResponse> {
        let request = request.into_inner();
        let validate = || {
            let source = self.data_source(&request.type_name)?;
            let of = source.schema().object_type();
            let config = decode(request.config.as_ref(), &of, "configuration")?;
            Ok(source.schema().validate(&config))
        };
        let diagnostics = validate().unwrap_or_else(|found: Diagnostics| found).to_wire();
        Ok(Response::new(wire::DiagnosticsResponse { diagnostics }))
    }

    async fn upgrade_resource_state(
        &self,
        request: Request<wire::UpgradeRequest>,
    ) -> Answer<wire::UpgradeResponse> {
        let request = request.into_inner();
        let answer = match self.upgrade(&request) {
            Ok(state) => wire::UpgradeResponse { upgraded_state: Some(state), diagnostics: vec![] },
            Err(found) => {
                wire::UpgradeResponse { upgraded_state: None, diagnostics: found.to_wire() }
            }
        };
        Ok(Response::new(answer))
    }

    async fn configure_provider(
        &self,
        request: Request<wire::ConfigureRequest>,
    ) -> Answer<wire::DiagnosticsResponse> {
        let request = request.into_inner();
        let of = self.provider.schema().object_type();
        let diagnostics = match decode(request.config.as_ref(), &of, "provider configuration") {
            Ok(config) => {
                let (provider, version) = (Arc::clone(&self.provider), request.terraform_version);
                self.run(async move { provider.configure(config, &version).await })
                    .await
                    .unwrap_or_else(|found| found)
            }
            Err(found) => found,
        };
        Ok(Response::new(wire::DiagnosticsResponse { diagnostics: diagnostics.to_wire() }))
    }

    async fn read_resource(
        &self,
        request: Request<wire::ReadRequest>,
    ) -> Answer<wire::ReadResponse> {
        let request = request.into_inner();
        let unchanged = request.current_state.clone();
        Ok(Response::new(match self.read(request).await {
            Ok(answer) => answer,
            Err(found) => wire::ReadResponse {
                new_state: unchanged,
                diagnostics: found.to_wire(),
                private: vec![],
            },
        }))
    }

    async fn plan_resource_change(
        &self,
        request: Request<wire::PlanRequest>,
    ) -> Answer<wire::PlanResponse> {
        let request = request.into_inner();
        Ok(Response::new(self.plan(request).await.unwrap_or_else(|found| wire::PlanResponse {
            diagnostics: found.to_wire(),
            ..Default::default()
        })))
    }

    async fn apply_resource_change(
        &self,
        request: Request<wire::ApplyRequest>,
    ) -> Answer<wire::ApplyResponse> {
        let request = request.into_inner();
        let (prior, private) = (request.prior_state.clone(), request.planned_private.clone());
        // Never a gRPC error: Terraform would save nothing.
        Ok(Response::new(match self.apply(request).await {
            Ok(answer) => answer,
            Err(found) => {
                wire::ApplyResponse { new_state: prior, private, diagnostics: found.to_wire() }
            }
        }))
    }

    async fn import_resource_state(
        &self,
        request: Request<wire::ImportRequest>,
    ) -> Answer<wire::ImportResponse> {
        let answer = self.import(request.into_inner()).await;
        Ok(Response::new(answer.unwrap_or_else(|found| wire::ImportResponse {
            imported_resources: vec![],
            diagnostics: found.to_wire(),
        })))
    }

    async fn move_resource_state(
        &self,
        request: Request<wire::MoveRequest>,
    ) -> Answer<wire::MoveResponse> {
        let request = request.into_inner();
        let found = Diagnostics::from_error(
            "A state cannot be moved to this resource",
            format!(
                "{} of {} cannot become {}. Remove it from the state and import the cluster instead.",
                request.source_type_name, request.source_provider_address, request.target_type_name
            ),
        );
        Ok(Response::new(wire::MoveResponse { target_state: None, diagnostics: found.to_wire() }))
    }

    async fn read_data_source(
        &self,
        request: Request<wire::ReadDataRequest>,
    ) -> Answer<wire::ReadDataResponse> {
        let answer = self.look(request.into_inner()).await;
        Ok(Response::new(answer.unwrap_or_else(|found| wire::ReadDataResponse {
            state: None,
            diagnostics: found.to_wire(),
        })))
    }

    async fn stop_provider(&self, _: Request<wire::Empty>) -> Answer<wire::StopResponse> {
        tracing::info!("interrupted: ending what is running");
        self.lifecycle.interrupt();
        Ok(Response::new(wire::StopResponse::default()))
    }
}

impl Service {
    fn upgrade(&self, request: &wire::UpgradeRequest) -> Result<wire::DynamicValue, Diagnostics> {
        let resource = self.resource(&request.type_name)?;
        let schema = resource.schema();
        let raw = request.raw_state.as_ref().map(|raw| raw.json.as_slice()).unwrap_or_default();
        let unreadable =
            |reason: String| Diagnostics::from_error("The saved state cannot be read", reason);
        let json: serde_json::Value =
            serde_json::from_slice(raw).map_err(|error| unreadable(error.to_string()))?;
        let version = u32::try_from(request.version)
            .map_err(|_| unreadable(format!("{} is no schema version", request.version)))?;
        let json = match version.cmp(&schema.version) {
            std::cmp::Ordering::Equal => json,
            std::cmp::Ordering::Less => resource.upgrade(version, json)?,
            std::cmp::Ordering::Greater => {
                return Err(unreadable(format!(
                    "It was written by a newer version of this provider (schema version {version}; \
                     this one knows up to {}). Upgrade the provider.",
                    schema.version
                )));
            }
        };
        let state = codec::from_json(&json, &schema.object_type())
            .map_err(|error| undecodable("saved state", &error))?;
        Ok(encode(schema, Some(state)))
    }

    async fn read(&self, request: wire::ReadRequest) -> Result<wire::ReadResponse, Diagnostics> {
        let resource = self.resource(&request.type_name)?;
        let state = decode_object(request.current_state.as_ref(), resource.schema(), "state")?;
        let outcome = match state {
            None => Outcome { private: request.private, ..Default::default() },
            Some(state) => {
                let (resource, context) = (Arc::clone(&resource), self.lifecycle.context());
                self.run(async move { resource.read(context, state, request.private).await })
                    .await?
            }
        };
        Ok(wire::ReadResponse {
            new_state: Some(encode(resource.schema(), outcome.state)),
            diagnostics: outcome.diagnostics.to_wire(),
            private: outcome.private,
        })
    }

    async fn plan(&self, request: wire::PlanRequest) -> Result<wire::PlanResponse, Diagnostics> {
        let resource = self.resource(&request.type_name)?;
        let schema = resource.schema();
        let proposed =
            decode_object(request.proposed_new_state.as_ref(), schema, "proposed state")?;
        let mut config = decode_object(request.config.as_ref(), schema, "configuration")?;
        if proposed.is_none() {
            config = None;
        }
        let prior = decode_object(request.prior_state.as_ref(), schema, "prior state")?;
        let input = PlanInput { prior, config, private: request.prior_private };
        let (worker, context) = (Arc::clone(&resource), self.lifecycle.context());
        let Planned { state, requires_replace, private, diagnostics } =
            self.run(async move { worker.plan(context, input).await }).await?;
        Ok(wire::PlanResponse {
            planned_state: Some(encode(schema, state)),
            requires_replace: requires_replace.iter().map(Path::to_wire).collect(),
            planned_private: private,
            diagnostics: diagnostics.to_wire(),
        })
    }

    async fn apply(&self, request: wire::ApplyRequest) -> Result<wire::ApplyResponse, Diagnostics> {
        let resource = self.resource(&request.type_name)?;
        let schema = resource.schema();
        let input = ApplyInput {
            prior: decode_object(request.prior_state.as_ref(), schema, "prior state")?,
            planned: decode_object(request.planned_state.as_ref(), schema, "planned state")?,
            config: decode_object(request.config.as_ref(), schema, "configuration")?,
            private: request.planned_private,
        };
        let (worker, context) = (Arc::clone(&resource), self.lifecycle.context());
        let outcome = self.run(async move { worker.apply(context, input).await }).await?;
        Ok(wire::ApplyResponse {
            new_state: Some(encode(schema, outcome.state)),
            private: outcome.private,
            diagnostics: outcome.diagnostics.to_wire(),
        })
    }

    async fn look(
        &self,
        request: wire::ReadDataRequest,
    ) -> Result<wire::ReadDataResponse, Diagnostics> {
        let source = self.data_source(&request.type_name)?;
        let config = decode_object(request.config.as_ref(), source.schema(), "configuration")?;
        let Some(config) = config.filter(Value::is_wholly_known) else {
            return Err(Diagnostics::from_error(
                format!("{} was read too early", request.type_name),
                "Some of its configuration is known only after apply. Terraform reads it then.",
            ));
        };
        let (worker, context) = (Arc::clone(&source), self.lifecycle.context());
        let found = self.run(async move { worker.read(context, config).await }).await?;
        Ok(wire::ReadDataResponse {
            state: found.state.map(|state| encode(source.schema(), Some(state))),
            diagnostics: found.diagnostics.to_wire(),
        })
    }

    async fn import(
        &self,
        request: wire::ImportRequest,
    ) -> Result<wire::ImportResponse, Diagnostics> {
        let resource = self.resource(&request.type_name)?;
        let (worker, context) = (Arc::clone(&resource), self.lifecycle.context());
        let outcome = self.run(async move { worker.import(context, &request.id).await }).await?;
        let imported = outcome.state.map(|state| wire::import_response::Imported {
            type_name: request.type_name,
            state: Some(encode(resource.schema(), Some(state))),
            private: outcome.private,
        });
        Ok(wire::ImportResponse {
            imported_resources: imported.into_iter().collect(),
            diagnostics: outcome.diagnostics.to_wire(),
        })
    }
}
