//! Trouble on demand: what goes wrong with which calls.

use serde::{Deserialize, Serialize};

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "effect")]
pub enum Effect {
    /// It is throttled, with the service's own code.
    Throttle,
    /// It fails with a code, and nothing was done.
    Fail {
        /// AWS's code.
        code: String,
        /// AWS's message.
        message: String,
        /// The HTTP status.
        status: u16,
    },
    /// It is answered late, by so many milliseconds of real time.
    Delay {
        /// How late.
        milliseconds: u64,
    },
    /// It is never answered, and nothing was done.
    Hang,
    /// The connection breaks before anything was done.
    DropBefore,
    /// AWS acts, and the connection breaks before the answer.
    DropAfter,
    /// A read answers as if it had been made so many seconds of the account's time ago, as those of eventually
    /// consistent services may; whatever changes something is done as usual.
    Stale {
        /// How long ago.
        seconds: u64,
    },
}

/// Whether an operation of this name only looks.
pub(crate) fn only_reads(operation: &str) -> bool {
    ["Describe", "Get", "List"].iter().any(|verb| operation.starts_with(verb))
}

/// Which calls a fault is for. What is not said fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// The service, as IAM spells it.
    pub service: Option<String>,
    /// The operation.
    pub operation: Option<String>,
    /// The region that is called.
    pub region: Option<String>,
    /// How many fitting calls go well first.
    pub after: u64,
    /// How many calls it hits then; all, if not said.
    pub times: Option<u64>,
    /// Hits only this percentage of the fitting calls, evenly spread.
    pub percent: Option<u64>,
}

/// A rule, what it does, and how often it has fitted so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Which calls.
    #[serde(default)]
    pub rule: Rule,
    /// What happens to them.
    pub effect: Effect,
    /// How many calls fitted so far.
    #[serde(default)]
    pub seen: u64,
    /// How many of them were hit.
    #[serde(default)]
    pub hit: u64,
}

impl Fault {
    /// A fault that has not met a call yet.
    pub fn new(rule: Rule, effect: Effect) -> Self {
        Self { rule, effect, seen: 0, hit: 0 }
    }

    /// How far back it looks, in milliseconds.
    pub(crate) fn lag(&self) -> Option<u64> {
        match self.effect {
            Effect::Stale { seconds } => Some(seconds * 1000),
            _ => None,
        }
    }

    fn strikes(&mut self, service: &str, operation: &str, region: &str) -> bool {
        let fits =
            |wanted: &Option<String>, got: &str| wanted.as_ref().is_none_or(|one| one == got);
        let rule = &self.rule;
        if !(fits(&rule.service, service)
            && fits(&rule.operation, operation)
            && fits(&rule.region, region))
        {
            return false;
        }
        self.seen += 1;
        let number = self.seen - 1;
        let in_time = number >= rule.after && rule.times.is_none_or(|times| self.hit < times);
        let drawn = rule.percent.is_none_or(|percent| {
            // Evenly spread: the n-th call is hit when the running share passes a whole number.
            (number + 1) * percent / 100 > number * percent / 100
        });
        let strikes = in_time && drawn;
        self.hit += u64::from(strikes);
        strikes
    }
}

/// The first fault that strikes a call.
pub(crate) fn striking(
    faults: &mut [Fault],
    service: &str,
    operation: &str,
    region: &str,
) -> Option<Effect> {
    let mut found = None;
    for fault in faults {
        if fault.strikes(service, operation, region) && found.is_none() {
            found = Some(fault.effect.clone());
        }
    }
    found
}
