//! Recovery objectives: how long a failover takes at most and how much it may lose, by the settings.
//!
//! Computed at plan and held against the limits there; measured by drills and failovers afterwards. What was
//! measured may raise the allowance for a promotion and never lowers it (failover.md, "The budgets").

use std::fmt;

use super::{mistake::Mistake, spec::FailoverSpec};

/// The longest that a failover may take, in seconds.
pub const RTO_LIMIT: u32 = 300;
/// The most that it may lose, in seconds of writes.
pub const RPO_LIMIT: u32 = 60;
/// How long a look at a database waits for a connection.
pub const CONNECT: u32 = 5;
/// Seconds between two looks.
pub const TICK: u32 = 10;
/// Seconds between two heartbeats: a write between them is not seen.
pub const HEARTBEAT: u32 = 10;
/// What a metric-based health check may lag behind at worst; it runs beside the promotion.
pub const HEALTH_CHECK: u32 = 150;
/// The least that is allowed for a promotion, whatever a good drill measured.
pub const LEAST_PROMOTION: u32 = 150;
/// How much longer a failing instance is given when its zone failed over.
pub const ZONE_PATIENCE: u32 = 90;

/// One part of a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What takes the time.
    pub what: &'static str,
    /// Seconds.
    pub seconds: u32,
}

/// A sum that must not be exceeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// What it is made of.
    pub parts: Vec<Part>,
    /// The most that it may come to.
    pub limit: u32,
}

impl Budget {
    fn new(parts: &[(&'static str, u32)], limit: u32) -> Self {
        let part = |(what, seconds): &(&'static str, u32)| Part { what, seconds: *seconds };
        Self { parts: parts.iter().map(part).collect(), limit }
    }

    /// What it comes to.
    pub fn seconds(&self) -> u32 {
        self.parts.iter().map(|part| part.seconds).sum()
    }

    /// Whether it comes to more than it may.
    pub fn is_exceeded(&self) -> bool {
        self.seconds() > self.limit
    }
}

/// The sum as it is added up: `60 detection + … = 255 of 300`.
impl fmt::Display for Budget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> =
            self.parts.iter().map(|part| format!("{} {}", part.seconds, part.what)).collect();
        write!(out, "{} = {} of {} s", parts.join(" + "), self.seconds(), self.limit)
    }
}

/// All budgets of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objectives {
    /// From the loss of the writer's region to the first write in the other one.
    pub lost_region: Budget,
    /// From the loss of the writer alone.
    pub lost_instance: Budget,
    /// The same when its zone had failed over just before: outside the target, and said so.
    pub lost_after_zone: u32,
    /// What may be lost.
    pub data_loss: Budget,
}

impl Objectives {
    /// What settings come to, with a promotion that was measured to take so long (in seconds).
    pub fn new(spec: &FailoverSpec, ttl: u32, measured: Option<u32>) -> Self {
        let promotion = spec.promotion_allowance.max(measured.unwrap_or(0));
        let moving = promotion.max(HEALTH_CHECK);
        let region = [
            ("detection", spec.region_detection),
            ("connect", CONNECT),
            ("tick", TICK),
            ("promotion or DNS", moving),
            ("TTL", ttl),
        ];
        let mut instance = region;
        instance[0].1 = spec.instance_detection;
        let lost_instance = Budget::new(&instance, RTO_LIMIT);
        Self {
            lost_region: Budget::new(&region, RTO_LIMIT),
            lost_after_zone: lost_instance.seconds() + ZONE_PATIENCE,
            lost_instance,
            data_loss: Budget::new(
                &[("largest loss", spec.max_data_loss), ("heartbeat", HEARTBEAT)],
                RPO_LIMIT,
            ),
        }
    }

    /// What settings exceed, as mistakes at the argument that can mend it best.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let rows = [
            ("failover.region_detection", "a lost region", "RTO", &self.lost_region),
            ("failover.instance_detection", "a lost instance", "RTO", &self.lost_instance),
            ("failover.max_data_loss", "a failover", "RPO", &self.data_loss),
        ];
        let over = rows.into_iter().filter(|(.., budget)| budget.is_exceeded());
        over.map(|(argument, what, word, budget)| {
            Mistake::new(
                argument,
                format!("The {word} of {what} would be {} s", budget.seconds()),
                format!("{budget}. Lower one of the parts."),
            )
        })
        .collect()
    }
}

/// The allowance that measurements ask for: the longest of the last five, and a fifth more.
pub fn allowance(measured: &[u32]) -> Option<u32> {
    let longest = measured.iter().rev().take(5).max()?;
    Some(longest + longest / 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_come_to_what_the_design_says() {
        let objectives = Objectives::new(&FailoverSpec::default(), 30, None);
        assert_eq!(
            objectives.lost_region.to_string(),
            "60 detection + 5 connect + 10 tick + 150 promotion or DNS + 30 TTL = 255 of 300 s"
        );
        assert_eq!(objectives.lost_instance.seconds(), 300);
        assert_eq!((objectives.lost_after_zone, objectives.data_loss.seconds()), (390, 60));
        assert!(objectives.mistakes().is_empty());
    }

    #[test]
    fn a_sum_over_its_limit_is_a_mistake_that_shows_it() {
        let objectives = Objectives::new(&FailoverSpec::default(), 60, None);
        let found = objectives.mistakes();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].argument, "failover.instance_detection");
        assert!(found[0].detail.contains("60 TTL = 330 of 300 s"), "{}", found[0].detail);
    }

    #[test]
    fn measurements_raise_the_allowance_and_never_lower_it() {
        assert_eq!(allowance(&[]), None);
        assert_eq!(allowance(&[900, 100, 100, 100, 100, 200]), Some(240));
        let spec = FailoverSpec::default();
        let with = |measured| Objectives::new(&spec, 30, measured).lost_region.seconds();
        assert_eq!((with(Some(20)), with(Some(240))), (255, 345));
    }
}
