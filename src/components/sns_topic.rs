//! The topic that everything notable is told to, encrypted with our key.

use std::collections::HashMap;

use aws_sdk_sns::types::Tag;

use super::{
    ARN, Address, Env, Failure, Field, Observation, Outputs, Owner, Primitive, Tags, Text, Wanted,
    canonical_json, retag,
};
use crate::aws::ApiError;

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnsTopic {
    /// The key's ARN.
    pub key: Text,
    /// Who may publish, in JSON.
    pub policy: String,
}

impl SnsTopic {
    /// The kind's name.
    pub const KIND: &str = "sns-topic";

    /// The address of a region's topic.
    pub fn address(region: &str) -> Address {
        Address::new(region, Self::KIND)
    }
}

/// The ARN of a topic.
pub(super) fn arn(env: &Env, region: &str, name: &str) -> String {
    format!("arn:{}:sns:{region}:{}:{name}", env.scope.partition, env.scope.account)
}

fn tags(all: &Tags) -> Vec<Tag> {
    let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build();
    all.iter().filter_map(|pair| tag(pair).ok()).collect()
}

/// Whose a topic is, by its tags.
pub(super) async fn owner(env: &Env, region: &str, arn: &str) -> Result<Owner, ApiError> {
    let shared = env.tagged(region).await?;
    if let Some(tags) = shared.get(arn) {
        return Ok(env.scope.owner(tags));
    }
    match ask_tags(env, region, arn).await {
        Ok(tags) => Ok(env.scope.owner(&tags)),
        Err(error) if error.is_not_found() => Ok(Owner::Ours),
        Err(error) => Err(error),
    }
}

async fn ask_tags(env: &Env, region: &str, arn: &str) -> Result<Tags, ApiError> {
    let regional = env.region(region);
    let api = regional.api("sns", "ListTagsForResource");
    let call = || regional.sns.list_tags_for_resource().resource_arn(arn).send();
    let answer = env.session.call(api, call).await?;
    let pairs = answer.tags().iter();
    Ok(pairs.map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect())
}

async fn tags_of(env: &Env, region: &str, arn: &str, wanted: &Tags) -> Result<Tags, ApiError> {
    let ask = || ask_tags(env, region, arn);
    env.tags_of(region, arn, Some(wanted), ask).await
}

impl Primitive for SnsTopic {
    const KIND: &'static str = SnsTopic::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("key", self.key.clone()),
            Field::new("policy", canonical_json(&self.policy)).digest(),
        ]
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let regional = env.region(region);
        let mut found = Vec::new();
        for wanted in wanted {
            let arn = arn(env, region, &wanted.name);
            let api = regional.api("sns", "GetTopicAttributes");
            let call = || regional.sns.get_topic_attributes().topic_arn(&arn).send();
            let Some(answer) = env.session.find(api, call).await? else { continue };
            let attributes = answer.attributes.unwrap_or_default();
            let text = |name: &str| attributes.get(name).cloned().unwrap_or_default();
            let tags = tags_of(env, region, &arn, &wanted.tags).await?;
            found.push(
                Observation::new(wanted.address.clone(), region, &arn)
                    .with("key", text("KmsMasterKeyId"))
                    .with("policy", canonical_json(&text("Policy")))
                    .output(ARN, &arn)
                    .tagged(tags, env),
            );
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let settings = &wanted.settings;
        let attributes = HashMap::from([
            ("KmsMasterKeyId".to_owned(), env.resolve(&settings.key)?),
            ("Policy".to_owned(), settings.policy.clone()),
        ]);
        let regional = env.region(&wanted.region);
        let api = regional.api("sns", "CreateTopic");
        let call = || {
            let call = regional.sns.create_topic().name(&wanted.name);
            call.set_attributes(Some(attributes.clone())).set_tags(Some(tags(&wanted.tags))).send()
        };
        env.session.call(api, call).await?;
        Ok(Outputs::from([(ARN, arn(env, &wanted.region, &wanted.name))]))
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        let regional = env.region(&wanted.region);
        let (sns, arn, settings) = (&regional.sns, &found.id, &wanted.settings);
        let mut set = Vec::new();
        if differing.contains(&"key") {
            set.push(("KmsMasterKeyId", env.resolve(&settings.key)?));
        }
        if differing.contains(&"policy") {
            set.push(("Policy", settings.policy.clone()));
        }
        for (name, value) in set {
            let api = regional.api("sns", "SetTopicAttributes");
            let call = || {
                let call = sns.set_topic_attributes().topic_arn(arn).attribute_name(name);
                call.attribute_value(&value).send()
            };
            env.session.call(api, call).await?;
        }
        if differing.contains(&"tags") {
            let (set, gone) = retag(&found.tags, &wanted.tags);
            if !set.is_empty() {
                let api = regional.api("sns", "TagResource");
                let set = tags(&set);
                let call =
                    || sns.tag_resource().resource_arn(arn).set_tags(Some(set.clone())).send();
                env.session.call(api, call).await?;
            }
            if !gone.is_empty() {
                let api = regional.api("sns", "UntagResource");
                let call = || {
                    let call = sns.untag_resource().resource_arn(arn);
                    call.set_tag_keys(Some(gone.clone())).send()
                };
                env.session.call(api, call).await?;
            }
        }
        Ok(Outputs::new())
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let regional = env.region(&found.region);
        let api = regional.api("sns", "DeleteTopic");
        let call = || regional.sns.delete_topic().topic_arn(&found.id).send();
        Ok(env.session.remove(api, call).await?)
    }
}
