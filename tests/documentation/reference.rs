//! The generated parts of the pages, between their marks: `make docs` writes them, a test holds them to the code.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use trading::{
    plugin::{Attribute, Kind, Provider as _},
    provider::TradingProvider,
};

use super::{alarms, pages, rendering::reference, rights};
use crate::support::{
    repository,
    terraform::{Served, Workspace},
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
            let text = std::fs::read_to_string(repository().join(path)).unwrap();
            let language = match path.rsplit('.').next() {
                Some("tf") => "terraform",
                Some("json") => "json",
                _ => "shell",
            };
            format!("```{language}\n{}\n```\n", text.trim_end())
        }
        None if what == "alarms" => alarms::table_of_alarms(),
        None if what == "calls" => rights::table_of_calls(),
        None if what == "functions" => rights::table_of_functions(),
        _ => panic!("nothing is generated from {what:?}"),
    }
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

/// Path, description and secrecy of each attribute, as Terraform shows a schema.
fn shown(all: &Json, path: &str, into: &mut BTreeMap<String, (String, bool)>) {
    for (name, one) in all.as_object().into_iter().flatten() {
        let place = format!("{path}.{name}");
        let text = one["description"].as_str().unwrap_or_default().to_owned();
        shown(&one["nested_type"]["attributes"], &place, into);
        into.insert(place, (text, one["sensitive"] == true));
    }
}

/// The same of ours.
fn ours(all: &[Attribute], path: &str, into: &mut BTreeMap<String, (String, bool)>) {
    for one in all {
        let place = format!("{path}.{}", one.name);
        if let Kind::Nested(_, inner) = &one.kind {
            ours(inner, &place, into);
        }
        into.insert(place, (one.description.to_string(), one.sensitive));
    }
}

#[test]
fn terraform_shows_the_schema_with_every_description_and_secret() {
    let served = Served::new();
    let workspace = Workspace::new(&served, "");
    let ran = workspace.run(&["providers", "schema", "-json"]).must_succeed();
    let all: Json = serde_json::from_str(&ran.out).unwrap();
    let all = &all["provider_schemas"]["registry.terraform.io/tradingdr/trading"];
    let (mut told, mut wanted) = (BTreeMap::new(), BTreeMap::new());
    let provider = TradingProvider::new();
    shown(&all["provider"]["block"]["attributes"], "provider", &mut told);
    ours(&provider.schema().attributes, "provider", &mut wanted);
    for resource in provider.resources() {
        let schema = &all["resource_schemas"][resource.type_name()];
        assert_eq!(schema["version"], 0);
        shown(&schema["block"]["attributes"], "resource", &mut told);
        ours(&resource.schema().attributes, "resource", &mut wanted);
    }
    for source in provider.data_sources() {
        let schema = &all["data_source_schemas"][source.type_name()];
        shown(&schema["block"]["attributes"], "data", &mut told);
        ours(&source.schema().attributes, "data", &mut wanted);
    }
    assert!(told.len() > 100, "only {} attributes", told.len());
    assert_eq!(told, wanted);
    let secret: Vec<_> =
        told.iter().filter(|(_, (_, secret))| *secret).map(|(place, _)| place.as_str()).collect();
    let expected = [
        "provider.access_key",
        "provider.assume_role_with_web_identity.web_identity_token",
        "provider.secret_key",
        "provider.token",
    ];
    assert_eq!(secret, expected);
}
