//! Security groups and their rules.

use serde_json::{Value, json};

use super::{
    GROUP, VPC, fits, on, peering, select, specified_tags, text_at, vpcs::missing_vpc, with_tags,
};
use crate::{
    ACCOUNT,
    iam::Need,
    request::{Failure, Reply, Request, integer},
    world::{World, tag_list},
};

pub(super) fn access_create(world: &World, request: &Request) -> Vec<Need> {
    vec![
        Need::new("", request.arn("ec2", "security-group/*")),
        on(world, request, request.text("VpcId").unwrap_or_default()),
    ]
}

pub(super) fn access(world: &World, request: &Request) -> Vec<Need> {
    vec![on(world, request, request.text("GroupId").unwrap_or_default())]
}

fn missing(id: &str) -> Failure {
    Failure::new("InvalidGroup.NotFound", format!("The security group '{id}' does not exist"))
}

pub(super) fn create(world: &mut World, request: &Request) -> Reply {
    let name = request.required("GroupName")?.to_owned();
    let description = request.required("GroupDescription")?.to_owned();
    let vpc = request.required("VpcId")?.to_owned();
    let its = world.get(&request.region, VPC, &vpc).ok_or_else(|| missing_vpc(&vpc))?;
    let has_ipv6 =
        its["ipv6CidrBlockAssociationSet"]["item"].as_array().is_some_and(|all| !all.is_empty());
    let allowed = |one: char| one.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(one);
    if name.starts_with("sg-") || name.len() > 255 || !name.chars().all(allowed) {
        let message = format!("Value ({name}) for parameter GroupName is invalid.");
        return Err(Failure::new("InvalidParameterValue", message));
    }
    if description.len() > 255 || !description.chars().all(allowed) {
        let message = format!(
            "Value ({description}) for parameter GroupDescription is invalid. Character sets beyond ASCII are not supported."
        );
        return Err(Failure::new("InvalidParameterValue", message));
    }
    let taken = world.table(&request.region, GROUP).values();
    if taken
        .into_iter()
        .any(|one| one["groupName"] == name.as_str() && one["vpcId"] == vpc.as_str())
    {
        let message = format!("The security group '{name}' already exists for VPC '{vpc}'");
        return Err(Failure::new("InvalidGroup.Duplicate", message));
    }
    let id = world.new_id("sg");
    let rule = world.new_id("sgr");
    let mut rules =
        vec![json!({"id": rule, "egress": true, "protocol": "-1", "cidr": "0.0.0.0/0"})];
    if has_ipv6 {
        // Over IPv6 as well, where the VPC has it (VPC guide, default rules of a group; terraform #15075).
        let rule = world.new_id("sgr");
        rules.push(json!({"id": rule, "egress": true, "protocol": "-1", "cidr6": "::/0"}));
    }
    let arn = request.arn("ec2", &format!("security-group/{id}"));
    let tags = specified_tags(request, "security-group");
    let record = json!({
        "groupId": id, "groupName": name, "groupDescription": description, "vpcId": vpc, "ownerId": ACCOUNT,
        "securityGroupArn": arn, "_arn": arn, "_tags": tags,
        // AWS lets everything out until told otherwise.
        "_rules": rules,
    });
    world.put(&request.region, GROUP, &id, record);
    Ok(json!({"groupId": id}))
}

/// One rule in the shape of `IpPermissions`.
fn permission(rule: &Value) -> Value {
    let ranges = rule["cidr"]
        .as_str()
        .map(|cidr| json!({"cidrIp": cidr, "description": rule["description"]}));
    let wide = rule["cidr6"]
        .as_str()
        .map(|cidr| json!({"cidrIpv6": cidr, "description": rule["description"]}));
    let groups = rule["group"].as_str().map(
        |group| json!({"groupId": group, "userId": ACCOUNT, "description": rule["description"]}),
    );
    json!({
        "ipProtocol": rule["protocol"], "fromPort": rule["from"], "toPort": rule["to"],
        "ipRanges": {"item": ranges.into_iter().collect::<Vec<_>>()},
        "ipv6Ranges": {"item": wide.into_iter().collect::<Vec<_>>()},
        "groups": {"item": groups.into_iter().collect::<Vec<_>>()},
    })
}

fn described(group: &Value) -> Value {
    let mut shown = with_tags(group);
    let of = |egress: bool| -> Vec<Value> {
        let all = group["_rules"].as_array().into_iter().flatten();
        all.filter(|rule| rule["egress"] == egress).map(permission).collect()
    };
    shown["ipPermissions"] = json!({"item": of(false)});
    shown["ipPermissionsEgress"] = json!({"item": of(true)});
    shown
}

pub(super) fn describe(world: &mut World, request: &Request) -> Reply {
    let rows: &[super::FilterRow] = &[
        ("group-id", |one| text_at(one, "/groupId")),
        ("group-name", |one| text_at(one, "/groupName")),
        ("vpc-id", |one| text_at(one, "/vpcId")),
    ];
    let (items, next) = select(world, request, GROUP, "GroupId", rows, &missing)?;
    let items: Vec<Value> = items.iter().map(described).collect();
    Ok(json!({"securityGroupInfo": {"item": items}, "nextToken": next}))
}

fn described_rule(group: &str, rule: &Value) -> Value {
    json!({
        "securityGroupRuleId": rule["id"], "groupId": group, "groupOwnerId": ACCOUNT, "isEgress": rule["egress"],
        "ipProtocol": rule["protocol"],
        "fromPort": if rule["from"].is_null() { json!(-1) } else { rule["from"].clone() },
        "toPort": if rule["to"].is_null() { json!(-1) } else { rule["to"].clone() },
        "cidrIpv4": rule["cidr"], "cidrIpv6": rule["cidr6"], "description": rule["description"],
        "tagSet": {"item": tag_list(rule, "key", "value")},
        "referencedGroupInfo": if rule["group"].is_null() { Value::Null } else { json!({"groupId": rule["group"], "userId": ACCOUNT}) },
    })
}

pub(super) fn describe_rules(world: &mut World, request: &Request) -> Reply {
    let rows: &[super::FilterRow] = &[
        ("group-id", |one| text_at(one, "/groupId")),
        ("security-group-rule-id", |one| text_at(one, "/securityGroupRuleId")),
    ];
    let ids = request.texts("SecurityGroupRuleId");
    let mut found: Vec<Value> = Vec::new();
    for (id, group) in world.table(&request.region, GROUP) {
        for rule in group["_rules"].as_array().into_iter().flatten() {
            let shown = described_rule(id, rule);
            let named = ids.is_empty() || ids.iter().any(|one| rule["id"] == one.as_str());
            if named && fits(&shown, request.items("Filter"), rows)? {
                found.push(shown);
            }
        }
    }
    let missing =
        ids.iter().find(|id| !found.iter().any(|rule| rule["securityGroupRuleId"] == id.as_str()));
    if let Some(id) = missing {
        let message = format!("The security group rule ID '{id}' does not exist");
        return Err(Failure::new("InvalidSecurityGroupRuleId.NotFound", message));
    }
    Ok(json!({"securityGroupRuleSet": {"item": found}}))
}

/// The rules that a request's `IpPermissions` ask for.
fn asked(world: &World, request: &Request, egress: bool) -> Result<Vec<Value>, Failure> {
    let mut rules = Vec::new();
    for one in request.items("IpPermissions") {
        let (from, to) = (integer(&one["FromPort"]), integer(&one["ToPort"]));
        let protocol = one["IpProtocol"].as_str().unwrap_or_default();
        if protocol == "tcp" && (from.is_none() || to.is_none() || from > to) {
            let message =
                "Invalid value for portRange. Must specify both from and to ports with TCP/UDP.";
            return Err(Failure::new("InvalidParameterValue", message));
        }
        // For all protocols, ports say nothing, whatever a client sends.
        let (from, to) = if protocol == "-1" { (None, None) } else { (from, to) };
        let base = json!({"egress": egress, "protocol": protocol, "from": from, "to": to});
        for range in one["IpRanges"].as_array().into_iter().flatten() {
            let mut rule = base.clone();
            let cidr = range["CidrIp"].as_str().unwrap_or_default();
            if !cidr.contains('/') {
                let message = format!("CIDR block {cidr} is malformed");
                return Err(Failure::new("InvalidParameterValue", message));
            }
            rule["cidr"] = cidr.into();
            rule["description"] = range["Description"].clone();
            rules.push(rule);
        }
        for range in one["Ipv6Ranges"].as_array().into_iter().flatten() {
            let mut rule = base.clone();
            let cidr = range["CidrIpv6"].as_str().unwrap_or_default();
            if !cidr.contains(':') || !cidr.contains('/') {
                let message = format!("CIDR block {cidr} is malformed");
                return Err(Failure::new("InvalidParameterValue", message));
            }
            rule["cidr6"] = cidr.into();
            rule["description"] = range["Description"].clone();
            rules.push(rule);
        }
        let groups = one.get("Groups").or_else(|| one.get("UserIdGroupPairs"));
        for pair in groups.and_then(Value::as_array).into_iter().flatten() {
            let group = pair["GroupId"].as_str().unwrap_or_default();
            // Groups of other regions cannot be named, peering or not.
            let its = world.get(&request.region, GROUP, group).ok_or_else(|| missing(group))?;
            let own = request.text("GroupId").unwrap_or_default();
            let own = world.get(&request.region, GROUP, own).ok_or_else(|| missing(own))?;
            if !peering::reaches(world, &request.region, &own["vpcId"], &its["vpcId"]) {
                let message = "You have specified two resources that belong to different networks.";
                return Err(Failure::new("InvalidGroup.NotFound", message));
            }
            let mut rule = base.clone();
            rule["group"] = group.into();
            rule["description"] = pair["Description"].clone();
            rules.push(rule);
        }
    }
    Ok(rules)
}

fn same(one: &Value, other: &Value) -> bool {
    ["egress", "protocol", "from", "to", "cidr", "cidr6", "group"]
        .iter()
        .all(|member| one[*member] == other[*member])
}

fn group_mut<'a>(
    world: &'a mut World,
    request: &Request,
) -> Result<(String, &'a mut Value), Failure> {
    let id = request.required("GroupId")?;
    let group = world.get_mut(&request.region, GROUP, id).ok_or_else(|| missing(id))?;
    Ok((id.to_owned(), group))
}

fn authorize(world: &mut World, request: &Request, egress: bool) -> Reply {
    let mut asked = asked(world, request, egress)?;
    let tags = specified_tags(request, "security-group-rule");
    for rule in &mut asked {
        rule["id"] = world.new_id("sgr").into();
        rule["_tags"] = Value::Object(tags.clone());
    }
    let (id, group) = group_mut(world, request)?;
    let mut rules = group["_rules"].as_array().cloned().unwrap_or_default();
    for rule in &asked {
        if rules.iter().any(|present| same(present, rule)) {
            let peer = rule["cidr"].as_str().or_else(|| rule["group"].as_str()).unwrap_or_default();
            let message = format!(
                "the specified rule \"peer: {peer}, TCP, from port: {}, to port: {}, ALLOW\" already exists",
                rule["from"], rule["to"]
            );
            return Err(Failure::new("InvalidPermission.Duplicate", message));
        }
        rules.push(rule.clone());
    }
    group["_rules"] = rules.into();
    let items: Vec<_> = asked.iter().map(|rule| described_rule(&id, rule)).collect();
    Ok(json!({"return": true, "securityGroupRuleSet": {"item": items}}))
}

fn revoke(world: &mut World, request: &Request, egress: bool) -> Reply {
    let asked = asked(world, request, egress)?;
    let ids = request.texts("SecurityGroupRuleId");
    let (_, group) = group_mut(world, request)?;
    let mut rules = group["_rules"].as_array().cloned().unwrap_or_default();
    for rule in &asked {
        if !rules.iter().any(|present| same(present, rule)) {
            let message = "The specified rule does not exist in this security group.";
            return Err(Failure::new("InvalidPermission.NotFound", message));
        }
    }
    if let Some(id) = ids.iter().find(|id| !rules.iter().any(|rule| rule["id"] == id.as_str())) {
        let message = format!("The security group rule ID '{id}' does not exist");
        return Err(Failure::new("InvalidSecurityGroupRuleId.NotFound", message));
    }
    rules.retain(|present| {
        !asked.iter().any(|rule| same(present, rule))
            && !ids.iter().any(|id| present["id"] == id.as_str())
    });
    group["_rules"] = rules.into();
    Ok(json!({"return": true}))
}

pub(super) fn authorize_ingress(world: &mut World, request: &Request) -> Reply {
    authorize(world, request, false)
}

pub(super) fn authorize_egress(world: &mut World, request: &Request) -> Reply {
    authorize(world, request, true)
}

pub(super) fn revoke_ingress(world: &mut World, request: &Request) -> Reply {
    revoke(world, request, false)
}

pub(super) fn revoke_egress(world: &mut World, request: &Request) -> Reply {
    revoke(world, request, true)
}

pub(super) fn delete(world: &mut World, request: &Request) -> Reply {
    let (id, group) = group_mut(world, request)?;
    if group["groupName"] == "default" {
        let message =
            format!("the specified group: \"{id}\" name: \"default\" cannot be deleted by a user");
        return Err(Failure::new("CannotDelete", message));
    }
    let named = world.table(&request.region, GROUP).iter().any(|(other, group)| {
        *other != id
            && group["_rules"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|rule| rule["group"] == id.as_str())
    });
    let used = crate::services::rds::uses_security_group(world, &request.region, &id)
        || crate::services::lambda::uses_security_group(world, &request.region, &id);
    if named || used {
        let message = format!("resource {id} has a dependent object");
        return Err(Failure::new("DependencyViolation", message));
    }
    world.remove(&request.region, GROUP, &id);
    Ok(json!({"return": true, "groupId": id}))
}
