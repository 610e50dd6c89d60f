//! What was asked and answered, kept for `make contract`, which holds it against AWS's own models.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::BufWriter,
    path::Path,
};

use aws_sandbox::Sandbox;
use serde::Serialize;
use serde_json::{Value as Json, json};

/// Writes a file beside the others.
fn write(name: &str, what: &impl Serialize) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("traffic");
    std::fs::create_dir_all(&folder).unwrap();
    let file = File::create(folder.join(format!("{name}.json"))).unwrap();
    serde_json::to_writer(BufWriter::new(file), what).unwrap();
}

/// Keeps the statements of roles' policies in one: they are held against AWS's reference of rights.
pub fn keep_policies(policies: &[&BTreeMap<String, Json>]) {
    let documents = policies.iter().flat_map(|one| one.values());
    let statements: Vec<_> =
        documents.flat_map(|one| one["Statement"].as_array().unwrap()).collect();
    write("policies-of-functions", &json!({"Statement": statements}));
}

/// Keeps the traffic of sandboxes that record it, and of all that began as copies of their worlds, in a file of that name;
/// of how many operations it is.
pub fn keep(name: &str, sandboxes: &[&Sandbox]) -> usize {
    let all: Vec<_> = sandboxes.iter().flat_map(|one| one.with(|world| world.traffic())).collect();
    let operations: BTreeSet<_> = all.iter().map(|one| (&one.service, &one.operation)).collect();
    write(name, &all);
    operations.len()
}
