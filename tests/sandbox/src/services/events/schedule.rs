//! Schedule expressions of EventBridge (its guide, "Schedule expressions"): when a rule fires.

use crate::clock::Time;

/// A schedule.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    /// Every so many minutes.
    Every(u64),
    /// In the minutes that all five fields allow, in UTC.
    At(Box<Cron>),
}

/// What a cron expression allows; each list is sorted out of the field's whole range. Of the two kinds of days
/// one is always open, as AWS wants it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cron {
    minutes: Vec<u64>,
    hours: Vec<u64>,
    days: Vec<u64>,
    months: Vec<u64>,
    /// Sunday is 1.
    weekdays: Vec<u64>,
    years: Vec<u64>,
}

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl Schedule {
    /// `None` for what EventBridge does not take. Days counted from a month's end, next to a weekday, or of a
    /// week of the month (`L`, `W`, `#`) are not known here.
    pub(super) fn parse(expression: &str) -> Option<Self> {
        let inner = |kind: &str| expression.strip_prefix(kind)?.strip_suffix(')');
        match (inner("rate("), inner("cron(")) {
            (Some(rate), _) => every(rate).map(Self::Every),
            (_, Some(fields)) => cron(fields).map(|one| Self::At(Box::new(one))),
            _ => None,
        }
    }

    /// Whether it fires in the minute that begins at a moment.
    pub(super) fn fires(&self, at: Time) -> bool {
        match self {
            Self::Every(minutes) => (at.0 / 60_000).is_multiple_of(*minutes),
            Self::At(cron) => {
                let [year, month, day, weekday, hour, minute] = at.parts();
                cron.minutes.contains(&minute)
                    && cron.hours.contains(&hour)
                    && cron.days.contains(&day)
                    && cron.months.contains(&month)
                    && cron.weekdays.contains(&weekday)
                    && cron.years.contains(&year)
            }
        }
    }
}

/// `5 minutes`; the word must fit the number.
fn every(text: &str) -> Option<u64> {
    let (count, unit) = text.split_once(' ')?;
    let count: u64 = count.parse().ok().filter(|count| *count > 0)?;
    let minutes = match unit.trim_end_matches('s') {
        "minute" => 1,
        "hour" => 60,
        "day" => 24 * 60,
        _ => return None,
    };
    (unit.ends_with('s') == (count > 1)).then_some(count * minutes)
}

fn cron(text: &str) -> Option<Cron> {
    let fields: Vec<&str> = text.split(' ').collect();
    let [minutes, hours, days, months, weekdays, years] = fields[..] else { return None };
    // Exactly one of them is left open.
    if (days == "?") == (weekdays == "?") {
        return None;
    }
    Some(Cron {
        minutes: field(minutes, 0, 59, &[])?,
        hours: field(hours, 0, 23, &[])?,
        days: field(days, 1, 31, &[])?,
        months: field(months, 1, 12, &MONTHS)?,
        weekdays: field(weekdays, 1, 7, &WEEKDAYS)?,
        years: field(years, 1970, 2199, &[])?,
    })
}

fn field(text: &str, low: u64, high: u64, names: &[&str]) -> Option<Vec<u64>> {
    let number = |text: &str| {
        let named = names.iter().zip(low..).find(|(name, _)| **name == text).map(|(_, at)| at);
        named.or_else(|| text.parse().ok()).filter(|one| (low..=high).contains(one))
    };
    let mut all = Vec::new();
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(a, b)| (a, Some(b)));
        let stride = match step {
            None => 1,
            Some(step) => step.parse().ok().filter(|one| *one > 0)?,
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" || (range == "?" && step.is_none()) => (low, high),
            Some((from, to)) => (number(from)?, number(to)?),
            None => (number(range)?, if step.is_some() { high } else { number(range)? }),
        };
        all.extend((from..=to).step_by(stride));
    }
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        let format = &time::format_description::well_known::Rfc3339;
        let moment = time::OffsetDateTime::parse(text, format).unwrap();
        Time(u64::try_from(moment.unix_timestamp()).unwrap() * 1000)
    }

    #[test]
    fn a_schedule_fires_when_all_its_fields_allow_it() {
        let fires = |expression, moment| Schedule::parse(expression).unwrap().fires(at(moment));
        // 2026-01-03 was a Saturday.
        assert!(fires("cron(0 9 ? * SAT *)", "2026-01-03T09:00:00Z"));
        assert!(fires("cron(0 9 ? * 7 *)", "2026-01-03T09:00:00Z"));
        assert!(!fires("cron(0 9 ? * SAT *)", "2026-01-03T09:01:00Z"));
        assert!(!fires("cron(0 9 ? * SAT *)", "2026-01-04T09:00:00Z"));
        assert!(fires("cron(0/15 8-10 1,15 * ? 2026)", "2026-06-15T10:45:00Z"));
        assert!(!fires("cron(0/15 8-10 1,15 * ? 2026)", "2027-06-15T10:45:00Z"));
        assert!(fires("rate(5 minutes)", "2026-06-15T10:45:00Z"));
        assert!(!fires("rate(5 minutes)", "2026-06-15T10:46:00Z"));
    }

    #[test]
    fn what_eventbridge_refuses_is_none() {
        for bad in [
            "cron(0 9 * * SAT *)",
            "cron(0 9 ? * ? *)",
            "cron(0 9 * * *)",
            "cron(60 9 ? * SAT *)",
            "cron(0 24 ? * SAT *)",
            "cron(0 9 ? * SATURDAY *)",
            "cron(0 9 ? * 0 *)",
            "cron(0/0 9 ? * SAT *)",
            "rate(1 minutes)",
            "rate(1 week)",
            "0 9 ? * SAT *",
        ] {
            assert_eq!(Schedule::parse(bad), None, "{bad}");
        }
    }
}
