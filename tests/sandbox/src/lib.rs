//! A strict simulated AWS of exactly the operations that the provider uses.
//!
//! It says no wherever AWS says no: state machines that take AWS's time, dependency violations, name and
//! parameter rules, region scoping, eventual consistency, and IAM on every call. What is not implemented,
//! down to a single parameter, is an error and never ignored.
//!
//! As a library it answers inside the test's process, under tokio's paused clock: [`Sandbox::answer`].
//! As a program it listens on a loopback port: [`Sandbox::serve`]. It depends on no AWS SDK, so that the
//! two sides cannot share a mistake.
//!
//! # Its own endpoints
//! - `GET /_sandbox/network`: the ids of the seeded network, by region, and the hosted zone.
//! - `GET /_sandbox/operations`: the operations that are implemented, with their parameters, by service.
//! - `GET /_sandbox/inventory`: everything that was made, by region, kind and id.
//! - `GET /_sandbox/leftovers`: the ids of the same, without what AWS keeps for a while by itself.
//! - `GET`, `DELETE /_sandbox/calls`: the calls so far.
//! - `GET /_sandbox/clock`; `POST {"scale": 600, "advance_seconds": 60}`, both optional.
//! - `GET`, `DELETE /_sandbox/faults`; `POST {"faults": [{"rule": {"service", "operation", "region", "after",
//!   "times", "percent"}, "effect": {"effect": "throttle" | "fail" | "delay" | "hang" | "drop_before" |
//!   "drop_after", …}}], "down": ["us-east-1"]}`.
//! - `POST /_sandbox/drift {"region", "kind", "id", "set": {…}}`: a merge patch on a record; without `set` it
//!   is removed.
//! - `POST /_sandbox/regions {"us-east-1": true}`: takes everything in a region away, or brings it back.
//! - `POST /_sandbox/functions {"NAME": "value"}`: from now on functions are run, as Lambda runs them, each with
//!   these variables besides its own; `GET /_sandbox/logs` has what they say.
//! - `POST /_sandbox/databases`: from now on every instance is a PostgreSQL 15 of its own; before `functions`, if
//!   probes are to look at them. `POST /_sandbox/places {"region", "vpc", "groups"}`: how a client at a place, the
//!   region's application if no other is named, connects to them by their names, and by the cluster's.
//! - `GET /_sandbox/names`: what clients get for the names of the private zones, by VPC.
//! - `POST /_sandbox/reset`: the account as it was in the beginning.

mod clock;
mod control;
mod dispatch;
pub mod durations;
mod faults;
mod functions;
mod iam;
mod inventory;
mod postgres;
mod request;
#[cfg(test)]
mod rules;
mod scratch;
mod seed;
mod server;
mod services;
mod traffic;
mod wire;
mod world;

pub use clock::Time;
pub use dispatch::CallRecord;
pub use faults::{Effect, Fault, Rule};
pub use functions::Host;
pub use iam::Access;
pub use postgres::{Laboratory, Programs};
pub use seed::{ACCESS_KEY, ACCOUNT, RESTRICTED_KEY, SECRET_KEY, SESSION_SECRET};
pub use server::{Answer, Sandbox};
pub use services::{
    lambda::{Invocation, Runtime},
    rds::{SessionView, Source, Visitor},
};
pub use traffic::Exchange;
pub use wire::cbor::{parse as from_cbor, render as to_cbor};
pub use world::World;
