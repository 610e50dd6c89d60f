//! From what was seen in a tick to evidence. Pure, but for what it remembers in the ledger.

use std::time::Duration;

use super::{Ack, Fault, Instance, InstanceRole, Intent, Lease, Ledger, Probed, Session};
use crate::cluster::{
    failover::{Control, Evidence, Sign},
    objectives::HEARTBEAT,
};

/// How old a receiver's last message may be: idle ones ping seldom (failover.md, "Parts").
const RECEIVER_FRESH: u64 = 45_000;
/// How long ago the standby may have been seen so that what has moved since counts as moving.
const LOOK_FRESH: u64 = 30_000;
/// How long a lease may stand still and still count as renewed: three renewals.
pub(super) const LEASE_FRESH: u64 = 30_000;
/// How old the last acknowledged write may be at the last sign of life, so that a loss can be estimated from
/// it: a writer that lived on unseen took writes that nobody here knows of.
const ACK_FRESH: u64 = 30_000;
/// The time between two heartbeats, in milliseconds.
const BEAT: u64 = HEARTBEAT as u64 * 1000;

/// RDS's words for an instance that somebody wants to be as it is.
const INTENDED: &[&str] = &[
    "converting-to-vpc",
    "delete-precheck",
    "deleting",
    "maintenance",
    "modifying",
    "moving-to-vpc",
    "rebooting",
    "renaming",
    "resetting-master-credentials",
    "starting",
    "stopped",
    "stopping",
    "upgrading",
];

/// What one look brought.
pub(super) struct Look<'a> {
    pub(super) now: u64,
    pub(super) probed: &'a Result<Probed, Fault>,
    pub(super) lease: &'a Result<Option<Lease>, Fault>,
    pub(super) instance: &'a Result<Option<Instance>, Fault>,
    pub(super) zone_failed_over: bool,
    pub(super) intent: Intent,
    /// The other region.
    pub(super) there: &'a str,
}

/// The evidence of a look. Notes in the ledger what the next one is compared with.
pub(super) fn gather(ledger: &mut Ledger, look: &Look<'_>) -> Evidence {
    let standby = match look.probed {
        Ok(Probed { here: Session::Standby { replayed, receiver_age, committed }, .. }) => {
            ledger.committed = ledger.committed.max(*replayed).max(committed.unwrap_or(0));
            Some((*replayed, *receiver_age))
        }
        _ => None,
    };
    let writes = writes(ledger, look, standby.is_some());
    let mut life = (writes == Sign::Yes).then_some(look.now);
    let replicates = match standby {
        None => Sign::Unknown,
        Some((replayed, age)) => {
            let heard = age.map(|age| look.now.saturating_sub(age));
            let has_moved = replayed > ledger.replayed;
            ledger.replayed = ledger.replayed.max(replayed);
            // What has moved since a look of long ago says nothing of now.
            let before = ledger.standby_seen.replace(look.now);
            let is_recent = before.is_some_and(|at| look.now.saturating_sub(at) <= LOOK_FRESH);
            let moves = has_moved && is_recent;
            let streams = heard.max(moves.then_some(look.now));
            ledger.heard = ledger.heard.max(streams);
            life = life.max(streams);
            let is_fresh = age.is_some_and(|age| age <= RECEIVER_FRESH);
            match (is_fresh || moves, has_moved) {
                (true, _) => Sign::Yes,
                (false, true) => Sign::Unknown,
                (false, false) => Sign::No,
            }
        }
    };
    let vouched = vouched(ledger, look);
    match (writes, vouched) {
        (Sign::Yes, _) => ledger.missed = None,
        (Sign::No, _) | (_, Sign::No) => _ = ledger.missed.get_or_insert(look.now),
        (Sign::Unknown, _) => {}
    }
    let renewed = ledger.lease_seen.as_ref().filter(|(lease, _)| lease.holder == look.there);
    life = life.max(renewed.map(|(_, at)| *at));
    let standby_writes = match look.probed {
        Ok(Probed { here: Session::Writer { .. }, .. }) => Sign::Yes,
        Ok(Probed { here: Session::Standby { .. }, .. }) => Sign::No,
        _ => Sign::Unknown,
    };
    Evidence {
        writes,
        replicates,
        vouched,
        control: control(look.instance),
        zone_failed_over: look.zone_failed_over,
        standby_writes,
        life,
        is_held: look.intent.hold_until.is_some_and(|until| until > look.now),
        data_loss: standby.and_then(|_| data_loss(ledger, life)),
        is_fenced: if ledger.fenced_there { Sign::Yes } else { Sign::No },
    }
}

/// Whether the writer acknowledged a write. It did not only if the same probe worked on the standby.
fn writes(ledger: &mut Ledger, look: &Look<'_>, standby_works: bool) -> Sign {
    match look.probed {
        Ok(Probed { there: Session::Writer { acknowledged }, .. }) => {
            acknowledge(ledger, *acknowledged, look.now);
            Sign::Yes
        }
        Ok(Probed { here: Session::Writer { .. }, .. }) => Sign::No,
        Ok(_) if standby_works => Sign::No,
        _ => Sign::Unknown,
    }
}

/// Notes a write that is known to have been acknowledged; 0 is none.
fn acknowledge(ledger: &mut Ledger, stamp: u64, seen_at: u64) {
    if stamp > 0 && ledger.ack.is_none_or(|one| one.stamp < stamp) {
        ledger.ack = Some(Ack { stamp, seen_at });
    }
}

/// Whether the writer's region renews the lease: by how long it was seen to stand still from here, never by
/// comparing clocks.
fn vouched(ledger: &mut Ledger, look: &Look<'_>) -> Sign {
    let before = match look.lease {
        Ok(_) => ledger.lease_read.replace(look.now),
        Err(_) => ledger.lease_read,
    };
    let lease = match look.lease {
        Ok(Some(lease)) if lease.holder == look.there => lease,
        // Ours: nobody else vouches.
        Ok(Some(_)) => return Sign::No,
        Ok(None) | Err(_) => return Sign::Unknown,
    };
    match &ledger.lease_seen {
        Some((seen, at)) if seen == lease => {
            if look.now.saturating_sub(*at) <= LEASE_FRESH {
                Sign::Yes
            } else {
                Sign::No
            }
        }
        _ => {
            ledger.lease_seen = Some((lease.clone(), look.now));
            // What has moved since a look of long ago says nothing of now.
            if before.is_some_and(|at| look.now.saturating_sub(at) <= LOOK_FRESH) {
                acknowledge(ledger, lease.acknowledged, look.now);
            }
            Sign::Yes
        }
    }
}

fn control(instance: &Result<Option<Instance>, Fault>) -> Control {
    match instance {
        Ok(Some(one)) if one.role == InstanceRole::Replica => Control::Intended,
        Ok(Some(one)) if INTENDED.contains(&one.status.as_str()) => Control::Intended,
        Ok(Some(_)) | Err(Fault::Refused(_)) => Control::Answers,
        Ok(None) => Control::Intended,
        Err(Fault::Silent) => Control::Silent,
        Err(Fault::Failing(_) | Fault::NotNow(_)) => Control::Unknown,
    }
}

/// What the standby lacks of what was acknowledged. All stamps are the writer's clock. The writer may have lived on for a
/// heartbeat after the last one that was heard of, which whoever reads this adds; where looks failed, it may have been
/// for longer, until one worked and found no writer.
fn behind(ledger: &Ledger) -> Option<Duration> {
    let ack = ledger.ack?;
    // What is streamed may be writes that nobody here was told of; the lease tells of its own.
    let until = ledger.heard.max(ledger.missed).unwrap_or(0);
    let unseen = until.saturating_sub(ack.seen_at + BEAT);
    Some(Duration::from_millis((ack.stamp + unseen).saturating_sub(ledger.committed)))
}

/// The same as far as a failover may go by it: a writer that was not heard for long may have written anything.
fn data_loss(ledger: &Ledger, life: Option<u64>) -> Option<Duration> {
    let lived = life.unwrap_or(0).max(ledger.series.last_life());
    let is_fresh = ledger.ack?.seen_at + ACK_FRESH >= lived;
    behind(ledger).filter(|_| is_fresh)
}

/// What the alarm goes by, once the evidence is gathered: it grows while the writer lives and the standby does not hear it.
pub(super) fn heartbeat_age(ledger: &Ledger, seen: &Evidence) -> Option<Duration> {
    behind(ledger).filter(|_| seen.standby_writes == Sign::No)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(counter: u64) -> Lease {
        Lease { epoch: 1, holder: "us-east-1".into(), counter, acknowledged: 0 }
    }

    fn standby(replayed: u64, receiver_age: Option<u64>) -> Session {
        Session::Standby { replayed, receiver_age, committed: None }
    }

    fn look(ledger: &mut Ledger, now: u64, here: Session, there: Session, seen: Lease) -> Evidence {
        let status =
            Instance { role: InstanceRole::Writer, status: "available".into(), zone: None };
        let look = Look {
            now,
            probed: &Ok(Probed { here, there }),
            lease: &Ok(Some(seen)),
            instance: &Ok(Some(status)),
            zone_failed_over: false,
            intent: Intent::default(),
            there: "us-east-1",
        };
        gather(ledger, &look)
    }

    #[test]
    fn no_write_is_a_no_only_where_the_probe_worked_on_the_standby() {
        let mut ledger = Ledger::default();
        let writes =
            |ledger: &mut Ledger, here| look(ledger, 1, here, Session::Closed, lease(1)).writes;
        assert_eq!(writes(&mut ledger, standby(1, None)), Sign::No);
        assert_eq!(writes(&mut ledger, Session::Closed), Sign::Unknown);
        assert_eq!(writes(&mut ledger, Session::Broken("x".into())), Sign::Unknown);
    }

    #[test]
    fn a_lease_is_renewed_while_it_is_seen_to_move() {
        let mut ledger = Ledger::default();
        let mut vouched = |now, counter| {
            look(&mut ledger, now, standby(1, None), Session::Closed, lease(counter)).vouched
        };
        assert_eq!(vouched(0, 1), Sign::Yes);
        assert_eq!(vouched(30_000, 1), Sign::Yes);
        assert_eq!(vouched(30_001, 1), Sign::No);
        assert_eq!(vouched(40_000, 2), Sign::Yes);
    }

    #[test]
    fn replication_moves_by_its_receiver_or_by_what_it_replayed() {
        let mut ledger = Ledger::default();
        let mut moves = |now, replayed, age| {
            look(&mut ledger, now, standby(replayed, age), Session::Closed, lease(1)).replicates
        };
        assert_eq!(moves(1_000, 5, None), Sign::Unknown, "nobody knows since when");
        assert_eq!(moves(2_000, 5, Some(45_000)), Sign::Yes);
        assert_eq!(moves(3_000, 5, Some(45_001)), Sign::No);
        assert_eq!(moves(33_000, 6, None), Sign::Yes);
        assert_eq!(moves(34_000, 6, None), Sign::No);
        assert_eq!(moves(64_001, 7, None), Sign::Unknown, "it may have been long ago");
        assert_eq!(moves(65_000, 7, None), Sign::No);
    }

    #[test]
    fn a_loss_is_known_from_a_write_that_was_acknowledged_shortly_before_the_end() {
        let mut ledger = Ledger::default();
        let loss = |seen: Evidence| seen.data_loss.map(|loss| loss.as_millis());
        let writer = || Session::Writer { acknowledged: 100_000 };
        let follows = |committed| Session::Standby {
            replayed: 90_000,
            receiver_age: None,
            committed: Some(committed),
        };
        // Of what was written since the last heartbeat, a part has arrived.
        let seen = look(&mut ledger, 1_000, follows(98_000), writer(), lease(1));
        assert_eq!(loss(seen), Some(2_000));
        let seen = look(&mut ledger, 11_000, follows(98_500), Session::Closed, lease(1));
        assert_eq!(loss(seen), Some(1_500));
        // Its own region tells of a newer one, and then of none for longer.
        let told = Lease { acknowledged: 109_000, ..lease(2) };
        let seen = look(&mut ledger, 21_000, follows(98_500), Session::Closed, told.clone());
        assert_eq!(loss(seen), Some(10_500));
        ledger.series =
            ledger.series.next(52_000, 52_000, &Evidence { life: Some(51_001), ..seen });
        let seen = look(&mut ledger, 52_000, follows(98_500), Session::Closed, told);
        assert_eq!(loss(seen), None, "it lived on for longer, and nobody here knows what it wrote");
    }

    /// It takes no new sessions, and goes on with those that it has.
    #[test]
    fn what_lives_on_without_taking_a_heartbeat_may_write() {
        let mut ledger = Ledger::default();
        let writer = Session::Writer { acknowledged: 100_000 };
        look(&mut ledger, 1_000, standby(30_000, Some(0)), writer, lease(1));
        for now in [11_000, 21_000] {
            look(&mut ledger, now, standby(40_000, Some(0)), Session::Closed, lease(1));
        }
        let seen = look(&mut ledger, 31_000, standby(58_000, None), Session::Closed, lease(1));
        assert_eq!(seen.data_loss, Some(Duration::from_secs(42 + 30 - 10)), "beside one heartbeat");
    }

    #[test]
    fn a_lease_that_nobody_read_for_long_says_nothing_of_its_writes() {
        let mut ledger = Ledger::default();
        let told = |counter, acknowledged| Lease { acknowledged, ..lease(counter) };
        let mut loss = |now, lease| {
            let seen = look(&mut ledger, now, standby(99_000, None), Session::Closed, lease);
            seen.data_loss.map(|loss| loss.as_secs())
        };
        assert_eq!(loss(1_000, told(1, 0)), None, "0 is none");
        assert_eq!(loss(40_000, told(2, 100_000)), None, "it may have stood still since");
        assert_eq!(loss(50_000, told(3, 110_000)), Some(11));
    }

    #[test]
    fn looks_that_failed_leave_more_to_be_lost() {
        let mut ledger = Ledger::default();
        let writer = Session::Writer { acknowledged: 100_000 };
        look(&mut ledger, 1_000, standby(99_000, Some(0)), writer, lease(1));
        let broken = Session::Broken("x".into());
        look(&mut ledger, 11_000, broken, Session::Closed, lease(1));
        let seen = look(&mut ledger, 22_000, standby(99_000, None), Session::Closed, lease(1));
        assert_eq!(seen.data_loss, Some(Duration::from_secs(1 + 11)), "beside one heartbeat");
        let seen = look(&mut ledger, 33_000, standby(99_000, None), Session::Closed, lease(1));
        assert_eq!(seen.data_loss, Some(Duration::from_secs(1 + 11)));
    }

    #[test]
    fn the_age_of_the_heartbeat_grows_while_the_standby_hears_nothing_of_a_writer_that_lives() {
        let mut ledger = Ledger::default();
        let age = |ledger: &Ledger, seen| heartbeat_age(ledger, seen).map(|age| age.as_millis());
        let vouches = |counter, acknowledged| Lease { acknowledged, ..lease(counter) };
        let writer = Session::Writer { acknowledged: 100_000 };
        look(&mut ledger, 1_000, standby(98_000, Some(0)), writer, lease(1));
        let dead = || standby(98_000, None);
        look(&mut ledger, 71_000, dead(), Session::Closed, vouches(1, 168_000));
        let seen = look(&mut ledger, 91_000, dead(), Session::Closed, vouches(2, 188_000));
        assert_eq!(age(&ledger, &seen), Some(90_000));
        // What the writer's own region wrote has arrived: only the way from here is cut.
        let follows = standby(187_000, Some(0));
        let seen = look(&mut ledger, 93_000, follows, Session::Closed, vouches(2, 188_000));
        assert_eq!(age(&ledger, &seen), Some(1_000));
        let broken = Session::Broken("x".into());
        let seen = look(&mut ledger, 101_000, broken, Session::Closed, vouches(3, 198_000));
        assert_eq!(age(&ledger, &seen), None, "nobody sees the standby");
    }

    #[test]
    fn what_rds_says_is_told_from_what_it_does_not() {
        let says = |role, status: &str| {
            control(&Ok(Some(Instance { role, status: status.into(), zone: None })))
        };
        assert_eq!(says(InstanceRole::Writer, "available"), Control::Answers);
        assert_eq!(says(InstanceRole::Writer, "storage-full"), Control::Answers);
        assert_eq!(says(InstanceRole::Writer, "stopped"), Control::Intended);
        assert_eq!(control(&Ok(None)), Control::Intended);
        assert_eq!(control(&Err(Fault::Silent)), Control::Silent);
        assert_eq!(control(&Err(Fault::Failing("503".into()))), Control::Unknown);
        assert_eq!(control(&Err(Fault::NotNow("throttled".into()))), Control::Unknown);
        assert_eq!(control(&Err(Fault::Refused("denied".into()))), Control::Answers);
    }
}
