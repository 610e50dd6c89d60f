//! What a region's ledger says of the cluster, and what operators tell the monitors there.

use std::{collections::HashMap, time::SystemTime};

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};

use super::{Env, Output};
use crate::{
    aws::ApiError,
    contract::{
        CLUSTER, DESTROYING, HELD_BY, HOLD, INTENT, ITEM, LEDGER,
        drill::DRILL,
        moments::{ASKED_FOR, DECIDED, FIRST_FAILURE, FIRST_WRITE},
    },
};

/// Of a ledger: how far a failover to its region has come.
pub const PHASE: Output = "phase";
/// Of a ledger: `true` where monitors keep applications out of a writer.
pub const CLOSED: Output = "closed";
/// Of a ledger: who holds the monitors, if somebody does.
pub const HOLDER: Output = "holder";

/// Of a ledger: the drills, in JSON.
pub const DRILLS: Output = "drills";

/// Of a ledger: the last failover to its region that is over, a [`Measured`] in JSON; empty where there was none.
pub const FAILOVER: Output = "failover";

/// What a failover came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// When the writer was first seen to fail, in milliseconds of Unix time; or when it was asked for.
    pub began: u64,
    /// Seconds from there to the new writer's first write.
    pub seconds: u64,
    /// How many seconds of writes it lost by the last heartbeat; `None` where that was not known.
    pub data_loss: Option<u64>,
    /// Whether a human asked for it: how long that took is no measure of the monitors.
    pub by_hand: bool,
}

/// What a ledger says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// A destroy has begun.
    pub is_removed: bool,
    /// Until when nothing is to be promoted, in milliseconds of Unix time.
    pub hold_until: Option<u64>,
    /// Who wants that.
    pub held_by: String,
    /// How far a failover has come; empty where no monitor has run yet.
    pub phase: String,
    /// Whether monitors keep applications out of a writer.
    pub is_closed: bool,
    /// The drills, in JSON; empty where there was none.
    pub drills: String,
    /// What happened in the failover to its region that is under way, or in the last one, and when, in milliseconds
    /// of Unix time.
    pub moments: Vec<(String, u64)>,
    /// How many seconds of writes that failover would lose, when it was decided.
    pub data_loss: Option<u64>,
}

impl Said {
    fn of(items: &[HashMap<String, AttributeValue>]) -> Self {
        let named = |name: &str| {
            let is_it = |item: &&HashMap<String, AttributeValue>| text(item, ITEM) == name;
            items.iter().find(is_it)
        };
        let intent = named(INTENT);
        let body = named(LEDGER).map(|item| text(item, "body")).unwrap_or_default();
        let ledger: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        let closed = ["closed_here", "closed_there"]
            .iter()
            .any(|name| ledger[name].as_array().is_some_and(|rules| !rules.is_empty()));
        let number = |name: &str| intent?.get(name)?.as_n().ok()?.parse().ok();
        let flag = |name: &str| intent?.get(name)?.as_bool().ok().copied();
        Self {
            is_removed: flag(DESTROYING) == Some(true),
            hold_until: number(HOLD),
            held_by: intent.map(|item| text(item, HELD_BY)).unwrap_or_default(),
            phase: ledger["phase"].as_str().unwrap_or_default().to_owned(),
            is_closed: closed,
            moments: ledger["timeline"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(moment)
                .collect(),
            data_loss: ledger["data_loss"].as_u64(),
            drills: named(DRILL).map(|item| text(item, "body")).unwrap_or_default(),
        }
    }
}

impl Said {
    /// Who wants that nothing is promoted at a time; empty where nobody does.
    pub fn holder(&self, now: SystemTime) -> &str {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let holds = self.hold_until.is_some_and(|until| u128::from(until) > now);
        if holds { &self.held_by } else { "" }
    }

    /// When something happened in the failover that is under way, or in the last one.
    pub fn at(&self, name: &str) -> Option<u64> {
        self.moments.iter().find(|(what, _)| what == name).map(|(_, at)| *at)
    }

    /// The failover that the moments are of, once the new writer has written.
    pub fn measured(&self) -> Option<Measured> {
        let began = self.at(FIRST_FAILURE).or(self.at(DECIDED))?;
        let seconds = self.at(FIRST_WRITE)?.saturating_sub(began) / 1000;
        let by_hand = self.at(ASKED_FOR).is_some();
        Some(Measured { began, seconds, data_loss: self.data_loss, by_hand })
    }

    /// The same as an output.
    pub fn failover(&self) -> String {
        let text = self.measured().and_then(|one| serde_json::to_string(&one).ok());
        text.unwrap_or_default()
    }
}

fn moment(one: &serde_json::Value) -> Option<(String, u64)> {
    Some((one["what"].as_str()?.to_owned(), one["at"].as_u64()?))
}

fn text(item: &HashMap<String, AttributeValue>, name: &str) -> String {
    item.get(name).and_then(|one| one.as_s().ok()).cloned().unwrap_or_default()
}

/// What a ledger says. A table that is not there yet, or not any more, says nothing.
///
/// # Errors
/// The call failed.
pub async fn read(env: &Env, region: &str, table: &str) -> Result<Said, ApiError> {
    let regional = env.region(region);
    let api = regional.api("dynamodb", "Query");
    let call = || {
        let call = regional.dynamodb.query().table_name(table).consistent_read(true);
        let call = call.key_condition_expression("#c = :c");
        let call = call.expression_attribute_names("#c", CLUSTER);
        call.expression_attribute_values(":c", AttributeValue::S(env.scope.suffix.clone())).send()
    };
    let answer = env.session.find(api, call).await?;
    Ok(answer.map(|answer| Said::of(answer.items())).unwrap_or_default())
}

/// Tells the monitors of a region what is intended: sets some of it, takes some back, and leaves the rest.
///
/// # Errors
/// The call failed; a table that does not exist is one of the reasons.
pub async fn intend(
    env: &Env,
    region: &str,
    table: &str,
    set: &[(&str, AttributeValue)],
    removed: &[&str],
) -> Result<(), ApiError> {
    let regional = env.region(region);
    let api = regional.api("dynamodb", "UpdateItem");
    let call = || {
        let mut call = regional.dynamodb.update_item().table_name(table);
        call = call.key(CLUSTER, AttributeValue::S(env.scope.suffix.clone()));
        call = call.key(ITEM, AttributeValue::S(INTENT.to_owned()));
        let (mut sets, mut removals) = (Vec::new(), Vec::new());
        for (index, (name, value)) in set.iter().enumerate() {
            sets.push(format!("#s{index} = :s{index}"));
            call = call.expression_attribute_names(format!("#s{index}"), *name);
            call = call.expression_attribute_values(format!(":s{index}"), value.clone());
        }
        for (index, name) in removed.iter().enumerate() {
            removals.push(format!("#r{index}"));
            call = call.expression_attribute_names(format!("#r{index}"), *name);
        }
        let mut clauses = Vec::new();
        if !sets.is_empty() {
            clauses.push(format!("SET {}", sets.join(", ")));
        }
        if !removals.is_empty() {
            clauses.push(format!("REMOVE {}", removals.join(", ")));
        }
        call.update_expression(clauses.join(" ")).send()
    };
    env.session.call(api, call).await.map(|_| ())
}
