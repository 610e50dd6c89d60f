//! Planning: what would change, or why it must not.

use super::{
    connect::Configured,
    draft::{Draft, diagnose},
    explain,
    flow::{Look, Opened, Trouble, environment},
    read::{spec_of, warnings},
    state::{Kept, planned, undecided},
};
use crate::{
    cluster::{Changes, Mistake, Spec, Verb, preflight::preflight},
    components::{Difference, Effect, db_instance::DbInstance},
    plugin::{Context, Diagnostics, OnChange, Path, PlanInput, Planned, Schema, Step, Value},
};

pub(super) async fn plan(
    configured: &Configured,
    schema: &Schema,
    context: &Context,
    input: PlanInput,
) -> Planned {
    let failed = |diagnostics: Diagnostics| Planned {
        state: input.prior.clone(),
        private: input.private.clone(),
        diagnostics,
        requires_replace: Vec::new(),
    };
    let Some(config) = &input.config else { return destroy(configured, schema, &input) };
    let arguments = schema.with_defaults(config);
    let mut found = Diagnostics::new();
    let draft = match Draft::decode(&arguments, &configured.default_tags) {
        Ok(draft) => draft,
        Err(mistakes) => return failed(diagnose(&mistakes)),
    };
    let changed = match &input.prior {
        Some(prior) => schema.changed_arguments(prior, &arguments),
        None => Vec::new(),
    };
    let mut requires_replace = Vec::new();
    for (path, attribute) in &changed {
        match attribute.on_change {
            OnChange::Replace => requires_replace.push(path.clone()),
            // Whether an unknown value will be another one, only the plan within the apply can tell.
            OnChange::Refuse(_) if at(&arguments, path).is_unknown() => {}
            OnChange::Refuse(why) => {
                let summary = format!("{path} cannot be changed");
                found.error_at(path.clone(), summary, why);
            }
            OnChange::InPlace | OnChange::Reboot => {}
        }
    }
    if let Some(prior) = &input.prior
        && requires_replace.is_empty()
    {
        for mistake in shrinking(prior, &arguments) {
            found.extend(diagnose(&[mistake]));
        }
    }
    let spec = match draft {
        _ if found.has_errors() => return failed(found),
        Draft::Decided(spec) if requires_replace.is_empty() => spec,
        // Terraform asks again with nothing prior, and that plan is the one that counts.
        Draft::Decided(spec) => {
            let suffix = spec.suffix.to_string();
            configured.memory().in_state.insert(suffix);
            let state = Some(undecided(arguments));
            return Planned { state, requires_replace, private: input.private, diagnostics: found };
        }
        Draft::Undecided(argument) => {
            found.warning_at(
                Path::attributes(&argument),
                "The plan cannot show the components yet",
                format!(
                    "{argument} is known only after apply, and which components there are depends on it. \
                     To see them beforehand, apply what it comes from first: `terraform apply -target=…`."
                ),
            );
            let state = Some(undecided(arguments));
            return Planned { state, requires_replace, private: input.private, diagnostics: found };
        }
    };
    let is_create = input.prior.is_none();
    let asks_first = is_create || !changed.is_empty();
    let opened = match look(configured, context, &spec, &input, asks_first).await {
        Ok(opened) => opened,
        Err(trouble) => {
            found.extend(explain::trouble(&trouble, "planning"));
            return failed(found);
        }
    };
    let suffix = spec.suffix.as_str();
    if let Some(claim) = opened.claim.as_ref().filter(|claim| is_create && claim.is_complete) {
        // One that Terraform has in its state, tainted or to be replaced, goes before this one comes.
        if !configured.memory().in_state.contains(suffix) {
            return failed(explain::exists(suffix, &claim.cluster_id));
        }
    }
    decided(&arguments, &input, &opened, found)
}

/// The plan of what was looked at.
fn decided(
    arguments: &Value,
    input: &PlanInput,
    opened: &Opened,
    mut found: Diagnostics,
) -> Planned {
    let changes = opened.changes();
    let refusals = explain::refusals(&changes);
    if refusals.has_errors() {
        found.extend(refusals);
        let (state, private) = (input.prior.clone(), input.private.clone());
        return Planned { state, private, diagnostics: found, requires_replace: Vec::new() };
    }
    found.extend(warnings(opened));
    found.extend(consequences(opened, &changes));
    let kept = Kept {
        cluster_id: opened.env.scope.cluster_id.clone(),
        roles: Some(format!("{:?}", opened.roles)),
        grave: changes.grave(),
    };
    Planned {
        state: Some(planned(arguments, input.prior.as_ref(), opened, &changes)),
        requires_replace: Vec::new(),
        private: kept.to_private(),
        diagnostics: found,
    }
}

/// What a plan interrupts, and what it leaves unprotected for a while.
fn consequences(opened: &Opened, changes: &Changes) -> Diagnostics {
    let mut found = Diagnostics::new();
    for change in changes.iter() {
        let named = |effect: Effect, all: &[Difference]| -> Vec<String> {
            let fits = all.iter().filter(|one| one.effect == effect);
            fits.map(|one| one.field.replace('_', " ")).collect()
        };
        match &change.verb {
            Verb::Replace(all) => found.warning(
                format!("{} is made anew", change.address),
                format!(
                    "AWS cannot change its {}. Nothing that the instances hold is lost; what it protects is \
                     without it for a while.",
                    named(Effect::Replace, all).join(", ")
                ),
            ),
            Verb::Update(all) if change.address.kind() == DbInstance::KIND => {
                let restarts = named(Effect::Reboot, all);
                if !restarts.is_empty() && opened.spec.database.apply_immediately {
                    found.warning(
                        format!("{} restarts for this", change.address),
                        format!(
                            "Because of: {}. With a standby in another zone this interrupts it for a minute \
                             or two. To leave it to the maintenance window, set \
                             database.apply_immediately to false.",
                            restarts.join(", ")
                        ),
                    );
                }
            }
            _ => {}
        }
    }
    found
}

/// Looks at the cluster, or takes over what the read before looked at; asks AWS what it would refuse.
async fn look(
    configured: &Configured,
    context: &Context,
    spec: &Spec,
    input: &PlanInput,
    asks_first: bool,
) -> Result<Opened, Trouble> {
    let env = environment(configured, context, spec, spec.timeouts.read).await?;
    let looked = configured.memory().looked.remove(spec.suffix.as_str());
    let looked = looked.and_then(|looked| looked.with_spec(spec));
    let opened = match looked.filter(|_| input.prior.is_some()) {
        Some(opened) => opened,
        None => {
            let id = Kept::parse(&input.private).cluster_id;
            Opened::look(&env, spec, id, Look::Strict).await?
        }
    };
    if asks_first {
        let mistakes = preflight(&env, spec, &opened.surroundings).await?;
        if !mistakes.is_empty() {
            return Err(Trouble::Mistakes(mistakes));
        }
    }
    Ok(opened)
}

/// The value at a path of attributes.
fn at<'a>(value: &'a Value, path: &Path) -> &'a Value {
    path.steps().iter().fold(value, |value, step| match step {
        Step::Attribute(name) | Step::Key(name) => value.get(name),
        Step::Index(index) => value.items().get(*index).unwrap_or(value),
    })
}

/// Changes of arguments that AWS makes in one direction only.
fn shrinking(prior: &Value, arguments: &Value) -> Vec<Mistake> {
    let mut found = Vec::new();
    let number = |value: &Value| value.get("database").get("allocated_storage").as_i64();
    if let (Some(old), Some(new)) = (number(prior), number(arguments))
        && new < old
    {
        found.push(Mistake::new(
            "database.allocated_storage",
            format!("Storage cannot shrink from {old} to {new} GiB"),
            "AWS only ever grows it. To get to less, move the data into a new cluster with another \
                 environment_suffix.",
        ));
    }
    let version = |value: &Value| {
        let text = value.get("database").get("engine_version").as_str()?.to_owned();
        text.strip_prefix("15.")?.parse::<u32>().ok()
    };
    if let (Some(old), Some(new)) = (version(prior), version(arguments))
        && new < old
    {
        found.push(Mistake::new(
            "database.engine_version",
            format!("PostgreSQL cannot go back from 15.{old} to 15.{new}"),
            "RDS upgrades, and never the other way. To get back, restore a snapshot that was taken \
                 before the upgrade into a new cluster.",
        ));
    }
    found
}

/// A destroy is planned without looking: what is there, the destroy itself finds.
fn destroy(configured: &Configured, schema: &Schema, input: &PlanInput) -> Planned {
    let mut found = Diagnostics::new();
    if let Some(prior) = &input.prior {
        if let Ok(spec) = spec_of(configured, schema, prior) {
            configured.memory().in_state.insert(spec.suffix.to_string());
        }
        if prior.get("deletion").get("protection").as_bool() == Some(true) {
            found.error_at(
                Path::attributes("deletion.protection"),
                "The cluster is protected from being destroyed",
                "Set deletion.protection to false, apply that, then destroy.",
            );
        }
    }
    let state = input.prior.clone().filter(|_| found.has_errors());
    Planned { state, private: input.private.clone(), diagnostics: found, ..Default::default() }
}
