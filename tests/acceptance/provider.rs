//! The provider's own configuration, each argument by its effect.

use aws_sandbox::{ACCESS_KEY, SECRET_KEY};
use serde_json::json;

use crate::support::terraform::{Ran, Served, Workspace, cluster};

#[test]
fn default_tags_are_on_everything_and_the_resource_wins() {
    let served = Served::new();
    let body = cluster(&served, "prod", "  tags = { team = \"trading\" }");
    let provider = "provider \"trading\" {\n  default_tags = { tags = { team = \"platform\", owner = \"sre\" } }\n}\n";
    let workspace = Workspace::new(&served, &format!("{provider}{body}"));
    workspace.apply().must_succeed();
    assert_eq!(
        workspace.state()["attributes"]["tags_all"],
        json!({"team": "trading", "owner": "sre"})
    );
    let inventory = served.sandbox.with(|world| world.inventory());
    let tags = &inventory["us-east-1"]["db-instance"]["trading-db-primary-prod"]["Tags"];
    assert_eq!((&tags["team"], &tags["owner"]), (&json!("trading"), &json!("sre")));
    workspace.must_be_unchanged();
}

#[test]
fn endpoints_can_be_given_in_the_configuration() {
    let served = Served::new();
    let services = trading::aws::Aws::services();
    let lines: String =
        services.iter().map(|one| format!("    {one} = \"{}\"\n", served.url)).collect();
    let provider = format!("provider \"trading\" {{\n  endpoints = {{\n{lines}  }}\n}}\n");
    let body = cluster(&served, "prod", "");
    let mut workspace = Workspace::new(&served, &format!("{provider}{body}"));
    workspace.variable("AWS_ENDPOINT_URL", "");
    assert_eq!(workspace.plan().code, 2);
    workspace.variable("TRADING_CLOCK_SCALE", "");
    workspace.write(&format!(
        "provider \"trading\" {{\n  endpoints = {{ s4 = \"{}\" }}\n}}\n{body}",
        workspace.endpoint()
    ));
    let ran = workspace.plan();
    assert_eq!(ran.code, 1);
    assert!(ran.message().contains("there is no service \"s4\""), "{}", ran.err);
}

#[test]
fn roles_are_assumed_before_anything_is_called() {
    let served = Served::new();
    let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "sts:AssumeRole"}]});
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
    let role = json!({
        "RoleName": "deployer", "Arn": "arn:aws:iam::123456789012:role/deployer", "RoleId": "AROADEPLOYER",
        "_trust": trust, "_policies": {"all": policy}, "_account": true,
    });
    served.sandbox.with(|world| world.place("global", "role", "deployer", role));
    let provider = "provider \"trading\" {\n  assume_role = [{ role_arn = \"arn:aws:iam::123456789012:role/deployer\", session_name = \"ci\", duration = \"30m\" }]\n}\n";
    let workspace = Workspace::new(&served, &format!("{provider}{}", cluster(&served, "prod", "")));
    let ran = workspace.plan();
    assert_eq!(ran.code, 2, "{}", ran.err);
    let calls = served.sandbox.calls();
    let assumed =
        calls.iter().find(|call| call.operation == "AssumeRole").expect("a role was assumed");
    assert_eq!(assumed.parameters["RoleSessionName"], "ci");
    assert_eq!(assumed.parameters["DurationSeconds"], "1800");
}

#[test]
fn without_credentials_the_plan_says_where_they_are_looked_for() {
    let served = Served::new();
    let mut workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    workspace.variable("AWS_ACCESS_KEY_ID", "");
    workspace.variable("AWS_SECRET_ACCESS_KEY", "");
    let ran = workspace.plan();
    assert_eq!(ran.code, 1);
    assert!(ran.message().contains("There are no credentials that AWS takes"), "{}", ran.err);
    assert!(ran.message().contains("aws sts get-caller-identity"), "{}", ran.err);
}

#[test]
fn an_endpoint_that_is_down_is_named() {
    let served = Served::new();
    let mut workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    workspace.variable("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
    let ran = workspace.plan();
    assert_eq!(ran.code, 1);
    assert!(
        ran.message().contains("sts in us-west-2 did not answer while planning"),
        "{}",
        ran.err
    );
    assert!(ran.message().contains("check that it is reachable"), "{}", ran.err);
}

#[test]
fn the_clock_runs_fast_for_the_sandbox_only() {
    let served = Served::new();
    let mut workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    workspace.variable("AWS_ENDPOINT_URL", "https://aws.example");
    let ran = workspace.plan();
    assert_eq!(ran.code, 1);
    assert!(ran.message().contains("TRADING_CLOCK_SCALE is for the sandbox"), "{}", ran.err);
}

#[test]
fn what_is_configured_wins_over_the_environment() {
    let served = Served::new();
    let body = cluster(&served, "prod", "");
    let workspace = Workspace::new(
        &served,
        &format!(
            "provider \"trading\" {{\n  endpoints = {{ ec2 = \"http://127.0.0.1:9\" }}\n}}\n{body}"
        ),
    );
    let ran = workspace.plan();
    assert_eq!(ran.code, 1);
    assert!(ran.message().contains("ec2 in us-"), "{}", ran.err);
    workspace.write(&format!("provider \"trading\" {{\n  profile = \"nobody\"\n}}\n{body}"));
    let ran = workspace.plan();
    assert_eq!(ran.code, 1);
    assert!(ran.message().contains("There are no credentials that AWS takes"), "{}", ran.err);
}

/// A plan with a provider configured like that; what is exported in the environment is not there.
fn planned(served: &Served, workspace: &Workspace, configuration: &str) -> Ran {
    let body = cluster(served, "prod", "");
    workspace.write(&format!("provider \"trading\" {{\n{configuration}\n}}\n{body}"));
    workspace.plan()
}

#[test]
fn keys_and_shared_files_are_taken_where_they_are_given() {
    let served = Served::new();
    let mut workspace = Workspace::new(&served, "");
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        workspace.variable(name, "");
    }
    let keys = format!("  access_key = \"{ACCESS_KEY}\"\n  secret_key = \"{SECRET_KEY}\"");
    let ran = planned(&served, &workspace, &keys);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let file = workspace.path("keys");
    let text =
        format!("[desk]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
    std::fs::write(&file, text).unwrap();
    let files = format!("  profile = \"desk\"\n  shared_credentials_files = [{file:?}]");
    let ran = planned(&served, &workspace, &files);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let file = workspace.path("config");
    std::fs::write(&file, "[profile desk]\ncredential_process = /nowhere/keys\n").unwrap();
    let both = format!("{files}\n  shared_config_files = [{file:?}]");
    let ran = planned(&served, &workspace, &both);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.message().contains("/nowhere/keys: not found"), "{}", ran.err);
    for (configuration, argument, told) in [
        (format!("{keys}\n  profile = \"desk\""), "profile", "Keys and a profile are both given"),
        ("  access_key = \"AKIA\"".into(), "secret_key", "The secret of access_key is missing"),
        ("  token = \"x\"".into(), "access_key", "The id of the key is missing"),
        (
            "  shared_config_files = [\"/nowhere/config\"]".into(),
            "shared_config_files",
            "There is no file /nowhere/config",
        ),
    ] {
        let ran = planned(&served, &workspace, &configuration);
        assert_eq!(ran.code, 1, "{argument}: {}", ran.out);
        assert!(ran.message().contains(told), "{argument}: {}", ran.err);
        assert!(!ran.err.contains(SECRET_KEY), "{}", ran.err);
    }
}

#[test]
fn accounts_that_are_ruled_out_are_not_worked_in() {
    let served = Served::new();
    let workspace = Workspace::new(&served, "");
    for configuration in [
        "  allowed_account_ids = [\"210987654321\"]",
        "  forbidden_account_ids = [\"123456789012\"]",
    ] {
        served.sandbox.forget_calls();
        let ran = planned(&served, &workspace, configuration);
        assert_eq!(ran.code, 1, "{}", ran.out);
        assert!(ran.message().contains("The credentials are of another account"), "{}", ran.err);
        assert!(ran.message().contains("They belong to the account 123456789012"), "{}", ran.err);
        let calls = served.sandbox.calls();
        let others: Vec<_> = calls.iter().filter(|call| call.service != "sts").collect();
        assert!(others.is_empty(), "{others:#?}");
    }
    for (configuration, told) in [
        (
            "  allowed_account_ids = [\"123456789012\"]\n  forbidden_account_ids = [\"210987654321\"]",
            "Accounts are allowed or forbidden, not both",
        ),
        ("  allowed_account_ids = [\"prod\"]", "An account's id has twelve digits"),
    ] {
        let ran = planned(&served, &workspace, configuration);
        assert!(ran.code == 1 && ran.message().contains(told), "{}", ran.err);
    }
    let ran = planned(&served, &workspace, "  allowed_account_ids = [\"123456789012\"]");
    assert_eq!(ran.code, 2, "{}", ran.err);
}
