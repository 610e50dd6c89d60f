//! What a failover of real databases takes beside RDS's own time, and what being watched costs a writer.

use std::path::Path;

use trading::cluster::spec::FailoverSpec;

use super::{median, row};
use crate::{
    laboratory::{Stage, alone, programs, region_lost},
    support::agent::{EAST, WEST},
};

/// How often throughput is measured with the functions and without.
const PAIRS: usize = 3;
/// For how many seconds, each time.
const SECONDS: u32 = 20;

pub(super) fn figures(provider: &Path, archive: &Path) {
    let Some(programs) = programs() else { return };
    let _machine = alone();
    let mut stage = Stage::make_of(programs, provider, archive);
    let costs = watching(&mut stage);
    row("writes per second that being watched costs, %", median(costs), "≤ 1");
    stage.must_follow();
    let (story, _) = region_lost(&stage, |_| {});
    let detection = FailoverSpec::default().region_detection;
    let control = story.noted("accepted") - f64::from(detection);
    row("failover: beyond detection and promotion, s", format!("{control:.1}"), "≤ 15");
    let peak = [EAST, WEST].map(|region| stage.memory(region)).into_iter().max().unwrap_or(0);
    row("peak memory of a function under load, MB", peak.to_string(), "≤ 64");
    // Or nothing could be removed there.
    stage.with(|world| world.set_lost(EAST, false));
    stage.end();
}

/// By how much fewer transactions a watched writer takes, in percent, each time. In real time: there, a heartbeat
/// is written every ten seconds.
fn watching(stage: &mut Stage) -> Vec<f64> {
    stage.served.sandbox.set_scale(1.0);
    stage.transactions(None);
    let costs = (0..PAIRS).map(|_| {
        stage.set_watched(false);
        let alone = stage.transactions(Some(SECONDS));
        stage.set_watched(true);
        // A run begins with the minute.
        stage.served.pass(61);
        let watched = stage.transactions(Some(SECONDS));
        (1.0 - watched / alone) * 100.0
    });
    let costs = costs.collect();
    stage.served.sandbox.set_scale(crate::laboratory::SCALE);
    costs
}
