//! The provider's own configuration: what may be written, what it means, and what contradicts itself.

mod checks;
mod schema;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path as FilePath,
    time::Duration,
};

use aws_credential_types::Credentials as Keys;

use super::checks::parse_duration;
use crate::{
    aws::{
        Attempts, Connection, Credentials, Network, RoleSession, RoleToAssume, Shared, SharedFiles,
        Token, WebIdentity,
    },
    components::{IgnoredTags, Tags},
    plugin::{Diagnostics, Path, Value},
};

pub(super) use schema::schema;

/// What a configuration says.
pub(super) struct Configuration {
    pub(super) connection: Connection,
    pub(super) credentials: Credentials,
    pub(super) accounts: Accounts,
    pub(super) default_tags: Tags,
    pub(super) ignored: IgnoredTags,
}

/// An error about one argument.
pub(super) fn refused(argument: &str, summary: &str, detail: impl Into<String>) -> Diagnostics {
    refused_at(Path::attributes(argument), summary, detail)
}

fn refused_at(path: Path, summary: &str, detail: impl Into<String>) -> Diagnostics {
    let mut found = Diagnostics::new();
    found.error_at(path, summary, detail);
    found
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).as_str().map(str::to_owned)
}

fn list(value: &Value, name: &str) -> Vec<String> {
    value.get(name).items().iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

fn map(value: &Value) -> BTreeMap<String, String> {
    let pair = |(key, one): (&str, &Value)| Some((key.to_owned(), one.as_str()?.to_owned()));
    value.entries().filter_map(pair).collect()
}

impl Configuration {
    /// Reads a configuration whose single arguments were checked, for a version of Terraform.
    ///
    /// # Errors
    /// Arguments that contradict each other, or what they name is not there.
    pub(super) async fn read(
        config: &Value,
        terraform_version: Option<&str>,
    ) -> Result<Self, Diagnostics> {
        let credentials = credentials(config)?;
        let accounts = Accounts::of(config)?;
        let ignored = ignored(config)?;
        let shared = Shared::load(&credentials).await;
        let mut connection =
            Connection::from_environment(map(config.get("endpoints"))).map_err(|error| {
                Diagnostics::from_error("The clock cannot be scaled", error.to_string())
            })?;
        connection.sts_region = text(config, "sts_region");
        connection.use_fips = config.get("use_fips_endpoint").as_bool();
        connection.use_dual_stack = config.get("use_dualstack_endpoint").as_bool();
        if let Some(attempts) = attempts(config, &shared)? {
            connection.attempts = attempts;
        }
        connection.is_adaptive = is_adaptive(config, &shared)?;
        let network = network(config, terraform_version);
        let connection = connection.through(&network).map_err(|error| {
            let argument = ARGUMENTS.iter().find(|one| **one == error.chosen_by);
            match argument {
                Some(name) => {
                    refused(name, &format!("{name} cannot be used"), sentence(&error.why))
                }
                None => {
                    let summary = format!("{} cannot be used", error.chosen_by);
                    Diagnostics::from_error(summary, sentence(&error.why))
                }
            }
        })?;
        let default_tags = map(config.get("default_tags").get("tags"));
        if let Some(key) = default_tags.keys().find(|key| ignored.covers(key)) {
            return Err(refused(
                "ignore_tags",
                "A default tag is ignored",
                format!(
                    "{key} is among default_tags, and covered here. Leave it out of one of the two."
                ),
            ));
        }
        Ok(Self { connection, credentials, accounts, default_tags, ignored })
    }
}

/// The arguments of [`Network`].
const ARGUMENTS: [&str; 4] = ["http_proxy", "https_proxy", "no_proxy", "custom_ca_bundle"];

/// Where the provider is at home.
const HOME: &str = "https://registry.terraform.io/providers/tradingdr/trading";

fn sentence(text: &str) -> String {
    super::checks::sentence(text)
}

/// A path with the user's own folder for `~`, as shells and the SDK read it.
fn at_home(path: &str) -> String {
    let below = path.strip_prefix("~/").zip(std::env::home_dir());
    below.map_or_else(|| path.to_owned(), |(rest, home)| home.join(rest).display().to_string())
}

fn network(config: &Value, terraform_version: Option<&str>) -> Network {
    // As HashiCorp's own providers write it.
    let terraform = terraform_version.map_or_else(String::new, |version| {
        format!("Terraform/{version} (+https://www.terraform.io) ")
    });
    let version = env!("CARGO_PKG_VERSION");
    Network {
        http_proxy: text(config, "http_proxy"),
        https_proxy: text(config, "https_proxy"),
        no_proxy: text(config, "no_proxy"),
        ca_bundle: text(config, "custom_ca_bundle").map(|path| at_home(&path)),
        user_agent: format!("{terraform}terraform-provider-trading/{version} (+{HOME})"),
        more_user_agent: std::env::var("TF_APPEND_USER_AGENT").ok(),
    }
}

/// How often calls are made, by the argument, or else by what every AWS tool reads.
fn attempts(config: &Value, shared: &Shared) -> Result<Option<Attempts>, Diagnostics> {
    if let Some(retries) = config.get("max_retries").as_i64() {
        let retries = u32::try_from(retries).unwrap_or(u32::MAX);
        return Ok(Some(Attempts::at_most(retries.saturating_add(1))));
    }
    let count = shared.value("AWS_MAX_ATTEMPTS", "max_attempts", |text| {
        text.parse::<u32>().ok().filter(|count| *count > 0)
    });
    count.map(|found| found.map(Attempts::at_most)).map_err(|place| {
        let detail =
            "It is the number of attempts, 1 or more. The provider's max_retries wins over it.";
        Diagnostics::from_error(format!("{place} makes no sense"), detail)
    })
}

fn is_adaptive(config: &Value, shared: &Shared) -> Result<bool, Diagnostics> {
    if let Some(mode) = config.get("retry_mode").as_str() {
        return Ok(mode == "adaptive");
    }
    let mode = shared.value("AWS_RETRY_MODE", "retry_mode", |text| match text {
        "adaptive" => Some(true),
        // The way of the oldest SDKs, which others of them take for standard.
        "standard" | "legacy" => Some(false),
        _ => None,
    });
    mode.map(Option::unwrap_or_default).map_err(|place| {
        let detail = "It is standard or adaptive. The provider's retry_mode wins over it.";
        Diagnostics::from_error(format!("{place} makes no sense"), detail)
    })
}

fn ignored(config: &Value) -> Result<IgnoredTags, Diagnostics> {
    let config = config.get("ignore_tags");
    let ignored =
        IgnoredTags { keys: list(config, "keys"), key_prefixes: list(config, "key_prefixes") };
    match ignored.own() {
        None => Ok(ignored),
        Some(own) => Err(refused(
            "ignore_tags",
            "Tags of the provider's own cannot be ignored",
            format!(
                "{own:?} covers Name, or a tag that begins with trading-dr:, by which the provider tells what is \
                 its own."
            ),
        )),
    }
}

/// Which accounts may be worked in.
#[derive(Clone, Debug, Default)]
pub(super) struct Accounts {
    allowed: BTreeSet<String>,
    forbidden: BTreeSet<String>,
}

impl Accounts {
    fn of(config: &Value) -> Result<Self, Diagnostics> {
        let ids = |name: &str| list(config, name).into_iter().collect::<BTreeSet<_>>();
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
    pub(super) fn refuse(&self, account: &str) -> Option<String> {
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

fn session(role: &Value) -> RoleSession {
    RoleSession {
        role: text(role, "role_arn").unwrap_or_default(),
        name: text(role, "session_name").unwrap_or_else(|| "terraform-provider-trading".into()),
        policy: text(role, "policy"),
        policy_arns: list(role, "policy_arns"),
        duration: text(role, "duration").and_then(|length| parse_duration(&length)),
    }
}

/// The longest session of a role that is assumed from another role's.
const CHAINED: Duration = Duration::from_secs(3600);

fn roles(config: &Value) -> Result<Vec<RoleToAssume>, Diagnostics> {
    let mut all: Vec<RoleToAssume> = Vec::new();
    let mut is_session = !config.get("assume_role_with_web_identity").is_null();
    let mut identity: Option<String> = None;
    for (index, role) in config.get("assume_role").items().iter().enumerate() {
        let at = |name: &str| Path::attributes("assume_role").index(index).attribute(name);
        let role = RoleToAssume {
            session: session(role),
            external_id: text(role, "external_id"),
            source_identity: text(role, "source_identity"),
            tags: map(role.get("tags")),
            transitive_tag_keys: list(role, "transitive_tag_keys"),
        };
        if is_session && role.session.duration.is_some_and(|length| length > CHAINED) {
            return Err(refused_at(
                at("duration"),
                "A chained session lasts one hour at most",
                "AWS allows no more for a role that is assumed with another role's credentials. It is renewed as long \
                 as the run takes.",
            ));
        }
        let has = |tags: &BTreeMap<String, String>, key: &str| {
            tags.keys().any(|one| one.eq_ignore_ascii_case(key))
        };
        if let Some(key) = role.transitive_tag_keys.iter().find(|key| !has(&role.tags, key)) {
            return Err(refused_at(
                at("transitive_tag_keys"),
                "A transitive tag has no value",
                format!("{key} is not among the role's tags."),
            ));
        }
        let earlier = all.iter().find_map(|one| {
            let inherited = one.transitive_tag_keys.iter().find(|key| has(&role.tags, key));
            inherited.map(|key| (key, &one.session.role))
        });
        if let Some((key, from)) = earlier {
            return Err(refused_at(
                at("tags"),
                "A session tag is inherited already",
                format!(
                    "{key} is transitive in the session of {from}, and AWS lets no later role change it."
                ),
            ));
        }
        match (&identity, &role.source_identity) {
            (Some(first), Some(own)) if first != own => {
                return Err(refused_at(
                    at("source_identity"),
                    "The source identity is set already",
                    format!("The chain began with {first}, and AWS lets no later role change it."),
                ));
            }
            (None, own) => identity.clone_from(own),
            _ => {}
        }
        is_session = true;
        all.push(role);
    }
    Ok(all)
}

fn web_identity(config: &Value) -> Result<Option<WebIdentity>, Diagnostics> {
    let argument = "assume_role_with_web_identity";
    let given = config.get(argument);
    if given.is_null() {
        return Ok(None);
    }
    for other in ["profile", "access_key"] {
        if config.get(other).as_str().is_some() {
            return Err(refused(
                argument,
                "Credentials are given twice",
                format!(
                    "Either {argument} or {other} is where they come from. Leave one of them out."
                ),
            ));
        }
    }
    let file = text(given, "web_identity_token_file").map(|path| at_home(&path));
    let token = match (text(given, "web_identity_token"), file) {
        (Some(token), None) => Token::Text(token),
        (None, Some(file)) if !FilePath::new(&file).is_file() => {
            return Err(refused(
                &format!("{argument}.web_identity_token_file"),
                "The token's file is missing",
                format!("There is no file {file}."),
            ));
        }
        (None, Some(file)) => Token::File(file.into()),
        _ => {
            return Err(refused(
                argument,
                "The token is given once",
                "Give web_identity_token or web_identity_token_file, and not both.",
            ));
        }
    };
    Ok(Some(WebIdentity { session: session(given), token }))
}

/// Where credentials come from.
fn credentials(config: &Value) -> Result<Credentials, Diagnostics> {
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
        config: list(config, "shared_config_files"),
        credentials: list(config, "shared_credentials_files"),
    };
    for (argument, files) in
        [("shared_config_files", &files.config), ("shared_credentials_files", &files.credentials)]
    {
        // The SDK knows `~`, and takes a file that is not there for an empty one.
        let is_missing = |path: &&String| !path.starts_with('~') && !FilePath::new(path).is_file();
        if let Some(path) = files.iter().find(is_missing) {
            return Err(refused(
                argument,
                "A shared file is missing",
                format!("There is no file {path}."),
            ));
        }
    }
    let (roles, web_identity) = (roles(config)?, web_identity(config)?);
    if !files.credentials.is_empty() && (keys.is_some() || web_identity.is_some()) {
        return Err(refused(
            "shared_credentials_files",
            "Keys and files of keys are both given",
            "With access_key or assume_role_with_web_identity, nothing is looked for in shared_credentials_files. \
             Leave one of them out.",
        ));
    }
    Ok(Credentials { profile, keys, web_identity, files, roles })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_are_spaced_out_where_the_argument_or_the_profile_says_so() {
        let folder = std::env::temp_dir().join(format!("trading-retries-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("config");
        let text = "[profile slow]\nretry_mode = adaptive\n[profile plain]\nregion = us-west-2\n";
        std::fs::write(&file, text).unwrap();
        for (profile, argument, expected) in [
            ("plain", None, false),
            ("plain", Some("adaptive"), true),
            ("slow", None, true),
            ("slow", Some("standard"), false),
        ] {
            let files =
                SharedFiles { config: vec![file.display().to_string()], ..SharedFiles::default() };
            let credentials =
                Credentials { profile: Some(profile.into()), files, ..Credentials::default() };
            let shared = Shared::load(&credentials).await;
            let config = argument.map(|mode| ("retry_mode".to_owned(), Value::string(mode)));
            let config = Value::Mapping(config.into_iter().collect());
            assert_eq!(is_adaptive(&config, &shared), Ok(expected), "{profile} {argument:?}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
