//! Route 53: hosted zones, for reading.

use serde_json::{Value, json};

use super::{Operation, Service, any, op};
use crate::{
    dispatch::Incoming,
    iam::Need,
    request::{Failure, Reply, Request},
    wire::{Protocol, query},
    world::{GLOBAL, World, shown},
};

pub(crate) const SERVICE: Service = Service {
    name: "route53",
    protocol: Protocol::RestXml,
    namespace: "https://route53.amazonaws.com/doc/2013-04-01/",
    global: true,
    operations: OPERATIONS,
};

pub(crate) const ZONE: &str = "hosted-zone";

const OPERATIONS: &[Operation] = &[
    op("GetHostedZone", "Id", on_zone, get_hosted_zone),
    op("ListHostedZones", "maxitems marker", any, |world, _| {
        let zones: Vec<Value> = world.table(GLOBAL, ZONE).values().map(shown).collect();
        Ok(json!({"HostedZones": {"HostedZone": zones}, "IsTruncated": false, "MaxItems": "100"}))
    }),
];

/// Paths name the operation.
pub(crate) fn decode(incoming: &Incoming) -> Option<(String, Value)> {
    let rest = incoming.path.strip_prefix("/2013-04-01/")?.trim_end_matches('/');
    let mut params = query::parse(&incoming.query)?;
    let name = match (incoming.method.as_str(), rest.split_once('/')) {
        ("GET", Some(("hostedzone", id))) if !id.contains('/') => {
            params["Id"] = id.into();
            "GetHostedZone"
        }
        ("GET", None) if rest == "hostedzone" => "ListHostedZones",
        _ => rest,
    };
    Some((name.to_owned(), params))
}

fn on_zone(_: &World, request: &Request) -> Vec<Need> {
    let id = request.text("Id").unwrap_or_default();
    vec![Need::new("", format!("arn:aws:route53:::hostedzone/{id}"))]
}

fn get_hosted_zone(world: &mut World, request: &Request) -> Reply {
    let id = request.required("Id")?;
    let zone = world.get(GLOBAL, ZONE, id).ok_or_else(|| {
        Failure::new("NoSuchHostedZone", format!("No hosted zone found with ID: {id}"))
    })?;
    Ok(json!({"HostedZone": shown(zone), "VPCs": {"VPC": zone["_vpcs"]}}))
}
