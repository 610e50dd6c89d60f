//! KMS keys: one per region, used by everything of the cluster that is encrypted there.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use aws_sdk_kms::{
    operation::create_key::CreateKeyOutput,
    types::{KeyMetadata, KeyState, Tag},
};

use aws_smithy_types::date_time::Format;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    ARN, Address, CLUSTER_TAG, Env, Failure, Field, ID, Observation, Outputs, Primitive, Readiness,
    Tags, Wanted, canonical_json, retag,
};
use crate::aws::{ApiError, ErrorClass, Progress};

/// How long AWS keeps a deleted key: the shortest that it allows.
const PENDING_DAYS: i32 = 7;

/// Days between rotations.
const YEAR: i32 = 365;

/// How many keys of an account are asked for their tags at once.
const AT_ONCE: usize = 8;

/// How a key is shown that is to be deleted.
const PENDING: &str = "pending deletion";

/// What KMS says of a policy that it takes to lock its maker out.
const LOCKED_OUT: &str = "will not allow you to update the key policy";

/// How long KMS may take to go by a key's tags: up to five minutes by its guide ("ABAC for AWS KMS"), and some more.
const TAGS_COUNT: Duration = Duration::from_secs(360);

/// A customer-managed symmetric key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsKey {
    /// The alias that leads to it, `alias/…`.
    pub alias: String,
    /// What it is for.
    pub description: String,
    /// Its policy, in JSON.
    pub policy: String,
}

impl KmsKey {
    /// The kind's name.
    pub const KIND: &str = "kms-key";

    /// The address of a region's key.
    pub fn address(region: &str) -> Address {
        Address::new(region, Self::KIND)
    }
}

fn tags(all: &Tags) -> Vec<Tag> {
    let tag =
        |(key, value): (&String, &String)| Tag::builder().tag_key(key).tag_value(value).build();
    all.iter().filter_map(|pair| tag(pair).ok()).collect()
}

impl Primitive for KmsKey {
    const KIND: &'static str = KmsKey::KIND;
    const MULTIPLIES: bool = true;

    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("rotation", "yearly"),
            Field::new("enabled", "true"),
            Field::new("policy", canonical_json(&self.policy)).digest(),
            Field::new("description", &*self.description).digest(),
        ]
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let mut found = Vec::new();
        let mut seen = Vec::new();
        for one in wanted {
            let Some(key) = find(env, one).await? else { continue };
            seen.push(key.arn().unwrap_or_default().to_owned());
            found.push(look(env, &one.address, region, &key, Some(&one.tags)).await?);
        }
        // Keys of ours that nothing leads to: an earlier run made one and did not live to name it.
        for key in unnamed(env, region, &seen).await? {
            let address = Address::with(region, Self::KIND, key.key_id());
            let seen = look(env, &address, region, &key, None).await?;
            found.extend(env.scope.made(&seen.tags).then_some(seen));
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let answer = match make(env, wanted, false).await {
            // KMS asks whether its maker may replace the policy of a key that nothing is known of yet: whoever may
            // do so with the cluster's tags only is told no. The policy leaves it to the account, so nobody is
            // locked out.
            Err(error) if error.message.contains(LOCKED_OUT) => make(env, wanted, true).await,
            other => other,
        };
        let answer = answer.inspect_err(|_| env.be_thorough())?;
        let metadata = answer.key_metadata();
        let key = metadata.map(KeyMetadata::key_id).unwrap_or_default().to_owned();
        let arn = metadata.and_then(KeyMetadata::arn).unwrap_or_default().to_owned();
        let outputs = Outputs::from([(ID, key.clone()), (ARN, arn)]);
        env.note(&wanted.address, outputs.clone());
        enable_rotation(env, &wanted.region, &key, env.session.clock.now()).await?;
        Ok(outputs)
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        let regional = env.region(&wanted.region);
        let (session, kms, id) = (&env.session, &regional.kms, &found.id);
        if differing.contains(&"enabled") {
            let is_pending =
                found.settings.get("enabled").is_some_and(|text| text.starts_with(PENDING));
            if is_pending {
                let api = regional.api("kms", "CancelKeyDeletion");
                match session.call(api, || kms.cancel_key_deletion().key_id(id).send()).await {
                    Ok(_) => {}
                    // An attempt before this one did it.
                    Err(error) if error.has_code("KMSInvalidStateException") => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let api = regional.api("kms", "EnableKey");
            session.call(api, || kms.enable_key().key_id(id).send()).await?;
        }
        if differing.contains(&"rotation") {
            let key = describe(env, &wanted.region, id).await?;
            let made = key.as_ref().and_then(KeyMetadata::creation_date);
            let made = made.and_then(|at| SystemTime::try_from(*at).ok());
            let made = made.unwrap_or(SystemTime::UNIX_EPOCH);
            enable_rotation(env, &wanted.region, id, made).await?;
        }
        if differing.contains(&"description") {
            let text = &wanted.settings.description;
            let api = regional.api("kms", "UpdateKeyDescription");
            let call = || kms.update_key_description().key_id(id).description(text).send();
            session.call(api, call).await?;
        }
        if differing.contains(&"policy") {
            let policy = &wanted.settings.policy;
            let api = regional.api("kms", "PutKeyPolicy");
            session.call(api, || kms.put_key_policy().key_id(id).policy(policy).send()).await?;
        }
        if differing.contains(&"tags") {
            let (set, gone) = retag(&found.tags, &wanted.tags);
            if !set.is_empty() {
                let api = regional.api("kms", "TagResource");
                let set = tags(&set);
                session
                    .call(api, || kms.tag_resource().key_id(id).set_tags(Some(set.clone())).send())
                    .await?;
            }
            if !gone.is_empty() {
                let api = regional.api("kms", "UntagResource");
                session
                    .call(api, || {
                        kms.untag_resource().key_id(id).set_tag_keys(Some(gone.clone())).send()
                    })
                    .await?;
            }
        }
        Ok(Outputs::new())
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let regional = env.region(&found.region);
        let (kms, id) = (&regional.kms, &found.id);
        let api = regional.api("kms", "ScheduleKeyDeletion");
        let scheduled = env
            .session
            .call(api, || {
                kms.schedule_key_deletion().key_id(id).pending_window_in_days(PENDING_DAYS).send()
            })
            .await;
        match scheduled {
            Ok(_) => {}
            Err(error) if error.is_not_found() => return Ok(()),
            // It is pending already.
            Err(error) if error.has_code("KMSInvalidStateException") => {}
            Err(error) => return Err(error.into()),
        }
        let gone = env.session.wait(|| async {
            let key = describe(env, &found.region, id).await?;
            Ok(match key.as_ref().filter(|key| is_alive(key)).and_then(KeyMetadata::key_state) {
                Some(state) => Progress::Pending(state.as_str().to_owned()),
                None => Progress::Done(()),
            })
        });
        Ok(gone.await?)
    }
}

async fn make(
    env: &Env,
    wanted: &Wanted<KmsKey>,
    unchecked: bool,
) -> Result<CreateKeyOutput, ApiError> {
    let regional = env.region(&wanted.region);
    let settings = &wanted.settings;
    let call = || {
        let call = regional.kms.create_key().description(&settings.description);
        let call = call.policy(&settings.policy).set_tags(Some(tags(&wanted.tags)));
        call.set_bypass_policy_lockout_safety_check(unchecked.then_some(true)).send()
    };
    env.session.call_once(regional.api("kms", "CreateKey"), call).await
}

/// The first change to a new key. Whoever may only use keys with the cluster's tags is denied that until KMS goes by
/// them, which it announces nowhere and does not do everywhere at once: once denied, all of that time is waited for,
/// as what follows needs the same. `made` is when the key was made.
async fn enable_rotation(
    env: &Env,
    region: &str,
    id: &str,
    made: SystemTime,
) -> Result<(), Failure> {
    let regional = env.region(region);
    let (session, was_denied) = (&env.session, AtomicBool::new(false));
    let enabled = session.wait(|| async {
        let api = regional.api("kms", "EnableKeyRotation");
        let call = || {
            let call = regional.kms.enable_key_rotation().key_id(id);
            call.rotation_period_in_days(YEAR).send()
        };
        let answer = session.call_on_new(api, call).await;
        let is_new = session.clock.since(made) < TAGS_COUNT;
        match answer {
            Err(error) if !is_new || error.class != ErrorClass::Denied => return Err(error),
            Err(_) => was_denied.store(true, Ordering::Relaxed),
            Ok(_) if !is_new || !was_denied.load(Ordering::Relaxed) => {
                return Ok(Progress::Done(()));
            }
            Ok(_) => {}
        }
        Ok(Progress::Pending("new, and KMS may not go by its tags yet".into()))
    });
    Ok(enabled.await?)
}

/// What KMS says about an id, ARN or alias; `None` if there is nothing.
async fn describe(env: &Env, region: &str, id: &str) -> Result<Option<KeyMetadata>, ApiError> {
    let regional = env.region(region);
    let api = regional.api("kms", "DescribeKey");
    Ok(env
        .session
        .find(api, || regional.kms.describe_key().key_id(id).send())
        .await?
        .and_then(|answer| answer.key_metadata))
}

/// The key that an alias leads to, from a call that is shared with whoever looks at the alias.
pub(super) async fn by_alias(
    env: &Env,
    region: &str,
    alias: &str,
) -> Result<Option<KeyMetadata>, ApiError> {
    env.shared(format!("key {region} {alias}"), || describe(env, region, alias)).await
}

fn is_alive(key: &KeyMetadata) -> bool {
    !matches!(key.key_state(), Some(KeyState::PendingDeletion | KeyState::PendingReplicaDeletion))
}

/// Whether a key that is pending deletion is this very cluster's, and no predecessor's. Then somebody has asked for
/// its deletion behind our back: a destroy takes the alias away first. All that is encrypted with it depends on
/// its deletion being called off.
async fn is_this_clusters(env: &Env, region: &str, key: &KeyMetadata) -> Result<bool, ApiError> {
    let tags = tags_of(env, region, key.key_id()).await?;
    let id = tags.get(CLUSTER_TAG);
    Ok(id.is_some() && id == env.scope.cluster_id.as_ref())
}

/// The key that the alias leads to, or one of ours that has no alias yet.
async fn find(env: &Env, wanted: &Wanted<KmsKey>) -> Result<Option<KeyMetadata>, ApiError> {
    if let Some(id) = env.output(&wanted.address, ID)
        && let Some(key) = describe(env, &wanted.region, &id).await?.filter(is_alive)
    {
        return Ok(Some(key));
    }
    if let Some(named) = by_alias(env, &wanted.region, &wanted.settings.alias).await?
        && (is_alive(&named) || is_this_clusters(env, &wanted.region, &named).await?)
    {
        return Ok(Some(named));
    }
    Ok(unnamed(env, &wanted.region, &[]).await?.into_iter().next())
}

/// Living keys that carry both of this cluster's tags. Normally the shared look at tags is enough; it may lag by
/// half a minute, so a run that follows a broken one asks every key.
async fn unnamed(env: &Env, region: &str, known: &[String]) -> Result<Vec<KeyMetadata>, ApiError> {
    let is_known = |id: &str| known.iter().any(|arn| arn.ends_with(id));
    let mut ids = Vec::new();
    if env.is_thorough() {
        let mut all = all_keys(env, region).await?;
        all.retain(|id| !is_known(id));
        // A bank has hundreds.
        let asked = stream::iter(all).map(|id| async move {
            match tags_of(env, region, &id).await {
                Ok(tags) => Ok(env.scope.made(&tags).then_some(id)),
                // A key that nobody may look at is nobody's of ours.
                Err(error) if error.class == ErrorClass::Denied => Ok(None),
                Err(error) => Err(error),
            }
        });
        let ours: Vec<_> = asked.buffered(AT_ONCE).try_collect().await?;
        ids.extend(ours.into_iter().flatten());
    } else {
        let arns = env.tagged(region).await?;
        let is_key = |arn: &str| arn.contains(":kms:") && arn.contains(":key/");
        let ours = arns.into_iter().filter(|(arn, tags)| is_key(arn) && env.scope.made(tags));
        ids.extend(ours.map(|(arn, _)| arn).filter(|arn| !is_known(arn)));
    }
    let mut keys = Vec::new();
    for id in ids {
        // What the shared look knows is confirmed before it counts.
        keys.extend(describe(env, region, &id).await?.filter(is_alive));
    }
    keys.sort_by_key(|key| key.creation_date().map(aws_smithy_types::DateTime::as_nanos));
    Ok(keys)
}

async fn all_keys(env: &Env, region: &str) -> Result<Vec<String>, ApiError> {
    let regional = env.region(region);
    let mut ids = Vec::new();
    let mut page: Option<String> = None;
    loop {
        let api = regional.api("kms", "ListKeys");
        let answer = env
            .session
            .call(api, || regional.kms.list_keys().limit(1000).set_marker(page.clone()).send())
            .await?;
        ids.extend(answer.keys().iter().filter_map(|key| key.key_id().map(str::to_owned)));
        page = answer.next_marker().map(str::to_owned);
        if page.is_none() {
            return Ok(ids);
        }
    }
}

pub(super) async fn tags_of(env: &Env, region: &str, id: &str) -> Result<Tags, ApiError> {
    let regional = env.region(region);
    let api = regional.api("kms", "ListResourceTags");
    let answer =
        env.session.call(api, || regional.kms.list_resource_tags().key_id(id).send()).await?;
    let pairs = answer.tags().iter();
    Ok(pairs.map(|tag| (tag.tag_key().to_owned(), tag.tag_value().to_owned())).collect())
}

async fn look(
    env: &Env,
    address: &Address,
    region: &str,
    key: &KeyMetadata,
    wanted: Option<&Tags>,
) -> Result<Observation, ApiError> {
    let regional = env.region(region);
    let (id, arn) = (key.key_id(), key.arn().unwrap_or_default());
    let policy = async {
        let api = regional.api("kms", "GetKeyPolicy");
        env.session.call(api, || regional.kms.get_key_policy().key_id(id).send()).await
    };
    let is_pending = matches!(key.key_state(), Some(KeyState::PendingDeletion));
    let rotation = async {
        // A key that is pending deletion is not rotated, and may not be asked.
        if is_pending {
            return Ok("off".to_owned());
        }
        let api = regional.api("kms", "GetKeyRotationStatus");
        let call = || regional.kms.get_key_rotation_status().key_id(id).send();
        let answer = env.session.call(api, call).await?;
        Ok(match answer.rotation_period_in_days().unwrap_or(YEAR) {
            _ if !answer.key_rotation_enabled() => "off".to_owned(),
            YEAR => "yearly".to_owned(),
            days => format!("every {days} days"),
        })
    };
    let tags = env.tags_of(region, arn, wanted, || tags_of(env, region, id));
    let (policy, rotation, tags) = futures::try_join!(policy, rotation, tags)?;
    let readiness = match key.key_state() {
        Some(KeyState::Enabled | KeyState::Disabled | KeyState::PendingDeletion) | None => {
            Readiness::Ready
        }
        Some(state @ (KeyState::Creating | KeyState::Updating)) => {
            Readiness::Busy(state.as_str().to_lowercase())
        }
        Some(state) => Readiness::Broken(state.as_str().to_lowercase()),
    };
    let enabled = if is_pending {
        let date = key.deletion_date().and_then(|at| at.fmt(Format::DateTime).ok());
        let date = date.as_deref().and_then(|at| at.get(..10)).unwrap_or("an unknown day");
        format!("{PENDING} on {date}")
    } else {
        // In no other state KMS would enable it.
        (key.enabled() || readiness != Readiness::Ready).to_string()
    };
    Ok(Observation::new(address.clone(), region, id)
        .with("rotation", rotation)
        .with("description", key.description().unwrap_or_default())
        .with("enabled", enabled)
        .with("policy", canonical_json(policy.policy().unwrap_or_default()))
        .output(ID, id)
        .output(ARN, arn)
        .tagged(tags, env)
        .readiness(readiness))
}
