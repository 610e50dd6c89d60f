//! The simulated account: records in tables, and what will happen to them.
//!
//! A record is the JSON tree that AWS would describe it with; members whose names begin with `_` are the
//! sandbox's own and are never shown. The whole world is a value: a test can clone it at any call.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use serde_json::{Map, Value};

use crate::{
    clock::Time, dispatch::CallRecord, faults::Fault, iam::AccessRecord, traffic::Traffic,
};

/// The region that global services (IAM, Route 53) keep their records under.
pub(crate) const GLOBAL: &str = "global";

type Table = BTreeMap<String, Value>;

/// Something that AWS does in its own time to the record `id` in `region`.
pub(crate) type Action = fn(&mut World, region: &str, id: &str);

#[derive(Clone, Debug)]
struct Event {
    region: String,
    id: String,
    action: Action,
}

/// An account at a moment.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The moment of the last call.
    pub(crate) now: Time,
    /// The moment that time is passing to.
    pub(crate) until: Time,
    sequence: u64,
    /// Shared with the past and with clones until one of them changes it.
    tables: BTreeMap<(String, &'static str), Arc<Table>>,
    events: BTreeMap<(Time, u64), Event>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) calls: Vec<CallRecord>,
    /// How many functions may run at once in each region: the account's quota.
    pub(crate) concurrency: u64,
    /// Archives of functions, by their hash.
    pub(crate) archives: BTreeMap<String, Arc<[u8]>>,
    /// What was needed and allowed, if that is kept.
    pub(crate) access: AccessRecord,
    /// What was asked and answered, if that is kept.
    pub(crate) traffic: Traffic,
    /// Regions whose control plane does not answer.
    pub(crate) down: BTreeSet<String>,
    /// Regions whose databases and functions are down.
    pub(crate) dark: BTreeSet<String>,
    /// Pairs of regions that do not reach each other, both ways round.
    pub(crate) cut: BTreeSet<(String, String)>,
    /// Whether the tagging API may have something to learn: of what was changed since it last looked, or what is late.
    pub(crate) tags_move: bool,
    /// The world as it was after earlier calls, for as long as reads may be stale.
    past: VecDeque<Arc<World>>,
}

impl World {
    /// Keeps the present for reads that will be stale.
    pub(crate) fn remember(&mut self) {
        let Some(lag) = self.faults.iter().filter_map(Fault::lag).max() else {
            return self.past.clear();
        };
        let (past, calls) = (std::mem::take(&mut self.past), std::mem::take(&mut self.calls));
        let present = self.clone();
        (self.past, self.calls) = (past, calls);
        self.past.push_back(Arc::new(present));
        // The youngest that is old enough stays.
        let old = Time(self.now.0.saturating_sub(lag));
        while self.past.get(1).is_some_and(|one| one.now <= old) {
            self.past.pop_front();
        }
    }

    /// The world as it was so many milliseconds ago; before anything is remembered, as it is.
    pub(crate) fn ago(&self, milliseconds: u64) -> Self {
        let then = Time(self.now.0.saturating_sub(milliseconds));
        let known = self.past.iter().rev().find(|one| one.now <= then).or(self.past.front());
        let mut world = known.map_or_else(|| self.clone(), |one| Self::clone(one));
        if world.now < then {
            world.advance_to(then);
        }
        world
    }

    pub(crate) fn table(&self, region: &str, kind: &'static str) -> &Table {
        static EMPTY: Table = Table::new();
        self.tables.get(&(region.to_owned(), kind)).map_or(&EMPTY, |table| table)
    }

    pub(crate) fn table_mut(&mut self, region: &str, kind: &'static str) -> &mut Table {
        self.tags_move = true;
        Arc::make_mut(self.tables.entry((region.to_owned(), kind)).or_default())
    }

    pub(crate) fn get(&self, region: &str, kind: &'static str, id: &str) -> Option<&Value> {
        self.table(region, kind).get(id)
    }

    pub(crate) fn get_mut(
        &mut self,
        region: &str,
        kind: &'static str,
        id: &str,
    ) -> Option<&mut Value> {
        self.tags_move = true;
        let table = self.tables.get_mut(&(region.to_owned(), kind))?;
        // What is not there needs no copy.
        table.contains_key(id).then(|| Arc::make_mut(table).get_mut(id))?
    }

    pub(crate) fn put(&mut self, region: &str, kind: &'static str, id: &str, record: Value) {
        self.table_mut(region, kind).insert(id.to_owned(), record);
    }

    pub(crate) fn remove(&mut self, region: &str, kind: &'static str, id: &str) -> Option<Value> {
        self.table_mut(region, kind).remove(id)
    }

    /// Every table that holds something: region, kind, records.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (&str, &'static str, &Table)> {
        let filled = self.tables.iter().filter(|(_, table)| !table.is_empty());
        filled.map(|((region, kind), table)| (region.as_str(), *kind, &**table))
    }

    /// The record that a drift names by text.
    pub(crate) fn table_named(&mut self, region: &str, kind: &str) -> Option<&mut Table> {
        self.tags_move = true;
        let mut all = self.tables.iter_mut();
        let named = all.find(|((its, name), _)| its == region && *name == kind);
        named.map(|(_, table)| Arc::make_mut(table))
    }

    /// The next number; everything that AWS would draw at random is made of these.
    pub(crate) fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// An id such as `vpc-0123456789abcdef0`.
    pub(crate) fn new_id(&mut self, prefix: &str) -> String {
        format!("{prefix}-{}", &self.digest()[..17])
    }

    /// Hexadecimal digits that differ each time.
    pub(crate) fn digest(&mut self) -> String {
        use sha2::{Digest as _, Sha256};
        let number = self.next();
        Sha256::digest(number.to_le_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A UUID.
    pub(crate) fn uuid(&mut self) -> String {
        let hex = self.digest();
        format!(
            "{}-{}-4{}-8{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[13..16],
            &hex[17..20],
            &hex[20..32]
        )
    }

    pub(crate) fn after(&mut self, seconds: u64, region: &str, id: &str, action: Action) {
        self.at(self.now.plus_seconds(seconds), region, id, action);
    }

    pub(crate) fn at(&mut self, when: Time, region: &str, id: &str, action: Action) {
        let key = (when, self.next());
        self.events.insert(key, Event { region: region.to_owned(), id: id.to_owned(), action });
    }

    /// Lets everything happen that is due until `now`.
    pub(crate) fn advance_to(&mut self, now: Time) {
        self.until = now;
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let (at, event) = (entry.key().0, entry.remove());
            self.now = self.now.max(at);
            (event.action)(self, &event.region, &event.id);
        }
        self.now = self.now.max(now);
    }

    /// When the next thing is due.
    pub(crate) fn next_event(&self) -> Option<Time> {
        self.events.keys().next().map(|(at, _)| *at)
    }
}

/// A record as AWS shows it: without the sandbox's own members.
pub(crate) fn shown(record: &Value) -> Value {
    match record {
        Value::Object(members) => Value::Object(
            members
                .iter()
                .filter(|(name, _)| !name.starts_with('_'))
                .map(|(name, value)| (name.clone(), shown(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(shown).collect()),
        other => other.clone(),
    }
}

/// The tags of a record: kept as a map under `_tags`.
pub(crate) fn tags(record: &Value) -> Map<String, Value> {
    record["_tags"].as_object().cloned().unwrap_or_default()
}

/// Tags as lists of structures with these two names.
pub(crate) fn tag_list(record: &Value, key: &str, value: &str) -> Vec<Value> {
    let pair = |(name, text): (String, Value)| {
        let mut tag = Map::new();
        tag.insert(key.into(), name.into());
        tag.insert(value.into(), text);
        Value::Object(tag)
    };
    tags(record).into_iter().map(pair).collect()
}

/// A request's list of tags as a map.
pub(crate) fn tag_map(list: &Value, key: &str, value: &str) -> Map<String, Value> {
    let items = list.as_array().into_iter().flatten();
    items
        .filter_map(|tag| {
            let text = tag[value].as_str().unwrap_or("");
            Some((tag[key].as_str()?.to_owned(), Value::from(text)))
        })
        .collect()
}
