//! Clients of the services, per region, from credentials that are found as every AWS tool finds them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_config::{
    BehaviorVersion, ConfigLoader, Region, SdkConfig, profile::ProfileFileCredentialsProvider,
    retry::RetryConfig, sts::AssumeRoleProvider, timeout::TimeoutConfig,
};
use aws_credential_types::{Credentials as Keys, provider::SharedCredentialsProvider};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::{Clock, session::Api};

/// A call that has not answered by then is taken for lost.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A role to assume on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleToAssume {
    /// Its ARN.
    pub arn: String,
    /// The session's name.
    pub session_name: String,
    /// What its trust policy may ask for.
    pub external_id: Option<String>,
    /// A policy in JSON that narrows the session.
    pub policy: Option<String>,
    /// How long the session lasts before it is renewed; AWS's hour if `None`.
    pub duration: Option<Duration>,
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
    fn chosen(&self) -> Option<EnvConfigFiles> {
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
    /// Roles to assume, one after the other.
    pub roles: Vec<RoleToAssume>,
    /// Keys that are given, and nothing is looked for.
    pub keys: Option<Keys>,
    /// Where profiles are.
    pub files: SharedFiles,
}

/// How AWS is reached.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The time that requests are signed with and that everything waits by.
    pub clock: Clock,
    /// Endpoints by service (`kms`, `logs`…), for all regions; `*` is every service without its own.
    pub endpoints: BTreeMap<String, String>,
    /// Something other than the network to send requests to.
    pub http: Option<SharedHttpClient>,
    /// Something other than the usual places to take credentials from.
    pub credentials: Option<SharedCredentialsProvider>,
}

impl Connection {
    /// AWS itself, in real time.
    pub fn aws() -> Self {
        Self { clock: Clock::real(), endpoints: BTreeMap::new(), http: None, credentials: None }
    }
}

/// No connection can be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A service that is not called at all was given an endpoint.
    #[error("there is no service {0:?} that could have an endpoint")]
    UnknownService(String),
}

/// The name that an endpoint of all services is given under.
pub(super) const EVERY_SERVICE: &str = "*";

/// The services that are called, by the names that endpoints are given under.
const SERVICES: &[&str] = &[
    EVERY_SERVICE,
    "cloudwatch",
    "dynamodb",
    "ec2",
    "events",
    "iam",
    "kms",
    "lambda",
    "logs",
    "rds",
    "route53",
    "secretsmanager",
    "sns",
    "ssm",
    "sts",
    "tagging",
];

/// The SDK's own variables for the endpoint of a single service, with the service.
pub(super) const SERVICE_VARIABLES: &[(&str, &str)] = &[
    ("AWS_ENDPOINT_URL_CLOUDWATCH", "cloudwatch"),
    ("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "logs"),
    ("AWS_ENDPOINT_URL_DYNAMODB", "dynamodb"),
    ("AWS_ENDPOINT_URL_EC2", "ec2"),
    ("AWS_ENDPOINT_URL_EVENTBRIDGE", "events"),
    ("AWS_ENDPOINT_URL_IAM", "iam"),
    ("AWS_ENDPOINT_URL_KMS", "kms"),
    ("AWS_ENDPOINT_URL_LAMBDA", "lambda"),
    ("AWS_ENDPOINT_URL_RDS", "rds"),
    ("AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API", "tagging"),
    ("AWS_ENDPOINT_URL_ROUTE_53", "route53"),
    ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "secretsmanager"),
    ("AWS_ENDPOINT_URL_SNS", "sns"),
    ("AWS_ENDPOINT_URL_SSM", "ssm"),
    ("AWS_ENDPOINT_URL_STS", "sts"),
];

/// AWS, in every region.
#[derive(Debug)]
pub struct Aws {
    config: SdkConfig,
    connection: Connection,
    regions: Mutex<BTreeMap<String, Arc<Regional>>>,
}

impl Aws {
    /// Finds credentials and makes ready; calls nothing yet, save what the credentials need.
    ///
    /// # Errors
    /// An endpoint for a service that is not called.
    pub async fn connect(connection: Connection, from: &Credentials) -> Result<Self, ConfigError> {
        let unknown = connection.endpoints.keys().find(|name| !SERVICES.contains(&name.as_str()));
        if let Some(unknown) = unknown {
            return Err(ConfigError::UnknownService(unknown.clone()));
        }
        let mut config = loader(&connection, from).load().await;
        for role in &from.roles {
            let mut builder = AssumeRoleProvider::builder(&role.arn)
                .session_name(&role.session_name)
                .configure(&config);
            if let Some(id) = &role.external_id {
                builder = builder.external_id(id);
            }
            if let Some(policy) = &role.policy {
                builder = builder.policy(policy);
            }
            if let Some(duration) = role.duration {
                builder = builder.session_length(duration);
            }
            let inner = config.credentials_provider();
            let provider = match inner {
                Some(inner) => builder.build_from_provider(inner).await,
                None => builder.build().await,
            };
            let shared = SharedCredentialsProvider::new(provider);
            config = config.into_builder().credentials_provider(shared).build();
        }
        Ok(Self { config, connection, regions: Mutex::default() })
    }

    /// The services that are called, by the names that endpoints are given under.
    pub fn services() -> Vec<&'static str> {
        SERVICES.iter().copied().filter(|name| *name != EVERY_SERVICE).collect()
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.connection.clock
    }

    /// The clients of a region.
    pub fn region(&self, name: &str) -> Arc<Regional> {
        let mut regions = self.regions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let made = regions.entry(name.to_owned());
        Arc::clone(made.or_insert_with(|| Arc::new(self.regional(name))))
    }

    fn regional(&self, name: &str) -> Regional {
        let config =
            self.config.clone().into_builder().region(Region::new(name.to_owned())).build();
        // What is configured for a service wins over every environment variable: on the service's own
        // configuration, where the SDK puts it last.
        macro_rules! client {
            ($service:ident, $name:literal) => {{
                let endpoints = &self.connection.endpoints;
                let mut builder = $service::config::Builder::from(&config);
                if let Some(endpoint) =
                    endpoints.get($name).or_else(|| endpoints.get(EVERY_SERVICE))
                {
                    builder = builder.endpoint_url(endpoint);
                }
                $service::Client::from_conf(builder.build())
            }};
        }
        Regional {
            name: name.into(),
            cloudwatch: client!(aws_sdk_cloudwatch, "cloudwatch"),
            dynamodb: client!(aws_sdk_dynamodb, "dynamodb"),
            ec2: client!(aws_sdk_ec2, "ec2"),
            events: client!(aws_sdk_eventbridge, "events"),
            iam: client!(aws_sdk_iam, "iam"),
            kms: client!(aws_sdk_kms, "kms"),
            lambda: client!(aws_sdk_lambda, "lambda"),
            logs: client!(aws_sdk_cloudwatchlogs, "logs"),
            rds: client!(aws_sdk_rds, "rds"),
            route53: client!(aws_sdk_route53, "route53"),
            secrets: client!(aws_sdk_secretsmanager, "secretsmanager"),
            sns: client!(aws_sdk_sns, "sns"),
            ssm: client!(aws_sdk_ssm, "ssm"),
            sts: client!(aws_sdk_sts, "sts"),
            tagging: client!(aws_sdk_resourcegroupstagging, "tagging"),
        }
    }
}

fn loader(connection: &Connection, from: &Credentials) -> ConfigLoader {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .build();
    // Retries are the session's, where they can be interrupted and are decided by one table.
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .time_source(connection.clock.clone())
        .sleep_impl(connection.clock.clone());
    let files = from.files.chosen();
    if let Some(files) = &files {
        loader = loader.profile_files(files.clone());
    }
    if let Some(profile) = &from.profile {
        // A profile that is named is meant, whatever keys the environment holds.
        let mut provider = ProfileFileCredentialsProvider::builder().profile_name(profile);
        if let Some(files) = files {
            provider = provider.profile_files(files);
        }
        loader = loader.profile_name(profile).credentials_provider(provider.build());
    }
    if let Some(keys) = &from.keys {
        loader = loader.credentials_provider(keys.clone());
    }
    if let Some(endpoint) = connection.endpoints.get(EVERY_SERVICE) {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(http) = &connection.http {
        loader = loader.http_client(http.clone());
    }
    if let Some(credentials) = &connection.credentials {
        loader = loader.credentials_provider(credentials.clone());
    }
    // Only for the credentials' own calls; every client is given its region.
    loader.region(Region::new("us-east-1"))
}

/// The clients of one region.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Regional {
    pub name: Arc<str>,
    pub cloudwatch: aws_sdk_cloudwatch::Client,
    pub dynamodb: aws_sdk_dynamodb::Client,
    pub ec2: aws_sdk_ec2::Client,
    pub events: aws_sdk_eventbridge::Client,
    pub iam: aws_sdk_iam::Client,
    pub kms: aws_sdk_kms::Client,
    pub lambda: aws_sdk_lambda::Client,
    pub logs: aws_sdk_cloudwatchlogs::Client,
    pub rds: aws_sdk_rds::Client,
    pub route53: aws_sdk_route53::Client,
    pub secrets: aws_sdk_secretsmanager::Client,
    pub sns: aws_sdk_sns::Client,
    pub ssm: aws_sdk_ssm::Client,
    pub sts: aws_sdk_sts::Client,
    pub tagging: aws_sdk_resourcegroupstagging::Client,
}

impl Regional {
    /// The name of a call to this region.
    pub fn api(&self, service: &'static str, operation: &'static str) -> Api {
        Api { service, operation, region: Arc::clone(&self.name) }
    }
}
