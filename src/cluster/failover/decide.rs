//! The table of decisions. Each row is a phase and what it takes; the first that fits decides.

use std::time::Duration;

use super::{Control, Evidence, Mode, Phase, Policy, Series, Sign};
use crate::cluster::objectives::ZONE_PATIENCE;

/// The fewest complete looks that a lost region takes.
const FEWEST_LOOKS: u32 = 6;

/// Why nothing is promoted although something is wrong. Each is an alarm of its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The writer lives; the way to it is cut, or what looks is broken.
    Partition,
    /// Evidence that is needed is not known.
    Unknown,
    /// Somebody has asked for no failover for a while.
    Held,
    /// Somebody wants the writer to be as it is.
    Intended,
    /// A human is to promote, by the settings.
    Manual,
    /// More would be lost than may be without asking, or how much is not known.
    DataLoss,
    /// The standby takes writes although nobody here promoted it.
    PromotedByHand,
    /// Two instances write.
    Diverged,
}

impl Reason {
    /// Whether one look says it. What one answer that is lost, or one connection, looks like is told when another look
    /// soon finds it as well.
    pub fn is_plain(self) -> bool {
        match self {
            Self::Manual | Self::DataLoss | Self::PromotedByHand | Self::Diverged => true,
            Self::Partition | Self::Unknown | Self::Held | Self::Intended => false,
        }
    }

    /// What to tell whoever is woken.
    pub fn text(self) -> &'static str {
        match self {
            Self::Partition => {
                "the writer cannot be reached from here, and lives: its own region vouches for it, or \
                 replication moves"
            }
            Self::Unknown => {
                "the writer cannot be reached, and what else is needed to judge is not known"
            }
            Self::Held => "the writer cannot be reached, and a hold forbids a failover for a while",
            Self::Intended => {
                "the writer cannot be reached, and somebody wants it so: it is stopped, changed, being \
                 deleted or gone"
            }
            Self::Manual => "the writer is lost, and the settings leave the promotion to a human",
            Self::DataLoss => {
                "the writer is lost, and a failover would lose more than max_data_loss, or it is not known \
                 how much: a human decides"
            }
            Self::PromotedByHand => "the standby takes writes, and the monitor did not promote it",
            Self::Diverged => "two instances take writes: a human decides which one counts",
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// All is well.
    Stay,
    /// It is not well, and not for long enough.
    Wait,
    /// It is not well; alarm, and promote nothing.
    Alarm(Reason),
    /// Begin a failover; fence the writer first where its region answers.
    FailOver,
    /// The failover goes on: fence where possible, promote.
    Promote,
    /// The writer came back before the promotion was accepted: undo the fence.
    Abort,
    /// The promotion is accepted: see that the new writer writes.
    Verify,
    /// The lost region is back: keep everybody out of the old writer.
    FenceReturned,
    /// From now on, two instances write.
    Diverge,
    /// Nothing at all.
    Nothing,
}

/// What to do.
pub fn decide(phase: Phase, seen: &Evidence, series: &Series, policy: &Policy) -> Decision {
    match phase {
        Phase::Destroying => Decision::Nothing,
        Phase::Diverged => Decision::Alarm(Reason::Diverged),
        Phase::Accepted => Decision::Verify,
        Phase::Promoted => match (seen.control, seen.is_fenced) {
            (_, Sign::Yes) | (Control::Silent, _) => Decision::Stay,
            // Ask later: whatever the region says of its instance, it is there.
            (Control::Answers | Control::Intended | Control::Unknown, _) => Decision::FenceReturned,
        },
        Phase::Promoting => promoting(seen),
        Phase::Normal => normal(seen, series, policy),
    }
}

/// Until the promotion is accepted, the evidence must hold.
fn promoting(seen: &Evidence) -> Decision {
    let signs = [seen.writes, seen.replicates, seen.vouched];
    if seen.standby_writes == Sign::Yes {
        Decision::Verify
    } else if signs.contains(&Sign::Yes) {
        Decision::Abort
    } else if signs.contains(&Sign::Unknown) || seen.control == Control::Unknown {
        Decision::Alarm(Reason::Unknown)
    } else {
        Decision::Promote
    }
}

fn normal(seen: &Evidence, series: &Series, policy: &Policy) -> Decision {
    use Decision::Alarm;
    match (seen.standby_writes, seen.writes) {
        (Sign::Yes, Sign::Yes) => return Decision::Diverge,
        (Sign::Yes, _) => return Alarm(Reason::PromotedByHand),
        (_, Sign::Yes) => return Decision::Stay,
        (_, Sign::Unknown) => return Alarm(Reason::Unknown),
        (_, Sign::No) => {}
    }
    if seen.replicates == Sign::Yes || seen.vouched == Sign::Yes {
        return Alarm(Reason::Partition);
    }
    if [seen.replicates, seen.vouched].contains(&Sign::Unknown) {
        return Alarm(Reason::Unknown);
    }
    if seen.is_held {
        return Alarm(Reason::Held);
    }
    let is_over = match seen.control {
        Control::Unknown => return Alarm(Reason::Unknown),
        Control::Intended => return Alarm(Reason::Intended),
        Control::Silent => {
            series.silent_for() >= policy.region_detection && series.silent_looks() >= FEWEST_LOOKS
        }
        Control::Answers => {
            let more = if seen.zone_failed_over { u64::from(ZONE_PATIENCE) } else { 0 };
            series.lost_for() >= policy.instance_detection + Duration::from_secs(more)
        }
    };
    match (is_over, policy.mode, seen.data_loss) {
        (false, ..) => Decision::Wait,
        (true, Mode::Manual, _) => Alarm(Reason::Manual),
        (true, Mode::Automatic, Some(loss)) if loss <= policy.max_data_loss => Decision::FailOver,
        (true, Mode::Automatic, _) => Alarm(Reason::DataLoss),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn evidence(writes: Sign, replicates: Sign, vouched: Sign) -> Evidence {
        Evidence {
            writes,
            replicates,
            vouched,
            control: Control::Answers,
            zone_failed_over: false,
            standby_writes: Sign::No,
            is_held: false,
            life: None,
            data_loss: Some(Duration::from_secs(5)),
            is_fenced: Sign::No,
        }
    }

    pub(crate) fn policy() -> Policy {
        Policy {
            mode: Mode::Automatic,
            region_detection: Duration::from_secs(60),
            instance_detection: Duration::from_secs(105),
            max_data_loss: Duration::from_secs(50),
        }
    }

    /// A series of looks every ten seconds that all saw this.
    fn after(seconds: u64, seen: &Evidence) -> Series {
        let mut series = Series::default();
        for second in (0..=seconds).step_by(5) {
            let at = 1_000_000 + second * 1000;
            series = series.next(at, at, seen);
        }
        series
    }

    /// Every input there is.
    fn all() -> impl Iterator<Item = (Phase, Evidence, Series, Policy)> {
        let mut inputs = Vec::new();
        for phase in Phase::ALL {
            for bits in 0..3u32.pow(4) * 4 * 8 {
                let sign = |place: u32| Sign::ALL[(bits / 3u32.pow(place) % 3) as usize];
                let rest = bits / 81;
                let flag = |place: u32| (rest / 4) >> place & 1 == 1;
                for loss in [None, Some(0), Some(50), Some(51)] {
                    let seen = Evidence {
                        control: Control::ALL[(rest % 4) as usize],
                        standby_writes: sign(3),
                        zone_failed_over: flag(0),
                        is_held: flag(1),
                        is_fenced: if flag(2) { Sign::Yes } else { Sign::No },
                        data_loss: loss.map(Duration::from_secs),
                        ..evidence(sign(0), sign(1), sign(2))
                    };
                    for seconds in [0, 55, 60, 105, 195, 600] {
                        let mut lost = seen;
                        (lost.writes, lost.replicates, lost.vouched) =
                            (Sign::No, Sign::No, Sign::No);
                        inputs.push((phase, seen, after(seconds, &lost), policy()));
                    }
                }
            }
        }
        inputs.into_iter()
    }

    #[test]
    fn nothing_is_promoted_while_anything_speaks_against_it_or_is_not_known() {
        let mut begun = 0;
        for (phase, seen, series, policy) in all() {
            let decision = decide(phase, &seen, &series, &policy);
            if decision == Decision::Promote {
                assert_eq!([seen.writes, seen.replicates, seen.vouched], [Sign::No; 3], "{seen:?}");
            }
            if decision != Decision::FailOver {
                continue;
            }
            begun += 1;
            assert_eq!(phase, Phase::Normal);
            assert_eq!([seen.writes, seen.replicates, seen.vouched], [Sign::No; 3], "{seen:?}");
            assert!(matches!(seen.control, Control::Answers | Control::Silent), "{seen:?}");
            assert!(!seen.is_held && seen.standby_writes != Sign::Yes, "{seen:?}");
            assert!(seen.data_loss.is_some_and(|loss| loss <= policy.max_data_loss));
            let patience = match (seen.control, seen.zone_failed_over) {
                (Control::Silent, _) => 60,
                (_, false) => 105,
                (_, true) => 195,
            };
            assert!(series.lost_for() >= Duration::from_secs(patience), "{seen:?} {series:?}");
        }
        assert!(begun > 0);
    }

    #[test]
    fn what_is_lost_in_every_way_for_long_enough_is_failed_over() {
        for (control, seconds) in [(Control::Silent, 60), (Control::Answers, 105)] {
            let seen = Evidence { control, ..evidence(Sign::No, Sign::No, Sign::No) };
            let decision =
                |seconds| decide(Phase::Normal, &seen, &after(seconds, &seen), &policy());
            assert_eq!(decision(seconds), Decision::FailOver, "{control:?}");
            assert_eq!(decision(seconds - 5), Decision::Wait, "{control:?}");
        }
    }

    #[test]
    fn a_human_is_asked_where_the_settings_or_the_loss_say_so() {
        let seen = Evidence { control: Control::Silent, ..evidence(Sign::No, Sign::No, Sign::No) };
        let series = after(600, &seen);
        let manual = Policy { mode: Mode::Manual, ..policy() };
        assert_eq!(decide(Phase::Normal, &seen, &series, &manual), Decision::Alarm(Reason::Manual));
        for data_loss in [None, Some(Duration::from_secs(51))] {
            let seen = Evidence { data_loss, ..seen };
            let decision = decide(Phase::Normal, &seen, &series, &policy());
            assert_eq!(decision, Decision::Alarm(Reason::DataLoss));
        }
    }

    #[test]
    fn what_was_begun_goes_its_way() {
        let (gone, back) =
            (evidence(Sign::No, Sign::No, Sign::No), evidence(Sign::Yes, Sign::Yes, Sign::Yes));
        let (series, policy) = (Series::default(), policy());
        let decision = |phase, seen: &Evidence| decide(phase, seen, &series, &policy);
        assert_eq!(decision(Phase::Promoting, &gone), Decision::Promote);
        assert_eq!(decision(Phase::Promoting, &back), Decision::Abort);
        // No way back once it is accepted, and a human where two write.
        assert_eq!(decision(Phase::Accepted, &back), Decision::Verify);
        let two = Evidence { standby_writes: Sign::Yes, ..back };
        assert_eq!(decision(Phase::Normal, &two), Decision::Diverge);
        assert_eq!(decision(Phase::Diverged, &two), Decision::Alarm(Reason::Diverged));
        assert_eq!(decision(Phase::Destroying, &gone), Decision::Nothing);
        // The old region is fenced as soon as it answers, and left alone once it is.
        assert_eq!(decision(Phase::Promoted, &gone), Decision::FenceReturned);
        let fenced = Evidence { is_fenced: Sign::Yes, ..gone };
        assert_eq!(decision(Phase::Promoted, &fenced), Decision::Stay);
    }

    #[test]
    fn the_name_moves_with_the_phase_and_never_back() {
        let serves: Vec<bool> = Phase::ALL.iter().map(|one| one.primary_serves()).collect();
        assert_eq!(serves, [true, true, false, false, true, true]);
        for phase in Phase::ALL {
            assert_eq!(Phase::parse(phase.as_str()), Some(phase));
        }
    }
}
