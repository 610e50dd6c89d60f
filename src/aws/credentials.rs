//! Where credentials come from: found as every AWS tool finds them or given, and then role after role.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use aws_config::{Region, SdkConfig};
use aws_credential_types::{
    Credentials as Keys,
    provider::{
        ProvideCredentials, SharedCredentialsProvider, error::CredentialsError,
        future::ProvideCredentials as Provided,
    },
};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_sts::types::{PolicyDescriptorType, Tag};
use aws_types::os_shim_internal::{Env, Fs};

use super::session::{Api, describe};

/// What every session of a role has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleSession {
    /// The role's ARN.
    pub role: String,
    /// The session's name.
    pub name: String,
    /// A policy in JSON that narrows the session.
    pub policy: Option<String>,
    /// Managed policies that narrow it.
    pub policy_arns: Vec<String>,
    /// How long it lasts before it is renewed; AWS's hour if `None`.
    pub duration: Option<Duration>,
}

impl RoleSession {
    fn seconds(&self) -> Option<i32> {
        self.duration.map(|length| i32::try_from(length.as_secs()).unwrap_or(i32::MAX))
    }

    fn policy_arns(&self) -> Option<Vec<PolicyDescriptorType>> {
        let one = |arn: &String| PolicyDescriptorType::builder().arn(arn).build();
        Some(self.policy_arns.iter().map(one).collect()).filter(|all: &Vec<_>| !all.is_empty())
    }
}

/// A role to assume on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleToAssume {
    /// The session.
    pub session: RoleSession,
    /// What its trust policy may ask for.
    pub external_id: Option<String>,
    /// Who is behind it all, for every session of a chain.
    pub source_identity: Option<String>,
    /// The session's tags.
    pub tags: BTreeMap<String, String>,
    /// Those of them that the sessions after it inherit.
    pub transitive_tag_keys: Vec<String>,
}

/// A role that an identity provider's token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebIdentity {
    /// The session.
    pub session: RoleSession,
    /// The token.
    pub token: Token,
}

/// An identity provider's token.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// As it is.
    Text(String),
    /// In a file that is read again for every session, since tokens are short-lived.
    File(PathBuf),
}

impl std::fmt::Debug for Token {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => out.write_str("Text(kept out)"),
            Self::File(path) => out.debug_tuple("File").field(path).finish(),
        }
    }
}

/// Shared files other than the usual ones, each kind for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedFiles {
    /// Instead of `~/.aws/config`.
    pub config: Vec<String>,
    /// Instead of `~/.aws/credentials`.
    pub credentials: Vec<String>,
}

impl SharedFiles {
    /// As the SDK takes them; `None` where the usual ones are meant.
    pub(super) fn chosen(&self) -> Option<EnvConfigFiles> {
        if self.config.is_empty() && self.credentials.is_empty() {
            return None;
        }
        let mut files = EnvConfigFiles::builder()
            .include_default_config_file(self.config.is_empty())
            .include_default_credentials_file(self.credentials.is_empty());
        for path in &self.config {
            files = files.with_file(EnvConfigFileKind::Config, path);
        }
        for path in &self.credentials {
            files = files.with_file(EnvConfigFileKind::Credentials, path);
        }
        Some(files.build())
    }
}

/// Where credentials come from.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// A profile of the shared configuration; the environment's choice if `None`.
    pub profile: Option<String>,
    /// Keys that are given, and nothing is looked for.
    pub keys: Option<Keys>,
    /// A token that is given, and nothing is looked for.
    pub web_identity: Option<WebIdentity>,
    /// Where profiles are.
    pub files: SharedFiles,
    /// Roles to assume, one after the other.
    pub roles: Vec<RoleToAssume>,
}

/// Gives the configuration the credentials at the chain's end; STS is asked by the clients that `sts` makes.
pub(super) fn chained(
    mut config: SdkConfig,
    from: &Credentials,
    sts: impl Fn(&SdkConfig) -> aws_sdk_sts::Client,
) -> SdkConfig {
    let region = config.region().map(Region::to_string).unwrap_or_default();
    let api = |operation| Api { service: "sts", operation, region: region.as_str().into() };
    if let Some(identity) = from.web_identity.clone() {
        let api = api("AssumeRoleWithWebIdentity");
        let provider = TokenProvider { sts: sts(&config), identity, api };
        config = with(&config, provider);
    }
    for role in &from.roles {
        let provider =
            RoleProvider { sts: sts(&config), role: role.clone(), api: api("AssumeRole") };
        config = with(&config, provider);
    }
    config
}

fn with(config: &SdkConfig, provider: impl ProvideCredentials + 'static) -> SdkConfig {
    let shared = SharedCredentialsProvider::new(provider);
    config.clone().into_builder().credentials_provider(shared).build()
}

type Answer = Result<Keys, CredentialsError>;

fn keys(answer: Option<aws_sdk_sts::types::Credentials>) -> Answer {
    let answer = answer.ok_or_else(|| CredentialsError::unhandled("STS gave no credentials"))?;
    let expires = answer.expiration.try_into().map_err(CredentialsError::unhandled)?;
    Ok(Keys::new(
        answer.access_key_id,
        answer.secret_access_key,
        Some(answer.session_token),
        Some(expires),
        "sts",
    ))
}

/// Assumes a role with the credentials that its client has. One attempt: whoever needs them repeats it.
#[derive(Debug)]
struct RoleProvider {
    sts: aws_sdk_sts::Client,
    role: RoleToAssume,
    api: Api,
}

impl RoleProvider {
    async fn assume(&self) -> Answer {
        let RoleToAssume { session, external_id, source_identity, tags, transitive_tag_keys } =
            &self.role;
        // STS never fails to take two texts that are not empty.
        let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build();
        let tags: Result<Vec<_>, _> = tags.iter().map(tag).collect();
        let some = |all: Vec<String>| Some(all).filter(|all| !all.is_empty());
        let call = self
            .sts
            .assume_role()
            .role_arn(&session.role)
            .role_session_name(&session.name)
            .set_policy(session.policy.clone())
            .set_policy_arns(session.policy_arns())
            .set_duration_seconds(session.seconds())
            .set_external_id(external_id.clone())
            .set_source_identity(source_identity.clone())
            .set_tags(
                Some(tags.map_err(CredentialsError::unhandled)?).filter(|all| !all.is_empty()),
            )
            .set_transitive_tag_keys(some(transitive_tag_keys.clone()));
        let answer = Box::pin(call.send()).await;
        let answer = answer.map_err(|error| failed(&self.api, &session.role, &error))?;
        keys(answer.credentials)
    }
}

impl ProvideCredentials for RoleProvider {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        Provided::new(self.assume())
    }
}

/// Turns a token into a role's credentials; needs none for that.
#[derive(Debug)]
struct TokenProvider {
    sts: aws_sdk_sts::Client,
    identity: WebIdentity,
    api: Api,
}

impl TokenProvider {
    async fn assume(&self) -> Answer {
        let WebIdentity { session, token } = &self.identity;
        let token = match token {
            Token::Text(text) => text.clone(),
            Token::File(path) => tokio::fs::read_to_string(path).await.map_err(|error| {
                let why = format!("the token in {} cannot be read: {error}", path.display());
                CredentialsError::invalid_configuration(why)
            })?,
        };
        let call = self
            .sts
            .assume_role_with_web_identity()
            .role_arn(&session.role)
            .role_session_name(&session.name)
            .web_identity_token(token.trim())
            .set_policy(session.policy.clone())
            .set_policy_arns(session.policy_arns())
            .set_duration_seconds(session.seconds());
        let answer = Box::pin(call.send()).await;
        let answer = answer.map_err(|error| failed(&self.api, &session.role, &error))?;
        keys(answer.credentials)
    }
}

impl ProvideCredentials for TokenProvider {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        Provided::new(self.assume())
    }
}

/// The error with the role's ARN in it, which AWS's own message does not always hold.
fn failed<E>(
    api: &Api,
    role: &str,
    error: &aws_smithy_runtime_api::client::result::SdkError<
        E,
        aws_smithy_runtime_api::client::orchestrator::HttpResponse,
    >,
) -> CredentialsError
where
    E: aws_smithy_types::error::metadata::ProvideErrorMetadata + std::fmt::Debug,
{
    let mut found = describe(api, error);
    if !found.message.contains(role) {
        found.message = format!("{} (role {role})", found.message);
    }
    CredentialsError::provider_error(found)
}

/// What the environment and the profile in use say besides credentials.
#[derive(Debug)]
pub struct Shared {
    profiles: Option<aws_config::profile::ProfileSet>,
}

impl Shared {
    /// Reads the shared files. What is wrong with them is told where credentials are looked for in them.
    pub async fn load(from: &Credentials) -> Self {
        let files = from.files.chosen().unwrap_or_default();
        let profile = from.profile.clone().map(Into::into);
        let (fs, env) = (Fs::real(), Env::real());
        Self { profiles: aws_config::profile::load(&fs, &env, &files, profile).await.ok() }
    }

    /// What a variable says, or else the profile under a key.
    ///
    /// # Errors
    /// Where it stands, if it cannot be read.
    pub fn value<T>(
        &self,
        variable: &str,
        key: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, String> {
        if let Some(text) = std::env::var(variable).ok().filter(|text| !text.is_empty()) {
            return read(&text).map(Some).ok_or_else(|| format!("{variable}={text}"));
        }
        let Some(profiles) = &self.profiles else { return Ok(None) };
        let Some(text) = profiles.get(key) else { return Ok(None) };
        let place = || format!("{key} = {text} of the profile {}", profiles.selected_profile());
        read(text).map(Some).ok_or_else(place)
    }
}
