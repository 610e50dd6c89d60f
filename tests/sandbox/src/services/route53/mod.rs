//! Route 53: hosted zones, records, health checks that follow an alarm's metric, and a resolver.

mod checks;
mod records;
mod resolver;
mod zones;

pub(crate) use zones::ZONE;

use serde_json::{Value, json};

use super::{Operation, Service, any, op};
use crate::{
    dispatch::Incoming,
    durations::ROUTE53_CHANGE,
    iam::Need,
    request::{Failure, Reply, Request},
    wire::{Protocol, query, xml},
    world::{GLOBAL, World, tag_list, tag_map, tags},
};

pub(crate) const SERVICE: Service = Service {
    name: "route53",
    protocol: Protocol::RestXml,
    namespace: "https://route53.amazonaws.com/doc/2013-04-01/",
    global: true,
    operations: OPERATIONS,
};

const CHANGE: &str = "dns-change";

const OPERATIONS: &[Operation] = &[
    op("CreateHostedZone", "Name VPC CallerReference HostedZoneConfig", on_new_zone, zones::create),
    op("GetHostedZone", "Id", on_zone, zones::get),
    op("ListHostedZones", "maxitems marker", any, zones::list),
    op("ListHostedZonesByName", "dnsname hostedzoneid maxitems", any, zones::list_by_name),
    op(
        "ListHostedZonesByVPC",
        "vpcid vpcregion maxitems nexttoken",
        any_and_vpcs,
        zones::list_by_vpc,
    ),
    op("DeleteHostedZone", "Id", on_zone, zones::delete),
    op("UpdateHostedZoneComment", "Id Comment", on_zone, zones::set_comment),
    op("AssociateVPCWithHostedZone", "Id VPC Comment", on_zone_and_vpc, zones::associate),
    op("DisassociateVPCFromHostedZone", "Id VPC Comment", on_zone_and_vpc, zones::disassociate),
    op("ChangeResourceRecordSets", "Id ChangeBatch", on_zone, records::change),
    op("ListResourceRecordSets", "Id name type identifier maxitems", on_zone, records::list),
    op(
        "GetChange",
        "Id",
        |_, request| {
            let id = request.text("Id").unwrap_or_default();
            vec![Need::new("", format!("arn:aws:route53:::change/{id}"))]
        },
        |world, request| {
            let id = request.required("Id")?;
            let found = world.get(GLOBAL, CHANGE, id).ok_or_else(|| {
                let message = format!("A change with the specified change ID {id} does not exist.");
                Failure { status: 404, ..Failure::new("NoSuchChange", message) }
            })?;
            Ok(json!({"ChangeInfo": crate::world::shown(found)}))
        },
    ),
    op("CreateHealthCheck", "CallerReference HealthCheckConfig", any, checks::create),
    op("GetHealthCheck", "HealthCheckId", on_check, checks::get),
    op(
        "UpdateHealthCheck",
        "HealthCheckId HealthCheckVersion Inverted Disabled AlarmIdentifier InsufficientDataHealthStatus",
        on_check,
        checks::update,
    ),
    op("DeleteHealthCheck", "HealthCheckId", on_check, checks::delete),
    op("ListHealthChecks", "maxitems marker", any, checks::list),
    op("ChangeTagsForResource", "ResourceType ResourceId AddTags RemoveTagKeys", on_tagged, retag),
    op("ListTagsForResource", "ResourceType ResourceId", on_tagged, |world, request| {
        let id = request.required("ResourceId")?.to_owned();
        let kind = request.required("ResourceType")?.to_owned();
        let record = tagged_mut(world, request, &id)?;
        let tags = tag_list(record, "Key", "Value");
        Ok(
            json!({"ResourceTagSet": {"ResourceType": kind, "ResourceId": id, "Tags": {"Tag": tags}}}),
        )
    }),
];

/// Paths and bodies name the operation and its parameters.
pub(crate) fn decode(incoming: &Incoming) -> Option<(String, Value)> {
    let rest = incoming.path.strip_prefix("/2013-04-01/")?.trim_end_matches('/');
    let mut params = query::parse(&incoming.query)?;
    if !incoming.body.is_empty() {
        let body = xml::parse(std::str::from_utf8(&incoming.body).ok()?)?;
        params.as_object_mut()?.extend(body.as_object()?.clone());
    }
    let parts: Vec<&str> = rest.split('/').collect();
    let method = incoming.method.as_str();
    let (name, ids): (&str, &[(&str, usize)]) = match (method, &parts[..]) {
        ("POST", ["hostedzone"]) => ("CreateHostedZone", &[]),
        ("GET", ["hostedzone"]) => ("ListHostedZones", &[]),
        ("GET", ["hostedzonesbyname"]) => ("ListHostedZonesByName", &[]),
        ("GET", ["hostedzonesbyvpc"]) => ("ListHostedZonesByVPC", &[]),
        ("GET", ["hostedzone", _]) => ("GetHostedZone", &[("Id", 1)]),
        ("POST", ["hostedzone", _]) => ("UpdateHostedZoneComment", &[("Id", 1)]),
        ("DELETE", ["hostedzone", _]) => ("DeleteHostedZone", &[("Id", 1)]),
        ("POST", ["hostedzone", _, "associatevpc"]) => ("AssociateVPCWithHostedZone", &[("Id", 1)]),
        ("POST", ["hostedzone", _, "disassociatevpc"]) => {
            ("DisassociateVPCFromHostedZone", &[("Id", 1)])
        }
        ("POST", ["hostedzone", _, "rrset"]) => ("ChangeResourceRecordSets", &[("Id", 1)]),
        ("GET", ["hostedzone", _, "rrset"]) => ("ListResourceRecordSets", &[("Id", 1)]),
        ("GET", ["change", _]) => ("GetChange", &[("Id", 1)]),
        ("POST", ["healthcheck"]) => ("CreateHealthCheck", &[]),
        ("GET", ["healthcheck"]) => ("ListHealthChecks", &[]),
        ("GET", ["healthcheck", _]) => ("GetHealthCheck", &[("HealthCheckId", 1)]),
        ("POST", ["healthcheck", _]) => ("UpdateHealthCheck", &[("HealthCheckId", 1)]),
        ("DELETE", ["healthcheck", _]) => ("DeleteHealthCheck", &[("HealthCheckId", 1)]),
        ("POST", ["tags", _, _]) => {
            ("ChangeTagsForResource", &[("ResourceType", 1), ("ResourceId", 2)])
        }
        ("GET", ["tags", _, _]) => {
            ("ListTagsForResource", &[("ResourceType", 1), ("ResourceId", 2)])
        }
        _ => (rest, &[]),
    };
    for (member, index) in ids {
        params[*member] = parts[*index].into();
    }
    Some((name.to_owned(), params))
}

fn on_zone(_: &World, request: &Request) -> Vec<Need> {
    let id = request.text("Id").unwrap_or_default();
    vec![Need::new("", format!("arn:aws:route53:::hostedzone/{id}"))]
}

/// A zone is tied to a VPC by whoever may see VPCs (Service Authorization Reference).
fn on_zone_and_vpc(world: &World, request: &Request) -> Vec<Need> {
    let mut needs = on_zone(world, request);
    needs.push(Need::new("ec2:DescribeVpcs", "*"));
    needs
}

/// Service authorization reference, "Amazon Route 53": it depends on `ec2:DescribeVpcs`.
fn any_and_vpcs(world: &World, request: &Request) -> Vec<Need> {
    let mut needs = any(world, request);
    needs.push(Need::new("ec2:DescribeVpcs", "*"));
    needs
}

fn on_new_zone(world: &World, request: &Request) -> Vec<Need> {
    let mut needs = any(world, request);
    if request.has("VPC") {
        needs.push(Need::new("ec2:DescribeVpcs", "*"));
    }
    needs
}

fn on_check(_: &World, request: &Request) -> Vec<Need> {
    let id = request.text("HealthCheckId").unwrap_or_default();
    vec![Need::new("", format!("arn:aws:route53:::healthcheck/{id}"))]
}

fn on_tagged(_: &World, request: &Request) -> Vec<Need> {
    let text = |name: &str| request.text(name).unwrap_or_default();
    vec![Need::new(
        "",
        format!("arn:aws:route53:::{}/{}", text("ResourceType"), text("ResourceId")),
    )]
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new("InvalidInput", message)
}

/// A change that takes its time until every name server has it.
fn changed(world: &mut World) -> Value {
    let id = format!("C{}", world.digest()[..20].to_uppercase());
    let record = json!({
        "Id": format!("/change/{id}"), "Status": "PENDING", "SubmittedAt": world.now.to_string(), "_account": true,
    });
    world.put(GLOBAL, CHANGE, &id, record.clone());
    world.after(ROUTE53_CHANGE, GLOBAL, &id, |world, region, id| {
        if let Some(change) = world.get_mut(region, CHANGE, id) {
            change["Status"] = "INSYNC".into();
        }
    });
    crate::world::shown(&record)
}

fn tagged_mut<'a>(
    world: &'a mut World,
    request: &Request,
    id: &str,
) -> Result<&'a mut Value, Failure> {
    match request.text("ResourceType") {
        Some("hostedzone") => world.get_mut(GLOBAL, ZONE, id).ok_or_else(|| zones::missing(id)),
        Some("healthcheck") => {
            world.get_mut(GLOBAL, checks::CHECK, id).ok_or_else(|| checks::missing(id))
        }
        _ => Err(invalid("Invalid ResourceType")),
    }
}

fn retag(world: &mut World, request: &Request) -> Reply {
    let id = request.required("ResourceId")?.to_owned();
    let new = tag_map(request.get("AddTags"), "Key", "Value");
    let gone = request.texts("RemoveTagKeys");
    if new.len() > 10 || gone.len() > 10 {
        return Err(invalid("You can add or remove at most ten tags at a time"));
    }
    let record = tagged_mut(world, request, &id)?;
    let mut all = tags(record);
    all.retain(|key, _| !gone.contains(key));
    all.extend(new);
    if all.len() > 50 {
        return Err(invalid("The number of tags exceeds the limit of fifty"));
    }
    record["_tags"] = Value::Object(all);
    Ok(json!({}))
}
