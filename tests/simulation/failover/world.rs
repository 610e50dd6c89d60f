//! A world of two regions and a witness, typed and without HTTP: databases, networks, clocks, tables, and
//! runs of the monitor that overlap, die and go missing. Everything in it follows from its seed.

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use trading::{
    agent::{
        Fault, Instance, InstanceRole, Intent, Lease, Ledger, Metric, Probed, Session, Side,
        Surface, Written,
    },
    cluster::failover::{Mode, Policy},
};

use super::script::Event;

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
    faults: u32,
    intent: Intent,
    /// By how much the regions' clocks go ahead, in milliseconds.
    skew: [u64; 3],
    closed: bool,
    /// Whether clients are connected to the old writer: they go on writing when nobody new gets in.
    connected: bool,
    /// How often the old writer's sessions were ended through its own probe.
    pub ended: u32,
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
            busy_until: 0,
            busy_as: if random.bool() { "backing-up" } else { "modifying" },
            idle: random.u32(0..4) == 0,
            pinged: random.u64(0..PING),
            late: if random.u32(0..3) == 0 { random.u64(1..LATEST) } else { 0 },
            told_late: random.u64(0..100_000),
            refuses: random.u32(0..4) == 0,
            runs: [true, true],
            faults: 0,
            intent: Intent::default(),
            skew,
            closed: false,
            connected: true,
            ended: 0,
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
        if serves && self.accepted_at.is_none() {
            self.stopped_at = until;
        }
        self.serves_since = serves.then(|| self.serves_since.unwrap_or(self.now));
        let linked = self.link();
        self.now = self.now.max(until);
        self.connected = self.writer_runs() && (self.connected || !self.closed);
        if linked && self.link() {
            let lag = self.random.u64(100..2000);
            self.replayed_to = self.replayed_to.max(self.now.saturating_sub(lag));
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

    /// What a failover lost, in milliseconds of writes, and what the ledger says of it in seconds.
    pub fn losses(&self) -> (u64, Option<u64>) {
        let [_, ledger] = &self.ledgers;
        (self.stopped_at.saturating_sub(self.replayed_to), ledger.data_loss)
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
            Event::Runs(place, on) => self.runs[usize::from(*place == Place::D)] = *on,
            Event::Kill(_) => {}
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
        }
    }
}

/// The world as a region's monitor sees it.
pub struct View {
    pub world: Shared,
    pub place: Place,
}

/// How often the receiver of an idle writer hears of it, in milliseconds (aws-facts 12b).
const PING: u64 = 10_000;
/// How late metrics are at most, in milliseconds: up to 135 s with the check's own 90.
const LATEST: u64 = 45_000;
/// How long a reboot takes, in milliseconds.
const REBOOT: u64 = 40_000;
/// How long something that does not answer is waited for, in milliseconds.
const SILENCE: u64 = 3_000;
/// The same for a connection to a database.
const CONNECT: u64 = 5_000;

/// Waits in the world's time.
pub struct Sleep {
    world: Shared,
    until: u64,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let mut world = self.world.borrow_mut();
        if world.now >= self.until {
            Poll::Ready(())
        } else {
            world.wake = world.wake.min(self.until);
            Poll::Pending
        }
    }
}

pub fn sleep_until(world: &Shared, until: u64) -> Sleep {
    Sleep { world: Rc::clone(world), until }
}

impl View {
    fn side(&self, side: Side) -> Place {
        match (side, self.place) {
            (Side::Here, place) => place,
            (Side::There, Place::P) => Place::D,
            (Side::There, _) => Place::P,
        }
    }

    fn sleep(&self, milliseconds: u64) -> Sleep {
        sleep_until(&self.world, self.world.borrow().now + milliseconds)
    }

    /// A call to a place; `act` happens unless it never arrives.
    async fn call<T>(
        &self,
        to: Place,
        is_control: bool,
        act: impl FnOnce(&mut World) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let (arrives, fault, takes) = {
            let mut world = self.world.borrow_mut();
            let dead = is_control && to == Place::P && !world.control;
            let arrives = world.reaches(self.place, to) && !dead;
            let fault = world.struck();
            (arrives, fault, world.random.u64(20..400))
        };
        if !arrives || fault == Some(Fault::Silent) {
            // An answer that is lost says nothing about whether it was acted upon.
            let acts = arrives && self.world.borrow_mut().random.bool();
            if acts {
                let _ = act(&mut self.world.borrow_mut());
            }
            self.sleep(SILENCE).await;
            return Err(Fault::Silent);
        }
        self.sleep(takes).await;
        match fault {
            Some(fault) => Err(fault),
            // It may have been cut off on the way.
            None if !self.world.borrow().reaches(self.place, to) => Err(Fault::Silent),
            None => act(&mut self.world.borrow_mut()),
        }
    }
}

impl Surface for View {
    fn now(&self) -> u64 {
        self.world.borrow().clock(self.place)
    }

    async fn sleep_until(&self, moment: u64) {
        let ahead = self.world.borrow().skew[self.place as usize];
        sleep_until(&self.world, moment.saturating_sub(ahead)).await;
    }

    async fn probe(&self) -> Result<Probed, Fault> {
        let fault = self.world.borrow_mut().struck();
        if let Some(fault) = fault {
            self.sleep(SILENCE).await;
            return Err(fault);
        }
        let other = self.side(Side::There);
        let probed = {
            let mut world = self.world.borrow_mut();
            Probed {
                here: world.session(self.place, self.place),
                there: world.session(self.place, other),
            }
        };
        let closed = [&probed.here, &probed.there].contains(&&Session::Closed);
        let waits = closed && !self.world.borrow().refuses;
        self.sleep(if waits { CONNECT } else { 100 }).await;
        Ok(probed)
    }

    async fn instance(&self, side: Side) -> Result<Option<Instance>, Fault> {
        let place = self.side(side);
        self.call(place, true, |world| {
            let is_replica = place == Place::D && !world.standby_writes();
            let role = if is_replica { InstanceRole::Replica } else { InstanceRole::Writer };
            let busy = place == Place::D && world.promoted_at.is_some_and(|at| world.now < at);
            let status = match (busy, place == Place::D && world.now < world.busy_until) {
                (true, _) => "modifying",
                (_, true) => world.busy_as,
                _ if place == Place::P && world.now < world.reboots_until => "rebooting",
                _ => "available",
            };
            Ok(Some(Instance { role, status: status.into() }))
        })
        .await
    }

    async fn zone_failover(&self, side: Side) -> Result<Option<u64>, Fault> {
        self.call(self.side(side), true, |world| {
            let ago = world.zone_began.map(|at| world.now - at);
            Ok(ago.filter(|ago| *ago >= world.told_late))
        })
        .await
    }

    async fn ledger(&self, side: Side) -> Result<(Ledger, Intent), Fault> {
        let place = self.side(side);
        self.call(place, false, |world| {
            Ok((world.ledgers[usize::from(place == Place::D)].clone(), world.intent))
        })
        .await
    }

    async fn write_ledger(&self, expected: u64, ledger: &Ledger) -> Result<Written, Fault> {
        let place = self.place;
        self.call(place, false, |world| {
            let its = &mut world.ledgers[usize::from(place == Place::D)];
            if its.version != expected {
                return Ok(Written::Conflict);
            }
            *its = ledger.clone();
            Ok(Written::Done)
        })
        .await
    }

    async fn lease(&self) -> Result<Option<Lease>, Fault> {
        self.call(Place::W, false, |world| Ok(world.lease.clone())).await
    }

    async fn write_lease(&self, seen: Option<&Lease>, new: &Lease) -> Result<Written, Fault> {
        self.call(Place::W, false, |world| {
            if world.lease.as_ref() != seen {
                return Ok(Written::Conflict);
            }
            if let Some(old) = &world.lease {
                let least = old.epoch + u64::from(old.holder != new.holder);
                assert!(new.epoch >= least, "{new:?} does not come after {old:?}");
            }
            world.lease = Some(new.clone());
            Ok(Written::Done)
        })
        .await
    }

    async fn rules(&self, side: Side) -> Result<Vec<String>, Fault> {
        let place = self.side(side);
        self.call(place, true, |world| {
            let open = place == Place::P && !world.closed;
            Ok(if open { vec!["application".to_owned()] } else { Vec::new() })
        })
        .await
    }

    async fn revoke(&self, side: Side, _: &[String]) -> Result<(), Fault> {
        let place = self.side(side);
        self.call(place, true, |world| {
            world.closed |= place == Place::P;
            Ok(())
        })
        .await
    }

    async fn restore(&self, side: Side, _: &[String]) -> Result<(), Fault> {
        let place = self.side(side);
        self.call(place, true, |world| {
            world.closed &= place != Place::P;
            Ok(())
        })
        .await
    }

    async fn end_sessions(&self) -> Result<(), Fault> {
        let place = self.place;
        self.call(place, false, |world| {
            world.connected &= place != Place::P;
            world.ended += u32::from(place == Place::P);
            Ok(())
        })
        .await
    }

    async fn reboot_there(&self) -> Result<(), Fault> {
        let place = self.side(Side::There);
        self.call(place, true, |world| {
            if place != Place::P || world.now < world.reboots_until {
                return Err(Fault::Refused("InvalidDBInstanceState".into()));
            }
            if !world.closed || world.promoted_at.is_none() {
                world.wrong.push(format!("the writer was rebooted at {}", world.now));
            }
            world.reboots_until = world.now + REBOOT;
            Ok(())
        })
        .await
    }

    async fn promote(&self) -> Result<(), Fault> {
        let place = self.place;
        self.call(place, true, |world| {
            if place == Place::P || world.promoted_at.is_some() {
                return Err(Fault::Refused("not a replica".into()));
            }
            if world.now < world.busy_until {
                return Err(Fault::Refused("backing-up".into()));
            }
            // One that came back this very moment was not there when it was looked for.
            let since = world.serves_since.filter(|_| world.writer_serves());
            if since.is_some_and(|since| world.now - since > LOOK) {
                let text = format!("promoted at {} while the writer served", world.now);
                world.wrong.push(text);
            }
            world.promoted_at = Some(world.now + world.promotion);
            world.accepted_at = Some(world.now);
            Ok(())
        })
        .await
    }

    async fn publish(&self, metrics: &[Metric]) -> Result<(), Fault> {
        let place = self.place;
        self.call(place, false, |world| {
            for (name, value) in metrics {
                if *name == "PrimaryServing" && place == Place::D {
                    // Of a minute, the least value counts.
                    let minute = |at: u64| at / 60_000;
                    let moved = world.served.iter().rev().find(|(.., value)| *value < 1.0);
                    let has_moved = moved.is_some_and(|(at, ..)| minute(*at) < minute(world.now));
                    if *value >= 1.0 && has_moved {
                        let text = format!("the name moved back at {}", world.now);
                        world.wrong.push(text);
                    }
                    if *value < 1.0 && world.promoted_at.is_none() {
                        world.wrong.push(format!("DNS led to a replica at {}", world.now));
                    }
                    world.serving = *value;
                    let seen = world.now + world.late;
                    world.served.push((world.now, seen, *value));
                }
            }
            Ok(())
        })
        .await
    }

    async fn notify(&self, subject: &str, text: &str) -> Result<(), Fault> {
        let line = format!("{subject}: {text}");
        self.call(self.place, false, |world| {
            world.notes.push(line);
            Ok(())
        })
        .await
    }
}

/// How old what a tick saw may be when it acts on it, in milliseconds.
const LOOK: u64 = 15_000;
