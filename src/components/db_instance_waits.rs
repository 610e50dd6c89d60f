//! Looking at database instances, and waiting until they are as they should be.

use aws_sdk_rds::types::DbInstance as Described;

use super::{Env, Failure, Readiness, db_instance::readiness};
use crate::aws::{ApiError, Progress};

/// An instance by its name; `None` if there is none.
pub(super) async fn describe(
    env: &Env,
    region: &str,
    id: &str,
) -> Result<Option<Described>, ApiError> {
    let regional = env.region(region);
    let api = regional.api("rds", "DescribeDBInstances");
    let call = || regional.rds.describe_db_instances().db_instance_identifier(id).send();
    let found = env.session.find(api, call).await?;
    Ok(found.and_then(|answer| answer.db_instances.unwrap_or_default().pop()))
}

/// The same, in one call that discovery and observation share.
pub(super) async fn described(
    env: &Env,
    region: &str,
    id: &str,
) -> Result<Option<Described>, ApiError> {
    env.shared(format!("instance {region} {id}"), || describe(env, region, id)).await
}

/// Its status, as RDS words it.
pub(super) fn status(instance: &Described) -> &str {
    instance.db_instance_status().unwrap_or_default()
}

/// Looks until `done` says that the instance is as it should be; `done` answers why it is not yet.
pub(super) async fn until(
    env: &Env,
    region: &str,
    id: &str,
    done: impl Fn(&Described) -> Progress<()> + Send + Sync,
) -> Result<Described, Failure> {
    let wait = env.session.wait(|| async {
        let Some(one) = describe(env, region, id).await? else {
            return Ok(Progress::Unseen(format!("the instance {id} disappeared meanwhile")));
        };
        Ok(done(&one).map(|()| one))
    });
    Ok(wait.await?)
}

/// The same of an instance that is to go anyway: as it is then, unless it is gone.
pub(super) async fn if_there(
    env: &Env,
    region: &str,
    id: &str,
    done: impl Fn(&Described) -> Progress<()> + Send + Sync,
) -> Result<Option<Described>, Failure> {
    let wait = env.session.wait(|| async {
        let found = describe(env, region, id).await?;
        Ok(found.map_or(Progress::Done(None), |one| done(&one).map(|()| Some(one))))
    });
    Ok(wait.await?)
}

/// Waits until the instance that something is to be made from is ready for it.
pub(super) async fn ready_source(env: &Env, region: &str, id: &str) -> Result<(), Failure> {
    until(env, region, id, is_ready).await.map(|_| ())
}

/// Waits until the instance that something was made from is done with that, whatever it is then.
pub(super) async fn settled_source(env: &Env, region: &str, id: &str) -> Result<(), Failure> {
    let is_settled = |instance: &Described| match readiness(status(instance)) {
        Readiness::Busy(state) => Progress::Pending(state),
        Readiness::Ready | Readiness::Broken(_) => Progress::Done(()),
    };
    until(env, region, id, is_settled).await.map(|_| ())
}

/// Whether it can be used.
pub(super) fn is_ready(instance: &Described) -> Progress<()> {
    match readiness(status(instance)) {
        Readiness::Ready => Progress::Done(()),
        Readiness::Busy(state) => Progress::Pending(state),
        Readiness::Broken(state) => {
            Progress::Failed(format!("the instance is {state}, which does not pass by waiting"))
        }
    }
}

/// Ready, or in a state that a modification may mend.
pub(super) fn is_modifiable(instance: &Described) -> Progress<()> {
    match status(instance) {
        "storage-full" | "incompatible-parameters" => Progress::Done(()),
        _ => is_ready(instance),
    }
}

/// Waits until an instance that is being deleted is gone.
pub(super) async fn until_gone(env: &Env, region: &str, id: &str) -> Result<(), Failure> {
    let gone = env.session.wait(|| async {
        let left = describe(env, region, id).await?;
        Ok(left.map_or(Progress::Done(()), |one| Progress::Pending(status(&one).to_owned())))
    });
    Ok(gone.await?)
}
