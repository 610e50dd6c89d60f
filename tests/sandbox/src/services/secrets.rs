//! Secrets Manager: secrets, their values and replicas.

use serde_json::{Value, json};

use super::{Operation, Service, op};
use crate::{
    durations::{SECRET_DELETE, SECRET_REMOVAL, SECRET_REPLICATION},
    iam::Need,
    request::{Failure, Reply, Request},
    services::kms,
    wire::Protocol,
    world::{World, shown, tag_list, tag_map, tags},
};

pub(crate) const SERVICE: Service = Service {
    name: "secretsmanager",
    protocol: Protocol::Json,
    namespace: "",
    global: false,
    operations: OPERATIONS,
};

const KIND: &str = "secret";

const OPERATIONS: &[Operation] = &[
    op(
        "CreateSecret",
        "Name ClientRequestToken Description KmsKeyId SecretString Tags AddReplicaRegions ForceOverwriteReplicaSecret",
        |_, request| {
            let name = format!("secret:{}-??????", request.text("Name").unwrap_or_default());
            vec![Need::new("", request.arn("secretsmanager", &name))]
        },
        create,
    ),
    op("DescribeSecret", "SecretId", on_secret, |world, request| {
        let name = find(world, request)?;
        Ok(described(&world.table(&request.region, KIND)[&name]))
    }),
    // No secret here has a policy of its own: none can be put.
    op("GetResourcePolicy", "SecretId", on_secret, |world, request| {
        let name = find(world, request)?;
        let secret = &world.table(&request.region, KIND)[&name];
        Ok(json!({"ARN": secret["ARN"], "Name": name}))
    }),
    op("GetSecretValue", "SecretId VersionId VersionStage", on_secret, get_value),
    op("PutSecretValue", "SecretId ClientRequestToken SecretString", on_secret, put_value),
    op("UpdateSecret", "SecretId ClientRequestToken Description KmsKeyId", on_secret, update),
    op(
        "DeleteSecret",
        "SecretId RecoveryWindowInDays ForceDeleteWithoutRecovery",
        on_secret,
        delete,
    ),
    op("RestoreSecret", "SecretId", on_secret, |world, request| {
        let name = find(world, request)?;
        let secret = secret_mut(world, request, &name)?;
        // What was deleted without recovery is only waiting to go.
        if secret["_forced"] == true {
            return Err(invalid(MARKED));
        }
        secret["DeletedDate"] = Value::Null;
        Ok(json!({"ARN": secret["ARN"], "Name": name}))
    }),
    op(
        "ReplicateSecretToRegions",
        "SecretId AddReplicaRegions ForceOverwriteReplicaSecret",
        on_secret,
        |world, request| {
            let name = active(world, request)?;
            replicate(world, request, &name)?;
            let secret = &world.table(&request.region, KIND)[&name];
            Ok(json!({"ARN": secret["ARN"], "ReplicationStatus": secret["ReplicationStatus"]}))
        },
    ),
    op("RemoveRegionsFromReplication", "SecretId RemoveReplicaRegions", on_secret, remove_regions),
    op("TagResource", "SecretId Tags", on_secret, |world, request| {
        let name = active(world, request)?;
        let secret = secret_mut(world, request, &name)?;
        let mut all = tags(secret);
        all.extend(tag_map(request.get("Tags"), "Key", "Value"));
        secret["_tags"] = Value::Object(all);
        Ok(Value::Null)
    }),
    op("UntagResource", "SecretId TagKeys", on_secret, |world, request| {
        let name = active(world, request)?;
        let gone = request.texts("TagKeys");
        let secret = secret_mut(world, request, &name)?;
        let mut all = tags(secret);
        all.retain(|key, _| !gone.contains(key));
        secret["_tags"] = Value::Object(all);
        Ok(Value::Null)
    }),
];

const MARKED: &str =
    "You can't perform this operation on the secret because it was marked for deletion.";

fn on_secret(world: &World, request: &Request) -> Vec<Need> {
    let found = find(world, request).ok();
    let record = found.and_then(|name| world.get(&request.region, KIND, &name));
    let resource = record.map_or_else(
        || {
            request.arn(
                "secretsmanager",
                &format!("secret:{}", request.text("SecretId").unwrap_or_default()),
            )
        },
        |record| record["ARN"].as_str().unwrap_or_default().to_owned(),
    );
    vec![Need::new("", resource).on(record)]
}

fn missing() -> Failure {
    let message = "Secrets Manager can't find the specified secret.";
    Failure::new("ResourceNotFoundException", message)
}

fn invalid(message: &str) -> Failure {
    Failure::new("InvalidRequestException", message)
}

/// The name of the secret that a name or a full ARN leads to.
fn find(world: &World, request: &Request) -> Result<String, Failure> {
    let id = request.required("SecretId")?;
    let table = world.table(&request.region, KIND);
    let found = table.iter().find(|(name, record)| *name == id || record["ARN"] == id);
    found.map(|(name, _)| name.clone()).ok_or_else(missing)
}

fn active(world: &World, request: &Request) -> Result<String, Failure> {
    let name = find(world, request)?;
    if world.table(&request.region, KIND)[&name]["DeletedDate"].is_null() {
        Ok(name)
    } else {
        Err(invalid(MARKED))
    }
}

fn secret_mut<'a>(
    world: &'a mut World,
    request: &Request,
    name: &str,
) -> Result<&'a mut Value, Failure> {
    world.get_mut(&request.region, KIND, name).ok_or_else(missing)
}

fn described(secret: &Value) -> Value {
    let mut shown = shown(secret);
    shown["Tags"] = tag_list(secret, "Key", "Value").into();
    let version = secret["_version"].as_str().unwrap_or_default();
    if !version.is_empty() {
        shown["VersionIdsToStages"] = json!({version: ["AWSCURRENT"]});
    }
    shown
}

fn usable_key(world: &World, request: &Request, region: &str, name: &str) -> Result<(), Failure> {
    let refused = || {
        let message = "Secrets Manager can't encrypt the protected secret text using the provided KMS key. Check that the KMS key is available, enabled, and not in an invalid state.";
        Failure::new("EncryptionFailure", message)
    };
    let arn = kms::usable_arn(world, region, name).ok_or_else(refused)?;
    for action in ["kms:GenerateDataKey", "kms:Decrypt"] {
        let need = Need::new(action, arn.as_str())
            .with("kms:ViaService", format!("secretsmanager.{region}.amazonaws.com"))
            .with("kms:CallerAccount", crate::ACCOUNT)
            .on_key(world, crate::iam::key_of(world, &arn));
        crate::dispatch::authorise(world, request, need)
            .map_err(|_| Failure::new("AccessDeniedException", "Access to KMS is not allowed"))?;
    }
    Ok(())
}

fn create(world: &mut World, request: &Request) -> Reply {
    let name = request.required("Name")?.to_owned();
    if let Some(present) = world.get(&request.region, KIND, &name) {
        if !present["DeletedDate"].is_null() {
            return Err(invalid(
                "You can't create this secret because a secret with this name is already scheduled for deletion.",
            ));
        }
        if request.has("ClientRequestToken")
            && present["_version"] == *request.get("ClientRequestToken")
        {
            return Ok(
                json!({"ARN": present["ARN"], "Name": name, "VersionId": present["_version"]}),
            );
        }
        let message = format!("The operation failed because the secret {name} already exists.");
        return Err(Failure::new("ResourceExistsException", message));
    }
    if let Some(key) = request.text("KmsKeyId") {
        usable_key(world, request, &request.region, key)?;
    }
    let mark = world.digest()[..6].to_owned();
    let arn = request.arn("secretsmanager", &format!("secret:{name}-{mark}"));
    let version = request.text("ClientRequestToken").map_or_else(|| world.uuid(), str::to_owned);
    let at = request.now.as_seconds();
    let record = json!({
        "ARN": arn, "Name": name, "Description": request.get("Description"),
        "KmsKeyId": request.get("KmsKeyId"), "CreatedDate": at, "LastChangedDate": at,
        "_value": request.get("SecretString"),
        "_version": if request.has("SecretString") { Value::from(version.clone()) } else { Value::Null },
        "_tags": tag_map(request.get("Tags"), "Key", "Value"), "_arn": arn,
    });
    world.put(&request.region, KIND, &name, record);
    if request.has("AddReplicaRegions") {
        replicate(world, request, &name)?;
    }
    let secret = &world.table(&request.region, KIND)[&name];
    Ok(
        json!({"ARN": arn, "Name": name, "VersionId": version, "ReplicationStatus": secret["ReplicationStatus"]}),
    )
}

fn replicate(world: &mut World, request: &Request, name: &str) -> Result<(), Failure> {
    for wanted in request.items("AddReplicaRegions") {
        let region = wanted["Region"].as_str().unwrap_or_default().to_owned();
        if region == request.region {
            return Err(Failure::new("InvalidParameterException", "Invalid replica region."));
        }
        if let Some(key) = wanted["KmsKeyId"].as_str() {
            usable_key(world, request, &region, key)?;
        }
        if world.get(&region, KIND, name).is_some() {
            // Told by the status, also of a replica that is still being removed.
            let why = format!(
                "Replication failed: a secret with the name {name} already exists in {region}."
            );
            let failed = json!({
                "Region": region, "KmsKeyId": wanted["KmsKeyId"], "Status": "Failed", "StatusMessage": why,
            });
            let secret = secret_mut(world, request, name)?;
            secret["PrimaryRegion"] = request.region.clone().into();
            let mut all = secret["ReplicationStatus"].as_array().cloned().unwrap_or_default();
            all.push(failed);
            secret["ReplicationStatus"] = all.into();
            continue;
        }
        let primary = world.table(&request.region, KIND)[name].clone();
        let arn = primary["ARN"].as_str().unwrap_or_default().replace(&request.region, &region);
        let mut copy = primary;
        copy["ARN"] = arn.clone().into();
        copy["_arn"] = arn.into();
        copy["KmsKeyId"] = wanted["KmsKeyId"].clone();
        copy["PrimaryRegion"] = request.region.clone().into();
        world.put(&region, KIND, name, copy);
        let secret = secret_mut(world, request, name)?;
        secret["PrimaryRegion"] = request.region.clone().into();
        let mut all = secret["ReplicationStatus"].as_array().cloned().unwrap_or_default();
        all.push(json!({"Region": region, "KmsKeyId": wanted["KmsKeyId"], "Status": "InProgress"}));
        secret["ReplicationStatus"] = all.into();
    }
    world.after(SECRET_REPLICATION, &request.region, name, |world, region, name| {
        let Some(secret) = world.get_mut(region, KIND, name) else { return };
        for status in secret["ReplicationStatus"].as_array_mut().into_iter().flatten() {
            if status["Status"] == "InProgress" {
                status["Status"] = "InSync".into();
            }
        }
    });
    Ok(())
}

fn get_value(world: &mut World, request: &Request) -> Reply {
    let name = active(world, request)?;
    let secret = &world.table(&request.region, KIND)[&name];
    if secret["_value"].is_null() {
        let message =
            "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT";
        return Err(Failure::new("ResourceNotFoundException", message));
    }
    Ok(json!({
        "ARN": secret["ARN"], "Name": name, "VersionId": secret["_version"],
        "SecretString": secret["_value"], "VersionStages": ["AWSCURRENT"], "CreatedDate": secret["CreatedDate"],
    }))
}

fn only_primary(secret: &Value, region: &str) -> Result<(), Failure> {
    if secret["PrimaryRegion"].is_null() || secret["PrimaryRegion"] == region {
        Ok(())
    } else {
        Err(invalid(
            "Operation not permitted on a replica secret. Call must be made in primary secret's region.",
        ))
    }
}

fn put_value(world: &mut World, request: &Request) -> Reply {
    let name = active(world, request)?;
    only_primary(&world.table(&request.region, KIND)[&name], &request.region)?;
    let version = request.text("ClientRequestToken").map_or_else(|| world.uuid(), str::to_owned);
    let value = request.get("SecretString").clone();
    let mut regions = vec![request.region.clone()];
    let secret = secret_mut(world, request, &name)?;
    for status in secret["ReplicationStatus"].as_array().into_iter().flatten() {
        regions.extend(status["Region"].as_str().map(str::to_owned));
    }
    let arn = secret["ARN"].clone();
    for region in regions {
        if let Some(copy) = world.get_mut(&region, KIND, &name) {
            copy["_value"] = value.clone();
            copy["_version"] = version.clone().into();
        }
    }
    Ok(json!({"ARN": arn, "Name": name, "VersionId": version, "VersionStages": ["AWSCURRENT"]}))
}

fn update(world: &mut World, request: &Request) -> Reply {
    let name = active(world, request)?;
    only_primary(&world.table(&request.region, KIND)[&name], &request.region)?;
    if let Some(key) = request.text("KmsKeyId") {
        usable_key(world, request, &request.region, key)?;
    }
    let secret = secret_mut(world, request, &name)?;
    for member in ["Description", "KmsKeyId"] {
        if request.has(member) {
            secret[member] = request.get(member).clone();
        }
    }
    Ok(json!({"ARN": secret["ARN"], "Name": name}))
}

fn delete(world: &mut World, request: &Request) -> Reply {
    let name = find(world, request)?;
    let force = request.flag("ForceDeleteWithoutRecovery").unwrap_or(false);
    if force && request.has("RecoveryWindowInDays") {
        return Err(Failure::new(
            "InvalidParameterException",
            "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.",
        ));
    }
    let secret = &world.table(&request.region, KIND)[&name];
    only_primary(secret, &request.region)?;
    if secret["ReplicationStatus"].as_array().is_some_and(|all| !all.is_empty()) {
        return Err(invalid("You can't delete secret that still has replica regions."));
    }
    let days = u64::try_from(request.number("RecoveryWindowInDays").unwrap_or(30)).unwrap_or(30);
    let seconds = if force { SECRET_DELETE } else { days * 86_400 };
    let date = request.now.plus_seconds(if force { 0 } else { seconds }).as_seconds();
    // A replica that is still on its way out is cut off, and becomes a secret of its own.
    let regions: Vec<String> = world
        .tables()
        .filter(|(region, kind, table)| {
            let its = table.get(&name).map(|one| &one["PrimaryRegion"]);
            *kind == KIND
                && *region != request.region
                && its.is_some_and(|one| *one == request.region.as_str())
        })
        .map(|(region, ..)| region.to_owned())
        .collect();
    for region in regions {
        if let Some(replica) = world.get_mut(&region, KIND, &name) {
            replica["PrimaryRegion"] = Value::Null;
        }
    }
    let secret = secret_mut(world, request, &name)?;
    secret["DeletedDate"] = date.into();
    secret["_forced"] = force.into();
    let arn = secret["ARN"].clone();
    world.after(seconds, &request.region, &name, |world, region, name| {
        let due = world.get(region, KIND, name).is_some_and(|secret| {
            secret["DeletedDate"].as_f64().is_some_and(|at| at <= world.now.as_seconds())
        });
        // It may have been restored meanwhile.
        if due {
            world.remove(region, KIND, name);
        }
    });
    Ok(json!({"ARN": arn, "Name": name, "DeletionDate": date}))
}

fn remove_regions(world: &mut World, request: &Request) -> Reply {
    let name = active(world, request)?;
    let gone = request.texts("RemoveReplicaRegions");
    only_primary(&world.table(&request.region, KIND)[&name], &request.region)?;
    for region in &gone {
        let is_replica = world
            .get(region, KIND, &name)
            .is_some_and(|one| one["PrimaryRegion"] == request.region.as_str());
        if is_replica {
            // It goes in its own time. One that has lost its primary by then stays.
            world.after(SECRET_REMOVAL, region, &name, |world, region, name| {
                let still = world
                    .get(region, KIND, name)
                    .is_some_and(|one| one["PrimaryRegion"] != Value::Null);
                if still {
                    world.remove(region, KIND, name);
                }
            });
        }
    }
    let secret = secret_mut(world, request, &name)?;
    let mut left = secret["ReplicationStatus"].as_array().cloned().unwrap_or_default();
    left.retain(|status| {
        status["Region"].as_str().is_none_or(|one| !gone.iter().any(|other| other == one))
    });
    secret["ReplicationStatus"] = left.clone().into();
    Ok(json!({"ARN": secret["ARN"], "ReplicationStatus": left}))
}
