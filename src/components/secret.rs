//! Secrets with the login of a role of the database, and their replicas in the other region.
//!
//! Passwords are made here and nowhere else are they kept: no argument, plan, state or log ever holds it.

use aws_sdk_secretsmanager::types::{ReplicaRegionType, Tag};
use serde_json::json;

use super::{
    ARN, Address, CLUSTER_TAG, Env, Failure, Field, Observation, Output, Outputs, Owner, Primitive,
    Tags, Text, Wanted, each, retag,
};
use crate::aws::{Api, ApiError, Progress};

/// The output that names a secret's replica.
pub const REPLICA_ARN: Output = "replica_arn";

/// A secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The key's ARN.
    pub key: Text,
    /// Where the replica is.
    pub replica_region: String,
    /// The key's ARN there.
    pub replica_key: Text,
    /// The role.
    pub username: String,
    /// The database.
    pub db_name: String,
    /// What it is for.
    pub description: String,
}

impl Secret {
    /// The kind's name.
    pub const KIND: &str = "secret";

    /// The address of the secret of that purpose.
    pub fn address(region: &str, purpose: &str) -> Address {
        Address::with(region, Self::KIND, purpose)
    }
}

fn tags(all: &Tags) -> Vec<Tag> {
    all.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

/// Characters that RDS takes in a password and that need no quoting in a URL or a shell.
const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789-_.~";
/// 40 characters of 60 are 236 bits.
const LENGTH: usize = 40;

/// A password from the operating system's randomness.
fn password() -> Result<String, Failure> {
    let mut text = String::with_capacity(LENGTH);
    let mut bytes = [0u8; 64];
    while text.len() < LENGTH {
        getrandom::fill(&mut bytes).map_err(|error| {
            Failure::Obstacle(format!("the operating system gives no random numbers: {error}"))
        })?;
        // A byte beyond the largest multiple of the alphabet's size would prefer the first letters.
        let fair =
            bytes.iter().filter(|byte| usize::from(**byte) < 256 / ALPHABET.len() * ALPHABET.len());
        for byte in fair.take(LENGTH - text.len()) {
            text.push(char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
        }
    }
    Ok(text)
}

/// A secret's value, and the call that told it.
pub(super) async fn value_of(
    env: &Env,
    region: &str,
    secret: &str,
) -> Result<(Api, String), Failure> {
    let regional = env.region(region);
    let api = regional.api("secretsmanager", "GetSecretValue");
    let call = || regional.secrets.get_secret_value().secret_id(secret).send();
    let answer = env.session.call(api.clone(), call).await?;
    Ok((api, answer.secret_string().unwrap_or_default().to_owned()))
}

/// The password in a secret's value.
pub(super) async fn master_password(
    env: &Env,
    region: &str,
    secret: &str,
) -> Result<String, Failure> {
    let (api, value) = value_of(env, region, secret).await?;
    let value: serde_json::Value = serde_json::from_str(&value).unwrap_or_default();
    let password = value["password"].as_str().map(str::to_owned);
    password.ok_or_else(|| ApiError::unusable(api, "the secret holds no password").into())
}

/// A secret as AWS tells of it.
#[derive(Clone)]
pub(super) struct Described {
    arn: String,
    key: String,
    description: String,
    replicas: Vec<(String, String, String)>,
    pub(super) tags: Tags,
    pub(super) is_deleted: bool,
    /// Of what region's secret it is a replica, where it is one.
    primary: Option<String>,
}

/// A secret, in one call that several kinds share.
pub(super) async fn described(
    env: &Env,
    region: &str,
    name: &str,
) -> Result<Option<Described>, ApiError> {
    env.shared(format!("secret {region} {name}"), || describe(env, region, name)).await
}

/// The ARN of a secret's replica: the same but for the region.
fn replica_arn(arn: &str, region: &str, replica: &str) -> String {
    arn.replacen(&format!(":{region}:"), &format!(":{replica}:"), 1)
}

/// The ARN of a region's secret, if it is there.
///
/// # Errors
/// The call failed.
pub async fn arn_of(env: &Env, region: &str, name: &str) -> Result<Option<String>, ApiError> {
    Ok(describe(env, region, name).await?.map(|secret| secret.arn))
}

async fn describe(env: &Env, region: &str, name: &str) -> Result<Option<Described>, ApiError> {
    let regional = env.region(region);
    let api = regional.api("secretsmanager", "DescribeSecret");
    let call = || regional.secrets.describe_secret().secret_id(name).send();
    let Some(answer) = env.session.find(api, call).await? else { return Ok(None) };
    let replicas = answer.replication_status().iter().map(|one| {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let status = one.status().map(|status| status.as_str());
        (text(one.region()), text(one.kms_key_id()), text(status))
    });
    let pairs = answer.tags().iter();
    let pairs = pairs.filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned())));
    Ok(Some(Described {
        arn: answer.arn().unwrap_or_default().to_owned(),
        key: answer.kms_key_id().unwrap_or_default().to_owned(),
        description: answer.description().unwrap_or_default().to_owned(),
        replicas: replicas.collect(),
        tags: pairs.collect(),
        is_deleted: answer.deleted_date().is_some(),
        primary: answer.primary_region().map(str::to_owned),
    }))
}

/// The region in which AWS keeps a name for a secret that somebody deleted, for 7 to 30 days, and that this cluster cannot
/// have back.
///
/// # Errors
/// A call failed.
pub async fn kept_in<'a>(
    env: &Env,
    [primary, replica]: [&'a str; 2],
    name: &str,
) -> Result<Option<&'a str>, ApiError> {
    let (region, found) = match described(env, primary, name).await? {
        Some(found) => (primary, Some(found)),
        None => (replica, described(env, replica, name).await?),
    };
    Ok(found.filter(|one| one.is_deleted && !env.scope.made(&one.tags)).map(|_| region))
}

/// A secret of somebody else's, where the replica of one that is to be made would have its name.
async fn in_the_way(
    env: &Env,
    region: &str,
    wanted: &Wanted<Secret>,
) -> Result<Option<Observation>, ApiError> {
    let place = &wanted.settings.replica_region;
    let is_ours = |one: &Described| one.primary.as_deref() == Some(region);
    let found = described(env, place, &wanted.name).await?;
    let found = found.filter(|one| !one.is_deleted && !is_ours(one));
    Ok(found.map(|one| {
        let mut seen = Observation::new(wanted.address.clone(), region, &wanted.name)
            .output(ARN, one.arn)
            .tagged(one.tags, env);
        let whose = match seen.owner {
            Owner::Ours => "no replica any more: somebody promoted it. Delete it",
            Owner::Foreign(_) => "somebody else's",
        };
        seen.owner = Owner::Foreign(format!(
            "a secret of that name is in {place}, where AWS would put its replica, and is {whose}"
        ));
        seen
    }))
}

impl Primitive for Secret {
    const KIND: &'static str = Secret::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("key", self.key.clone()),
            Field::new("replica", &*self.replica_region).from("dr.region"),
            Field::new("replica_key", self.replica_key.clone()),
            Field::new("replica_status", "in sync"),
            Field::new("description", &*self.description).digest(),
        ]
    }

    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        each(wanted, |wanted| async move {
            let Some(one) = described(env, region, &wanted.name).await? else {
                return in_the_way(env, region, wanted).await;
            };
            // A destroy has what waits to be deleted deleted at once: the next cluster could not have its name.
            if one.is_deleted && !(env.is_removing() && env.scope.made(&one.tags)) {
                return Ok(None);
            }
            let regions: Vec<_> = one.replicas.iter().map(|(region, ..)| region.clone()).collect();
            let failed = one.replicas.iter().any(|(.., status)| status == "Failed");
            let keys: Vec<_> = one.replicas.iter().map(|(_, key, _)| key.clone()).collect();
            Ok(Some(
                Observation::new(wanted.address.clone(), region, &wanted.name)
                    .with("key", one.key)
                    .with("description", one.description)
                    .with("replica", regions.join(","))
                    .with("replica_key", keys.join(","))
                    .with("replica_status", if failed { "failed" } else { "in sync" })
                    .output(
                        REPLICA_ARN,
                        replica_arn(&one.arn, region, &wanted.settings.replica_region),
                    )
                    .output(ARN, one.arn)
                    .tagged(one.tags, env),
            ))
        })
        .await
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let settings = &wanted.settings;
        let key = env.resolve(&settings.key)?;
        let value = json!({
            "engine": "postgres", "username": settings.username, "password": password()?,
            "dbname": settings.db_name,
        });
        let value = value.to_string();
        let replica = replica(env, settings)?;
        if let Some(arn) = restore(env, wanted).await? {
            let replica = replica_arn(&arn, &wanted.region, &settings.replica_region);
            return Ok(Outputs::from([(ARN, arn), (REPLICA_ARN, replica)]));
        }
        let regional = env.region(&wanted.region);
        let api = regional.api("secretsmanager", "CreateSecret");
        let call = || {
            let call = regional.secrets.create_secret().name(&wanted.name).kms_key_id(&key);
            let call = call.description(&settings.description).secret_string(&value);
            call.set_tags(Some(tags(&wanted.tags))).add_replica_regions(replica.clone()).send()
        };
        let answer = env.session.call_once(api, call).await?;
        in_sync(env, wanted).await?;
        let arn = answer.arn().unwrap_or_default().to_owned();
        let replica = replica_arn(&arn, &wanted.region, &settings.replica_region);
        Ok(Outputs::from([(ARN, arn), (REPLICA_ARN, replica)]))
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        let regional = env.region(&wanted.region);
        let (secrets, name) = (&regional.secrets, &wanted.name);
        if ["key", "description"].iter().any(|one| differing.contains(one)) {
            let key = env.resolve(&wanted.settings.key)?;
            let api = regional.api("secretsmanager", "UpdateSecret");
            let call = || {
                let call = secrets.update_secret().secret_id(name).kms_key_id(&key);
                call.description(&wanted.settings.description).send()
            };
            env.session.call(api, call).await?;
        }
        if ["replica", "replica_key", "replica_status"].iter().any(|one| differing.contains(one)) {
            let has = found.settings.get("replica").cloned().unwrap_or_default();
            let mut places: Vec<_> =
                has.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect();
            remove_replicas(env, &wanted.region, name, places.clone()).await?;
            places.push(wanted.settings.replica_region.clone());
            without_replicas(env, &wanted.region, name, &places).await?;
            replicate(env, wanted).await?;
        }
        if differing.contains(&"tags") {
            let (set, gone) = retag(&found.tags, &wanted.tags);
            if !set.is_empty() {
                let api = regional.api("secretsmanager", "TagResource");
                let set = tags(&set);
                let call =
                    || secrets.tag_resource().secret_id(name).set_tags(Some(set.clone())).send();
                env.session.call(api, call).await?;
            }
            if !gone.is_empty() {
                let api = regional.api("secretsmanager", "UntagResource");
                let call = || {
                    secrets.untag_resource().secret_id(name).set_tag_keys(Some(gone.clone())).send()
                };
                env.session.call(api, call).await?;
            }
        }
        in_sync(env, wanted).await?;
        Ok(Outputs::new())
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let (region, name) = (&found.region, &found.id);
        let Some(one) = describe(env, region, name).await? else { return Ok(()) };
        // A secret with replicas cannot be deleted (aws-facts 12b).
        let mut places: Vec<_> = one.replicas.into_iter().map(|(region, ..)| region).collect();
        if !one.is_deleted {
            remove_replicas(env, region, name, places.clone()).await?;
        }
        // One that somebody had removed a moment ago is not listed any more, and may still be there.
        let usual = found.outputs.get(REPLICA_ARN).and_then(|arn| arn.split(':').nth(3));
        places.extend(usual.map(str::to_owned));
        without_replicas(env, region, name, &places).await?;
        let regional = env.region(region);
        let api = regional.api("secretsmanager", "DeleteSecret");
        let call = || {
            let call = regional.secrets.delete_secret().secret_id(name);
            call.force_delete_without_recovery(true).send()
        };
        env.session.remove(api, call).await?;
        let gone = env.session.wait(|| async {
            let left = describe(env, region, name).await?;
            Ok(left.map_or(Progress::Done(()), |_| Progress::Pending("being deleted".into())))
        });
        Ok(gone.await?)
    }
}

fn replica(env: &Env, settings: &Secret) -> Result<ReplicaRegionType, Failure> {
    let key = env.resolve(&settings.replica_key)?;
    Ok(ReplicaRegionType::builder().region(&settings.replica_region).kms_key_id(key).build())
}

async fn replicate(env: &Env, wanted: &Wanted<Secret>) -> Result<(), Failure> {
    let replica = replica(env, &wanted.settings)?;
    let regional = env.region(&wanted.region);
    let api = regional.api("secretsmanager", "ReplicateSecretToRegions");
    let call = || {
        let call = regional.secrets.replicate_secret_to_regions().secret_id(&wanted.name);
        call.add_replica_regions(replica.clone()).send()
    };
    env.session.call(api, call).await?;
    Ok(())
}

/// Has back what somebody deleted behind our back, with the login that the database still takes: AWS keeps it for
/// 7 to 30 days, and its name is not free until then. `None` if there is nothing to be had back.
async fn restore(env: &Env, wanted: &Wanted<Secret>) -> Result<Option<String>, Failure> {
    let found = describe(env, &wanted.region, &wanted.name).await?;
    let Some(one) = found.filter(|one| one.is_deleted) else { return Ok(None) };
    let id = one.tags.get(CLUSTER_TAG);
    if id.is_none() || id != env.scope.cluster_id.as_ref() {
        return Ok(None);
    }
    let regional = env.region(&wanted.region);
    let api = regional.api("secretsmanager", "RestoreSecret");
    let call = || regional.secrets.restore_secret().secret_id(&wanted.name).send();
    match env.session.call(api, call).await {
        Ok(_) => {}
        // Deleted for good, a moment ago, by a destroy that was interrupted.
        Err(error) if error.is_not_found() || error.has_code("InvalidRequestException") => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    }
    if !one.replicas.iter().any(|(region, ..)| *region == wanted.settings.replica_region) {
        let place = wanted.settings.replica_region.clone();
        without_replicas(env, &wanted.region, &wanted.name, &[place]).await?;
        replicate(env, wanted).await?;
    }
    in_sync(env, wanted).await?;
    Ok(Some(one.arn))
}

async fn remove_replicas(
    env: &Env,
    region: &str,
    name: &str,
    replicas: Vec<String>,
) -> Result<(), ApiError> {
    if replicas.is_empty() {
        return Ok(());
    }
    let regional = env.region(region);
    let api = regional.api("secretsmanager", "RemoveRegionsFromReplication");
    let call = || {
        let call = regional.secrets.remove_regions_from_replication().secret_id(name);
        call.set_remove_replica_regions(Some(replicas.clone())).send()
    };
    env.session.call(api, call).await.map(|_| ())
}

/// Waits until the replicas in these regions are gone: that takes about a minute after it was asked for. Without its
/// primary, one would stay for good as a secret of its own, and no other one of its name could be replicated to its region.
async fn without_replicas(
    env: &Env,
    region: &str,
    name: &str,
    places: &[String],
) -> Result<(), Failure> {
    for place in places {
        let gone = env.session.wait(|| async {
            let left = describe(env, place, name).await?;
            Ok(match left.filter(|one| one.primary.as_deref() == Some(region)) {
                Some(_) => Progress::Pending(format!("its replica in {place} is being removed")),
                None => Progress::Done(()),
            })
        });
        gone.await?;
    }
    Ok(())
}

async fn in_sync(env: &Env, wanted: &Wanted<Secret>) -> Result<(), Failure> {
    let synced = env.session.wait(|| async {
        let found = describe(env, &wanted.region, &wanted.name).await?;
        let replicas = found.map(|one| one.replicas).unwrap_or_default();
        let of = replicas.iter().find(|(region, ..)| *region == wanted.settings.replica_region);
        Ok(match of.map(|(.., status)| status.as_str()) {
            Some("InSync") => Progress::Done(()),
            Some("Failed") => Progress::Failed("the secret's replication failed".into()),
            _ => Progress::Pending("being replicated".into()),
        })
    });
    Ok(synced.await?)
}

#[cfg(test)]
mod tests {
    use super::{LENGTH, password};

    #[test]
    fn passwords_are_long_different_and_what_rds_takes() {
        let (one, other) = (password().unwrap(), password().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), LENGTH);
        assert!(!one.chars().any(|one| "/@\" ".contains(one) || !one.is_ascii_graphic()));
    }
}
