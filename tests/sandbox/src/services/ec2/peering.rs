//! Peering between VPCs of two regions: one connection, seen from both sides, tagged on each.

use serde_json::{Value, json};

use super::{VPC, on, select, specified_tags, text_at, vpcs::missing_vpc, with_tags};
use crate::{
    ACCOUNT,
    durations::{PEERING_ACTIVE, PEERING_GONE, PEERING_PENDING},
    iam::Need,
    request::{Failure, Reply, Request, truth},
    world::World,
};

pub(crate) const KIND: &str = "vpc-peering-connection";
/// The status of a connection that carries traffic.
pub(crate) const AVAILABLE: &str = "active";

pub(super) fn access_create(world: &World, request: &Request) -> Vec<Need> {
    let (vpc, peer) = (request.text("VpcId"), request.text("PeerVpcId"));
    let made = Need::new("", request.arn("ec2", "vpc-peering-connection/*"));
    let region = request.text("PeerRegion").unwrap_or(&request.region);
    let made = between(
        made,
        &json!({"vpcId": vpc, "region": request.region}),
        &json!({"vpcId": peer, "region": region}),
    );
    vec![made, on(world, request, vpc.unwrap_or_default())]
}

/// The VPCs that a connection is between, as conditions speak of them.
pub(super) fn between(need: Need, requester: &Value, accepter: &Value) -> Need {
    let vpc = |side: &Value| {
        let text = |name: &str| side[name].as_str().unwrap_or_default().to_owned();
        crate::request::arn("ec2", &text("region"), &format!("vpc/{}", text("vpcId")))
    };
    need.with("ec2:RequesterVpc", vpc(requester)).with("ec2:AccepterVpc", vpc(accepter))
}

/// The connection and the VPC of the side that accepts (Service Authorization Reference).
pub(super) fn access_accept(world: &World, request: &Request) -> Vec<Need> {
    let mut needs = access(world, request);
    let id = request.text("VpcPeeringConnectionId").unwrap_or_default();
    let record = world.get(&request.region, KIND, id);
    let vpc = record.and_then(|one| one["accepterVpcInfo"]["vpcId"].as_str());
    needs.extend(vpc.map(|vpc| on(world, request, vpc)));
    needs
}

pub(super) fn access(world: &World, request: &Request) -> Vec<Need> {
    vec![on(world, request, request.text("VpcPeeringConnectionId").unwrap_or_default())]
}

pub(super) fn missing(id: &str) -> Failure {
    let message = format!("The vpcPeeringConnection ID '{id}' does not exist");
    Failure::new("InvalidVpcPeeringConnectionID.NotFound", message)
}

fn side(world: &World, region: &str, vpc: &str) -> Result<Value, Failure> {
    let record = world.get(region, VPC, vpc).ok_or_else(|| missing_vpc(vpc))?;
    Ok(json!({
        "ownerId": ACCOUNT, "vpcId": vpc, "region": region, "cidrBlock": record["cidrBlock"],
        "cidrBlockSet": {"item": [{"cidrBlock": record["cidrBlock"]}]},
        "peeringOptions": {"allowDnsResolutionFromRemoteVpc": false,
            "allowEgressFromLocalClassicLinkToRemoteVpc": false, "allowEgressFromLocalVpcToRemoteClassicLink": false},
    }))
}

/// Whether two IPv4 blocks share an address.
fn overlap(one: &str, other: &str) -> bool {
    let parse = |cidr: &str| {
        let (ip, bits) = cidr.split_once('/')?;
        let ip: u32 = ip.parse::<std::net::Ipv4Addr>().ok()?.into();
        Some((ip, bits.parse::<u32>().ok().filter(|bits| *bits <= 32)?))
    };
    let (Some((one, ones)), Some((other, others))) = (parse(one), parse(other)) else {
        return false;
    };
    let shift = 32 - ones.min(others);
    one.checked_shr(shift).unwrap_or(0) == other.checked_shr(shift).unwrap_or(0)
}

/// Whether groups of one VPC can be named in those of another one of the region: it is the same, or they are peered
/// (VPC user guide, "Reference security groups in a peered VPC").
pub(super) fn reaches(world: &World, region: &str, own: &Value, its: &Value) -> bool {
    own == its
        || world.table(region, KIND).values().any(|one| {
            let [from, to] =
                ["requesterVpcInfo", "accepterVpcInfo"].map(|side| &one[side]["vpcId"]);
            one["status"]["code"] == AVAILABLE
                && ([from, to] == [own, its] || [from, to] == [its, own])
        })
}

/// Both sides' records, as one says of the other.
fn on_both(world: &mut World, region: &str, id: &str, change: &dyn Fn(&mut Value)) {
    let Some(record) = world.get(region, KIND, id) else { return };
    let regions = ["requesterVpcInfo", "accepterVpcInfo"]
        .map(|side| record[side]["region"].as_str().unwrap_or_default().to_owned());
    for region in regions {
        if let Some(record) = world.get_mut(&region, KIND, id) {
            change(record);
        }
    }
}

fn set_status(world: &mut World, region: &str, id: &str, code: &str, message: &str) {
    on_both(world, region, id, &|record| {
        record["status"] = json!({"code": code, "message": message});
    });
}

pub(super) fn create(world: &mut World, request: &Request) -> Reply {
    let (vpc, peer) = (request.required("VpcId")?, request.required("PeerVpcId")?);
    let peer_region = request.text("PeerRegion").unwrap_or(&request.region).to_owned();
    if request.text("PeerOwnerId").is_some_and(|owner| owner != ACCOUNT) {
        let message = "the sandbox has one account";
        return Err(Failure { status: 501, ..Failure::new("NotImplemented", message) });
    }
    let requester = side(world, &request.region, vpc)?;
    // AWS does not look into the other account or region: what is not there shows as `failed`.
    let accepter = side(world, &peer_region, peer)
        .unwrap_or_else(|_| json!({"ownerId": ACCOUNT, "vpcId": peer, "region": peer_region}));
    let exists = world.table(&request.region, KIND).values().find(|one| {
        one["requesterVpcInfo"]["vpcId"] == vpc
            && one["accepterVpcInfo"]["vpcId"] == peer
            && matches!(
                one["status"]["code"].as_str(),
                Some("pending-acceptance" | "active" | "provisioning" | "initiating-request")
            )
    });
    if let Some(exists) = exists {
        // The same request again answers with what is there.
        return Ok(json!({"vpcPeeringConnection": with_tags(exists)}));
    }
    let overlaps = overlap(
        requester["cidrBlock"].as_str().unwrap_or_default(),
        accepter["cidrBlock"].as_str().unwrap_or_default(),
    );
    let fails = overlaps || accepter["cidrBlock"].is_null();
    let id = world.new_id("pcx");
    let status = if fails {
        json!({"code": "failed", "message": "Failed due to incorrect VPC-ID, Account ID, or overlapping CIDR range"})
    } else {
        json!({"code": "initiating-request", "message": format!("Initiating Request to {ACCOUNT}")})
    };
    let record = json!({
        "vpcPeeringConnectionId": id, "requesterVpcInfo": requester, "accepterVpcInfo": accepter, "status": status,
        "expirationTime": request.now.plus_seconds(7 * 86_400).to_string(),
    });
    let mut own = record.clone();
    own["_tags"] = Value::Object(specified_tags(request, "vpc-peering-connection"));
    own["_arn"] = request.arn("ec2", &format!("vpc-peering-connection/{id}")).into();
    let mut other = record;
    other["_tags"] = json!({});
    other["_arn"] =
        crate::request::arn("ec2", &peer_region, &format!("vpc-peering-connection/{id}")).into();
    world.put(&peer_region, KIND, &id, other);
    world.put(&request.region, KIND, &id, own.clone());
    if fails {
        world.after(PEERING_GONE, &request.region, &id, forget);
    } else {
        world.after(PEERING_PENDING, &request.region, &id, |world, region, id| {
            set_status(
                world,
                region,
                id,
                "pending-acceptance",
                &format!("Pending Acceptance by {ACCOUNT}"),
            );
        });
    }
    Ok(json!({"vpcPeeringConnection": with_tags(&own)}))
}

fn forget(world: &mut World, region: &str, id: &str) {
    let Some(record) = world.remove(region, KIND, id) else { return };
    for side in ["requesterVpcInfo", "accepterVpcInfo"] {
        world.remove(record[side]["region"].as_str().unwrap_or_default(), KIND, id);
    }
}

fn found<'a>(world: &'a World, request: &Request) -> Result<(String, &'a Value), Failure> {
    let id = request.required("VpcPeeringConnectionId")?;
    let record = world.get(&request.region, KIND, id).ok_or_else(|| missing(id))?;
    Ok((id.to_owned(), record))
}

pub(super) fn accept(world: &mut World, request: &Request) -> Reply {
    let (id, record) = found(world, request)?;
    let code = record["status"]["code"].as_str().unwrap_or_default();
    if record["accepterVpcInfo"]["region"] != request.region.as_str() {
        let message = format!(
            "Incorrect Region {} specified for this request. VPC peering connection {id} must be accepted in region {}",
            request.region,
            record["accepterVpcInfo"]["region"].as_str().unwrap_or_default()
        );
        return Err(Failure::new("OperationNotPermitted", message));
    }
    if code == AVAILABLE || code == "provisioning" {
        return Ok(json!({"vpcPeeringConnection": with_tags(record)}));
    }
    if code != "pending-acceptance" {
        let message = format!(
            "Invalid state transition for {id}, attempted to transition from {code} to active"
        );
        return Err(Failure::new("InvalidStateTransition", message));
    }
    set_status(world, &request.region, &id, "provisioning", "Provisioning");
    world.after(PEERING_ACTIVE, &request.region, &id, |world, region, id| {
        set_status(world, region, id, AVAILABLE, "Active");
    });
    Ok(json!({"vpcPeeringConnection": with_tags(&world.table(&request.region, KIND)[&id])}))
}

pub(super) fn describe(world: &mut World, request: &Request) -> Reply {
    let rows: &[super::FilterRow] = &[
        ("vpc-peering-connection-id", |one| text_at(one, "/vpcPeeringConnectionId")),
        ("requester-vpc-info.vpc-id", |one| text_at(one, "/requesterVpcInfo/vpcId")),
        ("accepter-vpc-info.vpc-id", |one| text_at(one, "/accepterVpcInfo/vpcId")),
        ("status-code", |one| text_at(one, "/status/code")),
    ];
    let (items, next) = select(world, request, KIND, "VpcPeeringConnectionId", rows, &missing)?;
    let items: Vec<Value> = items.iter().map(with_tags).collect();
    Ok(json!({"vpcPeeringConnectionSet": {"item": items}, "nextToken": next}))
}

pub(super) fn modify_options(world: &mut World, request: &Request) -> Reply {
    let (id, record) = found(world, request)?;
    if record["status"]["code"] != AVAILABLE {
        let message = format!(
            "Peering {id} is not active. Peering options can be added only to active peerings."
        );
        return Err(Failure::new("OperationNotPermitted", message));
    }
    let mut answer = json!({});
    for (member, side, shown) in [
        (
            "RequesterPeeringConnectionOptions",
            "requesterVpcInfo",
            "requesterPeeringConnectionOptions",
        ),
        ("AccepterPeeringConnectionOptions", "accepterVpcInfo", "accepterPeeringConnectionOptions"),
    ] {
        let Some(on) = truth(&request.get(member)["AllowDnsResolutionFromRemoteVpc"]) else {
            continue;
        };
        // Each side's options are changed in its own region.
        let its_region = world.table(&request.region, KIND)[&id][side]["region"].clone();
        if its_region != request.region.as_str() {
            let message = format!(
                "{member} of {id} can only be modified in {}",
                its_region.as_str().unwrap_or_default()
            );
            return Err(Failure::new("OperationNotPermitted", message));
        }
        on_both(world, &request.region, &id, &|record| {
            record[side]["peeringOptions"]["allowDnsResolutionFromRemoteVpc"] = on.into();
        });
        answer[shown] = json!({"allowDnsResolutionFromRemoteVpc": on});
    }
    Ok(answer)
}

pub(super) fn delete(world: &mut World, request: &Request) -> Reply {
    let (id, record) = found(world, request)?;
    let code = record["status"]["code"].as_str().unwrap_or_default();
    if !matches!(code, "active" | "pending-acceptance" | "provisioning" | "initiating-request") {
        let message = format!(
            "Invalid state transition for {id}, attempted to transition from {code} to deleting"
        );
        return Err(Failure::new("InvalidStateTransition", message));
    }
    set_status(world, &request.region, &id, "deleted", "Deleted");
    world.after(PEERING_GONE, &request.region, &id, forget);
    Ok(json!({"return": true}))
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn blocks_overlap_when_one_holds_the_other() {
        assert!(overlap("10.0.0.0/8", "10.20.0.0/16"));
        assert!(overlap("0.0.0.0/0", "10.20.0.0/16"));
        assert!(!overlap("10.10.0.0/16", "10.20.0.0/16"));
    }
}
