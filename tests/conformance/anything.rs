//! Whatever comes in a call: there is an answer, and where it cannot be taken, an error in it.

use std::{sync::Arc, time::Duration};

use proptest::{collection::vec, prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use tokio::time::timeout;
use tonic::{Response, Status};
use trading::{
    plugin::{
        Provider as _, Service, Type, Value, from_json, from_msgpack, to_msgpack,
        wire::{self, provider_client::ProviderClient, provider_server::ProviderServer},
    },
    provider::TradingProvider,
};

use crate::{
    simulation::{abuse::anything, crash::changes_something},
    support::{
        aws::simulate,
        core::{Core, texts},
        user::User,
    },
};

/// How many messages of each call are drawn.
const CASES: usize = 150;

fn null() -> wire::DynamicValue {
    wire::DynamicValue { msgpack: vec![0xc0], json: vec![] }
}

/// A whole cluster's arguments, encoded as Terraform does.
fn whole() -> Vec<u8> {
    let provider = TradingProvider::new();
    let resource = provider.resources().remove(0);
    let schema = resource.schema();
    let site =
        |vpc: &str| serde_json::json!({"vpc_id": vpc, "allowed_cidr_blocks": ["10.0.0.0/16"]});
    let config = serde_json::json!({
        "environment_suffix": "prod", "primary": site("vpc-1"), "dr": site("vpc-2"),
        "tags": {"team": "trading"}, "backup": {"retention_days": 7},
    });
    let of = schema.object_type();
    let config: Value = from_json(&config, &of).unwrap();
    to_msgpack(&schema.with_defaults(&config), &of)
}

/// Bytes of any kind, and these with a part of them cut off or overwritten.
fn bytes(whole: &[u8]) -> BoxedStrategy<Vec<u8>> {
    let (whole, length) = (whole.to_vec(), whole.len());
    let broken = (0..length, vec(any::<u8>(), 0..8), any::<bool>());
    let broken = broken.prop_map(move |(at, bytes, cut)| {
        let mut all = whole.clone();
        all.truncate(if cut { at } else { length });
        for (offset, byte) in bytes.into_iter().enumerate() {
            match all.get_mut(at + offset) {
                Some(place) => *place = byte,
                None => all.push(byte),
            }
        }
        all
    });
    prop_oneof![vec(any::<u8>(), 0..64), broken].boxed()
}

fn value(whole: &[u8]) -> BoxedStrategy<Option<wire::DynamicValue>> {
    let json = prop_oneof![
        Just(Vec::new()),
        vec(any::<u8>(), 0..64),
        ".{0,40}".prop_map(String::into_bytes)
    ];
    let value =
        (bytes(whole), json).prop_map(|(msgpack, json)| wire::DynamicValue { msgpack, json });
    prop_oneof![1 => Just(None), 1 => Just(Some(null())), 4 => value.prop_map(Some)].boxed()
}

fn type_name() -> BoxedStrategy<String> {
    prop_oneof![4 => Just("trading_dr_cluster".to_owned()), 1 => ".{0,20}"].boxed()
}

fn private() -> BoxedStrategy<Vec<u8>> {
    vec(any::<u8>(), 0..32).boxed()
}

/// What is told to the provider within the process, encoded as on the wire.
type Client = ProviderClient<ProviderServer<Service>>;

fn client(provider: TradingProvider) -> Client {
    ProviderClient::new(ProviderServer::new(Service::new(Arc::new(provider))))
}

/// Draws messages, and has each answered.
struct Draw {
    provider: Client,
    runner: TestRunner,
}

impl Draw {
    fn of(provider: TradingProvider) -> Self {
        Self { provider: client(provider), runner: TestRunner::deterministic() }
    }

    fn one<T: std::fmt::Debug>(&mut self, of: &impl Strategy<Value = T>) -> T {
        drawn(&mut self.runner, of)
    }
}

/// The answer to a message: in time, and never an error of gRPC, which Terraform could only call a bug.
async fn answered<T>(message: &str, call: impl Future<Output = Result<Response<T>, Status>>) -> T {
    answered_within(Duration::from_secs(20), message, call).await
}

async fn answered_within<T>(
    limit: Duration,
    message: &str,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> T {
    let answer = timeout(limit, call).await;
    let answer = answer.unwrap_or_else(|_| panic!("no answer to {message}"));
    answer.unwrap_or_else(|status| panic!("{status} for {message}")).into_inner()
}

#[tokio::test]
async fn whatever_a_message_holds_it_is_answered_and_an_apply_never_loses_the_state() {
    let mut draw = Draw::of(TradingProvider::new());
    let whole = whole();
    let (value, type_name, private) = (value(&whole), type_name(), private());
    let (mut refused, mut taken) = (0, 0);
    let mut count = |found: &[wire::Diagnostic]| {
        for text in texts(found) {
            assert!(text.len() > 30 && !text.contains("has a bug"), "{text}");
        }
        *(if found.is_empty() { &mut taken } else { &mut refused }) += 1;
    };
    for _ in 0..CASES {
        let config = wire::ConfigRequest { config: draw.one(&value) };
        let told = format!("{config:?}");
        let found = answered(&told, draw.provider.validate_provider_config(config)).await;
        count(&found.diagnostics);

        let config = wire::TypedConfigRequest {
            type_name: draw.one(&type_name),
            config: draw.one(&value),
            ..Default::default()
        };
        let told = format!("{config:?}");
        let same = config.clone();
        let found = answered(&told, draw.provider.validate_resource_config(config)).await;
        count(&found.diagnostics);
        let found = answered(&told, draw.provider.validate_data_resource_config(same)).await;
        count(&found.diagnostics);

        let request = wire::UpgradeRequest {
            type_name: draw.one(&type_name),
            version: draw.one(&prop_oneof![Just(0i64), any::<i64>()]),
            raw_state: draw.one(&prop::option::of(
                bytes(&whole).prop_map(|json| wire::RawState { json, flatmap: Default::default() }),
            )),
        };
        let told = format!("{request:?}");
        let answer = answered(&told, draw.provider.upgrade_resource_state(request)).await;
        count(&answer.diagnostics);
        assert!(answer.upgraded_state.is_some() || !answer.diagnostics.is_empty(), "{told}");

        let state = draw.one(&value);
        let request = wire::ReadRequest {
            type_name: draw.one(&type_name),
            current_state: state.clone(),
            private: draw.one(&private),
            ..Default::default()
        };
        let told = format!("{request:?}");
        let answer = answered(&told, draw.provider.read_resource(request)).await;
        assert!(answer.new_state.is_some() || state.is_none(), "the state is lost: {told}");
        count(&answer.diagnostics);

        let request = wire::PlanRequest {
            type_name: draw.one(&type_name),
            prior_state: draw.one(&value),
            proposed_new_state: draw.one(&value),
            config: draw.one(&value),
            prior_private: draw.one(&private),
            ..Default::default()
        };
        let told = format!("{request:?}");
        let answer = answered(&told, draw.provider.plan_resource_change(request)).await;
        assert!(answer.planned_state.is_some() || !answer.diagnostics.is_empty(), "{told}");
        count(&answer.diagnostics);

        let prior = draw.one(&value);
        let request = wire::ApplyRequest {
            type_name: draw.one(&type_name),
            prior_state: prior.clone(),
            planned_state: draw.one(&value),
            config: draw.one(&value),
            planned_private: draw.one(&private),
            provider_meta: draw.one(&value),
        };
        let told = format!("{request:?}");
        let answer = answered(&told, draw.provider.apply_resource_change(request)).await;
        assert!(!answer.diagnostics.is_empty(), "nothing is configured to apply it: {told}");
        assert!(answer.new_state.is_some() || prior.is_none(), "the state is lost: {told}");
        count(&answer.diagnostics);

        let request = wire::ImportRequest {
            type_name: draw.one(&type_name),
            id: draw.one(&".{0,40}"),
            ..Default::default()
        };
        let told = format!("{request:?}");
        let answer = answered(&told, draw.provider.import_resource_state(request)).await;
        assert!(answer.imported_resources.is_empty() && !answer.diagnostics.is_empty(), "{told}");
        count(&answer.diagnostics);

        let request = wire::ConfigureRequest {
            terraform_version: draw.one(&".{0,10}"),
            config: draw.one(&vec(any::<u8>(), 1..20).prop_map(|msgpack| {
                // Never a configuration that could be taken: what follows is asked of one that is not configured.
                Some(wire::DynamicValue { msgpack: [vec![0xc1], msgpack].concat(), json: vec![] })
            })),
            ..Default::default()
        };
        let told = format!("{request:?}");
        let answer = answered(&told, draw.provider.configure_provider(request)).await;
        assert!(!answer.diagnostics.is_empty(), "{told}");

        let request = wire::ReadDataRequest {
            type_name: draw.one(&type_name),
            config: draw.one(&value),
            ..Default::default()
        };
        let told = format!("{request:?}");
        let answer = answered(&told, draw.provider.read_data_source(request)).await;
        count(&answer.diagnostics);

        let request = wire::MoveRequest {
            source_type_name: draw.one(&type_name),
            target_type_name: draw.one(&type_name),
            source_provider_address: draw.one(&".{0,40}"),
        };
        let told = format!("{request:?}");
        let answer = answered(&told, draw.provider.move_resource_state(request)).await;
        assert!(answer.target_state.is_none() && !answer.diagnostics.is_empty(), "{told}");
    }
    assert!(refused > CASES * 4 && taken > CASES / 4, "{refused} refused, {taken} taken");
}

/// How many messages of each call are drawn where there is a cluster.
const LIVES: usize = 40;
/// Longer than any run may take, of the account's time.
const RUN: Duration = Duration::from_secs(24 * 3600);

/// To a provider that has AWS, and a cluster there. What it did, if anything, is what a state, a plan and a configuration
/// of these asked for: whoever has the state of before goes on with what there is.
#[test]
fn whatever_a_message_of_a_cluster_holds_it_is_answered_and_the_cluster_can_be_gone_on_with() {
    let mut runner = TestRunner::deterministic();
    simulate(async || {
        let (made, made_of) = User::with_cluster().await;
        let schema = made.resource.schema();
        let of = schema.object_type();
        let encoded = |value: &Value| to_msgpack(value, &of);
        let state = encoded(made.state.value.as_ref().unwrap());
        let mut other = made_of.clone();
        other["tags"] = serde_json::json!({"team": "risk"});
        let [written, other] =
            [&made_of, &other].map(|one| encoded(&schema.with_defaults(&made.value(one))));
        let message = |bytes: &[u8]| wire::DynamicValue { msgpack: bytes.to_vec(), json: vec![] };
        // What Terraform would send, beside what it would not.
        let either = |bytes: &[u8]| prop_oneof![Just(Some(message(bytes))), value(bytes)].boxed();
        let state = either(&state);
        let written = prop_oneof![either(&written), either(&other)].boxed();
        let kept = made.state.private.clone();
        let private = prop_oneof![Just(kept), private()].boxed();
        let (mut refused, mut taken, mut applied) = (0, 0, 0);
        for _ in 0..LIVES {
            let sandbox = aws_sandbox::Sandbox::with_world(made.sandbox.world(), 1.0);
            let mut provider = client(User::provider_for(&sandbox).await);
            let mut count = |told: &str, found: &[wire::Diagnostic]| {
                for text in texts(found) {
                    assert!(text.len() > 30 && !text.contains("has a bug"), "{told}: {text}");
                }
                let is_refused =
                    found.iter().any(|one| one.severity() == wire::diagnostic::Severity::Error);
                *(if is_refused { &mut refused } else { &mut taken }) += 1;
            };
            let request = wire::ReadRequest {
                type_name: "trading_dr_cluster".into(),
                current_state: drawn(&mut runner, &state),
                private: drawn(&mut runner, &private),
                ..Default::default()
            };
            let told = format!("{request:?}");
            let answer = answered_within(RUN, &told, provider.read_resource(request)).await;
            count(&told, &answer.diagnostics);

            let (prior, config) = (drawn(&mut runner, &state), drawn(&mut runner, &written));
            let request = wire::PlanRequest {
                type_name: "trading_dr_cluster".into(),
                prior_state: prior.clone(),
                proposed_new_state: drawn(&mut runner, &written),
                config: config.clone(),
                prior_private: drawn(&mut runner, &private),
                ..Default::default()
            };
            let told = format!("{request:?}");
            let answer = answered_within(RUN, &told, provider.plan_resource_change(request)).await;
            assert!(answer.planned_state.is_some() || !answer.diagnostics.is_empty(), "{told}");
            count(&told, &answer.diagnostics);
            // What was planned, or anything.
            let is_other = !answer.diagnostics.is_empty() || drawn(&mut runner, &any::<bool>());
            let request = wire::ApplyRequest {
                type_name: "trading_dr_cluster".into(),
                prior_state: if is_other { drawn(&mut runner, &state) } else { prior },
                planned_state: if is_other {
                    drawn(&mut runner, &state)
                } else {
                    answer.planned_state
                },
                config: if is_other { drawn(&mut runner, &written) } else { config },
                planned_private: if is_other {
                    drawn(&mut runner, &private)
                } else {
                    answer.planned_private
                },
                provider_meta: None,
            };
            let prior = request.prior_state.clone();
            let told = format!("{request:?}");
            let answer = answered_within(RUN, &told, provider.apply_resource_change(request)).await;
            assert!(answer.new_state.is_some() || prior.is_none(), "the state is lost: {told}");
            count(&told, &answer.diagnostics);
            applied += usize::from(sandbox.calls().iter().any(changes_something));

            let request = wire::ImportRequest {
                type_name: "trading_dr_cluster".into(),
                id: drawn(&mut runner, &"prod|.{0,40}"),
                ..Default::default()
            };
            let told = format!("{request:?}");
            let answer = answered_within(RUN, &told, provider.import_resource_state(request)).await;
            count(&told, &answer.diagnostics);

            let request = wire::ReadDataRequest {
                type_name: "trading_dr_cluster".into(),
                config: drawn(&mut runner, &written),
                ..Default::default()
            };
            let told = format!("{request:?}");
            let answer = answered_within(RUN, &told, provider.read_data_source(request)).await;
            count(&told, &answer.diagnostics);

            let mut honest = User::of(sandbox).await;
            honest.state = made.state.clone();
            honest.must_apply(&made_of).await;
            honest.must_be_unchanged(&made_of).await;
        }
        assert!(applied > 5, "{applied} applies did something");
        assert!(refused > LIVES && taken > LIVES / 2, "{refused} refused, {taken} taken");
    });
}

fn drawn<T: std::fmt::Debug>(runner: &mut TestRunner, of: &impl Strategy<Value = T>) -> T {
    of.new_tree(runner).unwrap().current()
}

/// Values of the right types, of which nothing else is right.
#[tokio::test]
async fn whatever_the_provider_and_its_data_sources_are_told_is_taken_or_refused_with_a_path() {
    let provider = TradingProvider::new();
    let configuration = provider.schema().object_type();
    let sources = provider.data_sources();
    let sources: Vec<_> = sources
        .iter()
        .map(|one| (one.type_name().to_owned(), one.schema().object_type()))
        .collect();
    let mut draw = Draw::of(TradingProvider::new());
    let (mut refused, mut taken) = (0, 0);
    for _ in 0..CASES {
        let config = typed(&mut draw, &configuration);
        let told = format!("{config:?}");
        let call = draw.provider.validate_provider_config(wire::ConfigRequest { config });
        let mut found = answered(&told, call).await.diagnostics;
        *(if found.is_empty() { &mut taken } else { &mut refused }) += 1;
        for (name, of) in &sources {
            let config = wire::TypedConfigRequest {
                type_name: name.clone(),
                config: typed(&mut draw, of),
                ..Default::default()
            };
            let told = format!("{config:?}");
            let call = draw.provider.validate_data_resource_config(config);
            found.extend(answered(&told, call).await.diagnostics);
        }
        for one in &found {
            let steps = one.attribute.as_ref().map_or(0, |path| path.steps.len());
            assert!(steps > 0, "{told}: no path in {:?}", texts(std::slice::from_ref(one)));
        }
    }
    assert!(refused > CASES / 4 && taken > CASES / 30, "{refused} refused, {taken} taken");
}

/// A value of a type, encoded as Terraform does.
fn typed(draw: &mut Draw, of: &Type) -> Option<wire::DynamicValue> {
    loop {
        let mut json = draw.one(&anything(of));
        // Most of what is drawn has something wrong in it somewhere: at times there is one member only.
        let (alone, at) = (draw.one(&any::<bool>()), draw.one(&(0..100usize)));
        if let Some(all) = json.as_object_mut().filter(|all| alone && !all.is_empty()) {
            let kept = all.keys().nth(at % all.len()).cloned();
            all.retain(|name, _| Some(name) == kept.as_ref());
        }
        // What JSON cannot carry exactly, Terraform does not send either.
        if let Ok(value) = from_json(&json, of) {
            return Some(wire::DynamicValue { msgpack: to_msgpack(&value, of), json: vec![] });
        }
    }
}

/// Whatever one has that the other has not, or has otherwise; the other may have more that is null.
fn must_keep(path: &str, old: &serde_json::Value, new: &serde_json::Value, lost: &mut Vec<String>) {
    match (old, new) {
        (serde_json::Value::Object(old), serde_json::Value::Object(new)) => {
            for (name, old) in old {
                let path = format!("{path}.{name}");
                match new.get(name) {
                    Some(new) => must_keep(&path, old, new, lost),
                    // What is null, JSON may leave out.
                    None if old.is_null() => {}
                    None => lost.push(format!("{path} is gone")),
                }
            }
            let more = new.iter().filter(|(name, new)| !old.contains_key(*name) && !new.is_null());
            lost.extend(more.map(|(name, new)| format!("{path}.{name} came: {new}")));
        }
        (serde_json::Value::Array(all), serde_json::Value::Array(others)) => {
            // Sets have no order.
            let is_kept = all.len() == others.len() && all.iter().all(|one| others.contains(one));
            lost.extend((!is_kept).then(|| format!("{path}: {all:?} became {others:?}")));
        }
        _ if old == new => {}
        _ => lost.push(format!("{path}: {old} became {new}")),
    }
}

/// The state that the first version of the schema wrote stays one that can be gone on with.
#[tokio::test]
async fn the_recorded_state_of_version_0_is_upgraded_to_the_schema_of_today() {
    let mut core = Core::start(Arc::new(TradingProvider::new())).await;
    let fixture: serde_json::Value =
        serde_json::from_str(include_str!("../fixtures/state-v0.json")).unwrap();
    let json = fixture["attributes"].to_string().into_bytes();
    let request = wire::UpgradeRequest {
        type_name: "trading_dr_cluster".into(),
        version: fixture["schema_version"].as_i64().unwrap(),
        raw_state: Some(wire::RawState { json, flatmap: Default::default() }),
    };
    let answer = core.provider.upgrade_resource_state(request).await.unwrap().into_inner();
    assert_eq!(texts(&answer.diagnostics), Vec::<String>::new());
    let of = TradingProvider::new().resources().remove(0).schema().object_type();
    let state = from_msgpack(&answer.upgraded_state.unwrap().msgpack, &of).unwrap();
    let Value::Mapping(members) = &state else { panic!("{state:?}") };
    // What it knew is kept to the last member, and what it did not know yet is null.
    assert!(!members.is_empty());
    let mut lost = Vec::new();
    must_keep("", &fixture["attributes"], &state.to_json(), &mut lost);
    assert_eq!(lost, Vec::<String>::new());
    assert_eq!(state.get("environment_suffix").as_str(), Some("prod"));
    assert_eq!(state.get("components").entries().count(), 33);
}
