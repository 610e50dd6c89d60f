//! Automated backups that RDS sends to the other region: what a point-in-time restore there starts from.

use aws_sdk_rds::types::DbInstanceAutomatedBackup as Described;

use super::{
    ARN, Address, Effect, Env, Failure, Field, Observation, Outputs, Owner, Primitive, Readiness,
    STATUS, SUFFIX_TAG, Text, Wanted,
    db_instance_waits::{describe as describe_instance, ready_source, settled_source},
    db_subnet_group::{rds_tags, rds_tags_of, retag_rds},
};
use crate::aws::{ApiError, Progress};

/// Backups of another region's instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbBackup {
    /// The instance's ARN.
    pub source: Text,
    /// Its name.
    pub source_name: String,
    /// Its region.
    pub source_region: String,
    /// The ARN of the key that encrypts them here.
    pub key: Text,
    /// Days.
    pub retention_days: u32,
}

impl DbBackup {
    /// The kind's name.
    pub const KIND: &str = "db-automated-backup";

    /// The address of the backups that a region receives.
    pub fn address(region: &str) -> Address {
        Address::new(region, Self::KIND)
    }
}

/// What a state of theirs says; AWS spells it in more than one way (aws-facts 1.2).
fn state(one: &Described) -> String {
    one.status().unwrap_or_default().to_lowercase()
}

/// The backups that a region is sent of an instance. They are matched by its ARN: whether AWS finds them by
/// the identifier of an instance of another region, its documentation leaves open.
async fn sent(
    env: &Env,
    region: &str,
    source_name: &str,
    source_region: &str,
) -> Result<Vec<Described>, ApiError> {
    let (partition, account) = (&env.scope.partition, &env.scope.account);
    let arn = format!("arn:{partition}:rds:{source_region}:{account}:db:{source_name}");
    let regional = env.region(region);
    let mut found = Vec::new();
    let mut page: Option<String> = None;
    loop {
        let api = regional.api("rds", "DescribeDBInstanceAutomatedBackups");
        let call = || {
            let call = regional.rds.describe_db_instance_automated_backups();
            call.set_marker(page.clone()).send()
        };
        let Some(answer) = env.session.find(api, call).await? else { return Ok(found) };
        page = answer.marker().map(str::to_owned);
        let all = answer.db_instance_automated_backups.unwrap_or_default();
        found.extend(all.into_iter().filter(|one| one.db_instance_arn() == Some(&arn)));
        if page.is_none() {
            return Ok(found);
        }
    }
}

impl Primitive for DbBackup {
    const KIND: &'static str = DbBackup::KIND;

    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("source", self.source.clone()).effect(Effect::Replace),
            Field::new("key", self.key.clone()).effect(Effect::Replace),
            Field::new("retention_days", self.retention_days.to_string())
                .from("backup.retention_days")
                .effect(Effect::Replace),
        ]
    }

    /// What is retained from an earlier replication of ours is found too: it is paid for and needs the key.
    async fn observe(
        env: &Env,
        region: &str,
        wanted: &[&Wanted<Self>],
    ) -> Result<Vec<Observation>, ApiError> {
        let mut found = Vec::new();
        for wanted in wanted {
            let settings = &wanted.settings;
            for one in sent(env, region, &settings.source_name, &settings.source_region).await? {
                let arn = one.db_instance_automated_backups_arn().unwrap_or_default();
                let tags = rds_tags_of(env, region, arn, Some(&wanted.tags)).await?;
                let is_retained = state(&one) == "retained";
                let address = if is_retained {
                    let id = arn.rsplit(':').next().unwrap_or_default();
                    Address::with(region, Self::KIND, id)
                } else {
                    wanted.address.clone()
                };
                let readiness = match state(&one).as_str() {
                    "pending" => Readiness::Busy("pending".into()),
                    _ => Readiness::Ready,
                };
                let days = one.backup_retention_period().unwrap_or_default();
                let is_untagged = !tags.contains_key(SUFFIX_TAG);
                let mut seen = Observation::new(address, region, arn)
                    .with("source", one.db_instance_arn().unwrap_or_default())
                    .with("key", one.kms_key_id().unwrap_or_default())
                    .with("retention_days", days.to_string())
                    .output(ARN, arn)
                    .output(STATUS, state(&one))
                    .output(SOURCE_ARN, one.db_instance_arn().unwrap_or_default())
                    .readiness(readiness)
                    .tagged(tags, env);
                // What is replicated now is of our instance, tagged yet or not. What is retained may be of an
                // earlier instance of that name, of which it may be the last copy: then its tags decide.
                if is_untagged && !is_retained {
                    seen.owner = Owner::Ours;
                }
                if !is_retained || seen.owner == Owner::Ours {
                    found.push(seen);
                }
            }
        }
        Ok(found)
    }

    async fn create(env: &Env, wanted: &Wanted<Self>) -> Result<Outputs, Failure> {
        let settings = &wanted.settings;
        let (source, key) = (env.resolve(&settings.source)?, env.resolve(&settings.key)?);
        let regional = env.region(&wanted.region);
        ready_source(env, &settings.source_region, &settings.source_name).await?;
        let api = regional.api("rds", "StartDBInstanceAutomatedBackupsReplication");
        let days = i32::try_from(settings.retention_days).unwrap_or(i32::MAX);
        let call = || {
            let call = regional.rds.start_db_instance_automated_backups_replication();
            let call = call.source_db_instance_arn(&source).kms_key_id(&key);
            call.backup_retention_period(days).set_tags(Some(rds_tags(&wanted.tags))).send()
        };
        env.session.call_once(api, call).await?;
        replicating(env, wanted).await
    }

    async fn update(
        env: &Env,
        wanted: &Wanted<Self>,
        found: &Observation,
        differing: &[&'static str],
    ) -> Result<Outputs, Failure> {
        if differing.contains(&"tags") {
            retag_rds(env, &wanted.region, &found.id, &found.tags, &wanted.tags).await?;
        }
        replicating(env, wanted).await
    }

    /// Stopping alone leaves what was sent behind, retained (aws-facts 0.12).
    async fn delete(env: &Env, found: &Observation) -> Result<(), Failure> {
        let regional = env.region(&found.region);
        let (arn, source) = (&found.id, found.outputs.get(SOURCE_ARN).cloned().unwrap_or_default());
        // Stopping names the source alone: of retained ones, it would stop their successor.
        if found.outputs.get(STATUS).is_none_or(|state| state != "retained") {
            stop(env, &found.region, &source).await?;
        }
        retained(env, &found.region, arn).await?;
        let api = regional.api("rds", "DeleteDBInstanceAutomatedBackup");
        let call = || {
            let call = regional.rds.delete_db_instance_automated_backup();
            call.db_instance_automated_backups_arn(arn).send()
        };
        env.session.remove(api, call).await?;
        // The source is busy for a while now, and refuses a final snapshot meanwhile.
        let mut parts = source.split(':').skip(3);
        if let (Some(region), Some(id)) = (parts.next(), parts.nth(2))
            && describe_instance(env, region, id).await?.is_some()
        {
            settled_source(env, region, id).await?;
        }
        Ok(())
    }
}

/// The ARN of the instance that backups are of.
const SOURCE_ARN: super::Output = "source_arn";

/// Waits until backups are retained: only then can they be deleted.
async fn retained(env: &Env, region: &str, arn: &str) -> Result<(), Failure> {
    let regional = env.region(region);
    let wait = env.session.wait(|| async {
        let api = regional.api("rds", "DescribeDBInstanceAutomatedBackups");
        let call = || {
            let call = regional.rds.describe_db_instance_automated_backups();
            call.db_instance_automated_backups_arn(arn).send()
        };
        let answer = env.session.find(api, call).await?;
        let all =
            answer.and_then(|answer| answer.db_instance_automated_backups).unwrap_or_default();
        Ok(match all.first().map(state) {
            Some(state) if state != "retained" => Progress::Pending(state),
            _ => Progress::Done(()),
        })
    });
    Ok(wait.await?)
}

async fn stop(env: &Env, region: &str, source: &str) -> Result<(), ApiError> {
    let regional = env.region(region);
    let api = regional.api("rds", "StopDBInstanceAutomatedBackupsReplication");
    let call = || {
        let call = regional.rds.stop_db_instance_automated_backups_replication();
        call.source_db_instance_arn(source).send()
    };
    match env.session.call(api, call).await {
        Err(error) if !error.is_not_found() && !error.message.contains("not replicating") => {
            Err(error)
        }
        _ => Ok(()),
    }
}

async fn replicating(env: &Env, wanted: &Wanted<DbBackup>) -> Result<Outputs, Failure> {
    let settings = &wanted.settings;
    let arn = env.session.wait(|| async {
        let all = sent(env, &wanted.region, &settings.source_name, &settings.source_region).await?;
        let one = all.iter().find(|one| state(one) != "retained");
        Ok(match one.map(|one| (state(one), one.db_instance_automated_backups_arn())) {
            Some((state, Some(arn))) if state == "replicating" => Progress::Done(arn.to_owned()),
            Some((state, _)) => Progress::Pending(state),
            None => Progress::Pending("not visible yet".into()),
        })
    });
    Ok(Outputs::from([(ARN, arn.await?)]))
}
