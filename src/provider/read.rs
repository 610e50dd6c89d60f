//! Reading what exists, and finding by its suffix what is not in the state.

use super::{
    connect::Configured,
    draft::{Draft, diagnose},
    elsewhere, explain,
    flow::{Look, Opened, Trouble, environment, session},
    intent::Hold,
    recovery,
    state::{Kept, account_of, observed},
    walk::Busy,
};
use crate::{
    cluster::{
        Spec, concurrency,
        names::{Suffix, parameter_path},
    },
    components::{
        Env, Owner, Readiness, dynamodb_table::DynamodbTable, kms_key::KmsKey,
        lambda_function::LambdaFunction,
    },
    executor::Claim,
    plugin::{Context, Diagnostics, Outcome, Path, Private, Schema, Value, from_json},
};

/// The spec in a state. Everything in it was checked when it was applied.
pub(super) fn spec_of(
    configured: &Configured,
    schema: &Schema,
    state: &Value,
) -> Result<Spec, Diagnostics> {
    match Draft::decode(&schema.with_defaults(state), &configured.default_tags) {
        Ok(Draft::Decided(spec)) => Ok(*spec),
        Ok(Draft::Undecided(argument)) => Err(Diagnostics::from_error(
            "The state is incomplete",
            format!("It holds no usable {argument}. Import the cluster again."),
        )),
        Err(mistakes) => Err(diagnose(&mistakes)),
    }
}

pub(super) async fn read(
    configured: &Configured,
    schema: &Schema,
    context: &Context,
    state: Value,
    private: Private,
) -> Outcome {
    let failed = |state: Value, diagnostics: Diagnostics| Outcome {
        state: Some(state),
        private: private.clone(),
        diagnostics,
    };
    let spec = match spec_of(configured, schema, &state) {
        Ok(spec) => spec,
        Err(found) => return failed(state, found),
    };
    remember(configured, &spec);
    let kept = Kept::parse(&private);
    // What create_before_destroy keeps of an unfinished create is no resource of its own.
    let _busy = (!kept.is_unfinished).then(|| Busy::with(configured, spec.suffix.as_str()));
    let account = account_of(&private, Some(&state));
    let env = match environment(configured, context, &spec, account, spec.timeouts.read).await {
        Ok(env) => env,
        Err(error) => {
            let found = explain::trouble(&error.into(), "reading the cluster");
            return failed(state, found);
        }
    };
    let opened = match Opened::look(&env, &spec, kept.cluster_id.clone(), Look::Lenient).await {
        Ok(opened) => opened,
        // The one that the state speaks of is gone, whoever has its suffix now.
        Err(Trouble::Another { .. }) => return gone(configured, &spec),
        Err(trouble) => {
            let found = elsewhere::trouble(&env, &spec, &trouble, "reading the cluster").await;
            return failed(state, found);
        }
    };
    if opened.claim.is_none() && opened.inventory.all().all(|one| one.owner != Owner::Ours) {
        return gone(configured, &spec);
    }
    let new = observed(&state, &opened);
    let scope = &opened.env.scope;
    let (cluster_id, account) = (scope.cluster_id.clone(), Some(scope.account.clone()));
    let kept = Kept { cluster_id, account, noted: None, ..kept };
    let mut diagnostics = warnings(&opened);
    if kept.is_unfinished && opened.claim.as_ref().is_some_and(|claim| claim.is_complete) {
        diagnostics.extend(explain::finished_since(spec.suffix.as_str()));
    }
    configured.memory().looked.insert(spec.suffix.to_string(), opened);
    Outcome { state: Some(new), private: kept.marked().to_private(), diagnostics }
}

/// What is not there is in no state any more.
fn gone(configured: &Configured, spec: &Spec) -> Outcome {
    configured.memory().in_state.remove(spec.suffix.as_str());
    Outcome::default()
}

/// Notes for later operations of this process what the state has.
pub(super) fn remember(configured: &Configured, spec: &Spec) {
    let mut memory = configured.memory();
    memory.in_state.insert(spec.suffix.to_string());
    if spec.deletion.protection {
        memory.protected.insert(spec.suffix.to_string());
    } else {
        memory.protected.remove(spec.suffix.as_str());
    }
}

/// What somebody should know who looks at the cluster.
pub(super) fn warnings(opened: &Opened) -> Diagnostics {
    let mut found = Diagnostics::new();
    let (primary, dr) = (&opened.spec.primary.region, &opened.spec.dr.region);
    if opened.roles.are_diverged() {
        found.warning(
            format!("Two instances take writes, in {primary} and in {dr}"),
            format!(
                "Somebody has promoted the instance in {dr} while the one in {primary} went on. The name leads to {primary}, \
                 and the monitors move nothing: decide which one counts, bring what the other one took over by hand, and \
                 stop that one. Nothing is planned for the instances and their backups until then."
            ),
        );
    } else if opened.roles.failed_over() {
        found.warning(
            format!("The cluster has failed over: {dr} writes"),
            format!(
                "The instance in {dr} was promoted and holds the data. Nothing is planned for the \
                 instances and their backups until it is decided how to go on. Protection is one-way: \
                 nothing in {primary} follows it any more."
            ),
        );
    }
    if opened.roles.is_failing_over && !opened.roles.failed_over() {
        found.warning(
            "A failover is under way",
            "The monitors are promoting the standby. Nothing is planned for the instances, their backups and what \
             leads to them until that is done.",
        );
    }
    if Hold::left(opened).is_some() {
        found.warning(
            "The monitors promote nothing: an apply has them wait",
            "It is changing the databases, or was interrupted while it did. They act again when an apply gets to its end, \
             or when timeouts.update has passed since; until then, a region that is lost is not failed over by itself.",
        );
    }
    if opened.roles.is_closed && !opened.roles.failed_over() {
        found.warning(
            "The monitors keep applications out of the writer",
            "They took rules of its security group away, because it may have been superseded; the topics say why. \
             An apply does not put them back: the monitors do, as soon as they may.",
        );
    }
    // What moves is left as it is, functions included.
    let displaced = (!opened.roles.are_moving())
        .then(|| concurrency::warning(&opened.spec, &opened.surroundings))
        .flatten();
    let exposed = opened.surroundings.warnings(&opened.spec);
    for (summary, detail) in recovery::warnings(opened).into_iter().chain(displaced).chain(exposed)
    {
        found.warning(summary, detail);
    }
    for one in opened.inventory.all() {
        if let Readiness::Broken(state) = &one.readiness {
            found.warning(
                format!("{} is {state}", one.address),
                format!(
                    "Nothing is removed or made anew because of it. {}",
                    advice(one.address.kind())
                ),
            );
        }
    }
    found
}

/// Where to find out more about something that does not work.
fn advice(kind: &str) -> &'static str {
    match kind {
        DynamodbTable::KIND => {
            "DynamoDB cannot use the table's KMS key. An apply enables the key and puts its policy back; DynamoDB then \
             takes a while to notice. After seven days without the key it archives the table, and keeps a backup of it."
        }
        KmsKey::KIND => {
            "KMS does not use the key as it is, and what is encrypted with it cannot be read meanwhile: see the key in KMS."
        }
        LambdaFunction::KIND => {
            "Lambda puts a function away that nobody has invoked for weeks, and readies it at the next invocation: see \
             whether its schedule invokes it."
        }
        _ => "This does not pass by itself: see RDS's events for the instance.",
    }
}

/// Where a cluster is looked for when nothing else is said.
const REGIONS: (&str, &str) = ("us-east-1", "us-west-2");

/// An id for an import: the suffix, with the regions where they are not the usual ones.
pub(super) fn parse_id(id: &str) -> Option<(Suffix, &str, &str)> {
    let parts: Vec<_> = id.split('/').collect();
    match parts[..] {
        [suffix] => Some((Suffix::parse(suffix).ok()?, REGIONS.0, REGIONS.1)),
        [suffix, primary, dr] => Some((Suffix::parse(suffix).ok()?, primary, dr)),
        _ => None,
    }
}

/// Where a cluster is looked for, and how somebody says that it is elsewhere.
pub(super) struct Place<'a> {
    pub(super) suffix: &'a Suffix,
    pub(super) primary: &'a str,
    pub(super) dr: &'a str,
    /// What to do so that it is looked for in these regions.
    pub(super) elsewhere: fn(&Suffix, &str, &str) -> String,
}

/// Finds a cluster by its suffix: its claim, and the arguments of its last apply, which it keeps, as a state.
///
/// # Errors
/// It is not there, or what it keeps is of no use; the texts say what to do.
pub(super) async fn find(
    env: &Env,
    schema: &Schema,
    place: &Place<'_>,
) -> Result<(Claim, Value), Diagnostics> {
    let Place { suffix, primary, dr, elsewhere } = place;
    let claim = match Claim::find(env, dr, &parameter_path(suffix)).await {
        Ok(Some(claim)) => claim,
        Ok(None) => {
            return Err(Diagnostics::from_error(
                format!("There is no cluster {suffix} in {dr}"),
                format!(
                    "Account {} has no record of it in {dr}. For other regions, {}.",
                    env.scope.account,
                    elsewhere(suffix, "<primary region>", "<dr region>")
                ),
            ));
        }
        Err(error) => return Err(explain::trouble(&error.into(), "looking for the cluster")),
    };
    let Some(arguments) = &claim.arguments else {
        return Err(Diagnostics::from_error(
            format!("The cluster {suffix} does not know its arguments"),
            "They were too long to keep (8 KB), or it was interrupted before it kept any. In the latter \
             case, apply its configuration: that continues.",
        ));
    };
    let state = match from_json(arguments, &schema.object_type()) {
        Ok(state) => schema.with_defaults(&state),
        Err(error) => {
            return Err(Diagnostics::from_error(
                format!("The arguments of the cluster {suffix} cannot be read"),
                error.to_string(),
            ));
        }
    };
    let region = |site: &str| state.get(site).get("region").as_str().unwrap_or_default().to_owned();
    let (its_primary, its_dr) = (region("primary"), region("dr"));
    if its_primary != *primary || its_dr != *dr {
        let mut found = Diagnostics::new();
        let told = elsewhere(suffix, &its_primary, &its_dr);
        let first = told.chars().next().map(|one| one.to_uppercase().to_string());
        let told = first.unwrap_or_default() + told.get(1..).unwrap_or_default();
        found.error_at(
            Path::root(),
            format!("The cluster {suffix} is in other regions"),
            format!("{told}."),
        );
        return Err(found);
    }
    Ok((claim, state))
}

/// Finds a cluster that is to be managed from now on.
pub(super) async fn import(
    configured: &Configured,
    schema: &Schema,
    context: &Context,
    id: &str,
) -> Outcome {
    let failed = |diagnostics: Diagnostics| Outcome { diagnostics, ..Default::default() };
    let Some((suffix, primary, dr)) = parse_id(id) else {
        return failed(Diagnostics::from_error(
            format!("{id:?} is no id of a cluster"),
            "Import by the environment suffix, as in `prod`, or with regions that are not us-east-1 and \
             us-west-2, as in `prod/eu-west-1/eu-central-1`.",
        ));
    };
    let limit = super::cluster_schema::TIMEOUTS[1].1;
    let session = session(configured, context.cancel.clone(), limit);
    let scope = match configured.scope(&session, suffix.as_str(), [dr, primary]).await {
        Ok(scope) => scope,
        Err(error) => return failed(explain::trouble(&error.into(), "looking for the cluster")),
    };
    let env = configured.env(session, scope);
    let place = Place {
        suffix: &suffix,
        primary,
        dr,
        elsewhere: |suffix, primary, dr| format!("import `{suffix}/{primary}/{dr}`"),
    };
    match find(&env, schema, &place).await {
        Ok((claim, state)) => {
            let kept = Kept { cluster_id: Some(claim.cluster_id), ..Kept::default() };
            read(configured, schema, context, state, kept.to_private()).await
        }
        Err(found) => failed(found),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_id;

    #[test]
    fn ids_name_regions_where_they_are_not_the_usual_ones() {
        let parts = |id| parse_id(id).map(|(suffix, one, other)| (suffix.to_string(), one, other));
        assert_eq!(parts("prod"), Some(("prod".into(), "us-east-1", "us-west-2")));
        assert_eq!(parts("a/x/y"), Some(("a".into(), "x", "y")));
        assert!(parts("Prod").is_none() && parts("a/x").is_none() && parts("").is_none());
    }
}
