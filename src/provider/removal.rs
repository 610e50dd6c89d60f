//! What is looked for before anything is removed: a destroy that could not be finished would leave less than there was.

use super::flow::Opened;
use crate::components::{
    Observation, Owner, Readiness, SOURCE, STATUS,
    db_instance::{DbInstance, FINAL_SNAPSHOT, readiness},
    log_group::LogGroup,
};

/// What has the cluster's names and does not count as the cluster's: every instance, as the key of its storage
/// would go; and of a cluster that was ever finished, which had all of it, what nobody else claims either, before
/// anything is removed. What is being deleted loses its tags first, and groups of logs come back by themselves.
pub(super) fn strangers(opened: &Opened, is_first: bool) -> Vec<&Observation> {
    let was_whole = opened.claim.as_ref().is_some_and(|claim| claim.is_complete);
    let is_unclaimed = |one: &Observation| {
        let wanted = opened.blueprint.get(&one.address);
        let is_tagged = wanted.is_some_and(|one| one.fields.iter().any(|one| one.name == "tags"));
        let is_fit = one.readiness == Readiness::Ready && one.address.kind() != LogGroup::KIND;
        is_first && was_whole && is_tagged && is_fit && opened.env.scope.lacks_tag(&one.tags)
    };
    let all = opened.inventory.all().filter(|one| one.owner != Owner::Ours);
    all.filter(|one| one.address.kind() == DbInstance::KIND || is_unclaimed(one)).collect()
}

/// The writer that a final snapshot is asked of, and the state in which RDS makes none of it: without that, its standby
/// and its backups would go, and the writer could not.
pub(super) fn unsaveable(opened: &Opened) -> Option<(&Observation, &str)> {
    let writers = opened.inventory.all().filter(|one| {
        let is_writer = !one.outputs.contains_key(SOURCE);
        one.owner == Owner::Ours && is_writer && one.outputs.contains_key(FINAL_SNAPSHOT)
    });
    let mut broken = writers.filter_map(|one| {
        let status = one.outputs.get(STATUS)?.as_str();
        matches!(readiness(status), Readiness::Broken(_)).then_some((one, status))
    });
    broken.next()
}
