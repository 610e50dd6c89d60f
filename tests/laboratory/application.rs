//! An application: `psql` at a place in the network, which writes a numbered row after the other and remembers which
//! of them were acknowledged, and when.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::Duration,
};

use aws_sandbox::{Laboratory, Source};

use crate::support::terraform::Served;

/// What the rows are written to.
pub const TABLE: &str =
    "CREATE TABLE orders (client text, number bigint, PRIMARY KEY (client, number))";
/// How long an application waits for an answer before it connects anew, in milliseconds of the account's time.
const PATIENCE: u64 = 5_000;
/// How long it keeps what the name was answered with: the record's TTL, in milliseconds of the account's time.
const TTL: u64 = 30_000;
/// Between two writes, in real time.
const PACE: Duration = Duration::from_millis(10);

/// Where an application connects to.
#[derive(Clone, Debug)]
pub enum Host {
    /// The cluster's name, whose answer is kept for as long as its TTL says.
    Name(String),
    /// An instance's own endpoint, whatever the name says.
    Endpoint(String),
}

/// A row that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub number: u64,
    /// By the account's clock, in milliseconds.
    pub at: u64,
}

/// What an application connects with.
#[derive(Clone)]
pub struct Way {
    pub served: Arc<Served>,
    pub databases: Arc<Laboratory>,
    pub place: Source,
    pub login: (String, String),
}

/// One that writes until it is dropped.
pub struct Application {
    pub name: String,
    rows: Arc<Mutex<Vec<Row>>>,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Application {
    pub fn start(name: &str, way: Way, host: Host) -> Self {
        let rows: Arc<Mutex<Vec<Row>>> = Arc::default();
        let (stop, stopped) = mpsc::channel();
        let writer = Writer {
            name: name.to_owned(),
            way,
            host,
            rows: Arc::clone(&rows),
            kept: None,
            session: None,
        };
        let thread = std::thread::spawn(move || writer.write(&stopped));
        Self { name: name.to_owned(), rows, stop: Some(stop), thread: Some(thread) }
    }

    /// What was acknowledged so far.
    pub fn rows(&self) -> Vec<Row> {
        self.rows.lock().unwrap().clone()
    }

    /// The first row that was acknowledged after a moment.
    pub fn first_after(&self, moment: u64) -> Option<Row> {
        self.rows.lock().unwrap().iter().find(|row| row.at > moment).copied()
    }

    /// The longest time without an acknowledgement since a moment, in milliseconds.
    pub fn longest_silence(&self, since: u64, now: u64) -> u64 {
        let rows = self.rows();
        let moments = rows.iter().map(|row| row.at).filter(|at| *at > since);
        let mut last = since;
        let mut longest = 0;
        for at in moments.chain([now]) {
            longest = longest.max(at.saturating_sub(last));
            last = at;
        }
        longest
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Writer {
    name: String,
    way: Way,
    host: Host,
    rows: Arc<Mutex<Vec<Row>>>,
    /// What the name was answered with, and until when that counts.
    kept: Option<(String, u64)>,
    session: Option<Session>,
}

impl Writer {
    fn write(mut self, stopped: &Receiver<()>) {
        let mut number = 0;
        while stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
            number += 1;
            if self.session.is_none() {
                self.session = self.target().and_then(|host| Session::open(&self.way, &host));
            }
            let patience = self.way.served.machine_time(PATIENCE);
            let sql =
                format!("INSERT INTO orders VALUES ('{}', {number}) RETURNING number;", self.name);
            let answered = self.session.as_mut().is_some_and(|one| one.ask(&sql, patience));
            if answered {
                let at = self.way.served.sandbox.now().0;
                self.rows.lock().unwrap().push(Row { number, at });
            } else {
                self.session = None;
            }
        }
    }

    fn target(&mut self) -> Option<String> {
        let name = match &self.host {
            Host::Endpoint(host) => return Some(host.clone()),
            Host::Name(name) => name,
        };
        let now = self.way.served.sandbox.now().0;
        if self.kept.as_ref().is_none_or(|(_, until)| *until <= now) {
            let vpc = &self.way.place.vpc;
            let found = self.way.served.sandbox.with(|world| world.resolve(vpc, name));
            self.kept = found.into_iter().next().map(|(target, _)| (target, now + TTL));
        }
        self.kept.as_ref().map(|(target, _)| target.trim_end_matches('.').to_owned())
    }
}

/// A `psql` that stays connected.
struct Session {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Session {
    fn open(way: &Way, host: &str) -> Option<Self> {
        let login = (way.login.0.as_str(), way.login.1.as_str());
        let mut psql = way.served.psql_command(&way.databases, &way.place, host, login);
        let psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = psql.spawn().ok()?;
        let (input, output) = (child.stdin.take()?, child.stdout.take()?);
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Some(Self { child, input, lines })
    }

    /// Whether a statement was answered in time.
    fn ask(&mut self, sql: &str, patience: Duration) -> bool {
        let is_sent = writeln!(self.input, "{sql}").and_then(|()| self.input.flush()).is_ok();
        is_sent && self.lines.recv_timeout(patience).is_ok()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
