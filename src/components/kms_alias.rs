//! KMS aliases: the names by which people and observers find the keys.

use super::{
    ARN, Address, Env, Failure, Field, Observation, Outputs, Owner, Primitive, Text, Wanted,
    kms_key,
};
use crate::aws::ApiError;

/// A name for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsAlias {
    /// The key's id.
    pub target: Text,
}

impl KmsAlias {
    /// The kind's name.
    pub const KIND: &str = "kms-alias";

    /// The address of a region's alias.
    pub fn address(region: &str) -> Address {
        Address::new(region, Self::KIND)
    }
}

impl Primitive for KmsAlias {
    const KIND: &'static str = KmsAlias::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![Field::new("key", self.target.clone())]
    }

    /// An alias carries no tags: it is ours when it leads to a key of ours.
    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let mut found = Vec::new();
        for one in wanted {
            let Some(key) = kms_key::by_alias(env, region, &one.name).await? else { continue };
            let arn = key.arn().unwrap_or_default();
            let shared = env.tagged(region).await?;
            let mut tags = match shared.get(arn) {
                Some(tags) => tags.clone(),
                None => kms_key::tags_of(env, region, key.key_id()).await?,
            };
            if key.deletion_date().is_some() {
                // What an earlier cluster of this suffix left behind may be taken over.
                tags.remove(super::CLUSTER_TAG);
            }
            let owner = match env.scope.owner(&tags) {
                Owner::Ours => Owner::Ours,
                Owner::Foreign(why) => {
                    Owner::Foreign(format!("it leads to a key of somebody else: {why}"))
                }
            };
            let own = arn.rsplit_once(":key/").map(|(head, _)| format!("{head}:{}", one.name));
            let mut seen = Observation::new(one.address.clone(), region, &one.name)
                .with("key", key.key_id())
                .output(ARN, own.unwrap_or_default());
            seen.owner = owner;
            found.push(seen);
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let regional = env.region(&wanted.region);
        let target = env.resolve(&wanted.settings.target)?;
        let api = regional.api("kms", "CreateAlias");
        let made = env.session.call_on_new(api, || {
            regional.kms.create_alias().alias_name(&wanted.name).target_key_id(&target).send()
        });
        match made.await {
            // An earlier cluster's alias stays until its key is gone for good. Anybody else's stays theirs.
            Err(error) if error.has_code("AlreadyExistsException") => {
                take_over(env, wanted).await?;
            }
            other => other.map(|_| ())?,
        }
        Ok(Outputs::new())
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        _: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        if differing.contains(&"key") {
            redirect(env, wanted).await?;
        }
        Ok(Outputs::new())
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let regional = env.region(&found.region);
        let api = regional.api("kms", "DeleteAlias");
        Ok(env
            .session
            .remove(api, || regional.kms.delete_alias().alias_name(&found.id).send())
            .await?)
    }
}

async fn take_over(env: &Env, wanted: &Wanted<KmsAlias>) -> Result<(), Failure> {
    env.look_again();
    let seen = KmsAlias::observe(env, &wanted.region, &[wanted]).await?;
    match seen.first().map(|found| &found.owner) {
        Some(Owner::Foreign(why)) => {
            Err(Failure::Obstacle(format!("{} exists: {why}", wanted.name)))
        }
        _ => redirect(env, wanted).await,
    }
}

async fn redirect(env: &Env, wanted: &Wanted<KmsAlias>) -> Result<(), Failure> {
    let regional = env.region(&wanted.region);
    let target = env.resolve(&wanted.settings.target)?;
    let api = regional.api("kms", "UpdateAlias");
    let call = env.session.call(api, || {
        regional.kms.update_alias().alias_name(&wanted.name).target_key_id(&target).send()
    });
    call.await?;
    Ok(())
}
