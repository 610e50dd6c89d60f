//! What the operations of one walk of Terraform's leave to later ones: a walk is a plan of everything, or an apply.

use std::collections::{BTreeMap, BTreeSet};

use super::{explain::Doing, flow::Opened};

/// What is remembered until the provider is configured again.
#[derive(Default)]
pub(super) struct Memory {
    /// The last look at each cluster, by its suffix, which a plan takes over from the read before it.
    pub(super) looked: BTreeMap<String, Opened>,
    /// Suffixes that Terraform has in its state: creating them again means to replace them.
    pub(super) in_state: BTreeSet<String>,
    /// Suffixes of clusters that a plan of this walk replaces by others.
    pub(super) leaving: BTreeSet<String>,
    /// Suffixes of clusters that are protected from being destroyed.
    pub(super) protected: BTreeSet<String>,
    /// What was planned for each suffix.
    planned: BTreeMap<String, Doing>,
}

/// Two resources want something of one suffix that cannot both be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clash {
    /// Both have the cluster.
    Shared,
    /// One takes the cluster away that the other one keeps.
    Removed,
    /// One takes the cluster away, the other one makes it; Terraform keeps to no order between them.
    Readdressed,
}

impl Memory {
    /// Notes what a plan does to the cluster of a suffix. `is_anew`: the resource that was planned a moment ago is
    /// planned once more, as Terraform makes it anew (terraform-facts).
    ///
    /// # Errors
    /// Another resource of this walk has the same suffix.
    pub(super) fn plan(&mut self, suffix: &str, doing: Doing, is_anew: bool) -> Result<(), Clash> {
        let before = self.planned.get(suffix).copied();
        let clash = match (before, doing) {
            (Some(Doing::Update), Doing::Create) if is_anew => None,
            (None, _) | (Some(Doing::Destroy), Doing::Destroy) => None,
            (Some(Doing::Destroy), Doing::Create) | (Some(Doing::Create), Doing::Destroy) => {
                Some(Clash::Readdressed)
            }
            (Some(Doing::Destroy), Doing::Update) | (Some(Doing::Update), Doing::Destroy) => {
                Some(Clash::Removed)
            }
            (Some(Doing::Create | Doing::Update), Doing::Create | Doing::Update) => {
                Some(Clash::Shared)
            }
        };
        self.planned.insert(suffix.to_owned(), doing);
        clash.map_or(Ok(()), Err)
    }

    /// What was planned for a suffix is done now.
    pub(super) fn apply(&mut self, suffix: &str) {
        self.looked.clear();
        self.planned.remove(suffix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUFFIX: &str = "prod";

    fn clash(first: Doing, second: Doing) -> Option<Clash> {
        let mut memory = Memory::default();
        assert_eq!(memory.plan(SUFFIX, first, false), Ok(()));
        assert_eq!(memory.plan("prod-2", second, false), Ok(()));
        memory.plan(SUFFIX, second, false).err()
    }

    #[test]
    fn a_suffix_is_one_resources() {
        use Doing::{Create, Destroy, Update};
        let all = [Create, Update, Destroy];
        for (first, second) in all.iter().flat_map(|one| all.map(|other| (*one, other))) {
            let wanted = match [first, second] {
                [Destroy, Destroy] => None,
                [Destroy, Update] | [Update, Destroy] => Some(Clash::Removed),
                [Destroy, Create] | [Create, Destroy] => Some(Clash::Readdressed),
                _ => Some(Clash::Shared),
            };
            assert_eq!(clash(first, second), wanted, "{first:?}, {second:?}");
        }
    }

    #[test]
    fn one_that_is_made_anew_is_planned_twice() {
        let mut memory = Memory::default();
        assert_eq!(memory.plan(SUFFIX, Doing::Update, false), Ok(()));
        assert_eq!(memory.plan(SUFFIX, Doing::Create, true), Ok(()));
        assert_eq!(memory.plan(SUFFIX, Doing::Create, false), Err(Clash::Shared));
        // It is done: what comes now is another matter.
        memory.apply(SUFFIX);
        assert_eq!(memory.plan(SUFFIX, Doing::Create, false), Ok(()));
    }
}
