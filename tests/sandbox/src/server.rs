//! The sandbox as a whole: answers requests in process, or over TCP.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use tokio::net::TcpListener;

use crate::{
    clock::{SimClock, Time},
    control, dispatch,
    dispatch::{CallRecord, Incoming, Invoke},
    faults::{Effect, Fault},
    services::{
        events,
        lambda::{self, Runtime},
        ssm::automation,
        tagging,
    },
    world::World,
};

/// When the account begins: a Monday, so that windows in a week are easy to reason about.
const START: Time = Time(1_767_571_200_000);

/// What becomes of a request.
#[derive(Debug)]
pub enum Answer {
    /// An answer.
    Response(Response<Bytes>),
    /// Silence.
    Never,
    /// The connection breaks.
    Dropped,
}

pub(crate) struct Inner {
    pub(crate) clock: SimClock,
    pub(crate) world: World,
}

impl Inner {
    /// The world as it is now.
    pub(crate) fn present(&mut self) -> &mut World {
        let now = self.clock.now();
        self.world.advance_to(now);
        tagging::refresh(&mut self.world);
        &mut self.world
    }
}

/// A simulated AWS. Clones are the same one.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Mutex<Inner>>,
    runtime: Arc<Mutex<Option<Runtime>>>,
}

impl Sandbox {
    /// A seeded account, in which time passes `scale` times as fast as tokio's.
    pub fn new(scale: f64) -> Self {
        Self::with_world(World::seeded(START), scale)
    }

    /// A world that was taken from another one.
    pub fn with_world(world: World, scale: f64) -> Self {
        let clock = SimClock::new(world.now, scale);
        Self { inner: Arc::new(Mutex::new(Inner { clock, world })), runtime: Arc::default() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives functions something that runs them.
    pub fn set_runtime(&self, runtime: Runtime) {
        *self.runtime.lock().unwrap_or_else(PoisonError::into_inner) = Some(runtime);
    }

    fn runtime(&self) -> Option<Runtime> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fires what is scheduled, minute after minute, until it is dropped.
    pub async fn run_schedules(self) {
        loop {
            let (now, scale) = {
                let inner = self.lock();
                (inner.clock.now(), inner.clock.scale())
            };
            let left = 60_000 - now.0 % 60_000;
            #[allow(clippy::cast_precision_loss)]
            let left = Duration::from_millis(left).div_f64(scale);
            tokio::time::sleep(left).await;
            let due = self.with(|world| events::due(world));
            let Some(runtime) = self.runtime() else { continue };
            for invocation in due {
                let (sandbox, region) = (self.clone(), invocation.region.clone());
                let function = invocation.function.clone();
                let run = runtime(self.clone(), invocation);
                tokio::spawn(async move {
                    let failed = run.await.is_err();
                    sandbox.with(|world| lambda::ran(world, &region, &function, failed));
                });
            }
        }
    }

    /// Waits for so many milliseconds of the sandbox's time.
    pub(crate) async fn pass(&self, milliseconds: u64) {
        let scale = self.lock().clock.scale();
        tokio::time::sleep(Duration::from_millis(milliseconds).div_f64(scale)).await;
    }

    /// Runs a function that was invoked, and answers with what it says.
    pub(crate) async fn invoke(&self, invoke: Invoke) -> (u16, Vec<u8>, bool) {
        let invocation =
            self.with(|world| lambda::invocation(world, &invoke.function, invoke.payload));
        let (Some(runtime), Some(invocation)) = (self.runtime(), invocation) else {
            return (200, br#"{"errorMessage":"nothing runs functions here"}"#.to_vec(), true);
        };
        let run = runtime(self.clone(), invocation);
        if invoke.is_event {
            tokio::spawn(run);
            return (202, Vec::new(), false);
        }
        match run.await {
            Ok(answer) => (200, answer.to_string().into_bytes(), false),
            Err(text) => {
                let body = serde_json::json!({"errorMessage": text});
                (200, body.to_string().into_bytes(), true)
            }
        }
    }

    /// A copy of the world as it is now.
    pub fn world(&self) -> World {
        self.lock().present().clone()
    }

    /// Looks at or changes the world as it is now.
    pub fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(self.lock().present())
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<CallRecord> {
        self.lock().world.calls.clone()
    }

    /// Whether an operation has succeeded: without the copy that [`Sandbox::calls`] makes, for who asks often.
    pub fn has_done(&self, operation: &str) -> bool {
        let done = |call: &CallRecord| call.operation == operation && call.error.is_none();
        self.lock().world.calls.iter().any(done)
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.lock().world.calls.clear();
    }

    /// Adds trouble.
    pub fn add_fault(&self, fault: Fault) {
        self.lock().world.faults.push(fault);
    }

    /// Ends all trouble.
    pub fn clear_faults(&self) {
        let mut inner = self.lock();
        inner.world.faults.clear();
        inner.world.down.clear();
    }

    /// Takes a region's control planes down or up again; `global` is what IAM and Route 53 are changed with.
    pub fn set_down(&self, region: &str, down: bool) {
        let mut inner = self.lock();
        if down {
            inner.world.down.insert(region.to_owned());
        } else {
            inner.world.down.remove(region);
        }
    }

    /// The present moment.
    pub fn now(&self) -> Time {
        self.lock().clock.now()
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Bytes>) -> Answer {
        if request.uri().path().starts_with("/_sandbox/") {
            return Answer::Response(control::handle(self, &request));
        }
        let header = |name: &str| {
            request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let incoming = Incoming {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            target: header("x-amz-target"),
            authorization: header("authorization"),
            invocation_type: header("x-amz-invocation-type"),
            body: request.body().to_vec(),
        };
        let (mut out, date) = {
            let mut inner = self.lock();
            let out = dispatch::handle(inner.present(), &incoming);
            (out, inner.clock.now())
        };
        match out.effect {
            Some(Effect::Hang) => return Answer::Never,
            Some(Effect::DropBefore | Effect::DropAfter) => return Answer::Dropped,
            Some(Effect::Delay { milliseconds }) => {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            }
            Some(Effect::Throttle | Effect::Fail { .. }) | None => {}
        }
        if let Some((region, id)) = out.automation.take() {
            tokio::spawn(automation::execute(self.clone(), region, id));
        }
        if let Some(invoke) = out.invoke.take() {
            let failed;
            (out.status, out.body, failed) = self.invoke(invoke).await;
            if failed {
                out.headers.push(("x-amz-function-error", "Unhandled".to_owned()));
            }
        }
        let mut response = Response::builder()
            .status(out.status)
            .header("content-type", out.content_type)
            .header("x-amzn-requestid", &out.request_id)
            .header("date", date.http_date());
        for (name, value) in out.headers {
            response = response.header(name, value);
        }
        Answer::Response(response.body(Bytes::from(out.body)).unwrap_or_default())
    }

    /// Serves over TCP until the process ends.
    ///
    /// # Errors
    /// The listener failed.
    pub async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        let app = axum::Router::new().fallback(move |request: axum::extract::Request| {
            let sandbox = self.clone();
            async move { sandbox.over_tcp(request).await }
        });
        axum::serve(listener, app).await
    }

    async fn over_tcp(&self, request: axum::extract::Request) -> axum::response::Response {
        let (parts, body) = request.into_parts();
        let Ok(body) = axum::body::to_bytes(body, 64 << 20).await else {
            return axum::response::Response::default();
        };
        match self.answer(Request::from_parts(parts, body)).await {
            Answer::Response(response) => response.map(axum::body::Body::from),
            Answer::Never => std::future::pending().await,
            Answer::Dropped => broken(),
        }
    }
}

/// A response that breaks the connection: its body is announced, and fails instead of coming.
fn broken() -> axum::response::Response {
    use http_body_util::StreamBody;
    let failure = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let body = StreamBody::new(tokio_stream::once(Err::<http_body::Frame<Bytes>, _>(failure)));
    let mut response = axum::response::Response::new(axum::body::Body::new(body));
    response.headers_mut().insert("content-length", http::HeaderValue::from_static("1"));
    response
}
