//! What a run is doing, for somebody who watches: an apply takes most of an hour, and Terraform shows one line of it.
//!
//! A run appends events to a file, one line of JSON each ([`Line`]); whoever reads them makes a [`Run`] of them and
//! shows it. The file is in Terraform's own folder (`.terraform`, or what `TF_DATA_DIR` names) and is called
//! `trading-dr-SUFFIX.jsonl`. It holds names, states and AWS's messages, and nothing that is secret. That it cannot be
//! written stops no run.

mod expected;
mod journal;
mod run;
pub mod watch;

use serde::{Deserialize, Serialize};

pub use expected::expected;
pub use journal::{Journal, file_name};
pub use run::{Item, Run, State};

/// The version of the lines' form.
pub const VERSION: u8 = 1;

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// [`VERSION`].
    pub version: u8,
    /// Which run this is of: 16 hex digits.
    pub run: String,
    /// When, by the machine's clock, in milliseconds of Unix time.
    pub at: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happens in a run. Addresses are those of the state's `components`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// It has the cluster's lease, and begins.
    RunBegun {
        /// `create`, `update` or `destroy`.
        command: String,
        /// The cluster's suffix.
        suffix: String,
        /// How many seconds of AWS's pass in one of the machine's: 1, but against a simulated AWS.
        scale: f64,
    },
    /// This is to be done next. What an earlier one named may be named again.
    Planned {
        /// Each change.
        changes: Vec<Planned>,
    },
    /// A change has begun.
    Begun {
        /// Of which component.
        address: String,
    },
    /// A change is done.
    Done {
        /// Of which component.
        address: String,
        /// How long it took.
        seconds: f64,
    },
    /// A change has failed.
    Failed {
        /// Of which component.
        address: String,
        /// How long that took.
        seconds: f64,
        /// Why.
        error: String,
    },
    /// A change was begun and is not waited for any more; AWS goes on.
    Left {
        /// Of which component.
        address: String,
    },
    /// Nothing new: the run lives.
    Alive,
    /// It has ended.
    RunEnded {
        /// Whether it has reached its end.
        complete: bool,
    },
    /// What a newer version writes.
    #[serde(other)]
    Unknown,
}

/// A change that is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Of which component.
    pub address: String,
    /// `create`, `update` or `delete`.
    pub doing: String,
    /// Which changes of this run have to be done before.
    pub after: Vec<String>,
    /// How many seconds such a change usually takes.
    pub expected: u64,
}
