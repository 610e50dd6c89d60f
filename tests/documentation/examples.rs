//! Every configuration in `examples/` and in the pages, before the real `terraform`.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value as Json;

use super::{files, pages};
use crate::support::{
    repository,
    terraform::{Ran, SCALE, Served, Workspace},
};

/// What an example names, by its variables and by the ids that the pages use, in the simulated account.
fn real(served: &Served) -> Vec<(&'static str, &'static str, String)> {
    let network: Json = served.sandbox.with(|world| world.network());
    let text = |region: &str, name: &str| network[region][name].as_str().unwrap().to_owned();
    let (east, west) = ("us-east-1", "us-west-2");
    let group = "application_security_group_id";
    vec![
        ("primary_vpc_id", "vpc-0a1b2c3d4e5f60718", text(east, "vpc_id")),
        ("dr_vpc_id", "vpc-0f1e2d3c4b5a69788", text(west, "vpc_id")),
        ("primary_application_security_group_id", "sg-0a1b2c3d4e5f60718", text(east, group)),
        ("dr_application_security_group_id", "sg-0f1e2d3c4b5a69788", text(west, group)),
    ]
}

/// A workspace with files of an example, the provider named where they do not.
fn workspace(served: &Served, files: &[(String, String)]) -> Workspace {
    let workspace = Workspace::new(served, "");
    if files.iter().any(|(_, text)| text.contains("required_providers")) {
        std::fs::remove_file(workspace.path("main.tf")).unwrap();
    }
    for (name, text) in files {
        let path = workspace.path("").join(format!("example-{name}"));
        std::fs::write(path, text).unwrap();
    }
    workspace
}

/// The arguments that give an example's variables their values.
fn variables(served: &Served, text: &str, more: &[(&str, String)]) -> Vec<String> {
    let known = real(served).into_iter().map(|(name, _, value)| (name, value));
    let known = known.chain(more.iter().map(|(name, value)| (*name, value.clone())));
    known
        .filter(|(name, _)| text.contains(&format!("variable \"{name}\"")))
        .map(|(name, value)| format!("-var={name}={value}"))
        .collect()
}

fn run(workspace: &Workspace, command: &[&str], variables: &[String]) -> Ran {
    let mut arguments = command.to_vec();
    arguments.push("-no-color");
    arguments.extend(variables.iter().map(String::as_str));
    workspace.run(&arguments)
}

/// An example's own files, without those of its modules.
fn of_folder(folder: &Path) -> Vec<(String, String)> {
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.extension().is_some_and(|one| one == "tf"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// Applies an example; a plan shows nothing afterwards.
fn applied(served: &Served, folder: &str, more: &[(&str, String)]) -> (Workspace, Vec<String>) {
    let files = of_folder(&repository().join("examples").join(folder));
    let files: Vec<_> = files.into_iter().filter(|(name, _)| !name.starts_with("import")).collect();
    let text: String = files.iter().map(|(_, text)| text.as_str()).collect();
    let workspace = workspace(served, &files);
    let modules = repository().join("examples").join(folder).join("cluster");
    if modules.is_dir() {
        std::fs::create_dir(workspace.path("cluster")).unwrap();
        for (name, text) in of_folder(&modules) {
            std::fs::write(workspace.path("cluster").join(name), text).unwrap();
        }
        workspace.run(&["get"]).must_succeed();
    }
    let variables = variables(served, &text, more);
    let ran = run(&workspace, &["apply", "-auto-approve"], &variables);
    assert_eq!(ran.code, 0, "{folder}: {}\n{}", ran.out, ran.err);
    let ran = run(&workspace, &["plan", "-detailed-exitcode"], &variables);
    assert_eq!(ran.code, 0, "{folder}: {}\n{}", ran.out, ran.err);
    (workspace, variables)
}

#[test]
fn every_complete_example_works_as_it_stands() {
    for folder in ["resources/trading_dr_cluster", "minimal", "production", "manual-failover"] {
        let served = Served::new();
        let (workspace, variables) = applied(&served, folder, &[]);
        if folder != "production" {
            run(&workspace, &["destroy", "-auto-approve"], &variables).must_succeed();
            assert_eq!(served.leftovers(), Vec::<String>::new(), "{folder}");
        }
    }
}

#[test]
fn examples_that_build_on_others_work_beside_them() {
    // Two clusters are made at once.
    let served = Served::at(SCALE / 3.0);
    let (first, _) = applied(&served, "minimal", &[]);
    let peering = first.state()["attributes"]["arns"]["us-east-1/vpc-peering"].clone();
    let peering = peering.as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    applied(&served, "environments", &[("peering_connection_id", peering)]);
    let (looker, _) = applied(&served, "data-sources/trading_dr_cluster", &[]);
    let outputs = looker.run(&["output", "-no-color"]).must_succeed().out;
    let url = "postgresql://db.trading-db-prod.internal:5432/trading?sslmode=verify-ca";
    assert!(outputs.contains(url), "{outputs}");

    let served = Served::new();
    let outputs = real(&served).into_iter().map(|(name, _, value)| {
        (name.to_owned(), serde_json::json!({"value": value, "type": "string"}))
    });
    let outputs: serde_json::Map<String, Json> = outputs.collect();
    let state = serde_json::json!({
        "version": 4, "terraform_version": "1.11.4", "serial": 1,
        "lineage": "5e0f3f4c-0000-4000-8000-000000000000", "outputs": outputs, "resources": [],
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.tfstate");
    std::fs::write(&path, state.to_string()).unwrap();
    let network = path.to_str().unwrap().to_owned();
    applied(&served, "module-composition", &[("network_state", network)]);
}

/// The blocks of a page in a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut rest = page;
    while let Some((_, behind)) = rest.split_once(&format!("```{language}\n")) {
        let (block, behind) = behind.split_once("```").expect("a block that does not end");
        all.push(block.to_owned());
        rest = behind;
    }
    all
}

fn must_be_formatted(text: &str, place: &str) {
    let mut format = Command::new("terraform")
        .args(["fmt", "-no-color", "-"])
        .env("TF_CLI_CONFIG_FILE", "/dev/null")
        .env("CHECKPOINT_DISABLE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    format.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let done = format.wait_with_output().unwrap();
    assert!(done.status.success(), "{place} is no configuration");
    let formatted = String::from_utf8_lossy(&done.stdout);
    assert!(formatted == text, "{place}: `terraform fmt` would write\n{formatted}");
}

/// Whether a block is Terraform's own configuration, and no part of what it manages.
fn is_command_line(block: &str) -> bool {
    block.starts_with("provider_installation {")
}

#[test]
fn every_configuration_in_the_pages_is_valid_and_formatted() {
    let served = Served::new();
    let (mut count, mut applied) = (0, 0);
    let shown: Vec<String> = files(&repository().join("examples"), "tf")
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for path in pages() {
        let page = std::fs::read_to_string(&path).unwrap();
        for block in blocks(&page, "hcl") {
            let place = format!("{}:\n{block}", path.display());
            // Its own grammar is an older one, which `terraform fmt` does not read.
            assert!(is_command_line(&block), "{place}: this is `terraform`");
        }
        for block in blocks(&page, "terraform") {
            let place = format!("{}:\n{block}", path.display());
            must_be_formatted(&block, &place);
            // What is imported into a resource that the block does not have is a part only.
            let is_part = block.contains("import {") && !block.contains("resource \"");
            if !is_part {
                let workspace = workspace(&served, &[("block.tf".into(), block.clone())]);
                let ran = workspace.run(&["validate", "-no-color"]);
                assert_eq!(ran.code, 0, "{place}\n{}{}", ran.out, ran.err);
                // What examples consist of is applied as an example.
                let is_example = shown.iter().any(|one| one.trim() == block.trim());
                if block.contains("resource \"trading_dr_cluster\"") && !is_example {
                    let real = real(&served);
                    let mut text = block.clone();
                    for (_, id, value) in &real {
                        text = text.replace(id, value);
                    }
                    std::fs::write(workspace.path("example-block.tf"), &text).unwrap();
                    let peering = ("peering_connection_id", "pcx-0a1b2c3d4e5f60718".to_owned());
                    if !text.contains("peering_connection_id") {
                        let variables = variables(&served, &text, &[peering]);
                        if text.contains("import {") {
                            // Somebody made it, and its state is lost.
                            let (_, resource) = text.split_once("\n\n").unwrap();
                            std::fs::write(workspace.path("example-block.tf"), resource).unwrap();
                            run(&workspace, &["apply", "-auto-approve"], &variables).must_succeed();
                            std::fs::remove_file(workspace.path("terraform.tfstate")).unwrap();
                            std::fs::write(workspace.path("example-block.tf"), &text).unwrap();
                        }
                        let ran = run(&workspace, &["apply", "-auto-approve"], &variables);
                        assert_eq!(ran.code, 0, "{place}\n{}{}", ran.out, ran.err);
                        let ran = run(&workspace, &["plan", "-detailed-exitcode"], &variables);
                        assert_eq!(ran.code, 0, "{place}\n{}{}", ran.out, ran.err);
                        run(&workspace, &["destroy", "-auto-approve"], &variables).must_succeed();
                        applied += 1;
                    }
                }
            }
            count += 1;
        }
    }
    for path in files(&repository().join("examples"), "tf") {
        let text = std::fs::read_to_string(&path).unwrap();
        must_be_formatted(&text, &path.display().to_string());
    }
    assert!(count >= 8, "only {count} blocks were found");
    assert!(applied >= 2, "only {applied} of them were applied");
}
