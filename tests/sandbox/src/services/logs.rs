//! CloudWatch Logs: groups.

use serde_json::{Value, json};

use super::{Operation, Service, op, page};
use crate::{
    iam::{self, Need},
    request::{Failure, Reply, Request},
    services::kms,
    wire::Protocol,
    world::{World, shown, tags},
};

pub(crate) const SERVICE: Service = Service {
    name: "logs",
    protocol: Protocol::Json,
    namespace: "",
    global: false,
    operations: OPERATIONS,
};

pub(crate) const KIND: &str = "log-group";

/// What PutRetentionPolicy takes, in days.
const RETENTIONS: &[i64] = &[
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
];

const OPERATIONS: &[Operation] = &[
    op("CreateLogGroup", "logGroupName kmsKeyId tags", on_group, create),
    op(
        "DescribeLogGroups",
        "logGroupNamePrefix logGroupNamePattern nextToken limit",
        |_, request| vec![Need::new("", request.arn("logs", "log-group:*"))],
        describe,
    ),
    op("DeleteLogGroup", "logGroupName", on_group, |world, request| {
        let name = found(world, request)?;
        world.remove(&request.region, KIND, &name);
        Ok(Value::Null)
    }),
    op("PutRetentionPolicy", "logGroupName retentionInDays", on_group, |world, request| {
        let name = found(world, request)?;
        let days = request.number("retentionInDays").unwrap_or(0);
        if !RETENTIONS.contains(&days) {
            let message = format!(
                "1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum value set"
            );
            return Err(Failure::new("InvalidParameterException", message));
        }
        group_mut(world, request, &name)?["retentionInDays"] = days.into();
        Ok(Value::Null)
    }),
    op("DeleteRetentionPolicy", "logGroupName", on_group, |world, request| {
        let name = found(world, request)?;
        group_mut(world, request, &name)?["retentionInDays"] = Value::Null;
        Ok(Value::Null)
    }),
    op("AssociateKmsKey", "logGroupName kmsKeyId", on_group, |world, request| {
        let name = found(world, request)?;
        let key = request.required("kmsKeyId")?.to_owned();
        check_key(world, request, &key, &name)?;
        group_mut(world, request, &name)?["kmsKeyId"] = key.into();
        Ok(Value::Null)
    }),
    op("DisassociateKmsKey", "logGroupName", on_group, |world, request| {
        let name = found(world, request)?;
        group_mut(world, request, &name)?["kmsKeyId"] = Value::Null;
        Ok(Value::Null)
    }),
    op("TagResource", "resourceArn tags", on_tagged, |world, request| {
        let name = found(world, request)?;
        let new = request.get("tags").as_object().cloned().unwrap_or_default();
        let group = group_mut(world, request, &name)?;
        let mut all = tags(group);
        all.extend(new);
        group["_tags"] = Value::Object(all);
        Ok(Value::Null)
    }),
    op("UntagResource", "resourceArn tagKeys", on_tagged, |world, request| {
        let name = found(world, request)?;
        let gone = request.texts("tagKeys");
        let group = group_mut(world, request, &name)?;
        let mut all = tags(group);
        all.retain(|key, _| !gone.contains(key));
        group["_tags"] = Value::Object(all);
        Ok(Value::Null)
    }),
    op("ListTagsForResource", "resourceArn", on_tagged, |world, request| {
        let name = found(world, request)?;
        Ok(json!({"tags": tags(&world.table(&request.region, KIND)[&name])}))
    }),
];

/// The group's name, from itself or from an ARN.
fn name(request: &Request) -> String {
    let arn = request.text("resourceArn").map(|arn| arn.splitn(7, ':').last().unwrap_or_default());
    arn.or_else(|| request.text("logGroupName"))
        .unwrap_or_default()
        .trim_end_matches(":*")
        .to_owned()
}

/// With what follows the name: a policy allows it by an ARN that ends with `:*` (CloudWatch Logs guide, which says of
/// tags alone that theirs does not).
fn on_group(world: &World, request: &Request) -> Vec<Need> {
    let name = name(request);
    let record = world.get(&request.region, KIND, &name);
    let arn = request.arn("logs", &format!("log-group:{name}:log-stream:"));
    let mut needs = vec![Need::new("", arn).on(record)];
    if request.has("tags") {
        needs.extend(on_tagged(world, request).into_iter().map(|mut need| {
            need.action = "logs:TagResource".into();
            need
        }));
    }
    needs
}

fn on_tagged(world: &World, request: &Request) -> Vec<Need> {
    let name = name(request);
    let record = world.get(&request.region, KIND, &name);
    vec![Need::new("", request.arn("logs", &format!("log-group:{name}"))).on(record)]
}

fn found(world: &World, request: &Request) -> Result<String, Failure> {
    let name = name(request);
    let missing =
        || Failure::new("ResourceNotFoundException", "The specified log group does not exist.");
    world.get(&request.region, KIND, &name).map(|_| name.clone()).ok_or_else(missing)
}

fn group_mut<'a>(
    world: &'a mut World,
    request: &Request,
    name: &str,
) -> Result<&'a mut Value, Failure> {
    let missing =
        || Failure::new("ResourceNotFoundException", "The specified log group does not exist.");
    world.get_mut(&request.region, KIND, name).ok_or_else(missing)
}

/// The service itself must be let in by the key's policy, for this very group.
fn check_key(world: &World, request: &Request, key: &str, name: &str) -> Result<(), Failure> {
    let group = request.arn("logs", &format!("log-group:{name}"));
    let need = Need::new("kms:GenerateDataKey", key)
        .with("kms:EncryptionContext:aws:logs:arn", group.as_str());
    let service = format!("logs.{}.amazonaws.com", request.region);
    let usable = kms::usable_arn(world, &request.region, key).is_some_and(|arn| arn == key);
    if usable && iam::service_may(world, key, &service, &need) {
        return Ok(());
    }
    let message = format!(
        "The specified KMS key does not exist or is not allowed to be used with Arn '{group}'"
    );
    Err(Failure::new("AccessDeniedException", message))
}

fn create(world: &mut World, request: &Request) -> Reply {
    let name = request.required("logGroupName")?.to_owned();
    if name.len() > 512
        || !name.chars().all(|one| one.is_ascii_alphanumeric() || "_-/.#".contains(one))
    {
        return Err(Failure::new("InvalidParameterException", "The log group name is not valid."));
    }
    if world.get(&request.region, KIND, &name).is_some() {
        return Err(Failure::new(
            "ResourceAlreadyExistsException",
            "The specified log group already exists",
        ));
    }
    if let Some(key) = request.text("kmsKeyId") {
        check_key(world, request, key, &name)?;
    }
    put(world, &request.region, &name, request.get("kmsKeyId"), request.get("tags"));
    Ok(Value::Null)
}

/// Makes a group, as the API and as AWS's own writers do.
pub(crate) fn put(world: &mut World, region: &str, name: &str, key: &Value, tags: &Value) {
    let arn = crate::request::arn("logs", region, &format!("log-group:{name}"));
    let record = json!({
        "logGroupName": name, "arn": format!("{arn}:*"), "logGroupArn": arn, "kmsKeyId": key,
        "creationTime": world.now.0, "metricFilterCount": 0, "storedBytes": 0, "logGroupClass": "STANDARD",
        "_tags": tags.as_object().cloned().unwrap_or_default(), "_arn": arn,
    });
    world.put(region, KIND, name, record);
}

fn describe(world: &mut World, request: &Request) -> Reply {
    let prefix = request.text("logGroupNamePrefix").unwrap_or_default();
    let pattern = request.text("logGroupNamePattern").unwrap_or_default();
    if !prefix.is_empty() && !pattern.is_empty() {
        let message =
            "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.";
        return Err(Failure::new("InvalidParameterException", message));
    }
    let groups: Vec<_> = world
        .table(&request.region, KIND)
        .iter()
        .filter(|(name, _)| name.starts_with(prefix) && name.contains(pattern))
        .map(|(_, group)| shown(group))
        .collect();
    let size = usize::try_from(request.number("limit").unwrap_or(50)).unwrap_or(50);
    let (items, next) = page(&groups, request.text("nextToken"), size);
    Ok(json!({"logGroups": items, "nextToken": next}))
}

/// How many lines of a group are kept.
const LINES: usize = 2_000;

/// Keeps what a function said, if its role may write that: what it may not, and what has no group, is lost, as it
/// is on AWS.
pub(crate) fn write(world: &mut World, region: &str, function: &str, role_key: &str, line: &str) {
    let group = format!("/aws/lambda/{function}");
    let may = may_write(world, region, &group, role_key);
    let at = world.now.to_string();
    let Some(group) = world.get_mut(region, KIND, &group).filter(|_| may) else { return };
    let mut lines = group["_lines"].as_array().cloned().unwrap_or_default();
    lines.push(format!("{at} {line}").into());
    let old = lines.len().saturating_sub(LINES);
    group["_lines"] = lines.split_off(old).into();
}

/// Whether a function's role may write to a group: Lambda asks when a run begins, as it writes of that itself.
pub(crate) fn may_write(world: &World, region: &str, group: &str, role_key: &str) -> bool {
    let stream =
        crate::request::arn("logs", region, &format!("log-group:{group}:log-stream:function"));
    iam::function_principal(world, role_key).is_some_and(|who| {
        let mut actions = ["logs:CreateLogStream", "logs:PutLogEvents"].into_iter();
        actions.all(|action| iam::allowed(world, &who, &Need::new(action, stream.clone())))
    })
}

impl World {
    /// Every line of every group that holds some, by region and group.
    pub(crate) fn logs(&self) -> Value {
        let mut all = json!({});
        for (region, kind, table) in self.tables() {
            for (name, group) in
                table.iter().filter(|(_, one)| kind == KIND && one["_lines"].is_array())
            {
                all[region][name] = group["_lines"].clone();
            }
        }
        all
    }

    /// What a log group holds, line by line: the moment, and what was said.
    pub fn log_lines(&self, region: &str, group: &str) -> Vec<String> {
        self.get(region, KIND, group)
            .map_or_else(Vec::new, |one| crate::request::texts(&one["_lines"]))
    }
}
