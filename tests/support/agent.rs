//! The agent as an apply installs it, run in this process: what its functions are told, and as whom they call,
//! comes from the sandbox.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_sandbox::{Invocation, Sandbox, SessionView, Visitor, World};
use futures::FutureExt as _;
use serde_json::Value as Json;
use trading::{
    agent::{
        Session, copier, drill, handler,
        probe::{self, Database, Login, Place},
    },
    contract::{ASSIGNMENT, FUNCTION, SETTINGS},
};

use super::aws::{Mangler, Way, connect_like};

pub const EAST: &str = "us-east-1";
pub const WEST: &str = "us-west-2";
pub const WITNESS: &str = "us-east-2";
pub const LEDGER: &str = "trading-db-ledger-prod";
pub const PROBE_GROUP: &str = "trading-db-probe-sg-prod";

/// The databases of a sandbox, as a function in a VPC reaches them.
struct Model {
    sandbox: Sandbox,
    invocation: Invocation,
}

impl Model {
    fn visitor<'a>(&'a self, login: &'a Login) -> Visitor<'a> {
        Visitor {
            from: &self.invocation.place,
            username: &login.username,
            password: &login.password,
        }
    }
}

impl Database for Model {
    async fn look(&self, place: &Place, _: &str, login: &Login) -> Session {
        match self.sandbox.with(|world| world.visit(&place.host, &self.visitor(login))) {
            SessionView::Closed => {
                // Nobody answers: that takes its time.
                tokio::time::sleep(std::time::Duration::from_secs(5)).await;
                Session::Closed
            }
            SessionView::Denied => Session::Broken("password authentication failed".into()),
            SessionView::Writer(at) => Session::Writer { acknowledged: at.0 },
            SessionView::Standby { row, heard, committed } => Session::Standby {
                replayed: row.0,
                receiver_age: heard,
                committed: Some(committed.0),
            },
        }
    }

    async fn prepare(
        &self,
        place: &Place,
        _: &str,
        master: &Login,
        login: &Login,
    ) -> Result<(), String> {
        let master = self.visitor(master);
        self.sandbox
            .with(|world| world.make_role(&place.host, &master, &login.username, &login.password))
    }

    async fn end_sessions(&self, _: &Place, _: &str, _: &Login) -> Result<(), String> {
        Ok(())
    }
}

fn region_of(name: &str) -> &'static str {
    if name == EAST { EAST } else { WEST }
}

async fn run(
    sandbox: Sandbox,
    invocation: Invocation,
    mangler: Option<Mangler>,
) -> Result<Json, String> {
    let text = |name: &str| invocation.environment[name].as_str().unwrap_or("null").to_owned();
    if text(FUNCTION) == "probe" {
        let question = serde_json::from_value(invocation.payload.clone())
            .map_err(|error| error.to_string())?;
        let databases = Model { sandbox, invocation };
        let answer = probe::answer(&databases, &question).await;
        return serde_json::to_value(answer).map_err(|error| error.to_string());
    }
    let parsed = |error: serde_json::Error| error.to_string();
    // With its role's key, so that a permission that is missing shows.
    let way = Way {
        from: Some(region_of(&invocation.region)),
        access_key: invocation.access_key.clone(),
        mangler,
        ..Way::default()
    };
    let aws = Arc::new(connect_like(&sandbox, &way).await);
    if text(FUNCTION) == "copier" {
        let copying = serde_json::from_str(&text(ASSIGNMENT)).map_err(parsed)?;
        return copier::run(aws, &copying).await;
    }
    if text(FUNCTION) == "drill" {
        let drilling = serde_json::from_str(&text(ASSIGNMENT)).map_err(parsed)?;
        return drill::run(aws, drilling, invocation.payload).await;
    }
    let assignment = serde_json::from_str(&text(ASSIGNMENT)).map_err(parsed)?;
    let settings = serde_json::from_str(&text(SETTINGS)).map_err(parsed)?;
    handler::monitor(aws, assignment, &settings, invocation.request, invocation.payload).await
}

/// Lets what is installed run: functions in this process, and schedules.
pub fn begin(sandbox: &Sandbox) {
    sandbox.set_runtime(Arc::new(|sandbox, invocation| Box::pin(run(sandbox, invocation, None))));
    tokio::spawn(sandbox.clone().run_schedules());
}

/// Lets all of them run, with answers of AWS that are not what it sent. Counts those that break down.
pub fn begin_misled(sandbox: &Sandbox, mangler: &Mangler) -> Arc<AtomicUsize> {
    let broken = Arc::new(AtomicUsize::new(0));
    let (mangler, count) = (Arc::clone(mangler), Arc::clone(&broken));
    sandbox.set_runtime(Arc::new(move |sandbox, invocation| {
        let (mangler, count) = (Arc::clone(&mangler), Arc::clone(&count));
        Box::pin(async move {
            let run = AssertUnwindSafe(run(sandbox, invocation, Some(mangler))).catch_unwind();
            run.await.unwrap_or_else(|_| {
                count.fetch_add(1, Ordering::Relaxed);
                Err("it broke down".into())
            })
        })
    }));
    tokio::spawn(sandbox.clone().run_schedules());
    broken
}

/// Lets some of the functions run, where all of them would take too long.
pub fn begin_only(sandbox: &Sandbox, functions: &'static [&'static str]) {
    sandbox.set_runtime(Arc::new(move |sandbox, invocation| {
        if functions.iter().any(|one| invocation.environment[FUNCTION] == *one) {
            Box::pin(run(sandbox, invocation, None))
        } else {
            Box::pin(std::future::ready(Ok(Json::Null)))
        }
    }));
    tokio::spawn(sandbox.clone().run_schedules());
}

/// Lets all of them run from now on.
pub fn begin_the_others(sandbox: &Sandbox) {
    sandbox.set_runtime(Arc::new(|sandbox, invocation| Box::pin(run(sandbox, invocation, None))));
}

/// What a region's ledger says.
pub fn ledger(sandbox: &Sandbox, region: &str) -> Json {
    remembered(sandbox, region, "ledger")
}

/// What an item of a region's ledger says.
pub fn remembered(sandbox: &Sandbox, region: &str, item: &str) -> Json {
    sandbox.with(|world| remembered_in(world, region, item))
}

/// The same for whoever has the world.
pub fn remembered_in(world: &World, region: &str, item: &str) -> Json {
    let item = world.item(region, LEDGER, "prod", item);
    let body = item["body"]["S"].as_str().unwrap_or("null").to_owned();
    serde_json::from_str(&body).unwrap()
}

/// The state of one of the cluster's alarms in a region.
pub fn alarm(sandbox: &Sandbox, region: &str, name: &str) -> Json {
    let all = sandbox.with(|world| world.inventory());
    all[region]["alarm"][format!("trading-db-{name}-prod")]["StateValue"].clone()
}

/// The cluster's alarms that are on, each with its region, as in `us-west-2/replica-lag`.
pub fn alarms_on(sandbox: &Sandbox) -> Vec<String> {
    let all = sandbox.with(|world| world.inventory());
    let of = |region: &'static str| {
        let alarms = all[region]["alarm"].as_object().cloned().unwrap_or_default();
        let on = alarms.into_iter().filter(|(_, one)| one["StateValue"] == "ALARM");
        let short = |name: &str| name.replace("trading-db-", "").replace("-prod", "");
        on.map(move |(name, _)| format!("{region}/{}", short(&name)))
    };
    [EAST, WEST].into_iter().flat_map(of).collect()
}

/// The lease at the witness.
pub fn lease(sandbox: &Sandbox) -> Json {
    sandbox.with(|world| world.item(WITNESS, "trading-db-lease-prod", "prod", "lease"))
}

/// Takes a whole region away, with what is changed there for all of them, or brings it back.
pub fn set_lost(sandbox: &Sandbox, region: &str, lost: bool) {
    sandbox.with(|world| world.set_lost(region, lost));
}
