//! The claim to an environment suffix: which cluster has it, whether its creation was ever finished, and
//! with which arguments it was last applied.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{
    lease::Lease,
    new_id,
    parameters::{make, read, remove, remove_once, write},
};
use crate::{
    aws::{ApiError, Attempts, CONSISTENCY_LIMIT, ErrorClass},
    components::{CLUSTER_TAG, Env},
};

/// What SSM's advanced parameters hold at most.
const LONGEST: usize = 8192;
/// When to look again for a record that somebody has made and that does not show yet.
const AGAIN: Duration = Duration::from_secs(2);
/// How often it is tried to give a suffix back: nobody shows meanwhile that this run lives.
const TRIES: u32 = 3;

/// A claim, as it stands in the DR region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The cluster's id.
    pub cluster_id: String,
    /// Whether a create of it ever reached its end.
    pub is_complete: bool,
    /// The arguments of the last apply, in JSON; absent where they were too long to keep.
    pub arguments: Option<Value>,
    /// Whether this run has taken the suffix, which nobody had.
    pub is_new: bool,
    /// When a run on it last wrote something there, its heartbeat included, by AWS's clock.
    pub heard: Option<SystemTime>,
    region: String,
    path: String,
}

/// Why there is no claim.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// A call failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The operating system gives no random numbers.
    #[error("no random number for the cluster's id: {0}")]
    NoRandomness(#[from] getrandom::Error),
}

impl Claim {
    /// Looks for the claim in a region.
    ///
    /// # Errors
    /// The look failed.
    pub async fn find(env: &Env, region: &str, path: &str) -> Result<Option<Self>, ApiError> {
        let all = read(env, region, path).await?;
        let Some(cluster) = all.get("cluster") else { return Ok(None) };
        let record: Value = serde_json::from_str(&cluster.value).unwrap_or_default();
        // Whose a cluster is must not be guessed: without its id, a healthy one would look like somebody else's.
        let Some(cluster_id) = record["cluster_id"].as_str().filter(|id| !id.is_empty()) else {
            let api = env.region(region).api("ssm", "GetParametersByPath");
            let why = format!(
                "the parameter {path}/cluster does not say whose the cluster is, as in {{\"cluster_id\": \"…\"}}: \
                 somebody has changed it. The tag {CLUSTER_TAG} of its components has the id"
            );
            return Err(ApiError::unusable(api, why));
        };
        let arguments = all.get("arguments").and_then(|one| serde_json::from_str(&one.value).ok());
        Ok(Some(Self {
            cluster_id: cluster_id.to_owned(),
            is_complete: all.contains_key("complete"),
            arguments,
            is_new: false,
            heard: all.values().filter_map(|one| one.written).max(),
            region: region.to_owned(),
            path: path.to_owned(),
        }))
    }

    /// Takes the suffix for a new cluster, or finds who has it. Under the lease only. A cluster whose record
    /// is lost keeps the id that Terraform's state remembers.
    ///
    /// # Errors
    /// A call failed.
    pub async fn take(
        env: &Env,
        region: &str,
        path: &str,
        known: Option<String>,
    ) -> Result<Self, ClaimError> {
        if let Some(claim) = Self::find(env, region, path).await? {
            return Ok(claim);
        }
        let id = match known {
            Some(id) => id,
            None => new_id()?,
        };
        let value = json!({"cluster_id": id, "schema_version": 0}).to_string();
        let name = format!("{path}/cluster");
        match make(&env.for_cluster(Some(id.clone())), region, &name, &value).await {
            // Reads may be behind: what was written is known.
            Ok(()) => {
                return Ok(Self {
                    cluster_id: id,
                    is_complete: false,
                    arguments: None,
                    is_new: true,
                    heard: None,
                    region: region.to_owned(),
                    path: path.to_owned(),
                });
            }
            Err(error) if error.class != ErrorClass::AlreadyExists => return Err(error.into()),
            // Made by an attempt whose answer was lost, or a moment ago by somebody else.
            Err(_) => {}
        }
        let begun = env.session.clock.now();
        loop {
            if let Some(claim) = Self::find(env, region, path).await? {
                let is_new = claim.cluster_id == id;
                return Ok(Self { is_new, ..claim });
            }
            let api = env.region(region).api("ssm", "GetParametersByPath");
            if env.session.clock.since(begun) >= CONSISTENCY_LIMIT {
                let why = "the cluster's record is not visible after it was written; try again";
                return Err(ApiError::unusable(api, why).into());
            }
            if let Err(why) = env.session.pause(AGAIN).await {
                return Err(ApiError::stopped(api, why).into());
            }
        }
    }

    /// Keeps the arguments of an apply, for an import. `false` if they are too long.
    ///
    /// # Errors
    /// The call failed.
    pub async fn keep(&self, env: &Env, arguments: &Value) -> Result<bool, ApiError> {
        if self.arguments.as_ref() == Some(arguments) {
            return Ok(true);
        }
        let (text, name) = (arguments.to_string(), format!("{}/arguments", self.path));
        if text.len() > LONGEST {
            remove(env, &self.region, &[name]).await?;
            return Ok(false);
        }
        write(env, &self.region, &name, &text, true).await?;
        Ok(true)
    }

    /// Notes that the create reached its end.
    ///
    /// # Errors
    /// The call failed.
    pub async fn complete(&self, env: &Env) -> Result<(), ApiError> {
        if self.is_complete {
            return Ok(());
        }
        write(env, &self.region, &format!("{}/complete", self.path), "true", false).await
    }

    /// Gives the suffix back, with everything that was kept. What says whose it is and whether it was finished goes in one
    /// call: half of it would let another create go on as the cluster that is gone, which the state of that one would
    /// then destroy. The leases go with it: no sooner, so that nobody begins before, and no later, as nobody would look for
    /// them any more.
    ///
    /// What went by a call whose answer was lost is not asked for again: by then, the suffix may be somebody else's.
    ///
    /// # Errors
    /// A call failed.
    pub async fn give_back(env: &Env, lease: &Lease, path: &str) -> Result<(), ApiError> {
        let region = lease.region();
        let env = &env.with_session(env.session.with_attempts(Attempts::at_most(TRIES)));
        let all = read(env, region, path).await?;
        let names = |wanted: fn(&str) -> bool| -> Vec<String> {
            all.keys().filter(|name| wanted(name)).map(|name| format!("{path}/{name}")).collect()
        };
        remove(env, region, &names(|name| !is_record(name) && !is_lease(name))).await?;
        let last = names(|name| is_record(name) || is_lease(name));
        for tries in 1.. {
            let Err(error) = remove_once(env, region, &last).await else { break };
            if error.class != ErrorClass::Transient || tries == TRIES {
                return Err(error);
            }
            // The lease's own session outlasts an interrupt; this look must not.
            let stands = tokio::select! {
                stands = lease.stands() => stands,
                () = env.session.cancel.cancelled() => return Err(error),
            };
            match stands {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whose the suffix is, and how far that cluster came.
fn is_record(name: &str) -> bool {
    matches!(name, "cluster" | "complete" | "arguments")
}

fn is_lease(name: &str) -> bool {
    name.starts_with("lease/")
}
