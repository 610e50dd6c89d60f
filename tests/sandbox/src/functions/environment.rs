//! An execution environment: a process, and the runtime interface that it asks for its next event. Between events
//! it is frozen, as on Lambda: what a program leaves undone when it answers stays undone.

use std::{
    collections::VecDeque,
    io,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Path as InPath, State},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    net::TcpListener,
    process::{Child, Command},
    sync::{Notify, oneshot},
};

use crate::scratch::{Note, Scratch};

/// What an event is handed out with.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// The invocation's id.
    pub(super) request: String,
    /// The function's ARN.
    pub(super) arn: String,
    /// When it must have answered, in milliseconds since 1970.
    pub(super) deadline: u64,
    /// What it is given.
    pub(super) payload: Value,
}

/// What came of an event: an answer, or an error as the program tells it.
pub(super) type Outcome = Result<Value, Value>;

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<(Event, oneshot::Sender<Outcome>)>,
    /// The event that the program has, and who waits for what comes of it.
    taken: Option<(String, oneshot::Sender<Outcome>)>,
    /// The process, while it is frozen.
    frozen: Option<Pid>,
}

/// Where the program asks for events.
#[derive(Debug, Default)]
struct Desk {
    queue: Mutex<Queue>,
    arrived: Notify,
    process: Mutex<Option<Pid>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    fn submit(&self, event: Event) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        let mut queue = locked(&self.queue);
        queue.events.push_back((event, sender));
        if let Some(process) = queue.frozen.take() {
            let _ = kill_process(process, Signal::CONT);
        }
        drop(queue);
        self.arrived.notify_one();
        receiver
    }

    /// The next event; while there is none, the process is frozen.
    async fn next(&self) -> Event {
        loop {
            {
                let mut queue = locked(&self.queue);
                if let Some((event, sender)) = queue.events.pop_front() {
                    queue.taken = Some((event.request.clone(), sender));
                    return event;
                }
                if let Some(process) = *locked(&self.process) {
                    let _ = kill_process(process, Signal::STOP);
                    queue.frozen = Some(process);
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Whether this was the event that the program has.
    fn finish(&self, request: &str, outcome: Outcome) -> bool {
        let mut queue = locked(&self.queue);
        if queue.taken.as_ref().is_none_or(|(taken, _)| taken != request) {
            return false;
        }
        if let Some((_, sender)) = queue.taken.take() {
            let _ = sender.send(outcome);
        }
        true
    }

    /// The program could not begin: whatever waits is told.
    fn fail_to_begin(&self, error: &Value) {
        let mut queue = locked(&self.queue);
        for (_, sender) in queue.events.drain(..) {
            let _ = sender.send(Err(error.clone()));
        }
    }
}

fn answered(status: u16, headers: &[(&str, String)], body: String) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(Body::from(body)).unwrap_or_default()
}

async fn next(State(desk): State<Arc<Desk>>) -> Response {
    let event = desk.next().await;
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", event.request),
        ("lambda-runtime-deadline-ms", event.deadline.to_string()),
        ("lambda-runtime-invoked-function-arn", event.arn),
        (
            "lambda-runtime-trace-id",
            "Root=1-00000000-000000000000000000000000;Sampled=0".to_owned(),
        ),
    ];
    answered(200, &headers, event.payload.to_string())
}

fn accepted(known: bool) -> Response {
    let (status, text) = if known {
        (202, json!({"status": "OK"}))
    } else {
        (400, json!({"errorType": "InvalidRequestID", "errorMessage": "Invalid request ID"}))
    };
    answered(status, &[], text.to_string())
}

async fn response(
    State(desk): State<Arc<Desk>>,
    InPath(request): InPath<String>,
    body: Bytes,
) -> Response {
    // Lambda hands on whatever it is, and most callers want JSON.
    let value = serde_json::from_slice(&body)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&body).into_owned()));
    accepted(desk.finish(&request, Ok(value)))
}

fn told(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| json!({"errorType": "Runtime.Unknown"}))
}

async fn error(
    State(desk): State<Arc<Desk>>,
    InPath(request): InPath<String>,
    body: Bytes,
) -> Response {
    accepted(desk.finish(&request, Err(told(&body))))
}

async fn init_error(State(desk): State<Arc<Desk>>, body: Bytes) -> Response {
    desk.fail_to_begin(&told(&body));
    accepted(true)
}

fn interface(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{request}/response", post(response))
        .route("/2018-06-01/runtime/invocation/{request}/error", post(error))
        .route("/2018-06-01/runtime/init/error", post(init_error))
        .with_state(desk)
}

/// An execution environment. Dropped, its process is killed.
#[derive(Debug)]
pub(super) struct Environment {
    desk: Arc<Desk>,
    child: Child,
    server: tokio::task::JoinHandle<()>,
    _note: Note,
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// How long a program that was just written is waited for until it can be started.
const BUSY: Duration = Duration::from_secs(5);

/// Hands on what a program says, line by line.
fn listen<R: AsyncRead + Send + Unpin + 'static>(
    stream: Option<R>,
    said: &Arc<dyn Fn(String) + Send + Sync>,
) {
    let (Some(stream), said) = (stream, Arc::clone(said)) else { return };
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            said(line);
        }
    });
}

impl Environment {
    /// Starts a program.
    pub(super) async fn start(
        scratch: &Scratch,
        program: &Path,
        variables: &[(String, String)],
        said: &Arc<dyn Fn(String) + Send + Sync>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let mut command = Command::new(program);
        command
            .current_dir(program.parent().unwrap_or(program))
            .env_clear()
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .env("AWS_LAMBDA_RUNTIME_API", address)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        // What another thread starts just then holds the program open for writing, until it is another one itself.
        let begun = Instant::now();
        let mut child = loop {
            match command.spawn() {
                Err(error)
                    if error.kind() == io::ErrorKind::ExecutableFileBusy
                        && begun.elapsed() < BUSY =>
                {
                    tokio::task::yield_now().await;
                }
                started => break started?,
            }
        };
        let number = child.id().unwrap_or_default();
        let note = scratch.note(number)?;
        listen(child.stdout.take(), said);
        listen(child.stderr.take(), said);
        let process = i32::try_from(number).ok().and_then(Pid::from_raw);
        let desk = Arc::new(Desk { process: Mutex::new(process), ..Desk::default() });
        let router = interface(Arc::clone(&desk));
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { desk, child, server, _note: note })
    }

    /// Hands out an event, and waits for what comes of it; `None` if the process has ended, with how.
    pub(super) async fn handle(&mut self, event: Event) -> Result<Outcome, String> {
        let waiting = self.desk.submit(event);
        tokio::select! {
            biased;
            outcome = waiting => outcome.map_err(|_| "the environment is gone".to_owned()),
            status = self.child.wait() => Err(status.map_or_else(|error| error.to_string(), |one| one.to_string())),
        }
    }

    /// The largest amount of memory that the process has had, in MiB; zero where the system does not tell.
    pub(super) fn peak(&self) -> u64 {
        let number = self.child.id().unwrap_or_default();
        let status = std::fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kilobytes.unwrap_or(0).div_ceil(1024)
    }
}
