//! A world of two regions and a witness, typed and without HTTP: databases, networks, clocks, tables, and
//! runs of the monitor that overlap, die and go missing. Everything in it follows from its seed.

mod view;

use std::{cell::RefCell, rc::Rc};

use trading::{
    agent::{Fault, Intent, Lease, Ledger, Session},
    cluster::failover::{Mode, Phase, Policy},
    contract::moments::{DECIDED, FIRST_FAILURE},
};
pub use view::{View, sleep_until};

use super::script::Event;

/// How often the receiver of an idle writer hears of it, in milliseconds (aws-facts 12b).
const PING: u64 = 10_000;
/// How late metrics are at most, in milliseconds: up to 135 s with the check's own 90.
const LATEST: u64 = 45_000;

/// The regions: the writer's at first, the standby's, the witness's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    P,
    D,
    W,
}

pub struct World {
    /// True time, in milliseconds.
    pub now: u64,
    pub random: fastrand::Rng,
    pub policy: Policy,
    region: bool,
    control: bool,
    writer: bool,
    /// Over the peering, sessions from the writer's region and from the standby's.
    peering: [bool; 2],
    pub replication: bool,
    cuts: Vec<(Place, Place)>,
    zone_until: u64,
    zone_began: Option<u64>,
    /// How long after its beginning the writer is in its other zone, by RDS's word.
    swaps: u64,
    /// Whether probes of the regions run.
    probes: [bool; 2],
    pub busy_until: u64,
    busy_as: &'static str,
    /// Nobody writes but the heartbeat: the receiver hears seldom of the writer.
    pub idle: bool,
    /// When an idle writer's receiver is pinged: every [`PING`], from here on.
    pinged: u64,
    /// How late metrics are seen, and how late RDS tells of a failover of zones, in milliseconds.
    late: u64,
    told_late: u64,
    /// Whether connections that nobody takes are refused at once, or wait for an answer.
    refuses: bool,
    runs: [bool; 2],
    /// Whether the regions' runs reach tables, and whether they can write their ledgers.
    tables: [bool; 2],
    notes_work: [bool; 2],
    faults: u32,
    /// Whether the run whose question RDS takes dies before it hears of that, and whether one is dying now.
    dies_when_accepted: bool,
    pub dies: Option<Place>,
    intent: Intent,
    /// By how much the regions' clocks go ahead, in milliseconds.
    skew: [u64; 3],
    closed: bool,
    /// Whether clients are connected to the old writer: they go on writing when nobody new gets in.
    connected: bool,
    /// How often the old writer's sessions were ended through its own probe.
    pub ended: u32,
    /// For how long applications were kept out of a writer that ran, before anything was promoted.
    pub shut: u64,
    /// For how long it was open again after that.
    pub reopened: u64,
    /// What whoever asked for a failover was told.
    pub answers: Vec<Result<(), String>>,
    /// Until when the old writer reboots.
    reboots_until: u64,
    /// When the standby stops following; `None` while it is one.
    pub promoted_at: Option<u64>,
    /// How long a promotion takes.
    pub promotion: u64,
    ledgers: [Ledger; 2],
    lease: Option<Lease>,
    /// Heartbeats: true time and stamp.
    beats: Vec<(u64, u64)>,
    /// Until when the standby has replayed, in true time.
    replayed_to: u64,
    /// When the receiver last heard of the writer.
    receiver_at: u64,
    pub serving: f64,
    /// What the name went by: when it was published, when it could be seen, and the value.
    served: Vec<(u64, u64, f64)>,
    pub notes: Vec<String>,
    pub said: Vec<(u64, Place, String)>,
    /// What must never be; the first one counts.
    pub wrong: Vec<String>,
    pub accepted_at: Option<u64>,
    /// Since when the old writer has served.
    serves_since: Option<u64>,
    /// When the old writer last served before the promotion was accepted.
    pub stopped_at: u64,
    /// For how long it served since what the standby has of it.
    unreplayed: u64,
    /// For how long both took writes of clients, by now.
    pub overlap: u64,
    /// When whoever is polled now wants to be polled again.
    pub wake: u64,
}

pub type Shared = Rc<RefCell<World>>;

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let skew = [random.u64(0..4000), random.u64(0..4000), random.u64(0..4000)];
        let policy = Policy {
            mode: Mode::Automatic,
            region_detection: std::time::Duration::from_secs(60),
            instance_detection: std::time::Duration::from_secs(105),
            max_data_loss: std::time::Duration::from_secs(50),
        };
        let promotion = random.u64(20..=150) * 1000;
        Self {
            now: 1_000_000,
            policy,
            region: true,
            control: true,
            writer: true,
            peering: [true, true],
            replication: true,
            cuts: Vec::new(),
            zone_until: 0,
            zone_began: None,
            swaps: random.u64(20_000..90_000),
            probes: [true, true],
            busy_until: 0,
            busy_as: if random.bool() { "backing-up" } else { "modifying" },
            idle: random.u32(0..4) == 0,
            pinged: random.u64(0..PING),
            late: if random.u32(0..3) == 0 { random.u64(1..LATEST) } else { 0 },
            told_late: if random.u32(0..4) == 0 { u64::MAX } else { random.u64(0..100_000) },
            refuses: random.u32(0..4) == 0,
            runs: [true, true],
            tables: [true, true],
            notes_work: [true, true],
            faults: 0,
            dies_when_accepted: false,
            dies: None,
            intent: Intent::default(),
            skew,
            closed: false,
            connected: true,
            ended: 0,
            shut: 0,
            reopened: 0,
            answers: Vec::new(),
            reboots_until: 0,
            promoted_at: None,
            promotion,
            ledgers: [Ledger::default(), Ledger::default()],
            lease: None,
            beats: vec![(1_000_000, 1_000_000)],
            replayed_to: 1_000_000,
            receiver_at: 1_000_000,
            serving: 1.0,
            served: Vec::new(),
            notes: Vec::new(),
            said: Vec::new(),
            wrong: Vec::new(),
            accepted_at: None,
            serves_since: Some(0),
            stopped_at: 0,
            unreplayed: 0,
            overlap: 0,
            wake: u64::MAX,
            random,
        }
    }

    fn is_cut(&self, one: Place, other: Place) -> bool {
        self.cuts.contains(&(one, other)) || self.cuts.contains(&(other, one))
    }

    /// Whether calls from one place arrive at another.
    fn reaches(&self, from: Place, to: Place) -> bool {
        let is_up = |place| place != Place::P || self.region;
        is_up(from) && is_up(to) && !self.is_cut(from, to)
    }

    /// Whether the old writer runs.
    pub fn writer_runs(&self) -> bool {
        let is_down = self.now < self.zone_until.max(self.reboots_until);
        self.region && self.writer && !is_down
    }

    /// Whether the old writer takes writes of clients: there are some in its own region.
    pub fn writer_serves(&self) -> bool {
        self.writer_runs() && (!self.closed || self.connected)
    }

    pub fn standby_writes(&self) -> bool {
        self.promoted_at.is_some_and(|at| self.now >= at)
    }

    fn link(&self) -> bool {
        self.writer_runs()
            && self.replication
            && self.promoted_at.is_none()
            && !self.is_cut(Place::P, Place::D)
    }

    /// Lets time pass until a moment.
    pub fn pass(&mut self, until: u64) {
        let (serves, writes) = (self.writer_serves(), self.standby_writes());
        if serves && writes {
            self.overlap += until.saturating_sub(self.now);
        }
        if self.closed && self.writer_runs() && self.accepted_at.is_none() {
            self.shut += until.saturating_sub(self.now);
        }
        if self.shut > 0 && !self.closed && self.writer_runs() && self.accepted_at.is_some() {
            self.reopened += until.saturating_sub(self.now);
        }
        if serves && self.accepted_at.is_none() {
            self.unreplayed += until.saturating_sub(self.now);
            self.stopped_at = until;
        }
        self.serves_since = serves.then(|| self.serves_since.unwrap_or(self.now));
        let linked = self.link();
        self.now = self.now.max(until);
        self.connected = self.writer_runs() && (self.connected || !self.closed);
        if linked && self.link() {
            let lag = self.random.u64(100..2000);
            self.replayed_to = self.replayed_to.max(self.now.saturating_sub(lag));
            self.unreplayed = self.unreplayed.min(self.now - self.replayed_to);
            let age =
                if self.idle { (self.now - self.pinged) % PING } else { self.random.u64(0..8000) };
            self.receiver_at = self.receiver_at.max(self.now.saturating_sub(age));
        }
    }

    /// Who holds the lease.
    pub fn holder(&self) -> Option<&str> {
        self.lease.as_ref().map(|lease| lease.holder.as_str())
    }

    /// When it could first be seen that the name has to move.
    pub fn moved_at(&self) -> Option<u64> {
        let moved = self.served.iter().filter(|(.., value)| *value < 1.0);
        moved.map(|(_, seen, _)| *seen).min()
    }

    /// When the last write was acknowledged until a moment: somebody always writes, or the heartbeat alone.
    fn written_by(&self, moment: u64) -> u64 {
        let beat = || self.beats.iter().rev().find(|(at, _)| *at <= moment).map(|(at, _)| *at);
        if self.idle { beat().unwrap_or(0) } else { moment }
    }

    /// What a failover lost, in milliseconds: the time in which the writer took what the standby lacks, and the time
    /// from the last write that it has to the last one that there was.
    pub fn losses(&self) -> [u64; 2] {
        let (last, kept) = (self.written_by(self.stopped_at), self.written_by(self.replayed_to));
        let between = last.saturating_sub(kept);
        [between.min(self.unreplayed), between]
    }

    /// What the ledger says of it, in seconds.
    pub fn reported(&self) -> Option<u64> {
        self.ledgers[1].data_loss
    }

    /// How long after the first failure a failover was decided, by the standby's ledger.
    pub fn decided_after(&self) -> Option<u64> {
        let ledger = &self.ledgers[1];
        Some(ledger.moment(DECIDED)? - ledger.moment(FIRST_FAILURE)?)
    }

    /// How far a failover has come, by the standby's ledger.
    pub fn phase(&self) -> Phase {
        self.ledgers[1].phase
    }

    /// Whether a failover could not close the old writer, and says so.
    pub fn is_unclosed(&self) -> bool {
        self.ledgers[1].unclosed_there
    }

    pub fn happen(&mut self, event: &Event) {
        match event {
            Event::Region(up) => self.region = *up,
            Event::Control(up) => self.control = *up,
            Event::Writer(up) => self.writer = *up,
            Event::Peering(up) => self.peering = [*up; 2],
            Event::Way(from, up) => self.peering[usize::from(*from == Place::D)] = *up,
            Event::Idle => self.idle = true,
            Event::Replication(up) => self.replication = *up,
            Event::Between(one, other, up) => {
                self.cuts.retain(|cut| *cut != (*one, *other));
                if !up {
                    self.cuts.push((*one, *other));
                }
            }
            Event::Zone(seconds) => {
                self.zone_began = Some(self.now);
                self.zone_until = self.now + seconds * 1000;
            }
            Event::Busy(seconds) => self.busy_until = self.now + seconds * 1000,
            Event::Probes(place, on) => self.probes[usize::from(*place == Place::D)] = *on,
            Event::Runs(place, on) => self.runs[usize::from(*place == Place::D)] = *on,
            Event::Kill(_) | Event::Force(_) => {}
            Event::Tables(place, on) => self.tables[usize::from(*place == Place::D)] = *on,
            Event::Notes(place, on) => self.notes_work[usize::from(*place == Place::D)] = *on,
            Event::DiesWhenAccepted => self.dies_when_accepted = true,
            Event::Faults(percent) => self.faults = *percent,
            Event::Hold(seconds) => {
                let until = self.clock(Place::D) + seconds * 1000;
                self.intent.hold_until = Some(until);
            }
            Event::Destroying => self.intent.destroying = true,
            Event::PromotedByHand => self.promoted_at = Some(self.now + self.promotion),
        }
    }

    pub fn may_run(&self, place: Place) -> bool {
        self.runs[usize::from(place == Place::D)] && (place != Place::P || self.region)
    }

    fn clock(&self, place: Place) -> u64 {
        self.now + self.skew[place as usize]
    }

    /// A fault that strikes, if one does.
    fn struck(&mut self) -> Option<Fault> {
        (self.random.u32(0..100) < self.faults).then(|| match self.random.u32(0..3) {
            0 => Fault::Silent,
            1 => Fault::Failing("503".into()),
            _ => Fault::NotNow("throttled".into()),
        })
    }

    fn session(&mut self, from: Place, to: Place) -> Session {
        let same = from == to;
        let peering = self.peering[usize::from(from == Place::D)];
        if !same && (!peering || self.is_cut(from, to) || !self.region) {
            return Session::Closed;
        }
        if to == Place::P {
            // The rule of the own region's probe stays; everybody else is kept out.
            if !self.writer_runs() || (self.closed && !same) {
                return Session::Closed;
            }
            let stamp = self.clock(Place::P);
            self.beats.push((self.now, stamp));
            return Session::Writer { acknowledged: stamp };
        }
        if self.standby_writes() {
            return Session::Writer { acknowledged: self.clock(Place::D) };
        }
        if self.promoted_at.is_some() && self.random.bool() {
            return Session::Closed;
        }
        let replayed = self.beats.iter().rev().find(|(at, _)| *at <= self.replayed_to);
        let age = self.now - self.receiver_at;
        Session::Standby {
            replayed: replayed.map_or(0, |(_, stamp)| *stamp),
            receiver_age: (age < 20_000).then_some(age),
            committed: Some(self.written_by(self.replayed_to) + self.skew[Place::P as usize]),
        }
    }
}
