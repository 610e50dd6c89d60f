//! Parameters.

use serde_json::json;

use crate::{
    request::{Failure, Reply, Request, texts},
    services::page,
    world::{World, tag_map},
};

pub(super) const KIND: &str = "ssm-parameter";
/// What a parameter holds at most, by its tier (Systems Manager guide, "Managing parameter tiers").
const LONGEST_STANDARD: usize = 4096;
const LONGEST_ADVANCED: usize = 8192;

fn missing() -> Failure {
    Failure::new("ParameterNotFound", "")
}

/// The one atomic act of this service: without `Overwrite`, only one of two callers makes it.
pub(super) fn put(world: &mut World, request: &Request) -> Reply {
    let (name, value) =
        (request.required("Name")?.to_owned(), request.required("Value")?.to_owned());
    let invalid = |message: &str| Err(Failure::new("ValidationException", message));
    let plain = request.text("DataType").is_none_or(|kind| kind == "text" || kind.is_empty())
        && request.text("Type") != Some("SecureString");
    if request.text("AllowedPattern").is_some_and(|pattern| !pattern.is_empty()) || !plain {
        let message = "the sandbox has parameters of plain text without a pattern only";
        return Err(Failure { status: 501, ..Failure::new("NotImplemented", message) });
    }
    if !name.chars().all(|one| one.is_ascii_alphanumeric() || "-_./".contains(one)) {
        return invalid(
            "Parameter name: can't be prefixed with \"ssm\" (case-insensitive). If formed as a path, it can consist of sub-paths divided by slash symbol; each sub-path can be formed as a mix of letters, numbers and the following 3 symbols .-_",
        );
    }
    if name.matches('/').count() > 15 {
        return Err(Failure::new(
            "HierarchyLevelLimitExceededException",
            "Parameter hierarchies are limited to fifteen levels.",
        ));
    }
    let overwrite = request.flag("Overwrite").unwrap_or(false);
    if overwrite && request.has("Tags") {
        return invalid(
            "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please remove overwrite flag. To update tags for an existing parameter, please use AddTagsToResource or RemoveTagsFromResource.",
        );
    }
    let present = world.get(&request.region, KIND, &name);
    if present.is_some() && !overwrite {
        return Err(Failure::new(
            "ParameterAlreadyExists",
            "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.",
        ));
    }
    let was_advanced = present.is_some_and(|one| one["_tier"] == "Advanced");
    let tier = match request.text("Tier").unwrap_or("Standard") {
        "Standard" if was_advanced => {
            return invalid(
                "This parameter uses the advanced-parameter tier. You can't downgrade a parameter from the advanced-parameter tier to the standard-parameter tier.",
            );
        }
        "Standard" => "Standard",
        "Advanced" => "Advanced",
        "Intelligent-Tiering" if was_advanced || value.len() > LONGEST_STANDARD => "Advanced",
        "Intelligent-Tiering" => "Standard",
        _ => {
            return invalid(
                "Value at 'tier' failed to satisfy constraint: Member must satisfy enum value set: [Standard, Advanced, Intelligent-Tiering]",
            );
        }
    };
    if tier == "Standard" && value.len() > LONGEST_STANDARD {
        return invalid(
            "Standard tier parameters support a maximum parameter value of 4096 characters. To create a larger parameter value, upgrade the parameter to use the advanced-parameter tier.",
        );
    }
    if value.len() > LONGEST_ADVANCED {
        return invalid(
            "Advanced tier parameters support a maximum parameter value of 8192 characters.",
        );
    }
    let kind = match (present, request.text("Type")) {
        (_, Some(kind @ ("String" | "StringList"))) => kind.to_owned(),
        (_, Some(_)) => {
            return invalid(
                "Value at 'type' failed to satisfy constraint: Member must satisfy enum value set: [SecureString, StringList, String]",
            );
        }
        (Some(record), None) => record["Type"].as_str().unwrap_or("String").to_owned(),
        (None, None) => {
            return invalid("A parameter type is required when you create a parameter.");
        }
    };
    let version = present.and_then(|one| one["Version"].as_u64()).unwrap_or(0) + 1;
    let tags =
        present.map_or_else(|| tag_map(request.get("Tags"), "Key", "Value"), crate::world::tags);
    let arn = request.arn("ssm", &format!("parameter/{}", name.trim_start_matches('/')));
    let record = json!({
        "Name": name, "Type": kind, "Value": value, "Version": version, "ARN": arn, "DataType": "text",
        "LastModifiedDate": request.now.as_seconds(), "_tags": tags, "_tier": tier,
        "_description": request.get("Description"),
    });
    world.put(&request.region, KIND, &name, record);
    Ok(json!({"Version": version, "Tier": tier}))
}

pub(super) fn get(world: &mut World, request: &Request) -> Reply {
    let name = request.required("Name")?;
    let record = world.get(&request.region, KIND, name).ok_or_else(missing)?;
    Ok(json!({"Parameter": crate::world::shown(record)}))
}

pub(super) fn get_by_path(world: &mut World, request: &Request) -> Reply {
    let path = format!("{}/", request.required("Path")?.trim_end_matches('/'));
    let recursive = request.flag("Recursive").unwrap_or(false);
    let found: Vec<_> = world
        .table(&request.region, KIND)
        .iter()
        .filter(|(name, _)| {
            let rest = name.strip_prefix(&path);
            rest.is_some_and(|rest| recursive || !rest.contains('/'))
        })
        .map(|(_, record)| crate::world::shown(record))
        .collect();
    let size = request.number("MaxResults").unwrap_or(10);
    if !(1..=10).contains(&size) {
        return Err(Failure::new("ValidationException", "MaxResults must be from 1 to 10"));
    }
    let (items, next) =
        page(&found, request.text("NextToken"), usize::try_from(size).unwrap_or(10));
    Ok(json!({"Parameters": items, "NextToken": next}))
}

/// What is known of parameters without their values; the one filter here is by whole names.
pub(super) fn describe(world: &mut World, request: &Request) -> Reply {
    let mut wanted: Option<Vec<String>> = None;
    for filter in request.items("ParameterFilters") {
        let by_name = filter["Key"] == "Name"
            && filter["Option"].as_str().is_none_or(|option| option == "Equals");
        if !by_name {
            let message = "the sandbox filters parameters by whole names only";
            return Err(Failure { status: 501, ..Failure::new("NotImplemented", message) });
        }
        wanted = Some(texts(&filter["Values"]));
    }
    let found: Vec<_> = world
        .table(&request.region, KIND)
        .iter()
        .filter(|(name, _)| wanted.as_ref().is_none_or(|wanted| wanted.contains(name)))
        .map(|(_, record)| {
            let mut about = crate::world::shown(record);
            about["Tier"] = record["_tier"].clone();
            about["Description"] = record["_description"].clone();
            about.as_object_mut().map(|about| about.remove("Value"));
            about
        })
        .collect();
    let size = request.number("MaxResults").unwrap_or(10);
    if !(1..=50).contains(&size) {
        return Err(Failure::new("ValidationException", "MaxResults must be from 1 to 50"));
    }
    let (items, next) =
        page(&found, request.text("NextToken"), usize::try_from(size).unwrap_or(10));
    Ok(json!({"Parameters": items, "NextToken": next}))
}

pub(super) fn delete(world: &mut World, request: &Request) -> Reply {
    let name = request.required("Name")?;
    world.remove(&request.region, KIND, name).map(|_| json!({})).ok_or_else(missing)
}

pub(super) fn delete_several(world: &mut World, request: &Request) -> Reply {
    let names = texts(request.get("Names"));
    let (mut deleted, mut invalid) = (Vec::new(), Vec::new());
    for name in names {
        match world.remove(&request.region, KIND, &name) {
            Some(_) => deleted.push(name),
            None => invalid.push(name),
        }
    }
    Ok(json!({"DeletedParameters": deleted, "InvalidParameters": invalid}))
}
