//! What is kept for monitors and probes of the runs that Lambda lets an account have at once in a region. Whatever is
//! not kept for a function, any other one of the account can use up, and then nobody watches. Nothing that is done
//! rests on it: two runs too many are told apart by conditional writes.

use super::{
    mistake::Mistake,
    names::Name,
    spec::{Site, Spec},
    surroundings::Surroundings,
};
use crate::{
    aws::ApiError,
    components::{
        Env,
        lambda_function::{Reservation, reserved},
    },
};

/// The argument that says whether.
const ARGUMENT: &str = "failover.reserve_concurrency";
/// What is kept for each function: of a monitor, five runs overlap at most where none can tell that a newer one leads,
/// each asks one probe at a time, and runs that humans ask for come on top.
const RUNS: i32 = 10;
/// The functions.
const FUNCTIONS: [Name; 2] = [Name::Monitor, Name::Probe];
/// What Lambda leaves to functions for which nothing is kept (aws-facts 12b).
const OTHERS: i32 = 100;

/// What a region has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// What is kept for them already.
    reserved: i32,
    /// What is kept for nobody; not asked for where nothing more is to be kept.
    unreserved: Option<i32>,
}

impl Concurrency {
    fn wanted() -> i32 {
        FUNCTIONS.iter().map(|_| RUNS).sum()
    }

    /// Looks at a site's region.
    ///
    /// # Errors
    /// A look failed.
    pub async fn find(env: &Env, spec: &Spec, site: Site) -> Result<Self, ApiError> {
        let region = &spec.site(site).region;
        let own = FUNCTIONS.map(|name| name.of(&spec.suffix));
        let own = own.iter().map(|name| reserved(env, region, name));
        let reserved = futures::future::try_join_all(own).await?.iter().sum();
        if reserved >= Self::wanted() {
            return Ok(Self { reserved, unreserved: None });
        }
        let regional = env.region(region);
        let api = regional.api("lambda", "GetAccountSettings");
        let call = || regional.lambda.get_account_settings().send();
        let limit = env.session.call(api, call).await?.account_limit;
        let unreserved = limit.and_then(|one| one.unreserved_concurrent_executions);
        Ok(Self { reserved, unreserved: Some(unreserved.unwrap_or(0)) })
    }

    /// Whether it is enough. What is kept already counts, so that what was taken once is not given back.
    fn has_room(self) -> bool {
        let free = self.unreserved.map_or(0, |free| free - OTHERS);
        self.reserved + free.max(0) >= Self::wanted()
    }
}

/// What is kept for a function of a site.
pub fn reservation(
    spec: &Spec,
    surroundings: &Surroundings,
    region: &str,
    name: Name,
) -> Reservation {
    if !FUNCTIONS.contains(&name) {
        return Reservation::default();
    }
    let has_room = || {
        let here = Site::ALL.into_iter().find(|site| spec.site(*site).region == region);
        let found = here.and_then(|site| surroundings.concurrency.get(&site));
        found.is_some_and(|found| found.has_room())
    };
    let is_wanted = spec.failover.reserve_concurrency.unwrap_or_else(has_room);
    Reservation { runs: is_wanted.then_some(RUNS), argument: ARGUMENT }
}

/// Which regions have no room, and what they have.
fn short(spec: &Spec, surroundings: &Surroundings) -> Vec<String> {
    let all = surroundings.concurrency.iter().filter(|(_, found)| !found.has_room());
    let each = all.map(|(site, found)| {
        let free = found.unreserved.unwrap_or(0);
        format!("{} has {free} that nothing is kept of", spec.site(*site).region)
    });
    each.collect()
}

fn why(short: &[String]) -> String {
    format!(
        "{} runs at once would be kept in each region for the functions that watch, and Lambda leaves {OTHERS} to all \
         others: {}.",
        Concurrency::wanted(),
        short.join(", ")
    )
}

/// What cannot be kept although it is wanted.
pub fn mistake(spec: &Spec, surroundings: &Surroundings) -> Option<Mistake> {
    let short = short(spec, surroundings);
    let is_wrong = spec.failover.reserve_concurrency == Some(true) && !short.is_empty();
    is_wrong.then(|| {
        let detail = format!(
            "{} Ask AWS for a higher quota of concurrent executions there, or leave the argument out: runs are then kept \
             once there is room.",
            why(&short)
        );
        Mistake::new(ARGUMENT, "Lambda's quota has no room for what is to be kept", detail)
    })
}

/// What somebody should know where the account decides, and has no room: a summary and a detail.
pub fn warning(spec: &Spec, surroundings: &Surroundings) -> Option<(&'static str, String)> {
    let short = short(spec, surroundings);
    let counts = spec.failover.reserve_concurrency.is_none()
        && !spec.unknown.contains(ARGUMENT)
        && !short.is_empty();
    counts.then(|| {
        let detail = format!(
            "{} Other functions of the account may use up what the monitors need, and a lost region would then be noticed \
             late or not at all. Ask AWS for a higher quota of concurrent executions; a plan after that keeps them. Where \
             nothing else runs there, {ARGUMENT} = false says so.",
            why(&short)
        );
        ("Nothing keeps other functions from displacing the monitors", detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_already_counts_as_room() {
        let has_room = |reserved, unreserved| Concurrency { reserved, unreserved }.has_room();
        assert!(has_room(0, Some(120)) && !has_room(0, Some(119)), "100 are left to others");
        assert!(has_room(10, Some(110)) && !has_room(10, Some(109)), "half of it was kept");
        assert!(has_room(20, None), "all of it was");
        assert!(!has_room(0, Some(10)) && !has_room(10, Some(10)), "a new account");
    }
}
