//! The agent's program in the runtime interface of AWS Lambda, and its probe at a real PostgreSQL.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use trading::{
    agent::{
        Session,
        postgres::Postgres,
        probe::{Database as _, Login, Place},
    },
    aws::Clock,
};

use crate::support::postgres::{MASTER, Pair};

fn login(name: &str, password: &str) -> Login {
    Login { username: name.into(), password: password.into() }
}

fn place(port: u16) -> Place {
    Place { host: "localhost".into(), port }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_makes_its_role_beats_on_the_writer_and_sees_the_standby_follow() {
    let Some(pair) = Pair::start() else { return };
    let databases = Postgres::new(pair.bundle.to_str(), None, &Clock::real()).unwrap();
    let (master, probe) =
        (login(MASTER.0, MASTER.1), login("trading_dr_probe", "only-for-looking"));
    let (primary, standby) = (place(pair.primary), place(pair.standby));
    // Twice: an apply that was interrupted makes it again.
    for _ in 0..2 {
        databases.prepare(&primary, "postgres", &master, &probe).await.unwrap();
    }
    let Session::Writer { acknowledged } = databases.look(&primary, "postgres", &probe).await
    else {
        panic!("the writer takes writes")
    };
    let mut seen = databases.look(&standby, "postgres", &probe).await;
    for _ in 0..1000 {
        match &seen {
            Session::Standby { replayed, .. } if *replayed >= acknowledged => break,
            Session::Standby { .. } | Session::Broken(_) => {
                seen = databases.look(&standby, "postgres", &probe).await;
            }
            other => panic!("{other:?}"),
        }
    }
    let Session::Standby { replayed, receiver_age: Some(age), committed: Some(committed) } = seen
    else {
        panic!("{seen:?}")
    };
    assert!(committed + 1 >= replayed, "{committed} is the commit of the heartbeat {replayed}");
    assert!(replayed >= acknowledged && age < 60_000, "{replayed} {age}");

    // What is wrong is told from what is not there.
    let stranger = databases.look(&primary, "postgres", &login("trading_dr_probe", "guess")).await;
    assert!(matches!(&stranger, Session::Broken(why) if why.contains("password")), "{stranger:?}");
    let wary =
        Postgres::new(None, None, &Clock::real()).unwrap().look(&primary, "postgres", &probe).await;
    assert!(
        matches!(&wary, Session::Broken(why) if why.to_lowercase().contains("certificate")),
        "{wary:?}"
    );

    // Sessions of applications end; its own role stays what it is.
    let made =
        pair.psql(pair.primary, MASTER, "CREATE ROLE app LOGIN PASSWORD 'app'").output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let mut session = pair.psql(pair.primary, ("app", "app"), "SELECT pg_sleep(600)");
    let mut session = session.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let there = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
    let count = || pair.psql(pair.primary, MASTER, there).output().unwrap().stdout;
    while count() == b"0\n" {}
    databases.end_sessions(&primary, "postgres", &probe).await.unwrap();
    assert!(!session.wait().unwrap().success());

    pair.lose_primary();
    assert_eq!(databases.look(&primary, "postgres", &probe).await, Session::Closed);
    pair.promote();
    let after = databases.look(&standby, "postgres", &probe).await;
    assert!(
        matches!(after, Session::Writer { acknowledged: later } if later > acknowledged),
        "{after:?}"
    );
}

/// The other side of the runtime interface: hands out one event, and takes what comes of it.
struct Interface {
    listener: TcpListener,
    agent: Child,
}

impl Drop for Interface {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

impl Interface {
    fn start(function: &str, more: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let agent = Command::new(env!("CARGO_BIN_EXE_trading-dr-agent"))
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", listener.local_addr().unwrap().to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "agent")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("TRADING_DR_FUNCTION", function)
            .envs(more.iter().copied())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { listener, agent }
    }

    /// Path and body of a request.
    fn request(stream: &mut BufReader<TcpStream>) -> (String, Vec<u8>) {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = 0;
        loop {
            line.clear();
            stream.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(number) = lower.strip_prefix("content-length:") {
                length = number.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        (path, body)
    }

    /// Hands out an event; the path of the answer, and the answer.
    fn invoke(&self, event: &Value) -> (String, Value) {
        loop {
            let (stream, _) = self.listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut stream = stream;
            loop {
                let (path, body) = Self::request(&mut reader);
                if path.ends_with("/next") {
                    let body = event.to_string();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nlambda-runtime-aws-request-id: 1\r\nlambda-runtime-deadline-ms: 99999999999999\r\n\
                         lambda-runtime-invoked-function-arn: arn:aws:lambda:us-east-1:123456789012:function:agent\r\n\
                         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    stream.write_all(head.as_bytes()).unwrap();
                    stream.write_all(body.as_bytes()).unwrap();
                } else if path.is_empty() {
                    break;
                } else {
                    stream
                        .write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
                        .unwrap();
                    return (path, serde_json::from_slice(&body).unwrap_or_default());
                }
            }
        }
    }
}

#[test]
fn the_program_answers_as_a_probe_through_the_runtime_interface() {
    let interface = Interface::start("probe", &[]);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let place = json!({"host": "127.0.0.1", "port": nobody});
    let (path, answer) = interface.invoke(&json!({
        "action": "look", "here": place, "there": place, "database": "trading",
        "login": {"username": "probe", "password": "hush"},
    }));
    assert!(path.ends_with("/1/response"), "{path}: {answer}");
    assert_eq!(answer, json!({"looked": {"here": "closed", "there": "closed"}}));
}

#[test]
fn the_program_says_what_it_was_not_told_and_what_it_does_not_understand() {
    let interface = Interface::start("probe", &[]);
    let (path, answer) = interface.invoke(&json!({"action": "dance"}));
    assert!(path.ends_with("/1/error"), "{path}: {answer}");
    assert!(
        answer["errorMessage"].as_str().unwrap().contains("nothing that a probe can be asked"),
        "{answer}"
    );
    for (function, expected) in [("monitor", "TRADING_DR_ASSIGNMENT"), ("", "there is no function")]
    {
        let done = Command::new(env!("CARGO_BIN_EXE_trading-dr-agent"))
            .env_clear()
            .env("TRADING_DR_FUNCTION", function)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(expected), "{said}");
    }
}

/// `provided.al2023` carries glibc 2.34: a symbol of a later one, and the function does not start.
#[test]
fn the_program_needs_no_symbol_that_its_runtime_does_not_have() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_trading-dr-agent")).unwrap();
    let marks = program.windows(8).enumerate().filter(|(_, window)| *window == b"GLIBC_2.");
    let minors: Vec<u32> = marks
        .filter_map(|(at, _)| {
            let digits = program[at + 8..].iter().take_while(|byte| byte.is_ascii_digit());
            String::from_utf8(digits.copied().collect()).ok()?.parse().ok()
        })
        .collect();
    assert!(minors.len() > 5, "{minors:?}");
    assert!(minors.iter().all(|minor| *minor <= 34), "{minors:?}");
}
