//! The guard: vouches for the writer, and closes it when it may have been superseded.

use super::{
    Fault, Lease, Monitor, Probed, Session, Side, Surface, Written,
    monitor::{Seen, Stop},
};
use crate::{aws::utc, cluster::failover::Phase, contract::moments::CLOSED};

/// How long a guard may have reached neither the witness nor the other region before it closes its own
/// writer: shorter than any detection of the other region.
const ISOLATION: u64 = 40_000;

/// How long ago the other region must have seen a sign of life of it, so that it is not about to act.
const SEEN: u64 = 20_000;

/// For how long the lease must have been renewed before a closed writer is opened while the other region cannot be
/// asked, in milliseconds: a human may have had it go on without the witness, and its next run takes the lease. A run that
/// was asked takes over from those of the schedule, of which the next one begins up to two minutes later, and may fail to.
const RENEWED: u64 = 190_000;

/// What the guard learned of its standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It renewed the lease, or another run of its region did just now.
    Holds,
    /// It reached the witness.
    Reached,
    /// It reached the other region only, which last saw a sign of life of it so many milliseconds ago.
    Heard(u64),
    /// It reached nobody.
    Alone,
    /// The other region has taken over.
    Superseded,
}

impl<S: Surface> Monitor<S> {
    pub(super) async fn guard(&mut self, seen: &Seen) -> Result<(), Stop> {
        let now = self.surface.now();
        let acknowledged = match &seen.probed {
            Ok(Probed { here: Session::Writer { acknowledged }, .. }) => Some(*acknowledged),
            _ => None,
        };
        if self.ledger.contact == 0 {
            self.ledger.contact = now;
        }
        let standing = self.standing(&seen.lease, acknowledged).await;
        // Answers that do not come take their time: the moment after them counts.
        let after = self.surface.now();
        let heard = match standing {
            Standing::Holds | Standing::Reached => Some(now),
            Standing::Heard(age) => Some(now.saturating_sub(age)),
            Standing::Alone | Standing::Superseded => None,
        };
        // Nobody has looked for a while: what was renewed before says nothing of that time.
        let paused = now.saturating_sub(self.ledger.contact) >= ISOLATION;
        // What the own probe sees the standby hear, the other region sees as well, whatever became of the tables.
        let streamed = match &seen.probed {
            Ok(Probed { there: Session::Standby { receiver_age: Some(age), .. }, .. }) => {
                Some(seen.at.saturating_sub(*age))
            }
            _ => None,
        };
        self.ledger.contact = self.ledger.contact.max(heard.max(streamed).unwrap_or(0));
        self.ledger.holding_since = match standing {
            Standing::Holds if paused => Some(after),
            Standing::Holds => Some(self.ledger.holding_since.unwrap_or(after)),
            // The writer is not seen to write, or somebody else wrote: the next look tells.
            Standing::Reached => self.ledger.holding_since,
            Standing::Heard(_) | Standing::Alone | Standing::Superseded => None,
        };
        let is_alone = after.saturating_sub(self.ledger.contact) >= ISOLATION;
        let other_writes = matches!(&seen.probed, Ok(Probed { there: Session::Writer { .. }, .. }));
        match standing {
            Standing::Superseded => {
                self.close_here(acknowledged, true).await?;
            }
            // Where nobody else can be asked, what the other database says counts.
            Standing::Alone if other_writes => {
                self.close_here(acknowledged, true).await?;
            }
            Standing::Alone | Standing::Heard(_) if is_alone => {
                self.close_here(acknowledged, false).await?;
            }
            // Nobody has taken over, and nobody is about to: applications are let in again.
            Standing::Holds | Standing::Heard(_) if other_writes => {}
            Standing::Holds if !self.ledger.closed_here.is_empty() => {
                // Somebody may have gone on without the witness, while it was silent.
                let held = after.saturating_sub(self.ledger.holding_since.unwrap_or(after));
                match self.hear().await {
                    Standing::Superseded => {}
                    Standing::Alone if held < RENEWED => {}
                    _ => self.open_here().await?,
                }
            }
            Standing::Heard(age) if age < SEEN && !self.ledger.closed_here.is_empty() => {
                self.open_here().await?;
            }
            Standing::Holds | Standing::Reached | Standing::Heard(_) | Standing::Alone => {}
        }
        self.deliver().await;
        // The ledger of a guard helps its successor; a guard that cannot write it guards on.
        let noted = self.save_or_keep().await;
        let healthy = f64::from(u8::from(acknowledged.is_some()));
        let mut metrics = vec![("MonitorRuns", 1.0), ("WriterHealthy", healthy)];
        if std::mem::take(&mut self.goes_without) {
            metrics.push(("AgentErrors", 1.0));
        }
        let _ = self.surface.publish(&metrics).await;
        noted
    }

    async fn open_here(&mut self) -> Result<(), Stop> {
        let rules = self.ledger.closed_here.clone();
        let lost = self.surface.restore(Side::Here, &rules).await?;
        self.ledger.closed_here.clear();
        self.ledger.timeline.retain(|one| one.what != CLOSED);
        if lost.is_empty() {
            self.tell("The writer is open again", "nobody has taken over").await;
        } else {
            self.tell_of_lost(&lost).await;
        }
        Ok(())
    }

    async fn standing(
        &mut self,
        lease: &Result<Option<Lease>, Fault>,
        acknowledged: Option<u64>,
    ) -> Standing {
        let here = self.config.here.clone();
        match lease {
            Ok(Some(lease)) if lease.holder != here => Standing::Superseded,
            Ok(seen) => {
                self.ledger.held = true;
                let epoch = seen.as_ref().map_or(self.ledger.epoch, |lease| lease.epoch);
                self.ledger.epoch = epoch;
                let Some(acknowledged) = acknowledged else { return Standing::Reached };
                let counter = seen.as_ref().map_or(0, |lease| lease.counter) + 1;
                let new = Lease { epoch, holder: here.clone(), counter, acknowledged };
                match self.surface.write_lease(seen.as_ref(), &new).await {
                    Ok(Written::Done) => Standing::Holds,
                    // Taken, or renewed by a run that overlaps.
                    Ok(Written::Conflict) => match self.surface.lease().await {
                        Ok(Some(now)) if now.holder == here => Standing::Holds,
                        _ => Standing::Reached,
                    },
                    Err(_) => self.hear().await,
                }
            }
            Err(_) => self.hear().await,
        }
    }

    /// Without the witness, the other region is asked. That it answers is not enough: it decides by the signs
    /// of life that it sees.
    pub(super) async fn hear(&self) -> Standing {
        match self.surface.ledger(Side::There).await {
            Ok((other, _)) => match other.phase {
                Phase::Promoting if !other.waits => Standing::Superseded,
                Phase::Accepted | Phase::Promoted => Standing::Superseded,
                Phase::Promoting | Phase::Normal | Phase::Diverged | Phase::Destroying => {
                    // Where its region answers, it is closed before anything is promoted; by what is not known,
                    // nothing is.
                    let age = other.series.silent_for().as_millis();
                    Standing::Heard(u64::try_from(age).unwrap_or(u64::MAX))
                }
            },
            Err(_) => Standing::Alone,
        }
    }

    /// Takes away the rules by which applications reach the own writer. Which ones that are is on record before
    /// they go.
    async fn shut_here(&mut self) -> Result<(), Stop> {
        let open = self.surface.rules(Side::Here).await?;
        if !open.is_empty() {
            self.ledger.close_here(open.iter().cloned());
            self.save_or_keep().await?;
            self.surface.revoke(Side::Here, &open).await?;
        }
        Ok(())
    }

    /// Keeps applications out of the own writer.
    async fn close_here(&mut self, acknowledged: Option<u64>, is_over: bool) -> Result<(), Stop> {
        let closed = self.shut_here().await;
        // Rules that are gone do not cut what is connected (aws-facts 12b), and this needs no control plane: where
        // that does not work, it is all that can be done.
        let _ = self.surface.end_sessions().await;
        closed?;
        if self.ledger.moment(CLOSED).is_none() {
            let why = if is_over {
                "the other region has taken over"
            } else {
                "the witness cannot be reached, and the other region sees no sign of life"
            };
            let last = self.left_here(acknowledged, is_over).await;
            self.ledger.note(self.surface.now(), CLOSED);
            let subject = format!("The writer in {} is closed", self.config.here);
            self.tell(&subject, &format!("Applications are kept out: {why}.{last}")).await;
        }
        Ok(())
    }

    /// What the own writer has that the other region's may lack: told once, merged by nobody.
    async fn left_here(&self, acknowledged: Option<u64>, is_over: bool) -> String {
        let moment = |at| utc(at).unwrap_or_else(|| format!("{at} ms"));
        let ledger = self.surface.ledger(Side::There).await;
        let kept = ledger.ok().map(|(other, _)| other.committed).filter(|kept| *kept > 0);
        let took = acknowledged
            .map(|until| format!(" By its clock, it took writes until {} at least.", moment(until)))
            .unwrap_or_default();
        let has = match kept {
            None => " Which of its writes the other region has, that cannot be asked.".to_owned(),
            Some(kept) if is_over => format!(
                " The other region has its writes until {}: later ones are here only, and nothing is merged.",
                moment(kept)
            ),
            // Nobody was promoted: they may arrive yet.
            Some(kept) => format!(" The other region had its writes until {}.", moment(kept)),
        };
        took + &has
    }
}
