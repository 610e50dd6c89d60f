//! The generated parts of the pages, between their marks: `make docs` writes them, a test holds them to the code.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde_json::json;
use trading::{
    plugin::{Attribute, Kind, Provider as _},
    provider::TradingProvider,
};

use super::{files, pages, rendering::reference, root};
use crate::support::{
    aws::simulate,
    user::{State, User},
};

/// What a part is generated from: the schema of the provider or of a resource, or a file, as it is.
fn generated(what: &str) -> String {
    let provider = TradingProvider::new();
    match what.split_once(' ') {
        Some(("schema", "provider")) => reference(provider.schema()),
        Some(("data-source", name)) => {
            let all = provider.data_sources();
            let found = all.iter().find(|one| one.type_name() == name);
            reference(found.unwrap_or_else(|| panic!("there is no data source {name}")).schema())
        }
        Some(("schema", name)) => {
            let all = provider.resources();
            let found = all.iter().find(|one| one.type_name() == name);
            reference(found.unwrap_or_else(|| panic!("there is no resource {name}")).schema())
        }
        Some(("file", path)) => {
            let text = std::fs::read_to_string(root().join(path)).unwrap();
            let language = match path.rsplit('.').next() {
                Some("tf") => "terraform",
                Some("json") => "json",
                _ => "shell",
            };
            format!("```{language}\n{}\n```\n", text.trim_end())
        }
        None if what == "calls" => table_of_calls(),
        _ => panic!("nothing is generated from {what:?}"),
    }
}

/// Every call that the provider's code may make, by service as IAM names it: what reads, and what changes.
fn calls() -> BTreeMap<String, [BTreeSet<String>; 2]> {
    let call = regex_lite::Regex::new(r#"api\(\s*"([a-z0-9]+)",\s*"([A-Za-z]+)"#).unwrap();
    let mut services: BTreeMap<String, [BTreeSet<String>; 2]> = BTreeMap::new();
    let source = root().join("src");
    for path in files(&source, "rs").iter().filter(|path| !path.starts_with(source.join("agent"))) {
        let text = std::fs::read_to_string(path).unwrap();
        for found in call.captures_iter(&text) {
            let (service, action) = action(&found[1], &found[2]);
            let all = services.entry(service.to_owned()).or_default();
            all[usize::from(!only_reads(action))].insert(action.to_owned());
        }
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

fn only_reads(action: &str) -> bool {
    ["Describe", "Get", "List", "Query"].iter().any(|verb| action.starts_with(verb))
}

fn table_of_calls() -> String {
    let mut out = String::from("| service | reads | changes |\n|---|---|---|\n");
    let line = |all: &BTreeSet<String>| {
        all.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ")
    };
    for (service, [reads, changes]) in calls() {
        writeln!(out, "| `{service}` | {} | {} |", line(&reads), line(&changes)).unwrap();
    }
    out
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

/// A page with its parts as they should be: each begins behind `<!-- from: WHAT -->` and ends before `<!-- end -->`.
fn current(page: &str) -> String {
    let (begin, end) = ("<!-- from: ", "<!-- end -->");
    let mut out = String::new();
    let mut rest = page;
    while let Some((before, behind)) = rest.split_once(begin) {
        let (what, behind) = behind.split_once(" -->").expect("a mark that is not closed");
        let (_, behind) = behind.split_once(end).expect("a part that does not end");
        out += &format!("{before}{begin}{what} -->\n{}{end}", generated(what));
        rest = behind;
    }
    out + rest
}

#[test]
fn the_pages_say_what_the_schema_and_the_examples_say() {
    let writes = std::env::var_os("UPDATE_DOCS").is_some();
    let mut parts = 0;
    for path in pages() {
        let page = std::fs::read_to_string(&path).unwrap();
        let wanted = current(&page);
        parts += page.matches("<!-- from: ").count();
        if writes {
            std::fs::write(&path, wanted).unwrap();
        } else {
            assert!(page == wanted, "{} is not current: run `make docs`", path.display());
        }
    }
    assert!(parts >= 5, "only {parts} generated parts");
}

#[test]
fn every_attribute_is_described_and_none_could_hold_a_secret_unmarked() {
    fn walk(all: &[Attribute], path: &str) {
        for one in all {
            let place = format!("{path}{}", one.name);
            assert!(one.description.len() > 8, "{place} is not described");
            assert!(one.description.ends_with('.'), "{place}: {}", one.description);
            let holds = ["password", "secret", "token"].iter().any(|word| one.name.contains(word));
            // An ARN and a file tell where a secret is, not what it is.
            let is_place = one.name.ends_with("_arn") || one.name.ends_with("_file");
            assert!(!holds || one.sensitive || is_place, "{place} is not sensitive");
            if let Kind::Nested(_, inner) = &one.kind {
                walk(inner, &format!("{place}."));
            }
        }
    }
    let provider = TradingProvider::new();
    walk(&provider.schema().attributes, "provider ");
    for resource in provider.resources() {
        walk(&resource.schema().attributes, resource.type_name());
    }
    for source in provider.data_sources() {
        walk(&source.schema().attributes, source.type_name());
    }
}
