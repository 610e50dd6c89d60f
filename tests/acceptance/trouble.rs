//! Killed, interrupted, run twice: what happens at 3 a.m.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{
    simulation::crash::{Made, census, changes_something, made_by, tell},
    support::{
        flood::{Flood, plugins_in},
        terraform::{IMPORT, Ran, Running, Served, Workspace, cluster},
    },
};

/// Waits, for a while, until the sandbox has seen a call.
fn until_called(served: &Served, operation: &str) {
    let begun = Instant::now();
    while !served.sandbox.has_done(operation) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{operation} was never called");
        served.pass(1);
    }
}

/// What a create that nobody disturbs comes to.
struct Undisturbed {
    census: BTreeMap<String, usize>,
    made: Made,
    /// How many calls change something.
    changes: usize,
}

impl Undisturbed {
    fn new() -> Self {
        let served = Served::new();
        Workspace::new(&served, &cluster(&served, "prod", "")).apply().must_succeed();
        let (census, made) = (census(&served.sandbox), made_by(&served.sandbox.calls()));
        Self { census, made, changes: changes(&served) }
    }
}

/// Terraform and the provider are killed in a create; the next apply goes on, comes to the same, makes nothing twice, and a
/// destroy leaves nothing. How many calls had changed something, and how many seconds of the account that apply took.
fn die(told: &str, whole: &Undisturbed, until: impl Fn(&Served)) -> (usize, u64) {
    let served = Served::new();
    let workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    let running = workspace.start(&["apply", "-auto-approve", "-no-color"]);
    until(&served);
    running.signal("KILL");
    assert_eq!(running.wait().code, -1, "{told}: it was over before");
    let done = changes(&served);
    // Terraform had no chance to save anything, nor to unlock its state.
    let _ = std::fs::remove_file(workspace.path(".terraform.tfstate.lock.info"));
    let begun = served.sandbox.now().0;
    let ran = workspace.apply();
    let took = (served.sandbox.now().0 - begun) / 1000;
    assert_eq!(ran.code, 0, "{told}\n{}\n{}", ran.out, ran.err);
    assert_eq!(made_by(&served.sandbox.calls()), whole.made, "{told}: made twice");
    assert_eq!(census(&served.sandbox), whole.census, "{told}");
    workspace.must_be_unchanged();
    workspace.destroy().must_succeed();
    assert_eq!(served.leftovers(), Vec::<String>::new(), "{told}");
    (done, took)
}

#[test]
fn killed_at_any_stage_the_next_apply_continues_and_destroy_leaves_nothing() {
    let whole = Undisturbed::new();
    for stage in [
        "CreateKey",
        "AcceptVpcPeeringConnection",
        "CreateDBInstance",
        "CreateDBInstanceReadReplica",
        "RebootDBInstance",
    ] {
        die(&format!("killed at {stage}"), &whole, |served| until_called(served, stage));
    }
}

const TRIES: usize = 26;

#[test]
#[ignore = "takes a quarter of an hour: make crash"]
fn killed_at_twenty_points_the_next_apply_continues() {
    // Evenly spread over the calls of a create that change something, the last of which finishes it.
    let whole = Undisturbed::new();
    let all = whole.changes;
    // Calls come in bursts, so that two of them may be one.
    let lived = (0..TRIES).map(|point| {
        let after = 1 + point * (all - 5) / TRIES;
        let told = format!("killed after {after} of {all} calls");
        die(&told, &whole, |served| {
            let begun = Instant::now();
            while changes(served) < after {
                assert!(begun.elapsed() < Duration::from_secs(120), "{told}");
                served.pass(1);
            }
        })
    });
    let (points, took): (BTreeSet<_>, Vec<_>) = lived.unzip();
    assert!(points.len() >= 20, "some are the same: {points:?}");
    tell("create of the real Terraform, killed with kill -9", took);
}

/// How many calls have changed something.
fn changes(served: &Served) -> usize {
    served.sandbox.calls().iter().filter(|call| changes_something(call)).count()
}

#[test]
fn an_interrupt_keeps_the_state_and_untaint_goes_on() {
    let served = Served::new();
    let workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    // Time passes as usual from here on, so that the database is still being made.
    let running = workspace.start(&["apply", "-auto-approve", "-no-color"]);
    let ran = interrupted(&served, running, "CreateDBInstance");
    assert!(ran.message().contains("The create was not finished: interrupted"), "{}", ran.err);
    assert_eq!(workspace.state()["status"], "tainted");
    workspace.run(&["untaint", "-no-color", "trading_dr_cluster.prod"]).must_succeed();
    let made =
        served.sandbox.calls().iter().filter(|call| call.operation == "CreateDBInstance").count();
    workspace.apply().must_succeed();
    let again =
        served.sandbox.calls().iter().filter(|call| call.operation == "CreateDBInstance").count();
    assert_eq!(made, again, "the database was made twice");
    workspace.must_be_unchanged();
    workspace.destroy().must_succeed();
    assert_eq!(served.leftovers(), Vec::<String>::new());
}

/// How long an interrupt may take, Terraform's own part included: `simulation::undone` holds one to as much while
/// nothing answers, this is about one that AWS answers.
const IN_TIME: Duration = Duration::from_secs(10);

/// Interrupts a run once a call was made; it ends in time.
fn interrupted(served: &Served, running: Running, operation: &str) -> Ran {
    until_called(served, operation);
    let begun = Instant::now();
    running.signal("INT");
    let ran = running.wait();
    assert!(begun.elapsed() < IN_TIME, "{operation}: {:?}", begun.elapsed());
    assert_ne!(ran.code, 0, "{operation}: it was over before");
    ran
}

#[test]
fn interrupts_of_an_update_and_of_a_destroy_keep_the_state_and_the_next_run_goes_on() {
    let served = Served::new();
    let workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    workspace.apply().must_succeed();
    let larger = "  database = { instance_class = \"db.r6g.large\" }";
    workspace.write(&cluster(&served, "prod", larger));
    served.sandbox.forget_calls();
    let running = workspace.start(&["apply", "-auto-approve", "-no-color"]);
    let ran = interrupted(&served, running, "ModifyDBInstance");
    assert!(ran.message().contains("The update was not finished: interrupted"), "{}", ran.err);
    assert!(workspace.state()["status"].is_null(), "an update does not taint");
    workspace.apply().must_succeed();
    workspace.must_be_unchanged();
    let running = workspace.start(&["destroy", "-auto-approve", "-no-color"]);
    let ran = interrupted(&served, running, "DeleteDBInstance");
    assert!(ran.message().contains("The destroy was not finished: interrupted"), "{}", ran.err);
    assert!(workspace.state()["attributes"]["components"].is_object(), "what is left is known");
    workspace.destroy().must_succeed();
    assert_eq!(served.leftovers(), Vec::<String>::new());
}

/// What was begun elsewhere, and whose state is lost.
#[test]
fn a_half_made_cluster_is_imported_by_command_and_by_block_and_finished() {
    let served = Served::new();
    let body = cluster(&served, "prod", "");
    let lost = Workspace::new(&served, &body);
    let running = lost.start(&["apply", "-auto-approve", "-no-color"]);
    interrupted(&served, running, "CreateDBInstance");
    let made = || {
        let calls = served.sandbox.calls();
        let done = calls.iter().filter(|call| call.operation == "CreateDBInstance");
        done.filter(|call| call.error.is_none()).count()
    };
    assert!(!served.sandbox.has_done("CreateDBInstanceReadReplica"), "interrupted too late");
    let by_command = Workspace::new(&served, &body);
    by_command.run(&["import", "-no-color", "trading_dr_cluster.prod", "prod"]).must_succeed();
    let ran = by_command.plan();
    assert_eq!(ran.code, 2, "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains("Plan: 0 to add, 1 to change, 0 to destroy."), "{}", ran.out);
    assert!(ran.out.contains(r#"+ "us-west-2/db-instance""#), "{}", ran.out);
    assert!(!ran.out.contains(r#"+ "us-east-1/db-instance""#), "{}", ran.out);
    let by_block = Workspace::new(&served, &format!("{body}{IMPORT}"));
    let ran = by_block.apply().must_succeed();
    assert!(ran.out.contains("1 imported, 0 added, 1 changed, 0 destroyed"), "{}", ran.out);
    assert_eq!(made(), 1, "what was there is kept");
    by_block.must_be_unchanged();
    // Whoever imported it before it was finished finds it so.
    by_command.must_be_unchanged();
    by_block.destroy().must_succeed();
    assert_eq!(served.leftovers(), Vec::<String>::new());
}

#[test]
fn a_second_apply_is_told_who_is_at_work() {
    let served = Served::new();
    let body = cluster(&served, "prod", "");
    let first = Workspace::new(&served, &body);
    let second = Workspace::new(&served, &body);
    let running = first.start(&["apply", "-auto-approve", "-no-color"]);
    until_called(&served, "CreateDBInstance");
    let ran = second.apply();
    assert_eq!(ran.code, 1, "{}\n{}", ran.out, ran.err);
    assert!(ran.message().contains("Somebody else is changing the cluster prod"), "{}", ran.err);
    running.wait().must_succeed();
    first.must_be_unchanged();
}

/// A job that was suspended, or a laptop that slept.
#[test]
fn a_create_that_stood_still_leaves_the_cluster_to_whoever_took_over() {
    let served = Served::new();
    // Longer than all of the other run, on a machine that has other things to do.
    let body = cluster(&served, "prod", "  timeouts = { create = \"24h\" }");
    let first = Workspace::new(&served, &body);
    let second = Workspace::new(&served, &body);
    let running = first.start(&["apply", "-auto-approve", "-no-color"]);
    until_called(&served, "CreateDBInstance");
    running.signal("STOP");
    second.apply().must_succeed();
    running.signal("CONT");
    let ran = running.wait();
    assert_eq!(ran.code, 1, "{}\n{}", ran.out, ran.err);
    assert!(ran.message().contains("Another run has taken over"), "{}", ran.err);
    // Nothing is tainted there, which the next apply would rebuild.
    let ran = first.run(&["state", "list"]).must_succeed();
    assert_eq!(ran.out, "");
    let ran = first.apply();
    assert_eq!(ran.code, 1, "{}\n{}", ran.out, ran.err);
    assert!(ran.message().contains("terraform import"), "{}", ran.err);
    second.must_be_unchanged();
    second.destroy().must_succeed();
    assert_eq!(served.leftovers(), Vec::<String>::new());
}

#[test]
fn a_process_that_floods_the_plugins_port_does_not_stop_an_apply() {
    let served = Served::new();
    let mut workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    // The flood takes a processor, and the lease has to be renewed beside it.
    served.sandbox.set_scale(30.0);
    workspace.variable("TRADING_CLOCK_SCALE", "30");
    let folder = workspace.path("").canonicalize().unwrap();
    let flood = Flood::start(move || plugins_in(&folder));
    workspace.start(&["apply", "-auto-approve", "-no-color"]).wait().must_succeed();
    assert!(flood.opened() > 1000, "only {} connections", flood.opened());
    drop(flood);
    workspace.must_be_unchanged();
}

#[test]
fn what_is_replaced_or_tainted_is_planned_before_it_goes_and_comes_back() {
    let served = Served::new();
    let workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    workspace.apply().must_succeed();
    let replace = ["apply", "-auto-approve", "-no-color", "-replace=trading_dr_cluster.prod"];
    let ran = workspace.run(&replace).must_succeed();
    assert!(ran.out.contains("1 added, 0 changed, 1 destroyed"), "{}", ran.out);
    workspace.must_be_unchanged();
    workspace.run(&["taint", "-no-color", "trading_dr_cluster.prod"]).must_succeed();
    workspace.apply().must_succeed();
    workspace.must_be_unchanged();
    // Another suffix: the old cluster's own things are in nobody's way.
    let renamed = cluster(&served, "prod", "").replace("\"prod\"\n\n", "\"prod-2\"\n\n");
    workspace.write(&renamed);
    let ran = workspace.apply().must_succeed();
    assert!(ran.out.contains("1 added, 0 changed, 1 destroyed"), "{}", ran.out);
    workspace.must_be_unchanged();
    workspace
        .write(&renamed.replace("primary = {", "deletion = { protection = true }\n  primary = {"));
    workspace.apply().must_succeed();
    let replace = ["plan", "-no-color", "-replace=trading_dr_cluster.prod"];
    let ran = workspace.run(&replace);
    assert!(
        ran.message().contains("deletion.protection keeps the cluster from being destroyed"),
        "{}",
        ran.err
    );
    assert!(served.leftovers().iter().all(|one| !one.contains("prod") || one.contains("prod-2")));
}

#[test]
fn a_region_that_is_down_is_no_problem_of_credentials() {
    let served = Served::new();
    let workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    workspace.apply().must_succeed();
    served.sandbox.set_down("us-east-1", true);
    let ran = workspace.plan();
    assert_eq!(ran.code, 1);
    assert!(
        ran.message().contains("in us-east-1 did not answer while reading the cluster"),
        "{}",
        ran.err
    );
    // A destroy that does not look first says as much, and leaves what serves.
    served.sandbox.forget_calls();
    let ran = workspace.run(&["destroy", "-refresh=false", "-auto-approve", "-no-color"]);
    assert_eq!(ran.code, 1);
    let told = ran.message();
    assert!(
        told.contains("us-east-1 did not answer") && told.contains("othing was"),
        "{}",
        ran.err
    );
    // But for the lease, which says who is at work.
    let calls = served.sandbox.calls();
    let touched: Vec<_> =
        calls.iter().filter(|one| changes_something(one) && one.service != "ssm").collect();
    assert!(touched.is_empty(), "{touched:#?}");
    assert!(workspace.state()["attributes"]["components"].is_object(), "what is left is known");
    served.sandbox.set_down("us-east-1", false);
    workspace.apply().must_succeed();
    workspace.must_be_unchanged();
}

/// Terraform itself compares a saved plan with the one that it makes when it applies, and words it as it does.
#[test]
fn a_saved_plan_is_not_applied_once_what_is_around_the_cluster_has_changed() {
    let served = Served::new();
    let workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    workspace.run(&["plan", "-no-color", "-out=saved"]).must_succeed();
    served.sandbox.with(|world| world.set_concurrency(10));
    served.sandbox.forget_calls();
    let ran = workspace.run(&["apply", "-no-color", "saved"]);
    assert!(ran.err.contains("Provider produced inconsistent final plan"), "{}", ran.err);
    assert!(ran.err.contains("lambda-function/"), "{}", ran.err);
    let calls = served.sandbox.calls();
    assert!(!calls.iter().any(changes_something), "{calls:#?}");
    let planned = workspace.plan();
    assert!(planned.out.contains("reserve_concurrency = false"), "{}", planned.out);
}
