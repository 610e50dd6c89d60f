//! The runbooks that an apply installs, executed as Systems Manager executes them.

use aws_sandbox::{RESTRICTED_KEY, Sandbox};
use aws_sdk_ssm::types::{AutomationExecution, AutomationExecutionStatus, DocumentVersionInfo};
use serde_json::{Value as Json, json};

use crate::support::{
    agent::{EAST, WEST, begin, begin_only, begin_the_others, ledger, remembered},
    aws::{Way, connect, connect_like, pass, simulate},
    user::{User, differences},
};

/// A region, a runbook, and its parameters.
type Asked<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

/// Executes a runbook to its end, as the account's administrator.
pub(super) async fn run(
    sandbox: &Sandbox,
    region: &str,
    purpose: &str,
    parameters: &[(&str, &str)],
) -> AutomationExecution {
    run_as(&Way::default(), sandbox, region, purpose, parameters).await
}

async fn run_as(
    who: &Way,
    sandbox: &Sandbox,
    region: &str,
    purpose: &str,
    parameters: &[(&str, &str)],
) -> AutomationExecution {
    let ssm = connect_like(sandbox, who).await.region(region).ssm.clone();
    let name = format!("trading-db-{purpose}-prod");
    let mut call = ssm.start_automation_execution().document_name(name);
    for (name, value) in parameters {
        call = call.parameters(*name, vec![(*value).to_owned()]);
    }
    let id = call.send().await.unwrap().automation_execution_id.unwrap();
    for _ in 0..8 * 360 {
        let answer = ssm.get_automation_execution().automation_execution_id(&id).send().await;
        let execution = answer.unwrap().automation_execution.unwrap();
        if execution.automation_execution_status != Some(AutomationExecutionStatus::Inprogress) {
            return execution;
        }
        pass(10).await;
    }
    panic!("{purpose} does not end");
}

#[track_caller]
fn succeeded(execution: &AutomationExecution) {
    let status = execution.automation_execution_status.as_ref();
    assert_eq!(status, Some(&AutomationExecutionStatus::Success), "{execution:#?}");
}

#[track_caller]
fn output(execution: &AutomationExecution, name: &str) -> String {
    succeeded(execution);
    let outputs = execution.outputs.as_ref().unwrap();
    outputs[name].first().unwrap().clone()
}

fn instance(sandbox: &Sandbox, region: &str, name: &str) -> Json {
    sandbox.with(|world| world.inventory())[region]["db-instance"][name].clone()
}

async fn remove(sandbox: &Sandbox, region: &str, name: &str) {
    let rds = connect(sandbox).await.region(region).rds.clone();
    let call = rds.delete_db_instance().db_instance_identifier(name);
    call.skip_final_snapshot(true).send().await.unwrap();
    pass(900).await;
}

#[test]
fn the_failover_runbook_refuses_while_the_writer_writes_and_goes_on_by_force() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        begin(&user.sandbox);
        pass(200).await;
        let refused = run(&user.sandbox, WEST, "failover", &[]).await;
        assert_eq!(refused.automation_execution_status, Some(AutomationExecutionStatus::Failed));
        let why = refused.failure_message.unwrap_or_default();
        assert!(why.contains("AskTheMonitor") && why.contains("takes writes"), "{why}");
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "normal");

        succeeded(&run(&user.sandbox, WEST, "failover", &[("Force", "true")]).await);
        assert_eq!(ledger(&user.sandbox, WEST)["phase"], "promoted");
        let old = user.sandbox.with(|world| world.doors(EAST, "trading-db-sg-prod"));
        let probe = user.sandbox.with(|world| world.group_id(EAST, "trading-db-probe-sg-prod"));
        assert_eq!(old, [probe], "the old writer is closed to everybody else");
        // The region that writes has nothing to fail over to itself.
        let again = run(&user.sandbox, WEST, "failover", &[("Force", "true")]).await;
        assert_eq!(again.automation_execution_status, Some(AutomationExecutionStatus::Failed));
    });
}

#[test]
fn a_lag_is_investigated_in_both_regions_and_nothing_is_changed() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        for (region, name) in [(EAST, "primary"), (WEST, "replica")] {
            let rds = connect(&user.sandbox).await.region(region).rds.clone();
            let call = rds.reboot_db_instance();
            call.db_instance_identifier(format!("trading-db-{name}-prod")).send().await.unwrap();
        }
        pass(300).await;
        // What is missing, here the ledger of a monitor that never ran, hides nothing of the rest.
        let seen = run(&user.sandbox, EAST, "investigate-lag", &[]).await;
        assert!(output(&seen, "Instance.Description").contains("trading-db-primary-prod"));
        begin(&user.sandbox);
        pass(200).await;
        for (region, name) in [(EAST, "primary"), (WEST, "replica")] {
            let seen = run(&user.sandbox, region, "investigate-lag", &[]).await;
            let described: Json =
                serde_json::from_str(&output(&seen, "Instance.Description")).unwrap();
            assert_eq!(described["DBInstanceIdentifier"], format!("trading-db-{name}-prod"));
            let events: Json = serde_json::from_str(&output(&seen, "Events.Events")).unwrap();
            assert!(events.to_string().contains("restarted"), "{events:#}");
            let noted: Json = serde_json::from_str(&output(&seen, "Ledger.Body")).unwrap();
            assert_eq!(noted["phase"], "normal");
            let alarms: Json = serde_json::from_str(&output(&seen, "Alarms.InAlarm")).unwrap();
            assert!(alarms.is_array(), "{alarms}");
        }
        user.must_be_unchanged(&config).await;
    });
}

#[test]
fn moments_and_snapshots_are_restored_beside_the_cluster() {
    simulate(async || {
        let (mut user, config) = User::with_cluster().await;
        begin_only(&user.sandbox, &["copier"]);
        pass(2 * 86_400).await;
        let back = "trading-db-restored-prod";
        // What was replicated, as the DR region's default.
        let latest = run(&user.sandbox, WEST, "restore-point-in-time", &[]).await;
        let made = instance(&user.sandbox, WEST, back);
        assert_eq!(output(&latest, "Describe.Endpoint"), made["Endpoint"]["Address"]);
        let own = instance(&user.sandbox, WEST, "trading-db-replica-prod");
        for member in ["KmsKeyId", "DBSubnetGroup", "VpcSecurityGroups"] {
            assert_eq!(made[member], own[member], "{member}");
        }
        assert_eq!(made["PubliclyAccessible"], false);
        // Somebody else's in the eyes of the cluster.
        user.must_be_unchanged(&config).await;
        let again = run(&user.sandbox, WEST, "restore-point-in-time", &[]).await;
        let why = again.failure_message.unwrap_or_default();
        assert!(why.contains("DBInstanceAlreadyExists"), "{why}");
        remove(&user.sandbox, WEST, back).await;

        // A moment of the writer.
        let moment = user.sandbox.now().to_string();
        let moment = format!("{}Z", &moment[..19]);
        let named = "audit-of-today";
        let parameters = [("RestoreTime", moment.as_str()), ("TargetDBInstanceIdentifier", named)];
        pass(600).await;
        succeeded(&run(&user.sandbox, EAST, "restore-point-in-time", &parameters).await);
        assert_eq!(instance(&user.sandbox, EAST, named)["DBInstanceStatus"], "available");
        remove(&user.sandbox, EAST, named).await;
        // Never one of a replica.
        let own = run(&user.sandbox, WEST, "restore-point-in-time", &[("From", "instance")]).await;
        let why = own.failure_message.unwrap_or_default();
        assert!(why.contains("LatestOfInstance") && why.contains("read replica"), "{why}");

        // What is retained from an earlier instance of that name is never taken for today's.
        let retained = "arn:aws:rds:us-west-2:123456789012:auto-backup:ab-";
        let record = json!({
            "DBInstanceArn": "arn:aws:rds:us-east-1:123456789012:db:trading-db-primary-prod",
            "DBInstanceIdentifier": "trading-db-primary-prod", "Region": "us-east-1", "Status": "retained",
            "DBInstanceAutomatedBackupsArn": retained, "_arn": retained, "_tags": {},
        });
        let all = user.sandbox.with(|world| world.inventory());
        let today = all[WEST]["db-automated-backup"].as_object().unwrap().keys().next().unwrap();
        let table = "db-automated-backup";
        user.sandbox.with(|world| world.place(WEST, table, retained, record));
        let unclear = run(&user.sandbox, WEST, "restore-point-in-time", &[]).await;
        let why = unclear.failure_message.unwrap_or_default();
        assert!(why.contains("CheckThatTheyAreReplicated"), "{why}");
        succeeded(&run(&user.sandbox, WEST, "restore-point-in-time", &[("From", today)]).await);
        remove(&user.sandbox, WEST, back).await;
        user.sandbox.with(|world| world.drift(WEST, table, retained, None)).unwrap();

        // A copy in the DR region.
        let all = user.sandbox.with(|world| world.inventory());
        let copies = all[WEST]["db-snapshot"].as_object().unwrap();
        let copy = copies.keys().find(|name| name.contains("copy")).unwrap();
        let from = [("DBSnapshotIdentifier", copy.as_str())];
        let restored = run(&user.sandbox, WEST, "restore-snapshot", &from).await;
        let made = instance(&user.sandbox, WEST, back);
        assert_eq!(output(&restored, "Describe.Endpoint"), made["Endpoint"]["Address"]);
        remove(&user.sandbox, WEST, back).await;
        user.must_destroy().await;
        assert_eq!(user.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_drill_is_begun_by_a_runbook() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        begin_only(&user.sandbox, &["drill", "probe"]);
        pass(60).await;
        succeeded(&run(&user.sandbox, WEST, "run-drill", &[]).await);
        pass(60).await;
        let drills = remembered(&user.sandbox, WEST, "drill");
        assert!(!drills["underway"].is_null(), "{drills:#}");
    });
}

/// The versions of a document, and which is used.
async fn versions(sandbox: &Sandbox) -> Vec<String> {
    let ssm = connect(sandbox).await.region(WEST).ssm.clone();
    let call = ssm.list_document_versions().name("trading-db-restore-point-in-time-prod");
    let all = call.send().await.unwrap().document_versions.unwrap();
    let told = |one: &DocumentVersionInfo| {
        let used = if one.is_default_version { " used" } else { "" };
        format!("{}{used}", one.document_version().unwrap_or_default())
    };
    all.iter().map(told).collect()
}

#[test]
fn a_runbook_that_differs_is_a_new_version_and_an_old_one_is_used_again() {
    simulate(async || {
        let (mut user, mut config) = User::with_cluster().await;
        let before = user.state.value.clone().unwrap();
        config["backup"] = json!({"cross_region": false});
        let planned = user.must_plan(&config).await;
        let changed = differences(before.get("components"), planned.get("components"));
        let address = "us-west-2/ssm-document/restore-point-in-time";
        let of_runbooks: Vec<_> =
            changed.iter().filter(|one| one.contains("ssm-document")).collect();
        assert!(of_runbooks.len() == 1 && of_runbooks[0].starts_with(address), "{of_runbooks:?}");
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        assert_eq!(versions(&user.sandbox).await, ["1", "2 used"]);
        // Documents keep a thousand versions: what was there already is not made again.
        config["backup"] = json!({"cross_region": true});
        user.must_apply(&config).await;
        user.must_be_unchanged(&config).await;
        assert_eq!(versions(&user.sandbox).await, ["1 used", "2"]);
    });
}

/// The policy that the README hands to whoever is on call suffices, and is no larger than it must be.
#[test]
fn whoever_has_the_example_policy_may_start_every_runbook_and_nothing_else() {
    simulate(async || {
        let (user, _) = User::with_cluster().await;
        begin_only(&user.sandbox, &["copier"]);
        pass(2 * 86_400).await;
        begin_the_others(&user.sandbox);
        pass(200).await;
        let text = include_str!("../../examples/iam/runbooks.json");
        let policy: Json = serde_json::from_str(text).unwrap();
        let allow = |policy: &Json| {
            let policies = json!({"_policies": {"on-call": policy}});
            let done = user
                .sandbox
                .with(|world| world.drift("global", "user", "restricted", Some(&policies)));
            done.unwrap();
        };
        allow(&policy);
        let on_call = Way::of(RESTRICTED_KEY);
        let copies = user.sandbox.with(|world| world.inventory())[WEST]["db-snapshot"].clone();
        let copy = copies.as_object().unwrap().keys().find(|name| name.contains("copy")).unwrap();
        let runs: [Asked<'_>; 5] = [
            (WEST, "investigate-lag", &[]),
            (EAST, "restore-point-in-time", &[]),
            (WEST, "restore-snapshot", &[("DBSnapshotIdentifier", copy)]),
            (WEST, "run-drill", &[]),
            (WEST, "failover", &[("Force", "true")]),
        ];
        for (region, purpose, parameters) in runs {
            succeeded(&run_as(&on_call, &user.sandbox, region, purpose, parameters).await);
        }
        // Nothing of the cluster may be promoted, changed or removed with it.
        let rds = connect_like(&user.sandbox, &on_call).await.region(EAST).rds.clone();
        let name = "trading-db-primary-prod";
        let delete =
            rds.delete_db_instance().db_instance_identifier(name).skip_final_snapshot(true);
        assert!(format!("{:?}", delete.send().await.unwrap_err()).contains("AccessDenied"));
        // Without any one of its statements, some runbook fails.
        for index in 0..policy["Statement"].as_array().unwrap().len() {
            let mut less = policy.clone();
            let gone = less["Statement"].as_array_mut().unwrap().remove(index);
            allow(&less);
            let mut failed = false;
            let named = [("TargetDBInstanceIdentifier", "trading-db-restored-prod")];
            for (region, purpose, parameters) in [
                (WEST, "investigate-lag", &[][..]),
                (EAST, "restore-point-in-time", &named[..]),
                (WEST, "run-drill", &[][..]),
            ] {
                let ssm = connect_like(&user.sandbox, &on_call).await.region(region).ssm.clone();
                let mut call = ssm.start_automation_execution();
                call = call.document_name(format!("trading-db-{purpose}-prod"));
                for (name, value) in parameters {
                    call = call.parameters(*name, vec![(*value).to_owned()]);
                }
                let Ok(begun) = call.send().await else {
                    failed = true;
                    continue;
                };
                pass(30).await;
                let id = begun.automation_execution_id.unwrap();
                let told = ssm.get_automation_execution().automation_execution_id(id).send().await;
                let Ok(told) = told else {
                    failed = true;
                    continue;
                };
                let steps = told.automation_execution.unwrap().step_executions.unwrap_or_default();
                let denied = |text: &str| text.contains("not authorized");
                failed |= steps.iter().any(|one| one.failure_message().is_some_and(denied));
            }
            assert!(failed, "nothing needs {gone:#}");
        }
    });
}
