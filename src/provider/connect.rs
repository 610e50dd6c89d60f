//! From the provider's configuration to AWS.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use aws_credential_types::Credentials as Keys;
use tokio::sync::OnceCell;

use super::{archive, checks::parse_duration, flow::Opened};
use crate::{
    aws::{ApiError, Aws, Connection, Credentials, RoleToAssume, Session, SharedFiles},
    components::{Archive, Scope, Tags},
    plugin::{Diagnostics, Path, Value},
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
    archive: OnceLock<Result<Archive, String>>,
    identity: OnceCell<Identity>,
    accounts: Accounts,
    memory: Mutex<Memory>,
    /// The folder of the files in which runs tell what they do.
    pub(super) progress: Option<PathBuf>,
}

/// Which accounts may be worked in.
#[derive(Clone, Debug, Default)]
struct Accounts {
    allowed: BTreeSet<String>,
    forbidden: BTreeSet<String>,
}

impl Accounts {
    fn of(config: &Value) -> Result<Self, Diagnostics> {
        let ids = |name: &str| -> BTreeSet<String> {
            config
                .get(name)
                .items()
                .iter()
                .filter_map(|id| id.as_str().map(str::to_owned))
                .collect()
        };
        let all =
            Self { allowed: ids("allowed_account_ids"), forbidden: ids("forbidden_account_ids") };
        if all.allowed.is_empty() || all.forbidden.is_empty() {
            return Ok(all);
        }
        Err(refused(
            "forbidden_account_ids",
            "Accounts are allowed or forbidden, not both",
            "With allowed_account_ids, every other account is ruled out already. Leave one of the two out.",
        ))
    }

    /// Why an account may not be worked in.
    fn refuse(&self, account: &str) -> Option<String> {
        if self.forbidden.contains(account) {
            return Some(format!(
                "They belong to the account {account}, which forbidden_account_ids names. Nothing else was called."
            ));
        }
        if self.allowed.is_empty() || self.allowed.contains(account) {
            return None;
        }
        Some(format!(
            "They belong to the account {account}, and allowed_account_ids names only {}. Nothing else was called.",
            self.allowed.iter().cloned().collect::<Vec<_>>().join(", ")
        ))
    }
}

fn refused(argument: &'static str, summary: &str, detail: impl Into<String>) -> Diagnostics {
    let mut found = Diagnostics::new();
    found.error_at(Path::attributes(argument), summary, detail);
    found
}

/// Where credentials come from, by a configuration.
fn credentials(config: &Value) -> Result<Credentials, Diagnostics> {
    let text = |value: &Value, name: &str| value.get(name).as_str().map(str::to_owned);
    let list = |name: &str| -> Vec<String> {
        config.get(name).items().iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    let roles = config.get("assume_role").items().iter().map(|role| RoleToAssume {
        arn: text(role, "role_arn").unwrap_or_default(),
        session_name: text(role, "session_name")
            .unwrap_or_else(|| "terraform-provider-trading".into()),
        external_id: text(role, "external_id"),
        policy: text(role, "policy"),
        duration: text(role, "duration").and_then(|length| parse_duration(&length)),
    });
    let profile = text(config, "profile");
    let keys = match (text(config, "access_key"), text(config, "secret_key")) {
        (Some(_), Some(_)) if profile.is_some() => {
            return Err(refused(
                "profile",
                "Keys and a profile are both given",
                "Either access_key and secret_key are meant, or the profile. Leave one of them out.",
            ));
        }
        (Some(id), Some(secret)) => {
            Some(Keys::new(id, secret, text(config, "token"), None, "provider"))
        }
        (None, None) if text(config, "token").is_none() => None,
        (Some(_), None) => {
            return Err(refused(
                "secret_key",
                "The secret of access_key is missing",
                "Give both, or neither.",
            ));
        }
        (None, _) => {
            return Err(refused(
                "access_key",
                "The id of the key is missing",
                "Give it with secret_key, or neither.",
            ));
        }
    };
    let files = SharedFiles {
        config: list("shared_config_files"),
        credentials: list("shared_credentials_files"),
    };
    for (argument, files) in
        [("shared_config_files", &files.config), ("shared_credentials_files", &files.credentials)]
    {
        // The SDK knows `~`, and takes a file that is not there for an empty one.
        let is_missing =
            |path: &&String| !path.starts_with('~') && !std::path::Path::new(path).is_file();
        if let Some(path) = files.iter().find(is_missing) {
            return Err(refused(
                argument,
                "A shared file is missing",
                format!("There is no file {path}."),
            ));
        }
    }
    Ok(Credentials { profile, roles: roles.collect(), keys, files })
}

/// What an operation leaves for a later one of the same process.
#[derive(Default)]
pub(super) struct Memory {
    /// The last look at each cluster, by its suffix, which a plan takes over from the read before it.
    pub(super) looked: BTreeMap<String, Opened>,
    /// Suffixes that Terraform has in its state: creating them again means to replace them.
    pub(super) in_state: BTreeSet<String>,
    /// Suffixes of clusters that a plan of this process replaces by others.
    pub(super) leaving: BTreeSet<String>,
    /// Suffixes of clusters that are protected from being destroyed.
    pub(super) protected: BTreeSet<String>,
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
        let accounts = Accounts::default();
        let aws = Arc::new(aws);
        Self { aws, default_tags, archive, identity, accounts, memory, progress: None }
    }

    /// The same, whose runs tell what they do in a file in that folder.
    pub(super) fn with_progress_in(self, progress: Option<PathBuf>) -> Self {
        Self { progress, ..self }
    }

    /// The agent's archive, or why there is none.
    pub(super) fn archive(&self) -> &Result<Archive, String> {
        self.archive.get_or_init(archive::find)
    }

    /// Connects as a configuration says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) async fn connect(config: &Value) -> Result<Self, Diagnostics> {
        let mut endpoints = BTreeMap::new();
        for (service, endpoint) in config.get("endpoints").entries() {
            endpoints.insert(service.to_owned(), endpoint.as_str().unwrap_or_default().to_owned());
        }
        let connection = Connection::from_environment(endpoints).map_err(|error| {
            Diagnostics::from_error("The clock cannot be scaled", error.to_string())
        })?;
        let credentials = credentials(config)?;
        let accounts = Accounts::of(config)?;
        let tags = config.get("default_tags");
        let tags = tags
            .get("tags")
            .entries()
            .filter_map(|(key, tag)| Some((key.to_owned(), tag.as_str()?.to_owned())));
        match Aws::connect(connection, &credentials).await {
            Ok(aws) => Ok(Self { accounts, ..Self::new(aws, tags.collect(), None) }),
            Err(error) => {
                let mut found = Diagnostics::new();
                found.error_at(
                    Path::attributes("endpoints"),
                    "The endpoints cannot be used",
                    format!("{error}. The provider calls: {}.", Aws::services().join(", ")),
                );
                Err(found)
            }
        }
    }

    /// What later operations of this process may use.
    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account and partition, asked for once; in the DR region, which is there when the other is not.
    ///
    /// # Errors
    /// The call failed.
    pub(super) async fn scope(
        &self,
        session: &Session,
        suffix: &str,
        region: &str,
    ) -> Result<Scope, ApiError> {
        let ask = || async {
            let regional = self.aws.region(region);
            let api = regional.api("sts", "GetCallerIdentity");
            let call = || regional.sts.get_caller_identity().send();
            let answer = session.call(api.clone(), call).await?;
            let partition = answer.arn().and_then(|arn| arn.split(':').nth(1));
            match (answer.account(), partition) {
                (Some(account), Some(partition)) => match self.accounts.refuse(account) {
                    Some(why) => Err(ApiError::wrong_account(api, why)),
                    None => Ok(Identity {
                        account: account.to_owned(),
                        partition: partition.to_owned(),
                    }),
                },
                _ => Err(ApiError::unusable(api, "the answer names no account")),
            }
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
