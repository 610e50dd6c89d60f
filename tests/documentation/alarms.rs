//! Which alarms a cluster has, and what to do about each: the table in the runbook.

use std::{collections::BTreeMap, fmt::Write as _, sync::Mutex};

use serde_json::Value as Json;

use crate::support::{aws::simulate, user::User};

/// What whoever is woken does. Alarms are sorted by how soon somebody has to.
const WHAT_TO_DO: [(&str, &str); 19] = [
    (
        "primary-serving",
        "follow \"You are told 'The cluster has failed over'\"; it stays on until there is another cluster",
    ),
    ("failover-withheld", "the topic's message names the reason: the table above"),
    ("evidence-unknown", "the table above: a failover would not work now"),
    (
        "promotion-blocked",
        "in a failover, nothing for ten minutes. Without one, RDS has kept the standby busy for half an hour and would not promote it: see its status and its events",
    ),
    (
        "monitor-silent",
        "see that the schedule and the function `trading-db-monitor-prod` are there and enabled: `terraform plan` says so. In the standby's region, nothing fails over by itself until then",
    ),
    ("agent-errors", "read the log group `/aws/lambda/trading-db-monitor-prod` of that region"),
    (
        "replica-lag-unknown",
        "the standby does not replicate: its log says why; where its slot was given up, it has to be made anew",
    ),
    (
        "heartbeat-age",
        "run `trading-db-investigate-lag-prod`; a long transaction on the standby, a burst of writes and a cut between the regions are the usual reasons",
    ),
    ("replica-lag", "the same"),
    ("replica-lag-warning", "nothing yet, if `heartbeat-age` is off"),
    (
        "slot-lag",
        "find out why the standby does not keep up, before its slot is given up: `replica-lag` and its processors",
    ),
    (
        "wal-disk",
        "look for slots that nobody reads and for transactions that are open for hours; raise `database.allocated_storage`",
    ),
    ("free-storage", "raise `database.allocated_storage`, now: a full disk stops the database"),
    (
        "cpu",
        "find the statements, or raise the instance class; the standby's has to take the whole load after a failover",
    ),
    (
        "connections",
        "find who opens them; use a pool, or raise `max_connections` among `database.parameters`",
    ),
    (
        "snapshot-copy-age",
        "see what `snapshot-copier-errors` says, and the copies in the DR region; without data the copier does not run, or fails: its log, and `terraform plan` for its schedule and function. The backups of both sides go on",
    ),
    ("snapshot-copier-errors", "read the log group `/aws/lambda/trading-db-copier-prod`"),
    (
        "drill-failed",
        "read the topic's message; the standby itself is untouched. Hold another one when it is mended",
    ),
    (
        "drill-errors",
        "read the log group `/aws/lambda/trading-db-drill-prod`; a throw-away instance may still be there",
    ),
];

/// Every alarm of a cluster with its descriptions, by name and region.
fn alarms() -> BTreeMap<String, BTreeMap<String, Json>> {
    let found = Mutex::new(BTreeMap::<String, BTreeMap<String, Json>>::new());
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        let all = user.sandbox.with(|world| world.inventory());
        let mut found = found.lock().unwrap();
        for (region, kinds) in all.as_object().unwrap() {
            for (name, alarm) in kinds["alarm"].as_object().into_iter().flatten() {
                let short = name.strip_prefix("trading-db-").unwrap().strip_suffix("-prod");
                let regions = found.entry(short.unwrap().to_owned()).or_default();
                regions.insert(region.clone(), alarm.clone());
            }
        }
    });
    found.into_inner().unwrap()
}

/// A threshold as somebody reads it: sizes in GiB, long times in hours.
fn readable(threshold: f64) -> String {
    const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
    match threshold {
        size if size >= GIB => format!("{} GiB", size / GIB),
        time if time >= 3600.0 => format!("{} h", time / 3600.0),
        number => number.to_string(),
    }
}

/// When an alarm goes off, in short.
fn condition(alarm: &Json) -> String {
    let text = |name: &str| alarm[name].as_str().unwrap_or_default();
    let is = match text("ComparisonOperator") {
        "GreaterThanThreshold" => ">",
        "LessThanThreshold" => "<",
        other => panic!("{other} needs a sign"),
    };
    let number = |name: &str| alarm[name].as_f64().or_else(|| text(name).parse().ok()).unwrap();
    let lasts = number("Period") * number("DatapointsToAlarm");
    let (count, unit) = if lasts >= 3600.0 { (lasts / 3600.0, "h") } else { (lasts / 60.0, "min") };
    let (metric, threshold) = (text("MetricName"), readable(number("Threshold")));
    let breach = format!("`{metric}` {is} {threshold} for {count} {unit}");
    let is_told = alarm["InsufficientDataActions"].as_array().is_some_and(|all| !all.is_empty());
    if !is_told && text("TreatMissingData") != "breaching" {
        return breach;
    }
    // Values are looked for two periods further back than the evaluated ones.
    let silent = number("Period") * (number("EvaluationPeriods") + 2.0);
    let silent = if silent >= 3600.0 {
        format!("{} h", silent / 3600.0)
    } else {
        format!("{} min", silent / 60.0)
    };
    format!("{breach}, or about {silent} without data")
}

/// The table of all alarms, in the order of what to do.
pub(super) fn table_of_alarms() -> String {
    let found = alarms();
    let mut out = String::from("| alarm | in | goes off at | what to do |\n|---|---|---|---|\n");
    assert_eq!(found.len(), WHAT_TO_DO.len(), "{:?}", found.keys());
    for (name, what) in WHAT_TO_DO {
        let regions = found.get(name).unwrap_or_else(|| panic!("there is no alarm {name}"));
        let places: Vec<_> = regions.keys().map(String::as_str).collect();
        let conditions: Vec<_> = regions.values().map(condition).collect();
        assert!(conditions.iter().all(|one| *one == conditions[0]), "{name}: {conditions:?}");
        writeln!(out, "| `{name}` | {} | {} | {what} |", places.join(", "), conditions[0]).unwrap();
    }
    out
}
