//! When to fail over: a decision over evidence, pure and complete.
//!
//! What is seen is [`Evidence`], every piece of it yes, no or unknown. What was seen over time is a
//! [`Series`]. What was decided before is the [`Phase`]. The three and the settings make a [`Decision`], by
//! the table of failover.md; there is no other way to one.

mod decide;
mod series;

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(test)]
pub(crate) use decide::tests::{evidence, policy};
pub use decide::{Decision, Reason, decide};
pub use series::Series;

/// A piece of evidence. Unknown is not no: it never counts towards a promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sign {
    /// It was seen.
    Yes,
    /// It was looked for with means that worked, and not seen.
    No,
    /// Nobody could look.
    Unknown,
}

impl Sign {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Yes, Self::No, Self::Unknown];
}

/// What the RDS API of the writer's region says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// It answers: the instance is there and meant to run. Refused by a policy is an answer too.
    Answers,
    /// It answers, and somebody wants the instance to be as it is: stopped, being deleted, gone, being
    /// changed.
    Intended,
    /// It cannot be reached: timeouts and failing connections.
    Silent,
    /// It answers nothing that could be used: throttled, or failing.
    Unknown,
}

impl Control {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Answers, Self::Intended, Self::Silent, Self::Unknown];
}

/// How far a failover has come. It is what the ledger says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The writer is the one that was made to write.
    Normal,
    /// It is decided; the promotion is not accepted yet.
    Promoting,
    /// The promotion is accepted: there is no way back.
    Accepted,
    /// The other one writes.
    Promoted,
    /// Two instances write. A human decides.
    Diverged,
    /// The cluster is being removed.
    Destroying,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Normal,
        Self::Promoting,
        Self::Accepted,
        Self::Promoted,
        Self::Diverged,
        Self::Destroying,
    ];

    /// As the ledger writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Promoting => "promoting",
            Self::Accepted => "accepted",
            Self::Promoted => "promoted",
            Self::Diverged => "diverged",
            Self::Destroying => "destroying",
        }
    }

    /// From what the ledger says.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }

    /// The value of the metric that moves the DNS name: a function of the phase alone, so that a blip never
    /// moves it, and a recovered region never moves it back.
    pub fn primary_serves(self) -> bool {
        matches!(self, Self::Normal | Self::Promoting | Self::Diverged | Self::Destroying)
    }
}

/// What was seen in one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// A write was acknowledged on the writer, asked from the standby's region.
    pub writes: Sign,
    /// Replication moves.
    pub replicates: Sign,
    /// The writer's own region renews the lease at the witness.
    pub vouched: Sign,
    /// What the RDS API of the writer's region says.
    pub control: Control,
    /// Whether the writer's zone failed over a short time ago.
    pub zone_failed_over: bool,
    /// The standby takes writes: somebody promoted it.
    pub standby_writes: Sign,
    /// Whether somebody has asked for no failover for a while.
    pub is_held: bool,
    /// The newest moment at which any of the three ways above showed life, by the looking region's clock in
    /// milliseconds; `None` if this look brought none.
    pub life: Option<u64>,
    /// How much of what was acknowledged the standby lacks; `None` if that is not known.
    pub data_loss: Option<Duration>,
    /// Whether the writer's region is known to keep everybody out.
    pub is_fenced: Sign,
}

/// Who promotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The monitor does.
    Automatic,
    /// A human does, by the runbook.
    Manual,
}

/// The settings that a decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Who promotes.
    pub mode: Mode,
    /// How long a region must be lost.
    pub region_detection: Duration,
    /// How long a writer must be lost whose region answers.
    pub instance_detection: Duration,
    /// The most that may be lost without asking.
    pub max_data_loss: Duration,
}
