//! How long the writer has been gone: what decisions need to know of the past.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Control, Evidence, Sign};

/// The longest pause between two looks over which a loss still counts as one.
const LONGEST_GAP: Duration = Duration::from_secs(90);

/// What was seen over time. Moments are those of the looking region's clock, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// When the writer was first not seen to write; `None` while it is.
    pub first_failure: Option<u64>,
    /// The newest sign of life: a write, a renewal of the lease, a message of replication. A loss is as old
    /// as it, not as old as the look that noticed.
    last_life: u64,
    /// The first look since which the writer's region is silent.
    silent_since: Option<u64>,
    /// The latest look.
    latest: u64,
    /// How many complete looks there were since.
    silent_looks: u32,
}

impl Series {
    /// The series after one more look, which lasted from one moment to another: what it shows is no older
    /// than its beginning.
    #[must_use]
    pub fn next(self, begun: u64, now: u64, seen: &Evidence) -> Self {
        let first_failure = match seen.writes {
            Sign::Yes => None,
            Sign::No | Sign::Unknown => self.first_failure.or(Some(begun)),
        };
        // After a time in which nobody looked, and at the first look, everything counts from now.
        let is_new = now.saturating_sub(self.latest) > millis(LONGEST_GAP);
        let before = if is_new { Self { last_life: now, ..Self::default() } } else { self };
        let last_life = before.last_life.max(seen.life.unwrap_or(0).min(now));
        let is_complete =
            seen.writes == Sign::No && ![seen.replicates, seen.vouched].contains(&Sign::Unknown);
        // A look that brings nothing does not count, and does not end what the others say.
        let (silent_since, silent_looks) = match seen.control {
            Control::Silent if is_complete => {
                (before.silent_since.or(Some(begun)), before.silent_looks + 1)
            }
            Control::Silent | Control::Unknown => (before.silent_since, before.silent_looks),
            Control::Answers | Control::Intended => (None, 0),
        };
        Self { first_failure, last_life, silent_since, latest: now, silent_looks }
    }

    /// When the latest look was over.
    pub fn latest(&self) -> u64 {
        self.latest
    }

    /// The newest sign of life.
    pub fn last_life(&self) -> u64 {
        self.last_life
    }

    /// How long it has shown no life.
    pub fn lost_for(&self) -> Duration {
        Duration::from_millis(self.latest.saturating_sub(self.last_life))
    }

    /// When it will have shown no life for so long, if it goes on like this; `None` while it writes.
    pub fn loss_due(&self, patience: Duration) -> Option<u64> {
        self.first_failure.map(|_| self.last_life + millis(patience))
    }

    /// How long its region has been silent as well.
    pub fn silent_for(&self) -> Duration {
        let since = self.silent_since.map(|since| since.max(self.last_life));
        since.map_or(Duration::ZERO, |since| {
            Duration::from_millis(self.latest.saturating_sub(since))
        })
    }

    /// When it will have been silent for so long, if it goes on like this; `None` while it answers.
    pub fn silence_due(&self, patience: Duration) -> Option<u64> {
        self.silent_since.map(|since| since.max(self.last_life) + millis(patience))
    }

    /// How many complete looks found it silent.
    pub fn silent_looks(&self) -> u32 {
        self.silent_looks
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{super::evidence, *};

    const START: u64 = 1_000_000;

    fn gone(control: Control) -> Evidence {
        Evidence { control, ..evidence(Sign::No, Sign::No, Sign::No) }
    }

    fn looks(seconds: &[u64], seen: &Evidence) -> Series {
        let at = |second: &u64| START + second * 1000;
        seconds
            .iter()
            .fold(Series::default(), |series, second| series.next(at(second), at(second), seen))
    }

    #[test]
    fn a_loss_is_as_old_as_the_last_sign_of_life() {
        let mut seen = gone(Control::Silent);
        seen.life = Some(START + 5_000);
        let series = looks(&[0, 10, 20, 30, 40, 50, 60], &seen);
        assert_eq!(series.lost_for(), Duration::from_secs(55));
        assert_eq!((series.silent_for(), series.silent_looks()), (Duration::from_secs(55), 7));
        assert_eq!(series.first_failure, Some(START));
        // The look that sees it write again ends it.
        let back =
            Evidence { life: Some(START + 70_000), ..evidence(Sign::Yes, Sign::Yes, Sign::Yes) };
        let series = series.next(START + 70_000, START + 70_000, &back);
        assert_eq!((series.lost_for(), series.first_failure), (Duration::ZERO, None));
    }

    #[test]
    fn a_time_without_looks_starts_it_over() {
        assert_eq!(looks(&[0, 30, 121], &gone(Control::Silent)).lost_for(), Duration::ZERO);
        assert_eq!(
            looks(&[0, 30, 119], &gone(Control::Silent)).lost_for(),
            Duration::from_secs(119)
        );
    }

    #[test]
    fn an_incomplete_look_neither_counts_nor_ends() {
        let unknown =
            Evidence { control: Control::Silent, ..evidence(Sign::No, Sign::Unknown, Sign::No) };
        let series =
            looks(&[0], &gone(Control::Silent)).next(START + 10_000, START + 10_000, &unknown);
        let series = series.next(START + 20_000, START + 20_000, &gone(Control::Silent));
        assert_eq!((series.silent_looks(), series.silent_for()), (2, Duration::from_secs(20)));
    }

    #[test]
    fn a_region_that_answers_is_not_silent_and_its_writer_is_lost_all_the_same() {
        let series = looks(&[0], &gone(Control::Silent)).next(
            START + 10_000,
            START + 10_000,
            &gone(Control::Answers),
        );
        assert_eq!(series.lost_for(), Duration::from_secs(10));
        assert_eq!((series.silent_for(), series.silent_looks()), (Duration::ZERO, 0));
    }

    #[test]
    fn life_that_is_said_to_come_is_not_believed() {
        let mut seen = gone(Control::Silent);
        seen.life = Some(START + 500_000);
        assert_eq!(looks(&[0, 10], &seen).lost_for(), Duration::ZERO);
        let later =
            looks(&[0, 10], &seen).next(START + 20_000, START + 20_000, &gone(Control::Silent));
        assert_eq!(later.lost_for(), Duration::from_secs(10));
    }
}
