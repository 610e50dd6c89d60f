//! `trading_dr_cluster`: a whole PostgreSQL disaster-recovery stack on AWS as one Terraform resource.
//!
//! Observe, decide, act: a configuration becomes a [`provider`] draft; what AWS holds is observed; pure
//! code decides what is to change; an executor does it. Imports run one way, from `provider` down.

pub mod agent;
pub mod aws;
pub mod cluster;
pub mod components;
pub mod contract;
pub mod executor;
pub mod plugin;
pub mod progress;
pub mod provider;
pub mod runbooks;
