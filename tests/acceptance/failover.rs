//! The functions' own program, run as Lambda runs it, in an account that loses a region.

use std::path::Path;

use aws_sandbox::{Host, World};
use serde_json::Value as Json;

use crate::{
    laboratory::{SCALE, alone},
    support::{
        agent::{EAST, WEST, remembered_in},
        terraform::{IMPORT, SCALE as FAST, Served, Workspace, cluster},
    },
};

fn phase(world: &World) -> Json {
    remembered_in(world, WEST, "ledger")["phase"].clone()
}

/// What clients in the DR region get for the cluster's name.
fn answers(world: &World) -> Vec<String> {
    let vpc = world.network()[WEST]["vpc_id"].as_str().unwrap().to_owned();
    let found = world.resolve(&vpc, "db.trading-db-prod.internal");
    found.into_iter().map(|(target, _)| target).collect()
}

#[test]
fn the_program_that_a_new_version_brings_fails_a_lost_region_over() {
    let _machine = alone();
    let served = Served::new();
    let mut workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    workspace.apply().must_succeed();

    let endpoint = |name: &str| workspace.state()["attributes"][name].as_str().unwrap().to_owned();
    let (primary, replica) = (endpoint("primary_endpoint"), endpoint("replica_endpoint"));

    // Another program shows as a change of every function, and of nothing else.
    let program = Path::new(env!("CARGO_BIN_EXE_trading-dr-agent"));
    let archive = workspace.path("new.zip");
    trading::provider::archive::pack(program, &archive).unwrap();
    workspace.variable("TRADING_AGENT_ZIP", archive.to_str().unwrap());
    served.sandbox.set_scale(SCALE);
    workspace.variable("TRADING_CLOCK_SCALE", &SCALE.to_string());
    let ran = workspace.plan();

    let changed: Vec<&str> = ran.out.lines().filter(|line| line.contains("~ \"us-")).collect();
    assert_eq!(changed.len(), 6, "{}", ran.out);
    assert!(changed.iter().all(|line| line.contains("/lambda-function/")), "{changed:#?}");
    workspace.apply().must_succeed();

    workspace.must_be_unchanged();

    let host = served.run_functions(None);

    let since = served.sandbox.now().0;
    served.until(300, "the lease is held, and the standby has what is written since", |world| {
        let replayed = remembered_in(world, WEST, "ledger")["replayed"].as_u64();
        remembered_in(world, EAST, "ledger")["held"] == true && replayed > Some(since)
    });
    served.sandbox.with(|world| assert_eq!(answers(world), [primary]));

    served.sandbox.with(|world| world.set_lost(EAST, true));
    served.until(600, "the DR region writes", |world| phase(world) == "promoted");
    served.until(300, "the name leads there", |world| answers(world) == [replica.as_str()]);
    let said =
        served.sandbox.with(|world| world.log_lines(WEST, "/aws/lambda/trading-db-monitor-prod"));
    assert!(said.iter().any(|line| line.contains("Max Memory Used")), "{said:#?}");

    must_keep_its_login_to_itself(&served);
    must_come_back_closed_and_go(&served, workspace, host);
}

/// The probes log in, and the monitors hand them what with.
fn must_keep_its_login_to_itself(served: &Served) {
    served.sandbox.with(|world| {
        let secrets = world.inventory()[EAST]["secret"].as_object().cloned().unwrap();
        let values = secrets.keys().map(|id| world.record(EAST, "secret", id)["_value"].clone());
        let passwords: Vec<String> = values
            .map(|value| serde_json::from_str::<Json>(value.as_str().unwrap()).unwrap())
            .map(|value| value["password"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(passwords.len(), 2);
        for (region, function) in
            [(EAST, "monitor"), (WEST, "monitor"), (EAST, "probe"), (WEST, "probe")]
        {
            let said = world.log_lines(region, &format!("/aws/lambda/trading-db-{function}-prod"));
            assert!(!said.is_empty() || function == "probe", "{region} {function}");
            let told = said.iter().any(|line| passwords.iter().any(|one| line.contains(one)));
            assert!(!told, "{region}: the {function}'s log has a password");
        }
    });
}

/// Whoever takes it over finds the writer where it is, and nothing to change.
fn must_be_imported_as_it_is(served: &Served, first: &Workspace) {
    let body = cluster(served, "prod", "");
    for by_block in [false, true] {
        let block = if by_block { IMPORT } else { "" };
        let mut other = Workspace::new(served, &format!("{body}{block}"));
        let archive = first.path("new.zip");
        other.variable("TRADING_AGENT_ZIP", archive.to_str().unwrap());
        other.variable("TRADING_CLOCK_SCALE", &SCALE.to_string());
        if by_block {
            let ran = other.apply().must_succeed();
            assert!(ran.out.contains("1 imported, 0 added, 0 changed, 0 destroyed"), "{}", ran.out);
        } else {
            let ran = other.run(&["import", "-no-color", "trading_dr_cluster.prod", "prod"]);
            ran.must_succeed();
        }
        other.must_be_unchanged();
        let state = other.state();
        assert_eq!(state["attributes"]["writer_region"], WEST);
        assert_eq!(state["attributes"]["status"], "failed_over");
    }
}

/// The lost region comes back: its writer is closed, Terraform leaves it so, and everything can be removed.
fn must_come_back_closed_and_go(served: &Served, mut workspace: Workspace, host: Host) {
    served.sandbox.with(|world| world.set_lost(EAST, false));
    served.until(900, "the old writer is closed", |world| {
        let doors = world.doors(EAST, "trading-db-sg-prod");
        let probe = world.group_id(EAST, "trading-db-probe-sg-prod");
        doors.iter().all(|source| *source == probe)
    });
    let ran = workspace.plan();
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains("us-west-2 writes"), "{}", ran.out);
    must_be_imported_as_it_is(served, &workspace);

    // No program runs any more: time may hurry again.
    drop(host);
    served.sandbox.set_scale(FAST);
    workspace.variable("TRADING_CLOCK_SCALE", &FAST.to_string());
    workspace.destroy().must_succeed();
    assert_eq!(served.leftovers(), Vec::<String>::new());
}
