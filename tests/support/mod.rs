//! What the tests share.

pub mod agent;
pub mod aws;
pub mod core;
pub mod flood;
pub mod mirror;
pub mod postgres;
pub mod proxy;
pub mod rules;
pub mod terraform;
pub mod traffic;
pub mod user;
