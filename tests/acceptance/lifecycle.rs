//! Create, look, change, drift, import, destroy.

use serde_json::json;

use crate::support::terraform::{Served, Workspace, cluster};

#[test]
fn terraform_makes_a_cluster_finds_nothing_to_change_changes_it_and_removes_it() {
    let served = Served::new();
    let workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    let ran = workspace.plan();
    assert_eq!(ran.code, 2, "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains(r#"+ "us-west-2/db-automated-backup""#), "{}", ran.out);
    assert!(ran.out.contains("Plan: 1 to add, 0 to change, 0 to destroy."), "{}", ran.out);
    workspace.apply().must_succeed();
    assert_eq!(workspace.state()["attributes"]["writer_region"], "us-east-1");
    workspace.must_be_unchanged();

    workspace.write(&cluster(
        &served,
        "prod",
        "  tags = { team = \"trading\" }\n  backup = { window = \"02:00-03:00\" }",
    ));
    let ran = workspace.plan();
    assert!(ran.out.contains("Plan: 0 to add, 1 to change, 0 to destroy."), "{}", ran.out);
    workspace.apply().must_succeed();
    workspace.must_be_unchanged();

    let drifted = json!({"BackupRetentionPeriod": 1});
    served
        .sandbox
        .with(|world| {
            world.drift("us-west-2", "db-instance", "trading-db-replica-prod", Some(&drifted))
        })
        .unwrap();
    let ran = workspace.plan();
    assert_eq!(ran.code, 2);
    assert!(ran.out.contains(r#"~ "us-west-2/db-instance""#), "{}", ran.out);
    assert!(ran.out.contains("unchanged elements hidden"), "{}", ran.out);
    workspace.apply().must_succeed();
    workspace.must_be_unchanged();

    let ran = workspace.destroy().must_succeed();
    assert!(ran.out.contains("Nothing of the cluster prod is left"), "{}", ran.out);
    assert_eq!(served.leftovers(), Vec::<String>::new());
}

#[test]
fn a_cluster_is_imported_by_command_and_by_block() {
    let served = Served::new();
    let body = cluster(&served, "prod", "  tags = { team = \"trading\" }");
    let first = Workspace::new(&served, &body);
    first.apply().must_succeed();
    let ran = Workspace::new(&served, &body).plan();
    assert_eq!(ran.code, 1);
    assert!(ran.message().contains("There is a cluster prod already"), "{}", ran.err);
    assert!(ran.message().contains("environment_suffix = \"prod\""), "{}", ran.err);
    let by_command = Workspace::new(&served, &body);
    by_command.run(&["import", "-no-color", "trading_dr_cluster.prod", "prod"]).must_succeed();
    by_command.must_be_unchanged();
    let block = "\nimport {\n  to = trading_dr_cluster.prod\n  id = \"prod\"\n}\n";
    let by_block = Workspace::new(&served, &format!("{body}{block}"));
    let ran = by_block.apply().must_succeed();
    assert!(ran.out.contains("1 imported, 0 added, 0 changed, 0 destroyed"), "{}", ran.out);
    by_block.must_be_unchanged();
    by_block.destroy().must_succeed();
    assert_eq!(served.leftovers(), Vec::<String>::new());
}

#[test]
fn no_secret_is_in_a_state_a_plan_or_a_log() {
    let served = Served::new();
    let mut workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    workspace.variable("TF_LOG_PROVIDER", "TRACE");
    let ran = workspace.apply().must_succeed();
    let password =
        served.sandbox.with(|world| world.master_password("us-east-1", "trading-db-primary-prod"));
    let password = password.unwrap();
    assert!(ran.err.contains("rds:CreateDBInstance"), "the log shows the calls");
    assert!(ran.err.contains("request_id="), "the log shows request ids of failures");
    for name in ["terraform.tfstate", ".terraform/trading-dr-prod.jsonl"] {
        let text = std::fs::read_to_string(workspace.path(name)).unwrap();
        assert!(text.contains("trading-db") || text.contains("db-instance"), "{name}");
        assert!(!text.contains(&password), "{name} holds the password");
    }
    assert!(
        !ran.out.contains(&password) && !ran.err.contains(&password),
        "the output holds the password"
    );
    assert!(
        !ran.err.contains("Credential=") && !ran.err.contains("SecretString"),
        "the log holds requests"
    );
}

#[test]
fn values_that_are_not_known_yet_are_planned_as_far_as_possible() {
    let served = Served::new();
    let unknown = "resource \"terraform_data\" \"later\" {\n  input = \"risk\"\n}\n";
    let body = cluster(&served, "prod", "  tags = { team = terraform_data.later.output }");
    let workspace = Workspace::new(&served, &format!("{body}{unknown}"));
    let ran = workspace.plan();
    assert_eq!(ran.code, 2, "{}\n{}", ran.out, ran.err);
    // What carries tags is not known, the rest is.
    assert!(ran.out.contains(r#"+ "us-east-1/kms-alias" "#), "{}", ran.out);
    assert!(ran.out.contains("from 10.20.0.0/16 · port=5432"), "{}", ran.out);
    workspace.apply().must_succeed();
    workspace.must_be_unchanged();
    workspace.destroy().must_succeed();
}
