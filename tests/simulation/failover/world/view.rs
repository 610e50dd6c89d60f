//! The world as a monitor sees it: calls that take time, fail, arrive, or do not.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use trading::agent::{
    Fault, Instance, InstanceRole, Intent, Lease, Ledger, Metric, Probed, Session, Side, Surface,
    Written,
};

use super::{Place, Shared, World};

/// The world as a region's monitor sees it.
pub struct View {
    pub world: Shared,
    pub place: Place,
}

/// How old what a tick saw may be when it acts on it, in milliseconds.
const LOOK: u64 = 15_000;
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

impl View {
    /// A call to a table.
    async fn table<T>(
        &self,
        to: Place,
        writes_ledger: bool,
        act: impl FnOnce(&mut World) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let works = {
            let world = self.world.borrow();
            let from = usize::from(self.place == Place::D);
            world.tables[from] && (world.notes_work[from] || !writes_ledger)
        };
        if works {
            return self.call(to, false, act).await;
        }
        self.sleep(100).await;
        Err(Fault::NotNow("throttled".into()))
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
        let runs = self.world.borrow().probes[usize::from(self.place == Place::D)];
        if let Some(fault) = fault.or((!runs).then(|| Fault::Failing("Unhandled".into()))) {
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
            let swapped = world.zone_began.is_some_and(|at| world.now >= at + world.swaps);
            let zone = if swapped && place == Place::P { "b" } else { "a" };
            Ok(Some(Instance { role, status: status.into(), zone: Some(zone.into()) }))
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
        self.table(place, false, |world| {
            Ok((world.ledgers[usize::from(place == Place::D)].clone(), world.intent))
        })
        .await
    }

    async fn write_ledger(&self, expected: u64, ledger: &Ledger) -> Result<Written, Fault> {
        let place = self.place;
        self.table(place, true, |world| {
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
        self.table(Place::W, false, |world| Ok(world.lease.clone())).await
    }

    async fn write_lease(&self, seen: Option<&Lease>, new: &Lease) -> Result<Written, Fault> {
        self.table(Place::W, false, |world| {
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

    async fn restore(&self, side: Side, _: &[String]) -> Result<Vec<String>, Fault> {
        let place = self.side(side);
        self.call(place, true, |world| {
            world.closed &= place != Place::P;
            Ok(Vec::new())
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
            world.dies = world.dies_when_accepted.then_some(place);
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
