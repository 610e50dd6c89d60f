//! The sandbox as a whole: answers requests in process, or over TCP.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use tokio::{net::TcpListener, sync::Notify, task::JoinSet};

use crate::{
    Host, Laboratory, Programs,
    clock::{SimClock, Time},
    control, dispatch,
    dispatch::{CallRecord, Incoming, Invoke},
    faults::{Effect, Fault},
    services::{
        events::{self, Firing},
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

/// What Lambda answers to whoever invokes a function.
pub(crate) struct Invoked {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    header: Option<(&'static str, &'static str)>,
}

impl Invoked {
    fn of(status: u16, body: &serde_json::Value) -> Self {
        Self { status, body: body.to_string().into_bytes(), header: None }
    }

    fn taken() -> Self {
        Self { status: 202, body: Vec::new(), header: None }
    }

    fn failed(text: &str) -> Self {
        let body = serde_json::json!({"errorMessage": text});
        Self { header: Some(("x-amz-function-error", "Unhandled")), ..Self::of(200, &body) }
    }

    fn throttled() -> Self {
        let body = serde_json::json!({
            "Reason": "ConcurrentInvocationLimitExceeded", "Type": "User", "message": "Rate Exceeded.",
        });
        Self {
            header: Some(("x-amzn-errortype", "TooManyRequestsException")),
            ..Self::of(429, &body)
        }
    }

    /// Whether the function answered, and did not fail.
    pub(crate) fn is_answer(&self) -> bool {
        self.header.is_none()
    }
}

/// A simulated AWS. Clones are the same one.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Mutex<Inner>>,
    runtime: Arc<Mutex<Option<Runtime>>>,
    /// How many functions run of those that count together.
    running: Arc<Mutex<BTreeMap<String, u64>>>,
    /// What runs them, and what runs the databases, where it was asked for over TCP.
    host: Arc<Mutex<Option<Host>>>,
    /// Whoever waits for a minute waits anew.
    clock_set: Arc<Notify>,
    laboratory: Arc<Mutex<Option<Arc<Laboratory>>>>,
}

/// That a function runs.
struct Running(Sandbox, String);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(count) = locked(&self.0.running).get_mut(&self.1) {
            *count -= 1;
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sandbox {
    /// A seeded account, in which time passes `scale` times as fast as tokio's.
    pub fn new(scale: f64) -> Self {
        Self::with_world(World::seeded(START), scale)
    }

    /// A world that was taken from another one.
    pub fn with_world(world: World, scale: f64) -> Self {
        let clock = SimClock::new(world.now, scale);
        Self {
            inner: Arc::new(Mutex::new(Inner { clock, world })),
            runtime: Arc::default(),
            running: Arc::default(),
            host: Arc::default(),
            clock_set: Arc::default(),
            laboratory: Arc::default(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        locked(&self.inner)
    }

    /// Gives functions something that runs them.
    pub fn set_runtime(&self, runtime: Runtime) {
        *locked(&self.runtime) = Some(runtime);
    }

    fn runtime(&self) -> Option<Runtime> {
        locked(&self.runtime).clone()
    }

    /// Runs functions for as long as the process lives.
    pub(crate) fn keep_running(&self, variables: Vec<(String, String)>) -> Result<(), String> {
        if locked(&self.host).is_some() {
            return Err("functions are run already".into());
        }
        let host = self.run_functions(variables, self.laboratory());
        *locked(&self.host) = Some(host.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Runs databases for as long as the process lives.
    pub(crate) fn keep_databases(&self) -> Result<(), String> {
        if self.laboratory().is_some() {
            return Err("databases are run already".into());
        }
        let laboratory = self.run_databases(Programs::find()?)?;
        *locked(&self.laboratory) = Some(laboratory);
        Ok(())
    }

    pub(crate) fn laboratory(&self) -> Option<Arc<Laboratory>> {
        locked(&self.laboratory).clone()
    }

    /// One more run of a function, if the account's quota, or what is reserved for it, has room for it.
    fn admitted(&self, region: &str, function: &str) -> Option<Running> {
        let (among, room) = self.with(|world| lambda::room(world, region, function));
        let mut running = locked(&self.running);
        let count = running.entry(among.clone()).or_default();
        if *count >= room {
            return None;
        }
        *count += 1;
        Some(Running(self.clone(), among))
    }

    /// Fires what is scheduled, minute after minute, until it is dropped.
    pub async fn run_schedules(self) {
        // What waits for its moment goes with this; what runs then, does not.
        let mut waiting = JoinSet::new();
        loop {
            let clock_is_set = self.clock_set.notified();
            let (now, scale) = {
                let inner = self.lock();
                (inner.clock.now(), inner.clock.scale())
            };
            let left = 60_000 - now.0 % 60_000;
            #[allow(clippy::cast_precision_loss)]
            let left = Duration::from_millis(left).div_f64(scale);
            tokio::select! {
                biased;
                () = tokio::time::sleep(left) => {}
                () = clock_is_set => continue,
            }
            while waiting.try_join_next().is_some() {}
            for firing in self.with(events::due) {
                let sandbox = self.clone();
                waiting.spawn(async move {
                    sandbox.pass(firing.late).await;
                    sandbox.fire(firing);
                });
            }
        }
    }

    fn fire(self, firing: Firing) {
        let region = firing.region.clone();
        let Some(runtime) = self.runtime() else { return };
        let Some(invocation) = self.with(|world| events::fire(world, firing)) else { return };
        // Without a second attempt, as the functions' settings say: what finds no room is lost.
        let function = invocation.function.clone();
        let Some(room) = self.admitted(&region, &function) else { return };
        let run = runtime(self.clone(), invocation);
        tokio::spawn(async move {
            let failed = run.await.is_err();
            drop(room);
            self.with(|world| lambda::ran(world, &region, &function, failed));
        });
    }

    /// Waits, in the account's time, until something is so, and looks every second; whether it came to be so
    /// within so many seconds.
    pub async fn until(&self, seconds: u64, is_so: impl Fn(&mut World) -> bool) -> bool {
        for _ in 0..seconds {
            if self.with(&is_so) {
                return true;
            }
            self.pass(1000).await;
        }
        self.with(is_so)
    }

    /// How many times as fast as tokio's time passes.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.lock().clock.scale()
    }

    /// From now on, time passes `scale` times as fast as tokio's.
    pub fn set_scale(&self, scale: f64) {
        self.lock().clock.rescale(scale);
        self.clock_is_set();
    }

    /// The clock shows something else, or goes at another pace.
    pub(crate) fn clock_is_set(&self) {
        self.clock_set.notify_waiters();
    }

    /// Waits for so many milliseconds of the sandbox's time.
    pub async fn pass(&self, milliseconds: u64) {
        let scale = self.lock().clock.scale();
        tokio::time::sleep(Duration::from_millis(milliseconds).div_f64(scale)).await;
    }

    /// Runs a function that was invoked, and answers with what it says.
    pub(crate) async fn invoke(&self, invoke: Invoke) -> Invoked {
        let invocation =
            self.with(|world| lambda::invocation(world, &invoke.function, invoke.payload));
        let (Some(runtime), Some(invocation)) = (self.runtime(), invocation) else {
            return Invoked::failed("nothing runs functions here");
        };
        let Some(room) = self.admitted(&invocation.region, &invocation.function) else {
            return if invoke.is_event { Invoked::taken() } else { Invoked::throttled() };
        };
        let run = runtime(self.clone(), invocation);
        let run = async move {
            let answer = run.await;
            drop(room);
            answer
        };
        if invoke.is_event {
            tokio::spawn(run);
            return Invoked::taken();
        }
        match run.await {
            Ok(answer) => Invoked::of(200, &answer),
            Err(text) => Invoked::failed(&text),
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

    /// Whether an operation has succeeded.
    pub fn has_done(&self, operation: &str) -> bool {
        self.has_called(|call| call.operation == operation && call.error.is_none())
    }

    /// Whether a call was made that fits: without the copy that [`Sandbox::calls`] makes, for who asks often.
    pub fn has_called(&self, fits: impl Fn(&CallRecord) -> bool) -> bool {
        self.lock().world.calls.iter().any(fits)
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.lock().world.calls.clear();
    }

    /// How many calls trouble has hit.
    pub fn hits(&self) -> u64 {
        self.lock().world.faults.iter().map(|fault| fault.hit).sum()
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

    /// Answers one request that comes from inside of a region: what is sent from one that is down arrives nowhere,
    /// and neither does its answer.
    pub async fn answer_from(&self, region: &str, request: Request<Bytes>) -> Answer {
        let called = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        let called = called.and_then(dispatch::region_of);
        let is_unreached = || {
            self.with(|world| {
                let is_cut = |other: &String| world.is_cut(region, other);
                world.is_dark(region) || called.as_ref().is_some_and(is_cut)
            })
        };
        if is_unreached() {
            return Answer::Never;
        }
        let answer = self.answer(request).await;
        if is_unreached() { Answer::Never } else { answer }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Bytes>) -> Answer {
        if request.uri().path().starts_with("/_sandbox/") {
            return Answer::Response(control::handle(self, &request).await);
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
            token: header("x-amz-security-token"),
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
            Some(Effect::Throttle | Effect::Fail { .. } | Effect::Stale { .. }) | None => {}
        }
        if let Some((region, id)) = out.automation.take() {
            tokio::spawn(automation::execute(self.clone(), region, id));
        }
        if let Some(invoke) = out.invoke.take() {
            let invoked = self.invoke(invoke).await;
            (out.status, out.body) = (invoked.status, invoked.body);
            out.headers.extend(invoked.header.map(|(name, value)| (name, value.to_owned())));
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
        self.listen(listener, None).await
    }

    /// Serves what is inside of a region; no region is where nothing is answered at all.
    pub(crate) async fn serve_from(
        self,
        listener: TcpListener,
        region: String,
    ) -> std::io::Result<()> {
        self.listen(listener, Some(region.into())).await
    }

    async fn listen(self, listener: TcpListener, from: Option<Arc<str>>) -> std::io::Result<()> {
        let app = axum::Router::new().fallback(move |request: axum::extract::Request| {
            let (sandbox, from) = (self.clone(), from.clone());
            async move { sandbox.over_tcp(from.as_deref(), request).await }
        });
        axum::serve(listener, app).await
    }

    async fn over_tcp(
        &self,
        from: Option<&str>,
        request: axum::extract::Request,
    ) -> axum::response::Response {
        let (parts, body) = request.into_parts();
        let Ok(body) = axum::body::to_bytes(body, 64 << 20).await else {
            return axum::response::Response::default();
        };
        let request = Request::from_parts(parts, body);
        let answer = match from {
            None => self.answer(request).await,
            Some("") => Answer::Never,
            Some(region) => self.answer_from(region, request).await,
        };
        match answer {
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
