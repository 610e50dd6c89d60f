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

/// Of calls whose questions and answers differ in nothing but numbers, the first; shared by every copy of the world.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic(Option<Arc<Mutex<BTreeMap<String, Exchange>>>>);

impl Traffic {
    pub(crate) fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn keep(&self, one: Exchange) {
        let Some(record) = &self.0 else { return };
        let end = one.error.as_deref().unwrap_or_default();
        let kind = format!("{} {} {end} ", one.service, one.operation);
        let kind = kind.replace(|sign: char| sign.is_ascii_digit(), "");
        let key = format!("{} {}", one.parameters, one.answer);
        let key = kind.clone() + &key.replace(|sign: char| sign.is_ascii_digit(), "");
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        let same = record.range(kind.clone()..).take_while(|(key, _)| key.starts_with(&kind));
        if same.count() < MOST {
            record.entry(key).or_insert(one);
        }
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
        record.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
