//! The snapshot copier: the newest automated snapshot of the writer is copied into the DR region, with that
//! region's key, and old copies go.
//!
//! It is level-triggered: each run looks at what there is and does what is missing, so that a run that is
//! missed, doubled or killed costs nothing but time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_sdk_cloudwatch::types::{Dimension, MetricDatum};
use aws_sdk_rds::types::{DbInstance, DbSnapshot, Tag};
use aws_smithy_types::date_time::{DateTime, Format};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::aws::rests;
use crate::{
    aws::{ApiError, Aws, ErrorClass, Session},
    contract::{Copying, DIMENSION, NAMESPACE, SECRET_TAG, SUFFIX_TAG, copy_name, copy_stamp},
};

/// How long AWS is waited for, retries included: a run has a minute.
const LIMIT: Duration = Duration::from_secs(50);
/// Tags that say something about the instance alone.
const INSTANCES_OWN: [&str; 2] = ["Name", SECRET_TAG];
/// The age that is told where there is nothing to be copied.
const NO_AGE: f64 = 0.0;

struct Copier<'a> {
    aws: &'a Aws,
    session: &'a Session,
    copying: &'a Copying,
}

/// What a run found and did.
#[derive(Debug, Default)]
struct Done {
    copied: Option<String>,
    removed: Vec<String>,
}

/// One run.
///
/// # Errors
/// What AWS refused or did not answer; the age of the newest copy is published all the same.
pub async fn run(aws: Arc<Aws>, copying: &Copying) -> Result<Value, String> {
    let deadline = aws.clock().now() + LIMIT;
    let session = Session::new(aws.clock().clone(), CancellationToken::new(), Some(deadline));
    let copier = Copier { aws: &aws, session: &session, copying };
    // What is removed is not copied; and what has failed over has another writer, whose own backups count.
    let here = &copying.region;
    let rests = rests(&aws, &session, here, &copying.ledger, &copying.suffix).await;
    if rests.map_err(|error| error.to_string())? {
        copier.publish(NO_AGE).await.map_err(|error| error.to_string())?;
        return Ok(json!({"copied": null, "removed": []}));
    }
    // First, and whatever becomes of the rest: a source that does not answer may use up the time of a run.
    let age = copier.age().await;
    let told = match &age {
        Ok(age) => copier.publish(*age).await,
        Err(_) => Ok(()),
    };
    let done = copier.work().await.map_err(|error| error.to_string());
    let age = age.map_err(|error| error.to_string())?;
    told.map_err(|error| error.to_string())?;
    let done = done?;
    Ok(json!({"copied": done.copied, "removed": done.removed, "age_seconds": age}))
}

impl Copier<'_> {
    async fn snapshots(&self, region: &str, kind: &str) -> Result<Vec<DbSnapshot>, ApiError> {
        let regional = self.aws.region(region);
        let (mut found, mut page) = (Vec::new(), None::<String>);
        loop {
            let api = regional.api("rds", "DescribeDBSnapshots");
            let call = || {
                let call = regional.rds.describe_db_snapshots().snapshot_type(kind);
                let call = call.db_instance_identifier(&self.copying.instance);
                call.set_marker(page.clone()).send()
            };
            let answer = self.session.call(api, call).await?;
            page = answer.marker().map(str::to_owned);
            found.extend(answer.db_snapshots.unwrap_or_default());
            if page.is_none() {
                return Ok(found);
            }
        }
    }

    /// Our copies, by the moment of their originals. One with another key, or that is tagged as somebody else's, is of an
    /// earlier cluster of this suffix, and maybe the last that is left of it.
    async fn copies(&self) -> Result<BTreeMap<String, DbSnapshot>, ApiError> {
        let all = self.snapshots(&self.copying.region, "manual").await?;
        let of = |one: DbSnapshot| {
            let is_theirs = one.tag_list().iter().any(|tag| {
                tag.key() == Some(SUFFIX_TAG) && tag.value() != Some(&self.copying.suffix)
            });
            if is_theirs || one.kms_key_id() != Some(&self.copying.key) {
                return None;
            }
            let name = one.db_snapshot_identifier()?;
            Some((copy_stamp(name, &self.copying.suffix)?.to_owned(), one))
        };
        Ok(all.into_iter().filter_map(of).collect())
    }

    /// The writer's own snapshots that can be copied, by their moments.
    async fn originals(&self) -> Result<BTreeMap<String, DbSnapshot>, ApiError> {
        let all = self.snapshots(&self.copying.source_region, "automated").await?;
        let is_nightly = |one: &DbSnapshot| is_nightly(one, &self.copying.instance);
        let usable = all.into_iter().filter(is_nightly);
        let usable = usable.filter(|one| one.status() == Some("available"));
        Ok(usable.filter_map(|one| Some((stamp(&one)?, one))).collect())
    }

    async fn work(&self) -> Result<Done, ApiError> {
        let copies = self.copies().await?;
        let mut done = Done::default();
        // One at a time: AWS limits how many are under way into a region.
        let is_busy = copies.values().any(|one| one.status() == Some("creating"));
        if !is_busy
            && let Some((stamp, newest)) = self.originals().await?.pop_last()
            && copies.last_key_value().is_none_or(|(last, _)| *last < stamp)
        {
            done.copied = Some(self.copy(&stamp, &newest).await?);
        }
        // Those that are kept are whole: one that is being made replaces none yet.
        let whole = copies.iter().filter(|(_, one)| one.status() == Some("available"));
        let whole: Vec<_> = whole.map(|(stamp, _)| stamp.clone()).collect();
        let old = whole.len().saturating_sub(self.copying.keep);
        for stamp in &whole[..old] {
            let name = copy_name(stamp, &self.copying.suffix);
            self.remove(&name).await?;
            done.removed.push(name);
        }
        Ok(done)
    }

    async fn copy(&self, stamp: &str, original: &DbSnapshot) -> Result<String, ApiError> {
        let name = copy_name(stamp, &self.copying.suffix);
        let tags = self.tags(&name).await?;
        let source = original.db_snapshot_arn().unwrap_or_default();
        let regional = self.aws.region(&self.copying.region);
        let api = regional.api("rds", "CopyDBSnapshot");
        let call = || {
            let call = regional.rds.copy_db_snapshot().source_db_snapshot_identifier(source);
            let call = call.target_db_snapshot_identifier(&name).kms_key_id(&self.copying.key);
            call.set_tags(Some(tags.clone())).send()
        };
        match self.session.call(api, call).await {
            // A run that overlaps, or an answer that was lost.
            Err(error) if error.class != ErrorClass::AlreadyExists => Err(error),
            _ => Ok(name),
        }
    }

    /// The instance's tags, so that a copy is known as the cluster's, and paid for like it.
    async fn tags(&self, name: &str) -> Result<Vec<Tag>, ApiError> {
        let regional = self.aws.region(&self.copying.source_region);
        let api = regional.api("rds", "DescribeDBInstances");
        let call = || {
            let call = regional.rds.describe_db_instances();
            call.db_instance_identifier(&self.copying.instance).send()
        };
        let answer = self.session.call(api, call).await?;
        Ok(answer.db_instances().first().map(|one| inherited(one, name)).unwrap_or_default())
    }

    async fn remove(&self, name: &str) -> Result<(), ApiError> {
        let regional = self.aws.region(&self.copying.region);
        let api = regional.api("rds", "DeleteDBSnapshot");
        let call = || regional.rds.delete_db_snapshot().db_snapshot_identifier(name).send();
        self.session.remove(api, call).await
    }

    /// How old what the newest whole copy holds is, in seconds. Without any, how long there has been
    /// something to copy.
    async fn age(&self) -> Result<f64, ApiError> {
        let copies = self.copies().await?;
        let mut whole = copies.iter().filter(|(_, one)| one.status() == Some("available"));
        let newest = match whole.next_back() {
            Some((stamp, _)) => Some(stamp.clone()),
            None => self.originals().await?.into_keys().next(),
        };
        let at = newest.as_deref().and_then(moment);
        let now = DateTime::from(self.session.clock.now());
        Ok(at.map_or(NO_AGE, |at| (now.as_secs_f64() - at.as_secs_f64()).max(0.0)))
    }

    async fn publish(&self, age: f64) -> Result<(), ApiError> {
        let regional = self.aws.region(&self.copying.region);
        let api = regional.api("cloudwatch", "PutMetricData");
        let dimension = Dimension::builder().name(DIMENSION).value(&self.copying.suffix).build();
        let datum = MetricDatum::builder().metric_name("SnapshotCopyAge").value(age);
        let datum = datum.dimensions(dimension).timestamp(self.session.clock.now().into()).build();
        let call = || {
            let call = regional.cloudwatch.put_metric_data().namespace(NAMESPACE);
            call.metric_data(datum.clone()).send()
        };
        self.session.call(api, call).await.map(|_| ())
    }
}

/// An instance's tags for what is made of it.
pub(super) fn inherited(instance: &DbInstance, name: &str) -> Vec<Tag> {
    let own = instance.tag_list().iter().filter(|tag| {
        let key = tag.key().unwrap_or_default();
        !key.starts_with("aws:") && !INSTANCES_OWN.contains(&key)
    });
    let named = Tag::builder().key("Name").value(name).build();
    own.cloned().chain([named]).collect()
}

/// Whether a snapshot is one of every night, by its name: `rds:`, the instance's, and a moment. Of those that RDS takes before
/// an upgrade, the copier may make no copy.
fn is_nightly(snapshot: &DbSnapshot, instance: &str) -> bool {
    let name = snapshot.db_snapshot_identifier().unwrap_or_default();
    let rest = name.strip_prefix("rds:").and_then(|name| name.strip_prefix(instance));
    let Some(moment) = rest.and_then(|rest| rest.get(..17)) else { return false };
    let fits = |(form, at): (char, char)| if form == '-' { at == '-' } else { at.is_ascii_digit() };
    "-0000-00-00-00-00".chars().zip(moment.chars()).all(fits)
}

/// The moment of a snapshot, as names have it: `20260105-0312`.
fn stamp(snapshot: &DbSnapshot) -> Option<String> {
    let text = snapshot.snapshot_create_time()?.fmt(Format::DateTime).ok()?;
    let digits = |range: std::ops::Range<usize>| text.get(range);
    let day = [digits(0..4)?, digits(5..7)?, digits(8..10)?].concat();
    Some(format!("{day}-{}{}", digits(11..13)?, digits(14..16)?))
}

/// The other way round.
fn moment(stamp: &str) -> Option<DateTime> {
    let part = |range: std::ops::Range<usize>| stamp.get(range);
    let text = format!(
        "{}-{}-{}T{}:{}:00Z",
        part(0..4)?,
        part(4..6)?,
        part(6..8)?,
        part(9..11)?,
        part(11..13)?
    );
    DateTime::from_str(&text, Format::DateTime).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nightly_snapshot_is_known_by_its_name() {
        let is = |name: &str| {
            let one = DbSnapshot::builder().db_snapshot_identifier(name).build();
            is_nightly(&one, "trading-db-primary-prod")
        };
        assert!(is("rds:trading-db-primary-prod-2026-01-05-03-12"));
        assert!(!is("rds:preupgrade-trading-db-primary-prod-15-4-to-15-14-2026-01-05-03-12"));
        assert!(!is("rds:trading-db-primary-prod-2-2026-01-05-03-12"));
        assert!(!is("rds:trading-db-primary-prod"));
        assert!(!is("trading-db-copy-20260105-0312-prod"));
    }

    #[test]
    fn a_snapshot_is_named_by_its_moment_and_found_again() {
        let at = DateTime::from_str("2026-01-05T03:12:45Z", Format::DateTime).unwrap();
        let one = DbSnapshot::builder().snapshot_create_time(at).build();
        let stamp = stamp(&one).unwrap();
        assert_eq!(stamp, "20260105-0312");
        assert_eq!(moment(&stamp).unwrap().secs(), at.secs() - 45);
        assert_eq!(moment("2026"), None);
    }
}
