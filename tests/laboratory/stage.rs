//! A cluster on real databases, with what experiments do to it and ask of it.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use aws_sandbox::{Host as Functions, Laboratory, Programs, Source, World};
use serde_json::Value as Json;

use super::{
    SCALE,
    application::{Application, Host, Row, TABLE, Way},
};
use crate::support::{
    agent::{EAST, WEST, remembered_in},
    aws::connect,
    terraform::{Served, Workspace, cluster},
};

/// How fast time passes while the cluster is made, when only a probe has to be in time.
const MAKING: f64 = 20.0;
/// The same while it goes, and no program runs any more: databases that are stopped keep the machine busy, and a
/// lease that is not renewed for 90 seconds, 9 here, is somebody else's.
const LEAVING: f64 = 10.0;
/// The cluster's name in the network.
pub const NAME: &str = "db.trading-db-prod.internal";
/// The one who writes at first.
pub const PRIMARY: &str = "trading-db-primary-prod";

pub struct Stage {
    pub served: Arc<Served>,
    pub databases: Arc<Laboratory>,
    pub workspace: Workspace,
    functions: Option<Functions>,
    login: (String, String),
}

impl Stage {
    /// A cluster, applied and watched, whose standby follows; with a table for the applications.
    pub fn make(programs: Programs) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("agent.zip");
        let program = Path::new(env!("CARGO_BIN_EXE_trading-dr-agent"));
        trading::provider::archive::pack(program, &archive).unwrap();
        Self::make_of(
            programs,
            Path::new(env!("CARGO_BIN_EXE_terraform-provider-trading")),
            &archive,
        )
    }

    /// The same by another build of the provider, with another archive of the functions' program.
    pub fn make_of(programs: Programs, provider: &Path, archive: &Path) -> Self {
        let served = Arc::new(Served::new());
        let databases = served.run_databases(programs);
        let functions = Some(served.run_functions(Some(&databases)));
        let body = cluster(&served, "prod", "");
        let mut workspace = Workspace::with_provider(&served, provider, &body);
        let kept = workspace.path("functions.zip");
        std::fs::copy(archive, &kept).unwrap();
        workspace.variable("TRADING_AGENT_ZIP", kept.to_str().unwrap());
        served.sandbox.set_scale(MAKING);
        workspace.variable("TRADING_CLOCK_SCALE", &MAKING.to_string());
        workspace.apply().must_succeed();
        served.sandbox.set_scale(SCALE);
        workspace.variable("TRADING_CLOCK_SCALE", &SCALE.to_string());
        let password = served.sandbox.with(|world| world.master_password(EAST, PRIMARY));
        let login = ("trading_admin".to_owned(), password.unwrap());
        let stage = Self { served, databases, workspace, functions, login };
        stage.must_follow();
        stage.ask(EAST, NAME, TABLE).unwrap();
        stage
    }

    /// Waits until the lease is held and the standby has what is written from now on.
    pub fn must_follow(&self) {
        // Stamps are PostgreSQL's, and its clock is the machine's: a few seconds there are half a minute here.
        let machine = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let since = machine + self.served.machine_time(30_000).as_millis();
        self.served.until(900, "the lease is held, and the standby follows", |world| {
            let replayed = ledger(world)["replayed"].as_u64().map(u128::from);
            remembered_in(world, EAST, "ledger")["held"] == true && replayed > Some(since)
        });
    }

    /// The applications' place in a region.
    fn place(&self, region: &str) -> Source {
        let network = self.served.sandbox.with(|world| world.network());
        let text = |name: &str| network[region][name].as_str().unwrap().to_owned();
        Source {
            region: region.into(),
            vpc: text("vpc_id"),
            groups: vec![text("application_security_group_id")],
        }
    }

    /// What a statement brings an application in a region.
    pub fn ask(&self, region: &str, host: &str, sql: &str) -> Result<String, String> {
        let login = (self.login.0.as_str(), self.login.1.as_str());
        self.served.psql(&self.databases, &self.place(region), host, login, sql)
    }

    /// An application in a region that writes by the cluster's name from now on.
    pub fn application(&self, name: &str, region: &str) -> Application {
        Application::start(name, self.way(region), Host::Name(NAME.into()))
    }

    /// The same, which knows one instance only.
    pub fn stubborn(&self, name: &str, region: &str, endpoint: String) -> Application {
        Application::start(name, self.way(region), Host::Endpoint(endpoint))
    }

    fn way(&self, region: &str) -> Way {
        Way {
            served: Arc::clone(&self.served),
            databases: Arc::clone(&self.databases),
            place: self.place(region),
            login: self.login.clone(),
        }
    }

    /// The numbers of an application's rows that the database which the name leads to in a region has.
    pub fn present(&self, region: &str, name: &str) -> BTreeSet<u64> {
        let sql = format!("SELECT number FROM orders WHERE client = '{name}'");
        let rows = self.ask(region, NAME, &sql).unwrap();
        rows.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// How many of an application's rows were acknowledged, and which of them that database has not.
    pub fn missing(&self, region: &str, application: &Application) -> (usize, Vec<Row>) {
        let rows = application.rows();
        let present = self.present(region, &application.name);
        let written = rows.len();
        (written, rows.into_iter().filter(|row| !present.contains(&row.number)).collect())
    }

    /// The numbers of an application's rows that the standby has.
    pub fn copied(&self, name: &str) -> BTreeSet<u64> {
        let sql = format!("SELECT number FROM orders WHERE client = '{name}'");
        let rows = self.ask(WEST, &self.attribute("replica_endpoint"), &sql).unwrap();
        rows.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// An attribute of the cluster.
    pub fn attribute(&self, name: &str) -> String {
        self.workspace.state()["attributes"][name].as_str().unwrap().to_owned()
    }

    pub fn now(&self) -> u64 {
        self.served.sandbox.now().0
    }

    pub fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        self.served.sandbox.with(act)
    }

    pub fn phase(&self) -> Json {
        self.with(|world| ledger(world)["phase"].clone())
    }

    /// Has RDS move the writer to its other zone.
    pub fn fail_zone_over(&self) {
        self.served.block_on(async {
            let rds = connect(&self.served.sandbox).await.region(EAST).rds.clone();
            let call = rds.reboot_db_instance().db_instance_identifier(PRIMARY);
            call.force_failover(true).send().await.unwrap();
        });
    }

    /// Whether applications are kept out of a region's database.
    pub fn is_closed(world: &World, region: &str) -> bool {
        let probe = world.group_id(region, "trading-db-probe-sg-prod");
        world.doors(region, "trading-db-sg-prod").iter().all(|source| *source == probe)
    }

    /// A plan shows who writes, and nothing else.
    pub fn must_have_failed_over(&self) {
        let ran = self.workspace.plan();
        assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
        assert!(ran.out.contains("us-west-2 writes"), "{}", ran.out);
    }

    /// Lets the functions run, or does not.
    pub fn set_watched(&mut self, watched: bool) {
        self.functions = None;
        if watched {
            self.functions = Some(self.served.run_functions(Some(&self.databases)));
        }
    }

    /// The most memory that a region's monitor or probe has used, in MB.
    pub fn memory(&self, region: &str) -> u64 {
        let logs = ["monitor", "probe"].map(|one| format!("/aws/lambda/trading-db-{one}-prod"));
        let lines = self.with(|world| logs.map(|log| world.log_lines(region, &log)).concat());
        let used = lines.iter().filter_map(|line| {
            line.split("Max Memory Used: ").nth(1)?.split(' ').next()?.parse().ok()
        });
        used.max().unwrap()
    }

    /// How many transactions `pgbench` gets through in a second, from the primary region, in so many seconds; without
    /// them, its tables are made.
    pub fn transactions(&self, seconds: Option<u32>) -> f64 {
        let login = (self.login.0.as_str(), self.login.1.as_str());
        let place = self.place(EAST);
        let bench = self.databases.pgbench(&place, NAME, "trading", login);
        let mut bench = self.served.block_on(bench).unwrap();
        match seconds {
            None => bench.args(["-i", "-q"]),
            Some(seconds) => {
                bench.args(["-n", "-N", "-M", "prepared", "-c", "2", "-T", &seconds.to_string()])
            }
        };
        let done = bench.output().unwrap();
        let (said, errors) =
            (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{said}{errors}");
        let rate = said
            .lines()
            .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        rate.unwrap_or_default()
    }

    /// Lets the account's days pass in which no program has to be in time.
    pub fn skip(&mut self, seconds: u64) {
        self.functions = None;
        self.served.sandbox.set_scale(SKIPPING);
        self.served.pass(seconds);
        self.served.sandbox.set_scale(SCALE);
        self.functions = Some(self.served.run_functions(Some(&self.databases)));
        self.must_follow();
    }

    /// Everything is removed, and nothing is left.
    pub fn end(mut self) {
        self.functions = None;
        self.served.sandbox.set_scale(LEAVING);
        self.workspace.variable("TRADING_CLOCK_SCALE", &LEAVING.to_string());
        self.workspace.destroy().must_succeed();
        assert_eq!(self.served.leftovers(), Vec::<String>::new());
    }
}

/// How fast time passes while nothing has to be in time.
const SKIPPING: f64 = 300.0;

/// What the DR region's monitors remember.
pub fn ledger(world: &World) -> Json {
    remembered_in(world, WEST, "ledger")
}
