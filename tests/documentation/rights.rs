//! What is called, by whom, and why: the tables in the guide on security.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde_json::{Value as Json, json};

use super::files;
use crate::support::{
    aws::{only_reads, simulate},
    repository,
    user::{State, User},
};

/// Every call that the provider's code may make, by service as IAM names it: what reads, and what changes.
fn calls() -> BTreeMap<String, [BTreeSet<String>; 2]> {
    let call = regex_lite::Regex::new(r#"api\(\s*"([a-z0-9]+)",\s*"([A-Za-z]+)"#).unwrap();
    let mut services: BTreeMap<String, [BTreeSet<String>; 2]> = BTreeMap::new();
    let source = repository().join("src");
    for path in files(&source, "rs").iter().filter(|path| !path.starts_with(source.join("agent"))) {
        let text = std::fs::read_to_string(path).unwrap();
        for found in call.captures_iter(&text) {
            let (service, action) = action(&found[1], &found[2]);
            let all = services.entry(service.to_owned()).or_default();
            all[usize::from(!only_reads(action))].insert(action.to_owned());
        }
    }
    // Before anything else is called, for credentials: they go by a session of their own.
    for action in ["AssumeRole", "AssumeRoleWithWebIdentity"] {
        let text = std::fs::read_to_string(source.join("aws/credentials.rs")).unwrap();
        assert!(text.contains(&format!("api(\"{action}\")")), "{action}");
        services.get_mut("sts").unwrap()[0].insert(action.to_owned());
    }
    services
}

/// A call as IAM names it.
fn action<'a>(service: &'a str, operation: &'a str) -> (&'a str, &'a str) {
    match (service, operation) {
        ("tagging", operation) => ("tag", operation),
        ("lambda", "Invoke") => ("lambda", "InvokeFunction"),
        other => other,
    }
}

/// What the provider calls a service for.
const WHY: [(&str, &str); 15] = [
    ("cloudwatch", "alarms and dashboards; the data source reads what was measured"),
    (
        "dynamodb",
        "the ledgers of the monitors and the lease; they are told of applies and of a destroy",
    ),
    ("ec2", "networks are looked at; peering, routes, security groups and their rules"),
    ("events", "schedules of the functions"),
    ("iam", "a role for each function, and one for enhanced monitoring"),
    ("kms", "a key and an alias in each region"),
    ("lambda", "the functions; the probe makes its own login in the database when it is invoked"),
    ("logs", "log groups of the databases and the functions, before anything is written to them"),
    (
        "rds",
        "the databases, their groups, backups, snapshots and events; what RDS offers is looked up for the plan",
    ),
    ("route53", "the zone, its associations, health checks and weighted records"),
    ("secretsmanager", "the logins of the master user and of the probe, with their replicas"),
    ("sns", "a topic in each region, and who is told"),
    ("ssm", "runbooks; the cluster's record and the lease of a run, as parameters"),
    ("sts", "whose account it is; roles and tokens, where the provider or a profile names them"),
    ("tag", "what carries the cluster's tags, in one call for each region"),
];

pub(super) fn table_of_calls() -> String {
    let mut out = String::from("| service | what for | reads | changes |\n|---|---|---|---|\n");
    let line = |all: &BTreeSet<String>| {
        all.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ")
    };
    let calls = calls();
    assert_eq!(calls.len(), WHY.len());
    for (service, [reads, changes]) in calls {
        let why = WHY.iter().find(|(known, _)| *known == service).unwrap().1;
        writeln!(out, "| `{service}` | {why} | {} | {} |", line(&reads), line(&changes)).unwrap();
    }
    out
}

/// What a function may do it for, by the names of the statements in its role's policy.
const PURPOSES: [(&str, &str); 21] = [
    ("Copy", "makes its own copy"),
    ("Encrypt", "its copy is encrypted with the cluster's key"),
    ("EndSessions", "reboots the old writer, which ends the sessions that it has"),
    ("Fence", "takes applications' rules from the old writer's group, and puts them back"),
    ("Interfaces", "Lambda makes its interfaces in the VPC"),
    ("Keep", "tags its copies, and removes those that are too many"),
    ("Keys", "the cluster's keys, through the services that it uses"),
    ("KeysOfTopics", "the keys of the cluster's topics"),
    ("List", "finds snapshots"),
    ("Log", "its own log"),
    ("LogIn", "the probe's login, which it hands to the probe"),
    ("Look", "sees what RDS and EC2 say"),
    ("LookAtInstances", "looks at the two instances"),
    ("Measure", "metrics of the namespace `TradingDR`"),
    ("NotByItself", "what Lambda does for it, its own code may not"),
    ("Probe", "has the probe look"),
    ("Promote", "promotes the standby"),
    ("Remember", "its ledger, and the lease"),
    ("Tell", "the cluster's topics"),
    ("ThrowAway", "what it has made itself"),
    ("Variables", "its own settings, which are encrypted"),
];

/// Why a function's role has a right on all that there is.
const WHY_ALL: [(&str, &str); 10] = [
    ("cloudwatch:PutMetricData", NOTHING_ELSE),
    ("ec2:DescribeNetworkInterfaces", NOTHING_ELSE),
    ("ec2:DescribeSecurityGroups", NOTHING_ELSE),
    ("ec2:DescribeSubnets", NOTHING_ELSE),
    ("rds:DescribeEvents", NOTHING_ELSE),
    ("rds:DescribeDBSnapshots", "a list, asked for without what is in it"),
    ("ec2:AssignPrivateIpAddresses", INTERFACES),
    ("ec2:CreateNetworkInterface", INTERFACES),
    ("ec2:DeleteNetworkInterface", INTERFACES),
    ("ec2:UnassignPrivateIpAddresses", INTERFACES),
];
const NOTHING_ELSE: &str = "AWS takes nothing else to look or to measure";
const INTERFACES: &str = "interfaces have no names before Lambda makes them";

/// Each of the rights has a reason; these, together.
fn why_all(actions: &[String]) -> String {
    let mut reasons = Vec::new();
    for action in actions {
        let why = WHY_ALL.iter().find(|(known, _)| action == known);
        let (_, why) = why.unwrap_or_else(|| panic!("why is {action} allowed on everything?"));
        if !reasons.contains(why) {
            reasons.push(*why);
        }
    }
    reasons.join("; ")
}

/// What the roles that the cluster makes may do, as an apply makes them.
pub(super) fn table_of_functions() -> String {
    let roles = std::sync::Mutex::new(Json::Null);
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        let all = user.sandbox.with(|world| world.inventory());
        let names = all["global"]["role"].as_object().unwrap().keys();
        let role = |name: &String| {
            (name.clone(), user.sandbox.with(|world| world.record("global", "role", name)))
        };
        *roles.lock().unwrap() = names.map(role).collect();
    });
    let mut out = String::from("| role | may | what for | on |\n|---|---|---|---|\n");
    for (name, role) in roles.into_inner().unwrap().as_object().unwrap() {
        let Some(policies) = role["_policies"].as_object() else { continue };
        for document in policies.values() {
            for statement in document["Statement"].as_array().unwrap() {
                let sid = statement["Sid"].as_str().unwrap();
                let why = PURPOSES.iter().find(|(known, _)| *known == sid);
                let (_, why) = why.unwrap_or_else(|| panic!("what is {sid} for?"));
                let all = |value: &Json| -> Vec<String> {
                    let several = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
                    several.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
                };
                let actions: Vec<_> =
                    all(&statement["Action"]).iter().map(|one| format!("`{one}`")).collect();
                let denied = if statement["Effect"] == "Deny" { "**not** " } else { "" };
                // What differs from cluster to cluster is left out.
                let mut on: Vec<_> = all(&statement["Resource"])
                    .iter()
                    .map(|arn| match arn.splitn(6, ':').nth(5) {
                        Some(rest) if rest.starts_with("key/") => "the cluster's keys".to_owned(),
                        Some(rest) if rest.starts_with("security-group/") => {
                            "the two databases' groups".to_owned()
                        }
                        Some(rest) => format!("`{}`", without_mark(rest)),
                        None if statement["Effect"] == "Deny" => "`*`".to_owned(),
                        None => format!("`*` ({})", why_all(&all(&statement["Action"]))),
                    })
                    .collect();
                on.dedup();
                let conditions = statement["Condition"].as_object();
                let limits: Vec<_> = conditions
                    .into_iter()
                    .flat_map(|all| all.values())
                    .flat_map(|one| one.as_object().unwrap().keys())
                    .map(|key| format!("`{key}`"))
                    .collect();
                let limits = if limits.is_empty() {
                    String::new()
                } else {
                    format!(", by {}", limits.join(", "))
                };
                writeln!(
                    out,
                    "| `{name}` | {denied}{} | {why} | {}{limits} |",
                    actions.join(", "),
                    on.join(", ")
                )
                .unwrap();
            }
        }
    }
    assert!(out.lines().count() > 30, "{out}");
    out
}

/// The name of a secret without what AWS hangs on it.
fn without_mark(name: &str) -> String {
    match name.strip_prefix("secret:").and_then(|rest| rest.rsplit_once('-')) {
        Some((plain, mark)) if mark.len() == 6 => format!("secret:{plain}-??????"),
        _ => name.to_owned(),
    }
}

#[test]
fn every_call_of_a_life_is_in_the_table_of_calls() {
    let documented = calls();
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        config["tags"] = json!({"team": "risk"});
        config["database"] = json!({"instance_class": "db.r6g.large"});
        user.must_apply(&config).await;
        user.state = State::default();
        assert!(!user.import("prod").await.has_errors());
        user.must_destroy().await;
        let calls = user.sandbox.calls();
        assert!(calls.len() > 300);
        for call in calls {
            let (service, action) = action(&call.service, &call.operation);
            let known = documented
                .get(service)
                .is_some_and(|all| all.iter().any(|all| all.contains(action)));
            assert!(known, "{service}:{action} is not in the table");
        }
    });
}

/// A right of whoever runs Terraform, or looks at a cluster, is allowed on everything: the guide on security says why.
#[test]
fn every_right_on_everything_has_its_reason_in_the_guide() {
    let guide = std::fs::read_to_string(repository().join("docs/guides/security.md")).unwrap();
    let several = |value: &Json| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let mut found = BTreeSet::new();
    for path in files(&repository().join("examples/iam"), "json") {
        let policy: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for statement in several(&policy["Statement"]) {
            if several(&statement["Resource"]).contains(&json!("*")) {
                let actions = several(&statement["Action"]).into_iter();
                found.extend(actions.map(|one| one.as_str().unwrap().to_owned()));
            }
        }
    }
    assert!(found.len() > 15, "{found:?}");
    let rows: Vec<_> = guide.lines().filter(|line| line.contains("`*` for")).collect();
    for action in found {
        let is_told = rows.iter().any(|row| {
            // As `route53:CreateHostedZone` and `CreateHealthCheck` are.
            let (service, name) = action.split_once(':').unwrap();
            row.contains(&format!("`{action}`"))
                || (row.contains(&format!("`{service}:")) && row.contains(&format!("`{name}`")))
                || (row.contains("`Describe…` of EC2")
                    && action.starts_with("ec2:Describe")
                    && action != "ec2:DescribeVpcAttribute")
        });
        assert!(is_told, "why is {action} allowed on everything?");
    }
}
