//! What must hold, whatever a seed draws.

use trading::cluster::{failover::Phase, objectives::Objectives, spec::FailoverSpec};

use super::{
    scenario::{Scenario, Trouble},
    world::World,
};

/// When the world begins, in milliseconds.
const START: u64 = 1_000_000;
/// After how many seconds a lost region is given up at the latest: what the budget says.
const DETECTED: u64 = 75;
/// How many seconds after its patience a monitor has RDS accept a promotion: a look until the last sign of life is known
/// to be the last, and a few calls.
const DECIDED: u64 = 18;
/// How many seconds after RDS may promote the standby again it is asked: a look at a region that is silent, and a few calls,
/// among them what is noted of a question that was refused.
const ASKED: u64 = 12;
/// How many seconds after a hold is lifted RDS has accepted: a look that began before, the next one, and a few calls.
const LIFTED: u64 = 23;
/// How many seconds after a probe is back the first look with it begins at the latest.
const LOOKED: u64 = 13;
/// The time between two heartbeats, in milliseconds.
const HEARTBEAT: u64 = 10_000;
/// What a look takes until it has spoken to the writer, and rounding up, in milliseconds.
const SLACK: u64 = 2_000;
/// For how long a region that is back may write before a run of a monitor has looked and closed it, in milliseconds.
const RETURNED: u64 = 90_000;

type Held = Result<(), String>;

/// Everything.
pub fn all(scenario: &Scenario, world: &World) -> Held {
    if !world.wrong.is_empty() {
        return Err(world.wrong.join("; "));
    }
    promotes_or_not(scenario, world)?;
    in_time(scenario, world)?;
    loses(scenario, world)?;
    in_the_end(scenario, world)?;
    writers(scenario, world)
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Held {
    if holds { Ok(()) } else { Err(what()) }
}

fn promotes_or_not(scenario: &Scenario, world: &World) -> Held {
    // Nobody is about to replace the writer, and nobody closes it.
    let serves_on = matches!(
        scenario.trouble,
        Trouble::ControlLost
            | Trouble::PeeringCut
            | Trouble::PeeringOneWay
            | Trouble::IdleCut
            | Trouble::CutFromOther
            | Trouble::CutFromWitness
            | Trouble::TablesFailing
            | Trouble::OtherBlind
            | Trouble::ForcedAtTheWriter
    );
    let never = matches!(
        scenario.trouble,
        // It wrote on for longer than may be lost, unseen: a human decides.
        Trouble::SlowDeath
            | Trouble::CalledOff
            | Trouble::ZoneFailover
            | Trouble::Held
            | Trouble::Destroying
            | Trouble::PromotedByHand
    ) || serves_on;
    ensure(!(never && world.accepted_at.is_some()), || "promoted where nothing may be".into())?;
    ensure(!serves_on || world.shut == 0, || {
        format!("a writer that nobody was about to replace was closed for {} ms", world.shut)
    })?;
    if scenario.trouble == Trouble::ForcedAtTheWriter {
        let is_refused = matches!(&world.answers[..], [Err(why)] if why.contains("has the writer"));
        ensure(is_refused, || format!("asked where the writer is: {:?}", world.answers))?;
    }
    if scenario.trouble == Trouble::ForcedUnseen {
        ensure(world.accepted_at.is_some(), || format!("forced: {:?}", world.answers))?;
        ensure(world.reopened == 0, || format!("open again for {} ms", world.reopened))?;
    }
    if scenario.trouble == Trouble::ClosedUnnoted {
        ensure(world.shut > 0, || "it was not closed".into())?;
    }
    let waits = match scenario.trouble {
        Trouble::WitnessLost | Trouble::ApplyUnderHold => true,
        Trouble::ProbesMissing => looks_without_probe(scenario),
        _ => false,
    };
    let early = world.accepted_at.is_some_and(|at| at < START + scenario.until * 1000);
    ensure(!(waits && early), || "promoted before it was to be known, or wanted".into())?;
    if scenario.trouble == Trouble::PromotedByHand {
        ensure(world.serving >= 1.0, || "the name moved although nobody here promoted".into())?;
        ensure(world.phase() == Phase::Diverged, || format!("two write: {:?}", world.phase()))?;
    }
    Ok(())
}

/// Whether the standby's own probe is missing.
fn looks_without_probe(scenario: &Scenario) -> bool {
    use super::{script::Event, world::Place};
    scenario.script.iter().any(|(_, one)| *one == Event::Probes(Place::D, false))
}

/// When RDS is to have accepted the promotion, in seconds from the beginning, of a writer that was lost at a moment.
fn accepted_by(scenario: &Scenario, world: &World, lost: u64) -> u64 {
    let spec = FailoverSpec::default();
    let (region, instance) = (u64::from(spec.region_detection), u64::from(spec.instance_detection));
    let freed = world.busy_until.saturating_sub(START) / 1000;
    match scenario.trouble {
        Trouble::WriterLost => lost + instance + DECIDED,
        Trouble::ZoneLost => lost + instance + 90 + DECIDED,
        Trouble::DrillUnderway | Trouble::StandbyBusy => freed.max(lost + DETECTED) + ASKED,
        Trouble::ApplyUnderHold => (scenario.until + LIFTED).max(lost + region + DECIDED),
        Trouble::ProbesMissing if looks_without_probe(scenario) => {
            scenario.until.max(lost) + LOOKED + region + DECIDED
        }
        _ => lost + region + DECIDED,
    }
}

/// It is over within the budget, and what delays it beyond that is what delayed its decision.
fn in_time(scenario: &Scenario, world: &World) -> Held {
    let Some(lost) = scenario.lost_at else { return Ok(()) };
    let spec = FailoverSpec::default();
    let objectives = Objectives::new(&spec, 30, None);
    let (Some(accepted), Some(promoted), Some(moved)) =
        (world.accepted_at, world.promoted_at, world.moved_at())
    else {
        return Err("nobody promoted".into());
    };
    let by = accepted_by(scenario, world, lost);
    ensure(accepted <= START + by * 1000, || {
        format!("accepted after {} ms, {} s at most", accepted - START - lost * 1000, by - lost)
    })?;
    let (budget, detected) = match scenario.trouble {
        Trouble::WriterLost => (objectives.lost_instance.seconds(), by),
        // Outside of the target, and said so ("Recovery objectives").
        Trouble::ZoneLost => (objectives.lost_after_zone, by),
        _ => (objectives.lost_region.seconds(), lost + DETECTED),
    };
    let delayed = match scenario.trouble {
        Trouble::DrillUnderway
        | Trouble::StandbyBusy
        | Trouble::ApplyUnderHold
        | Trouble::ProbesMissing => by.saturating_sub(detected),
        _ => 0,
    };
    // The new writer writes, and the name has moved: a minute and a half for the check, then the TTL.
    let serves = promoted.max(moved + 90_000) + 30_000;
    let took = (serves - START) / 1000 - lost;
    let most = u64::from(budget) + delayed;
    ensure(took <= most, || format!("it took {took} s of {most} s"))
}

/// True loss ≤ what is reported ≤ true loss and a heartbeat; what is reported is the estimate and a heartbeat.
fn loses(scenario: &Scenario, world: &World) -> Held {
    // Of a writer that nobody saw when it was replaced by force, nobody knows how much it wrote.
    if world.phase() != Phase::Promoted || scenario.trouble == Trouble::ForcedUnseen {
        return Ok(());
    }
    let Some(estimate) = world.reported() else { return Err("no loss is known".into()) };
    let [lost, between] = world.losses();
    let estimate = estimate * 1000;
    // Somebody else may have written in a region that was only cut off; the report says for how long.
    let unseen = match scenario.trouble {
        Trouble::Partition if world.is_unclosed() => 60_000,
        _ => 0,
    };
    let most = estimate + HEARTBEAT + unseen + SLACK;
    // Where looks or their calls fail, nobody knows better than by the last one that worked; nor what arrives after it
    // from a region that is back in the moment in which RDS is asked.
    let blind = match scenario.trouble {
        Trouble::FailingCalls
        | Trouble::MonitorsMissing
        | Trouble::ProbesMissing
        | Trouble::Flapping
        | Trouble::Partition
        | Trouble::ReturnsAtAnyMoment => u64::MAX,
        _ => 0,
    };
    let least = estimate.saturating_sub(blind).saturating_sub(SLACK);
    ensure(lost <= most && between >= least, || {
        format!("lost {lost} to {between} ms, and {estimate} ms and a heartbeat were reported")
    })
}

/// Once everything is healed, one side serves, it holds the lease, and the name leads there.
fn in_the_end(scenario: &Scenario, world: &World) -> Held {
    let heals = matches!(
        scenario.trouble,
        Trouble::ControlLost
            | Trouble::PeeringCut
            | Trouble::PeeringOneWay
            | Trouble::IdleCut
            | Trouble::Partition
            | Trouble::CutFromWitness
            | Trouble::CutFromOther
            | Trouble::ZoneFailover
            | Trouble::CalledOff
            | Trouble::Flapping
            | Trouble::TablesFailing
            | Trouble::OtherBlind
            | Trouble::ForcedUnseen
            | Trouble::ForcedAtTheWriter
            | Trouble::ClosedUnnoted
    );
    if !heals && scenario.back_at.is_none() {
        return Ok(());
    }
    let promoted = world.accepted_at.is_some();
    let side = if promoted { "D" } else { "P" };
    let serves = (world.writer_serves(), world.standby_writes());
    let name = if world.serving < 1.0 { "D" } else { "P" };
    let holder = world.holder();
    ensure(serves == (!promoted, promoted) && holder == Some(side) && name == side, || {
        format!("in the end {serves:?} serve, {holder:?} holds, the name says {name}")
    })
}

/// Two take writes of clients for no longer than the fence needs.
fn writers(scenario: &Scenario, world: &World) -> Held {
    let limit = match scenario.trouble {
        // A human promoted, and decides.
        Trouble::PromotedByHand => return Ok(()),
        // Up to 40 of 100 calls fail, and closing takes three that do not.
        Trouble::FailingCalls => 3 * RETURNED,
        Trouble::Flapping => RETURNED,
        // A region that comes back is closed as soon as its first run looks, or the other one does.
        _ if scenario.back_at.is_some() => RETURNED,
        _ => 0,
    };
    ensure(world.overlap <= limit, || format!("two took writes for {} ms", world.overlap))
}
