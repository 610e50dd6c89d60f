//! IAM: roles and their policies.

use std::collections::BTreeSet;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{Operation, Service, any, op, page};
use crate::{
    ACCOUNT,
    durations::IAM_PROPAGATION,
    iam::{Need, statements, unknown_principals},
    request::{Failure, Reply, Request, texts},
    wire::Protocol,
    world::{GLOBAL, World, shown, tag_list, tag_map, tags},
};

pub(crate) const SERVICE: Service = Service {
    name: "iam",
    protocol: Protocol::Query,
    namespace: "https://iam.amazonaws.com/doc/2010-05-08/",
    global: true,
    operations: OPERATIONS,
};

const OPERATIONS: &[Operation] = &[
    op(
        "CreateRole",
        "RoleName Path AssumeRolePolicyDocument Description MaxSessionDuration Tags",
        on_role,
        create_role,
    ),
    op(
        "CreateOpenIDConnectProvider",
        "Url ClientIDList ThumbprintList",
        |_, request| {
            let issuer = request.text("Url").unwrap_or("https://*");
            vec![Need::new("", issuer_arn(issuer))]
        },
        create_issuer,
    ),
    op(
        "DeleteOpenIDConnectProvider",
        "OpenIDConnectProviderArn",
        |_, request| vec![Need::new("", request.text("OpenIDConnectProviderArn").unwrap_or("*"))],
        |world, request| {
            let arn = request.required("OpenIDConnectProviderArn")?;
            let issuer = arn.split_once("oidc-provider/").map_or(arn, |(_, issuer)| issuer);
            // Whether it is there or not.
            world.remove(GLOBAL, ISSUER, issuer);
            Ok(Value::Null)
        },
    ),
    op("GetRole", "RoleName", on_role, |world, request| {
        Ok(json!({"Role": described(role(world, request)?)}))
    }),
    op("DeleteRole", "RoleName", on_role, delete_role),
    op("UpdateAssumeRolePolicy", "RoleName PolicyDocument", on_role, |world, request| {
        let document = checked(request, "PolicyDocument")?;
        check_principals(world, &document)?;
        role_mut(world, request)?["_trust"] = document;
        Ok(Value::Null)
    }),
    op("UpdateRole", "RoleName Description MaxSessionDuration", on_role, |world, request| {
        let description = request.get("Description").clone();
        let duration = request.number("MaxSessionDuration");
        let role = role_mut(world, request)?;
        role["Description"] = description;
        if let Some(seconds) = duration {
            role["MaxSessionDuration"] = seconds.into();
        }
        Ok(json!({}))
    }),
    op("AttachRolePolicy", "RoleName PolicyArn", on_role_and_policy, attach),
    op("DetachRolePolicy", "RoleName PolicyArn", on_role_and_policy, detach),
    op("ListAttachedRolePolicies", "RoleName Marker MaxItems", on_role, |world, request| {
        let attached = texts(&role(world, request)?["_attached"]);
        let item = |arn: &String| json!({"PolicyName": arn.rsplit('/').next(), "PolicyArn": arn});
        let items: Vec<_> = attached.iter().map(item).collect();
        Ok(listed("AttachedPolicies", &items))
    }),
    op("ListRolePolicies", "RoleName Marker MaxItems", on_role, |world, request| {
        let policies = role(world, request)?["_policies"].as_object().cloned().unwrap_or_default();
        Ok(listed("PolicyNames", &policies.keys().map(|name| json!(name)).collect::<Vec<_>>()))
    }),
    op("PutRolePolicy", "RoleName PolicyName PolicyDocument", on_role, |world, request| {
        let (name, document) =
            (request.required("PolicyName")?, checked(request, "PolicyDocument")?);
        let visible = request.now.plus_seconds(IAM_PROPAGATION).0;
        let role = role_mut(world, request)?;
        let mut all = role["_policies"].clone();
        all[name] = document;
        // All of a role's policies together, white space not counted (IAM quotas).
        let sizes = all.as_object().into_iter().flatten().map(|(_, one)| one.to_string().len());
        if sizes.sum::<usize>() > 10_240 {
            let name = role["RoleName"].as_str().unwrap_or_default();
            let message = format!("Maximum policy size of 10240 bytes exceeded for role {name}");
            return Err(Failure { status: 409, ..Failure::new("LimitExceeded", message) });
        }
        role["_policies"] = all;
        role["_policies_visible"] = visible.into();
        Ok(Value::Null)
    }),
    op("GetRolePolicy", "RoleName PolicyName", on_role, |world, request| {
        let name = request.required("PolicyName")?;
        let document = &role(world, request)?["_policies"][name];
        if document.is_null() {
            return Err(missing_policy(name));
        }
        Ok(
            json!({"RoleName": request.text("RoleName"), "PolicyName": name, "PolicyDocument": escaped(document)}),
        )
    }),
    op("DeleteRolePolicy", "RoleName PolicyName", on_role, |world, request| {
        let name = request.required("PolicyName")?;
        let all = &mut role_mut(world, request)?["_policies"];
        let gone = all.as_object_mut().and_then(|all| all.shift_remove(name));
        gone.map(|_| Value::Null).ok_or_else(|| missing_policy(name))
    }),
    op("ListInstanceProfilesForRole", "RoleName Marker MaxItems", on_role, |world, request| {
        role(world, request)?;
        Ok(listed("InstanceProfiles", &[]))
    }),
    op("TagRole", "RoleName Tags", on_role, |world, request| {
        check_tags(request)?;
        let new = tag_map(request.get("Tags"), "Key", "Value");
        let role = role_mut(world, request)?;
        let mut all = tags(role);
        let is_new = |key: &str| new.keys().any(|one| one.to_lowercase() == key.to_lowercase());
        all.retain(|key, _| !is_new(key));
        all.extend(new);
        role["_tags"] = Value::Object(all);
        Ok(Value::Null)
    }),
    op("UntagRole", "RoleName TagKeys", on_role, |world, request| {
        let gone = request.texts("TagKeys");
        let role = role_mut(world, request)?;
        let mut all = tags(role);
        let is_gone = |key: &str| gone.iter().any(|one| one.to_lowercase() == key.to_lowercase());
        all.retain(|key, _| !is_gone(key));
        role["_tags"] = Value::Object(all);
        Ok(Value::Null)
    }),
    op("ListRoleTags", "RoleName Marker MaxItems", on_role, |world, request| {
        Ok(listed("Tags", &tag_list(role(world, request)?, "Key", "Value")))
    }),
    op("CreateServiceLinkedRole", "AWSServiceName Description", any, create_service_linked),
];

fn listed(name: &str, items: &[Value]) -> Value {
    let (items, _) = page(items, None, 1000);
    json!({name: {"member": items}, "IsTruncated": false})
}

fn on_role(world: &World, request: &Request) -> Vec<Need> {
    let name = request.text("RoleName").unwrap_or_default();
    let record = world.get(GLOBAL, "role", name);
    vec![Need::new("", format!("arn:aws:iam::{ACCOUNT}:role/{name}")).on(record)]
}

fn on_role_and_policy(world: &World, request: &Request) -> Vec<Need> {
    let policy = request.text("PolicyArn").unwrap_or_default();
    on_role(world, request).into_iter().map(|need| need.with("iam:PolicyARN", policy)).collect()
}

fn missing_role(name: &str) -> Failure {
    Failure::new("NoSuchEntity", format!("The role with name {name} cannot be found."))
}

fn missing_policy(name: &str) -> Failure {
    Failure::new("NoSuchEntity", format!("The role policy with name {name} cannot be found."))
}

fn role<'a>(world: &'a World, request: &Request) -> Result<&'a Value, Failure> {
    let name = request.required("RoleName")?;
    world.get(GLOBAL, "role", name).ok_or_else(|| missing_role(name))
}

fn role_mut<'a>(world: &'a mut World, request: &Request) -> Result<&'a mut Value, Failure> {
    let name = request.required("RoleName")?;
    world.get_mut(GLOBAL, "role", name).ok_or_else(|| missing_role(name))
}

/// What stays as it is in the documents that IAM hands out.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// IAM hands documents out percent-encoded.
fn escaped(document: &Value) -> String {
    utf8_percent_encode(&document.to_string(), PLAIN).to_string()
}

fn described(role: &Value) -> Value {
    let mut shown = shown(role);
    shown["AssumeRolePolicyDocument"] = escaped(&role["_trust"]).into();
    shown["Tags"] = json!({"member": tag_list(role, "Key", "Value")});
    shown
}

fn checked(request: &Request, member: &str) -> Result<Value, Failure> {
    let malformed = |message: &str| Failure::new("MalformedPolicyDocument", message);
    let document: Value = serde_json::from_str(request.required(member)?)
        .map_err(|_| malformed("This policy contains invalid Json"))?;
    if statements(&document).is_empty() {
        return Err(malformed("Syntax errors in policy."));
    }
    Ok(document)
}

fn check_principals(world: &World, document: &Value) -> Result<(), Failure> {
    match unknown_principals(world, document).first() {
        None => Ok(()),
        Some(arn) => {
            let message = format!("Invalid principal in policy: \"AWS\":\"{arn}\"");
            Err(Failure::new("MalformedPolicyDocument", message))
        }
    }
}

/// Whoever issues tokens that roles trust.
pub(crate) const ISSUER: &str = "oidc-provider";

fn issuer_arn(url: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{}", url.trim_start_matches("https://"))
}

fn create_issuer(world: &mut World, request: &Request) -> Reply {
    let url = request.required("Url")?;
    let Some(issuer) = url.strip_prefix("https://").filter(|host| !host.is_empty()) else {
        return Err(Failure::new("ValidationError", "Invalid Open ID Connect Provider URL"));
    };
    if world.get(GLOBAL, ISSUER, issuer).is_some() {
        let message = format!("Provider with url {url} already exists.");
        return Err(Failure::new("EntityAlreadyExists", message));
    }
    let arn = issuer_arn(url);
    let record = json!({"_arn": arn, "Url": issuer, "ClientIDList": request.texts("ClientIDList")});
    world.put(GLOBAL, ISSUER, issuer, record);
    Ok(json!({"OpenIDConnectProviderArn": arn}))
}

/// Keys of tags are one where they differ in case only, and none can be there twice (IAM user guide, "Tags for IAM
/// resources", case sensitivity).
fn check_tags(request: &Request) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    let asked = tag_map(request.get("Tags"), "Key", "Value");
    if asked.keys().all(|key| seen.insert(key.to_lowercase())) {
        return Ok(());
    }
    let message = "Duplicate tag keys found. Please note that Tag keys are case insensitive.";
    Err(Failure::new("InvalidInput", message))
}

fn create_role(world: &mut World, request: &Request) -> Reply {
    let name = request.required("RoleName")?.to_owned();
    let allowed = |one: char| one.is_ascii_alphanumeric() || "+=,.@_-".contains(one);
    if name.len() > 64 || !name.chars().all(allowed) {
        let message = format!(
            "1 validation error detected: Value '{name}' at 'roleName' failed to satisfy constraint: Member must have length less than or equal to 64"
        );
        return Err(Failure::new("ValidationError", message));
    }
    let trust = checked(request, "AssumeRolePolicyDocument")?;
    check_principals(world, &trust)?;
    check_tags(request)?;
    if world.get(GLOBAL, "role", &name).is_some() {
        let message = format!("Role with name {name} already exists.");
        return Err(Failure::new("EntityAlreadyExists", message));
    }
    let id = format!("AROA{}", world.digest()[..17].to_uppercase());
    let path = request.text("Path").unwrap_or("/");
    let arn = format!("arn:aws:iam::{ACCOUNT}:role{path}{name}");
    let record = json!({
        "Path": path, "RoleName": name, "RoleId": id, "Arn": arn,
        "CreateDate": request.now.to_string(), "Description": request.get("Description"),
        "MaxSessionDuration": request.number("MaxSessionDuration").unwrap_or(3600),
        "_trust": trust, "_attached": [], "_policies": {}, "_arn": arn,
        "_tags": tag_map(request.get("Tags"), "Key", "Value"),
        "_visible": request.now.plus_seconds(IAM_PROPAGATION).0,
    });
    world.put(GLOBAL, "role", &name, record.clone());
    Ok(json!({"Role": described(&record)}))
}

fn delete_role(world: &mut World, request: &Request) -> Reply {
    let record = role(world, request)?;
    let conflict = if record["_attached"].as_array().is_some_and(|all| !all.is_empty()) {
        Some("Cannot delete entity, must detach all policies first.")
    } else if record["_policies"].as_object().is_some_and(|all| !all.is_empty()) {
        Some("Cannot delete entity, must delete policies first.")
    } else {
        None
    };
    if let Some(message) = conflict {
        return Err(Failure::new("DeleteConflict", message));
    }
    world.remove(GLOBAL, "role", request.required("RoleName")?);
    Ok(Value::Null)
}

fn attach(world: &mut World, request: &Request) -> Reply {
    let arn = request.required("PolicyArn")?.to_owned();
    if world.get(GLOBAL, "policy", &arn).is_none() {
        let message = format!("Policy {arn} does not exist or is not attachable.");
        return Err(Failure::new("NoSuchEntity", message));
    }
    let visible = request.now.plus_seconds(IAM_PROPAGATION).0;
    let role = role_mut(world, request)?;
    let mut attached = texts(&role["_attached"]);
    if !attached.contains(&arn) {
        attached.push(arn);
        role["_attached_visible"] = visible.into();
    }
    role["_attached"] = attached.into();
    Ok(Value::Null)
}

fn detach(world: &mut World, request: &Request) -> Reply {
    let arn = request.required("PolicyArn")?.to_owned();
    let role = role_mut(world, request)?;
    let mut attached = texts(&role["_attached"]);
    if !attached.contains(&arn) {
        let message = format!("Policy {arn} was not found.");
        return Err(Failure::new("NoSuchEntity", message));
    }
    attached.retain(|one| *one != arn);
    role["_attached"] = attached.into();
    Ok(Value::Null)
}

fn create_service_linked(world: &mut World, request: &Request) -> Reply {
    let service = request.required("AWSServiceName")?;
    if service != "rds.amazonaws.com" {
        return Err(Failure::new(
            "InvalidInput",
            format!("The service name {service} is not valid."),
        ));
    }
    let name = "AWSServiceRoleForRDS";
    if world.get(GLOBAL, "role", name).is_some() {
        let message = format!(
            "Service role name {name} has been taken in this account, please try a different suffix."
        );
        return Err(Failure::new("InvalidInput", message));
    }
    put_service_linked(world);
    Ok(json!({"Role": described(&world.table(GLOBAL, "role")[name])}))
}

pub(crate) fn put_service_linked(world: &mut World) {
    let name = "AWSServiceRoleForRDS";
    let arn = format!("arn:aws:iam::{ACCOUNT}:role/aws-service-role/rds.amazonaws.com/{name}");
    let record = json!({
        "Path": "/aws-service-role/rds.amazonaws.com/", "RoleName": name, "RoleId": "AROASERVICEROLEFORRDS", "Arn": arn,
        "CreateDate": world.now.to_string(), "_attached": [], "_policies": {}, "_account": true,
        "_trust": {"Statement": [{"Effect": "Allow", "Principal": {"Service": "rds.amazonaws.com"}, "Action": "sts:AssumeRole"}]},
    });
    world.put(GLOBAL, "role", name, record);
}

/// Why RDS would not take a monitoring role, if so.
pub(crate) fn unfit_for_monitoring(world: &World, arn: &str) -> bool {
    let name = arn.rsplit('/').next().unwrap_or_default();
    let Some(role) = world.get(GLOBAL, "role", name) else { return true };
    let late = |member: &str| role[member].as_u64().is_some_and(|at| at > world.now.0);
    let trusted = statements(&role["_trust"]).iter().any(|one| {
        let service = &one["Principal"]["Service"];
        *service == "monitoring.rds.amazonaws.com" && one["Effect"] == "Allow"
    });
    let able = texts(&role["_attached"])
        .iter()
        .any(|one| one.ends_with("AmazonRDSEnhancedMonitoringRole"));
    !trusted || !able || late("_visible") || late("_attached_visible")
}
