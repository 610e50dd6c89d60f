//! Parameter groups, and what their changes do to the instances that use them.

use serde_json::{Map, Value, json};

use super::{INSTANCE, PARAMETER_GROUP, catalog, group_of};
use crate::{
    durations::{DB_STATUS_LAG, PARAMETER_DYNAMIC},
    request::{Failure, Reply, Request},
    services::page,
    world::{World, shown, tag_map},
};

/// The limits that a standby must not fall below.
const STANDBY_LIMITS: &[&str] = &[
    "max_connections",
    "max_prepared_transactions",
    "max_locks_per_transaction",
    "max_wal_senders",
    "max_worker_processes",
];

fn missing(name: &str) -> Failure {
    Failure::new("DBParameterGroupNotFound", format!("DBParameterGroup not found: {name}"))
}

fn found<'a>(world: &'a World, request: &Request) -> Result<(String, &'a Value), Failure> {
    let name = request.required("DBParameterGroupName")?.to_lowercase();
    let group = world.get(&request.region, PARAMETER_GROUP, &name).ok_or_else(|| missing(&name))?;
    Ok((name, group))
}

pub(super) fn create(world: &mut World, request: &Request) -> Reply {
    let name = request.required("DBParameterGroupName")?.to_lowercase();
    let family = request.required("DBParameterGroupFamily")?.to_owned();
    let description = request.required("Description")?.to_owned();
    super::check_name(&name, "DBParameterGroupName", 255)?;
    if !["13", "14", "15", "16", "17"].iter().any(|major| family == format!("postgres{major}")) {
        let message =
            format!("ParameterGroupFamily {family} is not a valid parameter group family");
        return Err(Failure::new("InvalidParameterValue", message));
    }
    if world.get(&request.region, PARAMETER_GROUP, &name).is_some() {
        let message = format!("Parameter group {name} already exists");
        return Err(Failure::new("DBParameterGroupAlreadyExists", message));
    }
    let arn = request.arn("rds", &format!("pg:{name}"));
    let record = json!({
        "DBParameterGroupName": name, "DBParameterGroupFamily": family, "Description": description,
        "DBParameterGroupArn": arn, "_values": {}, "_arn": arn, "_tags": tag_map(request.get("Tags"), "Key", "Value"),
    });
    world.put(&request.region, PARAMETER_GROUP, &name, record.clone());
    Ok(json!({"DBParameterGroup": shown(&record)}))
}

pub(super) fn describe_groups(world: &mut World, request: &Request) -> Reply {
    let groups: Vec<Value> = if request.has("DBParameterGroupName") {
        vec![shown(found(world, request)?.1)]
    } else {
        world.table(&request.region, PARAMETER_GROUP).values().map(shown).collect()
    };
    let (items, next) = page(&groups, request.text("Marker"), 100);
    Ok(json!({"DBParameterGroups": {"DBParameterGroup": items}, "Marker": next}))
}

/// A parameter as AWS describes it, with the value that a group was given, if any.
fn described(one: &catalog::Parameter, set: Option<&str>) -> Value {
    let source = match set {
        Some(_) => "user",
        None if one.default.contains('{') => "system",
        None => "engine-default",
    };
    json!({
        "ParameterName": one.name,
        "ParameterValue": set.or(Some(one.default).filter(|text| !text.is_empty())),
        "Source": source, "ApplyType": if one.is_static { "static" } else { "dynamic" },
        "IsModifiable": true, "AllowedValues": one.allowed,
        // AWS reports a method of its own, whatever was asked for.
        "ApplyMethod": if one.is_static { "pending-reboot" } else { "immediate" },
    })
}

fn page_of(all: &[Value], request: &Request) -> (Vec<Value>, Option<String>) {
    let size = usize::try_from(request.number("MaxRecords").unwrap_or(100)).unwrap_or(100);
    page(all, request.text("Marker"), size)
}

pub(super) fn describe(world: &mut World, request: &Request) -> Reply {
    let (_, group) = found(world, request)?;
    let source = request.text("Source");
    let all = catalog::PARAMETERS.iter();
    let mut all: Vec<Value> =
        all.map(|one| described(one, group["_values"][one.name].as_str())).collect();
    all.retain(|one| source.is_none_or(|wanted| one["Source"] == wanted));
    let (items, next) = page_of(&all, request);
    Ok(json!({"Parameters": {"Parameter": items}, "Marker": next}))
}

/// What a family's parameters are, before any group says otherwise.
pub(super) fn describe_defaults(_: &mut World, request: &Request) -> Reply {
    let family = request.required("DBParameterGroupFamily")?;
    if family != "postgres15" {
        return Err(Failure::new(
            "InvalidParameterValue",
            format!("Could not find engine default parameters for {family}"),
        ));
    }
    let all: Vec<Value> = catalog::PARAMETERS.iter().map(|one| described(one, None)).collect();
    let (items, next) = page_of(&all, request);
    let defaults = json!({"DBParameterGroupFamily": family, "Parameters": {"Parameter": items}, "Marker": next});
    Ok(json!({"EngineDefaults": defaults}))
}

fn users(world: &World, region: &str, group: &str) -> Vec<String> {
    let all = world.table(region, INSTANCE).iter();
    all.filter(|(_, one)| group_of(one) == group).map(|(id, _)| id.clone()).collect()
}

fn check(asked: &[Value], resetting: bool) -> Result<(), Failure> {
    if asked.is_empty() || asked.len() > 20 {
        return Err(Failure::new(
            "InvalidParameterValue",
            "You can modify a maximum of 20 parameters in a single request.",
        ));
    }
    for one in asked {
        let name = one["ParameterName"].as_str().unwrap_or_default();
        let known = catalog::parameter(name).ok_or_else(|| {
            Failure::new(
                "InvalidParameterValue",
                format!("Could not find parameter with name: {name}"),
            )
        })?;
        let immediate = one["ApplyMethod"] == "immediate";
        if immediate && known.is_static {
            return Err(Failure::new(
                "InvalidParameterCombination",
                "cannot use immediate apply method for static parameter",
            ));
        }
        let value = one["ParameterValue"].as_str();
        if !resetting && value.is_none_or(|value| !catalog::allows(known, value)) {
            let message = format!(
                "Invalid parameter value: {} for: {name} allowed values are: {}",
                value.unwrap_or_default(),
                known.allowed
            );
            return Err(Failure::new("InvalidParameterValue", message));
        }
    }
    Ok(())
}

pub(super) fn modify(world: &mut World, request: &Request) -> Reply {
    change(world, request, false)
}

pub(super) fn reset(world: &mut World, request: &Request) -> Reply {
    if request.flag("ResetAllParameters").unwrap_or(false) {
        return Err(Failure {
            status: 501,
            ..Failure::new("NotImplemented", "the sandbox resets named parameters only")
        });
    }
    change(world, request, true)
}

fn change(world: &mut World, request: &Request, resetting: bool) -> Reply {
    let (name, _) = found(world, request)?;
    if name.starts_with("default.") {
        let message = "A default parameter group can't be modified.";
        return Err(Failure::new("InvalidDBParameterGroupState", message));
    }
    let asked = request.items("Parameters").to_vec();
    check(&asked, resetting)?;
    let group =
        world.get_mut(&request.region, PARAMETER_GROUP, &name).ok_or_else(|| missing(&name))?;
    let values = group["_values"].as_object_mut().ok_or_else(|| missing(&name))?;
    let (mut any_static, mut any_dynamic) = (false, false);
    for one in &asked {
        let parameter = one["ParameterName"].as_str().unwrap_or_default();
        let usual = catalog::parameter(parameter).map(|one| one.default);
        if resetting {
            values.shift_remove(parameter);
        } else if values.contains_key(parameter) || one["ParameterValue"].as_str() != usual {
            // A value that the parameter has by itself leaves its source as it was (terraform-provider-aws #23335).
            values.insert(parameter.to_owned(), one["ParameterValue"].clone());
        }
        let waits = one["ApplyMethod"] == "pending-reboot";
        any_static |= waits;
        any_dynamic |= !waits;
    }
    for id in users(world, &request.region, &name) {
        if any_dynamic {
            set_apply_status(world, &request.region, &id, "applying");
            world.after(PARAMETER_DYNAMIC, &request.region, &id, take_dynamic);
        }
        if any_static {
            world.after(DB_STATUS_LAG, &request.region, &id, |world, region, id| {
                set_apply_status(world, region, id, "pending-reboot");
            });
        }
    }
    Ok(json!({"DBParameterGroupName": name}))
}

pub(super) fn set_apply_status(world: &mut World, region: &str, id: &str, status: &str) {
    let Some(instance) = world.get_mut(region, INSTANCE, id) else { return };
    let group = &mut instance["DBParameterGroups"]["DBParameterGroup"][0];
    // What waits for a reboot goes on waiting, whatever else is applied meanwhile.
    if group["ParameterApplyStatus"] != "pending-reboot" || status == "in-sync" {
        group["ParameterApplyStatus"] = status.into();
    }
}

fn values_of(world: &World, region: &str, id: &str) -> Map<String, Value> {
    let group = world.get(region, INSTANCE, id).map(group_of).unwrap_or_default();
    let set = world.get(region, PARAMETER_GROUP, &group);
    set.and_then(|one| one["_values"].as_object().cloned()).unwrap_or_default()
}

fn take_dynamic(world: &mut World, region: &str, id: &str) {
    let values = values_of(world, region, id);
    let Some(instance) = world.get_mut(region, INSTANCE, id) else { return };
    for parameter in catalog::PARAMETERS.iter().filter(|one| !one.is_static) {
        instance["_running"][parameter.name] =
            values.get(parameter.name).cloned().unwrap_or(Value::Null);
    }
    let group = &mut instance["DBParameterGroups"]["DBParameterGroup"][0];
    if group["ParameterApplyStatus"] == "applying" {
        group["ParameterApplyStatus"] = "in-sync".into();
    }
}

/// What an instance starts with: at its creation and at every reboot.
pub(super) fn start_with(world: &mut World, region: &str, id: &str) -> Result<(), ()> {
    let values = values_of(world, region, id);
    let Some(instance) = world.get_mut(region, INSTANCE, id) else { return Ok(()) };
    let class = instance["DBInstanceClass"].as_str().unwrap_or_default().to_owned();
    let memory = catalog::memory(&class, region).unwrap_or(4 << 30);
    let number = |name: &str| {
        let text = values.get(name).and_then(Value::as_str);
        let default = catalog::parameter(name).map_or("0", |one| one.default);
        catalog::evaluate(text.unwrap_or(default), memory)
    };
    let buffers = number("shared_buffers").map(|pages| pages.saturating_mul(8192));
    // PostgreSQL cannot start when it cannot map its shared memory.
    let fits = buffers.is_some_and(|bytes| bytes < memory / 10 * 8)
        && number("max_connections")
            .is_some_and(|connections| connections * (1 << 20) < memory * 2);
    if !fits {
        return Err(());
    }
    let limits: Map<String, Value> =
        STANDBY_LIMITS.iter().map(|name| ((*name).to_owned(), number(name).into())).collect();
    instance["_running"] = Value::Object(values);
    instance["_limits"] = Value::Object(limits);
    instance["DBParameterGroups"]["DBParameterGroup"][0]["ParameterApplyStatus"] = "in-sync".into();
    raise_to_source(world, region, id);
    check_standbys(world);
    Ok(())
}

/// RDS starts a replica with its source's limits where its own are lower.
fn raise_to_source(world: &mut World, region: &str, id: &str) {
    let source =
        world.get(region, INSTANCE, id).map(|one| one["_source"].clone()).unwrap_or_default();
    let Some((source_region, source_id)) = super::split_arn(source.as_str().unwrap_or_default())
    else {
        return;
    };
    let Some(limits) =
        world.get(&source_region, INSTANCE, &source_id).map(|one| one["_limits"].clone())
    else {
        return;
    };
    let Some(instance) = world.get_mut(region, INSTANCE, id) else { return };
    for name in STANDBY_LIMITS {
        if instance["_limits"][*name].as_u64() < limits[*name].as_u64() {
            instance["_limits"][*name] = limits[*name].clone();
        }
    }
    super::set_replication(instance, "replicating", "");
}

/// A standby whose limits are below its source's stops replaying, and says so only there.
fn check_standbys(world: &mut World) {
    let mut paused = Vec::new();
    let regions: Vec<String> = world
        .tables()
        .filter(|(_, kind, _)| *kind == INSTANCE)
        .map(|(region, ..)| region.to_owned())
        .collect();
    for region in regions {
        for (id, replica) in world.table(&region, INSTANCE) {
            let Some((source_region, source_id)) =
                super::split_arn(replica["_source"].as_str().unwrap_or_default())
            else {
                continue;
            };
            let Some(source) = world.get(&source_region, INSTANCE, &source_id) else { continue };
            let low = STANDBY_LIMITS.iter().find(|name| {
                replica["_limits"][**name].as_u64() < source["_limits"][**name].as_u64()
            });
            if let (Some(name), false) = (low, replica["_limits"].is_null()) {
                paused.push((region.clone(), id.clone(), *name));
            }
        }
    }
    for (region, id, name) in paused {
        if let Some(replica) = world.get_mut(&region, INSTANCE, &id) {
            super::set_replication(
                replica,
                "error",
                &format!("recovery is paused: {name} is lower than on the source"),
            );
            replica["_was_paused"] = true.into();
        }
    }
}

pub(super) fn delete(world: &mut World, request: &Request) -> Reply {
    let (name, _) = found(world, request)?;
    if !users(world, &request.region, &name).is_empty() {
        let message = "One or more database instances are still members of this parameter group, so the group cannot be deleted";
        return Err(Failure::new("InvalidDBParameterGroupState", message));
    }
    world.remove(&request.region, PARAMETER_GROUP, &name);
    Ok(Value::Null)
}
