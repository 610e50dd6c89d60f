//! AWS as the rest of the provider uses it: clients per region, one clock, one error, one way to retry and
//! one way to wait.

mod client;
mod clock;
mod credentials;
mod environment;
mod error;
mod network;
mod session;
mod wait;

pub use client::{Aws, ConfigError, Connection, Regional};
pub use clock::{Clock, ScaleError, utc};
pub use credentials::{
    Credentials, RoleSession, RoleToAssume, Shared, SharedFiles, Token, WebIdentity,
};
pub use error::{ApiError, ErrorClass};
pub use network::{Network, NetworkError, function_client};
pub use session::{Api, Attempts, CONSISTENCY_LIMIT, Session};
pub use wait::{Progress, WaitError};
