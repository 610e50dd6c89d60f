//! The challenger: evidence, decision, and a failover in steps that can be repeated.

use std::time::Duration;

use super::{
    Fault, Instance, InstanceRole, Intent, Lease, Ledger, Monitor, Probed, Session, Side, Surface,
    Written,
    evidence::{Look, gather, heartbeat_age},
    ledger::REBOOTS,
    monitor::{Seen, Stop},
};
use crate::{
    cluster::failover::{Control, Decision, Evidence, Phase, Reason, Sign},
    contract::moments::{
        ACCEPTED, ASKED_FOR, DECIDED, FENCED, FIRST_FAILURE, FIRST_WRITE, LEASE_TAKEN,
        SESSIONS_ENDED,
    },
};

/// How long before the first failure a failover of zones may have begun that explains it.
const ZONE_BEFORE: u64 = 60_000;
/// How long RDS may say that a promoted instance is an available replica before that is believed: twice what
/// its status is known to lag behind (aws-facts 1.3).
const PROMOTION_UNHEARD: u64 = 120_000;
/// When somebody is told that a promotion takes too long.
const PROMOTION_LATE: u64 = 300_000;
/// For how long a human's failover waits for what keeps it from asking RDS, before it is called off: longer than
/// any failover takes, and no longer than whoever asked still waits.
const ASKED_IN_VAIN: u64 = 600_000;
/// For how long a forced one tries to close a writer that may live, before it goes on without.
const CLOSING: u64 = 60_000;
/// For how long RDS may have the standby in a state in which it would not promote it, before somebody is told.
const BUSY: u64 = 1_800_000;
/// For how long it is tried to note that a promotion was accepted, against runs that write in between and a table that
/// fails, and the pause after a failure, in milliseconds.
const NOTING: u64 = 45_000;
const NOTING_PAUSE: u64 = 1_000;

/// Why a failover is called off.
const CAME_BACK: &str = "the writer came back before it was accepted";
const IN_VAIN: &str = "for ten minutes, the witness was not to be reached or the old writer not to be closed; asked with \
                       force, it goes on without";

/// Seconds that it is at most.
fn in_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// What became of the rules by which applications reach the other writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    /// Some may be there.
    Failed,
    /// They are gone since now.
    Now,
    /// There were none.
    Before,
}

impl<S: Surface> Monitor<S> {
    pub(super) async fn challenge(&mut self, seen: Seen, intent: Intent) -> Result<Decision, Stop> {
        let Seen { at, probed, lease, instance, own, zone_failover } = seen;
        let probed = &probed;
        let there = self.config.there.clone();
        let failed = self.ledger.series.first_failure.unwrap_or(at);
        // Its event may be late, and its zone then tells. Not to know of one is no reason to be impatient.
        let zone_failed_over = match zone_failover {
            Ok(Some(ago)) if at.saturating_sub(ago) + ZONE_BEFORE >= failed => true,
            Ok(_) => self.has_moved(&instance),
            Err(_) => true,
        };
        let look = Look {
            now: at,
            probed,
            lease: &lease,
            instance: &instance,
            zone_failed_over,
            intent,
            there: &there,
        };
        let seen = gather(&mut self.ledger, &look);
        let mut decision = self.weigh(at, &seen).await;
        if let (Sign::Yes, Ok(Some(Instance { zone: Some(zone), .. }))) = (seen.writes, &instance) {
            self.ledger.zone = Some(zone.clone());
        }
        if self.ledger.phase == Phase::Promoting {
            if self.ledger.by_hand && seen.standby_writes != Sign::Yes {
                // Whoever asked knows what the evidence says.
                decision = Decision::Promote;
            } else if seen.is_held && seen.standby_writes != Sign::Yes {
                decision = Decision::Abort;
            }
        }
        self.give_back(&seen, &lease).await;
        self.deliver().await;
        self.note_standby(&own);
        if self.ledger.phase == Phase::Normal && decision != Decision::FailOver {
            // What a failover that was called off could not undo at once; the next look tries again.
            let _ = self.reopen_there().await;
        }
        // Without a witness, whoever was promoted by force ends the other one's sessions all the same.
        let holds = match &lease {
            Ok(Some(one)) => one.holder == self.config.here,
            Ok(None) => false,
            Err(_) => true,
        };
        let lease_seen = lease.clone();
        self.act(decision, &seen, lease, probed).await?;
        if self.ledger.phase == Phase::Promoted && !self.ledger.held {
            // A witness that was silent when it was promoted: whoever writes holds the lease.
            match self.take_lease(lease_seen).await {
                Ok(_) | Err(Stop::Fault(_)) => {}
                Err(stop) => return Err(stop),
            }
        }
        if holds && !seen.is_held {
            self.end_sessions_there(&instance).await?;
        }
        // What was overtaken must not be published.
        self.save().await?;
        self.report(decision, &seen).await;
        Ok(decision)
    }

    async fn act(
        &mut self,
        decision: Decision,
        seen: &Evidence,
        lease: Result<Option<Lease>, Fault>,
        probed: &Result<Probed, Fault>,
    ) -> Result<(), Stop> {
        match decision {
            Decision::Stay | Decision::Wait => self.ledger.told.clear(),
            Decision::Nothing => {}
            Decision::Alarm(reason) => {
                self.tell("The cluster needs attention", reason.text()).await;
            }
            Decision::Diverge => {
                self.ledger.phase = Phase::Diverged;
                self.tell("The cluster needs a decision", Reason::Diverged.text()).await;
            }
            Decision::FailOver => {
                self.begin(seen.data_loss.map(in_seconds)).await?;
                self.promote(seen, lease).await?;
            }
            Decision::Promote => self.promote(seen, lease).await?,
            Decision::Abort => self.abort(CAME_BACK).await?,
            Decision::Verify => {
                // Whoever writes holds the lease, also where somebody else promoted.
                match self.take_lease(lease).await {
                    Ok(_) | Err(Stop::Fault(_)) => {}
                    Err(stop) => return Err(stop),
                }
                self.verify(probed).await?;
                // A region that comes back before the new writer writes is closed as well; there is no way back.
                let is_back = matches!(seen.control, Control::Answers | Control::Intended);
                if self.ledger.certain && is_back && seen.is_fenced != Sign::Yes {
                    self.close_there().await;
                }
            }
            Decision::FenceReturned => {
                // Verified from here, where the rules were gone already: over the peering, nobody is let in any more.
                let is_closed = matches!(probed, Ok(Probed { there: Session::Closed, .. }));
                let closing = self.close_there().await;
                if closing == Closing::Failed {
                    let _ = self.surface.publish(&[("AgentErrors", 1.0)]).await;
                    if seen.control != Control::Unknown {
                        let text = format!(
                            "{} answers and does not let its security group be changed from {}: until its own \
                             monitor closes it, applications there may write to the old writer only",
                            self.config.there, self.config.here
                        );
                        self.tell("The old writer cannot be closed", &text).await;
                    }
                } else if is_closed && closing == Closing::Before {
                    self.ledger.fenced_there = true;
                    self.ledger.note(self.surface.now(), FENCED);
                }
            }
        }
        Ok(())
    }

    /// Notes since when RDS would not promote the standby; where it does not say, what it said before stays.
    fn note_standby(&mut self, own: &Result<Option<Instance>, Fault>) {
        match own {
            Ok(Some(one)) if one.role == InstanceRole::Replica && one.status != "available" => {
                self.ledger.busy_since.get_or_insert(self.surface.now());
            }
            Ok(_) => self.ledger.busy_since = None,
            Err(_) => {}
        }
    }

    /// Whether the writer is in another zone than where it last took a write.
    fn has_moved(&self, instance: &Result<Option<Instance>, Fault>) -> bool {
        let now = instance.iter().flatten().find_map(|one| one.zone.as_ref());
        let before = self.ledger.zone.as_ref();
        now.zip(before).is_some_and(|(now, before)| now != before)
    }

    /// Writes down that a failover begins, before anything is done for it.
    pub(super) async fn begin(&mut self, data_loss: Option<u64>) -> Result<(), Stop> {
        let now = self.surface.now();
        self.ledger.data_loss = data_loss;
        let known = self.ledger.lease_seen.as_ref().map_or(0, |(lease, _)| lease.epoch);
        self.ledger.epoch = self.ledger.epoch.max(known) + 1;
        self.ledger.phase = Phase::Promoting;
        self.ledger.asked = None;
        self.ledger.certain = false;
        self.ledger.unclosed_there = false;
        self.ledger.blocked_since = None;
        self.ledger.reboots_left = REBOOTS;
        self.ledger.timeline.clear();
        // One that was cut off before it was lost has failed since its last sign of life.
        let series = &self.ledger.series;
        if let Some(at) = series.first_failure.map(|at| at.max(series.last_life())) {
            self.ledger.note(at, FIRST_FAILURE);
        }
        if self.ledger.by_hand {
            self.ledger.note(now, ASKED_FOR);
        }
        self.ledger.note(now, DECIDED);
        self.save().await
    }

    async fn promote(
        &mut self,
        seen: &Evidence,
        lease: Result<Option<Lease>, Fault>,
    ) -> Result<(), Stop> {
        let forced = self.ledger.by_hand && self.ledger.forced;
        match self.take_lease(lease).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            // Whoever forces it was told that the witness cannot be asked. The old writer's monitor, which cannot
            // ask it either, hears of the failover from this region's ledger, or closes its writer by itself.
            Err(Stop::Fault(_)) if forced => {}
            Err(Stop::Fault(fault)) => {
                if self.is_in_vain() {
                    return self.abort(IN_VAIN).await;
                }
                self.save().await?;
                return Err(fault.into());
            }
            Err(stop) => return Err(stop),
        }
        if self.ledger.by_hand && self.ledger.asked.is_none() {
            let loss = seen.data_loss.map(in_seconds);
            self.ledger.data_loss = loss.or(self.ledger.data_loss);
        }
        // Only a region that has been silent for long enough cannot be closed; any other writer may live, and
        // is closed first, or nothing is promoted.
        let series = &self.ledger.series;
        let is_gone = seen.control == Control::Silent
            && series.silent_for() >= self.config.policy.region_detection;
        let is_closed = !is_gone && self.close_there().await != Closing::Failed;
        self.ledger.unclosed_there = !is_closed;
        // Forced, it goes on without, where that goes on being so.
        if is_gone || is_closed {
            self.ledger.blocked_since = None;
        } else if !(forced && self.blocked_for() >= CLOSING) {
            if self.is_in_vain() {
                return self.abort(IN_VAIN).await;
            }
            let text = "the writer may live, and its region does not let it be closed: nothing is promoted";
            self.tell("A failover waits", text).await;
            return Ok(());
        }
        // What may have changed while all this was done: a hold, a destroy; and another run, in which case
        // the question is not put on record, and not asked.
        let (_, intent) = self.surface.ledger(Side::Here).await?;
        let held = intent.hold_until.is_some_and(|until| until > self.surface.now());
        let is_open = !held || self.ledger.by_hand || seen.standby_writes == Sign::Yes;
        if intent.destroying || !is_open {
            return Ok(());
        }
        let before = self.ledger.asked.replace(self.surface.now());
        self.save().await?;
        let is_accepted = seen.standby_writes == Sign::Yes
            || match self.surface.promote().await {
                Ok(()) => {
                    self.ledger.certain = true;
                    true
                }
                Err(Fault::Refused(why) | Fault::NotNow(why)) => {
                    // Of a question that was put before, it says nothing: RDS may refuse because it took that one.
                    self.ledger.asked = before;
                    if !self.may_be_promoting().await {
                        self.ledger.asked = None;
                    }
                    let _ = self.surface.publish(&[("PromotionBlocked", 1.0)]).await;
                    self.tell("A failover waits", &format!("RDS does not promote: {why}")).await;
                    false
                }
                // It may have been accepted: there is no way back. Whoever verifies sees if not, and asks
                // again; the name stays until it is known.
                Err(Fault::Silent | Fault::Failing(_)) => true,
            };
        if is_accepted {
            self.accepted().await?;
        }
        Ok(())
    }

    /// For how long something has kept RDS from being asked, from now on if nothing did before.
    fn blocked_for(&mut self) -> u64 {
        let now = self.surface.now();
        now.saturating_sub(*self.ledger.blocked_since.get_or_insert(now))
    }

    /// Whether what a human asked for was kept for so long from even being asked of RDS that it is called off.
    fn is_in_vain(&mut self) -> bool {
        let blocked = self.blocked_for();
        self.ledger.by_hand && self.ledger.asked.is_none() && blocked >= ASKED_IN_VAIN
    }

    /// Takes the lease exactly as it was seen to stand still: if it moved meanwhile, the writer lives. Whether
    /// it is held, the lease itself says.
    async fn take_lease(&mut self, lease: Result<Option<Lease>, Fault>) -> Result<bool, Stop> {
        let seen = lease?;
        let here = &self.config.here;
        let taken = match &seen {
            Some(one) if one.holder == *here && one.epoch >= self.ledger.epoch => true,
            _ => {
                // A promotion by hand is no failover that has been numbered.
                let known = seen.as_ref().map_or(0, |one| one.epoch);
                let epoch = self.ledger.epoch.max(known + 1);
                let new = Lease { epoch, holder: here.clone(), ..Lease::default() };
                let is_written =
                    self.surface.write_lease(seen.as_ref(), &new).await? == Written::Done;
                if is_written {
                    self.ledger.epoch = epoch;
                    true
                } else {
                    // A run of this region that overlaps may have been faster: it is held all the same.
                    let now = self.surface.lease().await?;
                    let ours = now.filter(|one| one.holder == *here && one.epoch >= epoch);
                    self.ledger.epoch = ours.as_ref().map_or(self.ledger.epoch, |one| one.epoch);
                    ours.is_some()
                }
            }
        };
        if taken && !self.ledger.held {
            self.ledger.held = true;
            self.ledger.note(self.surface.now(), LEASE_TAKEN);
            self.save().await?;
        }
        Ok(taken)
    }

    /// A standby has no business with the lease when nothing is under way: a failover that was called off may
    /// have left it here.
    async fn give_back(&mut self, seen: &Evidence, lease: &Result<Option<Lease>, Fault>) {
        let Ok(Some(held)) = lease else { return };
        let idle = self.ledger.phase == Phase::Normal && seen.standby_writes == Sign::No;
        if idle && held.holder == self.config.here {
            let holder = self.config.there.clone();
            let back = Lease { epoch: held.epoch + 1, holder, ..Lease::default() };
            if self.surface.write_lease(Some(held), &back).await == Ok(Written::Done) {
                self.ledger.epoch = back.epoch;
                self.ledger.held = false;
            }
        }
    }

    /// Closes the other region's writer. Which rules that takes is on record before they go. Whether it keeps
    /// everybody out, the next look shows.
    async fn close_there(&mut self) -> Closing {
        let Ok(rules) = self.surface.rules(Side::There).await else { return Closing::Failed };
        if rules.is_empty() {
            return Closing::Before;
        }
        self.ledger.closed_there.extend(rules.iter().cloned());
        self.ledger.closed_there.sort();
        self.ledger.closed_there.dedup();
        let done =
            self.save().await.is_ok() && self.surface.revoke(Side::There, &rules).await.is_ok();
        if done { Closing::Now } else { Closing::Failed }
    }

    /// Ends what is still connected to the old writer, once there is no way back and nobody new gets in: rules
    /// that are gone do not cut sessions (aws-facts 12b), and its own guard may be dead. From here only a
    /// reboot does that, and RDS allows it to an instance that is available.
    async fn end_sessions_there(
        &mut self,
        instance: &Result<Option<Instance>, Fault>,
    ) -> Result<(), Stop> {
        let is_final = self.ledger.phase == Phase::Promoted
            || (self.ledger.phase == Phase::Accepted && self.ledger.certain);
        let may_reboot = matches!(
            instance,
            Ok(Some(Instance { role: InstanceRole::Writer, status, .. })) if status == "available"
        );
        if !(is_final && may_reboot) || self.ledger.reboots_left == 0 {
            return Ok(());
        }
        // What the ledger names was to be closed; whether it is, the region says.
        if !matches!(self.surface.rules(Side::There).await, Ok(open) if open.is_empty()) {
            return Ok(());
        }
        // On record first: a run that was overtaken reboots nothing, and its successor not once more.
        self.ledger.reboots_left -= 1;
        self.save().await?;
        match self.surface.reboot_there().await {
            Ok(()) => {
                self.ledger.reboots_left = 0;
                self.ledger.note(self.surface.now(), SESSIONS_ENDED);
            }
            // Not taken, and no word on whether it may be.
            Err(Fault::NotNow(_) | Fault::Failing(_)) => self.ledger.reboots_left += 1,
            Err(why @ (Fault::Refused(_) | Fault::Silent)) => {
                if self.ledger.reboots_left == 0 {
                    let text = format!("sessions that it had may go on writing: {why}");
                    self.tell("The old writer was not rebooted", &text).await;
                }
            }
        }
        Ok(())
    }

    async fn accepted(&mut self) -> Result<(), Stop> {
        let (epoch, certain) = (self.ledger.epoch, self.ledger.certain);
        let until = self.surface.now() + NOTING;
        loop {
            self.ledger.phase = Phase::Accepted;
            self.ledger.certain |= certain;
            self.ledger.note_again(self.surface.now(), ACCEPTED);
            let failed = match self.save().await {
                Ok(()) => break,
                Err(stop) => matches!(stop, Stop::Fault(_)),
            };
            if self.surface.now() >= until {
                break;
            }
            if failed {
                self.surface.sleep_until(self.surface.now() + NOTING_PAUSE).await;
            }
            // Not to be lost: whoever wrote in between has to know, unless it does.
            if let Ok((other, _)) = self.surface.ledger(Side::Here).await {
                let knows = match other.phase {
                    Phase::Promoted => true,
                    Phase::Accepted => other.certain || !certain,
                    _ => other.epoch != epoch,
                };
                if knows {
                    self.ledger = other;
                    break;
                }
                self.ledger = Ledger { timeline: self.ledger.timeline.clone(), ..other };
            }
        }
        let _ = self.surface.publish(&[("PrimaryServing", self.ledger.serves())]).await;
        Ok(())
    }

    /// The writer came back before the promotion was accepted. That it was not, RDS has to say: an answer may
    /// have been lost.
    async fn abort(&mut self, why: &str) -> Result<(), Stop> {
        let now = self.surface.now();
        if self.may_be_promoting().await {
            let asked = self.ledger.asked.unwrap_or(now);
            if now.saturating_sub(asked) >= PROMOTION_UNHEARD {
                let text =
                    "RDS may have taken the request to promote, and shows no standby that follows";
                self.tell("A failover is not called off yet", text).await;
            }
            return Ok(());
        }
        // On record first: a run that was overtaken undoes nothing.
        self.ledger.phase = Phase::Normal;
        self.ledger.series = Default::default();
        self.ledger.by_hand = false;
        self.ledger.forced = false;
        self.ledger.blocked_since = None;
        self.ledger.asked = None;
        self.save().await?;
        self.reopen_there().await?;
        self.tell("A failover was called off", why).await;
        Ok(())
    }

    /// Whether RDS may have taken a question of which nothing was heard: until it shows, long after it was put, a standby
    /// that follows as before.
    async fn may_be_promoting(&self) -> bool {
        let Some(asked) = self.ledger.asked else { return false };
        let follows = matches!(
            self.surface.instance(Side::Here).await,
            Ok(Some(Instance { role: InstanceRole::Replica, status, .. })) if status == "available"
        );
        !follows || self.surface.now().saturating_sub(asked) < PROMOTION_UNHEARD
    }

    /// Lets applications into the other region's writer again, after a failover that was called off.
    async fn reopen_there(&mut self) -> Result<(), Stop> {
        if !self.ledger.closed_there.is_empty() {
            let rules = self.ledger.closed_there.clone();
            let lost = self.surface.restore(Side::There, &rules).await?;
            self.ledger.closed_there.clear();
            self.ledger.fenced_there = false;
            if !lost.is_empty() {
                self.tell_of_lost(&lost).await;
            }
        }
        Ok(())
    }

    /// Whether the promoted instance writes; RDS's word counts only where it was not heard.
    async fn verify(&mut self, probed: &Result<Probed, Fault>) -> Result<(), Stop> {
        let now = self.surface.now();
        if let Ok(Probed { here: Session::Writer { .. }, .. }) = probed {
            self.ledger.phase = Phase::Promoted;
            self.ledger.by_hand = false;
            self.ledger.forced = false;
            self.ledger.certain = true;
            self.ledger.note(now, ACCEPTED);
            self.ledger.note(now, FIRST_WRITE);
            let loss = self.ledger.data_loss.map_or_else(
                || "an unknown time".to_owned(),
                |seconds| format!("at most {} s", seconds + 10),
            );
            let from = self.ledger.moment(FIRST_FAILURE).or(self.ledger.moment(DECIDED));
            let took = now.saturating_sub(from.unwrap_or(now)) / 1000;
            // A region that says nothing could not be closed: it may live, and closes itself (guard.rs).
            let more = if self.ledger.unclosed_there {
                format!(
                    " If {} was only cut off, its own applications wrote for up to a minute more, until its monitor \
                     closed it, or for as long as that does not run: those writes are on the old writer only.",
                    self.config.there
                )
            } else {
                String::new()
            };
            let text = format!(
                "{} takes writes, {took} s after the first failure; {loss} of writes are lost.{more} Protection is \
                 one-way now.",
                self.config.here
            );
            self.tell_surely("The cluster has failed over", text).await;
            return Ok(());
        }
        let accepted = self.ledger.moment(ACCEPTED).unwrap_or(now);
        let unheard = now.saturating_sub(accepted) >= PROMOTION_UNHEARD;
        match self.surface.instance(Side::Here).await {
            Ok(Some(Instance { role: InstanceRole::Replica, status, .. }))
                if status == "available" && unheard =>
            {
                if self.ledger.certain {
                    // It was accepted, the name has moved, and nothing came of it.
                    let _ = self.surface.promote().await;
                } else {
                    // It was not accepted after all: whether to ask again is for the evidence to say.
                    self.ledger.phase = Phase::Promoting;
                    self.ledger.asked = None;
                }
            }
            Ok(Some(Instance { role: InstanceRole::Writer, .. })) => self.ledger.certain = true,
            Ok(_) | Err(_) => {}
        }
        if now.saturating_sub(accepted) >= PROMOTION_LATE {
            let text =
                "the promotion was accepted more than five minutes ago, and nothing writes yet";
            self.tell("A failover takes too long", text).await;
        }
        Ok(())
    }

    /// What the alarms and the dashboard live on.
    async fn report(&mut self, decision: Decision, seen: &Evidence) {
        // A writer that writes needs no failover. Whether there could be one is told all the same, or it would be
        // learned on the day it is needed: the lease is read and renewed, and the standby is seen.
        let blind = self.ledger.phase == Phase::Normal
            && !seen.is_held
            && decision == Decision::Stay
            && (seen.vouched != Sign::Yes
                || [seen.replicates, seen.standby_writes].contains(&Sign::Unknown));
        let unknown = blind || decision == Decision::Alarm(Reason::Unknown);
        let withheld = matches!(decision, Decision::Alarm(_)) && !unknown;
        let flag = |on: bool| f64::from(u8::from(on));
        let mut metrics = vec![
            ("MonitorRuns", 1.0),
            ("UnknownEvidence", flag(unknown)),
            ("FailoverWithheld", flag(withheld)),
        ];
        // RDS was asked, and what it said may be known to a run that could not note it: the name stays where it is.
        let is_asked = self.ledger.phase == Phase::Promoting && self.ledger.asked.is_some();
        if !is_asked {
            metrics.push(("PrimaryServing", self.ledger.serves()));
        }
        if self.ledger.phase == Phase::Normal
            && let Some(age) = heartbeat_age(&self.ledger, seen)
        {
            metrics.push(("HeartbeatAge", age.as_secs_f64()));
        }
        // Backups and drills take minutes.
        let now = self.surface.now();
        if self.ledger.busy_since.is_some_and(|since| now.saturating_sub(since) >= BUSY) {
            metrics.push(("PromotionBlocked", 1.0));
        }
        let _ = self.surface.publish(&metrics).await;
    }
}
