//! Versions of Terraform that were not at hand, by what their core sends (minors of the protocol: terraform-facts; which
//! of its parts came when: the protocol's own files): a whole life of a thing with each.

use std::sync::Arc;

use tonic::{
    Code, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};
use trading::{
    plugin::{Value, from_msgpack, wire},
    provider::TradingProvider,
};

use super::toy::{Toy, object};
use crate::support::core::{Core, texts};

/// A version of Terraform, by what matters to a provider.
struct Version {
    terraform: &'static str,
    /// The minor of protocol 6 that it speaks.
    minor: u32,
}

/// The first version of each minor, and the last one that there is.
const VERSIONS: [Version; 10] = [
    Version { terraform: "1.0.11", minor: 0 },
    Version { terraform: "1.2.9", minor: 2 },
    Version { terraform: "1.3.10", minor: 3 },
    Version { terraform: "1.6.6", minor: 4 },
    Version { terraform: "1.8.5", minor: 5 },
    Version { terraform: "1.9.8", minor: 6 },
    Version { terraform: "1.10.5", minor: 7 },
    Version { terraform: "1.11.4", minor: 8 },
    Version { terraform: "1.12.2", minor: 9 },
    Version { terraform: "1.15.0", minor: 10 },
];

/// What newer versions ask a provider for that has none of it; core takes UNIMPLEMENTED for an answer.
const OPTIONAL: [(u32, &str); 8] = [
    (5, "GetFunctions"),
    (5, "CallFunction"),
    (7, "ValidateEphemeralResourceConfig"),
    (9, "UpgradeResourceIdentity"),
    (10, "ValidateListResourceConfig"),
    (10, "ListResource"),
    (10, "PlanAction"),
    (10, "ConfigureStateStore"),
];

impl Version {
    /// What core says that it can do, where it says so yet.
    fn capabilities(&self) -> Option<wire::ClientCapabilities> {
        (self.minor >= 6).then_some(wire::ClientCapabilities {
            deferral_allowed: false,
            write_only_attributes_allowed: self.minor >= 8,
        })
    }
}

/// Messages as bytes, for what is newer than what the provider knows.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(into, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let length = bytes::Buf::remaining(from);
        Ok(Some(bytes::Buf::copy_to_bytes(from, length).to_vec()))
    }
}

async fn raw(core: &Core, method: &str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
    let mut grpc = Grpc::new(core.channel.clone());
    grpc.ready().await.unwrap();
    let path: PathAndQuery = format!("/tfplugin6.Provider/{method}").parse().unwrap();
    let answer = grpc.unary(tonic::Request::new(message), path, Raw).await?;
    Ok(answer.into_inner())
}

/// A field that nobody knows yet: number 200, bytes.
fn of_tomorrow(mut message: Vec<u8>) -> Vec<u8> {
    message.extend([0xc2, 0x0c, 3, b'n', b'e', b'w']);
    message
}

fn null() -> wire::DynamicValue {
    wire::DynamicValue { msgpack: vec![0xc0], json: vec![] }
}

fn decoded(value: &Option<wire::DynamicValue>) -> Value {
    let of = Toy::new().resource().schema.object_type();
    from_msgpack(&value.as_ref().unwrap().msgpack, &of).unwrap()
}

/// Creates, keeps and destroys a thing.
async fn live(core: &mut Core, version: &Version) {
    let told = version.terraform;
    let capabilities = version.capabilities();
    let client = &mut core.provider;
    let config = wire::TypedConfigRequest {
        type_name: "toy".into(),
        config: Some(object("a", None)),
        client_capabilities: capabilities,
    };
    let valid = client.validate_resource_config(config).await.unwrap().into_inner();
    assert_eq!(texts(&valid.diagnostics), Vec::<String>::new(), "{told}");
    let configure = wire::ConfigureRequest {
        terraform_version: told.into(),
        config: Some(null()),
        client_capabilities: capabilities,
    };
    let configured = client.configure_provider(configure).await.unwrap().into_inner();
    assert_eq!(texts(&configured.diagnostics), Vec::<String>::new(), "{told}");
    let plan = wire::PlanRequest {
        type_name: "toy".into(),
        prior_state: Some(null()),
        proposed_new_state: Some(object("a", None)),
        config: Some(object("a", None)),
        client_capabilities: capabilities,
        ..Default::default()
    };
    let planned = client.plan_resource_change(plan).await.unwrap().into_inner();
    assert_eq!(texts(&planned.diagnostics), Vec::<String>::new(), "{told}");
    let apply = wire::ApplyRequest {
        type_name: "toy".into(),
        prior_state: Some(null()),
        planned_state: planned.planned_state,
        config: Some(object("a", None)),
        planned_private: planned.planned_private,
        provider_meta: None,
    };
    let applied = client.apply_resource_change(apply).await.unwrap().into_inner();
    assert_eq!(decoded(&applied.new_state).get("name"), &Value::string("a"), "{told}");

    // The next run begins with what is stored, as JSON.
    let json = serde_json::json!({"name": "a", "size": 3, "id": null, "inner": [{"hidden": null}]});
    let upgrade = wire::UpgradeRequest {
        type_name: "toy".into(),
        version: 1,
        raw_state: Some(wire::RawState { json: json.to_string().into(), flatmap: [].into() }),
    };
    let stored = client.upgrade_resource_state(upgrade).await.unwrap().into_inner();
    assert_eq!(decoded(&stored.upgraded_state), decoded(&applied.new_state), "{told}");
    let read = wire::ReadRequest {
        type_name: "toy".into(),
        current_state: stored.upgraded_state,
        private: applied.private,
        client_capabilities: capabilities,
        ..Default::default()
    };
    let seen = client.read_resource(read).await.unwrap().into_inner();
    assert_eq!(decoded(&seen.new_state), decoded(&applied.new_state), "{told}");

    // Before 1.3, a destroy was not planned.
    let mut planned_private = seen.private;
    if version.minor >= 3 {
        let plan = wire::PlanRequest {
            type_name: "toy".into(),
            prior_state: seen.new_state.clone(),
            proposed_new_state: Some(null()),
            config: Some(null()),
            prior_private: planned_private,
            client_capabilities: capabilities,
            ..Default::default()
        };
        let planned = client.plan_resource_change(plan).await.unwrap().into_inner();
        assert_eq!(decoded(&planned.planned_state), Value::Null, "{told}");
        planned_private = planned.planned_private;
    }
    let destroy = wire::ApplyRequest {
        type_name: "toy".into(),
        prior_state: seen.new_state,
        planned_state: Some(null()),
        config: Some(null()),
        planned_private,
        provider_meta: None,
    };
    let gone = client.apply_resource_change(destroy).await.unwrap().into_inner();
    assert_eq!(texts(&gone.diagnostics), Vec::<String>::new(), "{told}");
}

#[tokio::test]
async fn a_thing_lives_with_every_minor_of_the_protocol() {
    for version in &VERSIONS {
        let mut core = Core::start(Arc::new(Toy::new())).await;
        // From 1.6 on, core may know the schema from another process.
        if version.minor < 4 {
            let schema = core.provider.get_provider_schema(wire::Empty {}).await.unwrap();
            assert!(schema.into_inner().resource_schemas.contains_key("toy"));
        }
        if version.minor >= 9 {
            let answer = core.provider.get_resource_identity_schemas(wire::Empty {}).await;
            assert_eq!(texts(&answer.unwrap().into_inner().diagnostics), Vec::<String>::new());
        }
        live(&mut core, version).await;
        for (since, method) in OPTIONAL {
            if version.minor >= since {
                let answer = raw(&core, method, Vec::new()).await;
                assert_eq!(answer.unwrap_err().code(), Code::Unimplemented, "{method}");
            }
        }
        core.shutdown().await;
    }
}

#[tokio::test]
async fn what_is_write_only_needs_a_terraform_that_does_not_store_it() {
    let mut core = Core::start(Arc::new(Toy::new())).await;
    for version in &VERSIONS {
        let config = wire::TypedConfigRequest {
            type_name: "toy".into(),
            config: Some(object("a", Some("password"))),
            client_capabilities: version.capabilities(),
        };
        let valid = core.provider.validate_resource_config(config).await.unwrap().into_inner();
        let told = texts(&valid.diagnostics);
        if version.minor >= 8 {
            assert_eq!(told, Vec::<String>::new(), "{}", version.terraform);
        } else {
            assert_eq!(told.len(), 2, "{}: {told:#?}", version.terraform);
            for (told, place) in told.iter().zip(["secret", "inner.0.hidden"]) {
                assert!(told.contains(&format!("{place}: ")), "{told}");
                assert!(told.contains("needs Terraform 1.11 or newer"), "{told}");
                assert!(!told.contains("password"), "{told}");
            }
        }
    }
}

#[tokio::test]
async fn what_tomorrows_terraform_adds_to_a_message_is_passed_over() {
    let core = Core::start(Arc::new(TradingProvider::new())).await;
    for method in ["GetProviderSchema", "GetMetadata", "GetResourceIdentitySchemas"] {
        let today = raw(&core, method, Vec::new()).await.unwrap();
        assert_eq!(raw(&core, method, of_tomorrow(Vec::new())).await.unwrap(), today, "{method}");
    }
    let config = |type_name: &str| wire::TypedConfigRequest {
        type_name: type_name.into(),
        config: Some(null()),
        client_capabilities: None,
    };
    let message = prost::Message::encode_to_vec(&config("trading_dr_cluster"));
    let today = raw(&core, "ValidateResourceConfig", message.clone()).await.unwrap();
    let tomorrow = raw(&core, "ValidateResourceConfig", of_tomorrow(message)).await.unwrap();
    assert_eq!(tomorrow, today);
}
