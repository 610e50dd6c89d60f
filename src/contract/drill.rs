//! Drills: what the function is told and asked, and what it writes down, which the provider reads.

use serde::{Deserialize, Serialize};

use super::Assignment;

/// What drills remember, among the items of the ledger in the standby's region.
pub const DRILL: &str = "drill";
/// The action that begins one.
pub const BEGIN: &str = "drill";
/// The action that goes on with one that has begun.
pub const GO_ON: &str = "continue";
/// How many past drills are kept.
pub const KEPT: usize = 10;

/// What a drill is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drilling {
    /// As a monitor of the standby's region is told.
    pub assignment: Assignment,
    /// The name of the throw-away instance.
    pub instance: String,
}

/// What a drill is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum DrillCommand {
    /// To begin one, if none is under way.
    Drill,
    /// To go on with the one that is under way, if there is any.
    Continue,
}

/// How far a drill has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// For a moment at which the cluster is healthy.
    Waiting,
    /// RDS makes the throw-away instance from the standby.
    Creating,
    /// Whether it has what the writer has.
    Comparing,
    /// It is promoted: what is measured.
    Promoting,
    /// It is removed again.
    Removing,
}

/// A drill that is under way. Moments are milliseconds of the standby's region's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underway {
    /// How far it has come.
    pub step: Step,
    /// When it was asked for.
    pub began: u64,
    /// When this step began.
    pub since: u64,
    /// When it was last looked at.
    pub looked: u64,
    /// When RDS was last asked for what this step needs.
    pub asked: Option<u64>,
    /// A write that the writer acknowledged, and when that was seen: it has to arrive.
    pub mark: Option<(u64, u64)>,
    /// How old the newest heartbeat of the throw-away instance was when it was promoted, in milliseconds.
    pub heartbeat_age: Option<u64>,
    /// From the question to the first write, in milliseconds.
    pub promotion: Option<u64>,
    /// For how long the standby itself could not have been promoted, in milliseconds.
    pub blocked: u64,
    /// What it waits for.
    pub waits: String,
    /// Why it has failed.
    pub failure: Option<String>,
}

/// A drill that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drilled {
    /// When it was asked for, in milliseconds of Unix time.
    pub began: u64,
    /// When nothing was left of it.
    pub ended: u64,
    /// From the question to the first write, in seconds, rounded up; `None` if it was not promoted.
    pub promotion: Option<u32>,
    /// How much a failover at that moment would have lost, in seconds, rounded up.
    pub heartbeat_age: Option<u32>,
    /// For how long the standby itself could not have been promoted, in seconds, rounded up.
    pub blocked: u32,
    /// Why it failed; `None` if it did not.
    pub failure: Option<String>,
}

/// All that is remembered of drills. Written under its version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drills {
    /// Raised by each write.
    pub version: u64,
    /// The one that is under way.
    pub underway: Option<Underway>,
    /// The last [`KEPT`] that are over, oldest first.
    pub past: Vec<Drilled>,
}

impl Drills {
    /// How long the promotions of the past drills took, in seconds, oldest first.
    pub fn promotions(&self) -> Vec<u32> {
        self.past.iter().filter_map(|one| one.promotion).collect()
    }
}
