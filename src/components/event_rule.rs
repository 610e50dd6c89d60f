//! Schedules: rules of EventBridge, each with the one function that it runs.

use aws_sdk_eventbridge::types::{Rule, RuleState, Tag, Target};

use super::{
    ARN, Address, Env, Failure, Field, Observation, Outputs, Primitive, Tags, Text, Wanted, each,
    retag,
};
use crate::aws::ApiError;

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRule {
    /// What it is for.
    pub description: String,
    /// When it fires, as EventBridge writes it: `rate(1 minute)`.
    pub schedule: String,
    /// The argument that it comes from.
    pub argument: &'static str,
    /// The function's ARN.
    pub target: Text,
    /// What the function is given, in JSON.
    pub input: String,
}

/// What the names of all our rules begin with.
const PREFIX: &str = "trading-db-";
/// The id of the one target.
const TARGET: &str = "function";

impl EventRule {
    /// The kind's name.
    pub const KIND: &str = "event-rule";

    /// The address of a region's schedule for a function.
    pub fn address(region: &str, function: &str) -> Address {
        Address::with(region, Self::KIND, function)
    }
}

/// The rules of a region whose names begin like ours, in one call.
async fn rules(env: &Env, region: &str) -> Result<Vec<Rule>, ApiError> {
    let regional = env.region(region);
    let (mut found, mut page) = (Vec::new(), None::<String>);
    loop {
        let api = regional.api("events", "ListRules");
        let call = || {
            let call = regional.events.list_rules().name_prefix(PREFIX);
            call.set_next_token(page.clone()).send()
        };
        let answer = env.session.call(api, call).await?;
        found.extend(answer.rules.unwrap_or_default());
        page = answer.next_token.filter(|token| !token.is_empty());
        if page.is_none() {
            return Ok(found);
        }
    }
}

async fn targets(env: &Env, region: &str, rule: &str) -> Result<Vec<Target>, ApiError> {
    let regional = env.region(region);
    let api = regional.api("events", "ListTargetsByRule");
    let call = || regional.events.list_targets_by_rule().rule(rule).send();
    let answer = env.session.find(api, call).await?;
    Ok(answer.and_then(|answer| answer.targets).unwrap_or_default())
}

async fn tags_of(env: &Env, region: &str, arn: &str, wanted: &Tags) -> Result<Tags, ApiError> {
    let regional = env.region(region);
    let ask = || async {
        let api = regional.api("events", "ListTagsForResource");
        let call = || regional.events.list_tags_for_resource().resource_arn(arn).send();
        let answer = env.session.call(api, call).await?;
        let pairs = answer.tags().iter();
        Ok(pairs.map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect())
    };
    env.tags_of(region, arn, Some(wanted), ask).await
}

fn tags(all: &Tags) -> Vec<Tag> {
    let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build();
    all.iter().filter_map(|pair| tag(pair).ok()).collect()
}

/// Makes the rule, or changes it: the same call. Tags count at the making only.
async fn put(env: &Env, wanted: &Wanted<EventRule>) -> Result<String, Failure> {
    let regional = env.region(&wanted.region);
    let api = regional.api("events", "PutRule");
    let call = || {
        let call = regional.events.put_rule().name(&wanted.name).state(RuleState::Enabled);
        let call = call.schedule_expression(&wanted.settings.schedule);
        let call = call.description(&wanted.settings.description);
        call.set_tags(Some(tags(&wanted.tags))).send()
    };
    let answer = env.session.call(api, call).await?;
    Ok(answer.rule_arn().unwrap_or_default().to_owned())
}

/// EventBridge answers with success whatever becomes of the entries (aws-facts 1.5).
async fn aim(env: &Env, wanted: &Wanted<EventRule>) -> Result<(), Failure> {
    let function = env.resolve(&wanted.settings.target)?;
    let target = Target::builder().id(TARGET).arn(function).input(&wanted.settings.input);
    let target = target.build().map_err(|error| Failure::Obstacle(error.to_string()))?;
    let regional = env.region(&wanted.region);
    let api = regional.api("events", "PutTargets");
    let call = || regional.events.put_targets().rule(&wanted.name).targets(target.clone()).send();
    let answer = env.session.call_on_new(api, call).await?;
    match answer.failed_entries().first() {
        None => Ok(()),
        Some(one) => Err(Failure::Obstacle(format!(
            "EventBridge does not take the target of {}: {} ({})",
            wanted.name,
            one.error_message().unwrap_or("it does not say why"),
            one.error_code().unwrap_or("no code"),
        ))),
    }
}

async fn remove_targets(
    env: &Env,
    region: &str,
    rule: &str,
    ids: Vec<String>,
) -> Result<(), ApiError> {
    if ids.is_empty() {
        return Ok(());
    }
    let regional = env.region(region);
    let api = regional.api("events", "RemoveTargets");
    let call = || regional.events.remove_targets().rule(rule).set_ids(Some(ids.clone())).send();
    env.session.remove(api, call).await
}

impl Primitive for EventRule {
    const KIND: &'static str = EventRule::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("schedule", &*self.schedule).from(self.argument),
            Field::new("state", "ENABLED"),
            Field::new("runs", self.target.clone()),
            Field::new("input", &*self.input).json(),
            Field::new("description", &*self.description).digest(),
        ]
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let all = &rules(env, region).await?;
        each(wanted, |wanted| async move {
            let name = &wanted.name;
            let Some(rule) = all.iter().find(|one| one.name() == Some(name)) else {
                return Ok(None);
            };
            let arn = rule.arn().unwrap_or_default();
            let (targets, tags) =
                futures::join!(targets(env, region, name), tags_of(env, region, arn, &wanted.tags));
            let (targets, tags) = (targets?, tags?);
            // All that it runs, so that another target shows.
            let runs: Vec<_> = targets.iter().map(Target::arn).collect();
            let input = targets.iter().find(|one| one.id() == TARGET).and_then(Target::input);
            Ok(Some(
                Observation::new(wanted.address.clone(), region, name)
                    .with("schedule", rule.schedule_expression().unwrap_or_default())
                    .with("state", rule.state().map_or("", RuleState::as_str))
                    .with("runs", runs.join(","))
                    .with("input", input.unwrap_or_default())
                    .with("description", rule.description().unwrap_or_default())
                    .output(ARN, arn)
                    .tagged(tags, env),
            ))
        })
        .await
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let arn = put(env, wanted).await?;
        aim(env, wanted).await?;
        Ok(Outputs::from([(ARN, arn)]))
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        let (region, name) = (&wanted.region, &wanted.name);
        let of_rule = ["schedule", "state", "description"];
        if differing.iter().any(|one| of_rule.contains(one)) {
            put(env, wanted).await?;
        }
        if differing.contains(&"runs") || differing.contains(&"input") {
            let all = targets(env, region, name).await?;
            let others = all.iter().map(Target::id).filter(|id| *id != TARGET);
            remove_targets(env, region, name, others.map(str::to_owned).collect()).await?;
            aim(env, wanted).await?;
        }
        if differing.contains(&"tags") {
            let arn = found.outputs.get(ARN).cloned().unwrap_or_default();
            let (set, gone) = retag(&found.tags, &wanted.tags);
            let regional = env.region(region);
            if !set.is_empty() {
                let api = regional.api("events", "TagResource");
                let set = tags(&set);
                let call = || {
                    let call = regional.events.tag_resource().resource_arn(&arn);
                    call.set_tags(Some(set.clone())).send()
                };
                env.session.call(api, call).await?;
            }
            if !gone.is_empty() {
                let api = regional.api("events", "UntagResource");
                let call = || {
                    let call = regional.events.untag_resource().resource_arn(&arn);
                    call.set_tag_keys(Some(gone.clone())).send()
                };
                env.session.call(api, call).await?;
            }
        }
        Ok(Outputs::new())
    }

    /// A rule with targets stays.
    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let (region, name) = (&found.region, &found.id);
        let ids = targets(env, region, name).await?;
        let ids = ids.iter().map(|one| one.id().to_owned()).collect();
        remove_targets(env, region, name, ids).await?;
        let regional = env.region(region);
        let api = regional.api("events", "DeleteRule");
        Ok(env.session.remove(api, || regional.events.delete_rule().name(name).send()).await?)
    }
}
