//! Runs functions as Lambda does: a process per execution environment, which is kept for the next event, and as
//! many of them as there are events at once.

use std::{
    collections::BTreeMap,
    io::{self, Cursor},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Instant, SystemTime},
};

use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::environment::{Environment, Event, Outcome};
use crate::{
    Invocation, Laboratory, SECRET_KEY, Sandbox,
    scratch::Scratch,
    services::{lambda, logs},
};

/// Where nothing answers: what a function in a VPC without a way out gets for AWS.
const NOWHERE: &str = "";

/// An environment, and what it was started for.
struct Started {
    of: Invocation,
    /// Which clock it was given: one that is set later is another one.
    clock: usize,
    environment: Environment,
}

/// What runs the functions of a sandbox. Dropped, none of them runs on, and no file is left.
pub struct Host {
    runner: Arc<Runner>,
    /// What goes on beside the runs: sweeping, and the schedules.
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Host {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.runner.is_over.store(true, Ordering::Relaxed);
        self.runner.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

struct Runner {
    sandbox: Sandbox,
    scratch: Scratch,
    is_over: AtomicBool,
    more: Vec<(String, String)>,
    databases: Option<Arc<Laboratory>>,
    idle: Mutex<Vec<Started>>,
    endpoints: tokio::sync::Mutex<BTreeMap<String, String>>,
    programs: tokio::sync::Mutex<BTreeMap<String, PathBuf>>,
}

impl Sandbox {
    /// From now on functions are run as Lambda runs them, and schedules fire; on Linux, and in real time: a
    /// program that runs knows no other. At more than about twenty times its speed, programs no longer get their
    /// answers in the time that they give AWS for one.
    ///
    /// `more` are variables that every function gets. Without `databases` probes are modelled: the model database
    /// engine has no port that a program could connect to.
    ///
    /// # Errors
    /// There is no folder to be had for what is unpacked.
    pub fn run_functions(
        &self,
        more: Vec<(String, String)>,
        databases: Option<Arc<Laboratory>>,
    ) -> io::Result<Host> {
        let host = Arc::new(Runner {
            sandbox: self.clone(),
            scratch: Scratch::new()?,
            is_over: AtomicBool::new(false),
            more,
            databases,
            idle: Mutex::default(),
            endpoints: tokio::sync::Mutex::default(),
            programs: tokio::sync::Mutex::default(),
        });
        let runner = Arc::downgrade(&host);
        self.set_runtime(Arc::new(move |sandbox, invocation| {
            let runner = runner.clone();
            Box::pin(async move {
                let Some(host) = runner.upgrade() else {
                    return Err("nothing runs functions here any more".to_owned());
                };
                if host.databases.is_none()
                    && invocation.environment["TRADING_DR_FUNCTION"] == "probe"
                {
                    return super::model::answer(&sandbox, &invocation);
                }
                host.run(invocation).await
            })
        }));
        let (sandbox, sweeper) = (self.clone(), Arc::downgrade(&host));
        let sweeping = tokio::spawn(async move {
            while let Some(host) = sweeper.upgrade() {
                host.sweep();
                drop(host);
                sandbox.pass(60_000).await;
            }
        });
        let tasks = [sweeping, tokio::spawn(self.clone().run_schedules())];
        Ok(Host { runner: host, tasks })
    }
}

fn told(kind: &str, message: impl Into<String>) -> Value {
    json!({"errorType": kind, "errorMessage": message.into()})
}

impl Runner {
    /// Ends the environments that no event will reach any more.
    fn sweep(&self) {
        let clock = self.clock();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|one| {
            self.sandbox.with(|world| {
                one.clock == clock
                    && lambda::is_current(world, &one.of)
                    && !world.is_dark(&one.of.region)
            })
        });
    }

    /// Waits until a run cannot go on: nobody runs functions any more, its region is lost, or the clock that it was
    /// given is another one now.
    async fn cut_off(&self, of: &Invocation, clock: usize) {
        loop {
            self.sandbox.pass(1000).await;
            let is_dark = self.sandbox.with(|world| world.is_dark(&of.place.region));
            if is_dark || self.clock() != clock || self.is_over.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    fn clock(&self) -> usize {
        self.sandbox.lock().clock.generation()
    }

    /// An environment that waits.
    fn waiting(&self, of: &Invocation) -> Option<Started> {
        self.sweep();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().position(|one| one.of.arn == of.arn)?;
        Some(idle.swap_remove(at))
    }

    fn log(&self, of: &Invocation) -> Arc<dyn Fn(String) + Send + Sync> {
        let sandbox = self.sandbox.clone();
        let (region, name, key) = (of.region.clone(), of.function.clone(), of.access_key.clone());
        Arc::new(move |line| {
            sandbox.with(|world| logs::write(world, &region, &name, &key, &line));
        })
    }

    /// One invocation, from its start to its answer.
    async fn run(&self, invocation: Invocation) -> Result<Value, String> {
        let log = self.log(&invocation);
        let begun = Instant::now();
        log(format!("START RequestId: {} Version: $LATEST", invocation.request));
        let (outcome, peak) = self.handled(&invocation, &log).await;
        let took = begun.elapsed().as_secs_f64() * 1000.0;
        log(format!("END RequestId: {}", invocation.request));
        log(format!(
            "REPORT RequestId: {} Duration: {took:.2} ms Memory Size: {} MB Max Memory Used: {peak} MB",
            invocation.request, invocation.memory
        ));
        outcome.map_err(|error| {
            log(error.to_string());
            error["errorMessage"].as_str().map_or_else(|| error.to_string(), str::to_owned)
        })
    }

    async fn handled(
        &self,
        of: &Invocation,
        log: &Arc<dyn Fn(String) + Send + Sync>,
    ) -> (Outcome, u64) {
        let started = match self.waiting(of) {
            Some(started) => Ok(started),
            None => self.start(of, log).await,
        };
        let mut started = match started {
            Ok(started) => started,
            Err(error) => return (Err(error), 0),
        };
        let (clock, environment) = (started.clock, &mut started.environment);
        let now = self.sandbox.now();
        let event = Event {
            request: of.request.clone(),
            arn: of.arn.clone(),
            deadline: now.plus_seconds(of.timeout).0,
            payload: of.payload.clone(),
        };
        let id = &of.request;
        let outcome = tokio::select! {
            biased;
            handled = environment.handle(event) => handled,
            () = self.cut_off(of, clock) => {
                return (Err(told("Sandbox.Lost", format!("{id} is lost with what ran it"))), 0);
            }
            () = self.sandbox.pass(of.timeout * 1000) => {
                let text = format!("{now} {id} Task timed out after {}.00 seconds", of.timeout);
                return (Err(told("Sandbox.Timedout", text)), environment.peak());
            }
        };
        let peak = environment.peak();
        match outcome {
            Err(status) => {
                let text = format!("RequestId: {id} Error: Runtime exited with error: {status}");
                (Err(told("Runtime.ExitError", text)), peak)
            }
            // Lambda ends whatever takes more than it was given.
            Ok(_) if peak > of.memory => {
                let text =
                    format!("RequestId: {id} Error: Runtime exited with error: signal: killed");
                (Err(told("Runtime.OutOfMemory", text)), peak)
            }
            Ok(outcome) => {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(started);
                (outcome, peak)
            }
        }
    }

    async fn start(
        &self,
        of: &Invocation,
        log: &Arc<dyn Fn(String) + Send + Sync>,
    ) -> Result<Started, Value> {
        let failed = |error: io::Error| told("Runtime.InvalidEntrypoint", error.to_string());
        let program = self.program(of).await?;
        let is_inside = !of.place.vpc.is_empty();
        let from = if is_inside { NOWHERE } else { &of.region };
        let endpoint = self.endpoint(from).await.map_err(failed)?;
        let clock = self.clock();
        let mut variables = self.variables(of, &endpoint);
        if let Some(databases) = self.databases.as_ref().filter(|_| is_inside) {
            let address = databases.place(&of.place).await.map_err(failed)?;
            let bundle = databases.bundle().to_string_lossy().into_owned();
            variables.push(("TRADING_RDS_ADDRESS".to_owned(), address.to_string()));
            variables.push(("TRADING_RDS_CA_BUNDLE".to_owned(), bundle));
        }
        let environment = Environment::start(&self.scratch, &program, &variables, log).await;
        Ok(Started { of: of.clone(), clock, environment: environment.map_err(failed)? })
    }

    /// What Lambda sets, what the function's settings do, and what leads to the sandbox instead of to AWS.
    fn variables(&self, of: &Invocation, endpoint: &str) -> Vec<(String, String)> {
        let (account, scale) = {
            let inner = self.sandbox.lock();
            (inner.clock.now(), inner.clock.scale())
        };
        let machine = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
        let group = format!("/aws/lambda/{}", of.function);
        let set = [
            ("AWS_ACCESS_KEY_ID", of.access_key.as_str()),
            ("AWS_DEFAULT_REGION", &of.region),
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &of.memory.to_string()),
            ("AWS_LAMBDA_FUNCTION_NAME", &of.function),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", &group),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "function"),
            ("AWS_REGION", &of.region),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_SESSION_TOKEN", "session"),
            ("LANG", "en_US.UTF-8"),
            ("LAMBDA_TASK_ROOT", "/var/task"),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("TRADING_CLOCK_ORIGIN", &format!("{}@{machine}", account.0)),
            ("TRADING_CLOCK_SCALE", &scale.to_string()),
            ("TZ", ":UTC"),
            ("_HANDLER", "bootstrap"),
        ];
        let own = of.environment.as_object().into_iter().flatten();
        let own =
            own.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
        let set = set.map(|(name, value)| (name.to_owned(), value.to_owned()));
        own.chain(set).chain(self.more.iter().cloned()).collect()
    }

    /// What a function's archive begins with, unpacked once.
    async fn program(&self, of: &Invocation) -> Result<PathBuf, Value> {
        let (hash, bytes) = &of.archive;
        let mut programs = self.programs.lock().await;
        if let Some(program) = programs.get(hash) {
            return Ok(program.clone());
        }
        let folder = self.scratch.path().join(format!("program-{}", programs.len()));
        let (into, bytes) = (folder.clone(), Arc::clone(bytes));
        let unpack = move || {
            let mut archive = zip::ZipArchive::new(Cursor::new(&*bytes))?;
            archive.extract(&into)
        };
        let unpacked = tokio::task::spawn_blocking(unpack).await;
        let why = match unpacked {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = why {
            return Err(told("Runtime.InvalidEntrypoint", why));
        }
        let program = folder.join("bootstrap");
        if !program.is_file() {
            let text = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]";
            return Err(told("Runtime.InvalidEntrypoint", text));
        }
        programs.insert(hash.clone(), program.clone());
        Ok(program)
    }

    /// Where functions of a region find AWS: what they send while their region is down arrives nowhere.
    async fn endpoint(&self, from: &str) -> io::Result<String> {
        let mut endpoints = self.endpoints.lock().await;
        if let Some(known) = endpoints.get(from) {
            return Ok(known.clone());
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        tokio::spawn(self.sandbox.clone().serve_from(listener, from.to_owned()));
        endpoints.insert(from.to_owned(), url.clone());
        Ok(url)
    }
}
