//! Records: changed in batches, all or nothing.

use serde_json::{Value, json};

use super::{
    changed, checks, invalid,
    zones::{ZONE, absolute, missing},
};
use crate::{
    request::{Failure, Reply, Request, integer},
    world::{GLOBAL, World},
};

/// A record as it is kept: numbers as numbers, its name absolute.
fn normal(set: &Value) -> Result<Value, Failure> {
    let known =
        ["Name", "Type", "SetIdentifier", "Weight", "TTL", "ResourceRecords", "HealthCheckId"];
    if let Some((member, _)) =
        set.as_object().into_iter().flatten().find(|(name, _)| !known.contains(&name.as_str()))
    {
        let message = format!("the sandbox does not implement {member} of a record");
        return Err(Failure { status: 501, ..Failure::new("NotImplemented", message) });
    }
    let mut set = set.clone();
    set["Name"] = absolute(set["Name"].as_str().unwrap_or_default()).into();
    for member in ["TTL", "Weight"] {
        if let Some(number) = integer(&set[member]) {
            set[member] = number.into();
        } else if let Some(all) = set.as_object_mut() {
            all.shift_remove(member);
        }
    }
    Ok(set)
}

fn is_same(one: &Value, other: &Value) -> bool {
    ["Name", "Type", "SetIdentifier"].iter().all(|member| one[*member] == other[*member])
}

fn batch(message: impl Into<String>) -> Failure {
    Failure::new("InvalidChangeBatch", format!("[{}]", message.into()))
}

fn check(world: &World, zone: &Value, records: &[Value], set: &Value) -> Result<(), Failure> {
    let text = |member: &str| set[member].as_str().unwrap_or_default();
    let (name, kind) = (text("Name"), text("Type"));
    let domain = zone["Name"].as_str().unwrap_or_default();
    if name != domain && !name.ends_with(&format!(".{domain}")) {
        return Err(batch(format!("RRSet with DNS name {name} is not permitted in zone {domain}")));
    }
    if kind == "CNAME" && name == domain {
        return Err(batch(format!(
            "RRSet of type CNAME with DNS name {name} is not permitted at apex in zone {domain}"
        )));
    }
    let values = set["ResourceRecords"].as_array().map_or(0, Vec::len);
    if set["TTL"].is_null() || values == 0 || (kind == "CNAME" && values != 1) {
        return Err(batch("Missing field 'TTL' or 'ResourceRecords', or more than one CNAME"));
    }
    if set["Weight"].is_null() != set["SetIdentifier"].is_null() {
        return Err(batch(
            "Expected exactly one of weight, region, failover… with a set identifier",
        ));
    }
    if set["Weight"].as_i64().is_some_and(|weight| !(0..=255).contains(&weight)) {
        return Err(batch("Weight must be between 0 and 255"));
    }
    let others = records.iter().filter(|one| one["Name"] == set["Name"] && !is_same(one, set));
    for other in others {
        let mixed = other["Weight"].is_null() != set["Weight"].is_null();
        if mixed || (kind == "CNAME") != (other["Type"] == "CNAME") {
            return Err(batch(format!(
                "RRSet with DNS name {name}, type {kind} cannot be created as other RRSets exist with the same name and type."
            )));
        }
    }
    if let Some(id) = set["HealthCheckId"].as_str()
        && world.get(GLOBAL, checks::CHECK, id).is_none()
    {
        return Err(checks::missing(id));
    }
    Ok(())
}

pub(super) fn change(world: &mut World, request: &Request) -> Reply {
    let id = request.required("Id")?.to_owned();
    let zone = world.get(GLOBAL, ZONE, &id).ok_or_else(|| missing(&id))?.clone();
    let mut records = zone["_records"].as_array().cloned().unwrap_or_default();
    let changes = request.get("ChangeBatch")["Changes"].as_array().cloned().unwrap_or_default();
    if changes.is_empty() {
        return Err(invalid("a change batch holds at least one change"));
    }
    for one in changes {
        let set = normal(&one["ResourceRecordSet"])?;
        let name = set["Name"].as_str().unwrap_or_default();
        let place = records.iter().position(|other| is_same(other, &set));
        match (one["Action"].as_str().unwrap_or_default(), place) {
            ("CREATE", Some(_)) => {
                return Err(batch(format!(
                    "Tried to create resource record set [name='{name}'] but it already exists"
                )));
            }
            ("CREATE", None) => {
                check(world, &zone, &records, &set)?;
                records.push(set);
            }
            ("UPSERT", place) => {
                check(world, &zone, &records, &set)?;
                if let Some(place) = place {
                    records.remove(place);
                }
                records.push(set);
            }
            // A deletion names the whole record (aws-facts 1.5).
            ("DELETE", Some(place)) if records[place] == set => {
                records.remove(place);
            }
            ("DELETE", place) => {
                let why = if place.is_some() {
                    "the values provided do not match the current values"
                } else {
                    "it was not found"
                };
                return Err(batch(format!(
                    "Tried to delete resource record set [name='{name}'] but {why}"
                )));
            }
            _ => return Err(invalid("an action is CREATE, UPSERT or DELETE")),
        }
    }
    if let Some(zone) = world.get_mut(GLOBAL, ZONE, &id) {
        zone["ResourceRecordSetCount"] = (records.len() + 2).into();
        zone["_records"] = records.into();
    }
    Ok(json!({"ChangeInfo": changed(world)}))
}

fn described(set: &Value) -> Value {
    let mut view = set.clone();
    view["ResourceRecords"] = json!({"ResourceRecord": set["ResourceRecords"]});
    view
}

pub(super) fn list(world: &mut World, request: &Request) -> Reply {
    let id = request.required("Id")?;
    let zone = world.get(GLOBAL, ZONE, id).ok_or_else(|| missing(id))?;
    let from = request.text("name").map(absolute).unwrap_or_default();
    let most = request.number("maxitems").and_then(|one| usize::try_from(one).ok()).unwrap_or(100);
    let own = json!({"Name": zone["Name"], "Type": "SOA", "TTL": 900, "ResourceRecords": [{"Value": "ns-1536.awsdns-00.co.uk. awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400"}]});
    let mut all: Vec<Value> = zone["_records"].as_array().cloned().unwrap_or_default();
    all.push(own);
    all.sort_by_key(|one| (one["Name"].to_string(), one["SetIdentifier"].to_string()));
    all.retain(|one| one["Name"].as_str().unwrap_or_default() >= from.as_str());
    let next = all.get(most).cloned().unwrap_or_default();
    let more = all.len() > most;
    all.truncate(most);
    let all: Vec<_> = all.iter().map(described).collect();
    Ok(json!({
        "ResourceRecordSets": {"ResourceRecordSet": all}, "IsTruncated": more, "MaxItems": most.to_string(),
        "NextRecordName": next["Name"], "NextRecordType": next["Type"], "NextRecordIdentifier": next["SetIdentifier"],
    }))
}
