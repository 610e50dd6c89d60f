//! A failover in steps that can be repeated: begun, the lease taken, the writer closed, RDS asked, the new writer
//! verified; or called off.

use std::time::Duration;

use super::{
    Fault, Instance, InstanceRole, Lease, Ledger, Monitor, Probed, Session, Side, Surface, Written,
    evidence::LEASE_FRESH, ledger::REBOOTS, monitor::Stop,
};
use crate::{
    cluster::failover::{Control, Evidence, Phase, Sign},
    contract::moments::{ACCEPTED, ASKED_FOR, DECIDED, FIRST_FAILURE, FIRST_WRITE, LEASE_TAKEN},
};

/// How long RDS may say that a promoted instance is an available replica before that is believed: twice what
/// its status is known to lag behind (aws-facts 1.3).
const PROMOTION_UNHEARD: u64 = 120_000;
/// When somebody is told that a promotion takes too long.
const PROMOTION_LATE: u64 = 300_000;
/// For how long a human's failover waits for what keeps RDS from promoting, before it is called off: longer than any
/// failover takes, and no longer than whoever asked still waits.
const ASKED_IN_VAIN: u64 = 600_000;
/// For how long a forced one tries to close a writer that may live, before it goes on without.
const CLOSING: u64 = 60_000;
/// For how long it is tried to note that a promotion was accepted, against runs that write in between and a table that
/// fails, and the pause after a failure, in milliseconds.
const NOTING: u64 = 45_000;
const NOTING_PAUSE: u64 = 1_000;

/// Why a failover is called off.
pub(super) const CAME_BACK: &str = "the writer came back before it was accepted";
const IN_VAIN: &str = "for ten minutes, the witness was not to be reached or the old writer not to be closed; asked with \
                       force, it goes on without";

/// How often what must not be lost is written against runs that write in between.
pub(super) const TRIES: usize = 5;

/// Whether an instance in this state does its work, so that RDS may take a question about it.
pub(super) fn is_ready(status: &str) -> bool {
    matches!(status, "available" | "storage-optimization")
}

/// Seconds that it is at most.
pub(super) fn in_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// What became of the rules by which applications reach the other writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// Some may be there.
    Failed,
    /// They are gone since now.
    Now,
    /// There were none.
    Before,
}

impl<S: Surface> Monitor<S> {
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
        self.ledger.unclosed_since = None;
        // Of a human's, a look says first whether anything can be done yet.
        self.ledger.waits = self.ledger.by_hand;
        self.ledger.reboots_left = REBOOTS;
        self.ledger.timeline.clear();
        self.note_failure();
        if self.ledger.by_hand {
            self.ledger.note(now, ASKED_FOR);
        }
        self.ledger.note(now, DECIDED);
        self.save().await
    }

    /// Notes since when the writer has failed, if it has: one that was cut off before it was lost, since its last sign of
    /// life.
    fn note_failure(&mut self) {
        let series = &self.ledger.series;
        if let Some(at) = series.first_failure.map(|at| at.max(series.last_life())) {
            self.ledger.note(at, FIRST_FAILURE);
        }
    }

    pub(super) async fn promote(
        &mut self,
        seen: &Evidence,
        lease: Result<Option<Lease>, Fault>,
    ) -> Result<(), Stop> {
        let forced = self.ledger.by_hand && self.ledger.forced;
        if let Some(why) = self.unready(seen).await {
            if self.is_in_vain() {
                return self.abort(&format!("for ten minutes, {why}")).await;
            }
            self.tell("A failover waits", &why).await;
            return Ok(());
        }
        if self.ledger.waits {
            // What it waited for, and how the writer was then, is of no account any more.
            self.ledger.waits = false;
            self.ledger.blocked_since = None;
            self.note_failure();
            self.save().await?;
        }
        // A human knows that the writer may live and renew it.
        let lease = if self.ledger.by_hand { self.surface.lease().await } else { lease };
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
        let now = self.surface.now();
        if is_gone || is_closed {
            self.ledger.unclosed_since = None;
        } else if !(forced
            && now.saturating_sub(*self.ledger.unclosed_since.get_or_insert(now)) >= CLOSING)
        {
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
        let asked = self.surface.now();
        let before = self.ledger.asked.replace(asked);
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
                    let is_open = self.may_be_promoting().await;
                    self.take_back(asked, before.filter(|_| is_open)).await;
                    let _ = self.surface.publish(&[("PromotionBlocked", 1.0)]).await;
                    // One that could serve is not kept closed for what RDS does not do; without one, there is nothing
                    // to go back to.
                    if self.is_in_vain() && self.could_serve(seen).await {
                        let why =
                            format!("for ten minutes, RDS did not promote the standby: {why}");
                        return self.abort(&why).await;
                    }
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

    /// Takes a question off the record that RDS refused, whoever leads by now: of one that it may have taken, nothing is
    /// called off.
    async fn take_back(&mut self, asked: u64, before: Option<u64>) {
        self.ledger.asked = before;
        for _ in 0..TRIES {
            if self.save().await.is_ok() {
                return;
            }
            let Ok((mut theirs, _)) = self.surface.ledger(Side::Here).await else { continue };
            if theirs.phase != Phase::Promoting || theirs.asked != Some(asked) {
                return;
            }
            let version = theirs.version;
            theirs.asked = before;
            theirs.version += 1;
            if self.surface.write_ledger(version, &theirs).await == Ok(Written::Done) {
                return;
            }
        }
    }

    /// Whether what a human asked for is kept from being promoted, from now on if it was not before, for so long that it
    /// is called off. A question that RDS may have taken is not.
    fn is_in_vain(&mut self) -> bool {
        let now = self.surface.now();
        let blocked = now.saturating_sub(*self.ledger.blocked_since.get_or_insert(now));
        self.ledger.by_hand && self.ledger.asked.is_none() && blocked >= ASKED_IN_VAIN
    }

    /// Why RDS would not take a human's question now, where the writer lives: it goes on until RDS would. Whoever takes
    /// the lease closes it.
    async fn unready(&self, seen: &Evidence) -> Option<String> {
        let lives = [seen.writes, seen.replicates].contains(&Sign::Yes);
        if !(self.ledger.by_hand && self.ledger.asked.is_none() && lives) {
            return None;
        }
        match self.surface.instance(Side::Here).await {
            Ok(Some(Instance { role: InstanceRole::Replica, status, .. }))
                if !is_ready(&status) =>
            {
                Some(format!("RDS has the standby as {status}, and promotes what is available"))
            }
            // Whether a question would be taken, nobody would know, and there is no way back from it.
            Err(why @ (Fault::Silent | Fault::Failing(_) | Fault::NotNow(_))) => {
                Some(format!("RDS cannot be asked about the standby ({why})"))
            }
            _ => None,
        }
    }

    /// Whether there is a writer that applications could go back to. One that had failed before anything was done, and for
    /// which nobody vouched, RDS may go on calling available.
    async fn could_serve(&self, seen: &Evidence) -> bool {
        if [seen.writes, seen.replicates].contains(&Sign::Yes) {
            return true;
        }
        let it = self.surface.instance(Side::There).await;
        let is_up = matches!(
            it,
            Ok(Some(Instance { role: InstanceRole::Writer, status, .. })) if is_ready(&status)
        );
        let taken = self.ledger.moment(LEASE_TAKEN).or(self.ledger.moment(DECIDED)).unwrap_or(0);
        let was_vouched = self.ledger.lease_seen.as_ref().is_some_and(|(lease, at)| {
            lease.holder == self.config.there && at + LEASE_FRESH >= taken
        });
        is_up && (was_vouched || self.ledger.moment(FIRST_FAILURE).is_none())
    }

    /// Takes the lease exactly as it was seen to stand still: if it moved meanwhile, the writer lives. Whether
    /// it is held, the lease itself says.
    pub(super) async fn take_lease(
        &mut self,
        lease: Result<Option<Lease>, Fault>,
    ) -> Result<bool, Stop> {
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
    pub(super) async fn give_back(
        &mut self,
        seen: &Evidence,
        lease: &Result<Option<Lease>, Fault>,
    ) {
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
    pub(super) async fn close_there(&mut self) -> Closing {
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
    pub(super) async fn abort(&mut self, why: &str) -> Result<(), Stop> {
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
        self.ledger.unclosed_since = None;
        self.ledger.waits = false;
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
            Ok(Some(Instance { role: InstanceRole::Replica, status, .. })) if is_ready(&status)
        );
        !follows || self.surface.now().saturating_sub(asked) < PROMOTION_UNHEARD
    }

    /// Lets applications into the other region's writer again, after a failover that was called off.
    pub(super) async fn reopen_there(&mut self) -> Result<(), Stop> {
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
    pub(super) async fn verify(&mut self, probed: &Result<Probed, Fault>) -> Result<(), Stop> {
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
                if is_ready(&status) && unheard =>
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
}
