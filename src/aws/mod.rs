//! AWS as the rest of the provider uses it: clients per region, one clock, one error, one way to retry and
//! one way to wait.

mod client;
mod clock;
mod environment;
mod error;
mod session;
mod wait;

pub use client::{Aws, ConfigError, Connection, Credentials, Regional, RoleToAssume, SharedFiles};
pub use clock::{Clock, ScaleError};
pub use error::{ApiError, ErrorClass};
pub use session::{Api, CONSISTENCY_LIMIT, Session};
pub use wait::{Progress, WaitError};
