//! The state: the arguments as they were applied, and what AWS holds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{flow::Opened, intent::Hold, recovery};
use crate::{
    cluster::{
        Changes, Site, Verb,
        blueprint::{AGENT_ARGUMENTS, MASTER, dns::zone_and_name},
        changes,
        roles::{INCOMPLETE, status},
    },
    components::{
        ARN, Address, ENDPOINT, ID, Observation, Owner, db_instance::DbInstance,
        dns_record::DnsRecord, is_byproduct, secret::Secret,
    },
    executor::new_id,
    plugin::{Private, Value},
};

/// Attributes that the provider computes.
pub(super) const COMPUTED: [&str; 12] = [
    "id",
    "components",
    "arns",
    "tags_all",
    "endpoint",
    "primary_endpoint",
    "replica_endpoint",
    "writer_region",
    "status",
    "pending_changes",
    "master_secret_arn",
    "recovery",
];

/// What is kept beside the state, and beside a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// The cluster's id.
    pub(super) cluster_id: Option<String>,
    /// The account that it is in.
    pub(super) account: Option<String>,
    /// What the instances were when the plan was made.
    pub(super) roles: Option<String>,
    /// Removals, replacements and refusals of the plan.
    pub(super) grave: BTreeSet<String>,
    /// Whether the state is of a create that was not finished.
    pub(super) is_unfinished: bool,
    /// Of a plan: the suffix of which it is noted what becomes of it.
    pub(super) noted: Option<String>,
    /// Which object of a state it is: two may speak of one cluster.
    pub(super) object: Option<String>,
}

impl Kept {
    pub(super) fn parse(private: &[u8]) -> Self {
        let json: serde_json::Value = serde_json::from_slice(private).unwrap_or_default();
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        let grave = json["grave"].as_array().into_iter().flatten();
        Self {
            cluster_id: text("cluster_id"),
            account: text("account"),
            roles: text("roles"),
            grave: grave.filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            is_unfinished: json["unfinished"] == true,
            noted: text("noted"),
            object: text("object"),
        }
    }

    /// The same of an object that has a mark, unless there is no randomness for it.
    pub(super) fn marked(self) -> Self {
        let object = self.object.or_else(|| new_id().ok());
        Self { object, ..self }
    }

    pub(super) fn to_private(&self) -> Private {
        let json = json!({
            "schema_version": super::cluster_schema::VERSION, "cluster_id": self.cluster_id,
            "roles": self.roles, "grave": self.grave, "unfinished": self.is_unfinished,
            "noted": self.noted, "object": self.object, "account": self.account,
        });
        json.to_string().into_bytes()
    }
}

fn strings(all: BTreeMap<String, String>) -> Value {
    Value::string_map(all)
}

pub(super) fn maybe(text: Option<String>) -> Value {
    text.map_or(Value::Null, Value::String)
}

fn arn(found: &Observation) -> String {
    let known = [ARN, ID].iter().find_map(|name| found.outputs.get(name));
    known.cloned().unwrap_or_else(|| found.id.clone())
}

/// Components that are held as they are after a failover.
fn is_held(opened: &Opened, address: &Address) -> bool {
    changes::is_held(&opened.spec, opened.roles, address)
}

fn ours(opened: &Opened) -> impl Iterator<Item = &Observation> {
    let all = opened.inventory.all();
    all.filter(|one| one.owner == Owner::Ours && !is_byproduct(&one.address))
}

pub(super) fn endpoint(opened: &Opened, site: Site) -> Option<String> {
    let address = DbInstance::address(&opened.spec.site(site).region);
    opened.inventory.get(&address)?.outputs.get(ENDPOINT).cloned()
}

/// The DNS name that leads to whichever site serves.
pub(super) fn dns_name(opened: &Opened) -> Value {
    // After a failover the record stays as it is, whatever the arguments say.
    let record = opened.inventory.get(&DnsRecord::address(Site::Primary.argument()));
    let held = record.filter(|_| opened.roles.failed_over());
    if let Some(name) = held.and_then(|record| record.settings.get("dns_name")) {
        return Value::string(name.as_str());
    }
    maybe(zone_and_name(&opened.spec, &opened.surroundings).1)
}

fn secret(opened: &Opened) -> Address {
    Secret::address(&opened.spec.primary.region, MASTER)
}

fn pending(opened: &Opened) -> Vec<String> {
    let each = opened.inventory.all().flat_map(|found| {
        found.pending.iter().map(move |text| format!("{} {text}", found.address))
    });
    each.collect()
}

/// One line for what AWS holds at an address.
fn line(opened: &Opened, found: &Observation) -> String {
    match opened.blueprint.get(&found.address) {
        Some(component) => component.summary_of(found, &|text| opened.resolve(text)),
        None => format!("{} · unwanted", found.id),
    }
}

/// The state of what AWS holds, with these arguments.
pub(super) fn observed(arguments: &Value, opened: &Opened) -> Value {
    let components = ours(opened).map(|one| (one.address.to_string(), line(opened, one))).collect();
    let arns = ours(opened).map(|one| (one.address.to_string(), arn(one))).collect();
    let missing =
        opened.blueprint.all().filter(|one| opened.inventory.get(&one.address).is_none()).count();
    let missing = missing + usize::from(is_unnoted(arguments, opened));
    let writer = opened.roles.writer().map(|site| opened.spec.site(site).region.clone());
    let secret = opened.inventory.get(&secret(opened)).map(arn);
    arguments
        .clone()
        .with("id", Value::string(opened.spec.suffix.as_str()))
        .with("components", strings(components))
        .with("arns", strings(arns))
        .with("tags_all", strings(opened.spec.tags.clone()))
        .with("endpoint", dns_name(opened))
        .with("primary_endpoint", maybe(endpoint(opened, Site::Primary)))
        .with("replica_endpoint", maybe(endpoint(opened, Site::Dr)))
        .with("writer_region", maybe(writer))
        .with("status", Value::string(status(opened.roles, &opened.inventory, missing)))
        .with("pending_changes", Value::strings(pending(opened)))
        .with("master_secret_arn", maybe(secret))
        .with("recovery", recovery::observed(opened))
}

/// Whether it was never noted that the create reached its end, as far as the state knows: reads may be behind a note
/// that was made a moment ago.
fn is_unnoted(state: &Value, opened: &Opened) -> bool {
    let status = state.get("status");
    let may_be = status.is_null() || status.as_str() == Some(INCOMPLETE);
    may_be && opened.claim.as_ref().is_some_and(|claim| !claim.is_complete)
}

/// A state of which nothing but the arguments is known yet.
pub(super) fn undecided(arguments: Value) -> Value {
    COMPUTED.iter().fold(arguments, |value, name| value.with(name, Value::Unknown))
}

/// Whether something about a component depends on an argument that is not known yet.
fn is_unknown(opened: &Opened, address: &Address) -> bool {
    let Some(component) = opened.blueprint.get(address) else { return false };
    let unknown = &opened.spec.unknown;
    component
        .fields
        .iter()
        .any(|field| !field.argument.is_empty() && unknown.contains(field.argument))
}

/// The state that changes will lead to. Where nothing changes at all, not even an argument, it is the prior
/// one; otherwise there will be an apply, and what it observes in the end is not known yet.
pub(super) fn planned(
    arguments: &Value,
    prior: Option<&Value>,
    opened: &Opened,
    changes: &Changes,
) -> Value {
    let is_create = prior.is_none();
    let settled = prior.filter(|prior| {
        changes.is_empty()
            && opened.spec.unknown.is_empty()
            && !is_unnoted(prior, opened)
            // An update that was interrupted has the monitors wait; an apply that gets to its end lets them act again.
            && Hold::left(opened).is_none()
    });
    match settled {
        Some(prior) => {
            let same = assembled(arguments, Some(prior), opened, changes, false);
            if same == *prior { same } else { assembled(arguments, None, opened, changes, false) }
        }
        None => assembled(arguments, None, opened, changes, is_create),
    }
}

/// Components whose lines would come out otherwise than planned, because what is around the cluster has changed since.
/// Terraform would take that for a fault, once everything is done.
pub(super) fn differing_lines(
    plan: &Value,
    prior: Option<&Value>,
    opened: &Opened,
    changes: &Changes,
) -> Vec<String> {
    let now = planned(plan, prior, opened, changes);
    let (Value::Mapping(promised), Value::Mapping(now)) =
        (plan.get("components"), now.get("components"))
    else {
        return Vec::new();
    };
    let addresses: BTreeSet<&String> = promised.keys().chain(now.keys()).collect();
    let told = |address: &String| match (promised.get(address), now.get(address)) {
        (Some(Value::Unknown), Some(_)) | (Some(_), Some(Value::Unknown)) => None,
        (one, other) if one == other => None,
        (_, Some(Value::String(line))) => Some(format!("{address} would be {line}")),
        _ => Some(format!("{address} would not be there")),
    };
    addresses.into_iter().filter_map(told).collect()
}

/// A value as it was promised, with what was left open as it came out.
fn promised(planned: &Value, value: &Value) -> Value {
    match planned {
        Value::Unknown => value.clone(),
        Value::Mapping(all) => {
            let there = |key: &String| match value {
                Value::Mapping(came) => came.get(key).cloned(),
                _ => None,
            };
            // What is not there any more was promised to have some value.
            let came = |key| there(key).unwrap_or_else(|| Value::string(""));
            let each = all.iter().map(|(key, one)| (key.clone(), promised(one, &came(key))));
            Value::Mapping(each.collect())
        }
        known => known.clone(),
    }
}

/// The state of a finished run as its plan promised it: the cluster may have changed by itself meanwhile, and Terraform
/// would take that for a fault.
pub(super) fn as_promised(planned: &Value, state: &Value) -> Value {
    let one = |state: Value, name: &&str| {
        let value = promised(planned.get(name), state.get(name));
        state.with(name, value)
    };
    COMPUTED.iter().fold(state.clone(), one)
}

/// The attributes of a finished run's state, and the components in them, that came out otherwise than promised.
pub(super) fn broken_promises(planned: &Value, state: &Value) -> Vec<String> {
    let promised = as_promised(planned, state);
    let differ = COMPUTED.iter().filter(|name| promised.get(name) != state.get(name));
    let mut all = BTreeSet::new();
    for name in differ {
        match (promised.get(name), state.get(name)) {
            (Value::Mapping(one), Value::Mapping(other)) => {
                let keys = one.keys().chain(other.keys());
                let differ = keys.filter(|key| one.get(*key) != other.get(*key));
                all.extend(differ.cloned());
            }
            _ => {
                all.insert((*name).to_owned());
            }
        }
    }
    all.into_iter().collect()
}

fn assembled(
    arguments: &Value,
    prior: Option<&Value>,
    opened: &Opened,
    changes: &Changes,
    is_create: bool,
) -> Value {
    // What an interrupted create left may be gone until this one begins: nothing that AWS decides is promised.
    let mut components = BTreeMap::new();
    let mut arns = BTreeMap::new();
    for component in opened.blueprint.all() {
        let (address, found) = (&component.address, opened.inventory.get(&component.address));
        let held = is_held(opened, address);
        if held && found.is_none() {
            continue;
        }
        let line = match found {
            Some(found) if held => Value::String(line(opened, found)),
            _ if is_unknown(opened, address) => Value::Unknown,
            _ => Value::String(component.summary()),
        };
        components.insert(address.to_string(), line);
        let anew = changes
            .get(address)
            .is_some_and(|one| matches!(one.verb, Verb::Replace(_) | Verb::Create));
        let known = found.filter(|_| !anew && !is_create).map(arn);
        arns.insert(address.to_string(), known.map_or(Value::Unknown, Value::String));
    }
    // What nobody wants and what stays all the same is there afterwards too.
    let stays = |one: &&Observation| {
        opened.blueprint.get(&one.address).is_none() && is_held(opened, &one.address)
    };
    for found in ours(opened).filter(stays) {
        let address = found.address.to_string();
        components.insert(address.clone(), Value::String(line(opened, found)));
        arns.insert(address, Value::String(arn(found)));
    }
    let later = |name: &str, now: Value| prior.map_or(now, |prior| prior.get(name).clone());
    let touched = |address: &Address| {
        changes.get(address).is_some_and(|one| matches!(one.verb, Verb::Create | Verb::Replace(_)))
    };
    let instance = |site: Site| {
        let address = DbInstance::address(&opened.spec.site(site).region);
        // One that is still being made has none yet.
        let known = endpoint(opened, site).filter(|_| !touched(&address) && !is_create);
        known.map_or(Value::Unknown, Value::String)
    };
    let writer = match opened.roles.writer() {
        Some(site) if !is_create => Value::string(opened.spec.site(site).region.as_str()),
        _ => Value::Unknown,
    };
    let tags = if opened.spec.unknown.contains("tags") {
        Value::Unknown
    } else {
        strings(opened.spec.tags.clone())
    };
    let name =
        if opened.spec.unknown.contains("dns.name") { Value::Unknown } else { dns_name(opened) };
    let unsure = [AGENT_ARGUMENTS, "dns.ttl"].iter().any(|one| opened.spec.unknown.contains(*one));
    let objectives = if unsure { Value::Unknown } else { recovery::observed(opened) };
    let secret = if is_create || touched(&secret(opened)) {
        Value::Unknown
    } else {
        maybe(opened.inventory.get(&secret(opened)).map(arn))
    };
    arguments
        .clone()
        .with("id", Value::string(opened.spec.suffix.as_str()))
        .with("components", Value::Mapping(components))
        .with("arns", Value::Mapping(arns))
        .with("tags_all", tags)
        .with("endpoint", name)
        .with("primary_endpoint", later("primary_endpoint", instance(Site::Primary)))
        .with("replica_endpoint", later("replica_endpoint", instance(Site::Dr)))
        .with("writer_region", later("writer_region", writer))
        .with("status", later("status", Value::Unknown))
        .with("pending_changes", later("pending_changes", Value::Unknown))
        .with("master_secret_arn", later("master_secret_arn", secret))
        .with("recovery", later("recovery", objectives))
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|one| one.is_ascii_digit())
}

/// The account that a cluster is in: as it is kept beside the state, or as the state's components have it; `None` where
/// nothing names it.
pub(super) fn account_of(private: &[u8], state: Option<&Value>) -> Option<String> {
    let kept = Kept::parse(private).account.filter(|account| is_account(account));
    kept.or_else(|| named(state?).map(str::to_owned))
}

fn named(state: &Value) -> Option<&str> {
    let Value::Mapping(arns) = state.get("arns") else { return None };
    let accounts = arns.values().filter_map(Value::as_str).filter_map(|arn| arn.split(':').nth(4));
    accounts.into_iter().find(|account| is_account(account))
}
