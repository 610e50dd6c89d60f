//! Lambda: functions, who may invoke them, and their running. What runs is not in here: whoever owns the
//! sandbox gives it a runtime.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Operation, Service, op};
use crate::{
    durations::{ENI_LINGERS, FUNCTION_CREATE, FUNCTION_UPDATE},
    iam::{self, Need},
    request::{Failure, Reply, Request, arn},
    services::{ec2, kms},
    wire::Protocol,
    world::{GLOBAL, World, shown, tags},
};

mod concurrency;
mod paths;
mod permissions;
mod runs;

pub(crate) use concurrency::{QUOTA, room};
pub(crate) use paths::decode;
pub(crate) use permissions::lets;
use permissions::{add_permission, remove_permission, statements};
pub use runs::{Invocation, Runtime};
pub(crate) use runs::{calling, invocation, is_current, ran};

pub(crate) const SERVICE: Service = Service {
    name: "lambda",
    protocol: Protocol::RestJson,
    namespace: "",
    global: false,
    operations: OPERATIONS,
};

const FUNCTION: &str = "function";
/// Interfaces of functions in VPCs, which outlive them (aws-facts 8).
const INTERFACE: &str = "network-interface";

/// Variables that Lambda sets itself (Lambda guide, "Defined runtime environment variables").
const RESERVED: &[&str] = &[
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
];

const OPERATIONS: &[Operation] = &[
    op(
        "CreateFunction",
        "FunctionName Runtime Role Handler Code Description Timeout MemorySize VpcConfig Environment Tags Architectures PackageType KMSKeyArn",
        on_function_and_role,
        create,
    ),
    op("GetFunction", "FunctionName", on_function, |world, request| {
        let function = found(world, request)?;
        let location = "https://awslambda.example/code";
        let mut answer = json!({
            "Configuration": shown(function),
            "Code": {"RepositoryType": "S3", "Location": location},
        });
        if let Some(reserved) = function["_reserved"].as_u64() {
            answer["Concurrency"] = json!({"ReservedConcurrentExecutions": reserved});
        }
        // "Lambda returns tag data only if you have explicit allow permissions for lambda:ListTags" (API reference).
        let need = on_function(world, request).remove(0);
        let need = Need { action: "lambda:ListTags".into(), ..need };
        if let Err(denied) = crate::dispatch::authorise(world, request, need) {
            answer["TagsError"] = json!({"ErrorCode": denied.code, "Message": denied.message});
        } else {
            answer["Tags"] = tags(function).into();
        }
        Ok(answer)
    }),
    // Nothing here is published: there is what can be changed, and no more.
    op("ListVersionsByFunction", "FunctionName", on_function, |world, request| {
        let mut latest = shown(found(world, request)?);
        let arn = latest["FunctionArn"].as_str().unwrap_or_default();
        latest["FunctionArn"] = format!("{arn}:$LATEST").into();
        Ok(json!({"Versions": [latest]}))
    }),
    // Nothing here is signed.
    op("GetFunctionCodeSigningConfig", "FunctionName", on_function, |world, request| {
        let function = found(world, request)?;
        Ok(json!({"FunctionName": function["FunctionName"], "CodeSigningConfigArn": ""}))
    }),
    op("UpdateFunctionCode", "FunctionName ZipFile Architectures", on_function, update_code),
    op(
        "UpdateFunctionConfiguration",
        "FunctionName Role Handler Description Timeout MemorySize VpcConfig Environment Runtime KMSKeyArn",
        on_function_and_role,
        update_configuration,
    ),
    op("DeleteFunction", "FunctionName", on_function, delete),
    op("GetAccountSettings", "", |_, _| vec![Need::new("", "*")], concurrency::settings),
    op(
        "PutFunctionConcurrency",
        "FunctionName ReservedConcurrentExecutions",
        on_function,
        concurrency::put,
    ),
    op("DeleteFunctionConcurrency", "FunctionName", on_function, concurrency::delete),
    op(
        "PutFunctionEventInvokeConfig",
        "FunctionName MaximumRetryAttempts MaximumEventAgeInSeconds",
        on_function,
        put_event_config,
    ),
    op("GetFunctionEventInvokeConfig", "FunctionName", on_function, |world, request| {
        event_config(found(world, request)?).cloned()
    }),
    op("DeleteFunctionEventInvokeConfig", "FunctionName", on_function, |world, request| {
        event_config(found(world, request)?)?;
        found_mut(world, request)?["_event"] = Value::Null;
        Ok(json!({"_status": 204}))
    }),
    op(
        "AddPermission",
        "FunctionName StatementId Action Principal SourceArn SourceAccount",
        on_function,
        add_permission,
    ),
    op("RemovePermission", "FunctionName StatementId", on_function, remove_permission),
    op("GetPolicy", "FunctionName", on_function, |world, request| {
        let function = found(world, request)?;
        if statements(function).is_empty() {
            let message = "The resource you requested does not exist.";
            return Err(Failure {
                status: 404,
                ..Failure::new("ResourceNotFoundException", message)
            });
        }
        let policy =
            json!({"Version": "2012-10-17", "Id": "default", "Statement": function["_policy"]});
        Ok(json!({"Policy": policy.to_string(), "RevisionId": "1"}))
    }),
    op(
        "Invoke",
        "FunctionName InvocationType Payload",
        |world, request| {
            let mut needs = on_function(world, request);
            needs[0].action = "lambda:InvokeFunction".into();
            needs
        },
        invoke,
    ),
    op("ListTags", "Resource", on_function, |world, request| {
        let function = found(world, request)?;
        Ok(json!({"Tags": tags(function)}))
    }),
    op("TagResource", "Resource Tags", on_function, |world, request| {
        let new = request.get("Tags").as_object().cloned().unwrap_or_default();
        let function = found_mut(world, request)?;
        let mut all = tags(function);
        all.extend(new);
        function["_tags"] = Value::Object(all);
        Ok(json!({"_status": 204}))
    }),
    op("UntagResource", "Resource tagKeys", on_function, |world, request| {
        let gone = request.texts("tagKeys");
        let function = found_mut(world, request)?;
        let mut all = tags(function);
        all.retain(|key, _| !gone.contains(key));
        function["_tags"] = Value::Object(all);
        Ok(json!({"_status": 204}))
    }),
];

fn event_config(function: &Value) -> Result<&Value, Failure> {
    let message = "The function does not have an EventInvokeConfig";
    let missing = || Failure { status: 404, ..Failure::new("ResourceNotFoundException", message) };
    Some(&function["_event"]).filter(|one| !one.is_null()).ok_or_else(missing)
}

fn name(request: &Request) -> String {
    let given = request.text("FunctionName").or_else(|| request.text("Resource"));
    given.unwrap_or_default().rsplit(':').next().unwrap_or_default().to_owned()
}

fn on_function(world: &World, request: &Request) -> Vec<Need> {
    let name = name(request);
    let record = world.get(&request.region, FUNCTION, &name);
    vec![Need::new("", request.arn("lambda", &format!("function:{name}"))).on(record)]
}

fn on_function_and_role(world: &World, request: &Request) -> Vec<Need> {
    let mut needs = on_function(world, request);
    if let Some(role) = request.text("Role") {
        let pass =
            Need::new("iam:PassRole", role).with("iam:PassedToService", "lambda.amazonaws.com");
        needs.push(pass);
    }
    // Whoever puts a function into a VPC sees what is there (Lambda guide, permissions of its API).
    if request.has("VpcConfig") {
        let looks = ["ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs"];
        needs.extend(looks.map(|action| Need::new(action, "*")));
    }
    // With a key of the account, whoever sets variables encrypts them and lets Lambda decrypt them (Lambda
    // guide, "Securing environment variables").
    if let Some(key) = request.text("KMSKeyArn").filter(|key| !key.is_empty()) {
        let via = format!("lambda.{}.amazonaws.com", request.region);
        for action in ["kms:Encrypt", "kms:CreateGrant"] {
            let need = Need::new(action, key).with("kms:ViaService", via.as_str());
            needs.push(need.on_key(world, iam::key_of(world, key)));
        }
    }
    needs
}

fn missing(request: &Request) -> Failure {
    let arn = request.arn("lambda", &format!("function:{}", name(request)));
    let failure = Failure::new("ResourceNotFoundException", format!("Function not found: {arn}"));
    Failure { status: 404, ..failure }
}

fn conflict(message: impl Into<String>) -> Failure {
    Failure { status: 409, ..Failure::new("ResourceConflictException", message) }
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new("InvalidParameterValueException", message)
}

fn found<'a>(world: &'a World, request: &Request) -> Result<&'a Value, Failure> {
    world.get(&request.region, FUNCTION, &name(request)).ok_or_else(|| missing(request))
}

fn found_mut<'a>(world: &'a mut World, request: &Request) -> Result<&'a mut Value, Failure> {
    world.get_mut(&request.region, FUNCTION, &name(request)).ok_or_else(|| missing(request))
}

/// What Lambda checks of a role: that it may become it, and in a VPC, that it may do all of what AWS's own policy
/// for that (AWSLambdaVPCAccessExecutionRole, version 3) allows of interfaces.
fn check_role(world: &World, request: &Request, role: &str, in_vpc: bool) -> Result<(), Failure> {
    let name = role.rsplit('/').next().unwrap_or_default();
    let record = world
        .get(GLOBAL, "role", name)
        .filter(|one| one["_visible"].as_u64().is_none_or(|at| at <= world.now.0));
    let need = Need::new("sts:AssumeRole", role);
    let trusts =
        record.is_some_and(|one| iam::lets_service(&one["_trust"], "lambda.amazonaws.com", &need));
    if !trusts {
        return Err(invalid("The role defined for the function cannot be assumed by Lambda."));
    }
    let is_late = record.is_some_and(|one| one["_policies_visible"].as_u64() > Some(world.now.0));
    let who = iam::role_principal(name);
    let needs = [
        "ec2:CreateNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:DeleteNetworkInterface",
        "ec2:AssignPrivateIpAddresses",
        "ec2:UnassignPrivateIpAddresses",
    ];
    let may = |action: &&str| iam::allowed(world, &who, &interface(request, action));
    if in_vpc && (is_late || !needs.iter().all(may)) {
        return Err(invalid(
            "The provided execution role does not have permissions to call CreateNetworkInterface on EC2",
        ));
    }
    Ok(())
}

fn interface(request: &Request, action: &str) -> Need {
    Need::new(action, "*").with("aws:RequestedRegion", &request.region)
}

fn check_vpc(world: &World, request: &Request, config: &Value) -> Result<Value, Failure> {
    let subnets = crate::request::texts(&config["SubnetIds"]);
    let groups = crate::request::texts(&config["SecurityGroupIds"]);
    if subnets.is_empty() && groups.is_empty() {
        return Ok(json!({"SubnetIds": [], "SecurityGroupIds": [], "VpcId": ""}));
    }
    let subnet = |id: &String| world.get(&request.region, ec2::SUBNET, id);
    let group = |id: &String| world.get(&request.region, ec2::GROUP, id);
    let mut vpcs: Vec<&str> =
        subnets.iter().filter_map(|id| subnet(id)?["vpcId"].as_str()).collect();
    vpcs.extend(groups.iter().filter_map(|id| group(id)?["vpcId"].as_str()));
    if vpcs.len() != subnets.len() + groups.len() || groups.is_empty() || subnets.is_empty() {
        return Err(invalid("The subnet or the security group does not exist"));
    }
    if vpcs.iter().any(|vpc| *vpc != vpcs[0]) {
        return Err(invalid("The security groups and subnets are of different VPCs"));
    }
    // In one zone of us-east-1 there is none (keboola/developer-portal #81; which one, by what other services leave out).
    if subnets.iter().filter_map(subnet).any(|one| one["availabilityZoneId"] == "use1-az3") {
        return Err(invalid(
            "The provided subnets contain availability zone Lambda doesn't support. Please use a different set of subnets.",
        ));
    }
    Ok(json!({"SubnetIds": subnets, "SecurityGroupIds": groups, "VpcId": vpcs[0]}))
}

fn check_key(world: &World, request: &Request) -> Result<(), Failure> {
    match request.text("KMSKeyArn").filter(|key| !key.is_empty()) {
        Some(key) if kms::usable_arn(world, &request.region, key).is_none() => {
            Err(invalid(format!("The KMS key {key} does not exist or is not enabled")))
        }
        _ => Ok(()),
    }
}

/// Takes an archive: its hash and its size.
fn code(world: &mut World, text: Option<&str>) -> Result<(String, usize), Failure> {
    let bytes = STANDARD.decode(text.unwrap_or_default()).unwrap_or_default();
    if !bytes.starts_with(b"PK") {
        return Err(invalid(
            "Could not unzip uploaded file. Please check your file, then try to upload again.",
        ));
    }
    if bytes.len() > 50 << 20 {
        let message =
            "Request must be smaller than 69905067 bytes for the CreateFunction operation";
        return Err(Failure {
            status: 413,
            ..Failure::new("RequestEntityTooLargeException", message)
        });
    }
    let (hash, size) = (STANDARD.encode(Sha256::digest(&bytes)), bytes.len());
    world.archives.entry(hash.clone()).or_insert_with(|| bytes.into());
    Ok((hash, size))
}

fn check_sizes(request: &Request) -> Result<(), Failure> {
    let within = |name: &str, range: std::ops::RangeInclusive<i64>| {
        request.number(name).is_none_or(|number| range.contains(&number))
    };
    if !within("Timeout", 1..=900) || !within("MemorySize", 128..=10_240) {
        return Err(Failure::new(
            "ValidationException",
            "Timeout or MemorySize is out of its range",
        ));
    }
    let variables = &request.get("Environment")["Variables"];
    let names = variables.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let reserved: Vec<&str> = names.filter(|name| RESERVED.contains(name)).collect();
    if !reserved.is_empty() {
        return Err(invalid(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: {}",
            reserved.join(", ")
        )));
    }
    if variables.to_string().len() > 4096 {
        return Err(invalid(
            "Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit.",
        ));
    }
    Ok(())
}

fn create(world: &mut World, request: &Request) -> Reply {
    let name = request.required("FunctionName")?.to_owned();
    if name.len() > 64 || !name.chars().all(|one| one.is_ascii_alphanumeric() || "-_".contains(one))
    {
        return Err(Failure::new("ValidationException", "FunctionName is not valid"));
    }
    if world.get(&request.region, FUNCTION, &name).is_some() {
        return Err(conflict(format!("Function already exist: {name}")));
    }
    if request.required("Runtime")? != "provided.al2023" {
        return Err(invalid("the sandbox runs provided.al2023 only"));
    }
    request.required("Handler")?;
    check_sizes(request)?;
    let (hash, size) = code(world, request.get("Code")["ZipFile"].as_str())?;
    let vpc = check_vpc(world, request, request.get("VpcConfig"))?;
    let in_vpc = vpc["VpcId"] != "";
    let role = request.required("Role")?.to_owned();
    check_role(world, request, &role, in_vpc)?;
    check_key(world, request)?;
    let arn = request.arn("lambda", &format!("function:{name}"));
    let record = json!({
        "KMSKeyArn": request.get("KMSKeyArn"),
        "FunctionName": name, "FunctionArn": arn, "Runtime": request.get("Runtime"), "Role": role,
        "Handler": request.get("Handler"), "CodeSize": size, "CodeSha256": hash, "Version": "$LATEST",
        "Description": request.text("Description").unwrap_or_default(),
        "Timeout": request.number("Timeout").unwrap_or(3), "MemorySize": request.number("MemorySize").unwrap_or(128),
        "LastModified": world.now.to_string(), "VpcConfig": vpc, "Environment": request.get("Environment"),
        "State": "Pending", "LastUpdateStatus": "Successful", "PackageType": "Zip", "Architectures": ["x86_64"],
        "_policy": [], "_event": Value::Null, "_arn": arn,
        "_tags": request.get("Tags").as_object().cloned().unwrap_or_default(),
    });
    world.put(&request.region, FUNCTION, &name, record.clone());
    attach(world, &request.region, &name, &record["VpcConfig"]);
    world.after(FUNCTION_CREATE, &request.region, &name, |world, region, name| {
        if let Some(function) = world.get_mut(region, FUNCTION, name) {
            function["State"] = "Active".into();
        }
    });
    let mut answer = shown(&record);
    answer["_status"] = 201.into();
    Ok(answer)
}

/// Notes an interface in a function's groups: as long as it is there, the groups cannot go.
fn attach(world: &mut World, region: &str, name: &str, vpc: &Value) {
    if vpc["VpcId"] != "" {
        let role = world.get(region, FUNCTION, name).map(|one| one["Role"].clone());
        let record = json!({"groups": vpc["SecurityGroupIds"], "role": role, "_account": true});
        world.put(region, INTERFACE, name, record);
    }
}

/// Whether an interface of a function still is in a security group.
pub(crate) fn uses_security_group(world: &World, region: &str, group: &str) -> bool {
    let mut all = world.table(region, INTERFACE).values();
    all.any(|one| one["groups"].as_array().is_some_and(|all| all.iter().any(|id| id == group)))
}

/// One change at a time.
fn settled(function: &Value) -> Result<(), Failure> {
    if function["State"] == "Pending" || function["LastUpdateStatus"] == "InProgress" {
        let arn = function["FunctionArn"].as_str().unwrap_or_default();
        let message = format!(
            "The operation cannot be performed at this time. An update is in progress for resource: {arn}"
        );
        return Err(conflict(message));
    }
    Ok(())
}

fn changing(world: &mut World, request: &Request) -> Reply {
    let name = name(request);
    let now = world.now.to_string();
    let function = found_mut(world, request)?;
    function["LastUpdateStatus"] = "InProgress".into();
    function["LastModified"] = now.into();
    let view = shown(function);
    world.after(FUNCTION_UPDATE, &request.region, &name, |world, region, name| {
        if let Some(function) = world.get_mut(region, FUNCTION, name) {
            function["LastUpdateStatus"] = "Successful".into();
        }
    });
    Ok(view)
}

fn update_code(world: &mut World, request: &Request) -> Reply {
    settled(found(world, request)?)?;
    let (hash, size) = code(world, request.text("ZipFile"))?;
    let function = found_mut(world, request)?;
    function["CodeSha256"] = hash.into();
    function["CodeSize"] = size.into();
    changing(world, request)
}

fn update_configuration(world: &mut World, request: &Request) -> Reply {
    settled(found(world, request)?)?;
    check_sizes(request)?;
    check_key(world, request)?;
    let vpc = if request.has("VpcConfig") {
        Some(check_vpc(world, request, request.get("VpcConfig"))?)
    } else {
        None
    };
    if let Some(role) = request.text("Role").map(str::to_owned) {
        let in_vpc = vpc.as_ref().is_some_and(|vpc| vpc["VpcId"] != "");
        check_role(world, request, &role, in_vpc)?;
    }
    if let Some(vpc) = &vpc {
        attach(world, &request.region, &name(request), vpc);
        if vpc["VpcId"] == "" {
            linger(world, &request.region, &name(request));
        }
    }
    let function = found_mut(world, request)?;
    for member in ["Role", "Handler", "Description", "Environment", "Runtime", "KMSKeyArn"] {
        if request.has(member) {
            function[member] = request.get(member).clone();
        }
    }
    for member in ["Timeout", "MemorySize"] {
        if let Some(number) = request.number(member) {
            function[member] = number.into();
        }
    }
    if let Some(vpc) = vpc {
        function["VpcConfig"] = vpc;
    }
    changing(world, request)
}

/// Its interface stays in its groups for a while (aws-facts 8).
fn delete(world: &mut World, request: &Request) -> Reply {
    let name = name(request);
    found(world, request)?;
    world.remove(&request.region, FUNCTION, &name);
    linger(world, &request.region, &name);
    Ok(json!({"_status": 204}))
}

/// The interface of a function that left its VPC, or is gone, goes after a while: as the function's role, or
/// never (Lambda guide, "Lambda and VPCs").
fn linger(world: &mut World, region: &str, name: &str) {
    world.after(ENI_LINGERS, region, name, |world, region, name| {
        let inside =
            world.get(region, FUNCTION, name).is_some_and(|one| one["VpcConfig"]["VpcId"] != "");
        let role = world.get(region, INTERFACE, name).and_then(|one| one["role"].as_str());
        let role = role.and_then(|arn| arn.rsplit('/').next()).unwrap_or_default();
        if !inside && world.get(GLOBAL, "role", role).is_some() {
            world.remove(region, INTERFACE, name);
        }
    });
}

fn put_event_config(world: &mut World, request: &Request) -> Reply {
    let (retries, age) = (
        request.number("MaximumRetryAttempts").unwrap_or(2),
        request.number("MaximumEventAgeInSeconds").unwrap_or(21_600),
    );
    if !(0..=2).contains(&retries) || !(60..=21_600).contains(&age) {
        return Err(invalid(
            "MaximumRetryAttempts is 0 to 2, MaximumEventAgeInSeconds 60 to 21600",
        ));
    }
    let function = found_mut(world, request)?;
    function["_event"] = json!({
        "FunctionArn": format!("{}:$LATEST", function["FunctionArn"].as_str().unwrap_or_default()),
        "MaximumRetryAttempts": retries, "MaximumEventAgeInSeconds": age,
    });
    Ok(function["_event"].clone())
}

fn invoke(world: &mut World, request: &Request) -> Reply {
    let function = found(world, request)?;
    if function["State"] != "Active" {
        let message = "The operation cannot be performed at this time. The function is currently in the following state: Pending";
        return Err(conflict(message));
    }
    let kind = request.text("InvocationType").unwrap_or("RequestResponse").to_owned();
    let target = arn("lambda", &request.region, &format!("function:{}", name(request)));
    Ok(json!({"_invoke": target, "_payload": request.get("Payload"), "_event": kind == "Event"}))
}
