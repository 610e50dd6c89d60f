//! VPCs and subnets: for looking at.

use serde_json::{Value, json};

use super::{SUBNET, VPC, select, text_at, with_tags};
use crate::{
    request::{Failure, Reply, Request},
    world::World,
};

pub(super) fn missing_vpc(id: &str) -> Failure {
    Failure::new("InvalidVpcID.NotFound", format!("The vpc ID '{id}' does not exist"))
}

pub(super) fn describe_vpcs(world: &mut World, request: &Request) -> Reply {
    let rows: &[super::FilterRow] = &[
        ("vpc-id", |one| text_at(one, "/vpcId")),
        ("cidr", |one| text_at(one, "/cidrBlock")),
        ("state", |one| text_at(one, "/state")),
    ];
    let (items, next) = select(world, request, VPC, "VpcId", rows, &missing_vpc)?;
    let items: Vec<Value> = items.iter().map(with_tags).collect();
    Ok(json!({"vpcSet": {"item": items}, "nextToken": next}))
}

pub(super) fn describe_vpc_attribute(world: &mut World, request: &Request) -> Reply {
    let id = request.required("VpcId")?;
    let vpc = world.get(&request.region, VPC, id).ok_or_else(|| missing_vpc(id))?;
    let name = request.required("Attribute")?;
    let value = match name {
        "enableDnsSupport" => &vpc["_dns_support"],
        "enableDnsHostnames" => &vpc["_dns_hostnames"],
        // Off, unless somebody has turned it on, which nothing here can.
        "enableNetworkAddressUsageMetrics" => &Value::Bool(false),
        _ => {
            let message = format!("Value ({name}) for parameter attribute is invalid.");
            return Err(Failure::new("InvalidParameterValue", message));
        }
    };
    Ok(json!({"vpcId": id, name: {"value": value}}))
}

pub(super) fn describe_subnets(world: &mut World, request: &Request) -> Reply {
    let rows: &[super::FilterRow] = &[
        ("vpc-id", |one| text_at(one, "/vpcId")),
        ("subnet-id", |one| text_at(one, "/subnetId")),
        ("availability-zone", |one| text_at(one, "/availabilityZone")),
        ("state", |one| text_at(one, "/state")),
    ];
    let missing = |id: &str| {
        Failure::new("InvalidSubnetID.NotFound", format!("The subnet ID '{id}' does not exist"))
    };
    let (items, next) = select(world, request, SUBNET, "SubnetId", rows, &missing)?;
    let items: Vec<Value> = items.iter().map(with_tags).collect();
    Ok(json!({"subnetSet": {"item": items}, "nextToken": next}))
}
