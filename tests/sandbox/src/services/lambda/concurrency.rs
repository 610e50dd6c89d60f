//! How many runs of functions there may be at once in a region, and what of it is reserved for single functions.

use serde_json::json;

use super::{FUNCTION, found, found_mut, invalid, name, settled};
use crate::{
    request::{Failure, Reply, Request},
    world::World,
};

/// What an account has in each region (Lambda guide, "Lambda quotas"). New ones have 10 (aws-facts 12b).
pub(crate) const QUOTA: u64 = 1_000;

/// What must be left for functions without a reservation (aws-facts 12b).
const LEFT: u64 = 100;

/// What is reserved for functions of a region, but for one of them.
fn reserved(world: &World, region: &str, but: &str) -> u64 {
    let others = world.table(region, FUNCTION).iter().filter(|(id, _)| *id != but);
    others.filter_map(|(_, one)| one["_reserved"].as_u64()).sum()
}

/// Among whose runs those of a function count, its own or those of all without a reservation, and how many there may
/// be.
pub(crate) fn room(world: &World, region: &str, function: &str) -> (String, u64) {
    let own = world.get(region, FUNCTION, function).and_then(|one| one["_reserved"].as_u64());
    match own {
        Some(own) => (format!("{region} {function}"), own),
        None => (region.to_owned(), world.concurrency.saturating_sub(reserved(world, region, ""))),
    }
}

impl World {
    /// Gives the account another quota of functions that run at once, in each region.
    pub fn set_concurrency(&mut self, quota: u64) {
        self.concurrency = quota;
    }
}

pub(super) fn settings(world: &mut World, request: &Request) -> Reply {
    let functions = world.table(&request.region, FUNCTION);
    let size: u64 = functions.values().filter_map(|one| one["CodeSize"].as_u64()).sum();
    let unreserved = world.concurrency.saturating_sub(reserved(world, &request.region, ""));
    Ok(json!({
        "AccountLimit": {
            "TotalCodeSize": 80_530_636_800_u64, "CodeSizeUnzipped": 262_144_000, "CodeSizeZipped": 52_428_800,
            "ConcurrentExecutions": world.concurrency, "UnreservedConcurrentExecutions": unreserved,
        },
        "AccountUsage": {"TotalCodeSize": size, "FunctionCount": functions.len()},
    }))
}

pub(super) fn put(world: &mut World, request: &Request) -> Reply {
    settled(found(world, request)?)?;
    let wanted = request.number("ReservedConcurrentExecutions").unwrap_or(-1);
    let Ok(wanted) = u64::try_from(wanted) else {
        return Err(Failure::new(
            "ValidationException",
            "ReservedConcurrentExecutions is 0 or more",
        ));
    };
    let others = reserved(world, &request.region, &name(request));
    if wanted + others + LEFT > world.concurrency {
        return Err(invalid(format!(
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [{LEFT}]."
        )));
    }
    found_mut(world, request)?["_reserved"] = wanted.into();
    Ok(json!({"ReservedConcurrentExecutions": wanted}))
}

pub(super) fn delete(world: &mut World, request: &Request) -> Reply {
    if let Some(function) = found_mut(world, request)?.as_object_mut() {
        function.remove("_reserved");
    }
    Ok(json!({"_status": 204}))
}
