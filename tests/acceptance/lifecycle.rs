//! Create, look, change, drift, import, destroy.

use std::{collections::BTreeSet, io::Read as _, path::Path};

use aws_sandbox::{Effect, Fault, Rule};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value as Json, json};

use crate::support::terraform::{IMPORT, Served, Workspace, cluster};

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
    let by_block = Workspace::new(&served, &format!("{body}{IMPORT}"));
    let ran = by_block.apply().must_succeed();
    assert!(ran.out.contains("1 imported, 0 added, 0 changed, 0 destroyed"), "{}", ran.out);
    by_block.must_be_unchanged();
    by_block.destroy().must_succeed();
    assert_eq!(served.leftovers(), Vec::<String>::new());
}

#[test]
fn two_clusters_stand_side_by_side_in_one_configuration() {
    let served = Served::new();
    // AWS allows one peering between two VPCs: the second cluster uses the first one's.
    let shared = "  peering_connection_id = split(\"/\", trading_dr_cluster.prod.arns[\"us-east-1/vpc-peering\"])[1]";
    let (first, second) = (cluster(&served, "prod", ""), cluster(&served, "prod-2", shared));
    let slip = first.replace("\"trading_dr_cluster\" \"prod\"", "\"trading_dr_cluster\" \"twin\"");
    let workspace = Workspace::new(&served, &format!("{first}\n{slip}"));
    let refused = |what: &str| {
        let ran = workspace.run(&["plan", "-no-color"]);
        assert_eq!(ran.code, 1, "{}\n{}", ran.out, ran.err);
        assert!(ran.message().contains(what), "{}", ran.err);
    };
    refused("Two resources have the environment suffix prod");
    workspace.write(&format!("{first}\n{second}"));
    let ran = workspace.apply().must_succeed();
    assert!(ran.out.contains("2 added, 0 changed, 0 destroyed"), "{}", ran.out);
    workspace.must_be_unchanged();
    let larger = cluster(&served, "prod-2", &format!("{shared}\n  tags = {{ team = \"risk\" }}"));
    workspace.write(&format!("{first}\n{larger}"));
    let ran = workspace.apply().must_succeed();
    assert!(ran.out.contains("0 added, 1 changed, 0 destroyed"), "{}", ran.out);
    workspace.must_be_unchanged();
    // One of them is made anew, and the other is left alone.
    let name = "-replace=trading_dr_cluster.prod-2";
    let ran = workspace.run(&["apply", "-auto-approve", "-no-color", name]).must_succeed();
    assert!(ran.out.contains("1 added, 0 changed, 1 destroyed"), "{}", ran.out);
    workspace.must_be_unchanged();
    // The second one's block goes, and both have one suffix by a slip of the hand.
    workspace.write(&first);
    let ran = workspace.apply().must_succeed();
    assert!(ran.out.contains("0 added, 0 changed, 1 destroyed"), "{}", ran.out);
    workspace.must_be_unchanged();
    workspace.write(&format!("{first}\n{slip}"));
    refused("Two resources have the environment suffix prod");
    // A block that only got another name would be a cluster that goes and another one that comes.
    workspace.write(&slip);
    refused("say so in a `moved` block");
    let moved = "moved {\n  from = trading_dr_cluster.prod\n  to   = trading_dr_cluster.twin\n}\n";
    workspace.write(&format!("{slip}\n{moved}"));
    let ran = workspace.apply().must_succeed();
    assert!(ran.out.contains("0 added, 0 changed, 0 destroyed"), "{}", ran.out);
    workspace.must_be_unchanged();
    workspace.destroy().must_succeed();
    assert_eq!(served.leftovers(), Vec::<String>::new());
}

/// The passwords that a cluster has: the administrator's and the probe's.
fn passwords(served: &Served) -> BTreeSet<String> {
    served.sandbox.with(|world| {
        let secrets = world.inventory()["us-east-1"]["secret"].clone();
        let mut all = BTreeSet::new();
        for id in secrets.as_object().unwrap().keys() {
            let secret = world.record("us-east-1", "secret", id);
            let value: Json = serde_json::from_str(secret["_value"].as_str().unwrap()).unwrap();
            all.insert(value["password"].as_str().unwrap().to_owned());
        }
        let master = world.master_password("us-east-1", "trading-db-primary-prod").unwrap();
        assert!(all.contains(&master), "RDS has another password than its secret");
        all
    })
}

/// Everything that is in a saved plan, which is a zip.
fn unzipped(path: &Path) -> String {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
    let mut all = Vec::new();
    for index in 0..archive.len() {
        archive.by_index(index).unwrap().read_to_end(&mut all).unwrap();
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// What is hidden in a text by being encoded, as Terraform does with what a provider keeps beside a state.
fn decoded(text: &str) -> String {
    let encoded = regex_lite::Regex::new("[A-Za-z0-9+/]{16,}={0,2}").unwrap();
    let all = encoded.find_iter(text).filter_map(|one| STANDARD.decode(one.as_str()).ok());
    all.map(|bytes| String::from_utf8_lossy(&bytes).into_owned() + "\n").collect()
}

/// A secret access key that is found wherever it is.
const CREDENTIAL: &str = "wJalrXUtnFEMI.of.whoever.applies";
/// A session's token, likewise.
const TOKEN: &str = "FwoGZXIvYXdzEBYaDOf.of.a.session";

#[test]
fn no_secret_is_in_a_state_a_plan_or_a_log() {
    let served = Served::new();
    let mut workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    workspace.variable("TF_LOG", "TRACE");
    workspace.variable("AWS_SECRET_ACCESS_KEY", CREDENTIAL);
    workspace.variable("AWS_SESSION_TOKEN", TOKEN);
    let mut texts: Vec<(&str, String)> = Vec::new();
    let mut run = |workspace: &Workspace, what: &'static str, arguments: &[&str], code: i32| {
        let ran = workspace.run(arguments);
        assert_eq!(ran.code, code, "{what}: {}\n{}", ran.out, ran.message());
        texts.push((what, ran.out.clone()));
        texts.push((what, ran.err.clone()));
        for name in ["terraform.tfstate", ".terraform/trading-dr-prod.jsonl"] {
            let text = std::fs::read_to_string(workspace.path(name)).unwrap_or_default();
            let is_there = text.contains("trading-db") || text.contains("db-instance");
            assert!(
                is_there || what.starts_with("create, ") || what == "destroy",
                "{what}: {name}"
            );
            texts.push((what, text));
        }
        ran
    };
    run(&workspace, "create, planned", &["plan", "-no-color", "-out=create"], 0);
    run(&workspace, "create, shown", &["show", "-json", "create"], 0);
    let created = run(&workspace, "create", &["apply", "-no-color", "create"], 0);
    assert!(created.err.contains("rds:CreateDBInstance"), "the log shows the calls");
    assert!(created.err.contains("request_id="), "the log shows request ids of failures");
    let passwords = passwords(&served);
    assert_eq!(passwords.len(), 2, "the administrator's and the probe's");
    run(&workspace, "state, shown", &["show", "-json"], 0);
    workspace.write(&cluster(&served, "prod", "  tags = { team = \"risk\" }"));
    run(&workspace, "update, planned", &["plan", "-no-color", "-out=update"], 0);
    run(&workspace, "update, shown", &["show", "-json", "update"], 0);
    let denied = Effect::Fail {
        code: "AccessDeniedException".into(),
        message: "not authorized to perform: secretsmanager:TagResource".into(),
        status: 403,
    };
    let rule = Rule { service: Some("secretsmanager".into()), ..Rule::default() };
    served.sandbox.add_fault(Fault::new(rule, denied));
    let update = ["apply", "-no-color", "-auto-approve"];
    let failed = run(&workspace, "update that fails", &update, 1);
    let told = failed.err.lines().any(|line| line.trim_start_matches("│ ").starts_with("Error: "));
    assert!(told, "it failed with an error of its own");
    served.sandbox.clear_faults();
    run(&workspace, "update", &update, 0);
    run(&workspace, "destroy", &["destroy", "-no-color", "-auto-approve"], 0);
    for name in ["create", "update"] {
        let saved = unzipped(&workspace.path(name));
        assert!(saved.contains("trading_dr_cluster"), "{name}");
        texts.push((name, saved));
    }
    let backup = std::fs::read_to_string(workspace.path("terraform.tfstate.backup")).unwrap();
    assert!(backup.contains("trading_dr_cluster"));
    texts.push(("state before the last one", backup));
    let hidden: Vec<_> = texts.iter().map(|(what, text)| (*what, decoded(text))).collect();
    let is_kept = |text: &String| text.contains("cluster_id");
    assert!(hidden.iter().any(|(_, text)| is_kept(text)), "what is kept beside a state is in none");
    texts.extend(hidden);
    for (what, text) in &texts {
        assert!(!text.contains("Credential="), "{what}: the log holds signatures");
        assert!(!text.contains("SecretString"), "{what}: the log holds requests");
        assert!(!text.contains(CREDENTIAL), "{what}: it holds the credentials");
        assert!(!text.contains(TOKEN), "{what}: it holds a session's token");
        assert!(!passwords.iter().any(|one| text.contains(one)), "{what}: it holds a password");
    }
}

/// What carries a password, or is handed one, fails: neither the error nor the log tells what was sent.
#[test]
fn no_secret_is_in_what_is_said_of_a_call_that_failed() {
    let served = Served::new();
    let mut workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    workspace.variable("TF_LOG", "TRACE");
    workspace.variable("AWS_SECRET_ACCESS_KEY", CREDENTIAL);
    let mut texts = Vec::new();
    let mut apply = |workspace: &Workspace, refused: Option<(&str, &str)>| {
        if let Some((service, operation)) = refused {
            let (service, operation) = (Some(service.into()), Some(operation.into()));
            let rule = Rule { service, operation, ..Rule::default() };
            let (code, message) = ("ValidationException".into(), "Not like this.".into());
            let refusal = Effect::Fail { code, message, status: 400 };
            served.sandbox.add_fault(Fault::new(rule, refusal));
        }
        let ran = workspace.run(&["apply", "-no-color", "-auto-approve"]);
        let told = format!("{refused:?}: {}", ran.message());
        assert_eq!(ran.code, i32::from(refused.is_some()), "{told}");
        assert!(ran.err.contains("[TRACE]"), "{told}");
        if let Some((_, operation)) = refused {
            assert!(ran.message().contains(operation), "{told}");
            // A create that failed; what fails later is no create any more.
            workspace.run(&["untaint", "trading_dr_cluster.prod"]);
        }
        served.sandbox.clear_faults();
        let files = ["terraform.tfstate", ".terraform/trading-dr-prod.jsonl"];
        let kept = files.map(|name| std::fs::read_to_string(workspace.path(name)).unwrap());
        texts.extend(kept.into_iter().chain([ran.out.clone(), ran.err.clone()]));
    };
    apply(&workspace, Some(("secretsmanager", "CreateSecret")));
    apply(&workspace, Some(("rds", "CreateDBInstance")));
    // The probe is handed what it logs in with.
    apply(&workspace, Some(("lambda", "Invoke")));
    apply(&workspace, None);
    let mut passwords = passwords(&served);
    assert_eq!(passwords.len(), 2);
    // The secret is lost, and the database is to take another password.
    for region in ["us-east-1", "us-west-2"] {
        served
            .sandbox
            .with(|world| world.drift(region, "secret", "trading-db-master-prod", None))
            .unwrap();
    }
    let rule = Rule { operation: Some("ModifyDBInstance".into()), ..Rule::default() };
    let (code, message) = ("InvalidParameterValue".into(), "Not like this.".into());
    served.sandbox.add_fault(Fault::new(rule, Effect::Fail { code, message, status: 400 }));
    let ran = workspace.run(&["apply", "-no-color", "-auto-approve"]);
    assert!(ran.code == 1 && ran.message().contains("ModifyDBInstance"), "{}", ran.message());
    served.sandbox.clear_faults();
    texts.extend([ran.out, ran.err]);
    workspace.apply().must_succeed();
    passwords.extend(self::passwords(&served));
    assert_eq!(passwords.len(), 3);
    let hidden: Vec<_> = texts.iter().map(|text| decoded(text)).collect();
    for text in texts.iter().chain(&hidden) {
        assert!(!text.contains("SecretString") && !text.contains("MasterUserPassword"));
        assert!(!text.contains(CREDENTIAL));
        let found = passwords.iter().find_map(|one| text.find(one.as_str()));
        let around = found.map(|at| &text[at.saturating_sub(200)..at]);
        assert_eq!(around, None, "a password comes after this");
    }
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
