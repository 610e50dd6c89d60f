//! One run of the monitor: tick after tick, for as long as it leads.

use std::time::Duration;

use super::{
    Fault, Instance, Intent, Lease, Ledger, Probed, Session, Side, Surface, Written,
    guard::Standing, promotion::TRIES,
};
use crate::{
    cluster::{
        failover::{Decision, Evidence, Phase, Policy, Series, decide},
        objectives::{CONNECT, TICK, ZONE_PATIENCE},
    },
    contract::moments::DECIDED,
};

/// How long a run lives that a schedule has begun, in milliseconds, unless a newer one leads. Schedules begin one every
/// minute and at any moment of it, so that two are up to two minutes apart: one of them may fail to come, and nothing is
/// left unwatched.
pub const LIFE: u64 = 185_000;
/// The same for one that a human has asked for a failover: most clients wait for a minute, and would ask again.
pub(super) const ASKED: u64 = 30_000;

/// When the next look begins after one that found a failover decided and not accepted, in milliseconds, and until when
/// after the decision: what keeps RDS from promoting may last, as a drill's snapshot does, and its limits are the
/// account's.
const PROMPT: [(u64, u64); 2] = [(1_000, 60_000), (3_000, 600_000)];

/// How long a look waits, at its end, for the moment that it would decide in, in milliseconds.
const NEARLY: u64 = 2_000;

/// How long after an answer that did not come the same is asked again where a human waits, in milliseconds.
const AGAIN: u64 = 1_000;

/// What a monitor is told about its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its own region.
    pub here: String,
    /// The other one.
    pub there: String,
    /// The settings that decide.
    pub policy: Policy,
}

/// What a tick came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tick {
    /// As the guard of the writer.
    Guarded,
    /// As the challenger.
    Decided(Decision),
    /// A newer run leads: this one is over.
    Superseded,
    /// Nothing could be done: the text says why.
    Blind(String),
}

/// A run of the monitor.
pub struct Monitor<S> {
    pub(super) surface: S,
    pub(super) config: Config,
    /// Runs are ordered by it: the newest leads.
    run: String,
    pub(super) ledger: Ledger,
    /// Whether this look goes on without something.
    pub(super) goes_without: bool,
    /// Whether what it remembers is more than what it could write.
    unwritten: bool,
}

/// What a tick saw.
pub(super) struct Seen {
    /// When the look began: what it shows is no older.
    pub(super) at: u64,
    pub(super) probed: Result<Probed, Fault>,
    pub(super) lease: Result<Option<Lease>, Fault>,
    pub(super) instance: Result<Option<Instance>, Fault>,
    /// The own region's; a guard does not ask.
    pub(super) own: Result<Option<Instance>, Fault>,
    /// How long ago the writer's zone began to fail over.
    pub(super) zone_failover: Result<Option<u64>, Fault>,
}

/// Why a step ends the tick.
pub(super) enum Stop {
    /// A newer run leads.
    Superseded,
    /// A run that overlaps wrote in between: the next look tells which of the two leads.
    Crossed,
    /// Something that was needed did not work.
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What is waited for that the last look has not lived to see: when a region, or a writer, will have been lost for long
/// enough.
fn dues(series: &Series, policy: &Policy) -> impl Iterator<Item = u64> {
    let patient = Duration::from_secs(ZONE_PATIENCE.into());
    let all = [
        series.silence_due(policy.region_detection),
        series.loss_due(policy.instance_detection),
        series.loss_due(policy.instance_detection + patient),
    ];
    let latest = series.latest();
    all.into_iter().flatten().filter(move |at| *at > latest)
}

/// When the next look should begin, given when the last one did: every [`TICK`], and in time for what is waited for. Looks
/// at something that does not answer take [`CONNECT`]. A failover that is decided and not accepted is looked at sooner, for a while.
fn next_look(begun: u64, ledger: &Ledger, policy: &Policy) -> u64 {
    let decided = ledger.moment(DECIDED).unwrap_or(0);
    let prompt = PROMPT.iter().find(|(_, until)| begun < decided + until);
    if let (Phase::Promoting, Some((pause, _))) = (ledger.phase, prompt) {
        return begun + pause;
    }
    let regular = begun + u64::from(TICK) * 1000;
    let lead = u64::from(CONNECT) * 1000;
    // What is decided waits for nothing of that any more.
    let waits = matches!(ledger.phase, Phase::Normal | Phase::Promoting);
    let due = dues(&ledger.series, policy).filter(|_| waits);
    // A look that would end shortly before what it waits for is put off until it ends after it; one that began in
    // time, and was over too soon because it was refused at once, is repeated then.
    let in_time = |at: u64| {
        let early = at.saturating_sub(lead);
        if early > begun { early } else { at }
    };
    let due = due.map(in_time);
    due.filter(|at| (begun + 1..=regular + lead).contains(at)).min().unwrap_or(regular)
}

impl<S: Surface> Monitor<S> {
    /// A run. `run` must be greater than that of every earlier one.
    pub fn new(surface: S, config: Config, run: String) -> Self {
        Self {
            surface,
            config,
            run,
            ledger: Ledger::default(),
            goes_without: false,
            unwritten: false,
        }
    }

    /// What it remembers.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Looks, again and again, until its time is over (`life`, in milliseconds), a newer run leads, or the cluster is
    /// being removed.
    pub async fn run(&mut self, life: u64, mut seen: impl FnMut(&Tick)) {
        let begun = self.surface.now();
        loop {
            let at = self.surface.now();
            let tick = self.tick().await;
            seen(&tick);
            let is_over = matches!(tick, Tick::Superseded | Tick::Decided(Decision::Nothing));
            if is_over || self.surface.now() >= begun + life {
                self.confess().await;
                return;
            }
            self.surface.sleep_until(next_look(at, &self.ledger, &self.config.policy)).await;
        }
    }

    /// Looks once, decides and acts.
    pub async fn tick(&mut self) -> Tick {
        match self.look().await {
            Ok(tick) => tick,
            Err(Stop::Superseded) => Tick::Superseded,
            Err(Stop::Crossed) => Tick::Blind("another run wrote in between".into()),
            Err(Stop::Fault(fault)) => {
                let _ = self.surface.publish(&[("AgentErrors", 1.0)]).await;
                Tick::Blind(fault.to_string())
            }
        }
    }

    /// Before the same is asked once more: by one answer that is lost, nobody is told to use force.
    async fn breathe(&self) {
        self.surface.sleep_until(self.surface.now() + AGAIN).await;
    }

    /// A human asks for a failover: refused while the writer takes writes, unless it is forced; and where one has begun
    /// since the ledger was at the `epoch` that was asked for.
    ///
    /// # Errors
    /// Why it was not begun.
    pub async fn fail_over(&mut self, force: bool, epoch: Option<u64>) -> Result<(), String> {
        let text = |fault: Fault| fault.to_string();
        let mut lease = self.surface.lease().await;
        if lease.is_err() && !force {
            self.breathe().await;
            lease = self.surface.lease().await;
        }
        if let Err(fault) = &lease
            && !force
        {
            return Err(format!(
                "the witness cannot be asked ({fault}); say force to go on without"
            ));
        }
        let holds = matches!(&lease, Ok(Some(lease)) if lease.holder == self.config.here);
        let mut probed = self.surface.probe().await;
        if probed.is_err() {
            self.breathe().await;
            probed = self.surface.probe().await;
        }
        let probed = probed.map_err(text)?;
        match probed {
            Probed { there: Session::Writer { .. }, .. } if !force => {
                return Err("the writer takes writes; say force to fail over all the same".into());
            }
            // A failover that waits holds the lease already, and may be taken over.
            Probed { here: Session::Writer { .. }, .. } if holds => {
                return Err(format!(
                    "{} has the writer; ask in the other region",
                    self.config.here
                ));
            }
            Probed { here: Session::Writer { .. } | Session::Standby { .. }, .. } => {}
            Probed { here, .. } => return Err(format!("the standby cannot be used: {here:?}")),
        }
        let here = probed.here;
        // Runs that watch write every few seconds: the ledger is read once all that takes time is done.
        for _ in 0..TRIES {
            let (ledger, intent) = self.surface.ledger(Side::Here).await.map_err(text)?;
            self.ledger = ledger;
            if matches!(here, Session::Writer { .. }) && self.ledger.held {
                let Config { here, there, .. } = &self.config;
                if self.was_overtaken(&lease).await {
                    // What it has is older than what the other one has taken since, and its fence would close that one.
                    return Err(format!(
                        "{here} was overtaken: {there} has the writer, and there is no way back, not even by force; \
                         what {there} has can be restored from backups beside the cluster"
                    ));
                }
                if self.ledger.phase == Phase::Normal {
                    // By its own ledger, where the witness does not say so: nothing is to be taken over, and nobody
                    // would guard it any more.
                    return Err(format!("{here} has the writer; ask in the other region"));
                }
            }
            let may = match self.ledger.phase {
                Phase::Normal => true,
                Phase::Diverged | Phase::Promoting => force,
                Phase::Accepted | Phase::Promoted | Phase::Destroying => false,
            };
            if intent.destroying {
                return Err("the cluster is being removed".into());
            }
            if let Some(epoch) = epoch.filter(|epoch| *epoch != self.ledger.epoch) {
                return Err(format!(
                    "a failover has begun since this was asked for: the epoch was {epoch} and is {}; see what it came to, \
                     and ask again if it is still wanted",
                    self.ledger.epoch
                ));
            }
            if !may {
                let by_force = if self.ledger.phase == Phase::Promoting {
                    "; say force to go on without what it waits for"
                } else {
                    ""
                };
                return Err(format!("the phase is {}{by_force}", self.ledger.phase.as_str()));
            }
            self.ledger.by_hand = true;
            self.ledger.forced = force;
            self.ledger.blocked_since = None;
            self.ledger.unclosed_since = None;
            // One that is under way goes on: RDS may have been asked already.
            let begun = match self.ledger.phase {
                Phase::Promoting => self.save().await,
                _ => self.begin(None).await,
            };
            match begun {
                Ok(()) => return Ok(()),
                Err(Stop::Crossed) => {}
                Err(Stop::Superseded) => break,
                Err(Stop::Fault(fault)) => return Err(text(fault)),
            }
        }
        Err("another run acts; ask again".into())
    }

    /// Whether the other region has taken over, by the lease, or by what that region says where the witness is silent.
    async fn was_overtaken(&self, lease: &Result<Option<Lease>, Fault>) -> bool {
        match lease {
            Ok(lease) => lease.as_ref().is_some_and(|lease| lease.holder != self.config.here),
            Err(_) => self.hear().await == Standing::Superseded,
        }
    }

    async fn look(&mut self) -> Result<Tick, Stop> {
        // A new run looks before it takes over, so that the look of the older one is not lost meanwhile.
        let first = if self.ledger.version == 0 { Some(self.see().await) } else { None };
        let mut blind = None;
        let intent = match self.surface.ledger(Side::Here).await {
            Ok((ledger, intent)) => {
                if ledger.leader > self.run {
                    let is_over = self.hand_over(ledger).await;
                    return Err(if is_over { Stop::Superseded } else { Stop::Crossed });
                }
                self.take(ledger);
                if self.ledger.leader != self.run {
                    // Taken before anything else, so that an older run stops instead of this one.
                    match self.save().await {
                        Err(Stop::Fault(fault)) => blind = Some(("written", fault)),
                        other => other?,
                    }
                }
                intent
            }
            // A guard without its ledger guards by the lease; a challenger without its own does nothing.
            Err(fault) if self.ledger.phase == Phase::Normal => {
                blind = Some(("read", fault));
                Intent::default()
            }
            Err(fault) => return Err(fault.into()),
        };
        if intent.destroying {
            return Ok(Tick::Decided(Decision::Nothing));
        }
        let seen = match first {
            Some(seen) => seen,
            None => self.see().await,
        };
        let writes_here = matches!(&seen.probed, Ok(Probed { here: Session::Writer { .. }, .. }));
        let follows_here = matches!(&seen.probed, Ok(Probed { here: Session::Standby { .. }, .. }));
        let holds = matches!(&seen.lease, Ok(Some(lease)) if lease.holder == self.config.here);
        if follows_here
            && self.ledger.phase == Phase::Normal
            && matches!(&seen.lease, Ok(Some(_)) if !holds)
        {
            // It was given back, by a run that could not note that.
            self.ledger.held = false;
        }
        // Whoever has held the lease guards; so does a writer where nobody ever has. A standby does not,
        // whatever a failover that was called off left.
        let is_guard = self.ledger.held || holds || (writes_here && seen.lease == Ok(None));
        let is_guard = is_guard && !follows_here;
        if let Some((what, fault)) = blind {
            if !is_guard || self.ledger.phase != Phase::Normal {
                return Err(fault.into());
            }
            self.complain(&format!("its ledger cannot be {what}"), &fault);
        }
        if is_guard && self.ledger.phase == Phase::Normal {
            self.guard(&seen).await?;
            return Ok(Tick::Guarded);
        }
        self.challenge(seen, intent).await.map(Tick::Decided)
    }

    /// Goes on with what the table has, and with what it could not write there itself.
    fn take(&mut self, ledger: Ledger) {
        let is_news = ledger.version != self.ledger.version;
        if self.unwritten && is_news {
            let closed = std::mem::take(&mut self.ledger.closed_here);
            self.ledger = ledger;
            self.ledger.close_here(closed);
            self.ledger.holding_since = None;
        } else if is_news || !self.unwritten {
            self.ledger = ledger;
        }
    }

    /// Leaves to the run that leads which rules are gone, where this one could not write that: nobody else would ever put
    /// them back. Whether it knows.
    async fn hand_over(&mut self, mut theirs: Ledger) -> bool {
        if !self.unwritten || self.ledger.closed_here.is_empty() {
            return true;
        }
        for _ in 0..TRIES {
            let version = theirs.version;
            theirs.close_here(self.ledger.closed_here.iter().cloned());
            theirs.holding_since = None;
            theirs.version += 1;
            if self.surface.write_ledger(version, &theirs).await == Ok(Written::Done) {
                self.unwritten = false;
                return true;
            }
            let Ok((now, _)) = self.surface.ledger(Side::Here).await else { return false };
            theirs = now;
        }
        false
    }

    /// Tells at the end of which rules nobody else knows that they are gone.
    async fn confess(&self) {
        if self.unwritten && !self.ledger.closed_here.is_empty() {
            let text = format!(
                "Its ledger could not be written: if it stays closed when all is well again, `terraform apply` puts back \
                 the rules of its security group ({})",
                self.ledger.closed_here.join(", ")
            );
            let subject = format!("The writer in {} was closed", self.config.here);
            let _ = self.surface.notify(&subject, &text).await;
        }
    }

    /// Writes the ledger, or keeps in mind that it is not written.
    pub(super) async fn save_or_keep(&mut self) -> Result<(), Stop> {
        match self.save().await {
            Err(Stop::Fault(fault)) => {
                self.unwritten = true;
                self.complain("its ledger cannot be written", &fault);
                Ok(())
            }
            other => other,
        }
    }

    /// What it goes on without wants a look at its log. An alarm is told once this look is over: nothing that it does
    /// may wait for that.
    pub(super) fn complain(&mut self, what: &str, fault: &Fault) {
        tracing::warn!(target: "trading::agent", "{what}: {fault}");
        self.goes_without = true;
    }

    /// Everything at once: what does not answer takes its time.
    async fn see(&self) -> Seen {
        let surface = &self.surface;
        let at = surface.now();
        let asks = self.ledger.version == 0 || self.ledger.series.first_failure.is_some();
        let zone = async { if asks { surface.zone_failover(Side::There).await } else { Ok(None) } };
        let follows = self.ledger.phase == Phase::Normal && !self.ledger.held;
        let own = async { if follows { surface.instance(Side::Here).await } else { Ok(None) } };
        let (probed, lease, instance, own, zone_failover) = futures::join!(
            surface.probe(),
            surface.lease(),
            surface.instance(Side::There),
            own,
            zone
        );
        Seen { at, probed, lease, instance, own, zone_failover }
    }

    /// What the evidence of a look comes to, with what was seen before. A look that is over a moment too soon waits for that
    /// moment: another one would take seconds.
    pub(super) async fn weigh(&mut self, begun: u64, seen: &Evidence) -> Decision {
        let (before, now) = (self.ledger.series, self.surface.now());
        self.ledger.series = before.next(begun, now, seen);
        let policy = self.config.policy;
        let decision = decide(self.ledger.phase, seen, &self.ledger.series, &policy);
        let due = dues(&self.ledger.series, &policy).min();
        match due.filter(|due| decision == Decision::Wait && *due <= now + NEARLY) {
            None => decision,
            Some(due) => {
                self.surface.sleep_until(due).await;
                self.ledger.series = before.next(begun, self.surface.now(), seen);
                decide(self.ledger.phase, seen, &self.ledger.series, &policy)
            }
        }
    }

    /// Writes the ledger, as the run that leads.
    pub(super) async fn save(&mut self) -> Result<(), Stop> {
        let expected = self.ledger.version;
        let mut new = self.ledger.clone();
        new.version = expected + 1;
        new.leader.clone_from(&self.run);
        match self.surface.write_ledger(expected, &new).await? {
            Written::Done => {
                self.ledger = new;
                self.unwritten = false;
                Ok(())
            }
            Written::Conflict => Err(Stop::Crossed),
        }
    }

    /// Tells the topic, once for as long as it stays so.
    pub(super) async fn tell(&mut self, subject: &str, text: &str) {
        if self.ledger.told != text && self.surface.notify(subject, text).await.is_ok() {
            text.clone_into(&mut self.ledger.told);
        }
    }

    /// Tells the topic what must not be lost: on record, until it was taken.
    pub(super) async fn tell_surely(&mut self, subject: &str, text: String) {
        self.ledger.untold = Some((subject.to_owned(), text));
        self.deliver().await;
    }

    /// Tells of rules that could not be put back into the security group of a writer that is open again: the next apply
    /// makes those that are still wanted.
    pub(super) async fn tell_of_lost(&mut self, rules: &[String]) {
        let text = format!(
            "nobody has taken over. EC2 does not take these sources of connections any more: {}. `terraform apply` puts \
             back what is still in the configuration",
            rules.join(", ")
        );
        self.ledger.told.clear();
        self.tell_surely("The writer is open again, not for everybody", text).await;
    }

    /// Tells the topic what it did not take before.
    pub(super) async fn deliver(&mut self) {
        if let Some((subject, text)) = self.ledger.untold.clone()
            && self.surface.notify(&subject, &text).await.is_ok()
        {
            self.ledger.untold = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::failover::{Control, Sign, evidence, policy};

    /// What a look shows at a writer that is gone.
    fn lost(is_silent: bool) -> Evidence {
        let control = if is_silent { Control::Silent } else { Control::Answers };
        Evidence { control, ..evidence(Sign::No, Sign::No, Sign::No) }
    }

    /// A ledger whose writer has been lost since second 1,000, by looks every ten seconds that take so many.
    fn looked(until: u64, takes: u64, is_silent: bool) -> Ledger {
        let mut ledger = Ledger::default();
        for second in (1_000..=until).step_by(10) {
            let (begun, over) = (second * 1000, (second + takes) * 1000);
            ledger.series = ledger.series.next(begun, over, &lost(is_silent));
        }
        ledger
    }

    fn next(begun: u64, ledger: &Ledger) -> u64 {
        next_look(begun * 1000, ledger, &policy()) / 1000
    }

    #[test]
    fn a_look_ends_when_the_patience_does() {
        // It shows no life since the end of the first look, at 1,005, and its region is given up at 1,065.
        let ledger = looked(1_030, 5, true);
        assert_eq!(next(1_040, &ledger), 1_050);
        assert_eq!(next(1_047, &ledger), 1_060, "put off, so that it ends in time");
        assert_eq!(next(1_053, &ledger), 1_060, "brought forward");
        // The instance is given up at 1,110, and after a failover of zones at 1,200.
        assert_eq!(next(1_098, &looked(1_090, 5, false)), 1_105);
        assert_eq!(next(1_188, &looked(1_180, 5, false)), 1_195);
    }

    #[test]
    fn a_look_that_was_over_too_soon_is_repeated_in_time_and_only_then() {
        let mut ledger = looked(1_050, 0, true);
        ledger.series = ledger.series.next(1_055_000, 1_055_000, &lost(true));
        assert_eq!(next(1_055, &ledger), 1_060);
        ledger.series = ledger.series.next(1_055_000, 1_060_000, &lost(true));
        assert_eq!(next(1_055, &ledger), 1_065, "it has lived to see it");
        ledger.phase = Phase::Accepted;
        ledger.series = looked(1_050, 0, true).series;
        assert_eq!(next(1_050, &ledger), 1_060, "nothing is waited for any more");
    }

    #[test]
    fn what_is_decided_is_looked_at_sooner_for_a_while() {
        let mut ledger = Ledger { phase: Phase::Promoting, ..Ledger::default() };
        ledger.note(1_000_000, DECIDED);
        assert_eq!(next(1_059, &ledger), 1_060);
        assert_eq!(next(1_060, &ledger), 1_063);
        assert_eq!(next(1_600, &ledger), 1_610);
    }
}
