//! Windows of time: daily ones for backups, weekly ones for maintenance.

/// A daily window in UTC, `hh:mm-hh:mm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    start: u32,
    length: u32,
}

const DAY: u32 = 24 * 60;

/// In the night of America's exchanges.
impl Default for Window {
    fn default() -> Self {
        Self { start: 3 * 60, length: 60 }
    }
}

impl Window {
    /// From `hh:mm-hh:mm`; half an hour at least, a day at most.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let minute = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            if hour.len() != 2 || minute.len() != 2 {
                return None;
            }
            let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour < 24 && minute < 60).then_some(hour * 60 + minute)
        };
        let parts = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        let (start, end) = parts.ok_or("it is written hh:mm-hh:mm, in UTC")?;
        let length = (end + DAY - start) % DAY;
        if length < 30 {
            Err("it must last 30 minutes at least")
        } else {
            Ok(Self { start, length })
        }
    }

    pub(super) fn moved(self, minutes: u32) -> Self {
        Self { start: (self.start + minutes) % DAY, ..self }
    }

    /// Its last minute, from the day's beginning.
    pub(super) fn end(self) -> u32 {
        (self.start + self.length) % DAY
    }

    /// Whether the two share a minute.
    pub fn overlaps(self, other: Self) -> bool {
        (other.start + DAY - self.start) % DAY < self.length
            || (self.start + DAY - other.start) % DAY < other.length
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = self.end();
        let clock = |minute: u32| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(out, "{}-{}", clock(self.start), clock(end))
    }
}

/// A weekly window in UTC, `ddd:hh:mm-ddd:hh:mm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaintenanceWindow {
    text: String,
    /// Minutes from Monday's beginning.
    start: u32,
    length: u32,
}

/// Early on Sunday.
impl Default for MaintenanceWindow {
    fn default() -> Self {
        Self { text: "sun:05:00-sun:06:00".into(), start: 6 * DAY + 5 * 60, length: 60 }
    }
}

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl MaintenanceWindow {
    /// From `ddd:hh:mm-ddd:hh:mm`; half an hour at least, a day at most.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let minute = |text: &str| {
            let (day, time) = text.split_once(':')?;
            let day = WEEKDAYS.iter().position(|one| *one == day)?;
            let Ok(Window { start, .. }) =
                Window::parse(&format!("{time}-{}", half_a_day_after(time)?))
            else {
                return None;
            };
            Some(u32::try_from(day).ok()? * DAY + start)
        };
        let parts = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        let (start, end) =
            parts.ok_or("it is written ddd:hh:mm-ddd:hh:mm, as in sun:05:00-sun:06:00, in UTC")?;
        let length = (end + 7 * DAY - start) % (7 * DAY);
        if (30..=DAY).contains(&length) {
            Ok(Self { text: text.to_owned(), start, length })
        } else {
            Err("it must last from 30 minutes to 24 hours")
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it shares a minute with a daily window.
    pub fn overlaps(&self, daily: Window) -> bool {
        // From the Sunday before, whose window may reach into this week, to the Monday after.
        let (start, end) = (self.start + DAY, self.start + DAY + self.length);
        (0..=8).any(|day| {
            let from = day * DAY + daily.start;
            from < end && start < from + daily.length
        })
    }
}

fn half_a_day_after(time: &str) -> Option<String> {
    let (hour, minute) = time.split_once(':')?;
    let hour: u32 = hour.parse().ok()?;
    Some(format!("{:02}:{minute}", (hour + 12) % 24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_wrap_around_midnight() {
        let window = |text| Window::parse(text).unwrap();
        assert_eq!(window("23:30-00:30").to_string(), "23:30-00:30");
        assert_eq!(window("21:00-22:00").moved(4 * 60).to_string(), "01:00-02:00");
        assert!(window("23:30-00:30").overlaps(window("00:00-00:45")));
        assert!(!window("23:30-00:30").overlaps(window("00:30-01:30")));
        let week = |text| MaintenanceWindow::parse(text);
        assert!(week("sun:23:30-mon:00:30").unwrap().overlaps(window("00:00-01:00")));
        assert!(week("mon:00:00-mon:00:30").unwrap().overlaps(window("23:45-00:15")));
        assert!(!week("mon:00:15-mon:00:45").unwrap().overlaps(window("23:45-00:15")));
        assert!(!week("sun:05:00-sun:06:00").unwrap().overlaps(window("06:00-07:00")));
        for bad in [
            "sun:05:00",
            "sunday:05:00-sun:06:00",
            "sun:05:00-sun:05:10",
            "sun:05:00-wed:05:00",
            "sun:25:00-sun:26:00",
        ] {
            assert!(week(bad).is_err(), "{bad}");
        }
        for bad in ["03:00", "3:00-4:00", "03:00-03:10", "24:00-25:00", ""] {
            assert!(Window::parse(bad).is_err(), "{bad}");
        }
    }
}
