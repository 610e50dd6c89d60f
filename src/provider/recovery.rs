//! What a failover comes to: by the settings, and by what drills have measured.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{flow::Opened, state::maybe};
use crate::{
    aws::utc,
    cluster::{
        blueprint::LEDGER,
        failover::Phase,
        objectives::{HEARTBEAT, Objectives, RPO_LIMIT, RTO_LIMIT, allowance},
    },
    components::{
        dynamodb_table::DynamodbTable,
        ledger::{DRILLS, FAILOVER, Measured, PHASE},
    },
    contract::drill::{Drilled, Drills},
    plugin::Value,
};

/// What drills and failovers say.
const MEASURED: [&str; 6] = [
    "last_failover",
    "last_drill",
    "promotion_allowed_for",
    "measured_rto_lost_region",
    "measured_rto_lost_instance",
    "at_risk",
];
/// How many drills count.
const COUNTED: usize = 5;
const NONE_YET: &str = "no drill has been measured yet";
const NEVER: &str = "none that is known";
const UNREADABLE: &str = "drills have written what this version of the provider cannot read";

/// What drills have left in the ledger; `None` if that cannot be read.
fn drills(opened: &Opened) -> Option<Drills> {
    let address = DynamodbTable::address(&opened.spec.dr.region, LEDGER);
    let found = opened.inventory.get(&address).and_then(|found| found.outputs.get(DRILLS));
    match found.filter(|text| !text.is_empty()) {
        None => Some(Drills::default()),
        Some(text) => serde_json::from_str(text).ok(),
    }
}

/// The last failover to the standby's region.
fn failover(opened: &Opened) -> Option<Measured> {
    let address = DynamodbTable::address(&opened.spec.dr.region, LEDGER);
    let found = opened.inventory.get(&address).and_then(|found| found.outputs.get(FAILOVER));
    found.and_then(|text| serde_json::from_str(text).ok())
}

/// How far a failover to that region has come.
fn phase(opened: &Opened) -> Option<Phase> {
    let address = DynamodbTable::address(&opened.spec.dr.region, LEDGER);
    Phase::parse(opened.inventory.get(&address)?.outputs.get(PHASE)?)
}

fn objectives(opened: &Opened, measured: Option<u32>) -> Objectives {
    Objectives::new(&opened.spec.failover, opened.spec.dns.ttl, measured)
}

fn by_settings(opened: &Opened) -> Vec<(&'static str, String)> {
    let objectives = objectives(opened, None);
    let after_zone =
        format!("{} s: outside of the target of {RTO_LIMIT} s", objectives.lost_after_zone);
    vec![
        ("rto_lost_region", objectives.lost_region.to_string()),
        ("rto_lost_instance", objectives.lost_instance.to_string()),
        ("rto_lost_instance_after_zone_failover", after_zone),
        ("rpo", objectives.data_loss.to_string()),
    ]
}

/// What settings and drills say.
pub(super) fn observed(opened: &Opened) -> Value {
    let texts = match drills(opened) {
        None => [UNREADABLE; 6].map(str::to_owned),
        Some(drills) => measured(opened, &drills),
    };
    Value::string_map(by_settings(opened).into_iter().chain(MEASURED.into_iter().zip(texts)))
}

fn measured(opened: &Opened, drills: &Drills) -> [String; 6] {
    let none = || NONE_YET.to_owned();
    let failover = failover(opened);
    let failed_over = failover.as_ref().map_or_else(|| NEVER.to_owned(), took);
    let last = drills.past.last().map_or_else(none, told);
    let longest = allowance(&drills.promotions());
    let risks: Vec<_> = risk(opened, drills).into_iter().chain(missed(opened)).collect();
    let risk = match risks.join("; ") {
        why if !why.is_empty() => format!("yes: {why}"),
        _ if longest.is_none() && failover.is_none() => none(),
        _ => "no".to_owned(),
    };
    let Some(seconds) = longest else {
        return [failed_over, last, none(), none(), none(), risk];
    };
    let objectives = objectives(opened, longest);
    [
        failed_over,
        last,
        format!(
            "{seconds} s: the longest promotion of the last {COUNTED} drills, and a fifth more"
        ),
        objectives.lost_region.to_string(),
        objectives.lost_instance.to_string(),
        risk,
    ]
}

/// The last drill that is over, as the data source shows it; null where there was none.
pub(super) fn last_drill(opened: &Opened) -> Value {
    let Some(last) = drills(opened).and_then(|all| all.past.last().cloned()) else {
        return Value::Null;
    };
    let number =
        |seconds: Option<u32>| seconds.map_or(Value::Null, |one| Value::integer(i64::from(one)));
    let loss = last.heartbeat_age.map(|age| age + HEARTBEAT);
    Value::Mapping(BTreeMap::new())
        .with("began", maybe(utc(last.began)))
        .with("ended", maybe(utc(last.ended)))
        .with("failure", maybe(last.failure))
        .with("promotion_seconds", number(last.promotion))
        .with("data_loss_seconds", number(loss))
        .with("blocked_seconds", number(Some(last.blocked)))
}

fn took(one: &Measured) -> String {
    let began = utc(one.began).unwrap_or_default();
    let loss = one.data_loss.map_or_else(
        || "how much was lost is not known".to_owned(),
        |seconds| format!("at most {} s of writes were lost", seconds + u64::from(HEARTBEAT)),
    );
    format!("{began}: the standby wrote after {} s; {loss}", one.seconds)
}

fn told(one: &Drilled) -> String {
    let mut text = utc(one.began).unwrap_or_default();
    match &one.failure {
        Some(why) => _ = write!(text, ": failed: {why}"),
        None => text.push_str(": passed"),
    }
    if let Some(seconds) = one.promotion {
        _ = write!(text, "; promoted in {seconds} s");
    }
    if let Some(seconds) = one.heartbeat_age {
        _ = write!(
            text,
            "; a failover would have lost at most {} s of writes",
            seconds + HEARTBEAT
        );
    }
    _ = write!(text, "; for {} s the standby could not have been promoted", one.blocked);
    text
}

/// What is measured to take longer, or to lose more, than it may.
fn risk(opened: &Opened, drills: &Drills) -> Option<String> {
    let objectives = objectives(opened, allowance(&drills.promotions()));
    let budgets = [
        ("a lost region", &objectives.lost_region),
        ("a lost instance", &objectives.lost_instance),
    ];
    let over = budgets.into_iter().filter(|(_, budget)| budget.is_exceeded());
    let mut all: Vec<String> = over
        .map(|(what, budget)| format!("{what} would take {} of {RTO_LIMIT} s", budget.seconds()))
        .collect();
    let ages = drills.past.iter().rev().filter_map(|one| one.heartbeat_age);
    let lost = ages.take(COUNTED).max().map_or(0, |age| age + HEARTBEAT);
    if lost > RPO_LIMIT {
        all.push(format!("{lost} of {RPO_LIMIT} s of writes would be lost"));
    }
    (!all.is_empty()).then(|| all.join("; "))
}

/// Which objectives the last failover has missed.
fn missed(opened: &Opened) -> Option<String> {
    let mut all = Vec::new();
    // One that a human asked for tells of nobody else, and one that was mended of nothing any more.
    let counts = |one: &Measured| !one.by_hand && phase(opened) != Some(Phase::Normal);
    if let Some(failover) = failover(opened).filter(counts) {
        if failover.seconds > RTO_LIMIT.into() {
            all.push(format!("the last failover took {} of {RTO_LIMIT} s", failover.seconds));
        }
        let lost = failover.data_loss.map_or(0, |seconds| seconds + u64::from(HEARTBEAT));
        if lost > RPO_LIMIT.into() {
            all.push(format!("the last failover lost {lost} of {RPO_LIMIT} s of writes"));
        }
    }
    (!all.is_empty()).then(|| all.join("; "))
}

/// What somebody should know of what drills and failovers have shown, each as summary and detail.
pub(super) fn warnings(opened: &Opened) -> Vec<(&'static str, String)> {
    let drills = drills(opened).unwrap_or_default();
    let mut all = Vec::new();
    if let Some(why) = missed(opened) {
        let text = format!(
            "{why}. What it spent its time with, the data source and terraform-provider-trading status show."
        );
        all.push(("The last failover has missed its objectives", text));
    }
    // What drills say is of a standby that there is no more.
    if opened.roles.are_moving() {
        return all;
    }
    if let Some(why) = risk(opened, &drills) {
        let text = format!(
            "By the last {COUNTED} drills, {why}. The settings stay allowed, as the parts that were measured are \
             not for them to choose: a larger instance class promotes faster, and lower failover.region_detection, \
             failover.instance_detection or dns.ttl leave more time for it."
        );
        all.push(("A failover may miss its objectives", text));
    }
    if let Some(why) = drills.past.last().and_then(|one| one.failure.as_ref()) {
        let text = format!(
            "{why}. Whether the standby can be promoted in time is not known from it. The next one comes by \
             drill.schedule, or when the drill's function is invoked."
        );
        all.push(("The last failover drill has failed", text));
    }
    all
}
