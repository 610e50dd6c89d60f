use serde_json::{Value, json};

use super::{Caller, EAST, WEST, refused};

fn peer(caller: &mut Caller) -> String {
    let (east, west) = (caller.network(EAST), caller.network(WEST));
    let params = json!({"VpcId": east["vpc_id"], "PeerVpcId": west["vpc_id"], "PeerRegion": WEST});
    let answer = caller.must(EAST, "ec2", "CreateVpcPeeringConnection", params);
    answer["vpcPeeringConnection"]["vpcPeeringConnectionId"].as_str().unwrap().to_owned()
}

fn code(caller: &mut Caller, region: &str, id: &str) -> Value {
    let answer = caller.must(
        region,
        "ec2",
        "DescribeVpcPeeringConnections",
        json!({"VpcPeeringConnectionId": [id]}),
    );
    answer["vpcPeeringConnectionSet"]["item"][0]["status"]["code"].clone()
}

/// aws-facts 1.5, 6.
#[test]
fn a_peering_is_accepted_in_its_own_region_and_takes_options_only_then() {
    let mut caller = Caller::new();
    let id = peer(&mut caller);
    caller.pass(5);
    assert_eq!(code(&mut caller, WEST, &id), "pending-acceptance");
    let accept = json!({"VpcPeeringConnectionId": id});
    refused(
        caller.ec2(EAST, "AcceptVpcPeeringConnection", accept.clone()),
        "OperationNotPermitted",
        "must be accepted in region us-west-2",
    );
    let options = json!({"VpcPeeringConnectionId": id, "RequesterPeeringConnectionOptions": {"AllowDnsResolutionFromRemoteVpc": "true"}});
    refused(
        caller.ec2(EAST, "ModifyVpcPeeringConnectionOptions", options.clone()),
        "OperationNotPermitted",
        "is not active",
    );
    caller.must(WEST, "ec2", "AcceptVpcPeeringConnection", accept);
    caller.pass(10);
    assert_eq!(code(&mut caller, EAST, &id), "active");
    caller.must(EAST, "ec2", "ModifyVpcPeeringConnectionOptions", options);
}

/// aws-facts 6: not an error of the call.
#[test]
fn overlapping_networks_show_as_a_failed_peering() {
    let mut caller = Caller::new();
    let vpc = caller.network(WEST)["vpc_id"].as_str().unwrap().to_owned();
    caller.world.drift(WEST, "vpc", &vpc, Some(&json!({"cidrBlock": "10.10.128.0/17"}))).unwrap();
    let id = peer(&mut caller);
    assert_eq!(code(&mut caller, EAST, &id), "failed");
}

/// aws-facts 6.
#[test]
fn routes_are_unique_need_a_peering_and_outlive_it_as_black_holes() {
    let mut caller = Caller::new();
    let id = peer(&mut caller);
    caller.pass(5);
    caller.must(WEST, "ec2", "AcceptVpcPeeringConnection", json!({"VpcPeeringConnectionId": id}));
    caller.pass(10);
    let table = caller.network(EAST)["private_route_table_ids"][0].clone();
    let route = json!({"RouteTableId": table, "DestinationCidrBlock": "10.20.0.0/16", "VpcPeeringConnectionId": id});
    caller.must(EAST, "ec2", "CreateRoute", route.clone());
    refused(caller.ec2(EAST, "CreateRoute", route), "RouteAlreadyExists", "10.20.0.0/16");
    caller.must(EAST, "ec2", "DeleteVpcPeeringConnection", json!({"VpcPeeringConnectionId": id}));
    let answer = caller.must(EAST, "ec2", "DescribeRouteTables", json!({"RouteTableId": [table]}));
    let routes = answer["routeTableSet"]["item"][0]["routeSet"]["item"].as_array().unwrap().clone();
    assert_eq!(routes.last().unwrap()["state"], "blackhole");
    let gone = json!({"RouteTableId": table, "DestinationCidrBlock": "10.99.0.0/16"});
    refused(caller.ec2(EAST, "DeleteRoute", gone), "InvalidRoute.NotFound", "10.99.0.0/16");
}

/// aws-facts 1.5, 6.
#[test]
fn security_groups_know_their_region_only_and_stay_while_they_are_used() {
    let mut caller = Caller::new();
    let vpc = caller.network(EAST)["vpc_id"].clone();
    let group = json!({"GroupName": "db", "GroupDescription": "x", "VpcId": vpc});
    let id = caller.must(EAST, "ec2", "CreateSecurityGroup", group.clone())["groupId"].clone();
    refused(
        caller.ec2(EAST, "CreateSecurityGroup", group),
        "InvalidGroup.Duplicate",
        "already exists",
    );
    let elsewhere = caller.network(WEST)["application_security_group_id"].clone();
    let rule = |pair: Value| json!({"GroupId": id, "IpPermissions": [{"IpProtocol": "tcp", "FromPort": "5432", "ToPort": "5432", "Groups": [{"GroupId": pair}]}]});
    refused(
        caller.ec2(EAST, "AuthorizeSecurityGroupIngress", rule(elsewhere)),
        "InvalidGroup.NotFound",
        "does not exist",
    );
    let application = caller.network(EAST)["application_security_group_id"].clone();
    caller.must(EAST, "ec2", "AuthorizeSecurityGroupIngress", rule(application.clone()));
    refused(
        caller.ec2(EAST, "AuthorizeSecurityGroupIngress", rule(application)),
        "InvalidPermission.Duplicate",
        "already exists",
    );
    caller.instance(json!({"VpcSecurityGroupIds": [id]}));
    let delete = json!({"GroupId": id});
    refused(
        caller.ec2(EAST, "DeleteSecurityGroup", delete),
        "DependencyViolation",
        "dependent object",
    );
}
