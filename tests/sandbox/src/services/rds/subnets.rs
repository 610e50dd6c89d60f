//! Subnet groups.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{INSTANCE, SUBNET_GROUP};
use crate::{
    request::{Failure, Reply, Request},
    services::{ec2, page},
    world::{World, shown, tag_map},
};

pub(super) fn missing(name: &str) -> Failure {
    Failure::new("DBSubnetGroupNotFoundFault", format!("DB subnet group '{name}' does not exist."))
}

/// Checks the subnets and describes the group made of them.
fn members(world: &World, request: &Request) -> Result<Value, Failure> {
    let mut zones = BTreeSet::new();
    let mut vpcs = BTreeSet::new();
    let mut items = Vec::new();
    let ids = request.texts("SubnetIds");
    for id in &ids {
        let subnet = world.get(&request.region, ec2::SUBNET, id).ok_or_else(|| {
            Failure::new(
                "InvalidSubnet",
                format!("Some input subnets in :[{}] are invalid.", ids.join(", ")),
            )
        })?;
        let zone = subnet["availabilityZone"].as_str().unwrap_or_default();
        zones.insert(zone);
        vpcs.insert(subnet["vpcId"].as_str().unwrap_or_default());
        items.push(json!({"SubnetIdentifier": id, "SubnetAvailabilityZone": {"Name": zone}, "SubnetStatus": "Active"}));
    }
    if vpcs.len() > 1 {
        return Err(Failure::new(
            "InvalidParameterValue",
            "Subnet IDs must all be in the same VPC.",
        ));
    }
    if zones.len() < 2 {
        let covered: Vec<_> = zones.into_iter().collect();
        let message = format!(
            "The DB subnet group doesn't meet Availability Zone (AZ) coverage requirement. Current AZ coverage: {}. Add subnets to cover at least 2 AZs.",
            covered.join(", ")
        );
        return Err(Failure::new("DBSubnetGroupDoesNotCoverEnoughAZs", message));
    }
    Ok(json!({"VpcId": vpcs.first(), "Subnets": {"Subnet": items}}))
}

pub(super) fn create(world: &mut World, request: &Request) -> Reply {
    let name = request.required("DBSubnetGroupName")?.to_lowercase();
    let description = request.required("DBSubnetGroupDescription")?;
    super::check_name(&name, "DBSubnetGroupName", 255)?;
    if name == "default" {
        return Err(Failure::new(
            "InvalidParameterValue",
            "The DB subnet group name default is reserved",
        ));
    }
    if world.get(&request.region, SUBNET_GROUP, &name).is_some() {
        let message = format!("The DB subnet group '{name}' already exists.");
        return Err(Failure::new("DBSubnetGroupAlreadyExists", message));
    }
    let mut record = members(world, request)?;
    let arn = request.arn("rds", &format!("subgrp:{name}"));
    record["DBSubnetGroupName"] = name.clone().into();
    record["DBSubnetGroupDescription"] = description.into();
    record["SubnetGroupStatus"] = "Complete".into();
    record["DBSubnetGroupArn"] = arn.clone().into();
    record["_arn"] = arn.into();
    record["_tags"] = Value::Object(tag_map(request.get("Tags"), "Key", "Value"));
    world.put(&request.region, SUBNET_GROUP, &name, record.clone());
    Ok(json!({"DBSubnetGroup": shown(&record)}))
}

pub(super) fn describe(world: &mut World, request: &Request) -> Reply {
    let table = world.table(&request.region, SUBNET_GROUP);
    let groups: Vec<Value> = match request.text("DBSubnetGroupName") {
        Some(name) => vec![shown(table.get(&name.to_lowercase()).ok_or_else(|| missing(name))?)],
        None => table.values().map(shown).collect(),
    };
    let (items, next) = page(&groups, request.text("Marker"), 100);
    Ok(json!({"DBSubnetGroups": {"DBSubnetGroup": items}, "Marker": next}))
}

pub(super) fn modify(world: &mut World, request: &Request) -> Reply {
    let name = request.required("DBSubnetGroupName")?.to_lowercase();
    let new = members(world, request)?;
    let group = world.get(&request.region, SUBNET_GROUP, &name).ok_or_else(|| missing(&name))?;
    if group["VpcId"] != new["VpcId"] {
        return Err(Failure::new(
            "InvalidParameterValue",
            "The new Subnets are not in the same Vpc as the existing subnet group",
        ));
    }
    let kept = request.texts("SubnetIds");
    let in_use = world.table(&request.region, INSTANCE).values().find_map(|one| {
        let subnet = one["_subnet"].as_str()?;
        (one["_subnet_group"] == name.as_str() && !kept.iter().any(|one| one == subnet))
            .then_some(subnet)
    });
    if let Some(subnet) = in_use {
        let message = format!("Subnet {subnet} is in use");
        return Err(Failure::new("SubnetAlreadyInUse", message));
    }
    let group =
        world.get_mut(&request.region, SUBNET_GROUP, &name).ok_or_else(|| missing(&name))?;
    group["Subnets"] = new["Subnets"].clone();
    if let Some(description) = request.text("DBSubnetGroupDescription") {
        group["DBSubnetGroupDescription"] = description.into();
    }
    let group = shown(group);
    let all = world.table_mut(&request.region, INSTANCE).values_mut();
    for one in all.filter(|one| one["_subnet_group"] == name.as_str()) {
        one["DBSubnetGroup"] = group.clone();
    }
    Ok(json!({"DBSubnetGroup": group}))
}

pub(super) fn delete(world: &mut World, request: &Request) -> Reply {
    let name = request.required("DBSubnetGroupName")?.to_lowercase();
    let user = world
        .table(&request.region, INSTANCE)
        .iter()
        .find(|(_, one)| one["_subnet_group"] == name.as_str());
    if let Some((id, _)) = user {
        let message = format!(
            "Cannot delete the subnet group '{name}' because at least one database instance: {id} is still using it."
        );
        return Err(Failure::new("InvalidDBSubnetGroupStateFault", message));
    }
    world
        .remove(&request.region, SUBNET_GROUP, &name)
        .map(|_| Value::Null)
        .ok_or_else(|| missing(&name))
}
