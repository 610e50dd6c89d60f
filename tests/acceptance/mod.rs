//! The whole way: the real `terraform`, the provider's own process, HTTP to the sandbox.

mod agent;
mod configuration;
mod failover;
mod graph;
mod identity;
mod lifecycle;
mod packaging;
mod progress;
mod provider;
mod status;
mod trouble;
