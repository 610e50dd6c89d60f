//! What RDS tells of an instance: failovers, failures, low storage…

use aws_sdk_rds::types::EventSubscription;

use super::{
    ARN, Address, Env, Failure, Field, Observation, Outputs, Primitive, Readiness, Text, Wanted,
    db_subnet_group::{rds_tags, rds_tags_of, retag_rds},
};
use crate::aws::{ApiError, Progress};

/// Categories of RDS's events that somebody on call wants to hear of.
pub const CATEGORIES: [&str; 8] = [
    "availability",
    "deletion",
    "failover",
    "failure",
    "low storage",
    "maintenance",
    "read replica",
    "recovery",
];

/// What RDS says of one whose instances are all gone, until one of them is named again (AWS's own resource for
/// CloudFormation, #551).
const SOURCELESS: &str = "all-sources-deleted";

/// An event subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbEventSubscription {
    /// The topic's ARN.
    pub topic: Text,
    /// The instance.
    pub source: String,
}

impl DbEventSubscription {
    /// The kind's name.
    pub const KIND: &str = "db-event-subscription";

    /// The address of a region's subscription.
    pub fn address(region: &str) -> Address {
        Address::new(region, Self::KIND)
    }
}

async fn describe(
    env: &Env,
    region: &str,
    name: &str,
) -> Result<Option<EventSubscription>, ApiError> {
    let regional = env.region(region);
    let api = regional.api("rds", "DescribeEventSubscriptions");
    let call = || regional.rds.describe_event_subscriptions().subscription_name(name).send();
    let answer = env.session.find(api, call).await?;
    Ok(answer.and_then(|answer| answer.event_subscriptions_list?.into_iter().next()))
}

fn sorted(all: &[String]) -> String {
    let mut all = all.to_vec();
    all.sort();
    all.join(",")
}

/// RDS needs a moment after each change.
async fn active(env: &Env, region: &str, name: &str) -> Result<(), Failure> {
    let wait = env.session.wait(|| async {
        Ok(match describe(env, region, name).await? {
            Some(one) if one.status() == Some("active") => Progress::Done(()),
            Some(one) => match one.status().unwrap_or_default() {
                state @ ("no-permission" | "topic-not-exist") => {
                    Progress::Failed(format!("RDS says {state} of the event subscription {name}"))
                }
                state => Progress::Pending(state.to_owned()),
            },
            None => Progress::Unseen(format!("the event subscription {name} is gone")),
        })
    });
    Ok(wait.await?)
}

impl Primitive for DbEventSubscription {
    const KIND: &'static str = DbEventSubscription::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("topic", self.topic.clone()),
            Field::new("source", &*self.source),
            Field::new("categories", CATEGORIES.join(",")),
            Field::new("enabled", "true"),
            Field::new("state", "active"),
        ]
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let mut found = Vec::new();
        for wanted in wanted {
            let Some(one) = describe(env, region, &wanted.name).await? else { continue };
            if one.status() == Some("deleting") {
                continue;
            }
            let arn = one.event_subscription_arn().unwrap_or_default();
            let tags = rds_tags_of(env, region, arn, Some(&wanted.tags)).await?;
            // RDS has given up on the topic, or all instances are gone: naming them again mends that.
            let (state, readiness) = match one.status().unwrap_or_default() {
                "active" => ("active", Readiness::Ready),
                "no-permission" => ("no-permission", Readiness::Ready),
                "topic-not-exist" => ("topic-not-exist", Readiness::Ready),
                SOURCELESS => (SOURCELESS, Readiness::Ready),
                state => ("active", Readiness::Busy(state.into())),
            };
            found.push(
                Observation::new(wanted.address.clone(), region, &wanted.name)
                    .with("topic", one.sns_topic_arn().unwrap_or_default())
                    .with("source", sorted(one.source_ids_list()))
                    .with("categories", sorted(one.event_categories_list()))
                    .with("enabled", one.enabled().unwrap_or(false).to_string())
                    .with("state", state)
                    .output(ARN, arn)
                    .readiness(readiness)
                    .tagged(tags, env),
            );
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let settings = &wanted.settings;
        let topic = env.resolve(&settings.topic)?;
        let regional = env.region(&wanted.region);
        let api = regional.api("rds", "CreateEventSubscription");
        let categories = CATEGORIES.map(str::to_owned).to_vec();
        let call = || {
            let call = regional.rds.create_event_subscription().subscription_name(&wanted.name);
            let call = call.sns_topic_arn(&topic).source_type("db-instance");
            let call = call.source_ids(&settings.source).enabled(true);
            let call = call.set_event_categories(Some(categories.clone()));
            call.set_tags(Some(rds_tags(&wanted.tags))).send()
        };
        let answer = env.session.call_once(api, call).await?;
        let arn = answer.event_subscription().and_then(|one| one.event_subscription_arn());
        let arn = arn.unwrap_or_default().to_owned();
        active(env, &wanted.region, &wanted.name).await?;
        Ok(Outputs::from([(ARN, arn)]))
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        let (region, name, settings) = (&wanted.region, &wanted.name, &wanted.settings);
        let regional = env.region(region);
        // It may have come to that since it was found, while its instance is made anew.
        let now = describe(env, region, name).await?;
        if now.is_some_and(|one| one.status() == Some(SOURCELESS)) {
            add_source(env, wanted).await?;
            active(env, region, name).await?;
        } else if !differing.contains(&"state") {
            active(env, region, name).await?;
        }
        if differing.iter().any(|one| ["topic", "categories", "enabled", "state"].contains(one)) {
            let topic = env.resolve(&settings.topic)?;
            let api = regional.api("rds", "ModifyEventSubscription");
            let categories = CATEGORIES.map(str::to_owned).to_vec();
            let call = || {
                let call = regional.rds.modify_event_subscription().subscription_name(name);
                let call = call.sns_topic_arn(&topic).source_type("db-instance").enabled(true);
                call.set_event_categories(Some(categories.clone())).send()
            };
            env.session.call(api, call).await?;
            active(env, region, name).await?;
        }
        if differing.contains(&"source") {
            let has = found.settings.get("source").cloned().unwrap_or_default();
            let has: Vec<&str> = has.split(',').filter(|one| !one.is_empty()).collect();
            if !has.contains(&settings.source.as_str()) {
                add_source(env, wanted).await?;
            }
            for other in has.into_iter().filter(|one| *one != settings.source) {
                let api = regional.api("rds", "RemoveSourceIdentifierFromSubscription");
                let call = || {
                    let call = regional.rds.remove_source_identifier_from_subscription();
                    call.subscription_name(name).source_identifier(other).send()
                };
                env.session.remove(api, call).await?;
            }
        }
        if differing.contains(&"tags") {
            let arn = found.outputs.get(ARN).cloned().unwrap_or_default();
            retag_rds(env, region, &arn, &found.tags, &wanted.tags).await?;
        }
        Ok(Outputs::new())
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let regional = env.region(&found.region);
        let api = regional.api("rds", "DeleteEventSubscription");
        let call = || regional.rds.delete_event_subscription().subscription_name(&found.id).send();
        env.session.remove(api, call).await?;
        let gone = env.session.wait(|| async {
            let left = describe(env, &found.region, &found.id).await?;
            Ok(left.map_or(Progress::Done(()), |_| Progress::Pending("being deleted".into())))
        });
        Ok(gone.await?)
    }
}

async fn add_source(env: &Env, wanted: &Wanted<DbEventSubscription>) -> Result<(), ApiError> {
    let regional = env.region(&wanted.region);
    let api = regional.api("rds", "AddSourceIdentifierToSubscription");
    let call = || {
        let call = regional.rds.add_source_identifier_to_subscription();
        call.subscription_name(&wanted.name).source_identifier(&wanted.settings.source).send()
    };
    env.session.call(api, call).await.map(|_| ())
}
