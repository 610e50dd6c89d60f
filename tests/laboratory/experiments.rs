//! What is known of failovers by experiment. `make experiments` makes each three times and prints what was measured;
//! `make test` makes two of them, `make demo` two others.

use aws_sandbox::Programs;
use trading::{
    cluster::{objectives::Objectives, spec::FailoverSpec},
    contract::drill::Drills,
};

use super::{
    alone,
    application::{Application, Row},
    stage::{Stage, ledger},
    story::{Story, seconds},
};
use crate::support::{
    agent::{EAST, WEST, WITNESS, remembered_in},
    aws::connect,
};

/// What a failover's message says of a region that was only cut off, in seconds: "up to a minute more".
const OF_THE_CUT_OFF: u64 = 60;
/// How long applications write before trouble begins, in seconds.
const BEFORE: u64 = 60;

/// What an experiment measured.
#[derive(Debug)]
pub struct Measured {
    what: &'static str,
    /// From the trouble to the first write in the other region, and what it may take; nothing where nobody may be
    /// promoted.
    recovery: Option<(f64, u32)>,
    /// Rows that were acknowledged, and those of them that are nowhere where the cluster serves now.
    rows: (usize, usize),
    /// Seconds of writes that are lost, and what the monitors reported that were at most.
    loss: Option<(f64, u64)>,
    more: String,
}

impl Measured {
    fn print(&self) {
        let recovery = self.recovery.map_or_else(
            || "nobody promoted".to_owned(),
            |(took, budget)| format!("{took:.0} of {budget} s"),
        );
        let loss = self.loss.map_or_else(String::new, |(lost, reported)| {
            format!("{lost:.1} s, ≤ {reported} s reported")
        });
        let (written, missing) = self.rows;
        println!(
            "| {:<44} | {recovery:<15} | {written:>6} | {missing:>6} | {loss:<26} | {} |",
            self.what, self.more
        );
    }
}

impl Measured {
    /// Seconds that are lost, and that were reported.
    pub fn loss(&self) -> (f64, u64) {
        self.loss.unwrap_or_default()
    }

    /// Rows that were acknowledged, and that are missing.
    pub fn rows(&self) -> (usize, usize) {
        self.rows
    }

    /// What else there is to say.
    pub fn more(&self) -> &str {
        &self.more
    }
}

fn heading() {
    println!(
        "| {:<44} | {:<15} | {:>6} | {:>6} | {:<26} | more |",
        "experiment", "recovery", "rows", "lost", "loss"
    );
    println!("|{:-<46}|{:-<17}|{:->8}|{:->8}|{:-<28}|---|", "", "", ":", ":", "");
}

fn budget() -> u32 {
    Objectives::new(&FailoverSpec::default(), 30, None).lost_region.seconds()
}

/// Of what was acknowledged before a moment: how long after the newest row that is still there the last one was
/// acknowledged.
fn lost(application: &Application, missing: &[Row], until: u64) -> f64 {
    let is_missing = |row: &Row| missing.iter().any(|one| one.number == row.number);
    let rows = application.rows().into_iter().filter(|row| row.at <= until);
    let (gone, there): (Vec<Row>, Vec<Row>) = rows.partition(is_missing);
    let newest = |rows: &[Row]| rows.iter().map(|row| row.at).max();
    match (newest(&gone), newest(&there)) {
        (Some(last), Some(kept)) => seconds(last.saturating_sub(kept)),
        (Some(last), None) => seconds(last),
        (None, _) => 0.0,
    }
}

/// The link between the regions is cut while nobody writes: the standby sees no progress, and the lease is renewed.
fn idle(stage: &Stage) -> Measured {
    stage.with(|world| world.set_cut(EAST, WEST, true));
    stage.served.pass(180);
    must_be_as_before(stage);
    stage.with(|world| world.set_cut(EAST, WEST, false));
    stage.must_follow();
    Measured {
        what: "idle primary, its link cut for 3 minutes",
        recovery: None,
        rows: (0, 0),
        loss: None,
        more: String::new(),
    }
}

fn must_be_as_before(stage: &Stage) {
    assert_eq!(stage.phase(), "normal");
    stage.with(|world| {
        assert!(!Stage::is_closed(world, EAST), "applications are kept out");
        assert_eq!(remembered_in(world, EAST, "ledger")["held"], true);
    });
}

/// The regions are cut off from each other while the primary region's applications write.
fn partition(stage: &Stage) -> Measured {
    let local = stage.application("partition", EAST);
    stage.served.pass(BEFORE);
    let began = stage.now();
    stage.with(|world| world.set_cut(EAST, WEST, true));
    stage.served.pass(180);
    must_be_as_before(stage);
    let silence = seconds(local.longest_silence(began, stage.now()));
    assert!(silence < 10.0, "{silence} s without a write");
    stage.with(|world| world.set_cut(EAST, WEST, false));
    stage.must_follow();
    let written = stop(local);
    stage.must_follow();
    let copied = stage.copied("partition");
    let missing = written.iter().filter(|number| !copied.contains(number)).count();
    assert_eq!(missing, 0, "everything reached the standby");
    Measured {
        what: "regions cut off for 3 minutes, local writers",
        recovery: None,
        rows: (written.len(), missing),
        loss: None,
        more: format!("longest pause of a writer {silence:.1} s"),
    }
}

/// Ends an application; the numbers of its rows.
fn stop(application: Application) -> Vec<u64> {
    let rows = application.rows();
    drop(application);
    rows.into_iter().map(|row| row.number).collect()
}

/// RDS moves the writer to its other zone under load.
fn zone(stage: &Stage) -> Measured {
    let (near, far) = (stage.application("zone-near", EAST), stage.application("zone-far", WEST));
    stage.served.pass(BEFORE);
    let began = stage.now();
    stage.fail_zone_over();
    stage.served.pass(180);
    must_be_as_before(stage);
    let silence = |one: &Application| seconds(one.longest_silence(began, stage.now()));
    let (near_silence, far_silence) = (silence(&near), silence(&far));
    let back = |one: &Application| one.first_after(stage.now() - 30_000).is_some();
    assert!(back(&near) && back(&far), "{near_silence} s and {far_silence} s without a write");
    let (mut written, mut missing) = (0, 0);
    for one in [near, far] {
        let name = one.name.clone();
        let rows = stop(one);
        let present = stage.present(EAST, &name);
        written += rows.len();
        missing += rows.iter().filter(|number| !present.contains(number)).count();
    }
    assert_eq!(missing, 0);
    stage.must_follow();
    Measured {
        what: "Multi-AZ failover under load",
        recovery: None,
        rows: (written, missing),
        loss: None,
        more: format!("longest pause of a writer {:.0} s", near_silence.max(far_silence)),
    }
}

/// A drill under load.
fn drill(stage: &mut Stage) -> Measured {
    // Until both sides have their first backup.
    stage.skip(12 * 3600);
    let writer = stage.application("drill", EAST);
    stage.served.pass(BEFORE);
    let began = stage.now();
    stage.served.block_on(async {
        let lambda = connect(&stage.served.sandbox).await.region(WEST).lambda.clone();
        let payload = aws_sdk_lambda::primitives::Blob::new(r#"{"action": "drill"}"#);
        let call = lambda.invoke().function_name("trading-db-drill-prod").payload(payload);
        let call = call.invocation_type(aws_sdk_lambda::types::InvocationType::Event);
        call.send().await.unwrap();
    });
    let drills = |world: &aws_sandbox::World| -> Drills {
        serde_json::from_value(remembered_in(world, WEST, "drill")).unwrap_or_default()
    };
    for _ in 0..3600 {
        if !stage.with(|world| drills(world)).past.is_empty() {
            break;
        }
        stage.served.pass(1);
    }
    let underway = stage.with(|world| remembered_in(world, WEST, "drill"));
    assert!(underway["past"][0].is_object(), "no drill is held: {underway:#}");
    let last = stage.with(|world| drills(world)).past.pop().unwrap();
    assert_eq!(last.failure, None);
    must_be_as_before(stage);
    let silence = seconds(writer.longest_silence(began, stage.now()));
    let written = stop(writer);
    let present = stage.present(EAST, "drill");
    let missing = written.iter().filter(|number| !present.contains(number)).count();
    assert_eq!(missing, 0);
    let (promotion, behind) = (last.promotion.unwrap(), last.heartbeat_age.unwrap());
    Measured {
        what: "drill under load",
        recovery: None,
        rows: (written.len(), missing),
        loss: None,
        more: format!(
            "copy promoted in {promotion} s, {behind} s behind; promotion blocked for {} s; longest pause of a writer \
             {silence:.1} s",
            last.blocked
        ),
    }
}

/// The whole primary region is lost under load, and comes back.
pub fn region_lost(stage: &Stage, mut tell: impl FnMut(&super::story::Event)) -> (Story, Measured) {
    let (near, far) = (stage.application("lost-near", EAST), stage.application("lost-far", WEST));
    stage.served.pass(BEFORE);
    let began = stage.now();
    stage.with(|world| world.set_lost(EAST, true));
    let story = Story::follow(stage, began, &far, &mut tell);
    let (mut written, mut gone, mut seconds_lost) = (0, 0, 0.0_f64);
    for one in [near, far] {
        let (rows, missing) = stage.missing(WEST, &one);
        written += rows;
        gone += missing.len();
        seconds_lost = seconds_lost.max(lost(&one, &missing, began + 1_000));
    }
    let measured = Measured {
        what: "region lost under load",
        recovery: Some((story.recovery_time(), budget())),
        rows: (written, gone),
        loss: Some((seconds_lost, story.reported_loss)),
        more: format!("decided after {:.0} s", story.noted("decided")),
    };
    must_be_within(&measured);
    (story, measured)
}

fn must_be_within(measured: &Measured) {
    let (took, budget) = measured.recovery.unwrap();
    let (lost, reported) = measured.loss.unwrap();
    assert!(took <= f64::from(budget), "{measured:?}");
    assert!(lost <= reported_seconds(reported), "{measured:?}");
}

#[allow(clippy::cast_precision_loss)]
fn reported_seconds(reported: u64) -> f64 {
    reported as f64
}

/// The lost region comes back: its applications go by the name, one knows the old writer only.
pub fn region_returns(stage: &Stage) -> Measured {
    let endpoint = stage.attribute("primary_endpoint");
    let (near, stubborn) =
        (stage.application("back-near", EAST), stage.stubborn("back-stubborn", EAST, endpoint));
    let began = stage.now();
    stage.with(|world| world.set_lost(EAST, false));
    stage.served.until(900, "the old writer is closed and restarted", |world| {
        let ended = ledger(world)["timeline"].as_array().cloned().unwrap_or_default();
        Stage::is_closed(world, EAST) && ended.iter().any(|one| one["what"] == "sessions_ended")
    });
    let closed = stage.now();
    stage.served.pass(120);
    let after = stubborn.first_after(closed + 60_000);
    assert!(after.is_none(), "somebody writes to the old writer: {after:?}");
    let (written, missing) = stage.missing(WEST, &near);
    assert!(missing.is_empty(), "by the name, nobody reaches the old writer: {missing:?}");
    let split = stubborn.rows().len();
    assert!(written > 0, "the returned region's applications write by the name");
    stage.must_have_failed_over();
    Measured {
        what: "the region comes back",
        recovery: None,
        rows: (written, missing.len()),
        loss: None,
        more: format!(
            "old writer closed and restarted after {:.0} s; {split} rows by its own endpoint until then, none by the \
             name",
            seconds(closed - began)
        ),
    }
}

/// The primary region is cut off from the other one and from the witness: its guard closes it before anybody else
/// is promoted.
fn isolated(stage: &Stage) -> Measured {
    let (near, far) = (stage.application("cut-near", EAST), stage.application("cut-far", WEST));
    stage.served.pass(BEFORE);
    let began = stage.now();
    stage.with(|world| {
        world.set_cut(EAST, WEST, true);
        world.set_cut(EAST, WITNESS, true);
    });
    let story = Story::follow(stage, began, &far, |_| {});
    stage.with(|world| {
        assert!(Stage::is_closed(world, EAST), "its monitor has not closed it");
        let told = world.messages(WEST, "trading-db-alerts-prod");
        let says =
            |one: &serde_json::Value| one["message"].to_string().contains("was only cut off");
        assert!(told.iter().any(says), "{told:#?}");
    });
    let accepted = story.moment("accepted");
    let last = near.rows().into_iter().map(|row| row.at).max().unwrap();
    assert!(last < accepted, "it wrote {} ms after the promotion", last - accepted);
    let (written, missing) = stage.missing(WEST, &near);
    let measured = Measured {
        what: "region cut off from both others, local writers",
        recovery: Some((story.recovery_time(), budget())),
        rows: (written, missing.len()),
        loss: Some((lost(&near, &missing, accepted), OF_THE_CUT_OFF)),
        more: format!(
            "it closed itself {:.0} s after the cut, {:.0} s before the promotion",
            seconds(last - began),
            seconds(accepted - last)
        ),
    };
    must_be_within(&measured);
    stage.with(|world| {
        world.set_cut(EAST, WEST, false);
        world.set_cut(EAST, WITNESS, false);
    });
    measured
}

/// Where there is no PostgreSQL 15, says so.
pub fn programs() -> Option<Programs> {
    Programs::or_skipped()
}

/// On one cluster, until its region is lost and back, and it is gone.
fn one_life(programs: Programs) {
    let mut stage = Stage::make(programs);
    idle(&stage).print();
    partition(&stage).print();
    drill(&mut stage).print();
    region_lost(&stage, |_| {}).1.print();
    region_returns(&stage).print();
    stage.end();
}

/// On another one.
fn another_life(stage: &Stage) {
    zone(stage).print();
    isolated(stage).print();
}

/// How fast time passes beside other tests: a guard that is kept from its work for a few seconds closes its writer.
const BESIDE_OTHERS: f64 = 4.0;

#[test]
fn a_zone_promotes_nobody_and_a_region_that_is_cut_off_closes_itself_before_the_other_is_promoted()
{
    let Some(programs) = programs() else { return };
    let _machine = alone();
    let stage = Stage::make(programs);
    stage.served.sandbox.set_scale(BESIDE_OTHERS);
    // How a cluster on real databases is destroyed, `make demo` shows.
    another_life(&stage);
}

#[test]
#[ignore = "prints figures, each experiment so many times: make experiments"]
fn experiments() {
    let programs = programs().expect("experiments need PostgreSQL 15");
    let runs = std::env::var("RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let _machine = alone();
    heading();
    for _ in 0..runs {
        one_life(programs.clone());
        let stage = Stage::make(programs.clone());
        another_life(&stage);
        stage.end();
    }
}
