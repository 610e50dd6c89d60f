//! What an engine that runs real databases asks of the account, and tells it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{INSTANCE, SNAPSHOT, catalog, model, split_arn};
use crate::{clock::Time, world::World};

/// Where an instance's data come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From nowhere.
    New,
    /// From its source.
    Replica,
    /// From what a snapshot holds; nothing, while the engine has not taken it.
    Snapshot(Option<PathBuf>),
    /// From the latest snapshot before a moment, with what another instance, by RDS's id, wrote until then.
    Moment(Option<PathBuf>, String, Time),
}

/// What an instance should be.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Whether it takes connections.
    pub(crate) is_up: bool,
    /// Whether its region is lost.
    pub(crate) is_lost: bool,
    pub(crate) source: Option<(String, String)>,
    pub(crate) origin: Origin,
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) database: Option<String>,
    /// Everything that the account says.
    pub(crate) record: Value,
}

/// The value of a parameter's formula for a class.
pub(crate) fn evaluated(text: &str, class: &str, region: &str) -> Option<u64> {
    catalog::evaluate(text, catalog::memory(class, region).unwrap_or(4 << 30))
}

fn text(record: &Value, member: &str) -> String {
    record[member].as_str().unwrap_or_default().to_owned()
}

impl World {
    /// All instances: region, name, and RDS's id. New ones wait for the engine from now on.
    pub(crate) fn engine_instances(&mut self) -> Vec<(String, String, String)> {
        let mut all = Vec::new();
        let regions: Vec<String> = self.tables().map(|(region, ..)| region.to_owned()).collect();
        for region in regions {
            for (id, record) in self.table_mut(&region, INSTANCE) {
                if record["_engine"].is_null() {
                    record["_engine"] = "preparing".into();
                }
                let found = (region.clone(), id.clone(), text(record, "DbiResourceId"));
                if !all.contains(&found) {
                    all.push(found);
                }
            }
        }
        all
    }

    /// What an instance should be, if it still is the one with this id.
    pub(crate) fn wanted(&self, region: &str, id: &str, resource: &str) -> Option<Wanted> {
        let record = self.get(region, INSTANCE, id)?;
        if record["DbiResourceId"] != resource {
            return None;
        }
        let is_lost = self.is_dark(region);
        let source = record["_source"].as_str().and_then(split_arn);
        let origin = match (&source, &record["_restored"]) {
            (Some(_), _) => Origin::Replica,
            (None, Value::Null) => Origin::New,
            (None, from) => self.restored(from),
        };
        Some(Wanted {
            is_up: !is_lost && model::OPEN.contains(&&*text(record, "DBInstanceStatus")),
            is_lost,
            source,
            origin,
            username: text(record, "MasterUsername"),
            password: text(record, "_password"),
            database: record["DBName"].as_str().map(str::to_owned),
            record: record.clone(),
        })
    }

    fn restored(&self, from: &Value) -> Origin {
        let snapshots = || {
            let tables = self.tables().filter(|(_, kind, _)| *kind == SNAPSHOT);
            tables.flat_map(|(_, _, table)| table.values())
        };
        let folder = |one: &Value| one["_data"].as_str().map(PathBuf::from);
        let (Some(of), Some(moment)) = (from["of"].as_str(), from["moment"].as_str()) else {
            let found = snapshots().find(|one| one["DBSnapshotArn"] == from["snapshot"]);
            // A copy holds what its source does.
            let source = |one: &Value| {
                snapshots()
                    .find(|other| other["DBSnapshotArn"] == one["SourceDBSnapshotIdentifier"])
            };
            let first = found.map(|one| source(one).unwrap_or(one));
            return Origin::Snapshot(first.and_then(folder));
        };
        let moment = Time::parse(moment).unwrap_or(self.now);
        let of_it = |one: &&Value| {
            one["_origin"]["DbiResourceId"] == of && one["_taken"].as_u64() <= Some(moment.0)
        };
        let base = snapshots().filter(of_it).filter(|one| one["_data"].is_string());
        let base = base.max_by_key(|one| one["_taken"].as_u64()).and_then(folder);
        Origin::Moment(base, of.to_owned(), moment)
    }

    /// The instance that has an id of RDS's.
    pub(crate) fn instance_with(&self, resource: &str) -> Option<(String, String)> {
        let mut tables = self.tables().filter(|(_, kind, _)| *kind == INSTANCE);
        tables.find_map(|(region, _, table)| {
            let (id, _) = table.iter().find(|(_, one)| one["DbiResourceId"] == resource)?;
            Some((region.to_owned(), id.clone()))
        })
    }

    /// The engine has an instance's data.
    pub(crate) fn engine_is_ready(&mut self, region: &str, id: &str) {
        if let Some(record) = self.get_mut(region, INSTANCE, id) {
            record["_engine"] = "ready".into();
        }
    }

    /// The engine could not do something, which it will try again.
    pub(crate) fn engine_says(&mut self, region: &str, id: &str, why: &str) {
        if let Some(record) = self.get_mut(region, INSTANCE, id) {
            record["_trouble"] = why.into();
        }
    }

    /// PostgreSQL refuses its parameters.
    pub(crate) fn engine_cannot_start(&mut self, region: &str, id: &str) {
        if let Some(record) = self.get_mut(region, INSTANCE, id) {
            record["DBInstanceStatus"] = "incompatible-parameters".into();
        }
    }

    /// What the engine measured replaces what the model would say.
    pub(crate) fn engine_measured(&mut self, region: &str, id: &str, metrics: Value) {
        let Value::Object(metrics) = metrics else { return };
        if let Some(record) = self.get_mut(region, INSTANCE, id) {
            for (name, value) in metrics {
                record["_metrics"][name] = value;
            }
        }
    }

    /// The instances that follow one: region, name, and RDS's id.
    pub(crate) fn replicas_of(&self, region: &str, id: &str) -> Vec<(String, String, String)> {
        let mut all = Vec::new();
        for (its, _, table) in self.tables().filter(|(_, kind, _)| *kind == INSTANCE) {
            for (name, record) in table {
                let source = record["_source"].as_str().and_then(split_arn);
                if source.is_some_and(|source| source == (region.to_owned(), id.to_owned())) {
                    all.push((its.to_owned(), name.clone(), text(record, "DbiResourceId")));
                }
            }
        }
        all
    }

    /// Snapshots of an instance that hold nothing yet.
    pub(crate) fn snapshots_due(&self, region: &str, id: &str) -> Vec<String> {
        let of = |(_, record): &(&String, &Value)| {
            record["DBInstanceIdentifier"] == id
                && record["_data"].is_null()
                && record["SourceDBSnapshotIdentifier"].is_null()
        };
        self.table(region, SNAPSHOT).iter().filter(of).map(|(name, _)| name.clone()).collect()
    }

    /// A snapshot holds what is in a folder.
    pub(crate) fn snapshot_taken(&mut self, region: &str, name: &str, folder: &Path) {
        if let Some(record) = self.get_mut(region, SNAPSHOT, name) {
            record["_data"] = folder.to_string_lossy().into();
        }
    }

    /// What the engine last had trouble with.
    #[must_use]
    pub fn engine_trouble(&self, region: &str, id: &str) -> Option<String> {
        self.get(region, INSTANCE, id)?["_trouble"].as_str().map(str::to_owned)
    }
}
