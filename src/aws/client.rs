//! Clients of the services, per region, from credentials that are found as every AWS tool finds them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_config::{
    BehaviorVersion, ConfigLoader, Region, SdkConfig, profile::ProfileFileCredentialsProvider,
    provider_config::ProviderConfig, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::{
    Clock, Network, NetworkError,
    credentials::{Credentials, chained},
    session::{Api, Attempts},
};

/// A call that has not answered by then is taken for lost.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The region whose STS gives credentials, unless another one is chosen: the usual DR region, because credentials
/// are needed most when the usual primary region is lost. They count everywhere.
const STS_REGION: &str = "us-west-2";

/// How AWS is reached.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The time that requests are signed with and that everything waits by.
    pub clock: Clock,
    /// Endpoints by service (`kms`, `logs`…), for all regions, or for one (`kms.us-west-2`), which wins; `*` is
    /// every service without its own.
    pub endpoints: BTreeMap<String, String>,
    /// Whether the endpoints of FIPS 140 are called, where a service has none of its own.
    pub use_fips: Option<bool>,
    /// Whether the endpoints with IPv6 are called, where a service has none of its own.
    pub use_dual_stack: Option<bool>,
    /// The region whose STS is asked for roles, and who is calling; the DR region for the latter if `None`.
    pub sts_region: Option<String>,
    /// How often a call is made before its failing counts.
    pub attempts: Attempts,
    /// Whether calls to a service that throttles are spaced out beforehand.
    pub is_adaptive: bool,
    /// Something other than the network to send requests to.
    pub http: Option<SharedHttpClient>,
    /// Something other than the usual places to take credentials from.
    pub credentials: Option<SharedCredentialsProvider>,
}

impl Connection {
    /// AWS itself, in real time.
    pub fn aws() -> Self {
        Self {
            clock: Clock::real(),
            endpoints: BTreeMap::new(),
            use_fips: None,
            use_dual_stack: None,
            sts_region: None,
            attempts: Attempts::default(),
            is_adaptive: false,
            http: None,
            credentials: None,
        }
    }

    /// The same, with requests that leave the machine like that.
    ///
    /// # Errors
    /// A choice cannot be followed.
    pub fn through(self, network: &Network) -> Result<Self, NetworkError> {
        Ok(Self { http: Some(network.client()?), ..self })
    }

    /// The endpoint that was chosen for a service in a region.
    fn endpoint(&self, service: &str, region: &str) -> Option<&String> {
        let own = self.endpoints.get(&format!("{service}.{region}"));
        own.or_else(|| self.endpoints.get(service)).or_else(|| self.endpoints.get(EVERY_SERVICE))
    }
}

/// No connection can be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A service that is not called at all was given an endpoint.
    #[error("there is no service {0:?} that could have an endpoint")]
    UnknownService(String),
    /// Endpoints of FIPS 140 or with IPv6 are wanted, and one endpoint is given for everything.
    #[error(
        "AWS_ENDPOINT_URL, or the profile's endpoint_url, names one endpoint for every service, and others are asked \
         for as well"
    )]
    TwoEndpoints,
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
    pub async fn connect(
        mut connection: Connection,
        from: &Credentials,
    ) -> Result<Self, ConfigError> {
        let is_known =
            |name: &str| name.split('.').next().is_some_and(|one| SERVICES.contains(&one));
        let unknown = connection.endpoints.keys().find(|name| !is_known(name));
        if let Some(unknown) = unknown {
            return Err(ConfigError::UnknownService(unknown.clone()));
        }
        let loaded = loader(&connection, from).load().await;
        let is_special = [loaded.use_fips(), loaded.use_dual_stack()].contains(&Some(true));
        if is_special {
            if loaded.endpoint_url().is_some() && !connection.endpoints.contains_key(EVERY_SERVICE)
            {
                return Err(ConfigError::TwoEndpoints);
            }
            // An endpoint of its own is one, whoever gave it: the SDK refuses it beside special ones.
            for (name, service) in SERVICE_VARIABLES {
                if let Some(url) = std::env::var(name).ok().filter(|url| !url.is_empty()) {
                    connection.endpoints.entry((*service).to_owned()).or_insert(url);
                }
            }
        }
        // The credentials' own calls are repeated by the SDK, which nobody else does. All others are the session's to
        // repeat, where they can be interrupted and are decided by one table; the SDK only spaces them out, if that
        // is wanted.
        let retries = if connection.is_adaptive {
            RetryConfig::adaptive().with_max_attempts(1)
        } else {
            RetryConfig::disabled()
        };
        let loaded = loaded.into_builder().retry_config(retries).build();
        let region = loaded.region().map(Region::to_string).unwrap_or_default();
        let config = chained(loaded, from, |config| {
            let mut builder = aws_sdk_sts::config::Builder::from(config);
            if let Some(endpoint) = connection.endpoint("sts", &region) {
                builder = builder.endpoint_url(endpoint).use_fips(false).use_dual_stack(false);
            }
            aws_sdk_sts::Client::from_conf(builder.build())
        });
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

    /// How often a call is made before its failing counts.
    pub fn attempts(&self) -> Attempts {
        self.connection.attempts
    }

    /// The region whose STS is asked, where that was chosen.
    pub fn sts_region(&self) -> Option<&str> {
        self.connection.sts_region.as_deref()
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
                let mut builder = $service::config::Builder::from(&config);
                if let Some(endpoint) = self.connection.endpoint($name, name) {
                    builder = builder.endpoint_url(endpoint).use_fips(false).use_dual_stack(false);
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
            // AWS lists no endpoint of FIPS 140 for it.
            tagging: aws_sdk_resourcegroupstagging::Client::from_conf(
                client!(aws_sdk_resourcegroupstagging, "tagging")
                    .config()
                    .to_builder()
                    .use_fips(false)
                    .build(),
            ),
        }
    }
}

fn loader(connection: &Connection, from: &Credentials) -> ConfigLoader {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .build();
    let region = connection.sts_region.as_deref().unwrap_or(STS_REGION);
    let region = Region::new(region.to_owned());
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .retry_config(RetryConfig::standard())
        .timeout_config(timeouts.clone())
        .time_source(connection.clock.clone())
        .sleep_impl(connection.clock.clone());
    let files = from.files.chosen();
    if let Some(files) = &files {
        loader = loader.profile_files(files.clone());
    }
    if let Some(profile) = &from.profile {
        // A profile that is named is meant, whatever keys the environment holds.
        // Its roles and its single sign-on are reached as everything else is.
        let mut way = ProviderConfig::without_region()
            .with_behavior_version(Some(BehaviorVersion::v2026_01_12()))
            .with_region(Some(region.clone()))
            .with_time_source(connection.clock.clone())
            .with_sleep_impl(connection.clock.clone())
            .with_retry_config(RetryConfig::standard())
            .with_timeout_config(timeouts)
            .with_use_fips(connection.use_fips)
            .with_use_dual_stack(connection.use_dual_stack);
        if let Some(http) = &connection.http {
            way = way.with_http_client(http.clone());
        }
        let mut provider =
            ProfileFileCredentialsProvider::builder().configure(&way).profile_name(profile);
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
    if let Some(use_fips) = connection.use_fips {
        loader = loader.use_fips(use_fips);
    }
    if let Some(use_dual_stack) = connection.use_dual_stack {
        loader = loader.use_dual_stack(use_dual_stack);
    }
    // Only for the credentials' own calls; every client is given its region.
    loader.region(region)
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
