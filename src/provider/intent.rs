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
        dynamodb_table::{DynamodbTable, intend},
    },
    contract::{DESTROYING, HOLD},
};

/// How long a look of a monitor that had begun before takes at most: it ends what it does, and the next look
/// reads what is intended.
const LAST_LOOK: Duration = Duration::from_secs(45);

/// The ledgers that there are: region and table.
fn ledgers(opened: &Opened) -> Vec<(String, String)> {
    let each = Site::ALL.iter().filter_map(|site| {
        let region = &opened.spec.site(*site).region;
        let found = opened.inventory.get(&DynamodbTable::address(region, LEDGER))?;
        Some((region.clone(), found.id.clone()))
    });
    each.collect()
}

async fn tell(
    env: &Env,
    ledgers: &[(String, String)],
    what: &[(&str, AttributeValue)],
) -> Result<(), ApiError> {
    let each = ledgers.iter().map(|(region, table)| async move {
        match intend(env, region, table, what).await {
            // One that is not there tells nobody anything.
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    });
    futures::future::try_join_all(each).await.map(|_| ())
}

/// Whether something that is changed may look like a lost writer meanwhile.
fn is_disruptive(changes: &Changes) -> bool {
    let kinds = [DbInstance::KIND, DbParameterGroup::KIND];
    changes.iter().any(|one| {
        kinds.contains(&one.address.kind()) && one.found.is_some() && one.verb != Verb::Delete
    })
}

/// Nothing is promoted for as long as it is held: what looks like an outage is meant. It ends by
/// [`Hold::lift`], or, should the run die, by itself when the update's timeout has passed.
pub(super) struct Hold {
    ledgers: Vec<(String, String)>,
}

impl Hold {
    /// Holds, if what is to be done could be mistaken for an outage.
    ///
    /// # Errors
    /// A ledger could not be written: then nothing should be begun.
    pub(super) async fn before(
        opened: &Opened,
        changes: &Changes,
    ) -> Result<Option<Self>, ApiError> {
        let ledgers = ledgers(opened);
        if ledgers.is_empty() || !is_disruptive(changes) {
            return Ok(None);
        }
        let until = opened.env.session.clock.now() + opened.spec.timeouts.update;
        let until = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let what = [(HOLD, AttributeValue::N(until.as_millis().to_string()))];
        tell(&opened.env, &ledgers, &what).await?;
        Ok(Some(Self { ledgers }))
    }

    /// Lets the monitors act again.
    ///
    /// # Errors
    /// A ledger could not be written: the hold ends by itself later.
    pub(super) async fn lift(self, env: &Env) -> Result<(), ApiError> {
        tell(env, &self.ledgers, &[]).await
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
    tell(&opened.env, &ledgers, &[(DESTROYING, AttributeValue::Bool(true))]).await?;
    let _ = opened.env.session.pause(LAST_LOOK).await;
    Ok(())
}
