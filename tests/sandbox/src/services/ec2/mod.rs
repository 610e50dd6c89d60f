//! EC2: the network.

mod peering;
pub(crate) mod routes;
mod security_groups;
mod vpcs;

use serde_json::{Map, Value, json};

use super::{Operation, Service, any, op, page};
use crate::{
    iam::{Need, like},
    request::{Failure, Reply, Request, texts},
    wire::Protocol,
    world::{World, tag_list, tag_map, tags},
};
pub(crate) use peering::KIND as PEERING;

pub(crate) const SERVICE: Service = Service {
    name: "ec2",
    protocol: Protocol::Ec2,
    namespace: "http://ec2.amazonaws.com/doc/2016-11-15/",
    global: false,
    operations: OPERATIONS,
};

pub(crate) const VPC: &str = "vpc";
pub(crate) const SUBNET: &str = "subnet";
pub(crate) const ROUTE_TABLE: &str = "route-table";
pub(crate) const GROUP: &str = "security-group";

const OPERATIONS: &[Operation] = &[
    op("DescribeVpcs", "VpcId Filter MaxResults NextToken", any, vpcs::describe_vpcs),
    op(
        "DescribeVpcAttribute",
        "VpcId Attribute",
        |world, request| vec![on(world, request, request.text("VpcId").unwrap_or_default())],
        vpcs::describe_vpc_attribute,
    ),
    op("DescribeSubnets", "SubnetId Filter MaxResults NextToken", any, vpcs::describe_subnets),
    op("DescribeRouteTables", "RouteTableId Filter MaxResults NextToken", any, routes::describe),
    op(
        "CreateRoute",
        "RouteTableId DestinationCidrBlock VpcPeeringConnectionId",
        routes::access,
        routes::create,
    ),
    op(
        "ReplaceRoute",
        "RouteTableId DestinationCidrBlock VpcPeeringConnectionId",
        routes::access,
        routes::replace,
    ),
    op("DeleteRoute", "RouteTableId DestinationCidrBlock", routes::access, routes::delete),
    op(
        "CreateVpcPeeringConnection",
        "VpcId PeerVpcId PeerOwnerId PeerRegion TagSpecification",
        peering::access_create,
        peering::create,
    ),
    op(
        "AcceptVpcPeeringConnection",
        "VpcPeeringConnectionId",
        peering::access_accept,
        peering::accept,
    ),
    op(
        "DescribeVpcPeeringConnections",
        "VpcPeeringConnectionId Filter MaxResults NextToken",
        any,
        peering::describe,
    ),
    op(
        "ModifyVpcPeeringConnectionOptions",
        "VpcPeeringConnectionId RequesterPeeringConnectionOptions AccepterPeeringConnectionOptions",
        peering::access,
        peering::modify_options,
    ),
    op("DeleteVpcPeeringConnection", "VpcPeeringConnectionId", peering::access, peering::delete),
    op(
        "CreateSecurityGroup",
        "GroupName GroupDescription VpcId TagSpecification",
        security_groups::access_create,
        security_groups::create,
    ),
    op(
        "DescribeSecurityGroups",
        "GroupId Filter MaxResults NextToken",
        any,
        security_groups::describe,
    ),
    op(
        "DescribeSecurityGroupRules",
        "SecurityGroupRuleId Filter MaxResults NextToken",
        any,
        security_groups::describe_rules,
    ),
    op(
        "AuthorizeSecurityGroupIngress",
        "GroupId IpPermissions TagSpecification",
        security_groups::access,
        security_groups::authorize_ingress,
    ),
    op(
        "AuthorizeSecurityGroupEgress",
        "GroupId IpPermissions TagSpecification",
        security_groups::access,
        security_groups::authorize_egress,
    ),
    op(
        "RevokeSecurityGroupIngress",
        "GroupId IpPermissions SecurityGroupRuleId",
        security_groups::access,
        security_groups::revoke_ingress,
    ),
    op(
        "RevokeSecurityGroupEgress",
        "GroupId IpPermissions SecurityGroupRuleId",
        security_groups::access,
        security_groups::revoke_egress,
    ),
    op("DeleteSecurityGroup", "GroupId", security_groups::access, security_groups::delete),
    op(
        "DescribeNetworkInterfaces",
        "Filter NetworkInterfaceId MaxResults NextToken",
        any,
        |_, _| Ok(json!({"networkInterfaceSet": {"item": []}})),
    ),
    op("CreateTags", "ResourceId Tag", on_tagged, |world, request| {
        retag(world, request, |all, request| {
            all.extend(tag_map(request.get("Tag"), "Key", "Value"));
        })
    }),
    op("DeleteTags", "ResourceId Tag", on_tagged, |world, request| {
        retag(world, request, |all, request| {
            let gone = tag_map(request.get("Tag"), "Key", "Value");
            all.retain(|key, _| !gone.contains_key(key));
        })
    }),
];

/// The kind and ARN type of a resource by its id.
fn kind_of(id: &str) -> Option<(&'static str, &'static str)> {
    Some(match id.split('-').next()? {
        "vpc" => (VPC, "vpc"),
        "subnet" => (SUBNET, "subnet"),
        "rtb" => (ROUTE_TABLE, "route-table"),
        "sg" => (GROUP, "security-group"),
        "pcx" => (PEERING, "vpc-peering-connection"),
        _ => return None,
    })
}

fn on_tagged(world: &World, request: &Request) -> Vec<Need> {
    let ids = request.texts("ResourceId");
    ids.iter().map(|id| on(world, request, id)).collect()
}

/// An action on what has this id, with the condition keys of its kind (Service Authorization Reference).
fn on(world: &World, request: &Request, id: &str) -> Need {
    let (kind, name) = kind_of(id).unwrap_or(("", "unknown"));
    let record = world.get(&request.region, kind, id);
    let mut need = Need::new("", request.arn("ec2", &format!("{name}/{id}"))).on(record);
    let Some(record) = record else { return need };
    if let Some(vpc) = record["vpcId"].as_str().filter(|_| kind != VPC) {
        need = need.with("ec2:Vpc", request.arn("ec2", &format!("vpc/{vpc}")));
    }
    if kind == PEERING {
        need = peering::between(need, &record["requesterVpcInfo"], &record["accepterVpcInfo"]);
    }
    need
}

fn retag(
    world: &mut World,
    request: &Request,
    change: fn(&mut Map<String, Value>, &Request),
) -> Reply {
    for id in request.texts("ResourceId") {
        let kind = kind_of(&id).map(|(kind, _)| kind);
        let record = kind.and_then(|kind| world.get_mut(&request.region, kind, &id));
        let record = record
            .ok_or_else(|| Failure::new("InvalidID", format!("The ID '{id}' is not valid")))?;
        let mut all = tags(record);
        change(&mut all, request);
        record["_tags"] = Value::Object(all);
    }
    Ok(json!({"return": true}))
}

/// A request's tags for a resource type.
fn specified_tags(request: &Request, kind: &str) -> Map<String, Value> {
    let all = request.items("TagSpecification");
    let of = all.iter().find(|one| one["ResourceType"] == kind);
    of.map(|one| tag_map(&one["Tag"], "Key", "Value")).unwrap_or_default()
}

fn with_tags(record: &Value) -> Value {
    let mut shown = crate::world::shown(record);
    shown["tagSet"] = json!({"item": tag_list(record, "key", "value")});
    shown
}

/// What a filter looks at: its name and how to get the values from a record.
type FilterRow = (&'static str, fn(&Value) -> Vec<String>);

fn text_at(record: &Value, pointer: &str) -> Vec<String> {
    record.pointer(pointer).and_then(Value::as_str).map(str::to_owned).into_iter().collect()
}

/// Ids and filters, as every Describe takes them.
fn select(
    world: &World,
    request: &Request,
    kind: &'static str,
    ids: &str,
    rows: &[FilterRow],
    missing: &dyn Fn(&str) -> Failure,
) -> Result<(Vec<Value>, Option<String>), Failure> {
    let wanted = request.texts(ids);
    let table = world.table(&request.region, kind);
    for id in &wanted {
        if !table.contains_key(id) {
            return Err(missing(id));
        }
    }
    let mut found = Vec::new();
    for (id, record) in table {
        if !wanted.is_empty() && !wanted.contains(id) {
            continue;
        }
        if fits(record, request.items("Filter"), rows)? {
            found.push(record.clone());
        }
    }
    let size = match request.number("MaxResults") {
        Some(size) if !(5..=1000).contains(&size) => {
            let message = format!("Value ( {size} ) for parameter maxResults is invalid.");
            return Err(Failure::new("InvalidParameterValue", message));
        }
        size => usize::try_from(size.unwrap_or(1000)).unwrap_or(1000),
    };
    Ok(page(&found, request.text("NextToken"), size))
}

fn fits(record: &Value, filters: &[Value], rows: &[FilterRow]) -> Result<bool, Failure> {
    for filter in filters {
        let name = filter["Name"].as_str().unwrap_or_default();
        let patterns = texts(&filter["Value"]);
        let values = if let Some(key) = name.strip_prefix("tag:") {
            record["_tags"][key].as_str().map(str::to_owned).into_iter().collect()
        } else {
            let row = rows.iter().find(|(known, _)| *known == name);
            let (_, values) = row.ok_or_else(|| {
                Failure::new("InvalidParameterValue", format!("The filter '{name}' is invalid"))
            })?;
            values(record)
        };
        if !values.iter().any(|value| patterns.iter().any(|pattern| like(pattern, value))) {
            return Ok(false);
        }
    }
    Ok(true)
}
