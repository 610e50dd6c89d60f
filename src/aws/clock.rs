//! The one clock that everything here waits by.

use std::time::{Duration, SystemTime};

use aws_smithy_async::{
    rt::sleep::{AsyncSleep, Sleep},
    time::TimeSource,
};
use aws_smithy_types::date_time::{DateTime, Format};
use tokio::time::Instant;

/// Tells the time and sleeps.
///
/// In production it is the real time. Under test it is tokio's paused clock, so that forty minutes pass in
/// milliseconds; against the sandbox as a program, a scale makes real time pass faster for it.
#[derive(Clone, Debug)]
pub struct Clock {
    base: SystemTime,
    started: Instant,
    scale: f64,
    /// Whether it is the machine's own time. A monotonic clock stands still while a laptop sleeps, and AWS
    /// refuses signatures that are minutes old.
    is_machine: bool,
}

/// A moment of Unix time, in milliseconds, as humans read it: UTC, to the second. `None` where no calendar has it.
pub fn utc(at: u64) -> Option<String> {
    let seconds = i64::try_from(at / 1000).ok()?;
    DateTime::from_secs(seconds).fmt(Format::DateTime).ok()
}

/// A clock scale that makes no sense, or is not allowed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScaleError {
    /// Not a number from 1 to 100,000.
    #[error("TRADING_CLOCK_SCALE must be a number from 1 to 100000, not {0:?}")]
    Invalid(String),
    /// Something other than the sandbox would be called in compressed time.
    #[error(
        "TRADING_CLOCK_SCALE is for the sandbox: it is refused unless every endpoint is on the loopback \
         interface, and {0} is not"
    )]
    NotLoopback(String),
    /// Not two moments.
    #[error(
        "TRADING_CLOCK_ORIGIN must be two moments in milliseconds since 1970, the account's and the machine's, \
         such as 1767571200000@1764000000000, not {0:?}"
    )]
    Origin(String),
}

impl Clock {
    /// Real time.
    pub fn real() -> Self {
        Self { base: SystemTime::now(), started: Instant::now(), scale: 1.0, is_machine: true }
    }

    /// Tokio's time, counted from `base`: virtual under a paused runtime.
    pub fn starting_at(base: SystemTime) -> Self {
        Self { base, started: Instant::now(), scale: 1.0, is_machine: false }
    }

    /// How many seconds of it pass in one of the machine's.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Real time, passing `scale` times as fast, for the sandbox at the given endpoints. An empty `scale`
    /// is real time.
    ///
    /// # Errors
    /// A scale that is no number from 1 to 100,000; an endpoint that is not on the loopback interface.
    pub fn scaled(scale: &str, endpoints: &[String]) -> Result<Self, ScaleError> {
        let mut clock = Self::real();
        if scale.is_empty() {
            return Ok(clock);
        }
        let factor = scale.parse::<f64>().ok().filter(|factor| (1.0..=100_000.0).contains(factor));
        clock.scale = factor.ok_or_else(|| ScaleError::Invalid(scale.to_owned()))?;
        clock.is_machine = false;
        if endpoints.is_empty() {
            return Err(ScaleError::NotLoopback("AWS".into()));
        }
        match endpoints.iter().find(|endpoint| !is_loopback(endpoint)) {
            Some(other) => Err(ScaleError::NotLoopback(other.clone())),
            None => Ok(clock),
        }
    }

    /// The same clock, showing what the sandbox's shows: at `account` it was so late in the account when it was
    /// so late on the machine, written as `account@machine` in milliseconds since 1970. For what compares the
    /// time with what AWS says, in more than one process.
    ///
    /// # Errors
    /// The text is none of two moments.
    pub fn with_origin(mut self, text: &str) -> Result<Self, ScaleError> {
        let moments = text.split_once('@').and_then(|(account, machine)| {
            let moment = |text: &str| {
                Some(SystemTime::UNIX_EPOCH + Duration::from_millis(text.parse().ok()?))
            };
            Some((moment(account)?, moment(machine)?))
        });
        let (account, machine) = moments.ok_or_else(|| ScaleError::Origin(text.to_owned()))?;
        let passed = SystemTime::now().duration_since(machine).unwrap_or_default();
        self.base = account + passed.mul_f64(self.scale);
        self.started = Instant::now();
        self.is_machine = false;
        Ok(self)
    }

    /// The present moment.
    pub fn now(&self) -> SystemTime {
        if self.is_machine {
            SystemTime::now()
        } else {
            self.base + self.started.elapsed().mul_f64(self.scale)
        }
    }

    /// How long a duration of this clock takes in real time.
    pub fn really(&self, duration: Duration) -> Duration {
        duration.div_f64(self.scale)
    }

    /// Sleeps for a duration of this clock.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(self.really(duration)).await;
    }

    /// How much of this clock's time has passed since `earlier`; zero if it lies ahead.
    pub fn since(&self, earlier: SystemTime) -> Duration {
        self.now().duration_since(earlier).unwrap_or_default()
    }
}

fn is_loopback(endpoint: &str) -> bool {
    let Ok(uri) = endpoint.parse::<http::Uri>() else { return false };
    let Some(host) = uri.host() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// What the SDK signs with: the present moment of this clock.
impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        Clock::now(self)
    }
}

/// What the SDK's timeouts sleep by: unscaled, because a socket answers in real time.
impl AsyncSleep for Clock {
    fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(tokio::time::sleep(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(scale: &str, endpoints: &[&str]) -> Result<f64, ScaleError> {
        let endpoints: Vec<_> = endpoints.iter().map(|&one| one.to_owned()).collect();
        Clock::scaled(scale, &endpoints).map(|clock| clock.scale)
    }

    #[tokio::test]
    async fn a_scale_is_for_loopback_endpoints_only() {
        assert_eq!(scaled("600", &["http://127.0.0.1:4566"]), Ok(600.0));
        assert_eq!(scaled("600", &["http://localhost:1", "http://[::1]:2"]), Ok(600.0));
        assert_eq!(scaled("", &["https://rds.example"]), Ok(1.0));
        for endpoints in [&[][..], &["http://127.0.0.1:1", "https://kms.us-east-1.amazonaws.com"]] {
            assert!(matches!(scaled("2", endpoints), Err(ScaleError::NotLoopback(_))));
        }
        for bad in ["0", "-1", "fast", "inf", "NaN", "0.5"] {
            let refused = scaled(bad, &["http://127.0.0.1:1"]);
            assert!(matches!(refused, Err(ScaleError::Invalid(_))), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_clock_can_show_what_another_shows() {
        let origin =
            |text: &str| Clock::scaled("10", &["http://[::1]".into()]).unwrap().with_origin(text);
        // The machine's moment is long past, so that what passes during the test is nothing beside it.
        let passed = Duration::from_secs(100 * 86_400);
        let machine = (SystemTime::now() - passed).duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let clock = origin(&format!("1000@{}", machine.as_millis())).unwrap();
        let shown = clock.since(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        assert_eq!(shown.as_secs() / 86_400, 1000);
        for bad in ["", "1", "@", "1@x", "-1@1"] {
            assert_eq!(origin(bad).unwrap_err(), ScaleError::Origin(bad.into()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn virtual_time_passes_by_sleeping() {
        let clock = Clock::starting_at(SystemTime::UNIX_EPOCH);
        clock.sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.since(SystemTime::UNIX_EPOCH).as_secs(), 3600);
    }
}
