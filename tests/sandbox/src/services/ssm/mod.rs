//! Systems Manager: parameters, documents and automations.

pub(crate) mod automation;
mod documents;
mod parameters;
mod schema;

use serde_json::{Value, json};

use super::{Operation, Service, op};
use crate::{
    iam::Need,
    request::{Failure, Reply, Request, arn},
    wire::Protocol,
    world::{World, tag_list, tag_map},
};

pub(crate) const SERVICE: Service = Service {
    name: "ssm",
    protocol: Protocol::Json,
    namespace: "",
    global: false,
    operations: OPERATIONS,
};

const OPERATIONS: &[Operation] = &[
    op(
        "PutParameter",
        "Name Value Type Description Overwrite AllowedPattern DataType Tags Tier",
        on_name,
        parameters::put,
    ),
    // Nothing here is a SecureString, so that there is nothing to decrypt.
    op("GetParameter", "Name WithDecryption", on_name, parameters::get),
    op(
        "GetParametersByPath",
        "Path Recursive MaxResults NextToken",
        |_, request| parameter_needs(request, &[request.text("Path").unwrap_or_default()]),
        parameters::get_by_path,
    ),
    op(
        "DescribeParameters",
        "ParameterFilters MaxResults NextToken",
        super::any,
        parameters::describe,
    ),
    op("DeleteParameter", "Name", on_name, parameters::delete),
    op(
        "DeleteParameters",
        "Names",
        |_, request| {
            let names = request.texts("Names");
            parameter_needs(request, &names.iter().map(String::as_str).collect::<Vec<_>>())
        },
        parameters::delete_several,
    ),
    op("AddTagsToResource", "ResourceType ResourceId Tags", on_tagged, |world, request| {
        let record = tagged(world, request)?;
        let mut tags = crate::world::tags(record);
        tags.extend(tag_map(request.get("Tags"), "Key", "Value"));
        record["_tags"] = Value::Object(tags);
        Ok(json!({}))
    }),
    op("RemoveTagsFromResource", "ResourceType ResourceId TagKeys", on_tagged, |world, request| {
        let gone = request.texts("TagKeys");
        let record = tagged(world, request)?;
        let mut tags = crate::world::tags(record);
        tags.retain(|key, _| !gone.contains(key));
        record["_tags"] = Value::Object(tags);
        Ok(json!({}))
    }),
    op("ListTagsForResource", "ResourceType ResourceId", on_tagged, |world, request| {
        let record = tagged(world, request)?;
        Ok(json!({"TagList": tag_list(record, "Key", "Value")}))
    }),
    op(
        "CreateDocument",
        "Name Content DocumentType DocumentFormat VersionName Tags",
        documents::on_document,
        documents::create,
    ),
    op("DescribeDocument", "Name DocumentVersion", documents::on_document, documents::describe),
    op(
        "GetDocument",
        "Name DocumentVersion DocumentFormat",
        documents::on_document,
        documents::get,
    ),
    // Nothing here is shared with other accounts.
    op(
        "DescribeDocumentPermission",
        "Name PermissionType",
        documents::on_document,
        documents::permissions,
    ),
    op("ListDocuments", "Filters MaxResults NextToken", super::any, documents::list),
    op("ListDocumentVersions", "Name NextToken", documents::on_document, documents::versions),
    op(
        "UpdateDocument",
        "Name Content VersionName DocumentVersion DocumentFormat",
        documents::on_document,
        documents::update,
    ),
    op(
        "UpdateDocumentDefaultVersion",
        "Name DocumentVersion",
        documents::on_document,
        documents::update_default,
    ),
    op("DeleteDocument", "Name", documents::on_document, documents::delete),
    op(
        "StartAutomationExecution",
        "DocumentName DocumentVersion Parameters",
        automation::on_start,
        automation::start,
    ),
    op(
        "GetAutomationExecution",
        "AutomationExecutionId",
        |_, request| {
            let id = request.text("AutomationExecutionId").unwrap_or("*");
            vec![Need::new("", request.arn("ssm", &format!("automation-execution/{id}")))]
        },
        automation::get,
    ),
];

fn on_name(_: &World, request: &Request) -> Vec<Need> {
    parameter_needs(request, &[request.text("Name").unwrap_or_default()])
}

fn parameter_needs(request: &Request, names: &[&str]) -> Vec<Need> {
    let resource = |name: &&str| {
        let name = format!("parameter/{}", name.trim_matches('/'));
        Need::new("", arn("ssm", &request.region, &name))
    };
    names.iter().map(resource).collect()
}

/// The table of what tags are asked of.
fn kind(request: &Request) -> &'static str {
    if request.text("ResourceType") == Some("Document") {
        documents::DOCUMENT
    } else {
        parameters::KIND
    }
}

fn on_tagged(world: &World, request: &Request) -> Vec<Need> {
    let name = request.text("ResourceId").unwrap_or_default();
    if kind(request) == documents::DOCUMENT {
        vec![documents::need(world, request, "", name)]
    } else {
        parameter_needs(request, &[name])
    }
}

fn tagged<'a>(world: &'a mut World, request: &Request) -> Result<&'a mut Value, Failure> {
    let (kind, name) = (kind(request), request.required("ResourceId")?);
    let missing = || Failure::new("InvalidResourceId", "The resource ID is not valid.");
    world.get_mut(&request.region, kind, name).ok_or_else(missing)
}

/// What a reply says of an execution that has to be carried on.
pub(crate) fn started(reply: &Reply) -> Option<String> {
    reply.as_ref().ok()?["_automation"].as_str().map(str::to_owned)
}
