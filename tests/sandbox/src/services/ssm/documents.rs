//! Documents and their versions.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::schema;
use crate::{
    iam::Need,
    request::{Failure, Reply, Request},
    services::page,
    world::{World, shown, tag_list, tag_map},
};

pub(super) const DOCUMENT: &str = "ssm-document";
/// Bytes of a document (aws-facts 9).
const LARGEST: usize = 64 * 1024;
/// Until a new version can be used, in seconds.
const CREATING: u64 = 2;

pub(super) fn on_document(world: &World, request: &Request) -> Vec<Need> {
    let name = request.text("Name").or_else(|| request.text("DocumentName"));
    vec![need(world, request, "", name.unwrap_or("*"))]
}

pub(super) fn need(world: &World, request: &Request, action: &str, name: &str) -> Need {
    let record = world.get(&request.region, DOCUMENT, name);
    Need::new(action, request.arn("ssm", &format!("document/{name}"))).on(record)
}

fn missing(name: &str) -> Failure {
    let message = format!("Document with name {name} does not exist.");
    Failure::new("InvalidDocument", message)
}

pub(super) fn found<'a>(world: &'a World, request: &Request) -> Result<&'a Value, Failure> {
    let name = request.required("Name")?;
    world.get(&request.region, DOCUMENT, name).ok_or_else(|| missing(name))
}

fn content(request: &Request) -> Result<String, Failure> {
    let text = request.required("Content")?;
    if text.len() > LARGEST {
        let message = "The size limit of a document is 64 KB.";
        return Err(Failure::new("MaxDocumentSizeExceeded", message));
    }
    if serde_json::from_str::<Value>(text).is_ok_and(|one| one["schemaVersion"] != "0.3") {
        let message = "The version of the document schema isn't supported.";
        return Err(Failure::new("InvalidDocumentSchemaVersion", message));
    }
    schema::parse(text).map_err(|why| Failure::new("InvalidDocumentContent", why))?;
    Ok(text.to_owned())
}

fn is_name(text: &str) -> bool {
    let fits = |one: char| one.is_ascii_alphanumeric() || "_-.".contains(one);
    (3..=128).contains(&text.len()) && text.chars().all(fits)
}

fn version(number: usize, request: &Request, content: &str) -> Value {
    let hash = Sha256::digest(content.as_bytes());
    json!({
        "DocumentVersion": number.to_string(), "VersionName": request.get("VersionName"), "Content": content,
        "Hash": hash.iter().map(|one| format!("{one:02x}")).collect::<String>(),
    })
}

/// It takes a moment until a new version can be used.
fn settle(world: &mut World, region: &str, name: &str) {
    world.after(CREATING, region, name, |world, region, name| {
        if let Some(one) = world.get_mut(region, DOCUMENT, name) {
            one["Status"] = "Active".into();
        }
    });
}

pub(super) fn create(world: &mut World, request: &Request) -> Reply {
    let name = request.required("Name")?.to_owned();
    let reserved = ["aws", "amazon", "amzn"];
    if !is_name(&name) || reserved.iter().any(|one| name.to_lowercase().starts_with(one)) {
        let message = format!("Value '{name}' at 'name' failed to satisfy constraint");
        return Err(Failure::new("ValidationException", message));
    }
    if request.text("DocumentType") != Some("Automation")
        || request.text("DocumentFormat").is_some_and(|one| one != "JSON")
    {
        let message = "the sandbox has automations in JSON only";
        return Err(Failure { status: 501, ..Failure::new("NotImplemented", message) });
    }
    if world.get(&request.region, DOCUMENT, &name).is_some() {
        let message = format!("Document with name {name} already exists.");
        return Err(Failure::new("DocumentAlreadyExists", message));
    }
    let text = content(request)?;
    let arn = request.arn("ssm", &format!("document/{name}"));
    let record = json!({
        "Name": name, "Status": "Creating", "DocumentType": "Automation", "DocumentFormat": "JSON",
        "SchemaVersion": "0.3", "Owner": crate::ACCOUNT, "CreatedDate": request.now.as_seconds(),
        "PlatformTypes": ["Windows", "Linux", "MacOS"], "DefaultVersion": "1", "HashType": "Sha256",
        "_arn": arn, "_tags": tag_map(request.get("Tags"), "Key", "Value"),
        "_versions": [version(1, request, &text)],
    });
    world.put(&request.region, DOCUMENT, &name, record.clone());
    settle(world, &request.region, &name);
    Ok(json!({"DocumentDescription": described(&record, "1")}))
}

fn latest(record: &Value) -> String {
    record["_versions"].as_array().map_or(0, Vec::len).to_string()
}

/// The version that is meant: a number, `$LATEST`, `$DEFAULT`, or, unsaid, the default one.
fn meant(record: &Value, asked: Option<&str>) -> String {
    match asked {
        Some("$LATEST") => latest(record),
        None | Some("$DEFAULT") => record["DefaultVersion"].as_str().unwrap_or("1").to_owned(),
        Some(number) => number.to_owned(),
    }
}

pub(super) fn version_of<'a>(record: &'a Value, number: &str) -> Option<&'a Value> {
    record["_versions"].as_array()?.iter().find(|one| one["DocumentVersion"] == number)
}

fn described(record: &Value, number: &str) -> Value {
    let mut all = shown(record);
    let version = version_of(record, number).cloned().unwrap_or_default();
    for member in ["DocumentVersion", "VersionName", "Hash"] {
        all[member] = version[member].clone();
    }
    all["LatestVersion"] = latest(record).into();
    all["Tags"] = tag_list(record, "Key", "Value").into();
    all
}

pub(super) fn describe(world: &mut World, request: &Request) -> Reply {
    let record = found(world, request)?;
    let number = meant(record, request.text("DocumentVersion"));
    Ok(json!({"Document": described(record, &number)}))
}

pub(super) fn permissions(world: &mut World, request: &Request) -> Reply {
    found(world, request)?;
    Ok(json!({"AccountIds": [], "AccountSharingInfoList": []}))
}

pub(super) fn get(world: &mut World, request: &Request) -> Reply {
    let record = found(world, request)?;
    if request.text("DocumentFormat").is_some_and(|one| one != "JSON") {
        let message = "the sandbox keeps documents as JSON, and does not convert them";
        return Err(Failure { status: 501, ..Failure::new("NotImplemented", message) });
    }
    let number = meant(record, request.text("DocumentVersion"));
    let version = version_of(record, &number).ok_or_else(|| missing(&number))?;
    Ok(json!({
        "Name": record["Name"], "Content": version["Content"], "DocumentVersion": number, "Status": record["Status"],
        "VersionName": version["VersionName"], "DocumentType": "Automation", "DocumentFormat": "JSON",
    }))
}

pub(super) fn list(world: &mut World, request: &Request) -> Reply {
    let mut all: Vec<&Value> = world.table(&request.region, DOCUMENT).values().collect();
    for filter in request.items("Filters") {
        let values = crate::request::texts(&filter["Values"]);
        match filter["Key"].as_str() {
            // There are no others here.
            Some("Owner") if values == ["Self"] => {}
            Some("Name") => all.retain(|one| {
                let name = one["Name"].as_str().unwrap_or_default();
                values.iter().any(|value| name.starts_with(value.as_str()))
            }),
            _ => return Err(Failure::new("InvalidFilterKey", "The specified key isn't valid.")),
        }
    }
    let identifier = |one: &&Value| {
        let mut all = described(one, &meant(one, None));
        for member in ["Status", "Hash", "HashType", "DefaultVersion", "LatestVersion"] {
            if let Some(all) = all.as_object_mut() {
                all.shift_remove(member);
            }
        }
        all
    };
    let all: Vec<Value> = all.iter().map(identifier).collect();
    let size = usize::try_from(request.number("MaxResults").unwrap_or(50)).unwrap_or(50);
    if !(1..=50).contains(&size) {
        return Err(Failure::new("ValidationException", "MaxResults must be from 1 to 50"));
    }
    let (items, next) = page(&all, request.text("NextToken"), size);
    Ok(json!({"DocumentIdentifiers": items, "NextToken": next}))
}

pub(super) fn versions(world: &mut World, request: &Request) -> Reply {
    let record = found(world, request)?;
    let default = record["DefaultVersion"].clone();
    let each = record["_versions"].as_array().into_iter().flatten();
    let all: Vec<Value> = each
        .map(|one| {
            json!({
                "Name": record["Name"], "DocumentVersion": one["DocumentVersion"], "Status": record["Status"],
                "VersionName": one["VersionName"], "IsDefaultVersion": one["DocumentVersion"] == default,
                "DocumentFormat": "JSON",
            })
        })
        .collect();
    let (items, next) = page(&all, request.text("NextToken"), 50);
    Ok(json!({"DocumentVersions": items, "NextToken": next}))
}

/// A new version; the default one stays as it is.
pub(super) fn update(world: &mut World, request: &Request) -> Reply {
    let record = found(world, request)?;
    let name = request.required("Name")?.to_owned();
    let text = content(request)?;
    let versions = record["_versions"].as_array().cloned().unwrap_or_default();
    if request.text("DocumentVersion").is_none_or(|one| one != "$LATEST" && one != latest(record)) {
        let message = "The document version is not valid or does not exist.";
        return Err(Failure::new("InvalidDocumentVersion", message));
    }
    if versions.last().is_some_and(|one| one["Content"] == text.as_str()) {
        let message = "The content of the association document matches another document. Change the content of \
                       the document and try again.";
        return Err(Failure::new("DuplicateDocumentContent", message));
    }
    if request.has("VersionName")
        && versions.iter().any(|one| one["VersionName"] == *request.get("VersionName"))
    {
        let message = "The version name has already been used in this document. Specify a different version name, \
                       and then try again.";
        return Err(Failure::new("DuplicateDocumentVersionName", message));
    }
    let new = version(versions.len() + 1, request, &text);
    let number = new["DocumentVersion"].as_str().unwrap_or_default().to_owned();
    let missing = || missing(&name);
    let record = world.get_mut(&request.region, DOCUMENT, &name).ok_or_else(missing)?;
    record["Status"] = "Updating".into();
    if let Some(all) = record["_versions"].as_array_mut() {
        all.push(new);
    }
    let answer = json!({"DocumentDescription": described(record, &number)});
    settle(world, &request.region, &name);
    Ok(answer)
}

pub(super) fn update_default(world: &mut World, request: &Request) -> Reply {
    let number = request.required("DocumentVersion")?.to_owned();
    if version_of(found(world, request)?, &number).is_none() {
        let message = "The document version is not valid or does not exist.";
        return Err(Failure::new("InvalidDocumentVersion", message));
    }
    let name = request.required("Name")?.to_owned();
    let record = world.get_mut(&request.region, DOCUMENT, &name).ok_or_else(|| missing(&name))?;
    record["DefaultVersion"] = number.as_str().into();
    Ok(json!({"Description": {"Name": name, "DefaultVersion": number}}))
}

pub(super) fn delete(world: &mut World, request: &Request) -> Reply {
    let name = request.required("Name")?.to_owned();
    found(world, request)?;
    world.remove(&request.region, DOCUMENT, &name);
    Ok(json!({}))
}
