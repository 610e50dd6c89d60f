//! Scenarios, drawn from seeds.

use super::{script::Event, world::Place};

/// What kind of trouble a seed draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    RegionLost,
    ReturnsAtAnyMoment,
    ReturnedUnguarded,
    ControlLost,
    WriterLost,
    PeeringCut,
    PeeringOneWay,
    IdleCut,
    Partition,
    CutFromWitness,
    CutFromOther,
    WitnessLost,
    ZoneFailover,
    ZoneLost,
    SlowDeath,
    Flapping,
    StandbyBusy,
    DrillUnderway,
    CalledOff,
    FailingCalls,
    MonitorsMissing,
    Held,
    Destroying,
    PromotedByHand,
    ProbesMissing,
    ApplyUnderHold,
    TablesFailing,
    OtherBlind,
    ForcedUnseen,
    ForcedAtTheWriter,
    ClosedUnnoted,
}

const TROUBLES: [Trouble; 31] = [
    Trouble::RegionLost,
    Trouble::ReturnsAtAnyMoment,
    Trouble::ReturnedUnguarded,
    Trouble::ControlLost,
    Trouble::WriterLost,
    Trouble::PeeringCut,
    Trouble::PeeringOneWay,
    Trouble::IdleCut,
    Trouble::Partition,
    Trouble::CutFromWitness,
    Trouble::CutFromOther,
    Trouble::WitnessLost,
    Trouble::ZoneFailover,
    Trouble::ZoneLost,
    Trouble::SlowDeath,
    Trouble::Flapping,
    Trouble::StandbyBusy,
    Trouble::DrillUnderway,
    Trouble::CalledOff,
    Trouble::FailingCalls,
    Trouble::MonitorsMissing,
    Trouble::Held,
    Trouble::Destroying,
    Trouble::PromotedByHand,
    Trouble::ProbesMissing,
    Trouble::ApplyUnderHold,
    Trouble::TablesFailing,
    Trouble::OtherBlind,
    Trouble::ForcedUnseen,
    Trouble::ForcedAtTheWriter,
    Trouble::ClosedUnnoted,
];

/// When trouble begins, in seconds: everybody has settled by then.
pub const BEGINNING: u64 = 200;
pub const END: u64 = 1100;

/// For how long a drill keeps RDS from promoting the standby, in seconds: what `recovery` would say of it.
const DRILL_BLOCKS: u64 = 240;

/// For how long a region is lost for a failover to be over: what the budget says.
const LONG: u64 = 255;

pub struct Scenario {
    pub trouble: Trouble,
    pub script: Vec<(u64, Event)>,
    /// When the region, or the writer, is lost for long enough for a failover; `None` if it is not.
    pub lost_at: Option<u64>,
    /// When what keeps a failover from being begun is over, where something does.
    pub until: u64,
    /// When it is back.
    pub back_at: Option<u64>,
}

pub fn scenario(seed: u64) -> Scenario {
    let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed);
    let trouble = TROUBLES[usize::try_from(seed).unwrap() % TROUBLES.len()];
    let at = BEGINNING + random.u64(0..60);
    let lasts = random.u64(20..600);
    let mut script = Vec::new();
    let (mut lost_at, mut back_at) = (None, None);
    let between = |script: &mut Vec<(u64, Event)>, one, other| {
        script.push((at, Event::Between(one, other, false)));
        script.push((at + lasts, Event::Between(one, other, true)));
    };
    match trouble {
        Trouble::RegionLost => {
            script.push((at, Event::Region(false)));
            lost_at = Some(at);
            if random.bool() {
                let back = at + lasts.max(300);
                script.push((back, Event::Region(true)));
                back_at = Some(back);
            }
        }
        Trouble::ReturnsAtAnyMoment => {
            // While it is watched, decided, promoted, verified, or told.
            let back = at + random.u64(20..420);
            script.push((at, Event::Region(false)));
            script.push((back, Event::Region(true)));
            back_at = Some(back);
            // Whoever has RDS promote may not live to hear that it does; the next run takes its time to begin.
            let dies = random.u32(0..3) == 0;
            if dies {
                script.push((at, Event::DiesWhenAccepted));
            }
            lost_at = (back >= at + LONG && !dies).then_some(at);
        }
        Trouble::ReturnedUnguarded => {
            // Its clients are back before anybody looks, and none of its monitors ever runs.
            let back = at + lasts.max(300);
            script.push((at, Event::Runs(Place::P, false)));
            script.push((at, Event::Region(false)));
            script.push((back, Event::Region(true)));
            back_at = Some(back);
            lost_at = Some(at);
        }
        Trouble::ControlLost => {
            script.push((at, Event::Control(false)));
            script.push((at + lasts, Event::Control(true)));
        }
        Trouble::WriterLost => {
            script.push((at, Event::Writer(false)));
            lost_at = Some(at);
        }
        Trouble::PeeringCut => {
            script.push((at, Event::Peering(false)));
            script.push((at + lasts, Event::Peering(true)));
        }
        Trouble::PeeringOneWay => {
            // What the standby's probe sees is what counts; it may not even see the standby follow.
            let from = if random.u32(0..4) == 0 { Place::P } else { Place::D };
            script.push((at, Event::Way(from, false)));
            script.push((at + lasts, Event::Way(from, true)));
            if random.bool() {
                script.push((at + lasts / 3, Event::Replication(false)));
                script.push((at + lasts, Event::Replication(true)));
            }
        }
        Trouble::IdleCut => {
            script.push((at - 60, Event::Idle));
            between(&mut script, Place::P, Place::D);
        }
        Trouble::Partition => {
            between(&mut script, Place::P, Place::D);
            between(&mut script, Place::P, Place::W);
            lost_at = (lasts >= LONG).then_some(at);
        }
        Trouble::CutFromWitness => between(&mut script, Place::P, Place::W),
        Trouble::CutFromOther => between(&mut script, Place::P, Place::D),
        Trouble::WitnessLost => {
            between(&mut script, Place::P, Place::W);
            between(&mut script, Place::D, Place::W);
            if random.bool() {
                script.push((at + 30, Event::Region(false)));
            }
        }
        Trouble::ZoneFailover => script.push((at, Event::Zone(random.u64(60..=120)))),
        // A failover of zones that never ends is waited for, and not for ever.
        Trouble::ZoneLost => {
            script.push((at, Event::Zone(2000)));
            lost_at = Some(at);
        }
        Trouble::SlowDeath => {
            script.push((at, Event::Replication(false)));
            script.push((at + 40, Event::Peering(false)));
            script.push((at + 80, Event::Control(false)));
            script.push((at + 120, Event::Region(false)));
        }
        Trouble::Flapping => {
            let mut time = at;
            for _ in 0..8 {
                let (down, up) = (random.u64(5..70), random.u64(5..70));
                script.push((time, Event::Region(false)));
                script.push((time + down, Event::Region(true)));
                time += down + up;
                // A failover that begins now is over at the end.
                if time > END - 500 {
                    break;
                }
            }
        }
        Trouble::StandbyBusy => {
            script.push((at - 10, Event::Busy(random.u64(30..400))));
            script.push((at, Event::Region(false)));
            lost_at = Some(at);
        }
        Trouble::DrillUnderway => {
            // RDS saves the standby for the drill's throw-away replica.
            let began = random.u64(0..=DRILL_BLOCKS);
            script.push((at.saturating_sub(began), Event::Busy(DRILL_BLOCKS)));
            script.push((at, Event::Region(false)));
            lost_at = Some(at);
        }
        Trouble::CalledOff => {
            // Decided, closed and not accepted: the writer comes back before the standby's backup ends.
            script.push((at, Event::Busy(500)));
            script.push((at, Event::Writer(false)));
            script.push((at + random.u64(130..400), Event::Writer(true)));
        }
        Trouble::FailingCalls => {
            script.push((at - 60, Event::Faults(random.u32(5..40))));
            script.push((at, Event::Region(false)));
            if random.bool() {
                script.push((at + lasts, Event::Region(true)));
            }
        }
        Trouble::MonitorsMissing => {
            for _ in 0..random.u64(1..6) {
                let place = if random.bool() { Place::P } else { Place::D };
                let time = at + random.u64(0..300);
                script.push((time, Event::Kill(place)));
                if random.bool() {
                    script.push((time, Event::Runs(place, false)));
                    script.push((time + random.u64(30..240), Event::Runs(place, true)));
                }
            }
            if random.bool() {
                script.push((at + random.u64(0..200), Event::Region(false)));
            }
        }
        Trouble::Held => {
            script.push((at - 5, Event::Hold(2000)));
            script.push((at, Event::Region(false)));
        }
        Trouble::Destroying => {
            script.push((at - 15, Event::Destroying));
            script.push((at, Event::Region(false)));
        }
        Trouble::ProbesMissing => {
            // Those of the standby's region, of the writer's, or of both; from a while before.
            let places: &[Place] = match random.u32(0..3) {
                0 => &[Place::D],
                1 => &[Place::P],
                _ => &[Place::P, Place::D],
            };
            let since = at - random.u64(0..120);
            for place in places {
                script.push((since, Event::Probes(*place, false)));
                script.push((at + lasts, Event::Probes(*place, true)));
            }
            script.push((at, Event::Region(false)));
            lost_at = Some(at);
        }
        Trouble::ApplyUnderHold => {
            script.push((at - random.u64(0..100), Event::Hold(2000)));
            script.push((at, Event::Region(false)));
            script.push((at + lasts, Event::Hold(0)));
            lost_at = Some(at);
        }
        Trouble::PromotedByHand => script.push((at, Event::PromotedByHand)),
        Trouble::TablesFailing => {
            // The guard's calls to tables only: the standby goes on hearing of the writer.
            script.push((at, Event::Tables(Place::P, false)));
            script.push((at + lasts, Event::Tables(Place::P, true)));
        }
        Trouble::OtherBlind => {
            between(&mut script, Place::P, Place::W);
            between(&mut script, Place::D, Place::W);
            script.push((at, Event::Probes(Place::D, false)));
            script.push((at + lasts, Event::Probes(Place::D, true)));
            // Nor does the writer's region see the standby hear of it.
            script.push((at, Event::Way(Place::P, false)));
            script.push((at + lasts, Event::Way(Place::P, true)));
        }
        Trouble::ForcedUnseen => {
            // While nobody sees anybody; the witness is back long before the regions see each other again.
            script.push((at, Event::Between(Place::P, Place::D, false)));
            script.push((END - 150, Event::Between(Place::P, Place::D, true)));
            between(&mut script, Place::P, Place::W);
            between(&mut script, Place::D, Place::W);
            script.push((at + random.u64(60..120), Event::Force(Place::D)));
        }
        Trouble::ForcedAtTheWriter => {
            let also = random.bool();
            between(&mut script, Place::P, Place::W);
            if also {
                between(&mut script, Place::D, Place::W);
            }
            script.push((at + random.u64(10..20), Event::Force(Place::P)));
        }
        Trouble::ClosedUnnoted => {
            // Alone for long enough to close, and not for long enough to be given up.
            let back = at + random.u64(48..56);
            for other in [Place::D, Place::W] {
                script.push((at, Event::Between(Place::P, other, false)));
                script.push((back, Event::Between(Place::P, other, true)));
            }
            script.push((at - 5, Event::Notes(Place::P, false)));
            // Before a run can open it again, or long after.
            script.push((back - 5 + random.u64(0..95), Event::Notes(Place::P, true)));
        }
    }
    Scenario { trouble, script, lost_at, until: at + lasts, back_at }
}
