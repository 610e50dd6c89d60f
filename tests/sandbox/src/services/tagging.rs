//! The resource tagging API: finds by tags, a little late, and knows no IAM.

use serde_json::{Value, json};

use super::{Operation, Service, any, op, page};
use crate::{
    durations::TAGGING_LAG,
    request::{Failure, Reply, Request},
    wire::Protocol,
    world::{GLOBAL, World, tag_list},
};

pub(crate) const SERVICE: Service = Service {
    name: "tagging",
    protocol: Protocol::Json,
    namespace: "",
    global: false,
    operations: OPERATIONS,
};

const OPERATIONS: &[Operation] = &[op(
    "GetResources",
    "TagFilters ResourceTypeFilters ResourcesPerPage PaginationToken",
    |world, request| {
        let mut needs = any(world, request);
        needs[0].action = "tag:GetResources".into();
        needs
    },
    get_resources,
)];

/// What the API knows: tags as they were [`TAGGING_LAG`] seconds ago. Called before every call.
pub(crate) fn refresh(world: &mut World) {
    if !world.tags_move {
        return;
    }
    let due = world.now.0.saturating_sub(TAGGING_LAG * 1000);
    let mut seen: Vec<(String, &'static str, String, Value)> = Vec::new();
    for (region, kind, table) in world.tables() {
        for (id, record) in table {
            let current = &record["_tags"];
            if record["_arn"].is_null() || current.is_null() || *current == record["_tags_seen"] {
                continue;
            }
            seen.push((region.to_owned(), kind, id.clone(), current.clone()));
        }
    }
    let is_late = !seen.is_empty();
    for (region, kind, id, current) in seen {
        let now = world.now.0;
        let Some(record) = world.get_mut(&region, kind, &id) else { continue };
        if record["_tags_next"] != current {
            record["_tags_next"] = current;
            record["_tags_at"] = now.into();
        } else if record["_tags_at"].as_u64().is_some_and(|at| at <= due) {
            record["_tags_seen"] = current;
        }
    }
    world.tags_move = is_late;
}

fn get_resources(world: &mut World, request: &Request) -> Reply {
    let filters = request.items("TagFilters");
    if filters.len() > 50 {
        return Err(Failure::new("InvalidParameterException", "too many tag filters"));
    }
    let kinds = request.texts("ResourceTypeFilters");
    let mut found = Vec::new();
    for (region, _, table) in world.tables() {
        // What belongs to no region is found where its control plane is; IAM is not known at all.
        let is_dns = region == GLOBAL && request.region == "us-east-1";
        if region != request.region && !is_dns {
            continue;
        }
        for record in table.values() {
            let seen = json!({"_tags": record["_tags_seen"]});
            let tags = &seen["_tags"];
            let fits = !tags.is_null()
                && filters.iter().all(|filter| {
                    let value = &tags[filter["Key"].as_str().unwrap_or_default()];
                    let wanted = filter["Values"].as_array();
                    !value.is_null()
                        && wanted.is_none_or(|any_of| any_of.is_empty() || any_of.contains(value))
                });
            let Some(arn) = record["_arn"].as_str().filter(|_| fits) else { continue };
            if is_dns && !arn.starts_with("arn:aws:route53:") {
                continue;
            }
            let mut parts = arn.split(':').skip(2);
            let service = parts.next().unwrap_or_default();
            let resource = parts.nth(2).unwrap_or_default().split('/').next().unwrap_or_default();
            let kind = format!("{service}:{resource}");
            if kinds.is_empty() || kinds.iter().any(|one| one == service || *one == kind) {
                found.push(json!({"ResourceARN": arn, "Tags": tag_list(&seen, "Key", "Value")}));
            }
        }
    }
    let size = usize::try_from(request.number("ResourcesPerPage").unwrap_or(100)).unwrap_or(100);
    let (items, next) =
        page(&found, request.text("PaginationToken").filter(|one| !one.is_empty()), size);
    Ok(json!({"ResourceTagMappingList": items, "PaginationToken": next.unwrap_or_default()}))
}
