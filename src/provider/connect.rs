//! From the provider's configuration to AWS.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use tokio::sync::OnceCell;

use super::{
    archive,
    configuration::{self, Accounts, Configuration},
    walk::Memory,
};
use crate::{
    aws::{ApiError, Attempts, Aws, ConfigError, ErrorClass, Session},
    components::{Archive, Env, IgnoredTags, Scope, Tags},
    plugin::{Diagnostics, Value},
};

/// Who calls AWS.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    account: String,
    partition: String,
}

/// A configured provider.
pub(super) struct Configured {
    pub(super) aws: Arc<Aws>,
    pub(super) default_tags: Tags,
    pub(super) ignored: Arc<IgnoredTags>,
    archive: OnceLock<Result<Archive, String>>,
    identity: OnceCell<Identity>,
    accounts: Accounts,
    memory: Mutex<Memory>,
    /// The folder of the files in which runs tell what they do.
    pub(super) progress: Option<PathBuf>,
}

impl Configured {
    /// AWS with its default tags. Without an archive of the agent, the one beside the program is taken when it
    /// is needed.
    pub(super) fn new(
        aws: Aws,
        default_tags: Tags,
        archive: Option<Result<Archive, String>>,
    ) -> Self {
        let archive = archive.map_or_else(OnceLock::new, OnceLock::from);
        let (identity, memory) = (OnceCell::new(), Mutex::default());
        let (accounts, ignored) = (Accounts::default(), Arc::default());
        let (aws, progress) = (Arc::new(aws), None);
        Self { aws, default_tags, ignored, archive, identity, accounts, memory, progress }
    }

    /// The same, whose runs tell what they do in a file in that folder.
    pub(super) fn with_progress_in(self, progress: Option<PathBuf>) -> Self {
        Self { progress, ..self }
    }

    /// The agent's archive, or why there is none.
    pub(super) fn archive(&self) -> &Result<Archive, String> {
        self.archive.get_or_init(archive::find)
    }

    /// Connects as a configuration says, for a version of Terraform, or for nobody's.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) async fn connect(
        config: &Value,
        terraform_version: Option<&str>,
    ) -> Result<Self, Diagnostics> {
        let Configuration { connection, credentials, accounts, default_tags, ignored } =
            Configuration::read(config, terraform_version).await?;
        let aws = Aws::connect(connection, &credentials).await.map_err(|error| match error {
            ConfigError::TwoEndpoints => Diagnostics::from_error(
                "Special endpoints mean nothing beside one for everything",
                format!(
                    "{error}. Unset it, or leave use_fips_endpoint and use_dualstack_endpoint out (also \
                     AWS_USE_FIPS_ENDPOINT, AWS_USE_DUALSTACK_ENDPOINT and the profile's)."
                ),
            ),
            ConfigError::UnknownService(_) => configuration::refused(
                "endpoints",
                "The endpoints cannot be used",
                format!("{error}. The provider calls: {}.", Aws::services().join(", ")),
            ),
        })?;
        Ok(Self { accounts, ignored: Arc::new(ignored), ..Self::new(aws, default_tags, None) })
    }

    /// What an operation on a cluster works with.
    pub(super) fn env(&self, session: Session, scope: Scope) -> Env {
        Env::new(self.aws.clone(), session, scope).ignoring(Arc::clone(&self.ignored))
    }

    /// Another walk of Terraform's begins. A process usually serves one; one that was started for a debugger, or by a
    /// framework for tests, serves many.
    pub(super) fn begin_walk(&self) {
        *self.memory() = Memory::default();
    }

    /// What later operations of this walk may use.
    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a region's STS who calls.
    async fn ask(&self, session: &Session, region: &str) -> Result<Identity, ApiError> {
        let regional = self.aws.region(region);
        let api = regional.api("sts", "GetCallerIdentity");
        let call = || regional.sts.get_caller_identity().send();
        let answer = session.call(api.clone(), call).await?;
        let partition = answer.arn().and_then(|arn| arn.split(':').nth(1));
        match (answer.account(), partition) {
            (Some(account), Some(partition)) => match self.accounts.refuse(account) {
                Some(why) => Err(ApiError::wrong_account(api, why)),
                None => {
                    let (account, partition) = (account.to_owned(), partition.to_owned());
                    Ok(Identity { account, partition })
                }
            },
            _ => Err(ApiError::unusable(api, "the answer names no account")),
        }
    }

    /// The account and partition, asked for once: in the first of these regions, or in the second one while that does
    /// not answer, unless another one's STS was chosen.
    ///
    /// # Errors
    /// The call failed.
    pub(super) async fn scope(
        &self,
        session: &Session,
        suffix: &str,
        regions: [&str; 2],
    ) -> Result<Scope, ApiError> {
        let ask = || async {
            if let Some(chosen) = self.aws.sts_region() {
                return self.ask(session, chosen).await;
            }
            let once = session.with_attempts(Attempts::at_most(1));
            let first = match self.ask(&once, regions[0]).await {
                Err(error) if error.class.is_retryable() => error,
                answer => return answer,
            };
            let mut second = None;
            // What keeps a role from being assumed does so anywhere.
            if first.api.operation == "GetCallerIdentity" {
                match self.ask(&once, regions[1]).await {
                    Err(error) if error.class.is_retryable() => second = Some(error.class),
                    answer => return answer,
                }
            }
            if !session.is_patient() {
                return Err(first);
            }
            // Whoever throttles is there.
            let is_there =
                second == Some(ErrorClass::Throttled) && first.class != ErrorClass::Throttled;
            self.ask(session, regions[usize::from(is_there)]).await
        };
        let identity = self.identity.get_or_try_init(ask).await?.clone();
        Ok(Scope {
            suffix: suffix.to_owned(),
            cluster_id: None,
            leaving: BTreeSet::new(),
            account: identity.account,
            partition: identity.partition,
        })
    }
}
