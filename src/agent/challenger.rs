//! The challenger: evidence, decision, and a failover in steps that can be repeated.

use super::{
    Fault, Instance, InstanceRole, Intent, Lease, Ledger, Monitor, Probed, Session, Side, Surface,
    Written,
    evidence::{Look, gather},
    monitor::{Seen, Stop},
};
use crate::cluster::failover::{Control, Decision, Evidence, Phase, Reason, Sign, decide};

/// How long before the first failure a failover of zones may have begun that explains it.
const ZONE_BEFORE: u64 = 60_000;
/// How long RDS may say that a promoted instance is an available replica before it is asked again.
const PROMOTION_UNHEARD: u64 = 60_000;
/// How often it is tried to note that a promotion was accepted, against runs that write in between.
const NOTING: usize = 5;

/// Moments of a failover.
pub(super) const FIRST_FAILURE: &str = "first_failure";
pub(super) const DECIDED: &str = "decided";
pub(super) const LEASE_TAKEN: &str = "lease_taken";
pub(super) const FENCED: &str = "fenced";
pub(super) const ACCEPTED: &str = "accepted";
pub(super) const FIRST_WRITE: &str = "first_write";

impl<S: Surface> Monitor<S> {
    pub(super) async fn challenge(&mut self, seen: Seen, intent: Intent) -> Result<Decision, Stop> {
        let Seen { at, probed, lease, instance, zone_failover } = seen;
        let probed = &probed;
        let there = self.config.there.clone();
        let failed = self.ledger.series.first_failure.unwrap_or(at);
        let zone_failed_over =
            zone_failover.is_some_and(|ago| at.saturating_sub(ago) + ZONE_BEFORE >= failed);
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
        self.ledger.series = self.ledger.series.next(at, self.surface.now(), &seen);
        let mut decision =
            decide(self.ledger.phase, &seen, &self.ledger.series, &self.config.policy);
        if self.ledger.by_hand && self.ledger.phase == Phase::Promoting {
            // Whoever asked knows what the evidence says.
            decision = Decision::Promote;
        }
        self.act(decision, &seen, lease, probed).await?;
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
                self.ledger.data_loss = seen.data_loss.map(|loss| loss.as_secs());
                self.begin().await?;
                self.promote(seen, lease).await?;
            }
            Decision::Promote => self.promote(seen, lease).await?,
            Decision::Abort => self.abort().await?,
            Decision::Verify => self.verify(probed).await?,
            Decision::FenceReturned => {
                // Verified from here: over the peering, nobody is let in any more.
                let is_closed = matches!(probed, Ok(Probed { there: Session::Closed, .. }));
                if self.close_there().await && is_closed {
                    self.ledger.fenced_there = true;
                    self.ledger.note(self.surface.now(), FENCED);
                }
            }
        }
        Ok(())
    }

    /// Writes down that a failover begins, before anything is done for it.
    pub(super) async fn begin(&mut self) -> Result<(), Stop> {
        let now = self.surface.now();
        let known = self.ledger.lease_seen.as_ref().map_or(0, |(lease, _)| lease.epoch);
        self.ledger.epoch = self.ledger.epoch.max(known) + 1;
        self.ledger.phase = Phase::Promoting;
        self.ledger.lease_taken = false;
        self.ledger.certain = false;
        self.ledger.timeline.clear();
        if let Some(at) = self.ledger.series.first_failure {
            self.ledger.note(at, FIRST_FAILURE);
        }
        self.ledger.note(now, DECIDED);
        self.save().await
    }

    async fn promote(
        &mut self,
        seen: &Evidence,
        lease: Result<Option<Lease>, Fault>,
    ) -> Result<(), Stop> {
        if !self.take_lease(lease).await? {
            return Ok(());
        }
        // Where the region answers, the writer may live: it is closed first, or nothing is promoted.
        if seen.control == Control::Answers && !self.close_there().await {
            let text =
                "the writer's region answers and does not let it be closed: nothing is promoted";
            self.tell("A failover waits", text).await;
            return Ok(());
        }
        // What may have changed while all this was done: another run, a hold, a destroy.
        let (now, intent) = self.surface.ledger(Side::Here).await?;
        if now.version != self.ledger.version {
            return Err(Stop::Crossed);
        }
        let held = intent.hold_until.is_some_and(|until| until > self.surface.now());
        if intent.destroying || (held && !self.ledger.by_hand) {
            return Ok(());
        }
        let is_accepted = seen.standby_writes == Sign::Yes
            || match self.surface.promote().await {
                Ok(()) => {
                    self.ledger.certain = true;
                    true
                }
                Err(Fault::Refused(why)) => {
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

    /// Takes the lease exactly as it was seen to stand still: if it moved meanwhile, the writer lives.
    async fn take_lease(&mut self, lease: Result<Option<Lease>, Fault>) -> Result<bool, Stop> {
        if self.ledger.lease_taken {
            return Ok(true);
        }
        let seen = lease?;
        let new = Lease { epoch: self.ledger.epoch, holder: self.config.here.clone(), counter: 0 };
        let mine = seen.as_ref().is_some_and(|one| one.holder == new.holder);
        let taken = match self.surface.write_lease(seen.as_ref(), &new).await {
            Ok(Written::Done) => true,
            Ok(Written::Conflict) => mine,
            Err(_) => false,
        };
        if taken {
            self.ledger.lease_taken = true;
            self.ledger.held = true;
            self.ledger.note(self.surface.now(), LEASE_TAKEN);
            self.save().await?;
        }
        Ok(taken)
    }

    /// Closes the other region's writer. Which rules that takes is on record before they go. Whether it keeps
    /// everybody out, the next look shows.
    async fn close_there(&mut self) -> bool {
        let Ok(rules) = self.surface.rules(Side::There).await else { return false };
        if rules.is_empty() {
            return true;
        }
        self.ledger.closed_there.extend(rules.iter().cloned());
        self.ledger.closed_there.sort();
        self.ledger.closed_there.dedup();
        self.save().await.is_ok() && self.surface.revoke(Side::There, &rules).await.is_ok()
    }

    async fn accepted(&mut self) -> Result<(), Stop> {
        let (epoch, certain) = (self.ledger.epoch, self.ledger.certain);
        for _ in 0..NOTING {
            self.ledger.phase = Phase::Accepted;
            self.ledger.certain |= certain;
            self.ledger.note(self.surface.now(), ACCEPTED);
            match self.save().await {
                Ok(()) => break,
                // Not to be lost: whoever wrote in between has to know.
                Err(_) => {
                    if let Ok((other, _)) = self.surface.ledger(Side::Here).await
                        && other.epoch == epoch
                    {
                        self.ledger = Ledger { timeline: self.ledger.timeline.clone(), ..other };
                    }
                }
            }
        }
        let _ = self.surface.publish(&[("PrimaryServing", self.ledger.serves())]).await;
        Ok(())
    }

    /// The writer came back before the promotion was accepted.
    async fn abort(&mut self) -> Result<(), Stop> {
        if !self.ledger.closed_there.is_empty() {
            let rules = self.ledger.closed_there.clone();
            self.surface.restore(Side::There, &rules).await?;
            self.ledger.closed_there.clear();
            self.ledger.fenced_there = false;
        }
        if self.ledger.lease_taken {
            let seen = self.surface.lease().await?;
            let epoch = self.ledger.epoch + 1;
            let back = Lease { epoch, holder: self.config.there.clone(), counter: 0 };
            if self.surface.write_lease(seen.as_ref(), &back).await? == Written::Conflict {
                return Ok(());
            }
            self.ledger.epoch = epoch;
        }
        self.ledger.lease_taken = false;
        self.ledger.held = false;
        self.ledger.phase = Phase::Normal;
        self.ledger.series = Default::default();
        self.tell("A failover was called off", "the writer came back before it was accepted").await;
        Ok(())
    }

    /// Whether the promoted instance writes; RDS's word counts only where it was not heard.
    async fn verify(&mut self, probed: &Result<Probed, Fault>) -> Result<(), Stop> {
        let now = self.surface.now();
        if let Ok(Probed { here: Session::Writer { .. }, .. }) = probed {
            self.ledger.phase = Phase::Promoted;
            self.ledger.by_hand = false;
            self.ledger.certain = true;
            self.ledger.note(now, ACCEPTED);
            self.ledger.note(now, FIRST_WRITE);
            let loss = self.ledger.data_loss.map_or_else(
                || "an unknown time".to_owned(),
                |seconds| format!("at most {} s", seconds + 10),
            );
            let from = self.ledger.moment(FIRST_FAILURE).or(self.ledger.moment(DECIDED));
            let took = now.saturating_sub(from.unwrap_or(now)) / 1000;
            let text = format!(
                "{} takes writes, {took} s after the first failure; {loss} of writes are lost. Protection is \
                 one-way now.",
                self.config.here
            );
            self.tell("The cluster has failed over", &text).await;
            return Ok(());
        }
        let accepted = self.ledger.moment(ACCEPTED).unwrap_or(now);
        let unheard = now.saturating_sub(accepted) >= PROMOTION_UNHEARD;
        match self.surface.instance(Side::Here).await {
            Ok(Some(Instance { role: InstanceRole::Replica, status })) if status == "available" => {
                // It was not accepted after all: whether to ask again is for the evidence to say.
                if unheard && !self.ledger.certain {
                    self.ledger.phase = Phase::Promoting;
                }
            }
            // RDS works on it.
            Ok(Some(_)) => self.ledger.certain = true,
            Ok(None) | Err(_) => {}
        }
        Ok(())
    }

    /// What the alarms and the dashboard live on.
    async fn report(&mut self, decision: Decision, seen: &Evidence) {
        let unknown = decision == Decision::Alarm(Reason::Unknown);
        let withheld = matches!(decision, Decision::Alarm(_)) && !unknown;
        let flag = |on: bool| f64::from(u8::from(on));
        let mut metrics = vec![
            ("MonitorRuns", 1.0),
            ("PrimaryServing", self.ledger.serves()),
            ("UnknownEvidence", flag(unknown)),
            ("FailoverWithheld", flag(withheld)),
        ];
        if self.ledger.phase == Phase::Normal
            && let Some(loss) = seen.data_loss
        {
            metrics.push(("HeartbeatAge", loss.as_secs_f64()));
        }
        let _ = self.surface.publish(&metrics).await;
    }
}
