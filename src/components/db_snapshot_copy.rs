//! Copies of snapshots that the copier has made. They come and go by themselves; a destroy removes them.

use std::collections::BTreeMap;

use super::{
    ARN, Address, Env, Failure, Field, Observation, Outputs, Primitive, Wanted,
    db_subnet_group::from_rds,
};
use crate::{
    aws::{ApiError, Progress},
    contract::copy_stamp,
};

/// Where copies are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbSnapshotCopy {
    /// The instance whose snapshots are copied.
    pub instance: String,
}

impl DbSnapshotCopy {
    /// The kind's name.
    pub const KIND: &str = "db-snapshot-copy";

    /// The address of a region's copy.
    pub fn address(region: &str, name: &str) -> Address {
        Address::with(region, Self::KIND, name)
    }
}

/// Manual snapshots of an instance by name: the state, and what they are.
async fn all(
    env: &Env,
    region: &str,
    instance: &str,
) -> Result<BTreeMap<String, (String, Observation)>, ApiError> {
    let regional = env.region(region);
    let (mut found, mut page) = (BTreeMap::new(), None::<String>);
    loop {
        let api = regional.api("rds", "DescribeDBSnapshots");
        let call = || {
            let call = regional.rds.describe_db_snapshots().snapshot_type("manual");
            call.db_instance_identifier(instance).set_marker(page.clone()).send()
        };
        let answer = env.session.call(api, call).await?;
        page = answer.marker().map(str::to_owned);
        for one in answer.db_snapshots() {
            let name = one.db_snapshot_identifier().unwrap_or_default().to_owned();
            let seen = Observation::new(DbSnapshotCopy::address(region, &name), region, &name)
                .output(ARN, one.db_snapshot_arn().unwrap_or_default())
                .tagged(from_rds(one.tag_list()), env);
            found.insert(name, (one.status().unwrap_or_default().to_owned(), seen));
        }
        if page.is_none() {
            return Ok(found);
        }
    }
}

impl Primitive for DbSnapshotCopy {
    const KIND: &'static str = DbSnapshotCopy::KIND;
    const BYPRODUCT: bool = true;

    fn fields(&self) -> Vec<Field> {
        Vec::new()
    }

    /// Only where no stone is left unturned: nothing but a destroy needs to know of them.
    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let Some(any) = wanted.first().filter(|_| env.is_thorough()) else {
            return Ok(Vec::new());
        };
        let found = all(env, region, &any.settings.instance).await?;
        let ours =
            found.into_iter().filter(|(name, _)| copy_stamp(name, &env.scope.suffix).is_some());
        Ok(ours.map(|(_, (_, seen))| seen).collect())
    }

    /// The copier makes them.
    async fn create(_: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        Err(Failure::Obstacle(format!("{} is made by the copier alone", wanted.name)))
    }

    /// One that is being made cannot be removed yet.
    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let (region, name) = (&found.region, &found.id);
        let regional = env.region(region);
        let whole = env.session.wait(|| async {
            let api = regional.api("rds", "DescribeDBSnapshots");
            let call = || regional.rds.describe_db_snapshots().db_snapshot_identifier(name).send();
            let answer = env.session.find(api, call).await?;
            let state =
                answer.and_then(|one| Some(one.db_snapshots().first()?.status()?.to_owned()));
            Ok(match state.as_deref() {
                Some("creating") => Progress::Pending("being copied".into()),
                _ => Progress::Done(()),
            })
        });
        whole.await?;
        let api = regional.api("rds", "DeleteDBSnapshot");
        let call = || regional.rds.delete_db_snapshot().db_snapshot_identifier(name).send();
        Ok(env.session.remove(api, call).await?)
    }
}
