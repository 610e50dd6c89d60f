//! What the components of Route 53 share: references that tell whose something is, tags, and waiting for
//! changes. The control plane is one for all regions.

use aws_sdk_route53::types::{ChangeInfo, ChangeStatus, Tag, TagResourceType};

use super::{CLUSTER_TAG, Env, Failure, SUFFIX_TAG, Tags, env::nonce, retag};
use crate::aws::{ApiError, Progress};

/// Where the tagging API finds what belongs to no region.
pub(super) const TAG_REGION: &str = "us-east-1";

/// A caller reference: it is set in the same call that makes a thing, which its tags are not, and holds what
/// they say. One that was ever used cannot be used again, so it ends in something new.
pub(super) fn reference(env: &Env, purpose: &str) -> Result<String, Failure> {
    let id = env.scope.cluster_id.as_deref().unwrap_or_default();
    Ok(format!("{}/{id}/{purpose}/{}", env.scope.suffix, nonce()?))
}

/// What a reference says: the tags that it stands for, and the purpose. `None` for somebody else's.
pub(super) fn referred(reference: &str) -> Option<(Tags, &str)> {
    let parts: Vec<&str> = reference.split('/').collect();
    let [suffix, id, purpose, _] = parts[..] else { return None };
    let tags = [(SUFFIX_TAG, suffix), (CLUSTER_TAG, id)];
    Some((tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(), purpose))
}

/// An id without the path that answers put in front of it.
pub(super) fn bare(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or_default()
}

/// The tags of a zone or a health check, from the shared look or from Route 53.
pub(super) async fn tags_of(
    env: &Env,
    region: &str,
    kind: TagResourceType,
    id: &str,
    wanted: &Tags,
) -> Result<Tags, ApiError> {
    let arn = format!("arn:{}:route53:::{}/{id}", env.scope.partition, kind.as_str());
    let ask = || ask_tags(env, region, kind, id);
    env.tags_of(TAG_REGION, &arn, Some(wanted), ask).await
}

/// The tags of a zone or a health check as Route 53 has them this moment.
pub(super) async fn ask_tags(
    env: &Env,
    region: &str,
    kind: TagResourceType,
    id: &str,
) -> Result<Tags, ApiError> {
    let regional = env.region(region);
    let api = regional.api("route53", "ListTagsForResource");
    let call = || {
        let call = regional.route53.list_tags_for_resource().resource_type(kind.clone());
        call.resource_id(id).send()
    };
    let answer = env.session.find(api, call).await?;
    let tags = answer.and_then(|answer| answer.resource_tag_set).and_then(|set| set.tags);
    let pairs = tags.unwrap_or_default().into_iter();
    Ok(pairs.filter_map(|tag| Some((tag.key?, tag.value?))).collect())
}

/// Makes the tags of a zone or a health check those that are wanted.
pub(super) async fn set_tags(
    env: &Env,
    region: &str,
    kind: TagResourceType,
    id: &str,
    current: &Tags,
    wanted: &Tags,
) -> Result<(), ApiError> {
    let (set, gone) = retag(current, wanted);
    let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build();
    let add: Vec<Tag> = set.iter().map(tag).collect();
    let regional = env.region(region);
    for (add, gone) in batches(&add, &gone) {
        let api = regional.api("route53", "ChangeTagsForResource");
        let call = || {
            let call = regional.route53.change_tags_for_resource().resource_type(kind.clone());
            call.resource_id(id).set_add_tags(add.clone()).set_remove_tag_keys(gone.clone()).send()
        };
        env.session.call_on_new(api, call).await?;
    }
    Ok(())
}

/// What one call takes at most, of either list; empty lists are left out.
const BATCH: usize = 10;

type Batch<T> = Option<Vec<T>>;

fn batches(add: &[Tag], gone: &[String]) -> Vec<(Batch<Tag>, Batch<String>)> {
    let adds = add.chunks(BATCH).map(|some| (Some(some.to_vec()), None));
    let removals = gone.chunks(BATCH).map(|some| (None, Some(some.to_vec())));
    adds.chain(removals).collect()
}

/// Waits until every name server has a change.
pub(super) async fn in_sync(
    env: &Env,
    region: &str,
    change: Option<&ChangeInfo>,
) -> Result<(), Failure> {
    let Some(change) = change else { return Ok(()) };
    let regional = env.region(region);
    let wait = env.session.wait(|| async {
        let api = regional.api("route53", "GetChange");
        let call = || regional.route53.get_change().id(bare(change.id())).send();
        let Some(answer) = env.session.find(api, call).await? else {
            let what = format!("Route 53 does not know of the change {}", bare(change.id()));
            return Ok(Progress::Unseen(what));
        };
        let status = answer.change_info().map(ChangeInfo::status).cloned();
        Ok(match status {
            Some(ChangeStatus::Insync) | None => Progress::Done(()),
            Some(other) => Progress::Pending(other.as_str().to_lowercase()),
        })
    });
    Ok(wait.await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_says_whose_a_thing_is() {
        let (tags, purpose) = referred("prod-2/0123456789abcdef/primary/89abcdef").unwrap();
        assert_eq!((tags[SUFFIX_TAG].as_str(), purpose), ("prod-2", "primary"));
        assert_eq!(tags[CLUSTER_TAG], "0123456789abcdef");
        assert!(referred("terraform-2026").is_none() && referred("a/b/c").is_none());
    }
}
