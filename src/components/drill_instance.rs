//! The throw-away instance of a drill. It comes and goes by itself; a destroy removes one that is there.

use super::{
    ARN, Address, Env, Failure, Field, Observation, Outputs, Primitive, Wanted,
    db_instance_calls::delete, db_instance_waits::describe, db_subnet_group::from_rds,
};
use crate::aws::ApiError;

/// A drill's instance: its name says all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillInstance;

impl DrillInstance {
    /// The kind's name.
    pub const KIND: &str = "drill-instance";

    /// The address of a region's one.
    pub fn address(region: &str) -> Address {
        Address::new(region, Self::KIND)
    }
}

impl Primitive for DrillInstance {
    const KIND: &'static str = DrillInstance::KIND;
    const BYPRODUCT: bool = true;

    fn fields(&self) -> Vec<Field> {
        Vec::new()
    }

    /// Only where no stone is left unturned, as drills remove it themselves; and before there is a cluster, whose drills
    /// somebody else's would keep from being held.
    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let Some(any) =
            wanted.first().filter(|_| env.is_thorough() || env.scope.cluster_id.is_none())
        else {
            return Ok(Vec::new());
        };
        let found = describe(env, region, &any.name).await?;
        Ok(found
            .map(|one| {
                Observation::new(any.address.clone(), region, &any.name)
                    .output(ARN, one.db_instance_arn().unwrap_or_default())
                    .tagged(from_rds(one.tag_list()), env)
            })
            .into_iter()
            .collect())
    }

    /// Drills make it.
    async fn create(_: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        Err(Failure::Obstacle(format!("{} is made by drills alone", wanted.name)))
    }

    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        delete(env, found).await
    }
}
