//! What the operations of one walk of Terraform's leave to later ones: a walk is a plan of everything, or an apply.

use std::collections::{BTreeMap, BTreeSet};

use super::{connect::Configured, explain::Doing, flow::Opened};

/// What is remembered until the provider is configured again. That is once for each walk, but for tools that serve many of
/// them with one configuration (`terraform test` since 1.13, bridges): nothing here may take two walks for two resources.
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
    /// Ids of clusters whose creation was finished here, by suffix.
    pub(super) finished: BTreeMap<String, String>,
    /// How many resources of a suffix are being read or planned at this moment.
    busy: BTreeMap<String, usize>,
    /// Suffixes of which that were several at once: Terraform never reads or plans one resource twice at once.
    shared: BTreeSet<String>,
    /// What was planned last for each suffix, and not applied since; for which object of the state.
    planned: BTreeMap<String, (Doing, Option<String>)>,
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
    /// A resource of that suffix is being read or planned, until [`Memory::leave`].
    fn enter(&mut self, suffix: &str) {
        let count = self.busy.entry(suffix.to_owned()).or_default();
        *count += 1;
        if *count > 1 {
            self.shared.insert(suffix.to_owned());
        }
    }

    fn leave(&mut self, suffix: &str) {
        if let Some(count) = self.busy.get_mut(suffix) {
            *count = count.saturating_sub(1);
        }
    }

    /// Notes what a plan does to the cluster of a suffix, and for which object of the state, where it is marked. One that
    /// is made anew under its suffix counts as kept.
    ///
    /// # Errors
    /// Another resource of this walk has the same suffix: it is another object, two were at work at once, or what was
    /// planned before cannot have been of the same one.
    pub(super) fn note_plan(
        &mut self,
        suffix: &str,
        doing: Doing,
        object: Option<String>,
    ) -> Result<(), Clash> {
        use Doing::{Create, Destroy, Update};
        let (before, other) = self.planned.get(suffix).cloned().unzip();
        let differ = other.flatten().zip(object.as_ref()).is_some_and(|(one, two)| one != *two);
        let are_two = differ || self.shared.contains(suffix);
        self.planned.insert(suffix.to_owned(), (doing, object));
        let clash = match (before, doing) {
            (Some(Update), Create) | (Some(Create), Update) => Some(Clash::Shared),
            (Some(Destroy), Create) | (Some(Create), Destroy) => Some(Clash::Readdressed),
            // One resource is planned like that as well, in one walk after another.
            (Some(Create), Create) | (Some(Update), Update) if are_two => Some(Clash::Shared),
            (Some(Destroy), Update) | (Some(Update), Destroy) if are_two => Some(Clash::Removed),
            _ => None,
        };
        clash.map_or(Ok(()), Err)
    }

    /// What was planned for a suffix is done now.
    pub(super) fn note_apply(&mut self, suffix: &str) {
        self.looked.clear();
        self.planned.remove(suffix);
    }
}

/// A resource that is being read or planned.
pub(super) struct Busy<'a> {
    configured: &'a Configured,
    suffix: String,
}

impl<'a> Busy<'a> {
    pub(super) fn with(configured: &'a Configured, suffix: &str) -> Self {
        configured.memory().enter(suffix);
        Self { configured, suffix: suffix.to_owned() }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.configured.memory().leave(&self.suffix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUFFIX: &str = "prod";
    const ALL: [Doing; 3] = [Doing::Create, Doing::Update, Doing::Destroy];

    /// What two plans come to, one after the other; whether two resources were at work at once, and of which objects they
    /// are.
    fn clash(
        first: Doing,
        second: Doing,
        at_once: bool,
        objects: [Option<&str>; 2],
    ) -> Option<Clash> {
        let [one, other] = objects.map(|object| object.map(str::to_owned));
        let mut memory = Memory::default();
        memory.enter(SUFFIX);
        if at_once {
            memory.enter(SUFFIX);
            memory.leave(SUFFIX);
        }
        memory.leave(SUFFIX);
        memory.enter("prod-2");
        memory.enter("prod-2");
        assert_eq!(memory.note_plan(SUFFIX, first, one), Ok(()));
        assert_eq!(memory.note_plan("prod-2", second, None), Ok(()));
        memory.note_plan(SUFFIX, second, other).err()
    }

    #[test]
    fn a_suffix_is_one_resources() {
        use Doing::{Create, Destroy, Update};
        for (first, second) in ALL.iter().flat_map(|one| ALL.map(|other| (*one, other))) {
            let (always, at_once) = match [first, second] {
                [Destroy, Destroy] => (None, None),
                [Destroy, Update] | [Update, Destroy] => (None, Some(Clash::Removed)),
                [Create, Create] | [Update, Update] => (None, Some(Clash::Shared)),
                [Destroy, Create] | [Create, Destroy] => {
                    (Some(Clash::Readdressed), Some(Clash::Readdressed))
                }
                [Create, Update] | [Update, Create] => (Some(Clash::Shared), Some(Clash::Shared)),
            };
            let (unmarked, same, others) = ([None; 2], [Some("a"); 2], [Some("a"), Some("b")]);
            let told = format!("{first:?}, {second:?}");
            for objects in [unmarked, same, [None, Some("b")]] {
                assert_eq!(clash(first, second, false, objects), always, "{told}");
                assert_eq!(clash(first, second, true, objects), at_once, "{told}, at once");
            }
            assert_eq!(clash(first, second, false, others), at_once, "{told}, of two objects");
        }
    }

    #[test]
    fn what_is_applied_is_planned_as_if_for_the_first_time() {
        for doing in ALL {
            let mut memory = Memory::default();
            assert_eq!(memory.note_plan(SUFFIX, Doing::Create, None), Ok(()));
            memory.note_apply(SUFFIX);
            assert_eq!(memory.note_plan(SUFFIX, doing, None), Ok(()));
        }
    }
}
