//! The provider against the sandbox in one process and in virtual time.

mod abuse;
mod access;
mod agent;
mod alarms;
mod asked;
mod concurrency;
mod copies;
pub mod crash;
mod drift;
mod drift_agent;
mod drift_settings;
mod drill;
pub mod failover;
mod faults;
mod lifecycle;
mod looking;
mod overview;
mod ownership;
mod refusals;
mod runbooks;
mod running;
mod sessions;
mod storms;
mod summaries;
mod troubles;
mod undone;
mod watching;
