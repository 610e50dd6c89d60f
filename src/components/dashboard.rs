//! Dashboards: what somebody looks at who was woken.

use super::{
    ARN, Address, Env, Failure, Field, Observation, Outputs, Owner, Primitive, Wanted,
    canonical_json,
};
use crate::aws::ApiError;

/// A dashboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dashboard {
    /// What it shows, in CloudWatch's JSON.
    pub body: String,
    /// A line of its text that no other dashboard has: dashboards have no tags that could be relied on.
    pub marker: String,
}

impl Dashboard {
    /// The kind's name.
    pub const KIND: &str = "dashboard";

    /// The address of a region's dashboard.
    pub fn address(region: &str) -> Address {
        Address::new(region, Self::KIND)
    }
}

impl Primitive for Dashboard {
    const KIND: &'static str = Dashboard::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![Field::new("body", canonical_json(&self.body)).digest()]
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let regional = env.region(region);
        let mut found = Vec::new();
        for wanted in wanted {
            let api = regional.api("cloudwatch", "GetDashboard");
            let call = || regional.cloudwatch.get_dashboard().dashboard_name(&wanted.name).send();
            let Some(answer) = env.session.find(api, call).await? else { continue };
            let body = answer.dashboard_body().unwrap_or_default();
            let mut seen = Observation::new(wanted.address.clone(), region, &wanted.name)
                .with("body", canonical_json(body))
                .output(ARN, answer.dashboard_arn().unwrap_or_default());
            if !body.contains(&wanted.settings.marker) {
                seen.owner = Owner::Foreign("it does not show this cluster".into());
            }
            found.push(seen);
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let regional = env.region(&wanted.region);
        let api = regional.api("cloudwatch", "PutDashboard");
        let call = || {
            let call = regional.cloudwatch.put_dashboard().dashboard_name(&wanted.name);
            call.dashboard_body(&wanted.settings.body).send()
        };
        let answer = env.session.call(api.clone(), call).await?;
        if let Some(complaint) = answer.dashboard_validation_messages().first() {
            let text = complaint.message().unwrap_or_default();
            tracing::warn!("CloudWatch on the dashboard {}: {text}", wanted.name);
        }
        let (partition, account) = (&env.scope.partition, &env.scope.account);
        let arn = format!("arn:{partition}:cloudwatch::{account}:dashboard/{}", wanted.name);
        Ok(Outputs::from([(ARN, arn)]))
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        _: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        if differing.is_empty() { Ok(Outputs::new()) } else { Self::create(env, wanted).await }
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let regional = env.region(&found.region);
        let api = regional.api("cloudwatch", "DeleteDashboards");
        let call = || regional.cloudwatch.delete_dashboards().dashboard_names(&found.id).send();
        Ok(env.session.remove(api, call).await?)
    }
}
