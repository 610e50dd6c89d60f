//! The concurrency that Lambda reserves for monitors and probes, of what an account may run at once in a region. Whatever
//! is not reserved, any other function of the account can use up, and then nobody watches. Nothing that is done rests on
//! it: two runs too many are told apart by conditional writes.

use std::collections::BTreeMap;

use super::{
    mistake::Mistake,
    names::{Name, Suffix},
    spec::{Site, Spec},
    surroundings::Surroundings,
};
use crate::{
    aws::{ApiError, ErrorClass},
    components::{
        Env,
        lambda_function::{Reservation, reserved_concurrency},
    },
};

/// The argument that says whether.
const ARGUMENT: &str = "failover.reserve_concurrency";
/// For each function: of a monitor, five runs overlap at most where none can tell that a newer one leads, each asks one
/// probe at a time, and runs that humans ask for come on top.
const RUNS: i32 = 10;
/// The functions that have to run whatever else does.
const FUNCTIONS: [Name; 2] = [Name::Monitor, Name::Probe];
/// What Lambda leaves to functions without a reservation (aws-facts 12b).
const OTHERS: i32 = 100;

/// What a region has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// What is reserved for each of [`FUNCTIONS`].
    reserved: [i32; 2],
    /// What is reserved for nobody, and what clusters hold that go before this one comes.
    free: Free,
}

/// What can be had in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Free {
    /// Nothing more is wanted.
    NotAsked,
    /// So many runs, those that are left to others among them.
    Runs(i32),
    /// Whoever plans may not ask.
    Denied,
}

impl Concurrency {
    /// Looks at a site's region. What is all reserved already is not asked for, and no call is made for it that is not
    /// made anyway.
    ///
    /// # Errors
    /// A look failed.
    pub async fn find(env: &Env, spec: &Spec, site: Site) -> Result<Self, ApiError> {
        let region = &spec.site(site).region;
        let reserved = reserved_for(env, region, &spec.suffix).await?;
        if missing(reserved) == 0 {
            return Ok(Self { reserved, free: Free::NotAsked });
        }
        let mut leaving = 0;
        for suffix in env.scope.leaving.iter().filter_map(|one| Suffix::parse(one).ok()) {
            leaving += match reserved_for(env, region, &suffix).await {
                Ok(theirs) => theirs.iter().sum(),
                Err(error) if error.class == ErrorClass::Denied => 0,
                Err(error) => return Err(error),
            };
        }
        let regional = env.region(region);
        let api = regional.api("lambda", "GetAccountSettings");
        let call = || regional.lambda.get_account_settings().send();
        let free = match env.session.call(api, call).await {
            Ok(answer) => {
                let limit =
                    answer.account_limit.and_then(|one| one.unreserved_concurrent_executions);
                Free::Runs(limit.unwrap_or(0) + leaving)
            }
            // Those who may do all that is needed are not kept from it by what is not.
            Err(error) if error.class == ErrorClass::Denied => Free::Denied,
            Err(error) => return Err(error),
        };
        Ok(Self { reserved, free })
    }

    /// Whether all that is missing can be had.
    fn has_room(self) -> bool {
        match self.free {
            Free::NotAsked => true,
            // What one of them has too much is there for the other.
            Free::Runs(free) => {
                let surplus: i32 = self.reserved.iter().map(|own| (own - RUNS).max(0)).sum();
                free + surplus - OTHERS >= missing(self.reserved)
            }
            Free::Denied => false,
        }
    }

    /// Whether it is to be reserved for a function: where it is, it stays, whatever becomes of the other one's.
    fn serves(self, index: usize) -> bool {
        self.reserved[index] >= RUNS || self.has_room()
    }
}

async fn reserved_for(env: &Env, region: &str, suffix: &Suffix) -> Result<[i32; 2], ApiError> {
    let [monitor, probe] = FUNCTIONS.map(|name| name.of(suffix));
    let (monitor, probe) = futures::try_join!(
        reserved_concurrency(env, region, &monitor),
        reserved_concurrency(env, region, &probe)
    )?;
    Ok([monitor, probe])
}

/// How much more has to be reserved.
fn missing(reserved: [i32; 2]) -> i32 {
    reserved.iter().map(|own| (RUNS - own).max(0)).sum()
}

/// What both regions have, if something is to be reserved.
///
/// # Errors
/// A look failed.
pub async fn find(env: &Env, spec: &Spec) -> Result<BTreeMap<Site, Concurrency>, ApiError> {
    if spec.failover.reserve_concurrency == Some(false) {
        return Ok(BTreeMap::new());
    }
    let [primary, dr] = Site::ALL;
    let look = |site| Concurrency::find(env, spec, site);
    let (one, other) = futures::try_join!(look(primary), look(dr))?;
    Ok([(primary, one), (dr, other)].into())
}

/// What is reserved for a function in a region.
pub fn reservation(
    spec: &Spec,
    surroundings: &Surroundings,
    region: &str,
    function: Name,
) -> Reservation {
    let Some(index) = FUNCTIONS.iter().position(|one| *one == function) else {
        return Reservation::default();
    };
    let is_possible = || {
        let here = Site::ALL.into_iter().find(|site| spec.site(*site).region == region);
        let found = here.and_then(|site| surroundings.concurrency.get(&site));
        found.is_some_and(|found| found.serves(index))
    };
    let is_wanted = spec.failover.reserve_concurrency.unwrap_or_else(is_possible);
    Reservation { runs: is_wanted.then_some(RUNS), argument: ARGUMENT }
}

/// Which regions have no room, and what they have.
fn short(spec: &Spec, surroundings: &Surroundings) -> Vec<String> {
    let all = surroundings.concurrency.iter().filter(|(_, found)| !found.has_room());
    let each = all.map(|(site, found)| {
        let has = match found.free {
            Free::Runs(free) => format!("has {free} that nothing reserves"),
            Free::NotAsked | Free::Denied => "lambda:GetAccountSettings is denied".into(),
        };
        let region = &spec.site(*site).region;
        format!("{region} needs {} more and {has}", missing(found.reserved))
    });
    each.collect()
}

fn why(short: &[String]) -> String {
    format!(
        "Monitor and probe are to have {RUNS} runs at once reserved each, and Lambda leaves {OTHERS} in each region to \
         functions without a reservation: {}.",
        short.join("; ")
    )
}

/// Whether the quota of a region is not for whoever plans to know.
fn is_denied(surroundings: &Surroundings) -> bool {
    surroundings.concurrency.values().any(|one| one.free == Free::Denied)
}

/// What cannot be reserved although it is wanted. What nobody may ask for beforehand, Lambda says at apply.
pub fn mistake(spec: &Spec, surroundings: &Surroundings) -> Option<Mistake> {
    let short = short(spec, surroundings);
    let is_wrong = spec.failover.reserve_concurrency == Some(true) && !short.is_empty();
    (is_wrong && !is_denied(surroundings)).then(|| {
        let detail = format!(
            "{} Ask AWS for a higher quota of concurrent executions there, or leave the argument out: it is then reserved \
             once there is room.",
            why(&short)
        );
        Mistake::new(ARGUMENT, "Lambda's quota has no room for what is to be reserved", detail)
    })
}

/// What somebody should know where the account decides, and has no room: a summary and a detail.
pub fn warning(spec: &Spec, surroundings: &Surroundings) -> Option<(&'static str, String)> {
    let short = short(spec, surroundings);
    let counts = spec.failover.reserve_concurrency.is_none()
        && !spec.unknown.contains(ARGUMENT)
        && !short.is_empty();
    counts.then(|| {
        let way = if is_denied(surroundings) {
            "Allow it to whoever plans and to whoever applies"
        } else {
            "Ask AWS for a higher quota of concurrent executions: the next plan reserves it"
        };
        let detail = format!(
            "{} Other functions of the account may use up what the monitors need, and a lost region would then be noticed \
             late or not at all. {way}. Where nothing else runs there, {ARGUMENT} = false says so.",
            why(&short)
        );
        ("Nothing keeps other functions from displacing the monitors", detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serves(reserved: [i32; 2], free: Free) -> [bool; 2] {
        let found = Concurrency { reserved, free };
        [found.serves(0), found.serves(1)]
    }

    #[test]
    fn what_is_reserved_stays_and_what_is_missing_needs_room() {
        assert_eq!(serves([0, 0], Free::Runs(120)), [true, true]);
        assert_eq!(serves([0, 0], Free::Runs(119)), [false, false], "100 are left to others");
        assert_eq!(serves([10, 0], Free::Runs(110)), [true, true], "half of it is there");
        assert_eq!(serves([10, 0], Free::Runs(109)), [true, false], "and stays");
        assert_eq!(serves([20, 0], Free::Runs(100)), [true, true], "one has too much");
        assert_eq!(serves([15, 0], Free::Runs(100)), [true, false]);
        assert_eq!(serves([10, 10], Free::NotAsked), [true, true]);
        assert_eq!(serves([0, 0], Free::Runs(10)), [false, false], "a new account");
        assert_eq!(serves([10, 0], Free::Denied), [true, false]);
    }
}
