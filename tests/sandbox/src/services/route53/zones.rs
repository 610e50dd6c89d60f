//! Hosted zones, and the VPCs that see private ones.

use serde_json::{Value, json};

use super::{changed, invalid};
use crate::{
    request::{Failure, Reply, Request, truth},
    services::{ec2, page},
    world::{GLOBAL, World, shown},
};

pub(crate) const ZONE: &str = "hosted-zone";

pub(super) fn missing(id: &str) -> Failure {
    Failure::new("NoSuchHostedZone", format!("No hosted zone found with ID: {id}"))
}

/// A name as Route 53 keeps it: lower case, with the dot at its end.
pub(super) fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.').to_lowercase())
}

fn vpc(world: &World, request: &Request) -> Result<Value, Failure> {
    let given = request.get("VPC");
    let text = |member: &str| given[member].as_str().unwrap_or_default();
    let (region, id) = (text("VPCRegion"), text("VPCId"));
    if world.get(region, ec2::VPC, id).is_none() {
        let message =
            format!("The VPC: {id} provided by the user does not exist or is not accessible.");
        return Err(Failure::new("InvalidVPCId", message));
    }
    Ok(json!({"VPCRegion": region, "VPCId": id}))
}

fn sees(zone: &Value, vpc: &Value) -> bool {
    zone["_vpcs"].as_array().is_some_and(|all| all.contains(vpc))
}

/// A VPC sees one private zone of a name only.
fn conflict(world: &World, name: &str, vpc: &Value) -> Option<Failure> {
    let other =
        world.table(GLOBAL, ZONE).values().find(|one| one["Name"] == name && sees(one, vpc));
    other.map(|_| {
        let id = vpc["VPCId"].as_str().unwrap_or_default();
        let message = format!("The VPC {id} in region {} has already been associated with another private hosted zone with the same domain name {name}", vpc["VPCRegion"].as_str().unwrap_or_default());
        Failure::new("ConflictingDomainExists", message)
    })
}

/// Those of every private zone; nobody asks them.
const NAME_SERVERS: [&str; 4] = [
    "ns-0.awsdns-00.com",
    "ns-512.awsdns-00.net",
    "ns-1024.awsdns-00.org",
    "ns-1536.awsdns-00.co.uk",
];

pub(super) fn create(world: &mut World, request: &Request) -> Reply {
    let name = absolute(request.required("Name")?);
    let fits = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|one| one.is_ascii_alphanumeric() || "-_".contains(one))
    };
    if name.len() > 255 || !name.trim_end_matches('.').split('.').all(fits) {
        let message = format!("{name} is not a valid domain name");
        return Err(Failure::new("InvalidDomainName", message));
    }
    let reference = request.required("CallerReference")?.to_owned();
    if world.table(GLOBAL, ZONE).values().any(|one| one["CallerReference"] == reference.as_str()) {
        let message = "A hosted zone has already been created with the specified caller reference.";
        return Err(Failure { status: 409, ..Failure::new("HostedZoneAlreadyExists", message) });
    }
    if !request.has("VPC") {
        return Err(invalid("the sandbox makes private hosted zones only"));
    }
    let vpc = vpc(world, request)?;
    if let Some(failure) = conflict(world, &name, &vpc) {
        return Err(failure);
    }
    let id = format!("Z{}", world.digest()[..20].to_uppercase());
    let comment = request.get("HostedZoneConfig")["Comment"].clone();
    let record = json!({
        "Id": format!("/hostedzone/{id}"), "Name": name, "CallerReference": reference,
        "Config": {"Comment": comment, "PrivateZone": true}, "ResourceRecordSetCount": 2,
        "_vpcs": [vpc], "_records": [], "_tags": {}, "_arn": format!("arn:aws:route53:::hostedzone/{id}"),
    });
    world.put(GLOBAL, ZONE, &id, record.clone());
    let change = changed(world);
    Ok(json!({
        "HostedZone": shown(&record), "ChangeInfo": change, "VPC": vpc,
        "DelegationSet": {"NameServers": {"NameServer": NAME_SERVERS}},
        "_location": format!("https://route53.amazonaws.com/2013-04-01/hostedzone/{id}"),
    }))
}

pub(super) fn set_comment(world: &mut World, request: &Request) -> Reply {
    let id = request.required("Id")?;
    let zone = world.get_mut(GLOBAL, ZONE, id).ok_or_else(|| missing(id))?;
    zone["Config"]["Comment"] = request.get("Comment").clone();
    Ok(json!({"HostedZone": shown(zone)}))
}

pub(super) fn get(world: &mut World, request: &Request) -> Reply {
    let id = request.required("Id")?;
    let zone = world.get(GLOBAL, ZONE, id).ok_or_else(|| missing(id))?;
    Ok(json!({"HostedZone": shown(zone), "VPCs": {"VPC": zone["_vpcs"]}}))
}

/// Of this account: whoever asks has to own the VPC.
pub(super) fn list_by_vpc(world: &mut World, request: &Request) -> Reply {
    let (id, region) = (request.required("vpcid")?, request.required("vpcregion")?);
    if world.get(region, ec2::VPC, id).is_none() {
        let message = format!("The VPC {id} in region {region} does not exist or is not yours.");
        return Err(Failure::new("InvalidInput", message));
    }
    let vpc = json!({"VPCRegion": region, "VPCId": id});
    let zones = world.table(GLOBAL, ZONE).iter().filter(|(_, zone)| sees(zone, &vpc));
    let all: Vec<_> = zones
        .map(|(id, zone)| {
            json!({
                "HostedZoneId": id, "Name": zone["Name"], "Owner": {"OwningAccount": crate::ACCOUNT},
            })
        })
        .collect();
    let (zones, next) = page(&all, request.text("nexttoken"), most(request));
    Ok(json!({
        "HostedZoneSummaries": {"HostedZoneSummary": zones}, "MaxItems": most(request).to_string(),
        "NextToken": next,
    }))
}

fn listed(mut zones: Vec<Value>, most: usize) -> (Vec<Value>, bool) {
    let more = zones.len() > most;
    zones.truncate(most);
    (zones, more)
}

fn most(request: &Request) -> usize {
    request.number("maxitems").and_then(|one| usize::try_from(one).ok()).unwrap_or(100).min(100)
}

pub(super) fn list(world: &mut World, request: &Request) -> Reply {
    let marker = request.text("marker").unwrap_or_default();
    let all: Vec<_> = world
        .table(GLOBAL, ZONE)
        .range(marker.to_owned()..)
        .map(|(id, one)| (id.clone(), shown(one)))
        .collect();
    let next = all.get(most(request)).map(|(id, _)| id.clone());
    let (zones, more) = listed(all.into_iter().map(|(_, one)| one).collect(), most(request));
    Ok(json!({
        "HostedZones": {"HostedZone": zones}, "IsTruncated": more, "NextMarker": next,
        "Marker": marker, "MaxItems": most(request).to_string(),
    }))
}

/// In the order of names, their labels reversed, beginning with the one that was asked for.
pub(super) fn list_by_name(world: &mut World, request: &Request) -> Reply {
    let key = |name: &str| {
        let mut labels: Vec<_> = name.trim_end_matches('.').split('.').collect();
        labels.reverse();
        labels.join(".")
    };
    let from = (
        key(&absolute(request.text("dnsname").unwrap_or_default())),
        request.text("hostedzoneid").unwrap_or_default().to_owned(),
    );
    let mut all: Vec<_> = world
        .table(GLOBAL, ZONE)
        .iter()
        .map(|(id, one)| ((key(one["Name"].as_str().unwrap_or_default()), id.clone()), shown(one)))
        .filter(|(place, _)| *place >= from)
        .collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    let next = all.get(most(request)).map(|(_, one)| one.clone()).unwrap_or_default();
    let next_id = next["Id"].as_str().map(|id| id.trim_start_matches("/hostedzone/").to_owned());
    let (zones, more) = listed(all.into_iter().map(|(_, one)| one).collect(), most(request));
    Ok(json!({
        "HostedZones": {"HostedZone": zones}, "IsTruncated": more, "DNSName": request.get("dnsname"),
        "NextDNSName": next["Name"], "NextHostedZoneId": next_id, "MaxItems": most(request).to_string(),
    }))
}

pub(super) fn delete(world: &mut World, request: &Request) -> Reply {
    let id = request.required("Id")?.to_owned();
    let zone = world.get(GLOBAL, ZONE, &id).ok_or_else(|| missing(&id))?;
    if zone["_records"].as_array().is_some_and(|all| !all.is_empty()) {
        let message = "The specified hosted zone contains non-required resource record sets and so cannot be deleted.";
        return Err(Failure::new("HostedZoneNotEmpty", message));
    }
    world.remove(GLOBAL, ZONE, &id);
    Ok(json!({"ChangeInfo": changed(world)}))
}

pub(super) fn associate(world: &mut World, request: &Request) -> Reply {
    let id = request.required("Id")?.to_owned();
    let vpc = vpc(world, request)?;
    let zone = world.get(GLOBAL, ZONE, &id).ok_or_else(|| missing(&id))?;
    if !truth(&zone["Config"]["PrivateZone"]).unwrap_or(false) {
        let message = "You're trying to associate a VPC with a public hosted zone.";
        return Err(Failure::new("PublicZoneVPCAssociation", message));
    }
    let name = zone["Name"].as_str().unwrap_or_default().to_owned();
    if let Some(failure) = conflict(world, &name, &vpc) {
        return Err(failure);
    }
    if let Some(zone) = world.get_mut(GLOBAL, ZONE, &id)
        && let Some(all) = zone["_vpcs"].as_array_mut()
    {
        all.push(vpc);
    }
    Ok(json!({"ChangeInfo": changed(world)}))
}

pub(super) fn disassociate(world: &mut World, request: &Request) -> Reply {
    let id = request.required("Id")?.to_owned();
    let vpc = request.get("VPC").clone();
    let vpc = json!({"VPCRegion": vpc["VPCRegion"], "VPCId": vpc["VPCId"]});
    let zone = world.get_mut(GLOBAL, ZONE, &id).ok_or_else(|| missing(&id))?;
    if !sees(zone, &vpc) {
        let message = "The VPC that you specified is not associated with the hosted zone.";
        return Err(Failure { status: 404, ..Failure::new("VPCAssociationNotFound", message) });
    }
    if let Some(all) = zone["_vpcs"].as_array_mut() {
        if all.len() == 1 {
            let message = "The VPC that you're trying to disassociate from the private hosted zone is the last VPC that is associated with the hosted zone.";
            return Err(Failure::new("LastVPCAssociation", message));
        }
        all.retain(|one| *one != vpc);
    }
    Ok(json!({"ChangeInfo": changed(world)}))
}
