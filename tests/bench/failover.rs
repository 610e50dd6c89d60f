//! What a failover of real databases takes beside RDS's own time, and what being watched costs a writer.

use std::path::Path;

use trading::cluster::spec::FailoverSpec;

use super::{median, row};
use crate::{
    laboratory::{Stage, alone, programs, region_lost},
    support::agent::{EAST, WEST},
};

/// How often a region is lost: the moment between two looks of a monitor at which it happens is chance.
const LOSSES: usize = 3;
/// How often throughput is measured with the functions and without.
const PAIRS: usize = 12;
/// For how many seconds, each time.
const SECONDS: u32 = 20;

pub(super) fn figures(provider: &Path, archive: &Path) {
    let Some(programs) = programs() else { return };
    let _machine = alone();
    let detection = f64::from(FailoverSpec::default().region_detection);
    let (mut control, mut peak) = (Vec::new(), 0);
    for loss in 0..LOSSES {
        let mut stage = Stage::make_of(programs.clone(), provider, archive);
        if loss == 0 {
            let costs = watching(&mut stage);
            row("writes per second that being watched costs, %", estimate(&costs), "≤ 1");
            stage.must_follow();
        }
        let (story, _) = region_lost(&stage, |_| {});
        control.push(story.noted("accepted") - detection);
        peak = [EAST, WEST]
            .map(|region| stage.memory(region))
            .into_iter()
            .max()
            .unwrap_or(0)
            .max(peak);
        // Or nothing could be removed there.
        stage.with(|world| world.set_lost(EAST, false));
        stage.end();
    }
    row("failover: beyond detection and promotion, s", median(control), "≤ 15");
    row("peak memory of a function under load, MB", peak.to_string(), "≤ 64");
}

/// A mean and its standard error: single measurements differ by more than what is looked for.
fn estimate(all: &[f64]) -> String {
    let count = all.len() as f64;
    let mean = all.iter().sum::<f64>() / count;
    let spread = all.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (count - 1.0);
    format!("{mean:.1} ± {:.1}", (spread / count).sqrt())
}

/// By how much fewer transactions a watched writer takes, in percent, each time. In real time: there, a heartbeat
/// is written every ten seconds. Every other pair begins with the functions, so that what drifts meanwhile cancels out.
fn watching(stage: &mut Stage) -> Vec<f64> {
    stage.served.sandbox.set_scale(1.0);
    stage.transactions(None);
    let mut measured = |is_watched: bool| {
        stage.set_watched(is_watched);
        if is_watched {
            // A run begins with the minute.
            stage.served.sandbox.set_scale(crate::laboratory::SCALE);
            stage.served.pass(61);
            stage.served.sandbox.set_scale(1.0);
        }
        stage.transactions(Some(SECONDS))
    };
    let costs = (0..PAIRS).map(|pair| {
        let first = measured(pair % 2 == 1);
        let second = measured(pair % 2 == 0);
        let (alone, watched) = if pair % 2 == 0 { (first, second) } else { (second, first) };
        (1.0 - watched / alone) * 100.0
    });
    let costs = costs.collect();
    stage.set_watched(true);
    stage.served.sandbox.set_scale(crate::laboratory::SCALE);
    costs
}
