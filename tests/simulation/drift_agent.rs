//! Drifts of what the agent consists of, for [`super::drift`].

use aws_sandbox::{Sandbox, World};
use serde_json::{Value as Json, json};

use super::drift::Case;
use crate::support::{
    agent::{EAST, LEDGER, PROBE_GROUP, WEST, WITNESS},
    aws::simulate,
    user::{User, lines},
};

pub fn cases(user: &User) -> Vec<Case> {
    let case = |region, kind, id: &str, change: Json, line| {
        let change = Some(change).filter(|change| !change.is_null());
        (region, kind, id.to_owned(), change, line)
    };
    let (monitor, probe) = ("trading-db-monitor-prod", "trading-db-probe-prod");
    let (function, rule, table) = ("function", "event-rule", "dynamodb-table");
    let group = user.sandbox.with(|world| world.group_id(WEST, PROBE_GROUP));
    let intent =
        json!({"cluster": {"S": "prod"}, "item": {"S": "intent"}, "destroying": {"BOOL": true}});
    let of_monitor = "us-west-2/lambda-function/monitor";
    let more = json!({"Environment": {"Variables": {"MORE": "1"}}});
    let settings = json!({"Environment": {"Variables": {"TRADING_DR_SETTINGS": "{}"}}});
    let allow_all = json!({"_policies": {"permissions": {"Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}}});
    vec![
        case(WEST, function, monitor, json!({"MemorySize": 128}), of_monitor),
        case(WEST, function, monitor, more, of_monitor),
        case(WEST, function, monitor, settings, of_monitor),
        case(WEST, function, monitor, json!({"_reserved": 1}), of_monitor),
        case(WEST, function, monitor, json!({"CodeSha256": "other"}), of_monitor),
        case(WEST, function, monitor, json!({"KMSKeyArn": ""}), of_monitor),
        case(WEST, function, monitor, json!({"_event": {"MaximumRetryAttempts": 2}}), of_monitor),
        case(EAST, function, probe, json!({"Timeout": 3}), "us-east-1/lambda-function/probe"),
        case(EAST, function, probe, Json::Null, "us-east-1/lambda-function/probe"),
        case(
            WEST,
            function,
            monitor,
            json!({"_policy": []}),
            "us-west-2/lambda-permission/monitor",
        ),
        case(EAST, rule, monitor, json!({"State": "DISABLED"}), "us-east-1/event-rule/monitor"),
        case(EAST, rule, monitor, json!({"_targets": []}), "us-east-1/event-rule/monitor"),
        case(
            EAST,
            rule,
            monitor,
            json!({"ScheduleExpression": "rate(1 day)"}),
            "us-east-1/event-rule/monitor",
        ),
        case(WEST, rule, monitor, Json::Null, "us-west-2/event-rule/monitor"),
        case(
            WEST,
            "ssm-document",
            "trading-db-failover-prod",
            json!({"_versions": [{"DocumentVersion": "1", "VersionName": "mine", "Content": "{}"}]}),
            "us-west-2/ssm-document/failover",
        ),
        case(
            EAST,
            "ssm-document",
            "trading-db-restore-snapshot-prod",
            Json::Null,
            "us-east-1/ssm-document/restore-snapshot",
        ),
        case(
            EAST,
            "ssm-document",
            "trading-db-investigate-lag-prod",
            json!({"_tags": {"team": "x"}}),
            "us-east-1/ssm-document/investigate-lag",
        ),
        case(WITNESS, table, "trading-db-lease-prod", Json::Null, "us-east-2/dynamodb-table/lease"),
        case(
            WEST,
            table,
            LEDGER,
            json!({"_items": {"prod\u{1}intent": intent}}),
            "us-west-2/dynamodb-table/ledger",
        ),
        case(
            EAST,
            table,
            LEDGER,
            json!({"SSEDescription": {"KMSMasterKeyArn": "other"}}),
            "us-east-1/dynamodb-table/ledger",
        ),
        case(
            "global",
            "role",
            "trading-db-monitor-role-prod",
            allow_all,
            "global/iam-role/monitor",
        ),
        case(
            "global",
            "role",
            "trading-db-probe-role-prod",
            json!({"_policies": {"more": {"Statement": []}}}),
            "global/iam-role/probe",
        ),
        case(
            WEST,
            "security-group",
            &group,
            json!({"_rules": []}),
            "us-west-2/security-group/probe",
        ),
        case(
            EAST,
            "secret",
            "trading-db-probe-prod",
            json!({"_tags": {"trading-dr:prepared-instance": "db-OTHER"}}),
            "us-east-1/database-role/probe",
        ),
    ]
}

/// A table without its key, and one that was put away for that: reported by name, and never made anew.
#[test]
fn a_table_in_an_odd_state_is_reported_by_name_and_stays() {
    simulate(async || {
        let (made, config) = User::with_cluster().await;
        for (region, table) in [(WEST, LEDGER), (WITNESS, "trading-db-lease-prod")] {
            for status in ["INACCESSIBLE_ENCRYPTION_CREDENTIALS", "ARCHIVING", "ARCHIVED"] {
                let told = format!("{table} is {status}");
                let sandbox = Sandbox::with_world(made.sandbox.world(), 1.0);
                let mut user = User::of(sandbox).await;
                user.state = made.state.clone();
                let odd = json!({"TableStatus": status});
                let become_so = |user: &User, state: &Json| {
                    let drifted = |world: &mut World| {
                        world.drift(region, "dynamodb-table", table, Some(state))
                    };
                    user.sandbox.with(drifted).unwrap();
                };
                become_so(&user, &odd);
                let before =
                    user.sandbox.with(|world| world.record(region, "dynamodb-table", table));
                let planned = user.plan(&config).await;
                let warnings = lines(&planned.diagnostics);
                assert!(!planned.diagnostics.has_errors(), "{told}: {warnings:#?}");
                let named = format!("{region}/dynamodb-table");
                let word = status.to_lowercase().replace('_', " ");
                let is_told = |one: &String| one.contains(&named) && one.contains(&word);
                assert!(warnings.iter().any(is_told), "{told}: {warnings:#?}");
                assert!(planned.requires_replace.is_empty(), "{told}");
                user.must_apply(&config).await;
                let after =
                    user.sandbox.with(|world| world.record(region, "dynamodb-table", table));
                assert_eq!(before["TableId"], after["TableId"], "{told}: made anew");
                become_so(&user, &json!({"TableStatus": "ACTIVE"}));
                user.must_be_unchanged(&config).await;
            }
        }
    });
}
