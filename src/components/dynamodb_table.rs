//! Tables of the agent: what a region's monitors remember, and the lease at the witness.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    SseSpecification, SseType, TableDescription, TableStatus, Tag,
};

use super::{
    ARN, Address, Effect, Env, Failure, Field, Observation, Outputs, Primitive, Readiness, Tags,
    Text, Wanted, canonical_tags,
    ledger::{CLOSED, DRILLS, FAILOVER, HOLDER, PHASE, Said, intend, read},
    retag,
};
use crate::{
    aws::{ApiError, Progress},
    contract::{CLUSTER, DESTROYING, ITEM},
};

/// A table with the agent's keys, paid per request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamodbTable {
    /// The key's ARN.
    pub key: Text,
    /// Whether it is a ledger, where operators tell the monitors what is intended.
    pub is_ledger: bool,
}

/// What a ledger says of the cluster.
const KEPT: &str = "kept";
/// The same when a destroy has begun: monitors do nothing any more.
const REMOVED: &str = "being removed";

impl DynamodbTable {
    /// The kind's name.
    pub const KIND: &str = "dynamodb-table";

    /// The address of a region's table of that purpose.
    pub fn address(region: &str, purpose: &str) -> Address {
        Address::with(region, Self::KIND, purpose)
    }
}

/// Why a table stays as it is.
const OTHER_KEYS: &str = "what the monitors remember would be lost with it: remove it by hand if it may be, and \
                          apply again";
/// How long DynamoDB may take to tell of tags.
const TAGS_LAG: Duration = Duration::from_secs(5);

/// The hash key and the range key.
const KEYS: [(&str, KeyType); 2] = [(CLUSTER, KeyType::Hash), (ITEM, KeyType::Range)];

async fn describe(
    env: &Env,
    region: &str,
    name: &str,
) -> Result<Option<TableDescription>, ApiError> {
    let regional = env.region(region);
    let api = regional.api("dynamodb", "DescribeTable");
    let call = || regional.dynamodb.describe_table().table_name(name).send();
    let answer = env.session.find(api, call).await?;
    Ok(answer.and_then(|answer| answer.table))
}

/// A state in a sentence.
fn word(state: &TableStatus) -> String {
    state.as_str().to_lowercase().replace('_', " ")
}

/// Whether DynamoDB cannot use the table's key, or has put the table away for that reason.
fn is_out_of_reach(state: &TableStatus) -> bool {
    use TableStatus::{Archived, Archiving, InaccessibleEncryptionCredentials};
    matches!(state, InaccessibleEncryptionCredentials | Archiving | Archived)
}

async fn active(env: &Env, region: &str, name: &str) -> Result<(), Failure> {
    let wait = env.session.wait(|| async {
        Ok(match describe(env, region, name).await?.and_then(|one| one.table_status) {
            Some(TableStatus::Active) => Progress::Done(()),
            Some(state) if is_out_of_reach(&state) => Progress::Failed(format!(
                "the table is {}, as DynamoDB could not use its key",
                word(&state)
            )),
            Some(state) => Progress::Pending(word(&state)),
            None => Progress::Pending("not visible yet".into()),
        })
    });
    Ok(wait.await?)
}

fn encryption(key: &str) -> SseSpecification {
    let sse = SseSpecification::builder().enabled(true).sse_type(SseType::Kms);
    sse.kms_master_key_id(key).build()
}

fn tags(all: &Tags) -> Vec<Tag> {
    let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build();
    all.iter().filter_map(|pair| tag(pair).ok()).collect()
}

fn keys(table: &TableDescription) -> String {
    let each = table.key_schema().iter();
    each.map(|key| format!("{}:{}", key.attribute_name(), key.key_type().as_str()))
        .collect::<Vec<_>>()
        .join(",")
}

fn wanted_keys() -> String {
    KEYS.map(|(name, kind)| format!("{name}:{}", kind.as_str())).join(",")
}

async fn tags_of(env: &Env, region: &str, arn: &str, wanted: &Tags) -> Result<Tags, ApiError> {
    let regional = env.region(region);
    let ask = || async {
        let api = regional.api("dynamodb", "ListTagsOfResource");
        let (mut found, mut page) = (Tags::new(), None::<String>);
        loop {
            let call = || {
                let call = regional.dynamodb.list_tags_of_resource().resource_arn(arn);
                call.set_next_token(page.clone()).send()
            };
            // One that is being made has none to be told of yet.
            let Some(answer) = env.session.find(api.clone(), call).await? else { return Ok(found) };
            let pairs = answer.tags().iter();
            found.extend(pairs.map(|tag| (tag.key().to_owned(), tag.value().to_owned())));
            page = answer.next_token().map(str::to_owned);
            if page.is_none() {
                return Ok(found);
            }
        }
    };
    env.tags_of(region, arn, Some(wanted), ask).await
}

/// DynamoDB tells of tags some seconds after they were set. A table without any is asked once more, before it
/// is taken for somebody else's.
async fn settled_tags(env: &Env, region: &str, arn: &str, wanted: &Tags) -> Result<Tags, ApiError> {
    let tags = tags_of(env, region, arn, wanted).await?;
    if !tags.is_empty() || env.session.pause(TAGS_LAG).await.is_err() {
        return Ok(tags);
    }
    tags_of(env, region, arn, wanted).await
}

/// Waits until DynamoDB tells of the tags that were set.
async fn tagged(env: &Env, region: &str, arn: &str, wanted: &Tags) -> Result<(), Failure> {
    let wait = env.session.wait(|| async {
        let tags = tags_of(env, region, arn, wanted).await?;
        let is_told = canonical_tags(&tags) == canonical_tags(wanted);
        let pending = || Progress::Pending("without its tags".into());
        Ok(if is_told { Progress::Done(()) } else { pending() })
    });
    Ok(wait.await?)
}

impl Primitive for DynamodbTable {
    const KIND: &'static str = DynamodbTable::KIND;

    fn fields(&self) -> Vec<Field> {
        let mut all = vec![
            Field::new("keys", wanted_keys()).effect(Effect::Refuse(OTHER_KEYS)),
            Field::new("billing", "PAY_PER_REQUEST"),
            Field::new("key", self.key.clone()),
        ];
        if self.is_ledger {
            all.push(Field::new("cluster", KEPT));
        }
        all
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let mut found = Vec::new();
        for wanted in wanted {
            let name = &wanted.name;
            let said = async {
                let asks = wanted.settings.is_ledger;
                if asks { read(env, region, name).await } else { Ok(Said::default()) }
            };
            let (table, said) = futures::join!(describe(env, region, name), said);
            let Some(table) = table? else { continue };
            let said = said?;
            let arn = table.table_arn().unwrap_or_default();
            let tags = settled_tags(env, region, arn, &wanted.tags).await?;
            let billing = table.billing_mode_summary().and_then(|one| one.billing_mode());
            let key = table.sse_description().and_then(|one| one.kms_master_key_arn());
            let readiness = match table.table_status() {
                None | Some(TableStatus::Active) => Readiness::Ready,
                Some(state) if is_out_of_reach(state) => Readiness::Broken(word(state)),
                Some(state) => Readiness::Busy(word(state)),
            };
            let mut seen = Observation::new(wanted.address.clone(), region, name)
                .with("keys", keys(&table))
                .with("billing", billing.map_or("PROVISIONED", BillingMode::as_str))
                .with("key", key.unwrap_or_default())
                .output(ARN, arn)
                .readiness(readiness)
                .tagged(tags, env);
            if wanted.settings.is_ledger {
                let holder = said.holder(env.session.clock.now()).to_owned();
                seen = seen
                    .with("cluster", if said.is_removed { REMOVED } else { KEPT })
                    .output(FAILOVER, said.failover())
                    .output(DRILLS, said.drills)
                    .output(PHASE, said.phase)
                    .output(CLOSED, said.is_closed.to_string())
                    .output(HOLDER, holder);
            }
            found.push(seen);
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let key = env.resolve(&wanted.settings.key)?;
        let regional = env.region(&wanted.region);
        let api = regional.api("dynamodb", "CreateTable");
        let part = |(name, kind): &(&str, KeyType)| {
            let part = KeySchemaElement::builder().attribute_name(*name).key_type(kind.clone());
            part.build().ok()
        };
        let defined = |(name, _): &(&str, KeyType)| {
            let defined = AttributeDefinition::builder().attribute_name(*name);
            defined.attribute_type(ScalarAttributeType::S).build().ok()
        };
        let keys: Vec<_> = KEYS.iter().filter_map(part).collect();
        let defined: Vec<_> = KEYS.iter().filter_map(defined).collect();
        let call = || {
            let call = regional.dynamodb.create_table().table_name(&wanted.name);
            let call = call.billing_mode(BillingMode::PayPerRequest);
            let call = call.set_key_schema(Some(keys.clone()));
            let call = call.set_attribute_definitions(Some(defined.clone()));
            call.sse_specification(encryption(&key)).set_tags(Some(tags(&wanted.tags))).send()
        };
        let answer = env.session.call_once(api, call).await?;
        let arn = answer.table_description().and_then(|table| table.table_arn());
        let arn = arn.unwrap_or_default().to_owned();
        active(env, &wanted.region, &wanted.name).await?;
        tagged(env, &wanted.region, &arn, &wanted.tags).await?;
        Ok(Outputs::from([(ARN, arn)]))
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        let (region, name) = (&wanted.region, &wanted.name);
        let regional = env.region(region);
        active(env, region, name).await?;
        if differing.contains(&"key") {
            let key = env.resolve(&wanted.settings.key)?;
            let api = regional.api("dynamodb", "UpdateTable");
            let call = || {
                let call = regional.dynamodb.update_table().table_name(name);
                call.sse_specification(encryption(&key)).send()
            };
            env.session.call(api, call).await?;
            active(env, region, name).await?;
        }
        if differing.contains(&"billing") {
            let api = regional.api("dynamodb", "UpdateTable");
            let call = || {
                let call = regional.dynamodb.update_table().table_name(name);
                call.billing_mode(BillingMode::PayPerRequest).send()
            };
            env.session.call(api, call).await?;
            active(env, region, name).await?;
        }
        if differing.contains(&"cluster") {
            intend(env, region, name, &[], &[DESTROYING]).await?;
        }
        if differing.contains(&"tags") {
            let arn = found.outputs.get(ARN).cloned().unwrap_or_default();
            let (set, gone) = retag(&found.tags, &wanted.tags);
            if !set.is_empty() {
                let api = regional.api("dynamodb", "TagResource");
                let set = tags(&set);
                let call = || {
                    let call = regional.dynamodb.tag_resource().resource_arn(&arn);
                    call.set_tags(Some(set.clone())).send()
                };
                env.session.call(api, call).await?;
            }
            if !gone.is_empty() {
                let api = regional.api("dynamodb", "UntagResource");
                let call = || {
                    let call = regional.dynamodb.untag_resource().resource_arn(&arn);
                    call.set_tag_keys(Some(gone.clone())).send()
                };
                env.session.call(api, call).await?;
            }
            tagged(env, region, &arn, &wanted.tags).await?;
        }
        Ok(Outputs::new())
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let regional = env.region(&found.region);
        let api = regional.api("dynamodb", "DeleteTable");
        let call = || regional.dynamodb.delete_table().table_name(&found.id).send();
        match env.session.remove(api.clone(), call).await {
            Err(error) if error.has_code("ValidationException") => {
                if !unprotect(env, found).await? {
                    return Err(error.into());
                }
                env.session.remove(api, call).await?;
            }
            other => other?,
        }
        let gone = env.session.wait(|| async {
            let left = describe(env, &found.region, &found.id).await?;
            Ok(left.map_or(Progress::Done(()), |_| Progress::Pending("being deleted".into())))
        });
        Ok(gone.await?)
    }
}

/// Takes the protection away that somebody has given a table; whether it had one. RDS's goes in the same way.
async fn unprotect(env: &Env, found: &Observation) -> Result<bool, Failure> {
    let (region, name) = (&found.region, &found.id);
    let table = describe(env, region, name).await?;
    if table.and_then(|table| table.deletion_protection_enabled()) != Some(true) {
        return Ok(false);
    }
    let regional = env.region(region);
    let api = regional.api("dynamodb", "UpdateTable");
    let call = || {
        let call = regional.dynamodb.update_table().table_name(name);
        call.deletion_protection_enabled(false).send()
    };
    env.session.call(api, call).await?;
    Ok(true)
}
