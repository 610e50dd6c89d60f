//! Planning: what would change, or why it must not.

use super::{
    connect::Configured,
    draft::{Draft, diagnose},
    elsewhere,
    explain::{self, Doing},
    flow::{Look, Opened, Trouble, Unseen, environment},
    read::{remember, spec_of, warnings},
    state::{Kept, account_of, planned, undecided},
    unfinished::{self, at},
    walk::Busy,
};
use crate::{
    cluster::{
        Change, Changes, Mistake, Role, Roles, Site, Spec, Verb,
        changes::{is_held, limits_cross},
        names::Name,
        preflight::preflight,
    },
    components::{
        Difference, Effect, SUFFIX_TAG,
        db_backup::DbBackup,
        db_instance::{DbInstance, NOT_EXTENDED, is_taken_back},
    },
    plugin::{Attribute, Context, Diagnostics, OnChange, Path, PlanInput, Planned, Schema, Value},
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
    if let Draft::Decided(spec) = &draft
        && let Some(key) = spec.tags.keys().find(|key| configured.ignored.covers(key))
    {
        return failed(Diagnostics::from_error(
            format!("The tag {key} is chosen and ignored"),
            "The provider's ignore_tags says that somebody else looks after it, and tags or default_tags give it a \
             value. Leave it out of one of the two.",
        ));
    }
    let changed = match &input.prior {
        Some(prior) => schema.changed_arguments(prior, &arguments),
        None => Vec::new(),
    };
    let replaced = changed.iter().filter(|(_, one)| one.on_change == OnChange::Replace);
    let requires_replace: Vec<Path> = replaced.map(|(path, _)| path.clone()).collect();
    // A cluster that is made anew begins empty: nothing that would lose data is refused to it.
    if requires_replace.is_empty() {
        found.extend(refused(&changed, &arguments));
    }
    let wanted = arguments.get("environment_suffix").as_str();
    let _busy = wanted.map(|suffix| Busy::with(configured, suffix));
    let mut kept = Kept::parse(&input.private);
    let intended = intended(input.prior.as_ref(), &kept, wanted, &requires_replace);
    kept.noted = None;
    if let Some((suffix, doing)) = intended.filter(|_| !found.has_errors()) {
        let noted = configured.memory().note_plan(&suffix, doing, kept.object.clone());
        if let Err(clash) = noted {
            found.extend(explain::clash(&suffix, clash));
        }
        kept.noted = Some(suffix);
    }
    let spec = match draft {
        _ if found.has_errors() => return failed(found),
        Draft::Decided(spec) if requires_replace.is_empty() => spec,
        // Terraform asks again with nothing prior, and that plan is the one that counts.
        Draft::Decided(_) => {
            if let Some(prior) = &input.prior {
                found.extend(leave(configured, schema, prior));
            }
            if found.has_errors() {
                return failed(found);
            }
            let state = Some(undecided(arguments));
            return Planned {
                state,
                requires_replace,
                private: kept.to_private(),
                diagnostics: found,
            };
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
            return Planned {
                state,
                requires_replace,
                private: kept.to_private(),
                diagnostics: found,
            };
        }
    };
    if let Err(why) = configured.archive() {
        found.error(
            "The agent's archive is missing",
            format!(
                "The functions that watch the cluster run it, and it comes with the provider: {why}. Install the \
                 provider with it, or name the archive with TRADING_AGENT_ZIP. Beside a build of your own, \
                 `make provider` puts one."
            ),
        );
        return failed(found);
    }
    let is_create = input.prior.is_none();
    let asks_first = is_create || !changed.is_empty();
    let mut opened = match look(configured, context, &spec, &input, asks_first).await {
        Ok(opened) => opened,
        Err(trouble) => {
            let limit = spec.timeouts.read;
            // Who runs this was found out before: nobody is asked again.
            let is_known = !matches!(&trouble, Trouble::Api(error) if error.api.service == "sts");
            let env = match is_known && !is_create {
                true => {
                    let account = account_of(&input.private, input.prior.as_ref());
                    environment(configured, context, &spec, account, limit).await.ok()
                }
                false => None,
            };
            found.extend(match env {
                Some(env) => elsewhere::trouble(&env, &spec, &trouble, "planning").await,
                None => explain::trouble(&trouble, "planning"),
            });
            return failed(found);
        }
    };
    if is_create {
        let suffix = spec.suffix.as_str();
        let in_state = configured.memory().in_state.contains(suffix);
        let claim = opened.claim.as_ref().filter(|claim| claim.is_complete);
        if let Some(claim) = claim.filter(|_| !in_state) {
            return failed(explain::exists(suffix, &claim.cluster_id));
        }
        if let Some(claim) = opened.claim.as_ref().filter(|_| !in_state) {
            found.extend(unfinished::moved(schema, claim, &arguments));
            if found.has_errors() {
                return failed(found);
            }
        }
        if in_state {
            // One that Terraform has in its state, tainted or to be replaced, goes before this one comes.
            if configured.memory().protected.contains(suffix) {
                found.extend(explain::protected());
                return failed(found);
            }
            opened.inventory = opened.inventory.foreign();
            opened.roles = Roles::NONE;
        }
    }
    decided(&arguments, &input, &opened, found, kept)
}

/// What a plan does to the cluster of which suffix. One that is made anew is planned twice: as a change of what is there,
/// then as if nothing was, with what the first of these plans kept, which the plan of a new one has not.
fn intended(
    prior: Option<&Value>,
    kept: &Kept,
    wanted: Option<&str>,
    requires_replace: &[Path],
) -> Option<(String, Doing)> {
    let Some(prior) = prior else {
        let is_anew = kept.noted.as_deref() == wanted;
        let doing = if is_anew { Doing::Update } else { Doing::Create };
        return Some((wanted?.to_owned(), doing));
    };
    let had = prior.get("environment_suffix").as_str()?;
    let wanted = wanted?;
    // It gets another suffix: the cluster of the old one goes.
    let goes = !requires_replace.is_empty() && wanted != had;
    Some((had.to_owned(), if goes { Doing::Destroy } else { Doing::Update }))
}

/// Notes that a cluster goes before the one that is planned comes.
fn leave(configured: &Configured, schema: &Schema, prior: &Value) -> Diagnostics {
    let Ok(spec) = spec_of(configured, schema, prior) else { return Diagnostics::new() };
    remember(configured, &spec);
    if spec.deletion.protection {
        return explain::protected();
    }
    configured.memory().leaving.insert(spec.suffix.to_string());
    Diagnostics::new()
}

/// Changes of arguments that would lose data.
fn refused(changed: &[(Path, &Attribute)], arguments: &Value) -> Diagnostics {
    let mut found = Diagnostics::new();
    for (path, attribute) in changed {
        // Whether an unknown value will be another one, only the plan within the apply can tell.
        if let OnChange::Refuse(why) = attribute.on_change
            && !at(arguments, path).is_unknown()
        {
            found.error_at(path.clone(), format!("{path} cannot be changed"), why);
        }
    }
    found
}

/// The plan of what was looked at.
fn decided(
    arguments: &Value,
    input: &PlanInput,
    opened: &Opened,
    mut found: Diagnostics,
    before: Kept,
) -> Planned {
    let changes = opened.changes();
    let mut refusals = explain::refusals(&changes);
    if let Some(prior) = &input.prior {
        refusals.extend(diagnose(&backwards(prior, arguments, opened)));
        refusals.extend(emptied(opened, &changes, &before));
    }
    if refusals.has_errors() {
        found.extend(refusals);
        let (state, private) = (input.prior.clone(), input.private.clone());
        return Planned { state, private, diagnostics: found, requires_replace: Vec::new() };
    }
    found.extend(warnings(opened));
    found.extend(consequences(opened, &changes));
    let kept = Kept {
        // One that is to be made gets its id when it is made.
        cluster_id: opened.env.scope.cluster_id.clone().filter(|_| input.prior.is_some()),
        roles: Some(format!("{:?}", opened.roles)),
        grave: changes.grave(),
        is_unfinished: input.prior.is_some() && before.is_unfinished,
        ..before
    };
    Planned {
        state: Some(planned(arguments, input.prior.as_ref(), opened, &changes)),
        requires_replace: Vec::new(),
        private: kept.to_private(),
        diagnostics: found,
    }
}

/// A finished cluster of which both instances are gone is not made anew, empty: what is left of its data would be removed
/// with what is unwanted.
fn emptied(opened: &Opened, changes: &Changes, kept: &Kept) -> Diagnostics {
    let mut found = Diagnostics::new();
    let was_whole = opened.claim.as_ref().is_some_and(|claim| claim.is_complete);
    let none_is_left = [opened.roles.primary, opened.roles.dr] == [Role::Absent; 2];
    if !was_whole || !none_is_left || kept.is_unfinished || opened.roles.are_moving() {
        return found;
    }
    // A destroy that did not end has removed them before the instances.
    let is_backup =
        |change: &Change| change.verb == Verb::Delete && change.address.kind() == DbBackup::KIND;
    let [primary, dr] = [&opened.spec.primary.region, &opened.spec.dr.region];
    if !changes.iter().any(is_backup) {
        found.warning(
            "New instances are empty",
            format!(
                "The cluster was finished, and neither {primary} nor {dr} has an instance of it any more. What is left of \
                 its data are snapshots, if there are any."
            ),
        );
    } else {
        let suffix = &opened.spec.suffix;
        let [name, group] = [Name::PrimaryInstance, Name::SubnetGroup].map(|one| one.of(suffix));
        found.error(
            "Both instances are gone",
            format!(
                "Neither {primary} nor {dr} has one of the cluster any more, and new ones would be empty. To go on with \
                 its data, restore it in {primary} as {name}, in the subnet group {group}, with the cluster's key, the engine \
                 lifecycle support {NOT_EXTENDED}, and the tag {SUFFIX_TAG} = {suffix}: from a \
                 snapshot, a backup, or a copy in {dr} that is copied back. Then plan again. To begin empty, keep what you \
                 need elsewhere and have the cluster made anew: `terraform taint` it, then apply; its backups go with it. \
                 To remove what is left: `terraform destroy -refresh=false`."
            ),
        );
    }
    found
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
            Verb::Replace(all) if change.address.kind() == DbBackup::KIND => found.warning(
                format!("{} is made anew", change.address),
                format!(
                    "AWS cannot change its {}. All points in time that a restore in {} can go back to are removed with \
                     it, and new ones begin with the next backup. Those in {} stay, and so do copied snapshots.",
                    named(Effect::Replace, all).join(", "),
                    change.address.place(),
                    opened.spec.primary.region
                ),
            ),
            Verb::Replace(all) => found.warning(
                format!("{} is made anew", change.address),
                format!(
                    "AWS cannot change its {}. Nothing that the instances hold is lost; what it protects is \
                     without it for a while.",
                    named(Effect::Replace, all).join(", ")
                ),
            ),
            Verb::Update(all) if change.address.kind() == DbInstance::KIND => {
                let of = |effect| {
                    // What is taken back before it was made restarts nothing.
                    let made = all.iter().filter(|one| !is_taken_back(&one.found));
                    let all: Vec<_> = made.cloned().collect();
                    named(effect, &all)
                };
                let (now, mut restarts) = (of(Effect::RebootNow), of(Effect::Reboot));
                restarts.retain(|_| opened.spec.database.apply_immediately);
                let way_out = match (restarts.is_empty(), now.is_empty()) {
                    (true, true) => continue,
                    (false, true) => {
                        " To leave it to the maintenance window, set database.apply_immediately to false."
                            .to_owned()
                    }
                    (_, false) => {
                        format!(" RDS never puts off a change of the {}.", now.join(", "))
                    }
                };
                restarts.extend(now);
                found.warning(
                    format!("{} restarts for this", change.address),
                    format!(
                        "Because of: {}. It answers nobody meanwhile: for a minute or two with a standby in another \
                         zone, for several without.{way_out}",
                        restarts.join(", ")
                    ),
                );
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
    let account = account_of(&input.private, input.prior.as_ref());
    let mut env = environment(configured, context, spec, account, spec.timeouts.read).await?;
    let mut how = Look::Strict;
    if input.prior.is_none() {
        let memory = configured.memory();
        env.scope.leaving = memory.leaving.clone();
        if memory.in_state.contains(spec.suffix.as_str()) {
            how = Look::Anew;
        }
    }
    let looked = configured.memory().looked.remove(spec.suffix.as_str());
    let looked = looked.and_then(|looked| looked.with_spec(spec));
    let id = Kept::parse(&input.private).cluster_id;
    let mut opened = match looked.filter(|_| input.prior.is_some()) {
        Some(opened) => opened,
        None => Opened::look(&env, spec, id.clone(), how).await?,
    };
    if !opened.unnamed_and_refused().is_empty() {
        let (until, missing) = (opened.settled(), Opened::unnamed_and_refused);
        match Opened::look_until(&env, spec, id, how, until, missing).await {
            Ok(again) => opened = again,
            Err(Unseen::Trouble(trouble)) => return Err(trouble),
            // What is known says why.
            Err(Unseen::Stopped(_)) => {}
        }
    }
    if asks_first {
        let mistakes = preflight(&opened.env, spec, &opened.surroundings).await?;
        if !mistakes.is_empty() {
            return Err(Trouble::Mistakes(mistakes));
        }
    }
    Ok(opened)
}

/// What AWS makes in one direction only, judged by what there is: an argument that was never reached may
/// be taken back.
fn backwards(prior: &Value, arguments: &Value, opened: &Opened) -> Vec<Mistake> {
    let mut found = Vec::new();
    let address = DbInstance::address(&opened.spec.primary.region);
    let instance = opened.inventory.get(&address);
    let observed = |name: &str| instance.and_then(|one| one.settings.get(name)).cloned();
    let number = |value: &Value| value.get("database").get("allocated_storage").as_i64();
    let has = observed("storage_gib").and_then(|text| text.parse::<i64>().ok());
    if let (Some(old), Some(new), Some(has)) = (number(prior), number(arguments), has)
        && new < old
        && new < has
    {
        found.push(Mistake::new(
            "database.allocated_storage",
            format!("Storage cannot shrink from {has} to {new} GiB"),
            "AWS only ever grows it. To get to less, move the data into a new cluster with another \
             environment_suffix.",
        ));
    }
    let wanted = arguments.get("database").get("engine_version").as_str().unwrap_or_default();
    found.extend(downgrade(opened, wanted));
    if limits_cross(&opened.spec, &opened.inventory) {
        found.push(Mistake::new(
            "database.parameters",
            "Some limits become larger and others smaller",
            "A standby must never have less of any than its writer, and its recovery would pause whichever \
             of the two came first. Make the larger ones larger, apply, then the smaller ones smaller.",
        ));
    }
    found
}

/// Instances of newer versions than is wanted, where they are the plan's to change.
fn downgrade(opened: &Opened, wanted: &str) -> Option<Mistake> {
    let minor =
        |text: &str| text.strip_prefix("15.")?.split(['.', '-']).next()?.parse::<u32>().ok();
    let found = Site::ALL.into_iter().filter_map(|site| {
        let region = &opened.spec.site(site).region;
        let address = DbInstance::address(region);
        let version = opened.inventory.get(&address)?.settings.get("engine_version")?;
        let is_held = is_held(&opened.spec, opened.roles, &address);
        Some((minor(version).filter(|_| !is_held)?, version, region))
    });
    let (newest, version, region) = found.max()?;
    (minor(wanted)? < newest).then(|| {
        Mistake::new(
            "database.engine_version",
            format!("PostgreSQL cannot go back from {version} to {wanted}"),
            format!(
                "The instance in {region} has {version}, and RDS upgrades, never the other way. Say {version} here to have \
                 both like that. To get back, restore a snapshot that was taken before the upgrade into a new cluster."
            ),
        )
    })
}

/// A destroy is planned without looking: what is there, the destroy itself finds.
fn destroy(configured: &Configured, schema: &Schema, input: &PlanInput) -> Planned {
    let mut found = Diagnostics::new();
    if let Some(prior) = &input.prior {
        if let Ok(spec) = spec_of(configured, schema, prior) {
            remember(configured, &spec);
            let suffix = spec.suffix.as_str();
            // What an unfinished create left is no resource of its own where create_before_destroy keeps it.
            let kept = Kept::parse(&input.private);
            if !kept.is_unfinished
                && let Err(clash) =
                    configured.memory().note_plan(suffix, Doing::Destroy, kept.object)
            {
                found.extend(explain::clash(suffix, clash));
            }
        }
        if prior.get("deletion").get("protection").as_bool() == Some(true) {
            found.extend(explain::protected());
        }
    }
    let state = input.prior.clone().filter(|_| found.has_errors());
    Planned { state, private: input.private.clone(), diagnostics: found, ..Default::default() }
}
