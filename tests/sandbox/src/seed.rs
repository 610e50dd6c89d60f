//! The account as it is before anything of ours exists: what a platform team already has.

use serde_json::{Value, json};

use crate::{
    clock::Time,
    request::arn,
    services::{ec2, iam, lambda, route53},
    world::{GLOBAL, World},
};

/// The account.
pub const ACCOUNT: &str = "123456789012";
/// An access key of its administrator.
pub const ACCESS_KEY: &str = "AKIASANDBOX000000001";
/// Its secret; signatures are not verified.
pub const SECRET_KEY: &str = "sandbox";
/// The secret of a session's key, such that it is found wherever it is.
pub const SESSION_SECRET: &str = "wJalrXUtnFEMI.of.a.session";
/// The access key of a user whose policies are the test's to set; without any, everything is denied.
pub const RESTRICTED_KEY: &str = "AKIASANDBOX000000002";

const REGIONS: &[(&str, &str)] = &[("us-east-1", "10.10"), ("us-west-2", "10.20")];
const HOSTED_ZONE: &str = "Z0SANDBOX00000000001";

impl World {
    /// The seeded account.
    pub fn seeded(now: Time) -> Self {
        let mut world = Self::default();
        world.now = now;
        world.concurrency = lambda::QUOTA;
        principals(&mut world);
        let vpcs: Vec<Value> = REGIONS
            .iter()
            .map(|(region, net)| {
                let vpc = network(&mut world, region, net);
                json!({"VPCRegion": region, "VPCId": vpc})
            })
            .collect();
        let zone = json!({
            "Id": format!("/hostedzone/{HOSTED_ZONE}"), "Name": "trading.internal.", "CallerReference": "seed",
            "Config": {"PrivateZone": true}, "ResourceRecordSetCount": 2, "_vpcs": vpcs, "_account": true,
        });
        world.put(GLOBAL, route53::ZONE, HOSTED_ZONE, zone);
        world
    }

    /// The seeded network's ids, as `/_sandbox/network` tells them.
    pub fn network(&self) -> Value {
        let mut all = json!({"hosted_zone": {"id": HOSTED_ZONE, "name": "trading.internal"}});
        for (region, _) in REGIONS {
            let named = |kind: &'static str, id: &str, prefix: &str| -> Vec<String> {
                let table = self.table(region, kind).values();
                let ours = table.filter(|one| {
                    one["_tags"]["Name"].as_str().is_some_and(|name| name.starts_with(prefix))
                });
                let mut found: Vec<_> = ours
                    .map(|one| {
                        (
                            one["_tags"]["Name"].to_string(),
                            one[id].as_str().unwrap_or_default().to_owned(),
                        )
                    })
                    .collect();
                found.sort();
                found.into_iter().map(|(_, id)| id).collect()
            };
            all[*region] = json!({
                "vpc_id": named(ec2::VPC, "vpcId", "trading")[0],
                "vpc_cidr": self.table(region, ec2::VPC).values().find(|one| one["_tags"]["Name"] == "trading").map(|one| one["cidrBlock"].clone()),
                "private_subnet_ids": named(ec2::SUBNET, "subnetId", "private"),
                "public_subnet_ids": named(ec2::SUBNET, "subnetId", "public"),
                "private_route_table_ids": named(ec2::ROUTE_TABLE, "routeTableId", "private"),
                "application_security_group_id": named(ec2::GROUP, "groupId", "application")[0],
            });
        }
        all
    }
}

fn principals(world: &mut World) {
    let admin = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
    for (key, name, policies) in [
        (ACCESS_KEY, "administrator", json!({"administrator": admin})),
        (RESTRICTED_KEY, "restricted", json!({})),
    ] {
        let user = format!("arn:aws:iam::{ACCOUNT}:user/{name}");
        let id = format!("AIDA{}", world.digest()[..17].to_uppercase());
        let access =
            json!({"_arn": user, "_kind": "user", "_name": name, "_id": id, "_account": true});
        world.put(GLOBAL, "access-key", key, access);
        world.put(
            GLOBAL,
            "user",
            name,
            json!({"Arn": user, "_policies": policies, "_account": true}),
        );
    }
    let managed = "arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole";
    world.put(
        GLOBAL,
        "policy",
        managed,
        json!({"Arn": managed, "_document": {"Statement": []}, "_account": true}),
    );
    iam::put_service_linked(world);
    if let Some(role) = world.get_mut(GLOBAL, "role", "AWSServiceRoleForRDS") {
        role["_visible"] = 0.into();
    }
}

/// A VPC with three private and three public subnets, their tables and an application's group.
fn network(world: &mut World, region: &str, net: &str) -> String {
    let vpc = world.new_id("vpc");
    let cidr = format!("{net}.0.0/16");
    let record = json!({
        "vpcId": vpc, "cidrBlock": cidr, "state": "available", "ownerId": ACCOUNT, "isDefault": false, "instanceTenancy": "default",
        "cidrBlockAssociationSet": {"item": [{"cidrBlock": cidr, "cidrBlockState": {"state": "associated"}}]},
        "_dns_support": true, "_dns_hostnames": true, "_tags": {"Name": "trading"}, "_account": true,
    });
    world.put(region, ec2::VPC, &vpc, record);
    let main = table(world, region, &vpc, &cidr, "main", &[], false);
    if let Some(record) = world.get_mut(region, ec2::ROUTE_TABLE, &main) {
        record["associationSet"] = json!({"item": [{"main": true, "routeTableId": main, "associationState": {"state": "associated"}}]});
    }
    let mut public = Vec::new();
    for (index, letter) in ["a", "b", "c"].iter().enumerate() {
        let private =
            subnet(world, region, &vpc, &format!("{net}.{}.0/24", index + 1), letter, "private");
        table(world, region, &vpc, &cidr, &format!("private-{letter}"), &[private], false);
        public.push(subnet(
            world,
            region,
            &vpc,
            &format!("{net}.{}.0/24", index + 101),
            letter,
            "public",
        ));
    }
    table(world, region, &vpc, &cidr, "public", &public, true);
    for (name, description) in
        [("application", "The trading application"), ("default", "default VPC security group")]
    {
        let group = world.new_id("sg");
        let record = json!({
            "groupId": group, "groupName": name, "groupDescription": description, "vpcId": vpc, "ownerId": ACCOUNT,
            "_rules": [{"id": format!("sgr-{}", &group[3..]), "egress": true, "protocol": "-1", "cidr": "0.0.0.0/0"}],
            "_tags": {"Name": name}, "_account": true, "_arn": arn("ec2", region, &format!("security-group/{group}")),
        });
        world.put(region, ec2::GROUP, &group, record);
    }
    vpc
}

fn subnet(
    world: &mut World,
    region: &str,
    vpc: &str,
    cidr: &str,
    letter: &str,
    kind: &str,
) -> String {
    let id = world.new_id("subnet");
    // us-east-1 is use1, us-west-2 usw2; which letter is which zone differs from account to account.
    let parts: Vec<&str> = region.split('-').collect();
    let short = |index: usize| parts.get(index).copied().unwrap_or_default();
    let number = match letter {
        "a" => 1,
        "b" => 2,
        _ => 4,
    };
    let zone =
        format!("{}{}{}-az{number}", short(0), short(1).get(..1).unwrap_or_default(), short(2));
    let record = json!({
        "subnetId": id, "vpcId": vpc, "cidrBlock": cidr, "state": "available", "availabilityZone": format!("{region}{letter}"),
        "availabilityZoneId": zone,
        "ownerId": ACCOUNT, "availableIpAddressCount": 251, "mapPublicIpOnLaunch": kind == "public",
        "_tags": {"Name": format!("{kind}-{letter}")}, "_account": true,
    });
    world.put(region, ec2::SUBNET, &id, record);
    id
}

fn table(
    world: &mut World,
    region: &str,
    vpc: &str,
    cidr: &str,
    name: &str,
    subnets: &[String],
    public: bool,
) -> String {
    let id = world.new_id("rtb");
    let mut routes = vec![
        json!({"destinationCidrBlock": cidr, "gatewayId": "local", "state": "active", "origin": "CreateRouteTable"}),
    ];
    if public {
        let gateway = world.new_id("igw");
        routes.push(json!({"destinationCidrBlock": "0.0.0.0/0", "gatewayId": gateway, "state": "active", "origin": "CreateRoute", "_account": true}));
    }
    let associations: Vec<_> = subnets
        .iter()
        .map(|subnet| json!({"main": false, "routeTableId": id, "subnetId": subnet, "associationState": {"state": "associated"}}))
        .collect();
    let record = json!({
        "routeTableId": id, "vpcId": vpc, "ownerId": ACCOUNT, "routeSet": {"item": routes},
        "associationSet": {"item": associations}, "_tags": {"Name": name}, "_account": true,
    });
    world.put(region, ec2::ROUTE_TABLE, &id, record);
    id
}
