//! What is published: the reference says what the schema says, and every example works as it stands.

mod alarms;
mod examples;
mod links;
mod reference;
mod rendering;
mod rights;

use std::path::{Path, PathBuf};

use crate::support::repository;

/// All files below a folder with an extension, in order.
fn files(below: &Path, extension: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path, extension));
        } else if path.extension().is_some_and(|one| one == extension) {
            all.push(path);
        }
    }
    all.sort();
    all
}

/// Every page.
fn pages() -> Vec<PathBuf> {
    let mut all = files(&repository().join("docs"), "md");
    all.push(repository().join("README.md"));
    all
}
