//! What the host does with each call.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use tokio::time::timeout;
use trading::plugin::{Type, Value, from_msgpack, go_plugin_wire as go, to_msgpack, wire};

use super::toy::{Toy, object};
use crate::support::core::{Core, texts};

fn apply(name: &str) -> wire::ApplyRequest {
    wire::ApplyRequest {
        type_name: "toy".into(),
        prior_state: Some(null()),
        planned_state: Some(object(name, None)),
        config: Some(object(name, None)),
        planned_private: b"kept".to_vec(),
        provider_meta: None,
    }
}

fn null() -> wire::DynamicValue {
    wire::DynamicValue { msgpack: vec![0xc0], json: vec![] }
}

fn decoded(value: Option<wire::DynamicValue>) -> Value {
    let of = Toy::new().resource().schema.object_type();
    from_msgpack(&value.unwrap().msgpack, &of).unwrap()
}

#[tokio::test]
async fn the_schema_says_what_was_declared() {
    let mut core = Core::start(Arc::new(Toy::new())).await;
    let schema = core.provider.get_provider_schema(wire::Empty {}).await.unwrap().into_inner();
    let capabilities = schema.server_capabilities.unwrap();
    assert!(capabilities.plan_destroy && capabilities.get_provider_schema_optional);
    let block = schema.resource_schemas["toy"].block.clone().unwrap();
    let attribute = |name: &str| block.attributes.iter().find(|one| one.name == name).unwrap();
    assert!(attribute("name").required && !attribute("name").computed);
    assert!(attribute("size").optional && attribute("size").computed);
    assert!(attribute("id").computed && !attribute("id").optional);
    assert!(attribute("secret").write_only);
    let inner = attribute("inner");
    assert!(inner.nested_type.is_some() && inner.r#type.is_empty(), "never both types");
}

#[tokio::test]
async fn what_is_write_only_is_null_in_every_answer() {
    let mut core = Core::start(Arc::new(Toy::new())).await;
    let given = object("a", Some("password"));
    let is_clean = |value: Option<wire::DynamicValue>| {
        let value = decoded(value);
        let Value::Sequence(inner) = value.get("inner") else { panic!("inner is a list") };
        value.get("secret").is_null() && inner[0].get("hidden").is_null()
    };
    let plan = wire::PlanRequest {
        type_name: "toy".into(),
        prior_state: Some(null()),
        proposed_new_state: Some(given.clone()),
        config: Some(given.clone()),
        ..Default::default()
    };
    let planned = core.provider.plan_resource_change(plan).await.unwrap().into_inner();
    assert!(is_clean(planned.planned_state));
    let request = wire::ApplyRequest { planned_state: Some(given.clone()), ..apply("a") };
    let applied = core.provider.apply_resource_change(request).await.unwrap().into_inner();
    assert!(is_clean(applied.new_state));
    let read = wire::ReadRequest {
        type_name: "toy".into(),
        current_state: Some(given),
        ..Default::default()
    };
    assert!(is_clean(core.provider.read_resource(read).await.unwrap().into_inner().new_state));
}

#[tokio::test]
async fn a_data_source_is_declared_checked_and_read_and_fails_without_an_error_of_grpc() {
    let mut core = Core::start(Arc::new(Toy::new())).await;
    let schema = core.provider.get_provider_schema(wire::Empty {}).await.unwrap().into_inner();
    assert!(schema.data_source_schemas.contains_key("toy"));
    let metadata = core.provider.get_metadata(wire::Empty {}).await.unwrap().into_inner();
    assert_eq!(metadata.data_sources[0].type_name, "toy");

    let of = Type::Object(vec![("name".into(), Type::String), ("seen".into(), Type::String)]);
    let config = |name: Value| {
        let value = Value::Mapping(Default::default()).with("name", name).with("seen", Value::Null);
        Some(wire::DynamicValue { msgpack: to_msgpack(&value, &of), json: vec![] })
    };
    let ask = |type_name: &str, name: Value| wire::ReadDataRequest {
        type_name: type_name.into(),
        config: config(name),
        ..Default::default()
    };
    let answer = core.provider.read_data_source(ask("toy", Value::string("look"))).await;
    let state = answer.unwrap().into_inner().state.unwrap();
    let state = from_msgpack(&state.msgpack, &of).unwrap();
    assert_eq!(state.get("seen").as_str(), Some("a toy"));
    assert_eq!(state.get("name").as_str(), Some("look"));
    for (type_name, name, said) in [
        ("toy", Value::string("fail"), "It failed"),
        ("toy", Value::string("panic"), "has a bug"),
        ("toy", Value::Unknown, "was read too early"),
        ("nothing", Value::string("look"), "nothing is no data source"),
    ] {
        let answer = core.provider.read_data_source(ask(type_name, name)).await;
        let answer = answer.unwrap().into_inner();
        assert!(answer.state.is_none());
        assert!(texts(&answer.diagnostics)[0].contains(said), "{:?}", texts(&answer.diagnostics));
    }
    let request = wire::TypedConfigRequest {
        type_name: "toy".into(),
        config: config(Value::Null),
        ..Default::default()
    };
    let answer = core.provider.validate_data_resource_config(request).await.unwrap().into_inner();
    assert_eq!(answer.diagnostics.len(), 1, "{:?}", texts(&answer.diagnostics));
}

#[tokio::test]
async fn a_thing_that_is_gone_is_read_as_null() {
    let mut core = Core::start(Arc::new(Toy::new())).await;
    let read = wire::ReadRequest {
        type_name: "toy".into(),
        current_state: Some(object("gone", None)),
        ..Default::default()
    };
    let answer = core.provider.read_resource(read).await.unwrap().into_inner();
    assert!(decoded(answer.new_state).is_null());
}

#[tokio::test]
async fn a_panic_becomes_a_diagnostic_and_keeps_state_and_private() {
    let mut core = Core::start(Arc::new(Toy::new())).await;
    let answer = core.provider.apply_resource_change(apply("panic")).await.unwrap().into_inner();
    assert!(texts(&answer.diagnostics)[0].contains("bug"), "{:?}", answer.diagnostics);
    assert_eq!(answer.new_state, Some(null()));
    assert_eq!(answer.private, b"kept");
    core.provider.apply_resource_change(apply("after")).await.unwrap();
}

#[tokio::test]
async fn a_value_of_the_wrong_shape_is_an_error_with_a_path_and_never_a_grpc_error() {
    let mut core = Core::start(Arc::new(Toy::new())).await;
    // {"zones": ["a", true]}
    let wrong = b"\x81\xa5zones\x92\xa1a\xc3".to_vec();
    let config = Some(wire::DynamicValue { msgpack: wrong, json: vec![] });
    let request = wire::ConfigRequest { config };
    let answer = core.provider.validate_provider_config(request).await.unwrap().into_inner();
    let text = &texts(&answer.diagnostics)[0];
    assert!(text.starts_with("Error zones.1:") && text.contains("expected string"), "{text}");

    let garbage = Some(wire::DynamicValue { msgpack: vec![0xc1, 0xff], json: vec![] });
    let request = wire::ApplyRequest { planned_state: garbage, ..apply("x") };
    let answer = core.provider.apply_resource_change(request).await.unwrap().into_inner();
    assert_eq!(answer.diagnostics.len(), 1);
    assert_eq!(answer.new_state, Some(null()), "the prior state stays");

    let request = wire::ApplyRequest { type_name: "nothing".into(), ..apply("x") };
    let answer = core.provider.apply_resource_change(request).await.unwrap().into_inner();
    assert!(texts(&answer.diagnostics)[0].contains("nothing is no resource"));
}

#[tokio::test]
async fn states_of_older_versions_are_upgraded_and_of_newer_ones_refused() {
    let mut core = Core::start(Arc::new(Toy::new())).await;
    let request = |version, json: serde_json::Value| wire::UpgradeRequest {
        type_name: "toy".into(),
        version,
        raw_state: Some(wire::RawState {
            json: json.to_string().into_bytes(),
            flatmap: Default::default(),
        }),
    };
    let old = request(0, serde_json::json!({"title": "a", "size": 0.1}));
    let answer = core.provider.upgrade_resource_state(old).await.unwrap().into_inner();
    let state = decoded(answer.upgraded_state);
    assert_eq!(state.get("name"), &Value::string("a"));

    let same = request(1, serde_json::json!({"name": "b", "dropped": 1}));
    let answer = core.provider.upgrade_resource_state(same).await.unwrap().into_inner();
    assert_eq!(decoded(answer.upgraded_state).get("name"), &Value::string("b"));

    let newer = request(2, serde_json::json!({"name": "c"}));
    let answer = core.provider.upgrade_resource_state(newer).await.unwrap().into_inner();
    assert!(texts(&answer.diagnostics)[0].contains("newer version"));
}

#[tokio::test]
async fn an_interrupt_ends_the_operation_and_the_server_stays_up() {
    let toy = Toy::new();
    let resource = toy.resource();
    let mut core = Core::start(Arc::new(toy)).await;
    let mut second = core.provider.clone();
    let running = tokio::spawn(async move { second.apply_resource_change(apply("wait")).await });
    resource.begun.notified().await;
    core.provider.stop_provider(wire::Empty {}).await.unwrap();
    let answer = running.await.unwrap().unwrap().into_inner();
    assert!(texts(&answer.diagnostics)[0].contains("interrupted"));
    assert_eq!(decoded(answer.new_state).get("name"), &Value::string("wait"));
    core.provider.get_metadata(wire::Empty {}).await.unwrap();
}

#[tokio::test]
async fn shutdown_waits_for_the_operation_and_then_the_server_ends() {
    let toy = Toy::new();
    let resource = toy.resource();
    let core = Core::start(Arc::new(toy)).await;
    let mut second = core.provider.clone();
    let running = tokio::spawn(async move { second.apply_resource_change(apply("wait")).await });
    resource.begun.notified().await;
    core.shutdown().await;
    assert_eq!(resource.finished.load(Ordering::SeqCst), 1, "Shutdown answered too early");
    assert!(running.await.unwrap().is_ok(), "the state of the apply arrived");
    let ended = timeout(Duration::from_secs(20), core.server).await;
    ended.expect("the server ends after Shutdown").unwrap().unwrap();
}

#[tokio::test]
async fn an_apply_outlives_its_connection_and_the_process_ends_without_terraform() {
    let toy = Toy::new();
    let resource = toy.resource();
    let core = Core::start(Arc::new(toy)).await;
    let mut second = core.provider.clone();
    let running = tokio::spawn(async move { second.apply_resource_change(apply("wait")).await });
    resource.begun.notified().await;
    running.abort();
    let _ = running.await;
    let Core { provider, channel, server, .. } = core;
    drop((provider, channel));
    let ended = timeout(Duration::from_secs(20), server).await;
    ended.expect("an orphan ends by itself").unwrap().unwrap();
    assert_eq!(resource.finished.load(Ordering::SeqCst), 1, "the apply was dropped");
}

#[tokio::test]
async fn go_plugins_streams_stay_silent_until_shutdown() {
    let core = Core::start(Arc::new(Toy::new())).await;
    let mut stdio = go::grpc_stdio_client::GrpcStdioClient::new(core.channel.clone());
    let mut stream = stdio.stream_stdio(go::Nothing {}).await.unwrap().into_inner();
    core.shutdown().await;
    let next = timeout(Duration::from_secs(20), stream.message()).await;
    assert!(next.expect("the stream ends on Shutdown").unwrap().is_none());
}
