//! Schedules as EventBridge writes them: `rate(…)` and `cron(…)`, in UTC.

use std::fmt;

/// An expression that EventBridge takes (its guide, "Schedule expressions").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(String);

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
/// AWS's limit.
const LONGEST: usize = 256;

/// A field of a cron expression: what it is called, its range, its names, and its own signs.
struct Field {
    what: &'static str,
    low: u32,
    high: u32,
    names: &'static [&'static str],
    signs: &'static str,
}

const FIELDS: [Field; 6] = [
    Field { what: "minutes", low: 0, high: 59, names: &[], signs: "" },
    Field { what: "hours", low: 0, high: 23, names: &[], signs: "" },
    Field { what: "day of the month", low: 1, high: 31, names: &[], signs: "?LW" },
    Field { what: "month", low: 1, high: 12, names: &MONTHS, signs: "" },
    Field { what: "day of the week", low: 1, high: 7, names: &WEEKDAYS, signs: "?L#" },
    Field { what: "year", low: 1970, high: 2199, names: &[], signs: "" },
];

impl Schedule {
    /// `rate(7 days)` or `cron(0 9 ? * SAT *)`: minutes, hours, day of the month, month, day of the week, year.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let inner = |kind: &str| text.strip_prefix(kind)?.strip_suffix(')');
        if text.len() > LONGEST {
            return Err(format!("it has more than {LONGEST} characters"));
        }
        match (inner("rate("), inner("cron(")) {
            (Some(rate), _) => check_rate(rate)?,
            (_, Some(fields)) => check_cron(fields)?,
            _ => return Err("it is written rate(…) or cron(…), as cron(0 9 ? * SAT *)".into()),
        }
        Ok(Self(text.to_owned()))
    }

    /// Every week on Saturday, when exchanges are closed, at a minute of the day in UTC.
    pub fn on_saturdays(minute: u32) -> Self {
        Self(format!("cron({} {} ? * SAT *)", minute % 60, minute / 60 % 24))
    }

    /// As EventBridge takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

fn check_rate(text: &str) -> Result<(), String> {
    let wrong =
        || "a rate is written rate(1 day) or rate(7 days), in minutes, hours or days".to_owned();
    let (count, unit) = text.split_once(' ').ok_or_else(wrong)?;
    let count: u32 = count.parse().ok().filter(|count| *count > 0).ok_or_else(wrong)?;
    let units = if count == 1 { ["minute", "hour", "day"] } else { ["minutes", "hours", "days"] };
    if units.contains(&unit) { Ok(()) } else { Err(wrong()) }
}

fn check_cron(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split(' ').collect();
    if parts.len() != FIELDS.len() {
        return Err(format!(
            "cron(…) has six fields with one space between them, and not {}: minutes, hours, day of the month, \
             month, day of the week, year",
            parts.len()
        ));
    }
    for (field, part) in FIELDS.iter().zip(&parts) {
        if !part.split(',').all(|one| fits(field, one)) {
            return Err(format!(
                "{part:?} is no {} from {} to {}",
                field.what, field.low, field.high
            ));
        }
    }
    if (parts[2] == "?") == (parts[4] == "?") {
        return Err("exactly one of the day of the month and the day of the week is ?".into());
    }
    Ok(())
}

fn fits(field: &Field, text: &str) -> bool {
    let within = |number: u32| (field.low..=field.high).contains(&number);
    let value = |text: &str| {
        let named = field.names.iter().zip(field.low..).find(|(name, _)| **name == text);
        named.map(|(_, at)| at).or_else(|| text.parse().ok().filter(|one| within(*one)))
    };
    let has = |sign: char| field.signs.contains(sign);
    if text == "*" || (text == "?" && has('?')) || (text == "L" && has('L')) {
        return true;
    }
    if has('W') && text == "LW" {
        return true;
    }
    if let Some(day) = text.strip_suffix('W').filter(|_| has('W')) {
        return value(day).is_some();
    }
    if let Some(day) = text.strip_suffix('L').filter(|_| has('L')) {
        return has('#') && value(day).is_some();
    }
    if let Some((day, week)) = text.split_once('#').filter(|_| has('#')) {
        return value(day).is_some() && week.parse().is_ok_and(|week: u32| (1..=5).contains(&week));
    }
    let (range, step) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
    let steps =
        step.is_none_or(|step| step.parse().is_ok_and(|step: u32| step > 0 && step <= field.high));
    let ranges = match range.split_once('-') {
        Some((from, to)) => value(from).is_some_and(|from| value(to).is_some_and(|to| from <= to)),
        None => range == "*" || value(range).is_some(),
    };
    steps && ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_eventbridge_takes_is_taken() {
        for good in [
            "rate(1 day)",
            "rate(7 days)",
            "cron(0 9 ? * SAT *)",
            "cron(0/15 8-17 ? * MON-FRI *)",
            "cron(0 9 1,15 JAN-JUN/2 ? 2027)",
            "cron(0 9 L * ? *)",
            "cron(0 9 3W * ? *)",
            "cron(0 9 ? * 7L *)",
            "cron(0 9 ? * 6#2 *)",
        ] {
            assert_eq!(Schedule::parse(good).map(|one| one.to_string()), Ok(good.to_owned()));
        }
        assert_eq!(Schedule::on_saturdays(25 * 60 + 30).as_str(), "cron(30 1 ? * SAT *)");
    }

    #[test]
    fn what_it_refuses_is_refused_with_the_reason() {
        for (bad, words) in [
            ("weekly", "rate(…) or cron(…)"),
            ("rate(1 days)", "rate(1 day)"),
            ("rate(0 days)", "rate(1 day)"),
            ("rate(2 weeks)", "rate(1 day)"),
            ("cron(0 9 * * *)", "six fields"),
            ("cron(0 9 * * SAT *)", "exactly one"),
            ("cron(0 9 ? * ? *)", "exactly one"),
            ("cron(60 9 ? * SAT *)", "minutes from 0 to 59"),
            ("cron(0 24 ? * SAT *)", "hours from 0 to 23"),
            ("cron(0 9 ? * 0 *)", "day of the week"),
            ("cron(0 9 ? * SAT 1969)", "year"),
            ("cron(0 9 ? FOO SAT *)", "month"),
            ("cron(0 9 32 * ? *)", "day of the month"),
            ("cron(? 9 ? * SAT *)", "minutes"),
            ("cron(0/0 9 ? * SAT *)", "minutes"),
            ("cron(30-10 9 ? * SAT *)", "minutes"),
            ("cron(0 9 ? * 6#6 *)", "day of the week"),
        ] {
            let why = Schedule::parse(bad).unwrap_err();
            assert!(why.contains(words), "{bad}: {why}");
        }
    }
}
