//! The one flow that read, plan, apply, import and destroy are: observe, then decide.

use std::time::{Duration, SystemTime};

use super::connect::Configured;
use crate::{
    aws::{ApiError, CONSISTENCY_LIMIT, ErrorClass, Session},
    cluster::{
        Blueprint, Change, Changes, DiscoveryError, Inventory, Mistake, Roles, Site, Spec,
        Surroundings, Verb,
        names::parameter_path,
        parameters::{are_known, merged},
        surroundings::discover,
    },
    components::{Env, Owner, Text, kms_key::KmsKey},
    executor::Claim,
    plugin::{CancellationToken, Context},
};

/// Why a cluster could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The arguments do not fit what they are placed into.
    Mistakes(Vec<Mistake>),
    /// A call failed.
    Api(ApiError),
    /// The suffix belongs to another cluster by now than the state speaks of.
    Another {
        /// The id that the state remembers.
        remembered: String,
        /// The id of the cluster that is there.
        there: String,
    },
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

/// A cluster as it is wanted and as AWS has it.
#[derive(Clone)]
pub(super) struct Opened {
    pub(super) env: Env,
    pub(super) spec: Spec,
    pub(super) claim: Option<Claim>,
    pub(super) surroundings: Surroundings,
    pub(super) blueprint: Blueprint,
    pub(super) inventory: Inventory,
    pub(super) roles: Roles,
}

/// Why a look did not show what there is.
pub(super) enum Unseen {
    Trouble(Trouble),
    /// The run was stopped while it waited for what was done and does not show yet.
    Stopped(&'static str),
}

/// When to look again for what was done and does not show yet, at first and in the end.
pub(super) const LOOK_AGAIN: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];

/// How to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look<'a> {
    /// Surroundings that do not fit are an error.
    Strict,
    /// The same for a cluster that is made anew: where the instances are that go before counts for nothing.
    Anew,
    /// What is there is looked at all the same: for a read or a destroy after the VPCs are gone.
    Lenient,
    /// Within those that this run began with: what becomes of them meanwhile is the next plan's.
    Within(&'a Surroundings),
}

/// A session of an operation that may take so long.
pub(super) fn session(
    configured: &Configured,
    cancel: CancellationToken,
    limit: Duration,
) -> Session {
    let clock = configured.aws.clock().clone();
    let deadline = clock.now() + limit;
    Session::new(clock, cancel, Some(deadline)).with_attempts(configured.aws.attempts())
}

/// The environment of an operation on a cluster, of which `account` is the account where that is known.
///
/// # Errors
/// The caller's identity could not be found out, or is of another account than the state's cluster: there, nothing of
/// it would be found, and it would count as gone.
pub(super) async fn environment(
    configured: &Configured,
    context: &Context,
    spec: &Spec,
    account: Option<String>,
    limit: Duration,
) -> Result<Env, ApiError> {
    let session = session(configured, context.cancel.clone(), limit);
    let scope = configured
        .scope(&session, spec.suffix.as_str(), [&spec.dr.region, &spec.primary.region])
        .await?;
    if let Some(account) = account
        && account != scope.account
    {
        let api = configured.aws.region(&spec.dr.region).api("sts", "GetCallerIdentity");
        let text = format!(
            "They are of the account {}, and the cluster of the state is in {account}. Nothing was looked for or changed: \
             in another account, it would count as gone. Use credentials of {account}. To give the cluster up without \
             removing it, take it out of the state: `terraform state rm`.",
            scope.account
        );
        return Err(ApiError::wrong_account(api, text));
    }
    let archive = configured.archive().as_ref().ok().cloned();
    Ok(configured.env(session, scope).with_archive(archive))
}

impl Opened {
    /// Looks at everything. `cluster_id` is what Terraform's state remembers, should the record in AWS be
    /// gone.
    ///
    /// # Errors
    /// A look failed; strictly, the surroundings do not fit.
    pub(super) async fn look(
        env: &Env,
        spec: &Spec,
        cluster_id: Option<String>,
        how: Look<'_>,
    ) -> Result<Self, Trouble> {
        env.look_again();
        let path = parameter_path(&spec.suffix);
        let claim = Claim::find(env, &spec.dr.region, &path);
        let surroundings = async {
            match how {
                Look::Within(known) => Ok(known.clone()),
                Look::Strict | Look::Anew | Look::Lenient => {
                    discover(env, spec, how != Look::Anew).await
                }
            }
        };
        let (claim, surroundings) = futures::join!(claim, surroundings);
        let claim = claim?;
        let surroundings = match surroundings {
            Ok(found) => found,
            Err(DiscoveryError::Mistakes(_)) if how == Look::Lenient => {
                Surroundings::unknown(&env.scope.account, &env.scope.partition)
            }
            Err(DiscoveryError::Mistakes(mistakes)) => return Err(Trouble::Mistakes(mistakes)),
            Err(DiscoveryError::Api(error)) => return Err(Trouble::Api(error)),
        };
        if let (Some(claim), Some(remembered)) = (&claim, &cluster_id)
            && claim.cluster_id != *remembered
        {
            let (remembered, there) = (remembered.clone(), claim.cluster_id.clone());
            return Err(Trouble::Another { remembered, there });
        }
        let id = claim.as_ref().map(|claim| claim.cluster_id.clone()).or(cluster_id);
        let env = env.for_cluster(id);
        if claim.as_ref().is_some_and(|claim| !claim.is_complete) {
            // An interrupted create may have left something without a name.
            env.be_thorough();
        }
        let blueprint = Blueprint::new(spec, &surroundings, &env.scope);
        let inventory = Inventory::observe(&env, &blueprint).await?;
        if claim.is_none()
            && inventory.all().any(|one| one.owner != Owner::Ours)
            && Claim::find(&env, &spec.dr.region, &path).await?.is_some()
        {
            // Somebody took the suffix while the others were looked for.
            return Box::pin(Self::look(&env, spec, env.scope.cluster_id.clone(), how)).await;
        }
        let roles = Roles::observed(spec, &inventory);
        Ok(Self { env, spec: spec.clone(), claim, surroundings, blueprint, inventory, roles })
    }

    /// Looks at what is there. What was done a moment ago and does not show yet may be on its way: AWS documents
    /// for most of its services that a read may be behind. `missing` tells what that may be; until it is nothing, or
    /// the time has come at which it would show, it is looked for again.
    ///
    /// # Errors
    /// As [`Opened::look`]; the run was stopped.
    pub(super) async fn look_until(
        env: &Env,
        spec: &Spec,
        cluster_id: Option<String>,
        how: Look<'_>,
        until: SystemTime,
        missing: impl Fn(&Self) -> Vec<String>,
    ) -> Result<Self, Unseen> {
        let [mut pause, longest] = LOOK_AGAIN;
        loop {
            let opened = Self::look(env, spec, cluster_id.clone(), how).await;
            let opened = opened.map_err(|trouble| match trouble {
                Trouble::Api(error) if error.class == ErrorClass::Stopped => {
                    Unseen::Stopped(env.session.stopped().unwrap_or("interrupted"))
                }
                other => Unseen::Trouble(other),
            })?;
            let missing = missing(&opened);
            let left = until.duration_since(env.session.clock.now()).unwrap_or_default();
            if missing.is_empty() || left.is_zero() {
                return Ok(opened);
            }
            tracing::info!("done, and not to be seen yet: {}", missing.join("; "));
            env.session.pause(pause.min(left)).await.map_err(Unseen::Stopped)?;
            pause = (pause * 2).min(longest);
        }
    }

    /// What a create that was interrupted a moment ago may have made although it does not show, and that has no name
    /// by which AWS would keep it from being made twice.
    pub(super) fn unnamed(&self) -> Vec<String> {
        if self.claim.as_ref().is_none_or(|claim| claim.is_complete) {
            return Vec::new();
        }
        let changes = self.changes();
        let is_new = |one: &&Change| one.verb == Verb::Create && one.address.kind() == KmsKey::KIND;
        changes.iter().filter(is_new).map(|one| one.address.to_string()).collect()
    }

    /// The same where something is refused: what refers to it may be there, and would be as it is wanted.
    pub(super) fn unnamed_and_refused(&self) -> Vec<String> {
        let changes = self.changes();
        let refused = changes.iter().any(|one| matches!(one.verb, Verb::Refuse(_)));
        if refused { self.unnamed() } else { Vec::new() }
    }

    /// Until when reads may be behind what a run before did.
    pub(super) fn settled(&self) -> SystemTime {
        let heard = self.claim.as_ref().and_then(|claim| claim.heard);
        // By AWS's clock; ours may be another one.
        let now = self.env.session.clock.now();
        heard.map_or(now, |heard| heard.min(now) + CONSISTENCY_LIMIT)
    }

    /// The same for other arguments, without looking again: for a plan right after a read. `None` if the
    /// other arguments look at other places.
    pub(super) fn with_spec(&self, spec: &Spec) -> Option<Self> {
        let same = Site::ALL.iter().all(|site| {
            let (one, other) = (self.spec.site(*site), spec.site(*site));
            one.region == other.region
                && one.vpc_id == other.vpc_id
                && one.subnet_ids == other.subnet_ids
                && one.route_table_ids == other.route_table_ids
        });
        let known = self.surroundings
            != Surroundings::unknown(&self.env.scope.account, &self.env.scope.partition);
        if !same || !known || self.spec.suffix != spec.suffix {
            return None;
        }
        // Rules are found as wanted or unwanted by their sources, and a restart that parameters wait for
        // counts or not: where such arguments differ, the look has to be another one.
        let rules = Site::ALL.iter().all(|site| {
            let (one, other) = (self.spec.site(*site), spec.site(*site));
            one.allowed_cidr_blocks == other.allowed_cidr_blocks
                && one.allowed_security_group_ids == other.allowed_security_group_ids
        });
        // When parameters of which RDS has to say it take effect was asked for others.
        let parameters = (&self.spec.database.parameters, &spec.database.parameters);
        let known = |spec: &Spec| !spec.unknown.contains("database.parameters");
        let same_parameters = parameters.0 == parameters.1 && known(&self.spec) == known(spec);
        // What a group has anyway is looked at where it is wanted.
        let names = |all| merged(all, 0).into_keys();
        let same_names = names(parameters.0).eq(names(parameters.1));
        let alike = rules
            && (same_parameters || same_names && are_known(parameters.1))
            && self.spec.peering_connection_id == spec.peering_connection_id
            && self.spec.database.apply_immediately == spec.database.apply_immediately
            && self.spec.database.port == spec.database.port
            && self.spec.dns == spec.dns
            && self.spec.failover.witness_region == spec.failover.witness_region
            && self.spec.failover.reserve_concurrency == spec.failover.reserve_concurrency
            && self.spec.notifications == spec.notifications
            && self.spec.deletion == spec.deletion;
        if !alike {
            return None;
        }
        let blueprint = Blueprint::new(spec, &self.surroundings, &self.env.scope);
        Some(Self { spec: spec.clone(), blueprint, ..self.clone() })
    }

    /// What has to change.
    pub(super) fn changes(&self) -> Changes {
        Changes::new(&self.spec, &self.blueprint, &self.inventory, self.roles)
    }

    /// A setting as AWS would have it.
    pub(super) fn resolve(&self, text: &Text) -> Option<String> {
        self.inventory.resolve(text)
    }
}
