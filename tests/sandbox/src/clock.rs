//! The sandbox's time: tokio's, so that a paused runtime makes it virtual, passing at a scale that can be
//! changed while it runs.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::Instant;

/// A moment, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// Seconds since 1970 with a fraction, as AWS's JSON protocols write it.
    #[allow(clippy::cast_precision_loss)]
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// From ISO 8601.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos() / 1_000_000;
        u64::try_from(moment).ok().map(Self)
    }

    /// So many seconds later.
    #[must_use]
    pub fn plus_seconds(self, seconds: u64) -> Self {
        Self(self.0 + seconds * 1000)
    }

    fn as_datetime(self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + std::time::Duration::from_millis(self.0)
    }

    /// As the header `Date` writes it.
    pub(crate) fn http_date(self) -> String {
        const FORMAT: &[time::format_description::BorrowedFormatItem<'_>] = time::macros::format_description!(
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
        );
        self.as_datetime().format(FORMAT).unwrap_or_default()
    }

    /// The moment as year, month, day, weekday (Sunday is 1), hour and minute, in UTC.
    pub(crate) fn parts(self) -> [u64; 6] {
        let at = self.as_datetime();
        let weekday = at.weekday().number_from_sunday();
        [
            u64::try_from(at.year()).unwrap_or(0),
            u8::from(at.month()).into(),
            at.day().into(),
            weekday.into(),
            at.hour().into(),
            at.minute().into(),
        ]
    }

    /// The moment as the weekday (Monday is 0) and the minute of the day, in UTC.
    pub(crate) fn weekday_and_minute(self) -> (u64, u64) {
        let at = self.as_datetime();
        let weekday = u64::from(at.weekday().number_days_from_monday());
        (weekday, u64::from(at.hour()) * 60 + u64::from(at.minute()))
    }
}

/// ISO 8601, as AWS's XML protocols write it.
impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.as_datetime().format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct SimClock {
    base: Time,
    anchor: Instant,
    scale: f64,
    /// What it showed when it was set, each time, and when that was on the machine.
    settings: Vec<(Time, SystemTime)>,
}

impl SimClock {
    pub(crate) fn new(base: Time, scale: f64) -> Self {
        Self { base, anchor: Instant::now(), scale, settings: vec![(base, SystemTime::now())] }
    }

    pub(crate) fn now(&self) -> Time {
        let passed = self.anchor.elapsed().mul_f64(self.scale);
        Time(self.base.0 + u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn scale(&self) -> f64 {
        self.scale
    }

    /// A number that changes whenever the clock is set.
    pub(crate) fn generation(&self) -> usize {
        self.settings.len()
    }

    /// When a moment was, or will be, on the machine; what was skipped never was, and is taken for the next moment
    /// that was. Right where tokio's time is the machine's.
    pub(crate) fn on_the_machine(&self, moment: Time) -> SystemTime {
        let at = self.settings.iter().rposition(|(shown, _)| *shown <= moment).unwrap_or(0);
        let (shown, machine) = self.settings[at];
        let passed = Duration::from_millis(moment.0.saturating_sub(shown.0));
        match self.settings.get(at + 1) {
            // Between two settings, the account's time passed evenly, and may then have jumped.
            Some((next, then)) => {
                let (whole, real) =
                    (next.0.saturating_sub(shown.0).max(1), then.duration_since(machine));
                let share = passed.as_secs_f64() * 1000.0 / whole as f64;
                machine + real.unwrap_or_default().mul_f64(share.min(1.0))
            }
            None => machine + passed.div_f64(self.scale),
        }
    }

    fn set(&mut self, base: Time, scale: f64) {
        let mut settings = std::mem::take(&mut self.settings);
        settings.push((base, SystemTime::now()));
        *self = Self { settings, ..Self::new(base, scale) };
    }

    /// From now on at another scale; the present moment does not jump.
    pub(crate) fn rescale(&mut self, scale: f64) {
        self.set(self.now(), scale);
    }

    /// Jumps ahead.
    pub(crate) fn advance(&mut self, seconds: u64) {
        self.set(self.now().plus_seconds(seconds), self.scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn moments_of_the_account_are_found_on_the_machine() {
        let begun = Time(1_000_000);
        let mut clock = SimClock::new(begun, 10.0);
        let first = clock.on_the_machine(begun);
        assert_eq!(clock.on_the_machine(begun.plus_seconds(60)), first + Duration::from_secs(6));
        clock.advance(3600);
        clock.rescale(2.0);
        let (shown, machine) = clock.settings[2];
        assert_eq!(clock.on_the_machine(shown), machine);
        assert_eq!(clock.on_the_machine(shown.plus_seconds(60)), machine + Duration::from_secs(30));
        // What was skipped lies between what was shown before and after.
        let skipped = clock.on_the_machine(begun.plus_seconds(1800));
        assert!(first <= skipped && skipped <= machine, "{skipped:?}");
        assert_eq!(clock.generation(), 3);
    }

    #[test]
    fn moments_are_read_as_they_are_written() {
        let moment = Time(1_767_571_234_567);
        assert_eq!(Time::parse(&moment.to_string()), Some(moment));
        assert_eq!(Time::parse("2026-01-05T00:00:34Z"), Some(Time(1_767_571_234_000)));
        assert_eq!(Time::parse("yesterday"), None);
    }
}
