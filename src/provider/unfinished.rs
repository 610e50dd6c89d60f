//! A create that was killed before Terraform had a state of it, and that another one goes on with.

use crate::{
    executor::Claim,
    plugin::{Diagnostics, OnChange, Path, Schema, Step, Value, from_json},
};

/// The value at a path of attributes.
pub(super) fn at<'a>(value: &'a Value, path: &Path) -> &'a Value {
    path.steps().iter().fold(value, |value, step| match step {
        Step::Attribute(name) | Step::Key(name) => value.get(name),
        Step::Index(index) => value.items().get(*index).unwrap_or(value),
    })
}

/// Arguments that have a cluster made anew, or that AWS does not change, and that are others than those which the
/// unfinished create began with: what it made at its places would be looked for nowhere.
pub(super) fn moved(schema: &Schema, claim: &Claim, arguments: &Value) -> Diagnostics {
    let mut found = Diagnostics::new();
    let before = claim.arguments.as_ref().filter(|_| !claim.is_complete);
    let before = before.and_then(|json| from_json(json, &schema.object_type()).ok());
    let Some(before) = before.map(|before| schema.with_defaults(&before)) else { return found };
    let text = |value: &Value| value.to_json().to_string();
    let part = |site: &str, name: &str| before.get(site).get(name).as_str().unwrap_or_default();
    let suffix = before.get("environment_suffix").as_str().unwrap_or_default();
    let id = format!("{suffix}/{}/{}", part("primary", "region"), part("dr", "region"));
    for (path, attribute) in schema.changed_arguments(&before, &schema.arguments_of(arguments)) {
        let stays = matches!(attribute.on_change, OnChange::Replace | OnChange::Refuse(_));
        let now = at(arguments, &path);
        if !stays || now.is_unknown() {
            continue;
        }
        found.error_at(
            path.clone(),
            format!("{path} is not what the cluster was begun with"),
            format!(
                "A create of {suffix} was not finished. It began with {}, and not with {}: this one would go on with it, and \
                 leave behind for good what is there. Nothing was changed. Set it back to go on. To have it otherwise, \
                 destroy what there is first: `terraform destroy` where Terraform has it in its state (with \
                 create_before_destroy, this one would come before that); where not, import it by its id, `{id}`.",
                text(at(&before, &path)),
                text(now)
            ),
        );
    }
    found
}
