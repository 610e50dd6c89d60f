//! What somebody changes behind Terraform's back shows as its line, and an apply puts it back.

use std::collections::{BTreeMap, BTreeSet};

use aws_sandbox::World;
use serde_json::{Value as Json, json};
use trading::{components::kinds, plugin::Value};

use super::drift_settings::{ELSEWHERE, FIXED};
use crate::support::{
    aws::simulate,
    traffic,
    user::{User, differences, errors},
};

/// Region, kind and id of a record, what becomes of it, and the line that shows it.
pub type Case = (&'static str, &'static str, String, Option<Json>, &'static str);

pub fn id_of(user: &User, region: &str, kind: &str) -> String {
    let all = user.sandbox.with(|world| world.inventory());
    all[region][kind].as_object().and_then(|all| all.keys().next().cloned()).unwrap()
}

/// Kinds of which a cluster has none for long: copies and drill tell of them.
const COMES_AND_GOES: [&str; 2] = ["db-snapshot-copy", "drill-instance"];

fn cases(user: &User) -> Vec<Case> {
    let id = |region, kind| id_of(user, region, kind);
    let name = |text: &str| text.to_owned();
    let (east, west) = ("us-east-1", "us-west-2");
    let table =
        user.sandbox.with(|world| world.network())[east]["private_route_table_ids"][0].clone();
    let table = table.as_str().unwrap().to_owned();
    vec![
        (
            east,
            "kms-key",
            id(east, "kms-key"),
            Some(json!({"_rotation": false})),
            "us-east-1/kms-key",
        ),
        (
            east,
            "kms-key",
            id(east, "kms-key"),
            Some(json!({"_rotation_days": 2560})),
            "us-east-1/kms-key",
        ),
        (
            west,
            "kms-key",
            id(west, "kms-key"),
            Some(
                json!({"_policy": {"Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "kms:*", "Resource": "*"}]}}),
            ),
            "us-west-2/kms-key",
        ),
        (east, "kms-alias", name("alias/trading-db-key-prod"), None, "us-east-1/kms-alias"),
        (
            east,
            "security-group",
            user.sandbox.with(|world| world.group_id(east, "trading-db-sg-prod")),
            Some(json!({"_rules": []})),
            "us-east-1/security-group-rule/10.20.0.0/16",
        ),
        (east, "route-table", table, Some(json!({"routeSet": {"item": []}})), "us-east-1/route/"),
        (
            east,
            "db-subnet-group",
            name("trading-db-subnet-group-prod"),
            Some(json!({"_tags": {"team": "x"}})),
            "us-east-1/db-subnet-group",
        ),
        (
            west,
            "db-parameter-group",
            name("trading-db-params-prod"),
            Some(json!({"_values": {"work_mem": "64"}})),
            "us-west-2/db-parameter-group",
        ),
        (
            west,
            "db-parameter-group",
            name("trading-db-params-prod"),
            Some(json!({"_values": {"hot_standby_feedback": "0"}})),
            "us-west-2/db-parameter-group",
        ),
        (
            "global",
            "role",
            name("trading-db-monitoring-role-prod"),
            Some(json!({"_attached": []})),
            "global/iam-role/monitoring",
        ),
        (
            "global",
            "role",
            name("trading-db-monitoring-role-prod"),
            Some(json!({"_policies": {"more": {"Statement": []}}})),
            "global/iam-role/monitoring",
        ),
        (
            east,
            "log-group",
            name("/aws/rds/instance/trading-db-primary-prod/postgresql"),
            Some(json!({"retentionInDays": 1})),
            "us-east-1/log-group/postgresql",
        ),
        (
            west,
            "log-group",
            name("/aws/rds/instance/trading-db-replica-prod/upgrade"),
            None,
            "us-west-2/log-group/upgrade",
        ),
        (
            east,
            "db-instance",
            name("trading-db-primary-prod"),
            Some(json!({"BackupRetentionPeriod": 3})),
            "us-east-1/db-instance",
        ),
        (
            east,
            "db-instance",
            name("trading-db-primary-prod"),
            Some(json!({"AutoMinorVersionUpgrade": true})),
            "us-east-1/db-instance",
        ),
        (
            west,
            "db-instance",
            name("trading-db-replica-prod"),
            Some(json!({"PubliclyAccessible": true})),
            "us-west-2/db-instance",
        ),
        (
            west,
            "db-instance",
            name("trading-db-replica-prod"),
            Some(json!({"DBInstanceClass": "db.t3.large"})),
            "us-west-2/db-instance",
        ),
        (
            west,
            "db-automated-backup",
            id(west, "db-automated-backup"),
            None,
            "us-west-2/db-automated-backup",
        ),
        (west, "db-instance", name("trading-db-replica-prod"), None, "us-west-2/db-instance"),
    ]
}

/// The same for what watches, tells and names.
fn more_cases(user: &User) -> Vec<Case> {
    let id = |region, kind| id_of(user, region, kind);
    let name = |text: &str| text.to_owned();
    let (east, west, global) = ("us-east-1", "us-west-2", "global");
    let text = json!({"markdown": "trading_dr_cluster `prod`"});
    let body = json!({"widgets": [{"type": "text", "x": 0, "y": 0, "width": 6, "height": 2, "properties": text}]});
    let only_west = json!([{"VPCRegion": west, "VPCId": user.sandbox.with(|world| world.network())[west]["vpc_id"]}]);
    let lone = json!([{"VPCRegion": east, "VPCId": user.sandbox.with(|world| world.network())[east]["vpc_id"]}]);
    vec![
        (
            east,
            "alarm",
            name("trading-db-cpu-prod"),
            Some(json!({"Threshold": 99.0})),
            "us-east-1/alarm/cpu",
        ),
        (
            west,
            "alarm",
            name("trading-db-replica-lag-prod"),
            Some(json!({"ActionsEnabled": false})),
            "us-west-2/alarm/replica-lag",
        ),
        (
            west,
            "alarm",
            name("trading-db-replica-lag-prod"),
            Some(json!({"OKActions": []})),
            "us-west-2/alarm/replica-lag",
        ),
        (
            west,
            "alarm",
            name("trading-db-primary-serving-prod"),
            None,
            "us-west-2/alarm/primary-serving",
        ),
        (
            east,
            "alarm",
            name("trading-db-cpu-prod"),
            Some(json!({"_tags": {"team": "x"}})),
            "us-east-1/alarm/cpu",
        ),
        (
            east,
            "sns-topic",
            name("trading-db-alerts-prod"),
            Some(json!({"_attributes": {"Policy": "{}"}})),
            "us-east-1/sns-topic",
        ),
        (
            east,
            "sns-topic",
            name("trading-db-alerts-prod"),
            Some(json!({"_attributes": {"KmsMasterKeyId": null}})),
            "us-east-1/sns-topic",
        ),
        (west, "sns-topic", name("trading-db-alerts-prod"), None, "us-west-2/sns-topic"),
        (
            west,
            "db-event-subscription",
            name("trading-db-events-prod"),
            Some(json!({"Enabled": false, "SourceIdsList": []})),
            "us-west-2/db-event-subscription",
        ),
        (
            east,
            "db-event-subscription",
            name("trading-db-events-prod"),
            None,
            "us-east-1/db-event-subscription",
        ),
        (
            global,
            "dashboard",
            name("trading-db-dashboard-dr-prod"),
            Some(json!({"DashboardBody": body.to_string()})),
            "us-west-2/dashboard",
        ),
        (
            west,
            "db-event-subscription",
            name("trading-db-events-prod"),
            Some(json!({"Status": "topic-not-exist"})),
            "us-west-2/db-event-subscription",
        ),
        (
            global,
            "hosted-zone",
            id(global, "hosted-zone"),
            Some(json!({"_vpcs": only_west})),
            "global/hosted-zone",
        ),
        (
            global,
            "hosted-zone",
            id(global, "hosted-zone"),
            Some(json!({"_records": []})),
            "global/dns-record/",
        ),
        (
            global,
            "hosted-zone",
            id(global, "hosted-zone"),
            Some(json!({"_vpcs": lone})),
            "global/hosted-zone-association/",
        ),
        (
            global,
            "hosted-zone",
            id(global, "hosted-zone"),
            Some(json!({"_tags": {"team": "x"}})),
            "global/hosted-zone",
        ),
        (
            global,
            "health-check",
            id(global, "health-check"),
            Some(json!({"HealthCheckConfig": {"Disabled": true}})),
            "global/health-check/",
        ),
    ]
}

/// Lives one drift; the settings that showed it, or what went wrong.
async fn live(
    user: &mut User,
    config: &Json,
    (region, kind, id, change, expected): &Case,
) -> Result<Vec<(String, String)>, String> {
    let told = format!("{region} {kind} {id} {change:?}");
    let wrong = |what: String| Err(format!("{told}: {what}"));
    let before = user.state.value.clone().unwrap();
    user.sandbox.with(|world| world.drift(region, kind, id, change.as_ref()))?;
    // The tagging API knows of a change after a while only, once somebody has called since.
    user.sandbox.with(|_| ());
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let planned = user.plan(config).await;
    let found = errors(&planned.diagnostics);
    if !found.is_empty() {
        return wrong(format!("{found:#?}"));
    }
    let now = user.state.value.clone().unwrap();
    let drifted = differences(&before, &now);
    let lines: Vec<_> = drifted.iter().filter(|one| one.starts_with("components")).collect();
    // A group's rules are lines of their own.
    let shows = match *kind {
        "security-group" => format!("components {region}/security-group"),
        _ => format!("components {expected}"),
    };
    let odd = lines.iter().find(|one| !one.starts_with(&shows));
    let is_shown = lines.iter().any(|one| one.starts_with(&format!("components {expected}")));
    // What refers to something that is gone shows as well.
    if !is_shown || (odd.is_some() && change.is_some()) {
        return wrong(format!("shows as {lines:#?}"));
    }
    let left = differences(before.get("components"), planned.state.unwrap().get("components"));
    if !left.is_empty() {
        return wrong(format!("is planned as {left:#?}"));
    }
    let found = errors(&user.apply(config).await);
    if !found.is_empty() {
        return wrong(format!("{found:#?}"));
    }
    user.must_be_unchanged(config).await;
    let (all, now) = (settings(&before), settings(&now));
    let shown =
        all.into_iter().filter(|(name, value)| now.get(name).is_some_and(|one| one != value));
    Ok(shown.map(|((_, kind, setting), _)| (kind, setting)).collect())
}

#[test]
fn drift_shows_as_its_line_and_is_put_back() {
    simulate(async || {
        let (mut made, mut config) = User::with_cluster().await;
        config["notifications"] =
            json!({"sqs_queue_arns": ["arn:aws:sqs:us-east-1:123456789012:alerts"]});
        made.must_apply(&config).await;
        made.sandbox.with(World::record_traffic);
        let all = cases(&made).into_iter().chain(more_cases(&made));
        let all = all.chain(super::drift_agent::cases(&made));
        let (mut shown, mut wrong) = (BTreeSet::new(), Vec::new());
        for case in all.chain(super::drift_settings::cases(&made)) {
            let sandbox = aws_sandbox::Sandbox::with_world(made.sandbox.world(), 1.0);
            let mut user = User::of(sandbox).await;
            user.state = made.state.clone();
            match live(&mut user, &config, &case).await {
                Ok(more) => shown.extend(more),
                Err(why) => wrong.push(why),
            }
        }
        traffic::keep("drift", &[&made.sandbox]);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let state = made.state.value.as_ref().unwrap();
        let there = state.get("components");
        let there: BTreeSet<_> =
            there.entries().filter_map(|(address, _)| address.split('/').nth(1)).collect();
        let absent: Vec<_> =
            kinds().iter().map(|kind| kind.name()).filter(|name| !there.contains(name)).collect();
        assert_eq!(absent, COMES_AND_GOES, "no drift of these is tried");
        let every = settings(state);
        let every: BTreeSet<_> =
            every.into_keys().map(|(_, kind, setting)| (kind, setting)).collect();
        for (kind, setting) in FIXED.iter().chain(ELSEWHERE) {
            let is_there = every.contains(&((*kind).to_owned(), (*setting).to_owned()));
            assert!(is_there, "{kind} has no {setting} that could be left out");
        }
        let untried: BTreeSet<_> = every
            .into_iter()
            .filter(|one| !shown.contains(one))
            .filter(|(kind, setting)| {
                let one = (kind.as_str(), setting.as_str());
                !FIXED.contains(&one) && !ELSEWHERE.contains(&one)
            })
            .collect();
        assert!(untried.is_empty(), "no drift of these is tried: {untried:#?}");
    });
}

/// Every setting of every component of a state with its value: address, kind, name.
fn settings(state: &Value) -> BTreeMap<(String, String, String), String> {
    let name = regex_lite::Regex::new(r"(?:^| )([a-z_0-9]+)=").unwrap();
    let mut all = BTreeMap::new();
    for (address, line) in state.get("components").entries() {
        let kind = address.split('/').nth(1).unwrap_or_default();
        let line = line.as_str().unwrap_or_default();
        let Some((_, line)) = line.split_once(" · ") else { continue };
        let starts: Vec<_> = name.captures_iter(line).collect();
        for (index, start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).map_or(line.len(), |next| next.get(0).unwrap().start());
            let value = &line[start.get(0).unwrap().end()..end];
            all.insert(
                (address.to_owned(), kind.to_owned(), start[1].to_owned()),
                value.to_owned(),
            );
        }
    }
    all
}

#[test]
fn a_door_that_somebody_opened_is_shown_and_closed() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let group = user.sandbox.with(|world| world.group_id("us-west-2", "trading-db-sg-prod"));
        let ec2 = crate::support::aws::connect(&user.sandbox).await.region("us-west-2").ec2.clone();
        let everybody = aws_sdk_ec2::types::IpPermission::builder()
            .ip_protocol("tcp")
            .from_port(5432)
            .to_port(5432)
            .ip_ranges(aws_sdk_ec2::types::IpRange::builder().cidr_ip("0.0.0.0/0").build())
            .build();
        let open =
            ec2.authorize_security_group_ingress().group_id(&group).ip_permissions(everybody);
        open.send().await.unwrap();
        let planned = user.must_plan(&config).await;
        let lines = differences(user.state.value.as_ref().unwrap(), &planned);
        assert!(
            lines.iter().any(|one| one.contains("0.0.0.0/0/5432") && one.ends_with("→ null")),
            "{lines:#?}"
        );
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn a_lost_secret_is_made_anew_and_the_database_takes_its_password() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let password = |user: &User| {
            user.sandbox.with(|world| world.master_password("us-east-1", "trading-db-primary-prod"))
        };
        let old = password(&user);
        for region in ["us-east-1", "us-west-2"] {
            user.sandbox
                .with(|world| world.drift(region, "secret", "trading-db-master-prod", None))
                .unwrap();
        }
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        let secrets =
            crate::support::aws::connect(&user.sandbox).await.region("us-east-1").secrets.clone();
        let value =
            secrets.get_secret_value().secret_id("trading-db-master-prod").send().await.unwrap();
        let value: Json = serde_json::from_str(value.secret_string().unwrap()).unwrap();
        assert_ne!(password(&user), old);
        assert_eq!(value["password"].as_str(), password(&user).as_deref());
    });
}

#[test]
fn storage_changes_between_types_and_across_the_size_where_gp3_changes() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        for database in [
            json!({"storage_type": "io2", "iops": 3000}),
            json!({"storage_type": "gp3"}),
            json!({"storage_type": "gp3", "allocated_storage": 400}),
            json!({"storage_type": "gp3", "allocated_storage": 500, "iops": 15000}),
            json!({"storage_type": "gp3", "allocated_storage": 500}),
        ] {
            config["database"] = database;
            user.must_apply(&config).await;
            user.must_be_unchanged(&config).await;
        }
        // Storage that has grown by itself is no difference, and does not hinder the next change.
        for (region, id) in
            [("us-east-1", "trading-db-primary-prod"), ("us-west-2", "trading-db-replica-prod")]
        {
            let grown = json!({"AllocatedStorage": 700});
            user.sandbox
                .with(|world| world.drift(region, "db-instance", id, Some(&grown)))
                .unwrap();
        }
        user.must_be_unchanged(&config).await;
        config["database"]["iops"] = json!(16000);
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn a_replica_that_no_longer_follows_is_reported_and_not_made_anew() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let broken = json!({"StatusInfos": {"DBInstanceStatusInfo": [{"StatusType": "read replication", "Normal": false, "Status": "terminated", "Message": "the slot is lost"}]}});
        user.sandbox
            .with(|world| {
                world.drift("us-west-2", "db-instance", "trading-db-replica-prod", Some(&broken))
            })
            .unwrap();
        let planned = user.plan(&config).await;
        let warnings = crate::support::user::lines(&planned.diagnostics);
        assert!(
            warnings
                .iter()
                .any(|one| one.contains("no longer replicating (terminated: the slot is lost)")),
            "{warnings:#?}"
        );
        let state = user.state.value.clone().unwrap();
        assert_eq!(state.get("status").as_str(), Some("degraded"));
        assert_eq!(differences(&state, &planned.state.unwrap()), Vec::<String>::new());
    });
}

#[test]
fn a_secret_whose_replication_failed_is_replicated_again() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        let failed = json!({"ReplicationStatus": [{"Region": "us-west-2", "Status": "Failed", "KmsKeyId": "x"}]});
        user.sandbox
            .with(|world| {
                world.drift("us-east-1", "secret", "trading-db-master-prod", Some(&failed))
            })
            .unwrap();
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        let secret = user.sandbox.with(|world| world.inventory())["us-east-1"]["secret"]["trading-db-master-prod"].clone();
        assert_eq!(secret["ReplicationStatus"][0]["Status"], "InSync");
    });
}

/// States in which RDS leaves an instance until somebody helps it.
const ODD_STATES: [&str; 12] = [
    "failed",
    "incompatible-create",
    "incompatible-network",
    "incompatible-option-group",
    "incompatible-restore",
    "insufficient-capacity",
    "incompatible-parameters",
    "inaccessible-encryption-credentials",
    "inaccessible-encryption-credentials-recoverable",
    "restore-error",
    "stopped",
    "storage-full",
];

#[test]
fn an_instance_in_an_odd_state_is_reported_by_name_and_its_data_are_never_touched() {
    simulate(async || {
        let (made, config) = User::with_cluster().await;
        for (region, id) in
            [("us-east-1", "trading-db-primary-prod"), ("us-west-2", "trading-db-replica-prod")]
        {
            for status in ODD_STATES {
                let told = format!("{id} is {status}");
                let sandbox = aws_sandbox::Sandbox::with_world(made.sandbox.world(), 1.0);
                let mut user = User::of(sandbox).await;
                user.state = made.state.clone();
                let resource = |user: &User| {
                    user.sandbox.with(|world| world.inventory())[region]["db-instance"][id]["DbiResourceId"]
                        .clone()
                };
                let before = resource(&user);
                assert!(before.is_string());
                let odd = json!({"DBInstanceStatus": status});
                user.sandbox
                    .with(|world| world.drift(region, "db-instance", id, Some(&odd)))
                    .unwrap();
                let planned = user.plan(&config).await;
                let warnings = crate::support::user::lines(&planned.diagnostics);
                assert!(
                    warnings.iter().any(|one| {
                        one.contains(&format!("{region}/db-instance")) && one.contains(status)
                    }),
                    "{told}: {warnings:#?}"
                );
                assert!(!planned.diagnostics.has_errors(), "{told}: {warnings:#?}");
                assert!(planned.requires_replace.is_empty(), "{told}");
                let line = |value: &Value| {
                    value.get("components").get(&format!("{region}/db-instance")).clone()
                };
                assert_eq!(line(&planned.state.unwrap()), line(made.state.value.as_ref().unwrap()));
                // Something else is changed meanwhile: it works, or says whose state hinders it.
                let mut other = config.clone();
                other["tags"] = json!({"team": "risk"});
                user.sandbox.forget_calls();
                let found = errors(&user.apply(&other).await);
                assert!(found.iter().all(|one| one.contains(status)), "{told}: {found:#?}");
                let calls = user.sandbox.calls();
                let touched = calls.iter().find(|call| {
                    [
                        "DeleteDBInstance",
                        "CreateDBInstance",
                        "CreateDBInstanceReadReplica",
                        "PromoteReadReplica",
                        "ScheduleKeyDeletion",
                        "StopDBInstanceAutomatedBackupsReplication",
                    ]
                    .contains(&call.operation.as_str())
                });
                assert!(touched.is_none(), "{told}: {touched:#?}");
                assert_eq!(resource(&user), before, "{told}");
            }
        }
    });
}
