//! KMS: keys, their policies and aliases.

use serde_json::{Map, Value, json};

use super::{Operation, Service, any, op, page};
use crate::{
    durations::KEY_TAGS,
    iam::{self, Need},
    request::{Failure, Reply, Request},
    wire::Protocol,
    world::{World, tag_list, tag_map, tags},
};

pub(crate) const SERVICE: Service = Service {
    name: "kms",
    protocol: Protocol::Json,
    namespace: "",
    global: false,
    operations: OPERATIONS,
};

const KEY: &str = "kms-key";
const ALIAS: &str = "kms-alias";

const OPERATIONS: &[Operation] = &[
    op(
        "CreateKey",
        "Policy Description Tags KeyUsage KeySpec CustomerMasterKeySpec Origin MultiRegion BypassPolicyLockoutSafetyCheck",
        any,
        create_key,
    ),
    op("DescribeKey", "KeyId", on_key, |world, request| {
        let id = key_id(world, request)?;
        Ok(json!({"KeyMetadata": crate::world::shown(&world.table(&request.region, KEY)[&id])}))
    }),
    op("ListKeys", "Limit Marker", any, list_keys),
    op("ListAliases", "KeyId Limit Marker", any, list_aliases),
    op("CreateAlias", "AliasName TargetKeyId", on_alias_and_target, create_alias),
    op("UpdateAlias", "AliasName TargetKeyId", on_alias_and_target, update_alias),
    op("DeleteAlias", "AliasName", on_alias_and_target, delete_alias),
    op("GetKeyPolicy", "KeyId PolicyName", on_key, |world, request| {
        let id = key_id(world, request)?;
        let policy = world.table(&request.region, KEY)[&id]["_policy"].to_string();
        Ok(json!({"Policy": policy, "PolicyName": "default"}))
    }),
    op(
        "PutKeyPolicy",
        "KeyId PolicyName Policy BypassPolicyLockoutSafetyCheck",
        on_key,
        put_key_policy,
    ),
    op("EnableKeyRotation", "KeyId RotationPeriodInDays", on_key, |world, request| {
        rotate(world, request, true)
    }),
    op("DisableKeyRotation", "KeyId", on_key, |world, request| rotate(world, request, false)),
    op("GetKeyRotationStatus", "KeyId", on_key, |world, request| {
        let id = usable(world, request)?;
        let key = &world.table(&request.region, KEY)[&id];
        let period = key["_rotation"].as_bool().filter(|on| *on).map(|_| {
            // A year, unless it is told (KMS API, EnableKeyRotation).
            key["_rotation_days"].as_i64().unwrap_or(365)
        });
        Ok(
            json!({"KeyRotationEnabled": key["_rotation"], "KeyId": id, "RotationPeriodInDays": period}),
        )
    }),
    op("UpdateKeyDescription", "KeyId Description", on_key, |world, request| {
        let id = usable(world, request)?;
        let text = request.required("Description")?.to_owned();
        key_mut(world, request, &id)?["Description"] = text.into();
        Ok(Value::Null)
    }),
    op("EnableKey", "KeyId", on_key, |world, request| set_enabled(world, request, true)),
    op("DisableKey", "KeyId", on_key, |world, request| set_enabled(world, request, false)),
    op("ScheduleKeyDeletion", "KeyId PendingWindowInDays", on_key, schedule_deletion),
    op("CancelKeyDeletion", "KeyId", on_key, cancel_deletion),
    op("TagResource", "KeyId Tags", on_key, |world, request| {
        let id = key_id(world, request)?;
        let new = tag_map(request.get("Tags"), "TagKey", "TagValue");
        let key = key_mut(world, request, &id)?;
        let mut all = tags(key);
        all.extend(new);
        retag(key, request, all);
        Ok(Value::Null)
    }),
    op("UntagResource", "KeyId TagKeys", on_key, |world, request| {
        let id = key_id(world, request)?;
        let gone = request.texts("TagKeys");
        let key = key_mut(world, request, &id)?;
        let mut all = tags(key);
        all.retain(|name, _| !gone.contains(name));
        retag(key, request, all);
        Ok(Value::Null)
    }),
    op("ListResourceTags", "KeyId Limit Marker", on_key, |world, request| {
        let id = key_id(world, request)?;
        let key = &world.table(&request.region, KEY)[&id];
        Ok(json!({"Tags": tag_list(key, "TagKey", "TagValue"), "Truncated": false}))
    }),
];

/// The key that an id, ARN, alias or alias ARN leads to.
pub(crate) fn resolve(world: &World, region: &str, name: &str) -> Option<String> {
    let name = match name.strip_prefix("arn:aws:kms:") {
        Some(rest) => {
            let (its_region, rest) = rest.split_once(':')?;
            if its_region != region {
                return None;
            }
            rest.split_once(':')?.1
        }
        None => name,
    };
    let id = match world.get(region, ALIAS, name) {
        Some(alias) => alias["TargetKeyId"].as_str()?.to_owned(),
        None => name.strip_prefix("key/").unwrap_or(name).to_owned(),
    };
    world.get(region, KEY, &id).map(|_| id)
}

/// The ARN of a key that can be used for encryption now.
pub(crate) fn usable_arn(world: &World, region: &str, name: &str) -> Option<String> {
    let id = resolve(world, region, name)?;
    let key = world.get(region, KEY, &id)?;
    (key["KeyState"] == "Enabled").then(|| key["Arn"].as_str().unwrap_or_default().to_owned())
}

fn key_id(world: &World, request: &Request) -> Result<String, Failure> {
    let name = request.required("KeyId")?;
    resolve(world, &request.region, name).ok_or_else(|| missing(request, name))
}

fn missing(request: &Request, name: &str) -> Failure {
    let message = if name.starts_with("alias/") {
        format!("Alias {} is not found.", request.arn("kms", name))
    } else if name.starts_with("arn:") {
        format!("Key '{name}' does not exist")
    } else {
        format!("Key '{}' does not exist", request.arn("kms", &format!("key/{name}")))
    };
    Failure::new("NotFoundException", message)
}

fn key_mut<'a>(
    world: &'a mut World,
    request: &Request,
    id: &str,
) -> Result<&'a mut Value, Failure> {
    world.get_mut(&request.region, KEY, id).ok_or_else(|| missing(request, id))
}

/// Conditions know of it a while later.
fn retag(key: &mut Value, request: &Request, all: Map<String, Value>) {
    key["_tags_before"] = Value::Object(tags(key));
    key["_tags_count"] = request.now.plus_seconds(KEY_TAGS).0.into();
    key["_tags"] = Value::Object(all);
}

fn usable(world: &World, request: &Request) -> Result<String, Failure> {
    let id = key_id(world, request)?;
    let key = &world.table(&request.region, KEY)[&id];
    if key["KeyState"] == "PendingDeletion" {
        let message = format!("{} is pending deletion.", key["Arn"].as_str().unwrap_or_default());
        return Err(Failure::new("KMSInvalidStateException", message));
    }
    Ok(id)
}

fn on_key(world: &World, request: &Request) -> Vec<Need> {
    let name = request.text("KeyId").unwrap_or_default();
    let id = resolve(world, &request.region, name);
    let key = id.as_ref().and_then(|id| world.get(&request.region, KEY, id));
    let resource = key.map_or_else(
        || request.arn("kms", &format!("key/{name}")),
        |key| key["Arn"].as_str().unwrap_or_default().to_owned(),
    );
    let mut need = Need::new("", resource).on_key(world, key);
    if let Some(alias) = request.text("KeyId").filter(|name| name.starts_with("alias/")) {
        need = need.with("kms:RequestAlias", alias);
    }
    vec![need]
}

/// Aliases need the permission on both sides.
fn on_alias_and_target(world: &World, request: &Request) -> Vec<Need> {
    let alias = request.text("AliasName").unwrap_or_default();
    let mut needs = vec![Need::new("", request.arn("kms", alias))];
    let known = world.get(&request.region, ALIAS, alias);
    let targets = [request.text("TargetKeyId"), known.and_then(|one| one["TargetKeyId"].as_str())];
    for name in targets.into_iter().flatten() {
        let id = resolve(world, &request.region, name);
        if let Some(key) = id.and_then(|id| world.get(&request.region, KEY, &id)) {
            needs.push(
                Need::new("", key["Arn"].as_str().unwrap_or_default()).on_key(world, Some(key)),
            );
        }
    }
    needs
}

/// What a policy must be before KMS takes it.
fn checked_policy(world: &World, request: &Request, arn: &str) -> Result<Value, Failure> {
    let malformed = |message: &str| Failure::new("MalformedPolicyDocumentException", message);
    let text = request.text("Policy").unwrap_or_default();
    let policy: Value =
        serde_json::from_str(text).map_err(|_| malformed("Policy is not valid JSON"))?;
    if iam::statements(&policy).is_empty() {
        return Err(malformed("Policy contains no statements"));
    }
    if text.len() > 32 * 1024 {
        return Err(Failure::new(
            "LimitExceededException",
            "The policy is longer than 32 kilobytes",
        ));
    }
    if iam::statements(&policy)
        .iter()
        .any(|one| one["Principal"].is_null() || one["Resource"].is_null())
    {
        return Err(malformed("Policy contains a statement with no principal or no resource."));
    }
    if !iam::unknown_principals(world, &policy).is_empty() {
        return Err(malformed("Policy contains a statement with one or more invalid principals."));
    }
    let locked_out = !request.flag("BypassPolicyLockoutSafetyCheck").unwrap_or(false)
        && !iam::policy_allows(world, &policy, &request.principal, "kms:PutKeyPolicy", arn);
    if locked_out {
        return Err(malformed(
            "The new key policy will not allow you to update the key policy in the future.",
        ));
    }
    Ok(policy)
}

fn create_key(world: &mut World, request: &Request) -> Reply {
    for (member, only) in [
        ("KeyUsage", "ENCRYPT_DECRYPT"),
        ("KeySpec", "SYMMETRIC_DEFAULT"),
        ("CustomerMasterKeySpec", "SYMMETRIC_DEFAULT"),
        ("Origin", "AWS_KMS"),
    ] {
        if request.text(member).is_some_and(|given| given != only) {
            return Err(Failure::new(
                "UnsupportedOperationException",
                format!("the sandbox makes only {only} keys"),
            ));
        }
    }
    let id = world.uuid();
    let arn = request.arn("kms", &format!("key/{id}"));
    let policy = if request.has("Policy") {
        checked_policy(world, request, &arn)?
    } else {
        json!({"Version": "2012-10-17", "Id": "key-default-1", "Statement": [{
            "Sid": "Enable IAM User Permissions", "Effect": "Allow",
            "Principal": {"AWS": format!("arn:aws:iam::{}:root", crate::ACCOUNT)},
            "Action": "kms:*", "Resource": "*"}]})
    };
    let new_tags = tag_map(request.get("Tags"), "TagKey", "TagValue");
    let mut record = json!({
        "AWSAccountId": crate::ACCOUNT, "KeyId": id, "Arn": arn,
        "CreationDate": request.now.as_seconds(), "Enabled": true,
        "Description": request.text("Description").unwrap_or_default(),
        "KeyUsage": "ENCRYPT_DECRYPT", "KeyState": "Enabled", "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER", "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "KeySpec": "SYMMETRIC_DEFAULT", "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "MultiRegion": false, "_policy": policy, "_rotation": false, "_arn": arn,
    });
    retag(&mut record, request, new_tags);
    world.put(&request.region, KEY, &id, record.clone());
    Ok(json!({"KeyMetadata": crate::world::shown(&record)}))
}

fn list_keys(world: &mut World, request: &Request) -> Reply {
    let keys: Vec<_> = world
        .table(&request.region, KEY)
        .values()
        .map(|key| json!({"KeyId": key["KeyId"], "KeyArn": key["Arn"]}))
        .collect();
    let size = usize::try_from(request.number("Limit").unwrap_or(100)).unwrap_or(100);
    let (items, next) = page(&keys, request.text("Marker"), size);
    Ok(json!({"Keys": items, "Truncated": next.is_some(), "NextMarker": next}))
}

fn list_aliases(world: &mut World, request: &Request) -> Reply {
    let of = match request.text("KeyId") {
        Some(_) => Some(key_id(world, request)?),
        None => None,
    };
    let aliases: Vec<_> = world
        .table(&request.region, ALIAS)
        .values()
        .filter(|alias| of.as_ref().is_none_or(|id| alias["TargetKeyId"] == id.as_str()))
        .map(crate::world::shown)
        .collect();
    let size = usize::try_from(request.number("Limit").unwrap_or(50)).unwrap_or(50);
    let (items, next) = page(&aliases, request.text("Marker"), size);
    Ok(json!({"Aliases": items, "Truncated": next.is_some(), "NextMarker": next}))
}

fn alias_target(world: &World, request: &Request) -> Result<String, Failure> {
    let target = request.required("TargetKeyId")?;
    let id = resolve(world, &request.region, target).ok_or_else(|| missing(request, target))?;
    let key = &world.table(&request.region, KEY)[&id];
    if key["KeyState"] == "PendingDeletion" {
        let message = format!("{} is pending deletion.", key["Arn"].as_str().unwrap_or_default());
        return Err(Failure::new("KMSInvalidStateException", message));
    }
    Ok(id)
}

fn create_alias(world: &mut World, request: &Request) -> Reply {
    let name = request.required("AliasName")?.to_owned();
    let rest = name.strip_prefix("alias/").filter(|rest| {
        !rest.is_empty()
            && rest.chars().all(|one| one.is_ascii_alphanumeric() || "/_-".contains(one))
    });
    if rest.is_none_or(|rest| rest.starts_with("aws/")) {
        let message = "Alias must start with the prefix \"alias/\". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html";
        return Err(Failure::new("ValidationException", message));
    }
    let id = alias_target(world, request)?;
    let arn = request.arn("kms", &name);
    if world.get(&request.region, ALIAS, &name).is_some() {
        let message = format!("An alias with the name {arn} already exists");
        return Err(Failure::new("AlreadyExistsException", message));
    }
    let at = request.now.as_seconds();
    let record = json!({"AliasName": name, "AliasArn": arn, "TargetKeyId": id, "CreationDate": at, "LastUpdatedDate": at});
    world.put(&request.region, ALIAS, &name, record);
    Ok(Value::Null)
}

fn missing_alias(request: &Request, name: &str) -> Failure {
    let message = format!("Alias {} is not found.", request.arn("kms", name));
    Failure::new("NotFoundException", message)
}

fn update_alias(world: &mut World, request: &Request) -> Reply {
    let name = request.required("AliasName")?.to_owned();
    let id = alias_target(world, request)?;
    let alias = world.get_mut(&request.region, ALIAS, &name);
    alias.ok_or_else(|| missing_alias(request, &name))?["TargetKeyId"] = id.into();
    Ok(Value::Null)
}

fn delete_alias(world: &mut World, request: &Request) -> Reply {
    let name = request.required("AliasName")?;
    let gone = world.remove(&request.region, ALIAS, name);
    gone.map(|_| Value::Null).ok_or_else(|| missing_alias(request, name))
}

fn put_key_policy(world: &mut World, request: &Request) -> Reply {
    let id = usable(world, request)?;
    let arn = world.table(&request.region, KEY)[&id]["Arn"].as_str().unwrap_or_default().to_owned();
    let policy = checked_policy(world, request, &arn)?;
    key_mut(world, request, &id)?["_policy"] = policy;
    Ok(Value::Null)
}

fn rotate(world: &mut World, request: &Request, on: bool) -> Reply {
    let id = usable(world, request)?;
    let days = request.number("RotationPeriodInDays").unwrap_or(365);
    if !(90..=2560).contains(&days) {
        let message = format!(
            "1 validation error detected: Value '{days}' at 'rotationPeriodInDays' failed to satisfy constraint"
        );
        return Err(Failure::new("ValidationException", message));
    }
    let key = key_mut(world, request, &id)?;
    if key["KeyState"] == "Disabled" {
        let message = format!("{} is disabled.", key["Arn"].as_str().unwrap_or_default());
        return Err(Failure::new("DisabledException", message));
    }
    key["_rotation"] = on.into();
    if on {
        key["_rotation_days"] = days.into();
    }
    Ok(Value::Null)
}

fn set_enabled(world: &mut World, request: &Request, on: bool) -> Reply {
    let id = usable(world, request)?;
    let key = key_mut(world, request, &id)?;
    key["Enabled"] = on.into();
    key["KeyState"] = if on { "Enabled" } else { "Disabled" }.into();
    let arn = key["Arn"].as_str().unwrap_or_default().to_owned();
    super::rds::key_changed(world, &request.region, &arn);
    Ok(Value::Null)
}

fn schedule_deletion(world: &mut World, request: &Request) -> Reply {
    let days = request.number("PendingWindowInDays").unwrap_or(30);
    if !(7..=30).contains(&days) {
        let message = "PendingWindowInDays must be between 7 and 30 (inclusive).";
        return Err(Failure::new("ValidationException", message));
    }
    let id = usable(world, request)?;
    let seconds = u64::try_from(days).unwrap_or(30) * 86_400;
    let date = request.now.plus_seconds(seconds).as_seconds();
    let key = key_mut(world, request, &id)?;
    key["KeyState"] = "PendingDeletion".into();
    key["Enabled"] = false.into();
    key["DeletionDate"] = date.into();
    let arn = key["Arn"].clone();
    super::rds::key_changed(world, &request.region, arn.as_str().unwrap_or_default());
    world.after(seconds, &request.region, &id, |world, region, id| {
        let due = world.get(region, KEY, id).is_some_and(|key| {
            key["DeletionDate"].as_f64().is_some_and(|at| at <= world.now.as_seconds())
        });
        if due {
            world.remove(region, KEY, id);
            // Only now do its aliases go.
            world.table_mut(region, ALIAS).retain(|_, alias| alias["TargetKeyId"] != id);
        }
    });
    Ok(
        json!({"KeyId": arn, "DeletionDate": date, "KeyState": "PendingDeletion", "PendingWindowInDays": days}),
    )
}

fn cancel_deletion(world: &mut World, request: &Request) -> Reply {
    let id = key_id(world, request)?;
    let key = key_mut(world, request, &id)?;
    if key["KeyState"] != "PendingDeletion" {
        let message =
            format!("{} is not pending deletion.", key["Arn"].as_str().unwrap_or_default());
        return Err(Failure::new("KMSInvalidStateException", message));
    }
    key["KeyState"] = "Disabled".into();
    key["DeletionDate"] = Value::Null;
    Ok(json!({"KeyId": key["Arn"]}))
}

/// Whether the caller may let a service use a key on its behalf. RDS by the Service Authorization Reference,
/// DynamoDB by its guide ("Authorizing use of a customer managed key").
pub(crate) fn may_grant(world: &World, request: &Request, arn: &str) -> bool {
    let own: &[&str] = match request.service {
        "dynamodb" => MANIFOLD,
        _ => &["DescribeKey", "CreateGrant", "Decrypt", "GenerateDataKey"],
    };
    may_use(world, request, arn, own)
}

/// Whether the caller may have a snapshot copied from one key to another: on both (RDS guide, "Sharing encrypted
/// snapshots", which names the actions; of another region nothing else is said).
pub(crate) fn may_copy(world: &World, request: &Request, arn: &str) -> bool {
    may_use(world, request, arn, MANIFOLD)
}

const MANIFOLD: &[&str] = &[
    "DescribeKey",
    "CreateGrant",
    "Encrypt",
    "Decrypt",
    "ReEncryptFrom",
    "ReEncryptTo",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
];

fn may_use(world: &World, request: &Request, arn: &str, actions: &[&str]) -> bool {
    let region = arn.split(':').nth(3).unwrap_or_default();
    let via = format!("{}.{region}.amazonaws.com", request.service);
    actions.iter().all(|action| {
        let mut need = Need::new(format!("kms:{action}"), arn)
            .with("kms:ViaService", via.as_str())
            .with("kms:CallerAccount", crate::ACCOUNT)
            .on_key(world, iam::key_of(world, arn));
        if *action == "CreateGrant" {
            need = need.with("kms:GrantIsForAWSResource", "true");
        }
        crate::dispatch::authorise(world, request, need).is_ok()
    })
}

/// The names of a key's policy statements, for the inventory.
pub(crate) fn is_pending(record: &Value) -> bool {
    record["KeyState"] == "PendingDeletion"
}
