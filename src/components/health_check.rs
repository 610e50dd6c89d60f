//! Health checks that follow a metric, by the settings that they copy from an alarm (aws-facts 4).

use aws_sdk_route53::types::{
    AlarmIdentifier, CloudWatchRegion, HealthCheck as AwsCheck, HealthCheckConfig, HealthCheckType,
    InsufficientDataHealthStatus, TagResourceType,
};

use super::{
    ARN, Address, Alarm, Env, Failure, Field, GLOBAL, ID, Observation, Outputs, Owner, Primitive,
    Tags, Text, Wanted,
    route53::{reference, referred, set_tags, tags_of},
};
use crate::aws::ApiError;

/// A health check.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// The alarm whose metric it follows.
    pub alarm: Alarm,
    /// The alarm's name.
    pub alarm_name: String,
    /// The alarm's address.
    pub alarm_address: Address,
    /// Whether it is healthy when the alarm's condition holds.
    pub inverted: bool,
}

impl HealthCheck {
    /// The kind's name.
    pub const KIND: &str = "health-check";

    /// The address of the check of that purpose.
    pub fn address(purpose: &str) -> Address {
        Address::with(GLOBAL, Self::KIND, purpose)
    }

    fn identifier(&self) -> Result<AlarmIdentifier, Failure> {
        let region = CloudWatchRegion::from(self.alarm_address.place());
        let built = AlarmIdentifier::builder().region(region).name(&self.alarm_name).build();
        built.map_err(|error| Failure::Obstacle(error.to_string()))
    }
}

/// All health checks of the account.
async fn all(env: &Env, region: &str) -> Result<Vec<AwsCheck>, ApiError> {
    env.shared("health checks".to_owned(), || async {
        let regional = env.region(region);
        let (mut found, mut page) = (Vec::new(), None::<String>);
        loop {
            let api = regional.api("route53", "ListHealthChecks");
            let call = || regional.route53.list_health_checks().set_marker(page.clone()).send();
            let answer = env.session.call(api, call).await?;
            page = answer.next_marker().map(str::to_owned);
            found.extend(answer.health_checks);
            if page.is_none() {
                return Ok(found);
            }
        }
    })
    .await
}

/// The cluster's own checks: purpose and id.
pub(super) async fn own(env: &Env, region: &str) -> Result<Vec<(String, String)>, ApiError> {
    let all = all(env, region).await?;
    let ours = all.iter().filter_map(|one| {
        let (tags, purpose) = referred(one.caller_reference())?;
        let is_ours = env.scope.owner(&tags) == Owner::Ours;
        is_ours.then(|| (purpose.to_owned(), one.id().to_owned()))
    });
    Ok(ours.collect())
}

/// What a check copied of its alarm, in the words of [`Alarm::condition`].
fn copied(check: &AwsCheck) -> String {
    let Some(copy) = check.cloud_watch_alarm_configuration() else { return String::new() };
    let dimensions = copy.dimensions().iter();
    Alarm::condition_of(
        copy.namespace(),
        copy.metric_name(),
        dimensions.map(|one| (one.name().to_owned(), one.value().to_owned())).collect(),
        copy.statistic().as_str(),
        copy.comparison_operator().as_str(),
        copy.threshold(),
        copy.evaluation_periods(),
        copy.evaluation_periods(),
        copy.period(),
    )
}

impl Primitive for HealthCheck {
    const KIND: &'static str = HealthCheck::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("alarm", Text::Ref(self.alarm_address.clone(), ARN)),
            Field::new("condition", self.alarm.condition()),
            Field::new("inverted", self.inverted.to_string()),
            Field::new("without_data", "LastKnownStatus"),
            Field::new("disabled", "false"),
        ]
    }

    /// They have no names: the reference that they were made with tells.
    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let mut found = Vec::new();
        for one in all(env, region).await? {
            let Some((by_reference, purpose)) = referred(one.caller_reference()) else { continue };
            let wanted = wanted.iter().find(|wanted| wanted.address == Self::address(purpose));
            if env.scope.owner(&by_reference) != Owner::Ours {
                continue;
            }
            let Some(config) = one.health_check_config() else { continue };
            let (partition, account) = (&env.scope.partition, &env.scope.account);
            let alarm = config.alarm_identifier().map(|alarm| {
                let (region, name) = (alarm.region().as_str(), alarm.name());
                format!("arn:{partition}:cloudwatch:{region}:{account}:alarm:{name}")
            });
            let without_data = config.insufficient_data_health_status();
            let none = Tags::new();
            let tags = wanted.map_or(&none, |wanted| &wanted.tags);
            let kind = TagResourceType::Healthcheck;
            let tags = tags_of(env, region, kind, one.id(), tags).await?;
            let mut seen = Observation::new(Self::address(purpose), region, one.id())
                .with("alarm", alarm.unwrap_or_default())
                .with("condition", copied(&one))
                .with("inverted", config.inverted().unwrap_or(false).to_string())
                .with("without_data", without_data.map_or("", |status| status.as_str()))
                .with("disabled", config.disabled().unwrap_or(false).to_string())
                .output(ID, one.id())
                .output(ARN, format!("arn:{partition}:route53:::healthcheck/{}", one.id()))
                .tagged(tags, env);
            seen.owner = Owner::Ours;
            found.push(seen);
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let settings = &wanted.settings;
        let reference = reference(env, wanted.address.qualifier())?;
        let config = HealthCheckConfig::builder()
            .r#type(HealthCheckType::CloudwatchMetric)
            .alarm_identifier(settings.identifier()?)
            .insufficient_data_health_status(InsufficientDataHealthStatus::LastKnownStatus)
            .inverted(settings.inverted)
            .build()
            .map_err(|error| Failure::Obstacle(error.to_string()))?;
        let regional = env.region(&wanted.region);
        let api = regional.api("route53", "CreateHealthCheck");
        let call = || {
            let call = regional.route53.create_health_check().caller_reference(&reference);
            call.health_check_config(config.clone()).send()
        };
        let answer = env.session.call_once(api, call).await?;
        let id = answer.health_check().map(|one| one.id().to_owned()).unwrap_or_default();
        let kind = TagResourceType::Healthcheck;
        set_tags(env, &wanted.region, kind, &id, &Tags::new(), &wanted.tags).await?;
        let arn = format!("arn:{}:route53:::healthcheck/{id}", env.scope.partition);
        Ok(Outputs::from([(ID, id), (ARN, arn)]))
    }

    /// Naming the alarm again copies its settings again.
    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        let kind = TagResourceType::Healthcheck;
        if differing.contains(&"tags") {
            set_tags(env, &wanted.region, kind, &found.id, &found.tags, &wanted.tags).await?;
        }
        if differing.iter().any(|one| *one != "tags") {
            let settings = &wanted.settings;
            let identifier = settings.identifier()?;
            let regional = env.region(&wanted.region);
            let api = regional.api("route53", "UpdateHealthCheck");
            let call = || {
                let call = regional.route53.update_health_check().health_check_id(&found.id);
                let call = call.alarm_identifier(identifier.clone()).inverted(settings.inverted);
                let last = InsufficientDataHealthStatus::LastKnownStatus;
                call.insufficient_data_health_status(last).disabled(false).send()
            };
            env.session.call(api, call).await?;
        }
        Ok(Outputs::new())
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let regional = env.region(&found.region);
        let api = regional.api("route53", "DeleteHealthCheck");
        let call = || regional.route53.delete_health_check().health_check_id(&found.id).send();
        Ok(env.session.remove(api, call).await?)
    }
}
