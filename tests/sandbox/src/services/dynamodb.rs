//! DynamoDB: tables with a hash and a range key, items that are written under conditions.

use serde_json::{Map, Value, json};

use super::{Operation, Service, op};
use crate::{
    durations::TABLE_CREATE,
    iam::{self, Need},
    request::{Failure, Reply, Request},
    services::kms,
    wire::Protocol,
    world::{World, shown, tag_list, tag_map, tags},
};

pub(crate) const SERVICE: Service = Service {
    name: "dynamodb",
    protocol: Protocol::Json,
    namespace: "",
    global: false,
    operations: OPERATIONS,
};

const TABLE: &str = "dynamodb-table";

const OPERATIONS: &[Operation] = &[
    op(
        "CreateTable",
        "TableName AttributeDefinitions KeySchema BillingMode SSESpecification DeletionProtectionEnabled Tags",
        on_table,
        create,
    ),
    op("DescribeTable", "TableName", on_table, |world, request| {
        let table = found(world, request)?;
        Ok(json!({"Table": shown(table)}))
    }),
    op(
        "UpdateTable",
        "TableName SSESpecification BillingMode DeletionProtectionEnabled",
        on_table,
        update,
    ),
    op("DeleteTable", "TableName", on_table, delete),
    op(
        "PutItem",
        "TableName Item ConditionExpression ExpressionAttributeNames ExpressionAttributeValues",
        on_items,
        put_item,
    ),
    op(
        "UpdateItem",
        "TableName Key UpdateExpression ExpressionAttributeNames ExpressionAttributeValues",
        on_items,
        update_item,
    ),
    op("GetItem", "TableName Key ConsistentRead", on_items, get_item),
    op(
        "Query",
        "TableName KeyConditionExpression ExpressionAttributeNames ExpressionAttributeValues ConsistentRead",
        on_items,
        query,
    ),
    op("DescribeContinuousBackups", "TableName", on_table, |world, request| {
        backed_up(world, request).map(continuous_backups)
    }),
    op(
        "UpdateContinuousBackups",
        "TableName PointInTimeRecoverySpecification",
        on_table,
        update_continuous_backups,
    ),
    op("DescribeTimeToLive", "TableName", on_table, |world, request| {
        let table = found(world, request)?;
        let name = &table["_expires"];
        let status = if name.is_null() { "DISABLED" } else { "ENABLED" };
        Ok(json!({"TimeToLiveDescription": {"TimeToLiveStatus": status, "AttributeName": name}}))
    }),
    op("UpdateTimeToLive", "TableName TimeToLiveSpecification", on_table, update_time_to_live),
    op("TagResource", "ResourceArn Tags", on_table, |world, request| {
        let new = tag_map(request.get("Tags"), "Key", "Value");
        let table = found_mut(world, request)?;
        let mut all = tags(table);
        all.extend(new);
        table["_tags"] = Value::Object(all);
        Ok(Value::Null)
    }),
    op("UntagResource", "ResourceArn TagKeys", on_table, |world, request| {
        let gone = request.texts("TagKeys");
        let table = found_mut(world, request)?;
        let mut all = tags(table);
        all.retain(|key, _| !gone.contains(key));
        table["_tags"] = Value::Object(all);
        Ok(Value::Null)
    }),
    op("ListTagsOfResource", "ResourceArn", on_table, |world, request| {
        let table = found(world, request)?;
        Ok(json!({"Tags": tag_list(table, "Key", "Value")}))
    }),
];

fn name(request: &Request) -> String {
    let arn = request.text("ResourceArn").map(|arn| arn.rsplit('/').next().unwrap_or_default());
    arn.or_else(|| request.text("TableName")).unwrap_or_default().to_owned()
}

fn on_table(world: &World, request: &Request) -> Vec<Need> {
    let name = name(request);
    let record = world.get(&request.region, TABLE, &name);
    vec![Need::new("", request.arn("dynamodb", &format!("table/{name}"))).on(record)]
}

/// Whoever reads or writes items has to be allowed to decrypt with the table's key as well: DynamoDB asks for
/// the caller (DynamoDB guide, "Encryption at rest: usage notes").
fn on_items(world: &World, request: &Request) -> Vec<Need> {
    let mut needs = on_table(world, request);
    let record = world.get(&request.region, TABLE, &name(request));
    let key = record.and_then(|one| one["SSEDescription"]["KMSMasterKeyArn"].as_str());
    if let Some(key) = key {
        let via = format!("dynamodb.{}.amazonaws.com", request.region);
        let need = Need::new("kms:Decrypt", key).with("kms:ViaService", via);
        needs.push(need.on_key(world, iam::key_of(world, key)));
    }
    needs
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new("ValidationException", message)
}

fn missing(name: &str) -> Failure {
    let message = format!("Requested resource not found: Table: {name} not found");
    Failure::new("ResourceNotFoundException", message)
}

fn found<'a>(world: &'a World, request: &Request) -> Result<&'a Value, Failure> {
    let name = name(request);
    world.get(&request.region, TABLE, &name).ok_or_else(|| missing(&name))
}

fn found_mut<'a>(world: &'a mut World, request: &Request) -> Result<&'a mut Value, Failure> {
    let name = name(request);
    world.get_mut(&request.region, TABLE, &name).ok_or_else(|| missing(&name))
}

fn create(world: &mut World, request: &Request) -> Reply {
    let name = request.required("TableName")?.to_owned();
    let allowed = |one: char| one.is_ascii_alphanumeric() || "_.-".contains(one);
    if !(3..=255).contains(&name.len()) || !name.chars().all(allowed) {
        return Err(invalid("Invalid table name"));
    }
    if request.text("BillingMode") != Some("PAY_PER_REQUEST") {
        let message = "the sandbox has tables that are paid per request only";
        return Err(Failure { status: 501, ..Failure::new("NotImplemented", message) });
    }
    if world.get(&request.region, TABLE, &name).is_some() {
        let message = format!("Table already exists: {name}");
        return Err(Failure::new("ResourceInUseException", message));
    }
    let keys: Vec<&str> =
        request.items("KeySchema").iter().filter_map(|key| key["AttributeName"].as_str()).collect();
    let defined: Vec<&str> = request
        .items("AttributeDefinitions")
        .iter()
        .filter_map(|one| one["AttributeName"].as_str())
        .collect();
    // "An array of attributes that describe the key schema" (API reference, "CreateTable"): no order is asked for, and
    // hashicorp/aws sends its own.
    let all_defined = keys.len() == defined.len() && keys.iter().all(|key| defined.contains(key));
    if keys.is_empty() || keys.len() > 2 || !all_defined {
        return Err(invalid(
            "One or more parameter values were invalid: Some index key attributes are not defined in AttributeDefinitions",
        ));
    }
    let description = encryption(world, request)?;
    let arn = request.arn("dynamodb", &format!("table/{name}"));
    let record = json!({
        "TableName": name, "TableArn": arn, "TableId": world.uuid(), "TableStatus": "CREATING",
        "KeySchema": request.get("KeySchema"), "AttributeDefinitions": request.get("AttributeDefinitions"),
        "CreationDateTime": world.now.as_seconds(), "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
        "SSEDescription": description, "DeletionProtectionEnabled": request.flag("DeletionProtectionEnabled").unwrap_or(false),
        "TableSizeBytes": 0, "ItemCount": 0, "_items": {}, "_arn": arn,
        "_tags": tag_map(request.get("Tags"), "Key", "Value"),
    });
    world.put(&request.region, TABLE, &name, record.clone());
    world.after(TABLE_CREATE, &request.region, &name, |world, region, name| {
        if let Some(table) = world.get_mut(region, TABLE, name) {
            table["TableStatus"] = "ACTIVE".into();
        }
    });
    Ok(json!({"TableDescription": shown(&record)}))
}

/// A table by an operation on backups, which has an error of its own where there is none.
fn backed_up<'a>(world: &'a World, request: &Request) -> Result<&'a Value, Failure> {
    found(world, request).map_err(|_| {
        let message = format!("Table not found: {}", name(request));
        Failure::new("TableNotFoundException", message)
    })
}

/// Continuous backups are always on; the recovery of moments is what can be turned on and off.
fn continuous_backups(table: &Value) -> Value {
    let days = &table["_recovery_days"];
    let recovery = if days.is_null() {
        json!({"PointInTimeRecoveryStatus": "DISABLED"})
    } else {
        json!({"PointInTimeRecoveryStatus": "ENABLED", "RecoveryPeriodInDays": days})
    };
    json!({"ContinuousBackupsDescription": {
        "ContinuousBackupsStatus": "ENABLED", "PointInTimeRecoveryDescription": recovery,
    }})
}

fn update_continuous_backups(world: &mut World, request: &Request) -> Reply {
    let wanted = request.get("PointInTimeRecoverySpecification").clone();
    let days = wanted["RecoveryPeriodInDays"].as_u64().unwrap_or(35);
    if !(1..=35).contains(&days) {
        return Err(invalid("RecoveryPeriodInDays must be from 1 to 35"));
    }
    if backed_up(world, request)?["TableStatus"] != "ACTIVE" {
        let message = "Backups are being enabled for the table. Please retry later";
        return Err(Failure::new("ContinuousBackupsUnavailableException", message));
    }
    let table = found_mut(world, request)?;
    let on = wanted["PointInTimeRecoveryEnabled"] == true;
    table["_recovery_days"] = if on { days.into() } else { Value::Null };
    Ok(continuous_backups(table))
}

/// How long a change of it may take, and another one is refused, in seconds (API reference, "UpdateTimeToLive").
const TIME_TO_LIVE: u64 = 3600;

fn update_time_to_live(world: &mut World, request: &Request) -> Reply {
    let wanted = request.get("TimeToLiveSpecification").clone();
    let now = request.now;
    let table = found_mut(world, request)?;
    if table["TableStatus"] != "ACTIVE" {
        let message = "Attempt to change a resource which is still in use";
        return Err(Failure::new("ResourceInUseException", message));
    }
    if table["_expires_until"].as_u64().is_some_and(|until| now.0 < until) {
        let message = "Time to live has been modified multiple times within a fixed interval";
        return Err(invalid(message));
    }
    let (on, active) = (wanted["Enabled"] == true, !table["_expires"].is_null());
    if active && table["_expires"] != wanted["AttributeName"] {
        return Err(invalid("TimeToLive is active on a different AttributeName"));
    }
    if on == active {
        let state = if on { "enabled" } else { "disabled" };
        return Err(invalid(format!("TimeToLive is already {state}")));
    }
    table["_expires"] = if on { wanted["AttributeName"].clone() } else { Value::Null };
    table["_expires_until"] = now.plus_seconds(TIME_TO_LIVE).0.into();
    Ok(json!({"TimeToLiveSpecification": wanted}))
}

fn encryption(world: &World, request: &Request) -> Reply {
    let wanted = request.get("SSESpecification");
    if wanted["Enabled"] != true {
        return Ok(Value::Null);
    }
    let key = wanted["KMSMasterKeyId"].as_str().unwrap_or_default();
    let arn = kms::usable_arn(world, &request.region, key)
        .filter(|arn| kms::may_grant(world, request, arn))
        .ok_or_else(|| invalid("KMS key access denied or the key does not exist"))?;
    Ok(json!({"Status": "ENABLED", "SSEType": "KMS", "KMSMasterKeyArn": arn}))
}

/// Its items can be used meanwhile.
fn update(world: &mut World, request: &Request) -> Reply {
    let description = encryption(world, request)?;
    let billing = request.text("BillingMode").map(str::to_owned);
    let protected = request.flag("DeletionProtectionEnabled");
    let table = found_mut(world, request)?;
    if table["TableStatus"] != "ACTIVE" {
        let message = "Attempt to change a resource which is still in use";
        return Err(Failure::new("ResourceInUseException", message));
    }
    if request.has("SSESpecification") {
        table["SSEDescription"] = description;
    }
    if let Some(billing) = billing {
        table["BillingModeSummary"]["BillingMode"] = billing.into();
    }
    if let Some(protected) = protected {
        table["DeletionProtectionEnabled"] = protected.into();
    }
    table["TableStatus"] = "UPDATING".into();
    let view = shown(table);
    let name = name(request);
    world.after(TABLE_CREATE, &request.region, &name, |world, region, name| {
        if let Some(table) = world.get_mut(region, TABLE, name) {
            table["TableStatus"] = "ACTIVE".into();
        }
    });
    Ok(json!({"TableDescription": view}))
}

fn delete(world: &mut World, request: &Request) -> Reply {
    let table = found_mut(world, request)?;
    if table["DeletionProtectionEnabled"] == true {
        return Err(invalid(
            "Resource cannot be deleted as it is currently protected against deletion. Disable deletion protection first.",
        ));
    }
    if table["TableStatus"] != "ACTIVE" {
        let message =
            "Attempt to change a resource which is still in use: Table is being created or deleted";
        return Err(Failure::new("ResourceInUseException", message));
    }
    table["TableStatus"] = "DELETING".into();
    let view = shown(table);
    let name = name(request);
    world.after(TABLE_CREATE, &request.region, &name, |world, region, name| {
        world.remove(region, TABLE, name);
    });
    Ok(json!({"TableDescription": view}))
}

/// A table that can be read and written.
fn active<'a>(world: &'a mut World, request: &Request) -> Result<&'a mut Value, Failure> {
    let name = name(request);
    let table = found_mut(world, request)?;
    if ["ACTIVE", "UPDATING"].iter().any(|state| table["TableStatus"] == *state) {
        Ok(table)
    } else {
        Err(missing(&name))
    }
}

/// The key of an item in one text.
fn key(table: &Value, item: &Value) -> Result<String, Failure> {
    let names = table["KeySchema"].as_array().into_iter().flatten();
    let parts: Option<Vec<String>> = names
        .map(|one| Some(item[one["AttributeName"].as_str()?]["S"].as_str()?.to_owned()))
        .collect();
    parts.map(|parts| parts.join("\u{1}")).ok_or_else(|| {
        invalid("One or more parameter values were invalid: Missing the key in the item")
    })
}

/// The name and the value that an equality compares.
fn sides<'a>(request: &'a Request, clause: &'a str) -> Result<(&'a str, &'a Value), Failure> {
    let odd = || invalid(format!("the sandbox does not understand the expression {clause:?}"));
    let (left, right) = clause.split_once('=').ok_or_else(odd)?;
    let value = &request.get("ExpressionAttributeValues")[right.trim()];
    if value.is_null() {
        return Err(invalid(format!("An expression attribute value is not defined: {right}")));
    }
    Ok((attribute(request, left.trim())?, value))
}

fn attribute<'a>(request: &'a Request, name: &'a str) -> Result<&'a str, Failure> {
    if !name.starts_with('#') {
        return Ok(name);
    }
    let found = request.get("ExpressionAttributeNames")[name].as_str();
    found.ok_or_else(|| invalid(format!("An expression attribute name is not defined: {name}")))
}

/// Equalities and absences, joined by AND.
fn holds(request: &Request, expression: &str, item: Option<&Value>) -> Result<bool, Failure> {
    for clause in expression.split(" AND ").map(str::trim) {
        let absent =
            clause.strip_prefix("attribute_not_exists(").and_then(|one| one.strip_suffix(')'));
        let held = match absent {
            Some(name) => {
                let name = attribute(request, name)?;
                item.is_none_or(|item| item[name].is_null())
            }
            None => {
                let (name, value) = sides(request, clause)?;
                item.is_some_and(|item| item[name] == *value)
            }
        };
        if !held {
            return Ok(false);
        }
    }
    Ok(true)
}

fn put_item(world: &mut World, request: &Request) -> Reply {
    let item = request.get("Item").clone();
    if item.to_string().len() > 400 * 1024 {
        return Err(invalid("Item size has exceeded the maximum allowed size"));
    }
    let table = active(world, request)?;
    let key = key(table, &item)?;
    if let Some(expression) = request.text("ConditionExpression") {
        let present = Some(&table["_items"][&key]).filter(|one| !one.is_null());
        if !holds(request, expression, present)? {
            let message = "The conditional request failed";
            return Err(Failure::new("ConditionalCheckFailedException", message));
        }
    }
    table["_items"][key] = item;
    Ok(json!({}))
}

/// `SET` and `REMOVE` of plain attributes; an item that is not there is made.
fn update_item(world: &mut World, request: &Request) -> Reply {
    let expression = request.required("UpdateExpression")?.to_owned();
    let table = active(world, request)?;
    let key = key(table, request.get("Key"))?;
    let mut item = table["_items"][&key].clone();
    if item.is_null() {
        item = request.get("Key").clone();
    }
    let (set, remove) = match expression.split_once("REMOVE ") {
        Some((set, remove)) => (set.trim(), remove),
        None => (expression.trim(), ""),
    };
    let sets = set.strip_prefix("SET ").unwrap_or_default();
    if !set.is_empty() && sets.is_empty() {
        return Err(invalid(format!("the sandbox does not understand {expression:?}")));
    }
    for clause in sets.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        let (name, value) = sides(request, clause)?;
        item[name] = value.clone();
    }
    for name in remove.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        let name = attribute(request, name)?;
        if let Some(members) = item.as_object_mut() {
            members.shift_remove(name);
        }
    }
    table["_items"][key] = item;
    Ok(json!({}))
}

fn get_item(world: &mut World, request: &Request) -> Reply {
    let table = active(world, request)?;
    let key = key(table, request.get("Key"))?;
    let item = table["_items"][&key].clone();
    Ok(if item.is_null() { json!({}) } else { json!({"Item": item}) })
}

fn query(world: &mut World, request: &Request) -> Reply {
    let expression = request.required("KeyConditionExpression")?.to_owned();
    let (name, value) = sides(request, &expression)?;
    let (name, value) = (name.to_owned(), value.clone());
    let table = active(world, request)?;
    if table["KeySchema"][0]["AttributeName"] != name.as_str() {
        return Err(invalid("Query condition missed key schema element"));
    }
    let all = table["_items"].as_object().cloned().unwrap_or_else(Map::new);
    let items: Vec<Value> = all.into_values().filter(|item| item[&name] == value).collect();
    Ok(json!({"Count": items.len(), "ScannedCount": items.len(), "Items": items}))
}
