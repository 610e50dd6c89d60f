//! `terraform-provider-trading graph`: what it draws is what there is, and the order in which it comes about.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::support::terraform::{Ran, Served, Workspace, cluster};

fn graph(workspace: &Workspace, arguments: &[&str]) -> Ran {
    workspace.start_by_hand(&[&["graph"], arguments].concat()).wait()
}

/// The nodes of a drawing for Graphviz by their addresses, and its arrows.
fn dot(text: &str) -> (BTreeSet<String>, BTreeSet<(String, String)>) {
    let (mut nodes, mut arrows) = (BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        let quoted: Vec<_> = line.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        if line.contains("[label=") {
            nodes.insert(quoted[0].clone());
        } else if line.contains("\" -> \"") {
            arrows.insert((quoted[0].clone(), quoted[1].clone()));
        }
    }
    (nodes, arrows)
}

/// The same of a drawing in Mermaid, by labels.
fn mermaid(text: &str) -> (Vec<String>, Vec<(String, String)>) {
    let label = |line: &str| line.split('"').nth(1).unwrap_or_default().to_owned();
    let mut labels = BTreeMap::<String, String>::new();
    let (mut nodes, mut arrows) = (Vec::new(), Vec::new());
    for line in text.lines().map(str::trim) {
        if let Some((from, to)) = line.split_once(" --> ") {
            let label = |id: &str| -> String { labels[id].clone() };
            arrows.push((label(from), label(to)));
        } else if line.starts_with('n') {
            labels.insert(line.split('[').next().unwrap().to_owned(), label(line));
            nodes.push(label(line));
        }
    }
    (nodes, arrows)
}

#[test]
fn a_drawing_is_what_there_is_in_the_order_in_which_it_comes_about() {
    let served = Served::new();
    let workspace = Workspace::new(&served, &cluster(&served, "prod", ""));
    let planned = workspace.path("plan.json");
    workspace.run(&["plan", "-out", "plan", "-no-color"]).must_succeed();
    std::fs::write(&planned, workspace.run(&["show", "-json", "plan"]).must_succeed().out).unwrap();
    workspace.apply().must_succeed();
    let shown = workspace.path("state.json");
    std::fs::write(&shown, workspace.run(&["show", "-json"]).must_succeed().out).unwrap();
    let ran = graph(&workspace, &["--dot", shown.to_str().unwrap()]).must_succeed();
    let (nodes, arrows) = dot(&ran.out);
    let state = workspace.state();
    let there: BTreeSet<_> =
        state["attributes"]["components"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(nodes, there);
    // No arrow leads to what was made before.
    let journal =
        std::fs::read_to_string(workspace.path(".terraform/trading-dr-prod.jsonl")).unwrap();
    let (mut begun, mut done) = (BTreeMap::new(), BTreeMap::new());
    for (index, line) in journal.lines().enumerate() {
        let event: Json = serde_json::from_str(line).unwrap();
        let address = event["address"].as_str().unwrap_or_default().to_owned();
        match event["event"].as_str().unwrap() {
            "begun" => begun.insert(address, index),
            "done" => done.insert(address, index),
            _ => None,
        };
    }
    assert!(arrows.len() > nodes.len() / 2, "{} arrows", arrows.len());
    for (from, to) in &arrows {
        if let (Some(done), Some(begun)) = (done.get(from), begun.get(to)) {
            assert!(done < begun, "{from} -> {to}");
        }
    }
    assert_eq!(done.len(), nodes.len());
    // One way, the other way, and by the plan: the same, but that a plan knows no routes.
    let drawn =
        graph(&workspace, &[shown.to_str().unwrap(), "trading_dr_cluster.prod"]).must_succeed();
    let (labels, lines) = mermaid(&drawn.out);
    assert_eq!((labels.len(), lines.len()), (nodes.len(), arrows.len()));
    for place in ["us-east-1", "us-west-2", "us-east-2", "global"] {
        assert!(drawn.out.contains(&format!("[\"{place}\"]\n")), "{place}");
    }
    let of_plan = graph(&workspace, &["--dot", planned.to_str().unwrap()]).must_succeed();
    assert_eq!(dot(&of_plan.out).0, nodes, "a plan that knows the components knows the routes");
}

#[test]
fn without_a_file_the_defaults_are_drawn_and_mistakes_are_told() {
    let served = Served::new();
    let workspace = Workspace::new(&served, "");
    let defaults = graph(&workspace, &["--dot"]).must_succeed();
    let (nodes, arrows) = dot(&defaults.out);
    assert!(nodes.len() > 100, "{}", nodes.len());
    let key = ("us-west-2/kms-key".to_owned(), "us-west-2/db-instance".to_owned());
    assert!(arrows.contains(&("us-east-1/db-instance".to_owned(), key.1.clone())), "{arrows:#?}");
    assert!(arrows.iter().any(|(from, _)| *from == key.0), "{arrows:#?}");
    assert!(graph(&workspace, &[]).must_succeed().out.starts_with("%% cluster prod: "));
    let write = |name: &str, text: &str| {
        std::fs::write(workspace.path(name), text).unwrap();
        workspace.path(name).to_str().unwrap().to_owned()
    };
    let one = |address: &str| {
        format!(
            "{{\"type\": \"trading_dr_cluster\", \"mode\": \"managed\", \"address\": \"{address}\", \"values\": {{}}}}"
        )
    };
    let none = write("none.json", "{}");
    let text = write("text.json", "trading");
    let two = format!(
        "{{\"values\": {{\"root_module\": {{\"resources\": [{}], \"child_modules\": [{{\"resources\": [{}]}}]}}}}}}",
        one("trading_dr_cluster.a"),
        one("module.m.trading_dr_cluster.b")
    );
    let two = write("two.json", &two);
    for (arguments, told) in [
        (vec!["--svg"], "there is no option --svg"),
        (vec!["a", "b", "c"], "c is one argument too many"),
        (vec!["/nowhere/plan.json"], "/nowhere/plan.json cannot be read"),
        (vec![&none], "there is no trading_dr_cluster in"),
        (vec![&text], "is not what `terraform show -json` prints"),
        (vec![&two], "module.m.trading_dr_cluster.b, trading_dr_cluster.a"),
        (vec![&two, "trading_dr_cluster.c"], "there is no trading_dr_cluster.c in"),
        (vec![&two, "trading_dr_cluster.a"], "environment_suffix is known only after apply"),
    ] {
        let ran = graph(&workspace, &arguments);
        assert_eq!(ran.code, 2, "{arguments:?}");
        assert!(ran.err.contains(told), "{arguments:?}: {}", ran.err);
    }
    let help = graph(&workspace, &["--help"]).must_succeed();
    assert!(help.out.starts_with("Usage: terraform-provider-trading graph"));
}
