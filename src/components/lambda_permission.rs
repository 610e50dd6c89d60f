//! What lets a schedule run a function: a statement of the function's own policy.

use serde_json::Value;

use super::{
    Address, Env, Failure, Field, Observation, Outputs, Owner, Primitive, Text, Wanted, each,
    lambda_function::owner,
};
use crate::aws::ApiError;

/// A permission of EventBridge's to run a function for one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LambdaPermission {
    /// The function's name.
    pub function: String,
    /// The rule's ARN.
    pub source: Text,
}

/// The service that runs functions on schedules.
const SERVICE: &str = "events.amazonaws.com";
const ACTION: &str = "lambda:InvokeFunction";

impl LambdaPermission {
    /// The kind's name.
    pub const KIND: &str = "lambda-permission";

    /// The address of the permission to run a region's function.
    pub fn address(region: &str, function: &str) -> Address {
        Address::with(region, Self::KIND, function)
    }
}

/// The statements of a function's policy, by their ids; none where there is no function.
/// Each function is asked once, however many schedules it has.
async fn statements(env: &Env, region: &str, function: &str) -> Result<Vec<Value>, ApiError> {
    env.shared(format!("permissions {region} {function}"), || async {
        let regional = env.region(region);
        let api = regional.api("lambda", "GetPolicy");
        let call = || regional.lambda.get_policy().function_name(function).send();
        let Some(answer) = env.session.find(api, call).await? else { return Ok(Vec::new()) };
        let policy: Value =
            serde_json::from_str(answer.policy().unwrap_or_default()).unwrap_or_default();
        Ok(policy["Statement"].as_array().cloned().unwrap_or_default())
    })
    .await
}

/// Who may do what, in one text.
fn said(statement: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let condition = &statement["Condition"]["ArnLike"];
    let source = condition
        .as_object()
        .and_then(|all| all.iter().find(|(key, _)| key.eq_ignore_ascii_case("aws:SourceArn")));
    let source = source.map(|(_, value)| text(value)).unwrap_or_default();
    let who = text(&statement["Principal"]["Service"]);
    (format!("{who} {}", text(&statement["Action"])), source)
}

impl Primitive for LambdaPermission {
    const KIND: &'static str = LambdaPermission::KIND;

    fn fields(&self) -> Vec<Field> {
        let anew = super::Effect::Replace;
        vec![
            Field::new("allows", format!("{SERVICE} {ACTION}")).effect(anew),
            Field::new("source", self.source.clone()).effect(anew),
        ]
    }

    /// Of a function that is somebody else's, nothing is ours.
    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        each(wanted, |wanted| async move {
            let function = &wanted.settings.function;
            let (all, owner) =
                futures::join!(statements(env, region, function), owner(env, region, function));
            let (all, owner) = (all?, owner?);
            let own = all.iter().find(|one| one["Sid"] == wanted.name.as_str());
            let (Some(own), Some(Owner::Ours)) = (own, owner) else { return Ok(None) };
            let (allows, source) = said(own);
            let id = format!("{function} {}", wanted.name);
            Ok(Some(
                Observation::new(wanted.address.clone(), region, id)
                    .with("allows", allows)
                    .with("source", source),
            ))
        })
        .await
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let source = env.resolve(&wanted.settings.source)?;
        let regional = env.region(&wanted.region);
        let api = regional.api("lambda", "AddPermission");
        let call = || {
            let call = regional.lambda.add_permission().function_name(&wanted.settings.function);
            let call = call.statement_id(&wanted.name).action(ACTION).principal(SERVICE);
            call.source_arn(&source).send()
        };
        env.session.call_once(api, call).await?;
        Ok(Outputs::new())
    }

    /// Only what an attempt before made otherwise: AWS changes no statement, so that it is removed and made anew.
    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        if differing.is_empty() {
            return Ok(Outputs::new());
        }
        Self::delete(env, found).await?;
        Self::create(env, wanted).await
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let (function, statement) = found.id.split_once(' ').unwrap_or_default();
        let regional = env.region(&found.region);
        let api = regional.api("lambda", "RemovePermission");
        let call = || {
            let call = regional.lambda.remove_permission().function_name(function);
            call.statement_id(statement).send()
        };
        Ok(env.session.remove(api, call).await?)
    }
}
