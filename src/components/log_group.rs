//! Log groups, made before RDS writes to them, so that they are encrypted and end with the cluster.

use aws_sdk_cloudwatchlogs::types::LogGroup as AwsGroup;

use super::{
    ARN, Address, Env, Failure, Field, Observation, Outputs, Owner, Primitive, Tags, Text, Wanted,
    each, retag,
};
use crate::aws::ApiError;

/// A log group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogGroup {
    /// The key's ARN.
    pub key: Text,
    /// How long events are kept.
    pub retention_days: i32,
}

impl LogGroup {
    /// The kind's name.
    pub const KIND: &str = "log-group";

    /// The address of a region's group for one kind of log.
    pub fn address(region: &str, log: &str) -> Address {
        Address::with(region, Self::KIND, log)
    }
}

/// What the names of all groups of ours hold, whoever writes to them.
const OURS: &str = "/trading-db-";

/// All groups that look like ours, in one list.
async fn groups(env: &Env, region: &str) -> Result<Vec<AwsGroup>, ApiError> {
    env.shared(format!("log groups {region}"), || async {
        let regional = env.region(region);
        let mut found = Vec::new();
        let mut page: Option<String> = None;
        loop {
            let api = regional.api("logs", "DescribeLogGroups");
            let call = || {
                let call = regional.logs.describe_log_groups().log_group_name_pattern(OURS);
                call.limit(50).set_next_token(page.clone()).send()
            };
            let answer = env.session.call(api, call).await?;
            page = answer.next_token().map(str::to_owned);
            found.extend(answer.log_groups.unwrap_or_default());
            if page.is_none() {
                return Ok(found);
            }
        }
    })
    .await
}

/// An ARN as the tagging operations want it: without the `:*` that DescribeLogGroups ends it with.
fn bare(arn: &str) -> &str {
    arn.strip_suffix(":*").unwrap_or(arn)
}

async fn tags_of(env: &Env, region: &str, arn: &str) -> Result<Tags, ApiError> {
    let regional = env.region(region);
    let api = regional.api("logs", "ListTagsForResource");
    let call = || regional.logs.list_tags_for_resource().resource_arn(arn).send();
    let answer = env.session.call(api, call).await?;
    Ok(answer.tags.unwrap_or_default().into_iter().collect())
}

impl Primitive for LogGroup {
    const KIND: &'static str = LogGroup::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("key", self.key.clone()),
            Field::new("retention_days", self.retention_days.to_string()),
        ]
    }

    /// RDS writes late and makes a group that was just deleted anew, without tags: under the name of an
    /// instance of ours, a group without any tag is ours as well (aws-facts 8). One with somebody's tags is theirs.
    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        each(wanted, |wanted| async move {
            let all = groups(env, region).await?;
            let own = all.iter().find(|one| one.log_group_name() == Some(&wanted.name));
            let Some(one) = own else { return Ok(None) };
            let arn = bare(one.arn().unwrap_or_default()).to_owned();
            let ask = || tags_of(env, region, &arn);
            let tags = env.tags_of(region, &arn, Some(&wanted.tags), ask).await?;
            let is_untagged = tags.is_empty();
            let days =
                one.retention_in_days().map_or_else(|| "never".into(), |days| days.to_string());
            let mut seen = Observation::new(wanted.address.clone(), region, &wanted.name)
                .with("key", one.kms_key_id().unwrap_or_default())
                .with("retention_days", days)
                .output(ARN, &arn)
                .tagged(tags, env);
            if is_untagged {
                seen.owner = Owner::Ours;
            }
            Ok(Some(seen))
        })
        .await
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let key = env.resolve(&wanted.settings.key)?;
        let regional = env.region(&wanted.region);
        let api = regional.api("logs", "CreateLogGroup");
        let tags = wanted.tags.clone();
        let call = || {
            let call = regional.logs.create_log_group().log_group_name(&wanted.name);
            call.kms_key_id(&key).set_tags(Some(tags.clone().into_iter().collect())).send()
        };
        env.session.call_once(api, call).await?;
        retain(env, wanted).await?;
        let (partition, account) = (&env.scope.partition, &env.scope.account);
        let arn =
            format!("arn:{partition}:logs:{}:{account}:log-group:{}", wanted.region, wanted.name);
        Ok(Outputs::from([(ARN, arn)]))
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        let regional = env.region(&wanted.region);
        if differing.contains(&"key") {
            let key = env.resolve(&wanted.settings.key)?;
            let api = regional.api("logs", "AssociateKmsKey");
            let call = || {
                let call = regional.logs.associate_kms_key().log_group_name(&wanted.name);
                call.kms_key_id(&key).send()
            };
            env.session.call(api, call).await?;
        }
        if differing.contains(&"retention_days") {
            retain(env, wanted).await?;
        }
        if differing.contains(&"tags") {
            let arn = found.outputs.get(ARN).cloned().unwrap_or_default();
            let (set, gone) = retag(&found.tags, &wanted.tags);
            if !set.is_empty() {
                let api = regional.api("logs", "TagResource");
                let call = || {
                    let call = regional.logs.tag_resource().resource_arn(&arn);
                    call.set_tags(Some(set.clone().into_iter().collect())).send()
                };
                env.session.call(api, call).await?;
            }
            if !gone.is_empty() {
                let api = regional.api("logs", "UntagResource");
                let call = || {
                    let call = regional.logs.untag_resource().resource_arn(&arn);
                    call.set_tag_keys(Some(gone.clone())).send()
                };
                env.session.call(api, call).await?;
            }
        }
        Ok(Outputs::new())
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let regional = env.region(&found.region);
        let api = regional.api("logs", "DeleteLogGroup");
        let call = || regional.logs.delete_log_group().log_group_name(&found.id).send();
        Ok(env.session.remove(api, call).await?)
    }
}

async fn retain(env: &Env, wanted: &Wanted<LogGroup>) -> Result<(), ApiError> {
    let regional = env.region(&wanted.region);
    let api = regional.api("logs", "PutRetentionPolicy");
    let call = || {
        let call = regional.logs.put_retention_policy().log_group_name(&wanted.name);
        call.retention_in_days(wanted.settings.retention_days).send()
    };
    env.session.call_on_new(api, call).await.map(|_| ())
}
