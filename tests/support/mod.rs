//! What the tests share.

pub mod core;
