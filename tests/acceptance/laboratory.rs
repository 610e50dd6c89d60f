//! The whole of it on real databases: the real `terraform` makes the cluster, its functions' own program watches two
//! PostgreSQL 15 through the network's stand-in, and a region is lost.

use std::path::Path;

use aws_sandbox::{Programs, Source, World};
use serde_json::Value as Json;

use super::failover::{SCALE, must_come_back_closed_and_go};
use crate::support::{
    agent::{EAST, WEST, remembered_in},
    terraform::{Served, Workspace, cluster},
};

/// How fast time passes while the cluster is made, when only a probe has to be in time.
const MAKING: f64 = 20.0;

fn ledger(world: &World) -> Json {
    remembered_in(world, WEST, "ledger")
}

/// The application's place in a region.
fn application(served: &Served, region: &str) -> Source {
    let network = served.sandbox.with(|world| world.network());
    let text = |name: &str| network[region][name].as_str().unwrap().to_owned();
    Source {
        region: region.into(),
        vpc: text("vpc_id"),
        groups: vec![text("application_security_group_id")],
    }
}

#[test]
fn real_databases_are_made_watched_and_failed_over() {
    let programs = match Programs::find() {
        Ok(programs) => programs,
        Err(why) => return eprintln!("SKIPPED: {why}"),
    };
    let served = Served::new();
    let laboratory = served.run_databases(programs);
    let host = served.run_functions(Some(&laboratory));
    let mut workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    let program = Path::new(env!("CARGO_BIN_EXE_trading-dr-agent"));
    let archive = workspace.path("agent.zip");
    trading::provider::archive::pack(program, &archive).unwrap();
    workspace.variable("TRADING_AGENT_ZIP", archive.to_str().unwrap());
    served.sandbox.set_scale(MAKING);
    workspace.variable("TRADING_CLOCK_SCALE", &MAKING.to_string());
    workspace.apply().must_succeed();
    workspace.must_be_unchanged();
    served.sandbox.set_scale(SCALE);

    // The probe's role was made in PostgreSQL by a master user who is no superuser, and the standby has it.
    // Stamps are PostgreSQL's, and its clock is the machine's: a quarter of a minute there is more than one here.
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() + 15_000;
    served.until(600, "the lease is held, and the standby follows", |world| {
        let replayed = ledger(world)["replayed"].as_u64().map(u128::from);
        remembered_in(world, EAST, "ledger")["held"] == true && replayed > Some(since)
    });
    let password =
        served.sandbox.with(|world| world.master_password(EAST, "trading-db-primary-prod"));
    let login = ("trading_admin", password.unwrap());
    let ask = |region: &str, sql: &str| {
        served.psql(
            &laboratory,
            &application(&served, region),
            "db.trading-db-prod.internal",
            (login.0, &login.1),
            sql,
        )
    };
    assert_eq!(ask(EAST, "SELECT pg_is_in_recovery()").unwrap(), "f");
    ask(EAST, "CREATE TABLE orders (id serial PRIMARY KEY, what text)").unwrap();
    ask(EAST, "INSERT INTO orders (what) VALUES ('buy') RETURNING id").unwrap();

    served.sandbox.with(|world| world.set_lost(EAST, true));
    served.until(900, "the DR region writes", |world| ledger(world)["phase"] == "promoted");
    // The same name, from the other region's application: the row is there, and another one is taken.
    let deadline = served.sandbox.now().0 + 600_000;
    while ask(WEST, "INSERT INTO orders (what) VALUES ('sell') RETURNING id").is_err() {
        assert!(served.sandbox.now().0 < deadline, "nothing is written");
        served.pass(5);
    }
    assert_eq!(
        ask(WEST, "SELECT string_agg(what, ',' ORDER BY id) FROM orders").unwrap(),
        "buy,sell"
    );

    must_come_back_closed_and_go(&served, workspace, host);
}
