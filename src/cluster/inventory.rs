//! What AWS holds of a cluster.

use std::collections::BTreeMap;

use futures::future::try_join_all;

use super::Blueprint;
use crate::{
    aws::ApiError,
    components::{Address, Component, Env, Observation, Owner, Text, kinds},
};

/// What AWS holds of a cluster, by address.
#[derive(Clone, Debug, Default)]
pub struct Inventory(BTreeMap<Address, Observation>);

impl Inventory {
    /// Looks for everything that a blueprint wants, and for what else belongs to the cluster. All kinds and
    /// regions at once.
    ///
    /// # Errors
    /// A look failed.
    pub async fn observe(env: &Env, blueprint: &Blueprint) -> Result<Self, ApiError> {
        let looks = kinds().iter().flat_map(|kind| {
            let of_kind: Vec<&Component> =
                blueprint.looked_for().filter(|one| one.kind().name() == kind.name()).collect();
            let mut regions: Vec<&str> = of_kind.iter().map(|one| one.region()).collect();
            if kind.is_found_without_a_name() {
                regions.extend(blueprint.regions().iter().map(String::as_str));
            }
            regions.sort_unstable();
            regions.dedup();
            regions.into_iter().map(move |region| {
                let wanted: Vec<&Component> =
                    of_kind.iter().filter(|one| one.region() == region).copied().collect();
                async move { kind.observe(env, region, &wanted).await }
            })
        });
        let found = try_join_all(looks).await?;
        let mut all = BTreeMap::new();
        for one in found.into_iter().flatten() {
            env.note(&one.address, one.outputs.clone());
            all.insert(one.address.clone(), one);
        }
        Ok(Self(all))
    }

    /// From observations.
    pub fn of(all: impl IntoIterator<Item = Observation>) -> Self {
        Self(all.into_iter().map(|one| (one.address.clone(), one)).collect())
    }

    /// What is at an address.
    pub fn get(&self, address: &Address) -> Option<&Observation> {
        self.0.get(address)
    }

    /// Everything.
    pub fn all(&self) -> impl Iterator<Item = &Observation> {
        self.0.values()
    }

    /// Without what is ours: what stands in the way of a cluster that is made after this one is gone.
    #[must_use]
    pub fn foreign(&self) -> Self {
        let foreign = self.0.iter().filter(|(_, found)| found.owner != Owner::Ours);
        Self(foreign.map(|(address, found)| (address.clone(), found.clone())).collect())
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A setting as AWS would have it; `None` if what it refers to does not exist.
    pub fn resolve(&self, text: &Text) -> Option<String> {
        let find = |address: &Address, output| self.0.get(address)?.outputs.get(output).cloned();
        text.filled(find).ok()
    }
}
