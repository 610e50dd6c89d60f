//! Watching what an apply does, in another terminal.

use std::{
    collections::BTreeSet, fs::File, io::Read as _, os::unix::fs::OpenOptionsExt as _,
    process::Stdio,
};

use aws_sandbox::{Effect, Fault, Rule};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use trading::progress::{Event, Line, Run, State};

use crate::support::terraform::{Served, Workspace, cluster};

const FILE: &str = ".terraform/trading-dr-prod.jsonl";

fn last(workspace: &Workspace) -> Run {
    Run::last(&std::fs::read_to_string(workspace.path(FILE)).unwrap()).unwrap()
}

/// A terminal that somebody sits at.
struct Terminal {
    master: File,
    slave: File,
}

impl Terminal {
    fn open() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options()
            .read(true)
            .write(true)
            .custom_flags(OpenptFlags::NOCTTY.bits().cast_signed())
            .open(name.to_str().unwrap())
            .unwrap();
        Self { master: File::from(master), slave }
    }

    /// Everything that is written to it, once nobody writes any more.
    fn watch(mut self) -> std::thread::JoinHandle<String> {
        drop(self.slave);
        std::thread::spawn(move || {
            let (mut seen, mut part) = (Vec::new(), [0; 4096]);
            // Linux says EIO where the other end is closed.
            while let Ok(count) = self.master.read(&mut part) {
                if count == 0 {
                    break;
                }
                seen.extend_from_slice(&part[..count]);
            }
            String::from_utf8_lossy(&seen).into_owned()
        })
    }
}

#[test]
fn somebody_who_watches_sees_what_an_apply_and_a_destroy_do() {
    let served = Served::new();
    let workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    let nothing = workspace.start_by_hand(&["watch", "--once"]).wait();
    assert_eq!(nothing.code, 2);
    assert!(nothing.err.contains("no run has written to .terraform yet"), "{}", nothing.err);

    let watching = workspace.start_by_hand(&["watch"]);
    let terminal = Terminal::open();
    let out = Stdio::from(terminal.slave.try_clone().unwrap());
    let drawing = workspace.start_by_hand_on(out, &["watch"]);
    let drawn = terminal.watch();
    workspace.apply().must_succeed();
    let watched = watching.wait().must_succeed().out;
    drawing.wait().must_succeed();

    // On a terminal, a tree is drawn over itself from the upper left corner, until the run ends.
    let drawn = drawn.join().unwrap();
    let frames: Vec<&str> = drawn.split("\x1b[H\x1b[J").skip(1).collect();
    assert!(frames.len() > 5, "{drawn}");
    assert!(frames[0].starts_with("waiting for a run in .terraform"), "{}", frames[0]);
    let is_running = |frame: &&str| frame.contains("running") && frame.contains("db-instance");
    assert!(frames.iter().any(is_running), "{drawn}");
    assert!(frames.last().unwrap().contains(", finished"), "{drawn}");

    let lines: Vec<&str> = watched.lines().collect();
    assert_eq!(lines[0], "waiting for a run in .terraform");
    let has = |text: &str| lines.iter().any(|line| line.contains(text));
    assert!(has("] us-east-1/db-instance: create begins, usually 12m00s"), "{watched}");
    assert!(has("] us-west-2/db-instance: create done after "), "{watched}");
    assert!(lines.last().unwrap().starts_with("create prod: "), "{watched}");
    assert!(lines.last().unwrap().ends_with(", finished"), "{watched}");

    // Everything that the state has was made, and how long AWS took for an instance is told in its time.
    let run = last(&workspace);
    let state = workspace.state();
    let components = state["attributes"]["components"].as_object().unwrap();
    assert!(components.len() > 100);
    for address in components.keys() {
        let item = run.items.get(address).unwrap_or_else(|| panic!("{address} is not told"));
        let State::Done(seconds) = item.state else { panic!("{address}: {:?}", item.state) };
        if address == "us-east-1/db-instance" {
            assert!((600.0..1500.0).contains(&seconds), "{seconds}");
            assert!(item.planned.after.contains(&"us-east-1/kms-key".to_owned()));
        }
    }
    let all = workspace.start_by_hand(&["watch", "--once", "--all", "prod"]).wait();
    let all = all.must_succeed().out;
    assert!(all.contains("\nus-west-2\n") && all.contains("done     db-instance "), "{all}");
    assert!(!all.contains("running") && !all.contains('*'), "{all}");

    // The run that is over is not shown again: the next one is.
    let watching = workspace.start_by_hand(&["watch", "prod"]);
    workspace.destroy().must_succeed();
    let watched = watching.wait().must_succeed().out;
    assert!(watched.contains("us-west-2/db-instance: delete done after "), "{watched}");
    assert!(!watched.contains("create"), "{watched}");
    let text = std::fs::read_to_string(workspace.path(FILE)).unwrap();
    let lines: Vec<Line> = text
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let runs: BTreeSet<&str> = lines.iter().map(|line| line.run.as_str()).collect();
    assert_eq!(runs.len(), 2);
    assert!(lines.windows(2).all(|two| two[0].at <= two[1].at));
}

#[test]
fn a_run_that_does_not_reach_its_end_says_what_failed_and_what_goes_on() {
    let served = Served::new();
    let workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    let rule = Rule { operation: Some("CreateDBSubnetGroup".into()), ..Rule::default() };
    served.sandbox.add_fault(Fault::new(
        rule,
        Effect::Fail {
            code: "DBSubnetQuotaExceededFault".into(),
            message: "The quota is exceeded.".into(),
            status: 400,
        },
    ));
    let watching = workspace.start_by_hand(&["watch"]);
    assert_eq!(workspace.apply().code, 1);
    let watched = watching.wait();
    assert_eq!(watched.code, 1, "{}", watched.out);
    let failed = "db-subnet-group: create failed: rds:CreateDBSubnetGroup in us-";
    assert!(watched.out.contains(failed), "{}", watched.out);
    assert!(watched.out.trim_end().ends_with(", not finished"), "{}", watched.out);
    let once = workspace.start_by_hand(&["watch", "--once"]).wait();
    assert_eq!(once.code, 1);
    assert!(once.out.contains("failed   db-subnet-group"), "{}", once.out);
    served.sandbox.clear_faults();
    workspace.run(&["untaint", "-no-color", "trading_dr_cluster.prod"]).must_succeed();
    workspace.apply().must_succeed();
    let run = last(&workspace);
    assert_eq!((&*run.command, run.ended), ("update", Some(true)));
    // What was made before is not made again.
    let key = run.items.get("us-east-1/kms-key");
    assert!(key.is_none_or(|one| one.planned.doing == "update"), "{key:?}");
}

#[test]
fn a_file_that_cannot_be_written_stops_nothing() {
    let served = Served::new();
    let workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    std::fs::create_dir_all(workspace.path(FILE)).unwrap();
    workspace.apply().must_succeed();
    workspace.must_be_unchanged();
}

#[test]
fn what_makes_no_sense_is_refused_with_how_it_is_used() {
    let served = Served::new();
    let workspace = Workspace::new(&served, "");
    let help = workspace.start_by_hand(&["watch", "--help"]).wait().must_succeed();
    assert!(help.out.contains("Usage: terraform-provider-trading watch"), "{}", help.out);
    let wrong = workspace.start_by_hand(&["watch", "--twice"]).wait();
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("there is no option --twice"), "{}", wrong.err);
    assert!(wrong.err.contains("Usage:"), "{}", wrong.err);
    assert!(matches!(serde_json::from_str(r#"{"event":"alive"}"#), Ok(Event::Alive)));
}
