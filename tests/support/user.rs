//! A user of Terraform with one cluster, in virtual time: plans and applies, and minds what core would mind.

use std::sync::Arc;

use aws_sandbox::{Effect, Fault, Rule, Sandbox};
use serde_json::{Value as Json, json};
use trading::{
    plugin::{
        ApplyInput, CancellationToken, Context, Diagnostics, Outcome, PlanInput, Planned, Private,
        Provider as _, Resource, Severity, Value, from_json,
    },
    provider::{TradingProvider, archive::archive},
};

use super::{aws, rules};

/// An empty archive of the agent: what runs is in this process.
const ARCHIVE: &[u8] = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// What Terraform keeps.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub value: Option<Value>,
    pub private: Private,
    pub tainted: bool,
}

pub struct User {
    pub sandbox: Sandbox,
    /// How AWS is reached, for the next process.
    aws: aws::Way,
    /// The agent's archive, for the next process.
    archive: Option<Vec<u8>>,
    provider: TradingProvider,
    pub resource: Arc<dyn Resource>,
    pub state: State,
    /// Interrupts what is running.
    pub cancel: CancellationToken,
}

/// The lines of diagnostics, each as `path: summary — detail`.
pub fn lines(diagnostics: &Diagnostics) -> Vec<String> {
    let each = diagnostics.iter().map(|one| {
        let path = one.path.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{path}: {} — {}", one.summary, one.detail)
    });
    each.collect()
}

pub fn errors(diagnostics: &Diagnostics) -> Vec<String> {
    let mut found = Diagnostics::new();
    for one in diagnostics.iter().filter(|one| one.severity == Severity::Error) {
        match &one.path {
            Some(path) => found.error_at(path.clone(), one.summary.clone(), one.detail.clone()),
            None => found.error(one.summary.clone(), one.detail.clone()),
        }
    }
    lines(&found)
}

/// The configuration that the tests begin with, as JSON.
pub fn configuration(sandbox: &Sandbox) -> Json {
    let network = sandbox.with(|world| world.network());
    json!({
        "environment_suffix": "prod",
        "primary": {
            "vpc_id": network["us-east-1"]["vpc_id"],
            "allowed_security_group_ids": [network["us-east-1"]["application_security_group_id"]],
        },
        "dr": {
            "vpc_id": network["us-west-2"]["vpc_id"],
            "allowed_security_group_ids": [network["us-west-2"]["application_security_group_id"]],
        },
        "tags": {"team": "trading"},
    })
}

/// What Terraform does to a cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Deed {
    Create,
    Update,
    Destroy,
}

/// A change of each kind of component that can change in place.
pub fn change(config: &mut Json) {
    config["database"] = json!({
        "instance_class": "db.r6g.large", "port": 6000, "parameters": {"max_connections": "500"},
    });
    config["backup"] = json!({"retention_days": 10});
    config["tags"] = json!({"team": "risk"});
    config["dr"]["allowed_cidr_blocks"] = json!(["192.168.0.0/24"]);
    config["dns"] = json!({"name": "db.orders.example", "ttl": 20});
    config["monitoring"] = json!({"cpu_percent": 70});
    config["notifications"] = json!({"emails": ["oncall@example.com"]});
    config["failover"] = json!({"reserve_concurrency": false});
    config["drill"] = json!({"schedule": "cron(0 9 * * ? *)"});
}

/// Sets a member at a dotted path.
pub fn set(config: &mut Json, path: &str, value: Json) {
    let place = path.split('.').fold(config, |place, name| &mut place[name]);
    *place = value;
}

impl User {
    pub async fn new() -> Self {
        Self::of(Sandbox::new(1.0)).await
    }

    pub async fn of(sandbox: Sandbox) -> Self {
        Self::by(sandbox, aws::Way::default()).await
    }

    /// One who has made a cluster, and its configuration.
    pub async fn with_cluster() -> (Self, Json) {
        let mut user = Self::new().await;
        let config = configuration(&user.sandbox);
        user.must_apply(&config).await;
        (user, config)
    }

    /// One who reaches AWS in a way of their own.
    pub async fn by(sandbox: Sandbox, way: aws::Way) -> Self {
        sandbox.model_functions();
        let archive = Some(ARCHIVE.to_vec());
        let provider = Self::provider(&sandbox, &way, &archive).await;
        let resource = provider.resources().remove(0);
        let (state, cancel) = (State::default(), CancellationToken::new());
        Self { sandbox, aws: way, archive, provider, resource, state, cancel }
    }

    async fn provider(
        sandbox: &Sandbox,
        way: &aws::Way,
        bytes: &Option<Vec<u8>>,
    ) -> TradingProvider {
        let aws = aws::connect_like(sandbox, way).await;
        TradingProvider::connected(aws, bytes.clone().map(archive))
    }

    /// A provider whose functions run in this process as well.
    pub async fn provider_for(sandbox: &Sandbox) -> TradingProvider {
        sandbox.model_functions();
        Self::provider(sandbox, &aws::Way::default(), &Some(ARCHIVE.to_vec())).await
    }

    /// As a new process: nothing but the state is remembered. What interrupts stays the same.
    async fn replace_process(&mut self) {
        self.provider = Self::provider(&self.sandbox, &self.aws, &self.archive).await;
        self.resource = self.provider.resources().remove(0);
    }

    /// As a new process that nobody has interrupted.
    pub async fn restart(&mut self) {
        self.replace_process().await;
        self.cancel = CancellationToken::new();
    }

    /// Terraform configures the provider before each walk.
    pub async fn begin_walk(&self) {
        assert!(!self.provider.configure(Value::Null, "1.11.4").await.has_errors());
    }

    /// The same with another archive of the agent, or without one.
    pub async fn restart_with(&mut self, archive: Option<Vec<u8>>) {
        self.archive = archive;
        self.restart().await;
    }

    fn context(&self) -> Context {
        Context { cancel: self.cancel.clone() }
    }

    pub fn value(&self, config: &Json) -> Value {
        from_json(config, &self.resource.schema().object_type()).unwrap()
    }

    /// Validates, refreshes and plans, as `terraform plan` does.
    pub async fn plan(&mut self, config: &Json) -> Planned {
        let config = self.value(config);
        self.plan_value(config).await
    }

    pub async fn plan_value(&mut self, config: Value) -> Planned {
        self.begin_walk().await;
        let resource = Arc::clone(&self.resource);
        let schema = resource.schema();
        let mut found = schema.validate(&config);
        if !found.has_errors() {
            found.extend(self.resource.validate(&config));
        }
        if found.has_errors() {
            return Planned { diagnostics: found, ..Default::default() };
        }
        self.refresh().await;
        let prior = self.state.value.clone().filter(|_| !self.state.tainted);
        let private = if prior.is_some() { self.state.private.clone() } else { Vec::new() };
        let input = PlanInput { prior, config: Some(config.clone()), private };
        let planned = self.resource.plan(self.context(), input).await;
        if !planned.diagnostics.has_errors() {
            rules::check_plan(schema, Some(&config), planned.state.as_ref());
        }
        planned
    }

    /// Plans as somebody would who has no state.
    pub async fn plan_without_state(&mut self, config: &Json) -> Planned {
        let kept = std::mem::take(&mut self.state);
        let planned = self.plan(config).await;
        self.state = kept;
        planned
    }

    /// Imports into an empty state.
    pub async fn import(&mut self, id: &str) -> Diagnostics {
        let outcome = self.resource.import(self.context(), id).await;
        if outcome.state.is_some() {
            self.keep(&outcome, false);
        }
        outcome.diagnostics
    }

    /// Reads what exists into the state.
    pub async fn refresh(&mut self) -> Diagnostics {
        let Some(value) = self.state.value.clone() else { return Diagnostics::new() };
        let outcome = self.resource.read(self.context(), value, self.state.private.clone()).await;
        if let Some(state) = &outcome.state {
            assert!(state.is_wholly_known());
        }
        self.state.value = outcome.state;
        self.state.private = outcome.private;
        outcome.diagnostics
    }

    /// Plans and applies as `terraform apply` does: the apply is another process, which plans again before it
    /// acts; what is to be made anew is planned before the old is destroyed.
    pub async fn apply(&mut self, config: &Json) -> Diagnostics {
        let mut planned = self.plan(config).await;
        if planned.diagnostics.has_errors() {
            return planned.diagnostics;
        }
        let anew = self.state.tainted || !planned.requires_replace.is_empty();
        if anew && !self.state.tainted {
            planned = self.plan_again(config, None, planned.private).await;
            if planned.diagnostics.has_errors() {
                return planned.diagnostics;
            }
        }
        self.replace_process().await;
        if anew && self.state.value.is_some() {
            let found = self.destroy_in_this_walk().await;
            if found.has_errors() {
                return found;
            }
        }
        let again = self.plan_unread(config).await;
        if again.diagnostics.has_errors() {
            return again.diagnostics;
        }
        let (first, second) = (planned.state.as_ref().unwrap(), again.state.as_ref().unwrap());
        if let Err(why) = rules::check_replanned(first, second) {
            let mut found = Diagnostics::new();
            found.error("Provider produced inconsistent final plan", why);
            return found;
        }
        self.apply_planned(config, again).await
    }

    /// Plans as `-refresh=false` does.
    pub async fn plan_unseen(&mut self, config: &Json) -> Planned {
        self.begin_walk().await;
        self.plan_unread(config).await
    }

    /// Plans what the state has, without reading it first.
    async fn plan_unread(&mut self, config: &Json) -> Planned {
        let prior = self.state.value.clone();
        let private = if prior.is_some() { self.state.private.clone() } else { Vec::new() };
        self.plan_again(config, prior, private).await
    }

    /// Plans in the same walk.
    pub async fn plan_again(
        &mut self,
        config: &Json,
        prior: Option<Value>,
        private: Private,
    ) -> Planned {
        let config = self.value(config);
        let input = PlanInput { prior, config: Some(config.clone()), private };
        let planned = self.resource.plan(self.context(), input).await;
        if !planned.diagnostics.has_errors() {
            rules::check_plan(self.resource.schema(), Some(&config), planned.state.as_ref());
        }
        planned
    }

    /// Applies a plan that was made before.
    pub async fn apply_planned(&mut self, config: &Json, planned: Planned) -> Diagnostics {
        let prior = self.state.value.clone();
        let input = ApplyInput {
            prior: prior.clone(),
            planned: planned.state.clone(),
            config: Some(self.value(config)),
            private: planned.private,
        };
        let outcome = self.resource.apply(self.context(), input).await;
        let failed = outcome.diagnostics.has_errors();
        if !failed {
            let (planned, new) = (planned.state.unwrap(), outcome.state.clone().unwrap());
            rules::check_applied(self.resource.schema(), &planned, &new);
        }
        self.keep(&outcome, failed && prior.is_none());
        outcome.diagnostics
    }

    fn keep(&mut self, outcome: &Outcome, tainted: bool) {
        let tainted = tainted && outcome.state.is_some();
        self.state =
            State { value: outcome.state.clone(), private: outcome.private.clone(), tainted };
    }

    pub async fn destroy(&mut self) -> Diagnostics {
        self.begin_walk().await;
        self.destroy_in_this_walk().await
    }

    /// Destroys in the same walk.
    pub async fn destroy_in_this_walk(&mut self) -> Diagnostics {
        let prior = self.state.value.clone();
        let planned = self.plan_destroy().await;
        if planned.diagnostics.has_errors() {
            return planned.diagnostics;
        }
        rules::check_plan(self.resource.schema(), None, planned.state.as_ref());
        let input = ApplyInput { prior, planned: None, config: None, private: planned.private };
        let outcome = self.resource.apply(self.context(), input).await;
        self.keep(&outcome, false);
        outcome.diagnostics
    }

    /// Plans in the same walk that what the state has goes.
    pub async fn plan_destroy(&mut self) -> Planned {
        let (prior, private) = (self.state.value.clone(), self.state.private.clone());
        let input = PlanInput { prior, config: None, private };
        self.resource.plan(self.context(), input).await
    }

    /// Applies and expects success.
    pub async fn must_apply(&mut self, config: &Json) {
        let found = self.apply(config).await;
        assert!(!found.has_errors(), "{:#?}", errors(&found));
    }

    /// Plans and expects success.
    pub async fn must_plan(&mut self, config: &Json) -> Value {
        let planned = self.plan(config).await;
        assert!(!planned.diagnostics.has_errors(), "{:#?}", errors(&planned.diagnostics));
        planned.state.unwrap()
    }

    /// Whether a plan of this configuration would show nothing.
    pub async fn must_be_unchanged(&mut self, config: &Json) {
        let planned = self.must_plan(config).await;
        assert_eq!(differences(self.state.value.as_ref().unwrap(), &planned), Vec::<String>::new());
    }

    pub async fn must_destroy(&mut self) {
        let found = self.destroy().await;
        assert!(!found.has_errors(), "{:#?}", errors(&found));
        assert!(self.state.value.is_none());
    }

    /// The components whose lines a plan changes: `address: old → new`.
    pub fn component_changes(&self, planned: &Value) -> Vec<String> {
        let all = differences(self.state.value.as_ref().unwrap(), planned).into_iter();
        all.filter_map(|one| one.strip_prefix("components ").map(str::to_owned)).collect()
    }

    /// Their addresses.
    pub fn changed_components(&self, planned: &Value) -> Vec<String> {
        let all = self.component_changes(planned).into_iter();
        all.map(|one| one.split(": ").next().unwrap_or_default().to_owned()).collect()
    }

    /// AWS takes no call of this operation any more.
    pub fn refuse(&self, operation: &str) {
        let rule = Rule { operation: Some(operation.into()), ..Rule::default() };
        let refused =
            Effect::Fail { code: "ValidationError".into(), message: "no".into(), status: 400 };
        self.sandbox.add_fault(Fault::new(rule, refused));
    }

    pub fn leftovers(&self) -> Vec<String> {
        self.sandbox.with(|world| world.leftovers())
    }
}

/// Where two values differ: `path: old → new`.
pub fn differences(one: &Value, other: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk("", one, other, &mut found);
    found
}

fn walk(path: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Mapping(one), Value::Mapping(other)) => {
            let keys: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path} {key}") };
                let get = |all: &std::collections::BTreeMap<String, Value>| {
                    all.get(key).cloned().unwrap_or(Value::Null)
                };
                walk(&path, &get(one), &get(other), found);
            }
        }
        (one, other) if one == other => {}
        (one, other) => found.push(format!("{path}: {} → {}", shown(one), shown(other))),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Unknown => "(known after apply)".into(),
        other => other.to_json().to_string(),
    }
}
