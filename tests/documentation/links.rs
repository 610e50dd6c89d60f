//! Links lead somewhere: from a page of the Registry, which takes no path of the repository, and from those that are read
//! in the repository.

use std::path::{Path, PathBuf};

use super::files;
use crate::support::repository;

/// Where the Registry shows the pages of `docs/`.
const REGISTRY: &str = "https://registry.terraform.io/providers/tradingdr/trading/latest/docs";
/// Where the repository's files are read.
const REPOSITORY: [&str; 2] = [
    "https://github.com/tradingdr/terraform-provider-trading/blob/main/",
    "https://github.com/tradingdr/terraform-provider-trading/tree/main/",
];

/// The targets of a page's links, images included, outside of code.
fn targets(page: &str) -> Vec<(bool, String)> {
    let link = regex_lite::Regex::new(r"(!?)\[[^\]]*\]\(([^)\s]+)\)").unwrap();
    let mut prose = String::new();
    let mut is_code = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            prose += line;
            prose.push('\n');
        }
    }
    let found = link.captures_iter(&prose);
    found.map(|one| (&one[1] == "!", one[2].to_owned())).collect()
}

/// Whether a page has an anchor: one that is set, or a heading that it is made from.
fn has_anchor(page: &str, anchor: &str) -> bool {
    let made = |heading: &str| -> String {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|one| one.is_alphanumeric() || " -_".contains(*one));
        kept.map(|one| if one == ' ' { '-' } else { one }).collect()
    };
    page.contains(&format!("<a id=\"{anchor}\"></a>"))
        || page.lines().any(|line| line.starts_with('#') && made(line) == anchor)
}

/// Why a link of a page leads nowhere.
fn broken(path: &Path, page: &str, is_image: bool, target: &str) -> Option<String> {
    let is_published = path.starts_with(repository().join("docs"));
    if is_published && is_image {
        return Some("the Registry shows no images".into());
    }
    let (place, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file: PathBuf = if place.is_empty() {
        path.to_owned()
    } else if let Some(rest) = place.strip_prefix(REGISTRY) {
        let name = rest.strip_prefix('/').unwrap_or("index");
        repository().join("docs").join(format!("{name}.md"))
    } else if let Some(rest) = REPOSITORY.iter().find_map(|one| place.strip_prefix(one)) {
        repository().join(rest)
    } else if place.starts_with("https://") {
        return None;
    } else if is_published {
        return Some("the Registry takes no paths of the repository".into());
    } else {
        path.parent()?.join(place)
    };
    if file != path && !file.exists() {
        return Some(format!("{} is not there", file.display()));
    }
    if anchor.is_empty() {
        return None;
    }
    let other = if file == path { page.to_owned() } else { std::fs::read_to_string(&file).ok()? };
    (!has_anchor(&other, anchor)).then(|| format!("{} has no #{anchor}", file.display()))
}

#[test]
fn every_link_leads_somewhere() {
    let mut pages = files(&repository().join("docs"), "md");
    pages.extend(
        ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
            .map(|one| repository().join(one)),
    );
    let mut count = 0;
    for path in pages {
        let page = std::fs::read_to_string(&path).unwrap();
        for (is_image, target) in targets(&page) {
            count += 1;
            let why = broken(&path, &page, is_image, &target);
            assert_eq!(why, None, "{}: {target}", path.display());
        }
    }
    assert!(count > 40, "only {count} links were found");
}

#[test]
fn a_link_that_leads_nowhere_is_noticed() {
    let page = "## What to do\n[a](b)\n```\n[code](nowhere)\n```\n![c](d.svg)";
    assert_eq!(targets(page), [(false, "b".into()), (true, "d.svg".into())]);
    let docs = repository().join("docs/guides/x.md");
    let at = |path: &Path, is_image, target: &str| broken(path, page, is_image, target);
    assert!(at(&docs, false, "getting-started.md").is_some());
    assert!(at(&docs, true, "https://example.com/x.svg").is_some());
    assert!(at(&docs, false, "#what-to-do").is_none());
    assert!(at(&docs, false, "#what-not-to-do").is_some());
    assert!(at(&docs, false, &format!("{REGISTRY}/guides/getting-started#plan")).is_none());
    assert!(at(&docs, false, &format!("{REGISTRY}/guides/getting-started#nothing")).is_some());
    assert!(at(&docs, false, &format!("{REGISTRY}/guides/nothing")).is_some());
    let readme = repository().join("README.md");
    assert!(at(&readme, false, "docs/index.md").is_none());
    assert!(at(&readme, false, "docs/nothing.md").is_some());
    assert!(at(&readme, false, &format!("{}LICENSE", REPOSITORY[0])).is_none());
}
