//! Route tables and their routes.

use serde_json::{Value, json};

use super::{PEERING, ROUTE_TABLE, on, peering, select, text_at, with_tags};
use crate::{
    iam::Need,
    request::{Failure, Reply, Request},
    world::World,
};

pub(super) fn access(world: &World, request: &Request) -> Vec<Need> {
    vec![on(world, request, request.text("RouteTableId").unwrap_or_default())]
}

fn missing(id: &str) -> Failure {
    Failure::new("InvalidRouteTableID.NotFound", format!("The routeTable ID '{id}' does not exist"))
}

fn association(record: &Value, member: &str) -> Vec<String> {
    let all = record["associationSet"]["item"].as_array().into_iter().flatten();
    all.filter_map(|one| one[member].as_str().map(str::to_owned)).collect()
}

/// Whether a block of addresses holds another one.
pub(crate) fn covers(block: &str, other: &str) -> bool {
    let parsed = |text: &str| text.parse::<ipnet::Ipv4Net>().ok();
    parsed(block).zip(parsed(other)).is_some_and(|(block, other)| block.contains(&other))
}

/// Whether a VPC's routes lead to a block by a peering: from all of these subnets, or from any where none is named.
pub(crate) fn lead(
    world: &World,
    region: &str,
    vpc: &str,
    subnets: &[&str],
    block: &str,
    peering: &str,
) -> bool {
    let tables = || world.table(region, ROUTE_TABLE).values().filter(|one| one["vpcId"] == vpc);
    let is_way = |table: &Value| {
        let all = table["routeSet"]["item"].as_array().into_iter().flatten();
        let mut all = all.filter(|one| one["vpcPeeringConnectionId"] == peering);
        all.any(|one| covers(one["destinationCidrBlock"].as_str().unwrap_or_default(), block))
    };
    if subnets.is_empty() {
        return tables().any(is_way);
    }
    let is_main = |table: &Value| {
        let all = table["associationSet"]["item"].as_array().into_iter().flatten();
        all.into_iter().any(|one| one["main"] == true)
    };
    subnets.iter().all(|subnet| {
        let own = tables().find(|one| association(one, "subnetId").iter().any(|id| id == subnet));
        own.or_else(|| tables().find(|one| is_main(one))).is_some_and(is_way)
    })
}

pub(super) fn describe(world: &mut World, request: &Request) -> Reply {
    let rows: &[super::FilterRow] = &[
        ("vpc-id", |one| text_at(one, "/vpcId")),
        ("route-table-id", |one| text_at(one, "/routeTableId")),
        ("association.subnet-id", |one| association(one, "subnetId")),
        ("route.vpc-peering-connection-id", |one| {
            let all = one["routeSet"]["item"].as_array().into_iter().flatten();
            all.filter_map(|one| one["vpcPeeringConnectionId"].as_str().map(str::to_owned))
                .collect()
        }),
    ];
    let (mut items, next) = select(world, request, ROUTE_TABLE, "RouteTableId", rows, &missing)?;
    for table in &mut items {
        for route in table["routeSet"]["item"].as_array_mut().into_iter().flatten() {
            if let Some(id) = route["vpcPeeringConnectionId"].as_str() {
                // A route whose peering is gone stays behind and swallows traffic.
                let alive = world.get(&request.region, PEERING, id);
                let alive = alive.is_some_and(|one| one["status"]["code"] == peering::AVAILABLE);
                route["state"] = if alive { "active" } else { "blackhole" }.into();
            }
        }
    }
    let items: Vec<Value> = items.iter().map(with_tags).collect();
    Ok(json!({"routeTableSet": {"item": items}, "nextToken": next}))
}

struct Target<'a> {
    table: &'a str,
    cidr: &'a str,
}

fn target<'a>(world: &World, request: &'a Request) -> Result<Target<'a>, Failure> {
    let table = request.required("RouteTableId")?;
    let cidr = request.required("DestinationCidrBlock")?;
    world.get(&request.region, ROUTE_TABLE, table).ok_or_else(|| missing(table))?;
    if !cidr.contains('/') {
        let message = format!(
            "Value ({cidr}) for parameter destinationCidrBlock is invalid. This is not a valid CIDR block."
        );
        return Err(Failure::new("InvalidParameterValue", message));
    }
    Ok(Target { table, cidr })
}

fn routes<'a>(world: &'a mut World, region: &str, table: &str) -> Option<&'a mut Vec<Value>> {
    world.get_mut(region, ROUTE_TABLE, table)?["routeSet"]["item"].as_array_mut()
}

fn checked_peering(world: &World, request: &Request) -> Result<String, Failure> {
    let id = request.required("VpcPeeringConnectionId")?;
    let peering = world.get(&request.region, PEERING, id).ok_or_else(|| peering::missing(id))?;
    let code = peering["status"]["code"].as_str().unwrap_or_default();
    if matches!(
        code,
        "failed" | "deleted" | "deleting" | "expired" | "rejected" | "initiating-request"
    ) {
        let message = format!("vpcPeeringConnection {id} is not in a valid state");
        return Err(Failure::new("InvalidStateTransition", message));
    }
    Ok(id.to_owned())
}

pub(super) fn create(world: &mut World, request: &Request) -> Reply {
    let Target { table, cidr } = target(world, request)?;
    let peering = checked_peering(world, request)?;
    let all = routes(world, &request.region, table).ok_or_else(|| missing(table))?;
    // Also when it leads to the same place (aws-facts 6).
    if all.iter().any(|one| one["destinationCidrBlock"] == cidr) {
        let message = format!("The route identified by {cidr} already exists.");
        return Err(Failure::new("RouteAlreadyExists", message));
    }
    all.push(json!({
        "destinationCidrBlock": cidr, "vpcPeeringConnectionId": peering, "state": "active", "origin": "CreateRoute",
    }));
    Ok(json!({"return": true}))
}

pub(super) fn replace(world: &mut World, request: &Request) -> Reply {
    let Target { table, cidr } = target(world, request)?;
    let peering = checked_peering(world, request)?;
    let all = routes(world, &request.region, table).ok_or_else(|| missing(table))?;
    let present = all.iter_mut().find(|one| one["destinationCidrBlock"] == cidr);
    let route = present.ok_or_else(|| {
        let message = format!("There is no route defined for '{cidr}' in the route table.");
        Failure::new("InvalidParameterValue", message)
    })?;
    *route = json!({
        "destinationCidrBlock": cidr, "vpcPeeringConnectionId": peering, "state": "active", "origin": "CreateRoute",
    });
    Ok(json!({"return": true}))
}

pub(super) fn delete(world: &mut World, request: &Request) -> Reply {
    let Target { table, cidr } = target(world, request)?;
    let all = routes(world, &request.region, table).ok_or_else(|| missing(table))?;
    let before = all.len();
    all.retain(|one| one["destinationCidrBlock"] != cidr || one["gatewayId"] == "local");
    if all.len() == before {
        let message = format!("no route with destination-cidr-block {cidr} in route table {table}");
        return Err(Failure::new("InvalidRoute.NotFound", message));
    }
    Ok(json!({"return": true}))
}
