//! What was asked and answered, kept for whoever holds both against AWS's own service models.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;
use serde_json::Value;

use crate::{
    dispatch::CallRecord,
    world::{World, shown},
};

/// A call as it was asked and answered.
#[derive(Clone, Debug, Serialize)]
pub struct Exchange {
    /// As IAM spells it.
    pub service: String,
    /// The operation.
    pub operation: String,
    /// The parameters; what is secret is not kept.
    pub parameters: Value,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The code of the error that was answered.
    pub error: Option<String>,
    /// The answer's body; of one in CBOR, the same in JSON.
    pub answer: String,
    /// Whether the body is JSON; XML if not.
    pub is_json: bool,
}

impl Exchange {
    /// A call with its answer; `tree` is what an answer in CBOR says.
    pub(crate) fn of(call: &CallRecord, status: u16, tree: Option<&Value>, body: &[u8]) -> Self {
        let answer = tree.map_or_else(
            || String::from_utf8_lossy(body).into_owned(),
            |tree| shown(tree).to_string(),
        );
        Self {
            service: call.service.clone(),
            operation: call.operation.clone(),
            parameters: call.parameters.clone(),
            status,
            error: call.error.clone(),
            is_json: !answer.starts_with('<'),
            answer,
        }
    }
}

/// How many calls of an operation are kept that succeed, and how many that fail with the same code.
const MOST: usize = 200;

/// Of calls whose questions and answers differ in nothing but numbers, the first, by kind; shared by every copy of the
/// world.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic(Option<Arc<Mutex<Kinds>>>);

/// Exchanges of each kind of call, by what was asked and answered.
type Kinds = BTreeMap<String, BTreeMap<String, Exchange>>;

fn without_digits(text: &str) -> String {
    text.replace(|sign: char| sign.is_ascii_digit(), "")
}

/// Calls of an operation that end alike.
fn kind(service: &str, operation: &str, error: Option<&str>) -> String {
    without_digits(&format!("{service} {operation} {}", error.unwrap_or_default()))
}

impl Traffic {
    /// Whether there is room for another call of this kind: asked first, as most calls find none.
    pub(crate) fn has_room(&self, call: &CallRecord) -> bool {
        let Some(record) = &self.0 else { return false };
        let kind = kind(&call.service, &call.operation, call.error.as_deref());
        let record = record.lock().unwrap_or_else(PoisonError::into_inner);
        record.get(&kind).is_none_or(|same| same.len() < MOST)
    }

    pub(crate) fn keep(&self, one: Exchange) {
        let Some(record) = &self.0 else { return };
        let kind = kind(&one.service, &one.operation, one.error.as_deref());
        let key = without_digits(&format!("{} {}", one.parameters, one.answer));
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        record.entry(kind).or_default().entry(key).or_insert(one);
    }
}

impl World {
    /// Begins to keep what is asked and answered, from nothing.
    pub fn record_traffic(&mut self) {
        self.traffic = Traffic(Some(Arc::default()));
    }

    /// What was asked and answered since then.
    pub fn traffic(&self) -> Vec<Exchange> {
        let Some(record) = &self.traffic.0 else { return Vec::new() };
        let record = record.lock().unwrap_or_else(PoisonError::into_inner);
        record.values().flat_map(BTreeMap::values).cloned().collect()
    }
}
