//! The drill: proves that the standby can be promoted, and measures how long that takes, on a throw-away replica
//! of it.
//!
//! # Expected flow
//! The cluster is healthy → RDS makes a replica of the standby → it gets what the writer has → it is promoted and
//! takes a write → it is removed. That takes longer than a function may run: runs go on with what is on record,
//! every few minutes, and nothing is lost if one of them dies.
//!
//! # Guarantees
//! What is asked of RDS is on record before; two runs that overlap cannot both write. Neither the writer nor the
//! standby is changed. Every step has its limit, and whatever goes wrong ends with a removal.
//!
//! # Caveats
//! While RDS saves the standby for its replica, the standby itself cannot be promoted; for how long, is measured.

mod steps;

use std::{collections::BTreeMap, sync::Arc};

use aws_sdk_rds::types::{DbInstance, Tag};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Fault, Ledger, Side, Surface as _, Written,
    aws::{ACTION, ANSWER, AwsSurface, body_in, fault, intent_in, shown},
    copier::inherited,
    probe::Place,
};
use crate::{
    aws::{Aws, ErrorClass, Session},
    cluster::failover::Phase,
    contract::{
        INTENT, LEDGER, SECRET_TAG,
        drill::{DRILL, DrillCommand, Drilling, Drills, KEPT, Step, Underway},
    },
};
use steps::{Act, Copy, Seen, next};

/// How long a run lives, in milliseconds: the function has five minutes, as has its schedule.
pub const LIFE: u64 = 270_000;
/// Between two looks, in milliseconds.
const PAUSE: u64 = 10_000;
/// The same where a look is what is measured.
const SHORT_PAUSE: u64 = 5_000;

struct Drill {
    surface: AwsSurface,
    /// The name of the throw-away instance.
    instance: String,
}

/// What a look came to.
enum Came {
    /// There is nothing more to do in this run.
    ToAnEnd(Value),
    /// It goes on, after a pause.
    On(u64),
}

/// What both kinds of look need of the instances.
struct Instances {
    standby: Option<DbInstance>,
    copy: Option<DbInstance>,
}

/// One run.
///
/// # Errors
/// What was asked cannot be understood, or the last look was in vain.
pub async fn run(aws: Arc<Aws>, drilling: Drilling, payload: Value) -> Result<Value, String> {
    let command: DrillCommand = serde_json::from_value(payload)
        .map_err(|error| format!("this is nothing that a drill can be asked: {error}"))?;
    let session = Session::new(aws.clock().clone(), CancellationToken::new(), None);
    let surface = AwsSurface::new(aws, session, drilling.assignment);
    let drill = Drill { surface, instance: drilling.instance };
    let end = drill.surface.now() + LIFE;
    let mut begins = command == DrillCommand::Drill;
    loop {
        let came = drill.look(&mut begins, end).await;
        let pause = match &came {
            Ok(Came::ToAnEnd(answer)) => return Ok(answer.clone()),
            Ok(Came::On(pause)) => *pause,
            Err(_) => PAUSE,
        };
        let at = drill.surface.now() + pause;
        if at >= end {
            return came.map(|_| json!({"drill": "goes on"})).map_err(|fault| fault.to_string());
        }
        drill.surface.sleep_until(at).await;
    }
}

impl Drill {
    async fn look(&self, begins: &mut bool, end: u64) -> Result<Came, Fault> {
        let items = self.surface.own_items().await?;
        let intent = items.get(INTENT).map(intent_in).unwrap_or_default();
        let phase = body_in::<Ledger>(&items, LEDGER)?.phase;
        let mut drills: Drills = body_in(&items, DRILL)?;
        let now = self.surface.now();
        if intent.destroying {
            return Ok(Came::ToAnEnd(json!({"drill": "the cluster is being removed"})));
        }
        if drills.underway.is_some() {
            // It is on record; until then it is asked for at each look.
            *begins = false;
        } else if *begins {
            if phase != Phase::Normal {
                let text = format!("not now: the phase is {}", phase.as_str());
                return Ok(Came::ToAnEnd(json!({"drill": text})));
            }
            drills.underway = Some(Underway::new(now));
        }
        let Some(run) = &mut drills.underway else {
            return Ok(Came::ToAnEnd(
                json!({"drill": "none is under way", "last": drills.past.last()}),
            ));
        };
        let instances = self.instances(run.step).await?;
        let seen = Seen {
            now,
            left: end.saturating_sub(now),
            is_normal: phase == Phase::Normal,
            is_held: intent.hold_until.is_some_and(|until| until > now),
            standby: instances.standby.as_ref().map(shown),
            backup_age: if run.step == Step::Waiting { self.backup_age(now).await? } else { None },
            copy: instances.copy.as_ref().map(|one| self.copy(one, instances.standby.as_ref())),
            probed: self.probed(run, instances.copy.as_ref()).await?,
        };
        let act = next(run, &seen);
        let step = run.step;
        if act == Act::Finish {
            return self.finish(drills, now).await.map(Came::ToAnEnd);
        }
        if !self.save(&mut drills).await? {
            return Ok(Came::ToAnEnd(json!({"drill": "another run goes on with it"})));
        }
        if step == Step::Creating && seen.standby.is_some_and(|one| one.status != "available") {
            let _ = self.surface.publish(&[("DrillBlocksPromotion", 1.0)]).await;
        }
        let done = match act {
            Act::Create => self.create(instances.standby.as_ref()).await,
            Act::Promote => self.promote().await,
            Act::Remove => self.remove().await,
            Act::Leave => return Ok(Came::ToAnEnd(json!({"drill": "goes on in the next run"}))),
            Act::Wait | Act::Finish => Ok(()),
        };
        if let Err(Fault::Refused(why) | Fault::NotNow(why)) = done {
            // Nothing was done, so that it can be asked again at the next look.
            if let Some(run) = &mut drills.underway {
                run.asked = None;
                run.waits = why;
            }
            self.save(&mut drills).await?;
        }
        let is_measured = matches!(step, Step::Waiting | Step::Promoting);
        Ok(Came::On(if is_measured { SHORT_PAUSE } else { PAUSE }))
    }

    /// Whether it was written: somebody else may have been first.
    async fn save(&self, drills: &mut Drills) -> Result<bool, Fault> {
        let expected = drills.version;
        drills.version += 1;
        let written = self.surface.write_body(DRILL, expected, drills.version, drills, &[]).await?;
        Ok(written == Written::Done)
    }

    /// Tells what became of it, and then forgets it: what is told twice does no harm.
    async fn finish(&self, mut drills: Drills, now: u64) -> Result<Value, Fault> {
        let Some(run) = drills.underway.take() else { return Ok(Value::Null) };
        let result = run.result(now);
        let mut metrics = vec![("DrillFailed", f64::from(u8::from(result.failure.is_some())))];
        let measured = [
            ("DrillPromotionSeconds", result.promotion),
            ("DrillHeartbeatAge", result.heartbeat_age),
            ("DrillBlockedSeconds", Some(result.blocked)),
        ];
        metrics
            .extend(measured.into_iter().filter_map(|(name, one)| Some((name, f64::from(one?)))));
        self.surface.publish(&metrics).await?;
        if let Some(why) = &result.failure {
            let text = format!(
                "{why}. Whether the standby can be promoted in time is not known from this drill; the log of \
                 the function says more."
            );
            self.surface.notify("A failover drill has failed", &text).await?;
        }
        let answer = json!({"drill": "is over", "last": result});
        drills.past.push(result);
        let old = drills.past.len().saturating_sub(KEPT);
        drills.past.drain(..old);
        self.save(&mut drills).await?;
        Ok(answer)
    }

    async fn describe(&self, name: &str) -> Result<Option<DbInstance>, Fault> {
        let regional = self.surface.regional(Side::Here);
        let api = regional.api("rds", "DescribeDBInstances");
        let call = regional.rds.describe_db_instances().db_instance_identifier(name).send();
        match self.surface.session.attempt(api, ANSWER, call).await {
            Ok(answer) => Ok(answer.db_instances.unwrap_or_default().into_iter().next()),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(fault(&error)),
        }
    }

    async fn instances(&self, step: Step) -> Result<Instances, Fault> {
        let copy = self.describe(&self.instance).await?;
        // Whose it is, is told by the standby's tags.
        let is_needed = copy.is_some() || matches!(step, Step::Waiting | Step::Creating);
        let name = &self.surface.assignment.here.instance;
        let standby = if is_needed { self.describe(name).await? } else { None };
        Ok(Instances { standby, copy })
    }

    fn copy(&self, one: &DbInstance, standby: Option<&DbInstance>) -> Copy {
        let own = standby.map(|standby| marks(standby.tag_list())).unwrap_or_default();
        Copy {
            status: one.db_instance_status().unwrap_or_default().to_owned(),
            follows: one.read_replica_source_db_instance_identifier().is_some(),
            is_ours: !own.is_empty() && marks(one.tag_list()) == own,
        }
    }

    /// How old the standby's newest backup is, in milliseconds.
    async fn backup_age(&self, now: u64) -> Result<Option<u64>, Fault> {
        let regional = self.surface.regional(Side::Here);
        let (mut newest, mut page) = (None, None::<String>);
        loop {
            let api = regional.api("rds", "DescribeDBSnapshots");
            let call = regional.rds.describe_db_snapshots().snapshot_type("automated");
            let call = call.db_instance_identifier(&self.surface.assignment.here.instance);
            let call = call.set_marker(page).send();
            let answer = self.surface.session.attempt(api, ANSWER, call).await;
            let answer = answer.map_err(|error| fault(&error))?;
            let whole =
                answer.db_snapshots().iter().filter(|one| one.status() == Some("available"));
            let moments = whole.filter_map(|one| one.snapshot_create_time()?.to_millis().ok());
            newest = newest.max(moments.filter_map(|at| u64::try_from(at).ok()).max());
            page = answer.marker;
            if page.is_none() {
                return Ok(newest.map(|at| now.saturating_sub(at)));
            }
        }
    }

    /// What the databases show that a step needs.
    async fn probed(
        &self,
        run: &Underway,
        copy: Option<&DbInstance>,
    ) -> Result<Option<super::Probed>, Fault> {
        let needs = matches!(run.step, Step::Comparing) || run.promotes();
        let endpoint = copy.and_then(|one| one.endpoint()?.address());
        match (run.step, endpoint) {
            (Step::Waiting, _) => self.surface.probe().await.map(Some),
            (_, Some(host)) if needs => {
                let port = self.surface.assignment.port;
                let here = Place { host: host.to_owned(), port };
                self.surface.look(here, self.surface.place(Side::There)).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    async fn create(&self, standby: Option<&DbInstance>) -> Result<(), Fault> {
        let Some(standby) = standby else { return Ok(()) };
        let regional = self.surface.regional(Side::Here);
        let api = regional.api("rds", "CreateDBInstanceReadReplica");
        let here = &self.surface.assignment.here;
        let call = regional.rds.create_db_instance_read_replica();
        let call = call.db_instance_identifier(&self.instance);
        let call = call.source_db_instance_identifier(&here.instance);
        // Where the probe gets in. Key, subnets and parameters are the standby's by themselves.
        let call = call.vpc_security_group_ids(&here.group).multi_az(false);
        let call = call.publicly_accessible(false).auto_minor_version_upgrade(false);
        let call = call.set_tags(Some(inherited(standby, &self.instance))).send();
        match self.surface.session.attempt(api, ACTION, call).await {
            Err(error) if error.class != ErrorClass::AlreadyExists => Err(fault(&error)),
            _ => Ok(()),
        }
    }

    async fn promote(&self) -> Result<(), Fault> {
        let regional = self.surface.regional(Side::Here);
        let api = regional.api("rds", "PromoteReadReplica");
        let call = regional.rds.promote_read_replica().db_instance_identifier(&self.instance);
        // Nothing of it is to be kept.
        let call = call.backup_retention_period(0).send();
        let answer = self.surface.session.attempt(api, ACTION, call).await;
        answer.map(|_| ()).map_err(|error| fault(&error))
    }

    async fn remove(&self) -> Result<(), Fault> {
        let regional = self.surface.regional(Side::Here);
        let api = regional.api("rds", "DeleteDBInstance");
        let call = regional.rds.delete_db_instance().db_instance_identifier(&self.instance);
        let call = call.skip_final_snapshot(true).delete_automated_backups(true).send();
        match self.surface.session.attempt(api, ACTION, call).await {
            Err(error) if !error.is_not_found() => Err(fault(&error)),
            _ => Ok(()),
        }
    }
}

impl Underway {
    /// Whether a promotion was asked for.
    fn promotes(&self) -> bool {
        self.step == Step::Promoting && self.asked.is_some()
    }
}

/// The tags by which an instance is a cluster's.
fn marks(tags: &[Tag]) -> BTreeMap<&str, &str> {
    let pairs = tags.iter().filter_map(|tag| Some((tag.key()?, tag.value().unwrap_or_default())));
    pairs.filter(|(key, _)| key.starts_with("trading-dr:") && *key != SECRET_TAG).collect()
}
