//! What the environment says of how AWS is reached, beyond what the SDK reads there itself: the clock.

use std::collections::BTreeMap;

use super::{
    Clock, Connection, ScaleError,
    client::{EVERY_SERVICE, SERVICE_VARIABLES},
};

/// How many times as fast as real time the sandbox's time passes.
const CLOCK_SCALE: &str = "TRADING_CLOCK_SCALE";
/// What the sandbox's clock showed, and when: for its functions, which compare the time with what it says.
const CLOCK_ORIGIN: &str = "TRADING_CLOCK_ORIGIN";

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

impl Connection {
    /// AWS at these endpoints, by service; in real time, unless all of them are the sandbox, and it is asked to
    /// hurry.
    ///
    /// # Errors
    /// A clock's setting that makes no sense, or is not allowed.
    pub fn from_environment(endpoints: BTreeMap<String, String>) -> Result<Self, ScaleError> {
        let clock = clock(&endpoints, variable)?;
        Ok(Self { clock, endpoints, ..Self::aws() })
    }
}

fn clock(
    endpoints: &BTreeMap<String, String>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Clock, ScaleError> {
    let (scale, origin) = (variable(CLOCK_SCALE), variable(CLOCK_ORIGIN));
    if scale.is_none() && origin.is_none() {
        return Ok(Clock::real());
    }
    let everywhere = endpoints.get(EVERY_SERVICE).cloned().or_else(|| variable("AWS_ENDPOINT_URL"));
    let mut all: Vec<String> = endpoints.values().cloned().collect();
    all.extend(SERVICE_VARIABLES.iter().filter_map(|(name, _)| variable(name)));
    // What has no endpoint of its own goes to the common one, or to AWS.
    let covered =
        |service: &str, name: &str| endpoints.contains_key(service) || variable(name).is_some();
    match everywhere {
        Some(endpoint) => all.push(endpoint),
        None if SERVICE_VARIABLES.iter().all(|(name, service)| covered(service, name)) => {}
        None => all.clear(),
    }
    let clock = Clock::scaled(scale.as_deref().unwrap_or("1"), &all)?;
    match origin {
        Some(text) => clock.with_origin(&text),
        None => Ok(clock),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(variables: &[(&str, &str)]) -> Result<Clock, ScaleError> {
        let known: BTreeMap<&str, &str> = variables.iter().copied().collect();
        clock(&BTreeMap::new(), |name| known.get(name).map(|text| (*text).to_owned()))
    }

    #[tokio::test]
    async fn only_the_sandbox_has_a_clock_of_its_own() {
        let sandbox = ("AWS_ENDPOINT_URL", "http://127.0.0.1:4566");
        assert!(given(&[]).is_ok());
        for setting in [(CLOCK_SCALE, "10"), (CLOCK_ORIGIN, "1000@1000")] {
            assert!(given(&[sandbox, setting]).is_ok(), "{setting:?}");
            for places in [&[setting][..], &[setting, ("AWS_ENDPOINT_URL_RDS", "http://[::1]:1")]] {
                assert!(matches!(given(places), Err(ScaleError::NotLoopback(_))), "{places:?}");
            }
        }
        assert!(matches!(given(&[sandbox, (CLOCK_ORIGIN, "noon")]), Err(ScaleError::Origin(_))));
    }
}
