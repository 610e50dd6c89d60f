//! The policies that the documentation hands out for whoever runs Terraform, and those of the functions' roles,
//! suffice, and are no larger than they must be.

use std::collections::{BTreeMap, BTreeSet};

use aws_sandbox::{Access, Effect, Fault, RESTRICTED_KEY, Rule, Sandbox};
use serde_json::{Value as Json, json};

use super::{asked::is_open, drift::id_of, overview};
use crate::support::{
    agent::{EAST, WEST, WITNESS, begin_only, begin_the_others, ledger, remembered, set_lost},
    aws::{Way, connect, connect_like, pass, simulate},
    traffic,
    user::{User, change, configuration, errors},
};

/// The policies for whoever runs Terraform, by their files' names.
const PUBLISHED: [(&str, &str); 3] = [
    ("provider-database", include_str!("../../examples/iam/provider-database.json")),
    ("provider-network", include_str!("../../examples/iam/provider-network.json")),
    ("provider-operations", include_str!("../../examples/iam/provider-operations.json")),
];

/// What the examples call the two VPCs.
const EXAMPLE_VPCS: [(&str, &str); 2] =
    [(EAST, "vpc-0123456789abcdef0"), (WEST, "vpc-0fedcba9876543210")];

type Policies = BTreeMap<String, Json>;

/// Region, kind and id of a record, and what becomes of it.
type Drift = (&'static str, &'static str, String, Option<Json>);

/// The published policies, with the VPCs of a sandbox.
fn published(sandbox: &Sandbox) -> Policies {
    let network = sandbox.with(|world| world.network());
    let filled_in = |text: &str| {
        let filled_in = EXAMPLE_VPCS.iter().fold(text.to_owned(), |text, (region, example)| {
            assert!(text.contains(example) || !text.contains("vpc-"), "{example} is named");
            text.replace(example, network[region]["vpc_id"].as_str().unwrap())
        });
        serde_json::from_str(&filled_in).unwrap()
    };
    PUBLISHED.iter().map(|(name, text)| ((*name).to_owned(), filled_in(text))).collect()
}

/// Gives a principal these policies instead of those that it has.
fn set(sandbox: &Sandbox, kind: &str, name: &str, policies: &Policies) {
    let change = json!({"_policies": policies});
    sandbox.with(|world| world.drift("global", kind, name, Some(&change))).unwrap();
}

/// Changes something behind Terraform's back and has it put back.
async fn put_back(user: &mut User, config: &Json, drifts: &[Drift]) {
    for (region, kind, id, change) in drifts {
        user.sandbox.with(|world| world.drift(region, kind, id, change.as_ref())).unwrap();
    }
    // The tagging API knows of a change after a while only, once somebody has called since.
    user.sandbox.with(|_| ());
    pass(60).await;
    user.must_apply(config).await;
}

/// Changes of what is there that an apply puts back with calls that nothing else makes, in rounds.
fn drifts(user: &User) -> Vec<Vec<Drift>> {
    let id = |region, kind| id_of(user, region, kind);
    let name = |text: &str| text.to_owned();
    let other = |member: &str| Some(json!({member: "other"}));
    let events =
        |ids: &[&str]| Some(json!({"SourceIdsList": ids, "EventCategoriesList": ["backup"]}));
    let table =
        user.sandbox.with(|world| world.network())[EAST]["private_route_table_ids"][0].clone();
    let table = table.as_str().unwrap().to_owned();
    let mut routes =
        user.sandbox.with(|world| world.record(EAST, "route-table", &table))["routeSet"].clone();
    for route in routes["item"].as_array_mut().unwrap() {
        if !route["vpcPeeringConnectionId"].is_null() {
            route["vpcPeeringConnectionId"] = json!("pcx-0123456789abcdef0");
        }
    }
    let subnets = json!([{"SubnetIdentifier": "subnet-1"}, {"SubnetIdentifier": "subnet-2"}]);
    let failed = json!([{"Region": WEST, "Status": "Failed", "KmsKeyId": "other"}]);
    let mine = json!([{"DocumentVersion": "1", "VersionName": "mine", "Content": "{}"}]);
    let open_to_all = json!({"Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "kms:*", "Resource": "*"}]});
    let (monitor, alerts) = ("trading-db-monitor-prod", "trading-db-alerts-prod");
    let instances = ["trading-db-primary-prod", "trading-db-other-prod"];
    vec![
        vec![
            (EAST, "route-table", table, Some(json!({"routeSet": routes}))),
            (EAST, "kms-alias", name("alias/trading-db-key-prod"), other("TargetKeyId")),
            (EAST, "db-event-subscription", name("trading-db-events-prod"), events(&instances)),
            (WEST, "db-event-subscription", name("trading-db-events-prod"), events(&[])),
            (
                EAST,
                "db-subnet-group",
                name("trading-db-subnet-group-prod"),
                Some(json!({"Subnets": {"Subnet": subnets}})),
            ),
            (
                WEST,
                "db-parameter-group",
                name("trading-db-params-prod"),
                Some(json!({"_values": {"work_mem": "64"}})),
            ),
            (
                WEST,
                "db-automated-backup",
                id(WEST, "db-automated-backup"),
                Some(json!({"_tags": {"team": "x"}})),
            ),
            (EAST, "secret", name("trading-db-master-prod"), other("KmsKeyId")),
            (
                EAST,
                "secret",
                name("trading-db-probe-prod"),
                Some(json!({"ReplicationStatus": failed})),
            ),
            (
                "global",
                "health-check",
                id("global", "health-check"),
                Some(json!({"HealthCheckConfig": {"Disabled": true}})),
            ),
            (
                EAST,
                "dynamodb-table",
                name("trading-db-ledger-prod"),
                Some(json!({"BillingModeSummary": {"BillingMode": "PROVISIONED"}})),
            ),
            (WEST, "function", name(monitor), other("CodeSha256")),
            (
                EAST,
                "log-group",
                name("/aws/rds/instance/trading-db-primary-prod/postgresql"),
                other("kmsKeyId"),
            ),
            (EAST, "sns-topic", name(alerts), Some(json!({"_attributes": {"Policy": "{}"}}))),
            (
                WEST,
                "ssm-document",
                name("trading-db-failover-prod"),
                Some(json!({"_versions": mine})),
            ),
            (
                "global",
                "role",
                name("trading-db-monitoring-role-prod"),
                Some(json!({"_trust": {"Statement": []}, "Description": "Mine"})),
            ),
            (
                "global",
                "hosted-zone",
                id("global", "hosted-zone"),
                Some(json!({"Config": {"Comment": "Mine"}})),
            ),
        ],
        vec![(
            EAST,
            "kms-key",
            id(EAST, "kms-key"),
            Some(json!({
                "Enabled": false, "KeyState": "Disabled", "_policy": open_to_all, "Description": "Mine",
            })),
        )],
    ]
}

/// Has deletions called off that somebody else has asked for.
async fn call_off(user: &mut User, config: &Json) {
    let regional = connect(&user.sandbox).await.region(EAST).clone();
    let key = id_of(user, EAST, "kms-key");
    let call = regional.kms.schedule_key_deletion().key_id(key).pending_window_in_days(7);
    call.send().await.unwrap();
    let probe = "trading-db-probe-prod";
    let call = regional.secrets.remove_regions_from_replication().secret_id(probe);
    call.remove_replica_regions(WEST).send().await.unwrap();
    pass(120).await;
    let call = regional.secrets.delete_secret().secret_id(probe).recovery_window_in_days(7);
    call.send().await.unwrap();
    user.must_apply(config).await;
}

/// Everything that whoever runs Terraform does with a cluster, with the published policies and nothing else; its
/// functions run, and it fails over.
async fn live_with_a_cluster(user: &mut User) {
    let sandbox = user.sandbox.clone();
    let mut config = configuration(&sandbox);
    user.must_apply(&config).await;
    user.must_be_unchanged(&config).await;
    for round in drifts(user) {
        put_back(user, &config, &round).await;
    }
    call_off(user, &config).await;
    change(&mut config);
    config["backup"]["snapshot_copies"] = json!(1);
    user.must_apply(&config).await;
    sandbox.with(|world| world.confirm_subscription(EAST, "oncall@example.com"));
    assert!(!user.import("prod").await.has_errors());
    config["tags"] = json!({});
    config["notifications"] = Json::Null;
    config["deletion"] = json!({"final_snapshot": true});
    user.must_apply(&config).await;
    // The runbook for restores differs with it, and is the first one again in the end.
    for replicated in [false, true] {
        config["backup"]["cross_region"] = json!(replicated);
        user.must_apply(&config).await;
    }
    begin_only(&sandbox, &["copier", "drill", "probe"]);
    // A drill that fails is told of.
    let rule = Rule { operation: Some("CreateDBInstanceReadReplica".into()), ..Rule::default() };
    let (code, message) = ("InsufficientDBInstanceCapacity".into(), "none left".into());
    sandbox.add_fault(Fault::new(rule, Effect::Fail { code, message, status: 400 }));
    pass(86_400).await;
    sandbox.clear_faults();
    pass(86_400).await;
    let drills = remembered(&sandbox, WEST, "drill")["past"].clone();
    let failed: Vec<_> = several(&drills).iter().map(|one| !one["failure"].is_null()).collect();
    assert_eq!(failed, [true, false], "{drills:#}");
    begin_the_others(&sandbox);
    pass(300).await;
    close_and_open(&sandbox, EAST).await;
    assert_eq!(ledger(&sandbox, WEST)["phase"], "normal");
    set_lost(&sandbox, EAST, true);
    pass(300).await;
    assert_eq!(ledger(&sandbox, WEST)["phase"], "promoted");
    set_lost(&sandbox, EAST, false);
    pass(600).await;
    assert_eq!(ledger(&sandbox, WEST)["fenced_there"], true);
    user.restart().await;
    user.must_apply(&config).await;
    // The one that took over guards as the first one did, once it remembers nothing but that it holds the lease.
    let table = "trading-db-ledger-prod";
    sandbox.with(|world| world.drift(WEST, "dynamodb-table", table, None)).unwrap();
    user.restart().await;
    user.must_apply(&config).await;
    pass(300).await;
    close_and_open(&sandbox, WEST).await;
}

/// A writer's region is cut off from both others, closes itself, and opens again as nobody has taken over.
async fn close_and_open(sandbox: &Sandbox, region: &str) {
    let other = if region == EAST { WEST } else { EAST };
    let cut = |on: bool| {
        sandbox.with(|world| {
            world.set_cut(region, other, on);
            world.set_cut(region, WITNESS, on);
        });
    };
    assert!(is_open(sandbox, region), "{region}");
    cut(true);
    for _ in 0..100 {
        if !is_open(sandbox, region) {
            break;
        }
        pass(1).await;
    }
    assert!(!is_open(sandbox, region), "{region}");
    cut(false);
    pass(300).await;
    assert!(is_open(sandbox, region), "{region}");
}

/// An account's first instance, and a destroy while a drill's copy is there.
async fn live_with_one_that_is_destroyed_in_a_drill(user: &mut User) {
    let sandbox = user.sandbox.clone();
    sandbox.with(|world| world.drift("global", "role", "AWSServiceRoleForRDS", None)).unwrap();
    let mut config = configuration(&sandbox);
    config["deletion"] = json!({"final_snapshot": true});
    config["drill"] = json!({"schedule": "cron(0 9 * * ? *)"});
    user.must_apply(&config).await;
    begin_only(&sandbox, &["drill", "probe"]);
    let is_there = || {
        let all = sandbox.with(|world| world.inventory());
        all[WEST]["db-instance"]["trading-db-drill-prod"]["DBInstanceStatus"] == "available"
    };
    for _ in 0..2 * 24 * 60 {
        if is_there() {
            break;
        }
        pass(60).await;
    }
    assert!(is_there());
    user.must_destroy().await;
}

async fn restricted() -> User {
    let sandbox = Sandbox::new(1.0);
    set(&sandbox, "user", "restricted", &published(&sandbox));
    sandbox.with(|world| {
        world.record_access();
        world.record_traffic();
    });
    User::by(sandbox, Way::of(RESTRICTED_KEY)).await
}

/// What a principal has done, by a part of its ARN.
fn seen_of(sandbox: &Sandbox, principal: &str) -> Vec<Access> {
    let all = sandbox.with(|world| world.accesses());
    all.into_iter().filter(|one| one.principal().contains(principal)).collect()
}

/// One text or several.
fn several(value: &Json) -> Vec<Json> {
    value.as_array().cloned().unwrap_or_else(|| vec![value.clone()])
}

/// What of a role's policies could be left out without anything being denied, each action on each resource by itself:
/// `role statement: what`.
fn superfluous_pairs(
    sandbox: &Sandbox,
    role: &str,
    policies: &Policies,
    seen: &[Access],
) -> Vec<String> {
    let mut found = Vec::new();
    let seen: Vec<_> =
        sandbox.with(|world| seen.iter().filter(|one| world.would_allow(one)).collect());
    assert!(seen.len() > 3, "{role} did nothing");
    for (name, policy) in policies {
        let statements = several(&policy["Statement"]);
        for (index, statement) in statements.iter().enumerate() {
            if statement["Effect"] == "Deny" {
                continue;
            }
            let (actions, resources) =
                (several(&statement["Action"]), several(&statement["Resource"]));
            for (action, resource) in
                actions.iter().flat_map(|action| resources.iter().map(move |one| (action, one)))
            {
                // The others on all, and this one on the others.
                let without = |all: &[Json], gone: &Json| -> Vec<Json> {
                    all.iter().filter(|one| *one != gone).cloned().collect()
                };
                let parts = [
                    (without(&actions, action), resources.clone()),
                    (vec![action.clone()], without(&resources, resource)),
                ];
                let parts = parts.into_iter().filter(|(of, on)| !of.is_empty() && !on.is_empty());
                let mut less = statements.clone();
                less.remove(index);
                less.extend(parts.map(|(of, on)| {
                    let mut part = statement.clone();
                    (part["Action"], part["Resource"]) = (json!(of), json!(on));
                    part
                }));
                let mut all = policies.clone();
                all.get_mut(name).unwrap()["Statement"] = json!(less);
                set(sandbox, "role", role, &all);
                if sandbox.with(|world| seen.iter().all(|one| world.would_allow(one))) {
                    let statement = statement["Sid"].as_str().unwrap_or_default();
                    found.push(format!("{role} {statement}: {action} on {resource}"));
                }
            }
        }
    }
    set(sandbox, "role", role, policies);
    found
}

/// What of a user's policies could be left out without anything being denied: `policy statement: what`. Their statements
/// take several actions on several things together, as AWS takes only so many characters.
fn superfluous(sandbox: &Sandbox, user: &str, policies: &Policies, seen: &[Access]) -> Vec<String> {
    let mut found = Vec::new();
    // What was allowed by policies that have changed since tells nothing of these.
    let seen: Vec<_> =
        sandbox.with(|world| seen.iter().filter(|one| world.would_allow(one)).collect());
    assert!(seen.len() > 3, "{user} did nothing");
    for (name, policy) in policies {
        for (index, statement) in several(&policy["Statement"]).iter().enumerate() {
            if statement["Effect"] == "Deny" {
                continue;
            }
            let actions = several(&statement["Action"]);
            let concerned = |one: &&&Access| {
                actions.iter().any(|action| {
                    let action = action.as_str().unwrap();
                    let stem = action.strip_suffix('*').unwrap_or(action);
                    one.action() == action || (stem != action && one.action().starts_with(stem))
                })
            };
            let concerned: Vec<_> = seen.iter().filter(concerned).collect();
            for member in ["Action", "Resource"] {
                let all = several(&statement[member]);
                for gone in &all {
                    let left: Vec<_> = all.iter().filter(|one| *one != gone).collect();
                    let mut less = policies.clone();
                    let place = &mut less.get_mut(name).unwrap()["Statement"][index];
                    place[member] = json!(left);
                    if left.is_empty() {
                        place["Resource"] = json!("arn:aws:nothing:::");
                    }
                    set(sandbox, "user", user, &less);
                    let is_needed =
                        sandbox.with(|world| concerned.iter().any(|one| !world.would_allow(one)));
                    if !is_needed {
                        let statement = statement["Sid"].as_str().unwrap_or_default();
                        found.push(format!("{name} {statement}: {}", gone.as_str().unwrap()));
                    }
                }
            }
        }
    }
    set(sandbox, "user", user, policies);
    found
}

/// What needs no permission by AWS, what only the data source calls, which has a policy of its own, and what whoever has no
/// role yet needs, on that role.
const NOT_IN_THE_POLICIES: [&str; 4] = [
    "cloudwatch:GetMetricData",
    "sts:AssumeRole",
    "sts:AssumeRoleWithWebIdentity",
    "sts:GetCallerIdentity",
];

/// What the guide says that the provider calls, `service:Operation`.
fn calls() -> BTreeSet<String> {
    let guide = include_str!("../../docs/guides/security.md");
    let table = guide.split("<!-- from: calls -->").nth(1).unwrap().split("<!-- end -->").next();
    let rows = table.unwrap().lines().filter(|line| line.starts_with("| `"));
    let of = |row: &str| {
        let mut names = row.split('`').skip(1).step_by(2);
        let service = names.next().unwrap().to_owned();
        names.map(|name| format!("{service}:{name}")).collect::<Vec<_>>()
    };
    rows.flat_map(of).collect()
}

#[test]
fn every_call_is_in_the_published_policies() {
    let all = PUBLISHED.iter().map(|(_, text)| serde_json::from_str::<Json>(text).unwrap());
    let statements: Vec<_> = all.flat_map(|policy| several(&policy["Statement"])).collect();
    let actions = statements.iter().flat_map(|one| several(&one["Action"]));
    let allowed: BTreeSet<_> = actions.map(|one| one.as_str().unwrap().to_owned()).collect();
    let calls = calls();
    assert!(calls.len() > 150, "{calls:?}");
    let missing: Vec<_> = calls.difference(&allowed).map(String::as_str).collect();
    assert_eq!(missing, NOT_IN_THE_POLICIES);
}

/// AWS takes 6,144 characters, white space aside, in a policy that is attached.
#[test]
fn the_published_policies_fit() {
    for (name, text) in PUBLISHED {
        let size = text.chars().filter(|one| !one.is_whitespace()).count();
        assert!(size <= 6144, "{name} has {size} characters");
    }
}

#[test]
fn whoever_has_the_published_policies_may_do_it_all_and_needs_all_of_them() {
    simulate(async || {
        let mut user = restricted().await;
        live_with_a_cluster(&mut user).await;
        let sandbox = user.sandbox.clone();
        let (mut found, mut roles) = (Vec::new(), Vec::new());
        // Whatever functions there will be, their roles have policies of their own.
        let all = sandbox.with(|world| world.inventory())["global"]["role"].clone();
        let all = all.as_object().unwrap().keys().cloned();
        let own = |name: &String| {
            let record = sandbox.with(|world| world.record("global", "role", name));
            record["_policies"].as_object().is_some_and(|policies| !policies.is_empty())
        };
        let own: Vec<_> = all.filter(own).collect();
        assert!(own.len() >= 4, "{own:?}");
        for name in own {
            let seen = seen_of(&sandbox, &format!("role/{name}"));
            let record = sandbox.with(|world| world.record("global", "role", &name));
            let policies = record["_policies"].as_object().unwrap().clone().into_iter().collect();
            found.extend(superfluous_pairs(&sandbox, &name, &policies, &seen));
            roles.push(policies);
        }
        traffic::keep_policies(&roles.iter().collect::<Vec<_>>());
        overview::must_hold(overview::look(&sandbox).await);
        user.must_destroy().await;
        let mut seen = seen_of(&sandbox, "user/restricted");

        let mut user = restricted().await;
        live_with_one_that_is_destroyed_in_a_drill(&mut user).await;
        seen.extend(seen_of(&user.sandbox, "user/restricted"));
        let policies = published(&sandbox);
        found.extend(superfluous(&sandbox, "restricted", &policies, &seen));
        assert!(found.is_empty(), "{found:#?}");
        let operations = traffic::keep("life", &[&sandbox, &user.sandbox]);
        assert!(operations > 150, "{operations} operations");
    });
}

#[test]
fn a_function_whose_tags_are_withheld_is_not_taken_for_somebody_elses() {
    simulate(async || {
        let (user, config) = User::with_cluster().await;
        let text = json!(published(&user.sandbox)).to_string();
        let less = text.replace("\"lambda:ListTags\",", "");
        assert_ne!(less, text);
        set(&user.sandbox, "user", "restricted", &serde_json::from_str(&less).unwrap());
        let mut restricted = User::by(user.sandbox.clone(), Way::of(RESTRICTED_KEY)).await;
        restricted.state = user.state.clone();
        let found = errors(&restricted.plan(&config).await.diagnostics);
        assert!(!found.is_empty());
        for one in found {
            assert!(one.contains("Permission denied while planning"), "{one}");
            assert!(
                one.contains("its tags are withheld") && one.contains("lambda:ListTags"),
                "{one}"
            );
        }
    });
}

/// The role that a probe has may manage interfaces for Lambda, which does it before the probe's code runs.
#[test]
fn a_probes_own_code_may_not_do_what_lambda_does_for_it() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        let role = "trading-db-probe-role-prod";
        let own = Way::of(&format!("ASIAFUNCTION.{role}"));
        let ec2 = connect_like(&user.sandbox, &own).await.region(EAST).ec2.clone();
        let denied = ec2.describe_subnets().send().await.unwrap_err();
        let denied = format!("{denied:?}");
        assert!(denied.contains("UnauthorizedOperation"), "{denied}");
        let mut record = user.sandbox.with(|world| world.record("global", "role", role));
        for (_, policy) in record["_policies"].as_object_mut().unwrap() {
            policy["Statement"].as_array_mut().unwrap().retain(|one| one["Effect"] == "Allow");
        }
        let policies = record["_policies"].as_object().unwrap().clone().into_iter().collect();
        set(&user.sandbox, "role", role, &policies);
        ec2.describe_subnets().send().await.unwrap();
    });
}
