//! Tags: whose a thing is, what users chose, and what is none of our business.

use std::collections::BTreeMap;

pub use crate::contract::{SECRET_TAG, SUFFIX_TAG};

/// Tags as AWS has them.
pub type Tags = BTreeMap<String, String>;

/// The tag that tells two clusters of the same suffix apart.
pub const CLUSTER_TAG: &str = "trading-dr:cluster-id";

/// The tag of a health check that says in which zone and under which name its record is: records carry no
/// tags, and a zone that is somebody else's is not found otherwise once it is no longer named.
pub const RECORD_TAG: &str = "trading-dr:dns-record";

/// The tag of a secret with a login that says in which instance the role was made: databases carry no tags.
pub const PREPARED_TAG: &str = "trading-dr:prepared-instance";

/// Tags that say something about a thing and that nobody chose.
const REMEMBERED: [&str; 3] = [SECRET_TAG, RECORD_TAG, PREPARED_TAG];

/// What the keys of the provider's own tags begin with.
const OWN: &str = "trading-dr:";

/// Tags in one text, without those that nobody chooses.
pub fn canonical_tags(tags: &Tags) -> String {
    let own =
        |key: &str| key.starts_with("aws:") || key == CLUSTER_TAG || REMEMBERED.contains(&key);
    let chosen = tags.iter().filter(|(key, _)| !own(key));
    let pairs: Vec<_> = chosen.map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

/// What to set and what to remove, so that `current` becomes `wanted`.
pub fn retag(current: &Tags, wanted: &Tags) -> (Tags, Vec<String>) {
    let set = wanted.iter().filter(|(key, value)| current.get(*key) != Some(value));
    let set = set.map(|(key, value)| (key.clone(), value.clone())).collect();
    let stays = |key: &str| {
        wanted.contains_key(key) || key.starts_with("aws:") || REMEMBERED.contains(&key)
    };
    let gone = current.keys().filter(|key| !stays(key));
    (set, gone.cloned().collect())
}

/// Tags that somebody else sets and removes: they are neither shown nor touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnoredTags {
    /// Whole keys.
    pub keys: Vec<String>,
    /// What keys begin with.
    pub key_prefixes: Vec<String>,
}

impl IgnoredTags {
    /// Whether a tag is somebody else's.
    pub fn covers(&self, key: &str) -> bool {
        let begins = |prefix: &String| key.starts_with(prefix.as_str());
        self.keys.iter().any(|one| one == key) || self.key_prefixes.iter().any(begins)
    }

    /// The first of the provider's own tags that would be ignored, if there is one.
    pub fn own(&self) -> Option<&str> {
        let is_own = |key: &&String| *key == "Name" || key.starts_with(OWN);
        let meets = |prefix: &&String| OWN.starts_with(prefix.as_str()) || is_own(prefix);
        let named = |prefix: &&String| "Name".starts_with(prefix.as_str());
        let key = self.keys.iter().find(is_own);
        let prefix = self.key_prefixes.iter().find(|one| meets(one) || named(one));
        key.or(prefix).map(String::as_str)
    }

    /// The tags that are ours to judge.
    #[must_use]
    pub fn without(&self, mut tags: Tags) -> Tags {
        tags.retain(|key, _| !self.covers(key));
        tags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(keys: &[&str], prefixes: &[&str]) -> IgnoredTags {
        let all = |texts: &[&str]| texts.iter().map(|one| (*one).to_owned()).collect();
        IgnoredTags { keys: all(keys), key_prefixes: all(prefixes) }
    }

    #[test]
    fn the_providers_own_tags_are_never_ignored() {
        for (keys, prefixes, own) in [
            (vec!["cost"], vec!["backup:"], None),
            (vec!["cost", SUFFIX_TAG], vec![], Some(SUFFIX_TAG)),
            (vec!["Name"], vec![], Some("Name")),
            (vec![], vec!["trading"], Some("trading")),
            (vec![], vec!["trading-dr:cluster"], Some("trading-dr:cluster")),
            (vec![], vec!["Na"], Some("Na")),
            (vec![], vec![""], Some("")),
        ] {
            assert_eq!(ignored(&keys, &prefixes).own(), own, "{keys:?} {prefixes:?}");
        }
    }

    #[test]
    fn keys_are_meant_whole_and_prefixes_are_not() {
        let ignored = ignored(&["cost"], &["backup:"]);
        let seen = ["cost", "cost-center", "backup:plan", "team"];
        let kept = ignored.without(seen.map(|key| (key.to_owned(), String::new())).into());
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["cost-center", "team"]);
    }
}
