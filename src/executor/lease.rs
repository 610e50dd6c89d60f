//! The lease: of all runs that would change a cluster, one does.
//!
//! SSM has no compare-and-swap; the one atomic act is making a parameter that does not exist. So a lease is
//! a numbered parameter, the highest number holds, and who takes over makes the next one. A holder writes
//! its heartbeat into its own; whether it lives is judged by watching that move, never by comparing clocks.
//!
//! # Guarantees
//! Of two that try to take over, one succeeds. A holder that sees a higher number, or misses its own, stops.
//!
//! # Caveats
//! A holder that stands still for longer than [`PATIENCE`] loses its lease, and notices at its next beat.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use aws_smithy_types::date_time::{DateTime, Format};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    new_id,
    parameters::{Parameter, make, read, remove, write},
};
use crate::{
    aws::{ApiError, Attempts, ErrorClass, Session},
    components::Env,
};

/// How often a holder shows that it lives.
const BEAT: Duration = Duration::from_secs(20);
/// How soon a holder tries again that could not, and how often a call for it is made before that: the pauses of
/// longer tries would use its time up.
const AGAIN: Duration = Duration::from_secs(5);
const TRIES: u32 = 3;
/// How often somebody who waits looks.
const LOOK: Duration = Duration::from_secs(5);
/// How long a lease may stand still before it counts as abandoned.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a release may take in real time after an interrupt.
const FAREWELL: Duration = Duration::from_millis(1500);
/// How long it may take in real time to find out who holds a lease that was lost.
const WHO: Duration = FAREWELL;
/// How long a holder goes on without having been able to show that it lives.
const SILENCE: Duration = Duration::from_secs(75);

/// Why there is no lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// A call failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Somebody else holds it, and lives.
    #[error("another {command} is running since {since} on {host}")]
    Held {
        /// What it does.
        command: String,
        /// When it began, by its own clock.
        since: String,
        /// Where it runs.
        host: String,
    },
    /// The operating system gives no random numbers.
    #[error("no random number for the lease: {0}")]
    NoRandomness(#[from] getrandom::Error),
    /// The run was stopped while waiting.
    #[error("{0} while waiting for the lease")]
    Stopped(&'static str),
}

/// A lease that is held. It ends by [`Lease::release`]; dropped, it goes quiet and is taken over after
/// [`PATIENCE`].
pub struct Lease {
    env: Env,
    region: String,
    path: String,
    number: u64,
    value: Value,
    /// Fires when somebody else has taken over, or may do so soon (no heartbeat was to be had), and where it was removed.
    pub lost: CancellationToken,
    end: watch::Receiver<Option<Loss>>,
    /// How long before this lease began its predecessor was last heard of, by AWS's clock; `None` where there was
    /// no other.
    pub idle: Option<Duration>,
    heart: JoinHandle<()>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.heart.abort();
    }
}

/// The leases below a path, by number.
async fn leases(env: &Env, region: &str, path: &str) -> Result<BTreeMap<u64, Parameter>, ApiError> {
    let all = read(env, region, &format!("{path}/lease")).await?;
    Ok(all.into_iter().filter_map(|(name, one)| Some((name.parse().ok()?, one))).collect())
}

fn name(path: &str, number: u64) -> String {
    format!("{path}/lease/{number}")
}

fn host() -> String {
    let name = std::fs::read_to_string("/etc/hostname").ok();
    let name = name.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    name.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_else(|| "an unnamed host".into())
}

impl Lease {
    /// Takes the lease, or finds out who holds it: after a heartbeat was seen to move, or not to.
    ///
    /// # Errors
    /// Somebody holds it and lives; a call failed; there was no randomness; the run was stopped.
    pub async fn acquire(
        env: &Env,
        region: &str,
        path: &str,
        command: &str,
    ) -> Result<Self, LeaseError> {
        let holder = new_id()?;
        let since =
            DateTime::from(env.session.clock.now()).fmt(Format::DateTime).unwrap_or_default();
        let value = json!({
            "holder": holder, "command": command, "since": since, "host": host(), "released": false,
        });
        let mut watched: Option<(u64, i64, SystemTime)> = None;
        loop {
            let all = leases(env, region, path).await?;
            let next = match all.last_key_value() {
                None => Some(1),
                Some((number, latest)) => {
                    let its: Value = serde_json::from_str(&latest.value).unwrap_or_default();
                    let text = |name: &str| its[name].as_str().unwrap_or("unknown").to_owned();
                    let now = env.session.clock.now();
                    match watched {
                        _ if its["released"] == true => Some(number + 1),
                        Some((same, version, since))
                            if same == *number && version == latest.version =>
                        {
                            (env.session.clock.since(since) >= PATIENCE).then_some(number + 1)
                        }
                        Some((same, ..)) if same == *number => {
                            return Err(LeaseError::Held {
                                command: text("command"),
                                since: text("since"),
                                host: text("host"),
                            });
                        }
                        _ => {
                            watched = Some((*number, latest.version, now));
                            None
                        }
                    }
                }
            };
            if let Some(number) = next {
                match make(env, region, &name(path, number), &value.to_string()).await {
                    Ok(()) => match Self::held(env, region, path, number, &value).await? {
                        Some(lease) => return Ok(lease),
                        None => watched = None,
                    },
                    Err(error) if error.class == ErrorClass::AlreadyExists => {
                        let all = leases(env, region, path).await?;
                        let its = all.get(&number).map(|one| &one.value);
                        // Made by an attempt of ours whose answer was lost.
                        if its == Some(&value.to_string())
                            && let Some(lease) =
                                Self::held(env, region, path, number, &value).await?
                        {
                            return Ok(lease);
                        }
                        watched = None;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            env.session.pause(LOOK).await.map_err(LeaseError::Stopped)?;
        }
    }

    /// Begins to hold a number that was just made. `None` if a higher one exists: the number had been used and
    /// removed before, and somebody else holds.
    async fn held(
        env: &Env,
        region: &str,
        path: &str,
        number: u64,
        value: &Value,
    ) -> Result<Option<Self>, LeaseError> {
        let all = leases(env, region, path).await?;
        if all.last_key_value().is_some_and(|(highest, _)| *highest > number) {
            remove(env, region, &[name(path, number)]).await?;
            return Ok(None);
        }
        let earlier = || all.range(..number);
        let written = |one: &Parameter| one.written;
        let idle = earlier().next_back().map(|(_, before)| {
            let (ours, its) = (all.get(&number).and_then(written), written(before));
            ours.zip(its).and_then(|(ours, its)| ours.duration_since(its).ok()).unwrap_or_default()
        });
        let old: Vec<String> = earlier().map(|(one, _)| name(path, *one)).collect();
        remove(env, region, &old).await?;
        let value = value.clone();
        // The heart beats on while the run winds down after an interrupt.
        let session = Session::new(env.session.clock.clone(), CancellationToken::new(), None);
        let session = session.with_attempts(env.aws.attempts());
        let env = env.with_session(session);
        let lost = CancellationToken::new();
        let (ended, end) = watch::channel(None);
        let beating = {
            let session = env.session.with_attempts(Attempts::at_most(TRIES));
            let (env, region, path) =
                (env.with_session(session), region.to_owned(), path.to_owned());
            let (value, lost) = (value.clone(), lost.clone());
            async move {
                let mut loss = beat(&env, &region, &path, number, &value).await;
                lost.cancel();
                // Whoever stood still was not told of a successor.
                let who = judged(&env, &region, &path, (number, &value));
                if let Ok(Ok(Some(other))) = tokio::time::timeout(WHO, who).await {
                    loss = other;
                }
                ended.send_replace(Some(loss));
            }
        };
        let heart = tokio::spawn(beating);
        let (region, path) = (region.to_owned(), path.to_owned());
        Ok(Some(Self { env, region, path, number, value, lost, end, idle, heart }))
    }

    /// How it was lost, if it was; after a last look at who holds it now.
    pub async fn loss(&self) -> Option<Loss> {
        if !self.lost.is_cancelled() {
            return None;
        }
        let mut end = self.end.clone();
        // A heart that is stopped while it looks has been silent.
        end.wait_for(Option::is_some).await.map_or(Some(Loss::Silenced), |end| *end)
    }

    /// Lets the next one in at once. Failing to say so costs the next one [`PATIENCE`], nothing else: a run that was
    /// `stopped` waits for it no longer than for [`FAREWELL`].
    pub async fn release(mut self, stopped: &CancellationToken) {
        self.quiet().await;
        if self.lost.is_cancelled() {
            return;
        }
        self.value["released"] = true.into();
        let (name, value) = (name(&self.path, self.number), self.value.to_string());
        let told = tokio::select! {
            told = write(&self.env, &self.region, &name, &value, false) => told,
            () = async {
                stopped.cancelled().await;
                tokio::time::sleep(FAREWELL).await;
            } => {
                tracing::warn!("the lease could not be released in time");
                return;
            }
        };
        if let Err(error) = told {
            tracing::warn!("the lease could not be released: {error}");
        }
    }

    /// Stops the heart, and returns when it has stopped: before the parameters are removed for good, lest a
    /// beat makes one anew.
    pub async fn quiet(&mut self) {
        if !self.heart.is_finished() {
            self.heart.abort();
            let _ = (&mut self.heart).await;
        }
    }

    /// The region that it is kept in.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Whether nobody else holds it, by a look of now.
    pub async fn is_ours(&self) -> bool {
        self.stands().await.is_ok_and(|stands| stands)
    }

    /// Whether it is there, and nobody else's, by a look of now.
    ///
    /// # Errors
    /// The look failed.
    pub async fn stands(&self) -> Result<bool, ApiError> {
        let found = judged(&self.env, &self.region, &self.path, (self.number, &self.value)).await;
        found.map(|loss| loss.is_none())
    }
}

/// How a lease is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Somebody else holds it.
    TakenOver,
    /// It is not there any more, and nobody holds another one.
    Removed,
    /// It could not show for too long that it lives; nobody was seen to hold it instead.
    Silenced,
}

/// How the lease was lost by what there is now, if it was. Numbers begin anew with a cluster, so that one alone says
/// nothing of who holds it.
async fn judged(
    env: &Env,
    region: &str,
    path: &str,
    (number, ours): (u64, &Value),
) -> Result<Option<Loss>, ApiError> {
    let all = leases(env, region, path).await?;
    let Some((highest, latest)) = all.last_key_value() else { return Ok(Some(Loss::Removed)) };
    let its: Value = serde_json::from_str(&latest.value).unwrap_or_default();
    let is_held = *highest == number && its["holder"] == ours["holder"];
    Ok((!is_held).then_some(Loss::TakenOver))
}

async fn beat(env: &Env, region: &str, path: &str, number: u64, value: &Value) -> Loss {
    let mut last = env.session.clock.now();
    let mut pause = BEAT;
    loop {
        env.session.clock.sleep(pause).await;
        // A watcher's patience begins when a beat arrives, which may be long before its answer does.
        let begun = env.session.clock.now();
        let result = async {
            if let Some(loss) = judged(env, region, path, (number, value)).await? {
                return Ok(Some(loss));
            }
            let name = name(path, number);
            write(env, region, &name, &value.to_string(), false).await.map(|()| None)
        };
        let left = SILENCE.saturating_sub(env.session.clock.since(last));
        let result = tokio::select! {
            biased;
            result = result => result,
            // Calls that hang or are throttled must not outlast the others' patience.
            () = env.session.clock.sleep(left) => return Loss::Silenced,
        };
        match result {
            Ok(None) => (last, pause) = (begun, BEAT),
            Ok(Some(loss)) => return loss,
            Err(error) => {
                tracing::warn!("no heartbeat: {error}");
                if env.session.clock.since(last) >= SILENCE {
                    return Loss::Silenced;
                }
                pause = AGAIN.min(SILENCE.saturating_sub(env.session.clock.since(last)));
            }
        }
    }
}
