//! AWS in the test's own process: the SDK's requests go to a sandbox, in virtual time.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_credential_types::{Credentials as Keys, provider::SharedCredentialsProvider};
use aws_sandbox::{ACCESS_KEY, Answer, SECRET_KEY, Sandbox};
use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings,
            SharedHttpClient, SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    shared::IntoShared,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use trading::aws::{Aws, Clock, Connection, Credentials, RoleToAssume};

/// Called after each answer of a sandbox, before the SDK gets it.
pub type Witness = Arc<dyn Fn(&Sandbox) + Send + Sync>;

/// Changes an answer of a sandbox, before the SDK gets it.
pub type Mangler = Arc<dyn Fn(Bytes) -> Bytes + Send + Sync>;

/// Hands requests to a sandbox instead of the network.
#[derive(Clone)]
struct InProcess(Sandbox, Way);

impl std::fmt::Debug for InProcess {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("InProcess")
    }
}

impl HttpClient for InProcess {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.clone().into_shared()
    }
}

impl HttpConnector for InProcess {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self(sandbox, way) = self.clone();
        HttpConnectorFuture::new(async move {
            let request =
                request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let request =
                request.map(|body| Bytes::copy_from_slice(body.bytes().unwrap_or_default()));
            let answer = match way.from {
                Some(region) => sandbox.answer_from(region, request).await,
                None => sandbox.answer(request).await,
            };
            if let Some(witness) = &way.witness {
                witness(&sandbox);
            }
            match answer {
                Answer::Response(response) => {
                    let response = response.map(|body| match &way.mangler {
                        Some(mangle) => mangle(body),
                        None => body,
                    });
                    HttpResponse::try_from(response.map(|body| SdkBody::from(body.to_vec())))
                        .map_err(|error| ConnectorError::other(error.into(), None))
                }
                Answer::Never => std::future::pending().await,
                Answer::Dropped => {
                    let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                    Err(ConnectorError::io(reset.into()))
                }
            }
        })
    }
}

/// A way to reach AWS: with whose key and as which roles, who sees and who changes every answer, from which region,
/// and whether calls are spaced out.
#[derive(Clone)]
pub struct Way {
    pub access_key: String,
    pub roles: Vec<RoleToAssume>,
    pub is_adaptive: bool,
    pub witness: Option<Witness>,
    pub mangler: Option<Mangler>,
    pub from: Option<&'static str>,
}

/// As the account's administrator, unseen.
impl Default for Way {
    fn default() -> Self {
        Self {
            access_key: ACCESS_KEY.to_owned(),
            roles: Vec::new(),
            is_adaptive: false,
            witness: None,
            mangler: None,
            from: None,
        }
    }
}

impl Way {
    pub fn of(access_key: &str) -> Self {
        Self { access_key: access_key.to_owned(), ..Self::default() }
    }

    pub fn watched(witness: Witness) -> Self {
        Self { witness: Some(witness), ..Self::default() }
    }
}

/// The provider's view of a sandbox, as the account's administrator.
pub async fn connect(sandbox: &Sandbox) -> Aws {
    connect_like(sandbox, &Way::default()).await
}

/// The provider's view of a sandbox.
pub async fn connect_like(sandbox: &Sandbox, way: &Way) -> Aws {
    let base = SystemTime::UNIX_EPOCH + Duration::from_millis(sandbox.now().0);
    let keys = Keys::new(&*way.access_key, SECRET_KEY, None, None, "test");
    let connection = Connection {
        clock: Clock::starting_at(base),
        http: Some(SharedHttpClient::new(InProcess(sandbox.clone(), way.clone()))),
        credentials: Some(SharedCredentialsProvider::new(keys)),
        is_adaptive: way.is_adaptive,
        ..Connection::aws()
    };
    let credentials = Credentials { roles: way.roles.clone(), ..Credentials::default() };
    Aws::connect(connection, &credentials).await.unwrap()
}

/// Lets so many seconds pass, in virtual time.
pub async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// What an unoptimised build's futures need on the stack.
const STACK: usize = 64 << 20;

/// Lets this thread, and those that it starts, wait for whoever is in a hurry: real databases, and the real Terraform.
pub fn stand_back() {
    // Where the system does not have it, the tests are only slower.
    let _ = rustix::process::setpriority_process(None, 10);
}

/// Runs a test in virtual time, on a thread with room for unoptimised futures. Waits take no time; a test
/// that hangs ends after a month of virtual time.
pub fn simulate<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    std::thread::scope(|scope| {
        let run = || {
            stand_back();
            fastrand::seed(7);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                let limit = Duration::from_secs(30 * 24 * 3600);
                tokio::time::timeout(limit, test()).await.expect("the test hangs");
            });
        };
        let thread =
            std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run).unwrap();
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Whether an operation of this name only looks.
pub fn only_reads(operation: &str) -> bool {
    ["Describe", "Get", "List", "Query"].iter().any(|verb| operation.starts_with(verb))
}
