//! What the monitors are told of what a run is about to do, in the ledger of each region.

use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::types::AttributeValue;

use super::flow::Opened;
use crate::{
    aws::ApiError,
    cluster::{Changes, Site, Verb, blueprint::LEDGER},
    components::{
        Env,
        db_instance::DbInstance,
        db_parameter_group::DbParameterGroup,
        dynamodb_table::DynamodbTable,
        ledger::{HOLDER, intend, read},
    },
    contract::{DESTROYING, HELD_BY, HOLD},
};

/// How long a look of a monitor that had begun before takes at most: it ends what it does, and the next look
/// reads what is intended.
const LAST_LOOK: Duration = Duration::from_secs(45);
/// Who holds, in a ledger, when an apply does.
const APPLY: &str = "apply";

/// A ledger: region and table.
type Ledger = (String, String);

/// The ledgers that there are, and who holds them.
fn ledgers(opened: &Opened) -> Vec<(Ledger, Option<String>)> {
    let each = Site::ALL.iter().filter_map(|site| {
        let region = &opened.spec.site(*site).region;
        let found = opened.inventory.get(&DynamodbTable::address(region, LEDGER))?;
        Some(((region.clone(), found.id.clone()), found.outputs.get(HOLDER).cloned()))
    });
    each.collect()
}

async fn tell(
    env: &Env,
    (region, table): &Ledger,
    set: &[(&str, AttributeValue)],
    removed: &[&str],
) -> Result<(), ApiError> {
    match intend(env, region, table, set, removed).await {
        // One that is not there tells nobody anything.
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Whether something that is changed may look like a lost writer meanwhile.
fn is_disruptive(changes: &Changes) -> bool {
    let kinds = [DbInstance::KIND, DbParameterGroup::KIND];
    changes.iter().any(|one| {
        kinds.contains(&one.address.kind()) && one.found.is_some() && one.verb != Verb::Delete
    })
}

fn moment(milliseconds: u64) -> AttributeValue {
    AttributeValue::N(milliseconds.to_string())
}

/// Nothing is promoted for as long as it is held: what looks like an outage is meant. It ends by
/// [`Hold::lift`], or, should the run die, by itself when the update's timeout has passed.
pub(super) struct Hold {
    /// With what somebody else had wanted there, in milliseconds of Unix time.
    ledgers: Vec<(Ledger, Option<u64>)>,
}

impl Hold {
    /// Holds, if what is to be done could be mistaken for an outage. What somebody else holds for longer is
    /// left alone.
    ///
    /// # Errors
    /// A ledger could not be read or written: then nothing should be begun.
    pub(super) async fn before(
        opened: &Opened,
        changes: &Changes,
    ) -> Result<Option<Self>, ApiError> {
        if !is_disruptive(changes) {
            return Ok(None);
        }
        let env = &opened.env;
        let stamp = |at: SystemTime| {
            let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        };
        let now = env.session.clock.now();
        let (now, until) = (stamp(now), stamp(now + opened.spec.timeouts.update));
        let mut held = Vec::new();
        for (ledger, _) in ledgers(opened) {
            let said = read(env, &ledger.0, &ledger.1).await?;
            let other = said.hold_until.filter(|at| *at > now && said.held_by != APPLY);
            if other.is_some_and(|at| at >= until) {
                continue;
            }
            let by = AttributeValue::S(APPLY.into());
            tell(env, &ledger, &[(HOLD, moment(until)), (HELD_BY, by)], &[]).await?;
            held.push((ledger, other));
        }
        Ok((!held.is_empty()).then_some(Self { ledgers: held }))
    }

    /// What an earlier run of ours has left, if it did.
    pub(super) fn left(opened: &Opened) -> Option<Self> {
        let ours = ledgers(opened).into_iter().filter(|(_, by)| by.as_deref() == Some(APPLY));
        let held: Vec<_> = ours.map(|(ledger, _)| (ledger, None)).collect();
        (!held.is_empty()).then_some(Self { ledgers: held })
    }

    /// Lets the monitors act again, unless somebody else has begun to hold them since.
    ///
    /// # Errors
    /// A ledger could not be read or written: the hold ends by itself later.
    pub(super) async fn lift(self, env: &Env) -> Result<(), ApiError> {
        for (ledger, other) in &self.ledgers {
            if read(env, &ledger.0, &ledger.1).await?.held_by != APPLY {
                continue;
            }
            match other {
                Some(at) => tell(env, ledger, &[(HOLD, moment(*at))], &[HELD_BY]).await?,
                None => tell(env, ledger, &[], &[HOLD, HELD_BY]).await?,
            }
        }
        Ok(())
    }
}

/// Tells the monitors that the cluster is being removed, and waits until none of them acts any more.
///
/// # Errors
/// A ledger could not be written; stopped, nothing is said: whoever goes on sees it by itself.
pub(super) async fn farewell(opened: &Opened) -> Result<(), ApiError> {
    let ledgers = ledgers(opened);
    if ledgers.is_empty() {
        return Ok(());
    }
    for (ledger, _) in &ledgers {
        tell(&opened.env, ledger, &[(DESTROYING, AttributeValue::Bool(true))], &[]).await?;
    }
    let _ = opened.env.session.pause(LAST_LOOK).await;
    Ok(())
}
