//! Waiting until something that AWS does in its own time is done.

use std::time::Duration;

use super::{
    ApiError,
    session::{CONSISTENCY_LIMIT, Session},
};

/// What a look at the thing showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress<T> {
    /// It is done.
    Done(T),
    /// It is on its way; the text says where, for the log and for a timeout's message.
    Pending(String),
    /// It does not show although it was there: a read may be behind what was done. Once that has lasted for
    /// [`CONSISTENCY_LIMIT`], it is gone, and the text says what is.
    Unseen(String),
    /// It will never be done; the text says why.
    Failed(String),
}

impl<T> Progress<T> {
    /// The same, with something else to show for it.
    pub fn map<U>(self, with: impl FnOnce(T) -> U) -> Progress<U> {
        match self {
            Self::Done(value) => Progress::Done(with(value)),
            Self::Pending(state) => Progress::Pending(state),
            Self::Unseen(what) => Progress::Unseen(what),
            Self::Failed(why) => Progress::Failed(why),
        }
    }
}

/// Why waiting ended without the thing being done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// Looking failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It will never be done.
    #[error("{0}")]
    Failed(String),
    /// The run was stopped meanwhile.
    #[error("{reason} while it was still {state}")]
    Stopped {
        /// `interrupted`, or that the timeout has passed.
        reason: &'static str,
        /// The last state seen.
        state: String,
    },
}

/// The first pause between two looks.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest pause: what AWS's own waiters use.
const LONGEST: Duration = Duration::from_secs(30);
/// A pause is this share of the time waited so far, so that no wait lasts more than that much longer than
/// the thing itself, and a wait of an hour asks about 90 times.
const SHARE: f64 = 0.04;

impl Session {
    /// Looks, with growing pauses, until the thing is done.
    ///
    /// # Errors
    /// The look failed for good, the thing will never be done, or the run was stopped.
    pub async fn wait<T, F>(&self, look: impl Fn() -> F) -> Result<T, WaitError>
    where
        F: Future<Output = Result<Progress<T>, ApiError>>,
    {
        let begun = self.clock.now();
        let mut seen = begun;
        loop {
            let look = look().await?;
            if !matches!(look, Progress::Unseen(_)) {
                seen = self.clock.now();
            }
            let state = match look {
                Progress::Done(value) => return Ok(value),
                Progress::Failed(why) => return Err(WaitError::Failed(why)),
                Progress::Unseen(what) if self.clock.since(seen) >= CONSISTENCY_LIMIT => {
                    return Err(WaitError::Failed(what));
                }
                Progress::Unseen(_) => "not to be seen".to_owned(),
                Progress::Pending(state) => state,
            };
            let pause = self.clock.since(begun).mul_f64(SHARE).clamp(SHORTEST, LONGEST);
            if let Err(reason) = self.pause(pause).await {
                return Err(WaitError::Stopped { reason, state });
            }
        }
    }
}
