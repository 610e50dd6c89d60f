//! One run's way of calling AWS: retries, the deadline, interruption and the log, in one place.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_smithy_runtime_api::{
    client::{orchestrator::HttpResponse, result::SdkError},
    http::Headers,
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId;
use tokio_util::sync::CancellationToken;

use super::{
    Clock,
    error::{ApiError, ErrorClass, classify},
};

/// The name of a call and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// As IAM spells it: `kms`, `rds`.
    pub service: &'static str,
    /// As the service's API reference spells it.
    pub operation: &'static str,
    /// The region that is called.
    pub region: Arc<str>,
}

impl fmt::Display for Api {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.service, self.operation)
    }
}

/// Backoff starts here and doubles.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// Backoff ends here.
const LONGEST_BACKOFF: Duration = Duration::from_secs(20);
/// How long something that exists may stay invisible: as long as AWS's own tools allow (aws-facts 1.5).
pub const CONSISTENCY_LIMIT: Duration = Duration::from_secs(300);
/// How long a thing may be busy with something else: the longest modification, and the time that network
/// interfaces linger (aws-facts 1.4, 8).
const BUSY_LIMIT: Duration = Duration::from_secs(2400);
/// How long a call that is in flight may take after an interrupt, so that its result is not lost.
const IN_FLIGHT_LIMIT: Duration = Duration::from_millis(4500);

/// How often a call is made before its failing counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts {
    /// While AWS or the network fails: before that is taken for an outage.
    pub failing: u32,
    /// While it is throttled: it will get its turn.
    pub throttled: u32,
    /// For how long AWS or the network may fail in a row, however often that was: what swallows calls lets each of them
    /// wait until it is taken for lost. Without, the number alone counts.
    pub silence: Option<Duration>,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { failing: 8, throttled: 30, silence: Some(Duration::from_secs(90)) }
    }
}

impl Attempts {
    /// So often, whatever the reason; once at least.
    pub fn at_most(count: u32) -> Self {
        Self { failing: count.max(1), throttled: count.max(1), silence: None }
    }
}

/// Calls AWS for one run.
#[derive(Clone, Debug)]
pub struct Session {
    /// The time.
    pub clock: Clock,
    /// Fires when the user interrupts, or the lease is lost.
    pub cancel: CancellationToken,
    /// Fires when the lease is lost, where there is one.
    lost: Option<CancellationToken>,
    deadline: Option<SystemTime>,
    attempts: Attempts,
    jitter: Arc<AtomicU64>,
    /// The component that calls are made for, in the log.
    component: Arc<str>,
}

impl Session {
    /// A session that ends at `deadline`, if there is one.
    pub fn new(clock: Clock, cancel: CancellationToken, deadline: Option<SystemTime>) -> Self {
        // Only two runs that are throttled together need to differ, so any seed will do.
        let seed = clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seed = u64::from(seed.subsec_nanos()) ^ u64::from(std::process::id());
        let jitter = Arc::new(AtomicU64::new(seed | 1));
        let attempts = Attempts::default();
        Self { clock, cancel, lost: None, deadline, attempts, jitter, component: "".into() }
    }

    /// The same session with another patience.
    #[must_use]
    pub fn with_attempts(&self, attempts: Attempts) -> Self {
        Self { attempts, ..self.clone() }
    }

    /// The same session with another way of being stopped.
    #[must_use]
    pub fn with_cancel(&self, cancel: CancellationToken) -> Self {
        Self { cancel, ..self.clone() }
    }

    /// The same session under a lease: it is stopped by `cancel`, which fires after `lost` did as well.
    #[must_use]
    pub fn under_lease(&self, lost: CancellationToken, cancel: CancellationToken) -> Self {
        Self { cancel, lost: Some(lost), ..self.clone() }
    }

    /// Whether a call that fails is made again at all.
    pub fn is_patient(&self) -> bool {
        self.attempts.failing > 1
    }

    /// The same session with the component named in the log that its calls are made for.
    #[must_use]
    pub fn for_component(&self, address: &str) -> Self {
        Self { component: address.into(), ..self.clone() }
    }

    /// Why nothing more may be started, if so.
    pub fn stopped(&self) -> Option<&'static str> {
        if self.cancel.is_cancelled() {
            Some(self.interrupted())
        } else if self.deadline.is_some_and(|deadline| self.clock.now() >= deadline) {
            Some("the timeout has passed")
        } else {
            None
        }
    }

    /// What has stopped the run before its time was up.
    fn interrupted(&self) -> &'static str {
        let is_lost = self.lost.as_ref().is_some_and(CancellationToken::is_cancelled);
        if is_lost { "its lease was lost" } else { "interrupted" }
    }

    /// Calls until it succeeds, fails for good, or the run is stopped. For calls that may be repeated
    /// without harm: reads, and writes that AWS takes twice.
    ///
    /// # Errors
    /// The last error, classified.
    pub async fn call<T, E, F>(&self, api: Api, attempt: impl Fn() -> F) -> Result<T, ApiError>
    where
        T: RequestId,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + fmt::Debug,
    {
        self.repeat(api, true, attempt).await
    }

    /// Like [`Session::call`], but when it is not known whether AWS acted, the error is returned at once,
    /// for a caller that then looks.
    ///
    /// # Errors
    /// The last error, classified; [`ErrorClass::Transient`] says that AWS may have acted.
    pub async fn call_once<T, E, F>(&self, api: Api, attempt: impl Fn() -> F) -> Result<T, ApiError>
    where
        T: RequestId,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + fmt::Debug,
    {
        self.repeat(api, false, attempt).await
    }

    /// Like [`Session::call`], for something that was made moments ago and may not be known everywhere yet.
    ///
    /// # Errors
    /// The last error, classified; that it does not exist, only after a while.
    pub async fn call_on_new<T, E, F>(
        &self,
        api: Api,
        attempt: impl Fn() -> F,
    ) -> Result<T, ApiError>
    where
        T: RequestId,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + fmt::Debug,
    {
        let begun = self.clock.now();
        loop {
            match self.call(api.clone(), &attempt).await {
                // A rule that is not there is another thing than its group.
                Err(error)
                    if error.is_not_found()
                        && !error.has_code("InvalidPermission.NotFound")
                        && self.clock.since(begun) < CONSISTENCY_LIMIT =>
                {
                    if self.pause(FIRST_BACKOFF * 4).await.is_err() {
                        return Err(error);
                    }
                }
                other => return other,
            }
        }
    }

    /// Like [`Session::call`], for looking at something that may not exist: `None` then.
    ///
    /// # Errors
    /// Any other error than that it does not exist.
    pub async fn find<T, E, F>(
        &self,
        api: Api,
        attempt: impl Fn() -> F,
    ) -> Result<Option<T>, ApiError>
    where
        T: RequestId,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + fmt::Debug,
    {
        match self.call(api, attempt).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Like [`Session::call`], for removing something: what is gone already counts as removed.
    ///
    /// # Errors
    /// Any other error than that it does not exist.
    pub async fn remove<T, E, F>(&self, api: Api, attempt: impl Fn() -> F) -> Result<(), ApiError>
    where
        T: RequestId,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + fmt::Debug,
    {
        self.find(api, attempt).await.map(|_| ())
    }

    /// Calls once and waits no longer than `limit`: for whoever has to know soon whether there is an answer.
    ///
    /// # Errors
    /// The error, classified. No answer in time is [`ErrorClass::Transient`] without a code.
    pub async fn attempt<T, E, F>(
        &self,
        api: Api,
        limit: Duration,
        attempt: F,
    ) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + fmt::Debug,
    {
        // On the heap, as in `repeat`.
        let call = Box::pin(attempt);
        tokio::select! {
            biased;
            result = call => result.map_err(|error| describe(&api, &error)),
            () = self.clock.sleep(limit) => {
                let message = "no answer in time".to_owned();
                Err(ApiError { api, class: ErrorClass::Transient, code: None, message, request_id: None })
            }
        }
    }

    async fn repeat<T, E, F>(
        &self,
        api: Api,
        repeat_ambiguous: bool,
        attempt: impl Fn() -> F,
    ) -> Result<T, ApiError>
    where
        T: RequestId,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + fmt::Debug,
    {
        let begun = self.clock.now();
        let (mut failing, mut refused) = (0, 0);
        // Whatever the pace of the clock, an answer is waited for in real time.
        let mut answered = tokio::time::Instant::now();
        for tries in 1u32.. {
            if let Some(reason) = self.stopped() {
                return Err(ApiError::stopped(api, reason));
            }
            if failing == 0 {
                answered = tokio::time::Instant::now();
            }
            // The SDK's futures are tens of kilobytes each; on the heap, they do not add up on the stack.
            let Some(result) = self.in_flight(Box::pin(attempt())).await else {
                let why = self.stopped().unwrap_or("stopped");
                let why = format!("{why} while AWS had not answered yet");
                return Err(ApiError::stopped(api, &why));
            };
            let error = match result {
                Ok(output) => {
                    tracing::debug!(
                        target: "trading::aws",
                        component = &*self.component,
                        region = &*api.region, call = %api, request_id = output.request_id(),
                        "called"
                    );
                    return Ok(output);
                }
                Err(error) => describe(&api, &error),
            };
            tracing::debug!(
                target: "trading::aws",
                component = &*self.component,
                region = &*api.region, call = %api, class = ?error.class,
                code = error.code.as_deref(), request_id = error.request_id.as_deref(),
                "failed: {}", error.message
            );
            // AWS that answers again, were it only to say that it is busy, has all attempts before it.
            (failing, refused) = match error.class {
                ErrorClass::Throttled => (0, refused + 1),
                ErrorClass::Transient => (failing + 1, refused + 1),
                _ => (0, 0),
            };
            let again = match error.class {
                ErrorClass::Throttled => refused < self.attempts.throttled,
                ErrorClass::Transient => {
                    repeat_ambiguous
                        && failing < self.attempts.failing
                        && self.attempts.silence.is_none_or(|most| answered.elapsed() < most)
                        && refused < self.attempts.throttled
                }
                ErrorClass::NotYetConsistent => self.clock.since(begun) < CONSISTENCY_LIMIT,
                ErrorClass::Busy => self.clock.since(begun) < BUSY_LIMIT,
                _ => false,
            };
            if !again {
                return Err(error);
            }
            match self.pause(self.backoff(tries)).await {
                Ok(()) => {}
                // Nobody knows whether it would have succeeded, and nobody asks for it any more.
                Err(reason) if self.cancel.is_cancelled() => {
                    return Err(ApiError::stopped(api, reason));
                }
                // What has kept it from succeeding until the time was up.
                Err(_) => return Err(error),
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Waits for a call that is in flight; once the run is stopped not for long.
    async fn in_flight<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        let over = async {
            match self.left() {
                Some(left) => self.clock.sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(call);
        tokio::select! {
            biased;
            result = &mut call => return Some(result),
            () = self.cancel.cancelled() => {}
            () = over => {}
        }
        tokio::time::timeout(IN_FLIGHT_LIMIT, call).await.ok()
    }

    /// How much of its time the run has left, if that is limited.
    fn left(&self) -> Option<Duration> {
        let now = self.clock.now();
        self.deadline.map(|deadline| deadline.duration_since(now).unwrap_or_default())
    }

    /// Sleeps, unless the run is stopped first.
    ///
    /// # Errors
    /// Why it was stopped.
    pub async fn pause(&self, duration: Duration) -> Result<(), &'static str> {
        let duration = self.left().map_or(duration, |left| left.min(duration));
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(self.interrupted()),
            () = self.clock.sleep(duration) => self.stopped().map_or(Ok(()), Err),
        }
    }

    /// Between half and all of the exponential backoff.
    fn backoff(&self, tries: u32) -> Duration {
        let full = FIRST_BACKOFF.saturating_mul(1 << (tries - 1).min(10)).min(LONGEST_BACKOFF);
        // xorshift: spreading retries needs no better randomness.
        let step = |mut x: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^ (x << 17)
        };
        let drawn = self
            .jitter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |x| Some(step(x)))
            .map_or(0, step);
        let share = f64::from(u32::try_from(drawn % 1000).unwrap_or(0)) / 1000.0;
        full.mul_f64(0.5 + share / 2.0)
    }
}

/// What an error of the SDK means for whoever made the call.
pub(super) fn describe<E>(api: &Api, error: &SdkError<E, HttpResponse>) -> ApiError
where
    E: ProvideErrorMetadata + fmt::Debug,
{
    let status = error.raw_response().map_or(0, |raw| raw.status().as_u16());
    let headers = error.raw_response().map(HttpResponse::headers);
    let request_id = |headers: &Headers| {
        let names = ["x-amzn-requestid", "x-amz-request-id", "x-amzn-request-id"];
        names.iter().find_map(|name| headers.get(*name)).map(Box::from)
    };
    let request_id = headers.and_then(request_id);
    let (class, code, message) = match error {
        SdkError::ServiceError(service) => {
            let (code, message) = (service.err().code(), service.err().message());
            let message = message.unwrap_or("no message").to_owned();
            // An answer without a code is an answer all the same.
            let shown = code.map_or_else(|| format!("HTTP {status}").into(), Box::from);
            (classify(code, &message, status), Some(shown), message)
        }
        SdkError::TimeoutError(_) => (ErrorClass::Transient, None, "no answer in time".to_owned()),
        SdkError::DispatchFailure(failure) => {
            let cause = failure.as_connector_error().map(|one| one as &dyn std::error::Error);
            match of_credentials(cause) {
                Some(Lack::Role(refusal)) => return refusal,
                Some(Lack::Keys) => (ErrorClass::Credentials, None, causes(cause)),
                None => (ErrorClass::Transient, None, causes(cause)),
            }
        }
        SdkError::ResponseError(_) => (
            classify(None, "", status),
            Some(format!("HTTP {status}").into()),
            format!("an answer that makes no sense (HTTP {status})"),
        ),
        SdkError::ConstructionFailure(failure) => {
            (ErrorClass::Refused, None, format!("the request cannot be built: {failure:?}"))
        }
        other => (ErrorClass::Refused, None, format!("{other:?}")),
    };
    ApiError { api: api.clone(), class, code, message, request_id }
}

/// Why a request had no credentials.
enum Lack {
    /// None were found.
    Keys,
    /// A role was not to be had.
    Role(ApiError),
}

/// Why a request was not sent, if it is that there were no credentials for it. What else keeps one from being sent or
/// answered, a connection that breaks above all, may pass; so may what keeps STS from answering.
fn of_credentials(mut error: Option<&(dyn std::error::Error + 'static)>) -> Option<Lack> {
    use aws_credential_types::provider::error::CredentialsError;
    let mut lack = None;
    while let Some(one) = error {
        if one.downcast_ref::<CredentialsError>().is_some() {
            lack = Some(Lack::Keys);
        }
        if let Some(refusal) = one.downcast_ref::<ApiError>() {
            let class =
                if refusal.class.is_retryable() { refusal.class } else { ErrorClass::Credentials };
            return lack.map(|_| Lack::Role(ApiError { class, ..refusal.clone() }));
        }
        error = one.source();
    }
    lack
}

/// The texts of an error and of everything that caused it.
fn causes(mut error: Option<&dyn std::error::Error>) -> String {
    let mut texts: Vec<String> = Vec::new();
    while let Some(one) = error {
        let text = one.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        error = one.source();
    }
    if texts.is_empty() { "the request could not be sent".into() } else { texts.join(": ") }
}
