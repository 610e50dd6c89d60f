//! The challenger: evidence, decision, and what is done about it.

use super::{
    Fault, Instance, InstanceRole, Intent, Lease, Monitor, Probed, Session, Side, Surface,
    evidence::{Look, gather, heartbeat_age},
    monitor::{Seen, Stop},
    promotion::{CAME_BACK, Closing, in_seconds, is_ready},
};
use crate::{
    cluster::failover::{Control, Decision, Evidence, Phase, Reason, Sign},
    contract::moments::{FENCED, SESSIONS_ENDED},
};

/// How long before the first failure a failover of zones may have begun that explains it.
const ZONE_BEFORE: u64 = 60_000;
/// For how long RDS may have the standby in a state in which it would not promote it, before somebody is told.
const BUSY: u64 = 1_800_000;

/// Within how many milliseconds a second look has to end with an alarm, so that one lost answer wakes nobody.
const DOUBT: u64 = 120_000;

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
        self.act(decision, &seen, lease, probed).await?;
        if self.ledger.phase == Phase::Promoted && !self.ledger.held {
            // A witness that was silent when it was promoted.
            let now = self.surface.lease().await;
            match self.take_lease(now).await {
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
        let now = self.surface.now();
        let lasts = self.ledger.doubted.is_some_and(|at| now.saturating_sub(at) <= DOUBT);
        if matches!(decision, Decision::Alarm(_)) {
            self.ledger.doubted = Some(now);
        }
        match decision {
            // What comes and goes is told once.
            Decision::Stay | Decision::Wait if lasts => {}
            Decision::Stay | Decision::Wait => self.ledger.told.clear(),
            Decision::Alarm(reason) if reason.is_plain() || lasts => {
                self.tell("The cluster needs attention", reason.text()).await;
            }
            Decision::Nothing | Decision::Alarm(_) => {}
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
                // Whoever writes holds the lease, also where somebody else promoted, or by force without it: then nothing
                // is left to be decided by it, so that renewals since the look began do not count.
                let lease = if self.ledger.held { lease } else { self.surface.lease().await };
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
            Ok(Some(one)) if one.role == InstanceRole::Replica && !is_ready(&one.status) => {
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
