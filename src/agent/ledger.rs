//! What a region's monitors remember from one look, and from one run, to the next.

use serde::{Deserialize, Serialize};

use super::Lease;
use crate::cluster::failover::{Phase, Series};

/// A write that the writer acknowledged: to this region's probe, or to its own region's, which says so in the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// By the writer's clock, in milliseconds.
    pub stamp: u64,
    /// By the own region's clock.
    pub seen_at: u64,
}

/// How often the old writer is asked to reboot, in a failover: RDS may not let it for a while.
pub(super) const REBOOTS: u8 = 10;

/// Something that happened in a failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// By the own region's clock, in milliseconds.
    pub at: u64,
    /// What.
    pub what: String,
}

/// The ledger of a region. Written under its version, by the newest run only. What an older version of the
/// agent did not write is as in the beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// Raised by each write.
    pub version: u64,
    /// The newest run that has written.
    pub leader: String,
    /// How far a failover to this region has come.
    pub phase: Phase,
    /// The failover's number, in the lease too.
    pub epoch: u64,
    /// Whether this region has held the lease: only then can it be superseded.
    pub held: bool,
    /// When RDS was last asked to promote, in this failover: from then on, only RDS itself can say that it
    /// does not.
    pub asked: Option<u64>,
    /// Whether RDS is known to have accepted the promotion: an answer that was lost leaves that open.
    pub certain: bool,
    /// Whether a human asked for the failover that is under way.
    pub by_hand: bool,
    /// Whether that human said that it is to go on without the witness, and without closing a writer that cannot
    /// be closed.
    pub forced: bool,
    /// Since when something has kept it from being promoted: the witness, a writer that cannot be closed, or RDS.
    pub blocked_since: Option<u64>,
    /// Since when the other region's writer could not be closed.
    pub unclosed_since: Option<u64>,
    /// Whether it has begun, and nothing is done for it yet: the writer is nobody's to close.
    pub waits: bool,
    /// How long the writer has been gone.
    pub series: Series,
    /// The lease as it was last seen to move, and when.
    pub lease_seen: Option<(Lease, u64)>,
    /// When the lease was last read.
    pub lease_read: Option<u64>,
    /// When the standby was last known to hear of the writer.
    pub heard: Option<u64>,
    /// The newest heartbeat that the standby was seen to have replayed.
    pub replayed: u64,
    /// When the standby was last seen.
    pub standby_seen: Option<u64>,
    /// Since when RDS has had the standby in a state in which it would not promote it.
    pub busy_since: Option<u64>,
    /// When the newest transaction was committed that the standby was seen to have replayed, by the writer's clock.
    pub committed: u64,
    /// The last write that is known to have been acknowledged.
    pub ack: Option<Ack>,
    /// When a look last ended with an alarm.
    pub doubted: Option<u64>,
    /// When the writer was first looked for and not found, or nobody vouched for it, since it was last seen.
    pub missed: Option<u64>,
    /// The zone in which the writer last took a write.
    pub zone: Option<String>,
    /// When the witness or the other region was last reached.
    pub contact: u64,
    /// Since when the writer's own region has renewed the lease without a pause.
    pub holding_since: Option<u64>,
    /// Rules that were taken away in this region; empty while it is open.
    pub closed_here: Vec<String>,
    /// Rules that were taken away in the other one.
    pub closed_there: Vec<String>,
    /// Whether the other region is known to keep everybody out.
    pub fenced_there: bool,
    /// Whether the other region said nothing when RDS was asked to promote, so that it could not be closed.
    pub unclosed_there: bool,
    /// How often the old writer may still be asked to reboot, in this failover.
    pub reboots_left: u8,
    /// The alarm that was last told, so that it is told once.
    pub told: String,
    /// A message that was not delivered yet and must not be lost: its subject, and its text.
    pub untold: Option<(String, String)>,
    /// What a failover would have lost, in seconds, when it was decided.
    pub data_loss: Option<u64>,
    /// The failover that is under way, or the last one.
    pub timeline: Vec<Moment>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            version: 0,
            leader: String::new(),
            phase: Phase::Normal,
            epoch: 1,
            held: false,
            asked: None,
            certain: false,
            by_hand: false,
            forced: false,
            blocked_since: None,
            unclosed_since: None,
            waits: false,
            series: Series::default(),
            lease_seen: None,
            lease_read: None,
            heard: None,
            replayed: 0,
            standby_seen: None,
            busy_since: None,
            committed: 0,
            ack: None,
            doubted: None,
            missed: None,
            zone: None,
            contact: 0,
            holding_since: None,
            closed_here: Vec::new(),
            closed_there: Vec::new(),
            fenced_there: false,
            unclosed_there: false,
            reboots_left: REBOOTS,
            told: String::new(),
            untold: None,
            data_loss: None,
            timeline: Vec::new(),
        }
    }
}

impl Ledger {
    /// The value of the metric that moves the DNS name.
    pub(super) fn serves(&self) -> f64 {
        let is_open = self.phase == Phase::Accepted && !self.certain;
        if is_open || self.phase.primary_serves() { 1.0 } else { 0.0 }
    }

    /// Notes rules that are taken away in this region.
    pub(super) fn close_here(&mut self, rules: impl IntoIterator<Item = String>) {
        self.closed_here.extend(rules);
        self.closed_here.sort();
        self.closed_here.dedup();
    }

    /// Notes that something happened; what repeats itself is noted once.
    pub(super) fn note(&mut self, at: u64, what: &str) {
        if !self.timeline.iter().any(|one| one.what == what) {
            self.timeline.push(Moment { at, what: what.to_owned() });
        }
    }

    /// Notes that something happened once more: the newest moment counts.
    pub(super) fn note_again(&mut self, at: u64, what: &str) {
        self.timeline.retain(|one| one.what != what);
        self.note(at, what);
    }

    /// When something happened in the failover.
    pub fn moment(&self, what: &str) -> Option<u64> {
        self.timeline.iter().find(|one| one.what == what).map(|one| one.at)
    }
}
