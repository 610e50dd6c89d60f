//! Figures, printed by `make bench` and judged by nobody: a timed test would fail on a busy machine.

mod failover;

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use aws_sandbox::{Effect, Fault, Rule, World, durations};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    peer::{Stack, VERSION},
    simulation::failover::judge,
    support::{
        agent::{WEST, remembered_in},
        aws::simulate,
        core::Caller,
        terraform::{Served, Workspace, cluster},
        user::{User, configuration},
    },
};

/// The provider that is measured: a release, if there is one to be measured.
fn provider() -> PathBuf {
    let given = std::env::var_os("BENCH_PROVIDER").map(PathBuf::from);
    given.unwrap_or_else(|| env!("CARGO_BIN_EXE_terraform-provider-trading").into())
}

/// What `make provider` packs beside it.
fn archive() -> PathBuf {
    provider().with_file_name("trading-dr-agent.zip")
}

fn row(what: &str, figure: String, aim: &str) {
    println!("| {what:<52} | {figure:>22} | {aim:<28} |");
}

fn sorted(mut all: Vec<f64>) -> Vec<f64> {
    all.sort_by(f64::total_cmp);
    all
}

fn median(all: Vec<f64>) -> String {
    let all = sorted(all);
    format!("{:.1} ({:.1}–{:.1})", all[all.len() / 2], all[0], all[all.len() - 1])
}

fn handshake(binary: &Path, caller: &Caller) -> f64 {
    let begun = Instant::now();
    let mut child = Command::new(binary)
        .envs(caller.environment())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let took = begun.elapsed().as_secs_f64() * 1000.0;
    assert!(line.starts_with("1|6|tcp|"), "{line}");
    child.kill().unwrap();
    child.wait().unwrap();
    took
}

/// The largest peak of resident memory, in MB, of all processes of a program until `stop` is set.
fn watch_memory(binary: &Path, stop: &AtomicBool) -> u64 {
    let peak = AtomicU64::new(0);
    while !stop.load(Ordering::Relaxed) {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let process = entry.path();
            if std::fs::read_link(process.join("exe")).ok().as_deref() != Some(binary) {
                continue;
            }
            let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
            let line = status.lines().find(|line| line.starts_with("VmHWM:"));
            let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
            peak.fetch_max(kilobytes.unwrap_or(0), Ordering::Relaxed);
        }
        std::thread::yield_now();
    }
    peak.into_inner() / 1024
}

#[test]
#[ignore = "prints figures; run by make bench"]
fn figures() {
    println!("| {:<52} | {:>22} | {:<28} |", "what", "median (range)", "aim");
    println!("|{:-<54}|{:->24}|{:-<30}|", "", ":", "");
    start();
    no_op_plan();
    agent();
    simulation();
    virtual_time();
}

#[test]
#[ignore = "prints figures; run by make bench"]
fn failovers() {
    failover::figures(&provider(), &archive());
}

fn start() {
    let (binary, caller) = (provider(), Caller::new());
    handshake(&binary, &caller);
    let all = (0..20).map(|_| handshake(&binary, &caller)).collect();
    row("exec to handshake, ms", median(all), "≤ 35 with jitter entropy");
}

fn no_op_plan() {
    let served = Served::new();
    let body = cluster(&served, "prod", "");
    let workspace = Workspace::with_provider(&served, &provider(), &body);
    workspace.apply().must_succeed();
    let (seconds, peak, _) = plans(&served, &workspace, &provider());
    row("no-op plan with the real terraform, s", median(seconds), "");
    row("peak memory of the provider in it, MB", peak.to_string(), "≤ 50");
}

/// How many plans are measured.
const PLANS: usize = 5;

/// Plans that find nothing to change: how long each takes, the provider's peak of memory, the calls of one.
fn plans(served: &Served, workspace: &Workspace, binary: &Path) -> (Vec<f64>, u64, usize) {
    let (binary, stop) = (binary.canonicalize().unwrap(), AtomicBool::new(false));
    let mut seconds = Vec::new();
    let peak = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch_memory(&binary, &stop));
        for _ in 0..PLANS {
            served.sandbox.forget_calls();
            let begun = Instant::now();
            workspace.must_be_unchanged();
            seconds.push(begun.elapsed().as_secs_f64());
        }
        stop.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    (seconds, peak, served.sandbox.calls().len())
}

/// The same stack as separate resources of hashicorp/aws, on the same account, one after the other in one run.
#[test]
#[ignore = "prints figures; run by make bench"]
fn side_by_side() {
    let served = Served::new();
    let Some(stack) = Stack::new(&served) else { return };
    let workspace = Workspace::with_provider(&served, &provider(), &cluster(&served, "prod", ""));
    workspace.apply().must_succeed();
    let ours = plans(&served, &workspace, &provider());
    let primitives = workspace.state()["attributes"]["components"].as_object().unwrap().len();
    // Two peerings of the same VPCs cannot be.
    workspace.destroy().must_succeed();
    stack.workspace.apply().must_succeed();
    let theirs = plans(&served, &stack.workspace, &stack.binary);
    let resources = stack.workspace.run(&["state", "list"]).out;
    let resources = resources.lines().filter(|line| !line.starts_with("data.")).count();
    let both = |ours: String, theirs: String| format!("{ours} : {theirs}");
    let middle = |all: Vec<f64>| sorted(all)[PLANS / 2];
    row(
        &format!("beside hashicorp/aws {VERSION}: primitives"),
        both(primitives.to_string(), resources.to_string()),
        "",
    );
    row(
        "… no-op plan, s",
        both(format!("{:.2}", middle(ours.0)), format!("{:.2}", middle(theirs.0))),
        "a fifth",
    );
    row("… peak memory, MB", both(ours.1.to_string(), theirs.1.to_string()), "a fifteenth");
    row("… calls", both(ours.2.to_string(), theirs.2.to_string()), "half, for each primitive");
}

/// The functions' program in real time: how large it is, and how soon a new monitor has decided something.
fn agent() {
    #[allow(clippy::cast_precision_loss)]
    let size = std::fs::metadata(archive()).unwrap().len() as f64 / 1e6;
    row("archive of the functions' program, MB", format!("{size:.1}"), "≤ 8");
    let served = Served::new();
    let body = cluster(&served, "prod", "");
    let mut workspace = Workspace::with_provider(&served, &provider(), &body);
    workspace.apply().must_succeed();
    // Megabytes are sent in real time: the account's passes slowly meanwhile, or a lease runs out.
    served.sandbox.set_scale(10.0);
    workspace.variable("TRADING_CLOCK_SCALE", "10");
    workspace.variable("TRADING_AGENT_ZIP", archive().to_str().unwrap());
    workspace.apply().must_succeed();
    let logs = |world: &World| world.log_lines(WEST, "/aws/lambda/trading-db-monitor-prod");
    served.sandbox.set_scale(1.0);
    served.sandbox.forget_calls();
    let host = served.run_functions(None);
    // Its schedule fires anywhere in the next whole minute.
    served.until(130, "a monitor begins", |world| !logs(world).is_empty());
    served.until(5, "it decides", |world| !remembered_in(world, WEST, "ledger").is_null());
    let begun = served.sandbox.with(|world| logs(world)[0].clone());
    let calls = served.sandbox.calls();
    let wrote = calls
        .iter()
        .find(|call| call.operation == "PutItem" && call.region == WEST && call.error.is_none());
    let begun = OffsetDateTime::parse(begun.split(' ').next().unwrap(), &Rfc3339).unwrap();
    let begun = begun.unix_timestamp_nanos() / 1_000_000;
    let took = i128::from(wrote.unwrap().at) - begun;
    row("new monitor to its first decision, ms", took.to_string(), "≤ 300");
    // A run until the next one leads, and more in the same process.
    served.sandbox.set_scale(10.0);
    served.until(400, "monitors have run", |world| {
        logs(world).iter().filter(|line| line.contains("REPORT")).count() > 3
    });
    let peak = served.sandbox.with(|world| {
        let lines = logs(world).into_iter();
        let used = lines.filter_map(|line| {
            line.split("Max Memory Used: ").nth(1)?.split(' ').next()?.parse::<u64>().ok()
        });
        used.max().unwrap()
    });
    row("peak memory of a monitor, MB", peak.to_string(), "≤ 64");
    drop(host);
}

/// How many failovers a core plays through in the typed world.
fn simulation() {
    let (seeds, begun) = (2_000_u16, Instant::now());
    for seed in 0..seeds {
        judge(u64::from(seed)).unwrap();
    }
    let rate = f64::from(seeds) / begun.elapsed().as_secs_f64();
    row(
        "simulated failovers; per second and core",
        format!("{seeds}; {rate:.0}"),
        "≥ 200 a second",
    );
}

/// What AWS itself needs for a create, one after the other: role known, primary, replica, its backups and
/// parameters, its restart.
fn critical_path() -> u64 {
    durations::IAM_PROPAGATION
        + durations::DB_CREATE_MULTI_AZ
        + durations::REPLICA_CREATE
        + durations::DB_STATUS_LAG
        + durations::DB_MODIFY
        + durations::DB_REBOOT
}

fn virtual_time() {
    simulate(async || {
        let mut user = User::new().await;
        let config = configuration(&user.sandbox);
        let begun = tokio::time::Instant::now();
        user.must_apply(&config).await;
        let took = begun.elapsed();
        let ratio = took.as_secs_f64() / Duration::from_secs(critical_path()).as_secs_f64();
        row("create: time of the account, min", format!("{:.1}", took.as_secs_f64() / 60.0), "");
        row("create ÷ critical path of AWS's durations", format!("{ratio:.3}"), "≤ 1.05");
        row("create: API calls", user.sandbox.calls().len().to_string(), "");
        user.restart().await;
        user.sandbox.with(|_| ());
        tokio::time::sleep(Duration::from_secs(60)).await;
        user.sandbox.forget_calls();
        user.sandbox.add_fault(Fault::new(Rule::default(), Effect::Delay { milliseconds: 1000 }));
        let begun = tokio::time::Instant::now();
        user.must_be_unchanged(&config).await;
        let calls = user.sandbox.calls();
        let changing = calls.iter().filter(|call| {
            !["Describe", "Get", "List", "Query"]
                .iter()
                .any(|verb| call.operation.starts_with(verb))
        });
        row("refresh and no-op plan: API calls", calls.len().to_string(), "≤ 100");
        row(
            "refresh and no-op plan: dependent rounds",
            begun.elapsed().as_secs().to_string(),
            "≤ 4",
        );
        row(
            "refresh and no-op plan: calls that change something",
            changing.count().to_string(),
            "0",
        );
        user.sandbox.clear_faults();
        let begun = tokio::time::Instant::now();
        user.must_destroy().await;
        row(
            "destroy: time of the account, min",
            format!("{:.1}", begun.elapsed().as_secs_f64() / 60.0),
            "",
        );
    });
}
