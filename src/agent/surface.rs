//! What the monitor sees and does, without saying how.

use serde::{Deserialize, Serialize};

use super::Ledger;
pub use crate::contract::{Probed, Session};

/// One of the two regions, as a monitor sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Its own.
    Here,
    /// The other one.
    There,
}

/// Why a call brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No answer: whether it was acted upon is not known.
    #[error("no answer")]
    Silent,
    /// An answer that says that something is broken there: whether it was acted upon is not known.
    #[error("failing: {0}")]
    Failing(String),
    /// No answer to what was asked, and nothing was done: throttled, or without credentials.
    #[error("not now: {0}")]
    NotNow(String),
    /// A plain no: nothing was done.
    #[error("refused: {0}")]
    Refused(String),
}

/// What an instance is by RDS's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceRole {
    /// It follows nobody.
    Writer,
    /// It follows another one.
    Replica,
}

/// An instance by RDS's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// What it is.
    pub role: InstanceRole,
    /// RDS's status.
    pub status: String,
    /// The availability zone that it runs in.
    pub zone: Option<String>,
}

/// The lease at the witness.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lease {
    /// Raised by each failover.
    pub epoch: u64,
    /// The region that holds it.
    pub holder: String,
    /// Raised by each renewal.
    pub counter: u64,
    /// The last write that the writer had acknowledged to its own region, by the writer's clock in milliseconds; 0 if
    /// that is not known.
    pub acknowledged: u64,
}

/// What operators ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    /// The cluster is being removed.
    pub destroying: bool,
    /// Until when nothing is to be promoted, by the region's clock in milliseconds.
    pub hold_until: Option<u64>,
}

/// What became of a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was written.
    Done,
    /// Somebody else had written before; nothing was.
    Conflict,
}

/// A value to be published, by the metric's name.
pub type Metric = (&'static str, f64);

/// What the monitor sees and does. Moments are milliseconds of the own region's clock.
pub trait Surface {
    /// Now.
    fn now(&self) -> u64;

    /// Waits until a moment of the own clock.
    fn sleep_until(&self, moment: u64) -> impl Future<Output = ()>;

    /// Has the own region's probe look at both databases.
    fn probe(&self) -> impl Future<Output = Result<Probed, Fault>>;

    /// What RDS says of a side's instance; `None` if there is none.
    fn instance(&self, side: Side) -> impl Future<Output = Result<Option<Instance>, Fault>>;

    /// How long ago a side's instance last began to fail over to another zone, in milliseconds; `None` if it
    /// did not in the last quarter of an hour.
    fn zone_failover(&self, side: Side) -> impl Future<Output = Result<Option<u64>, Fault>>;

    /// A side's ledger and what operators ask for there.
    fn ledger(&self, side: Side) -> impl Future<Output = Result<(Ledger, Intent), Fault>>;

    /// Writes the own ledger, if its version is still `expected`.
    fn write_ledger(
        &self,
        expected: u64,
        ledger: &Ledger,
    ) -> impl Future<Output = Result<Written, Fault>>;

    /// The lease; `None` if nobody ever held it.
    fn lease(&self) -> impl Future<Output = Result<Option<Lease>, Fault>>;

    /// Writes the lease, if it is still as it was seen.
    fn write_lease(
        &self,
        seen: Option<&Lease>,
        new: &Lease,
    ) -> impl Future<Output = Result<Written, Fault>>;

    /// The rules by which applications reach a side's database.
    fn rules(&self, side: Side) -> impl Future<Output = Result<Vec<String>, Fault>>;

    /// Takes rules away; those that are gone already count as taken.
    fn revoke(&self, side: Side, rules: &[String]) -> impl Future<Output = Result<(), Fault>>;

    /// Puts rules back; those that are there already count as put. Those that can never be put back, as what they let in
    /// is gone, are the answer: each with EC2's reason.
    fn restore(
        &self,
        side: Side,
        rules: &[String],
    ) -> impl Future<Output = Result<Vec<String>, Fault>>;

    /// Ends the sessions of applications with the own region's database.
    fn end_sessions(&self) -> impl Future<Output = Result<(), Fault>>;

    /// Asks RDS to reboot the other region's instance, which ends every session with it.
    fn reboot_there(&self) -> impl Future<Output = Result<(), Fault>>;

    /// Asks RDS to promote the own region's instance.
    fn promote(&self) -> impl Future<Output = Result<(), Fault>>;

    /// Publishes values of metrics in the own region.
    fn publish(&self, metrics: &[Metric]) -> impl Future<Output = Result<(), Fault>>;

    /// Tells the own region's topic.
    fn notify(&self, subject: &str, text: &str) -> impl Future<Output = Result<(), Fault>>;
}
