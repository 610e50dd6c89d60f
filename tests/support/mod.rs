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

use std::path::PathBuf;

/// The repository's folder as it is now: a target folder that is kept outside of it outlasts the place where this was compiled.
pub fn repository() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}
