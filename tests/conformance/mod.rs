//! The plugin host, called as Terraform core calls it, and as core never would.

mod anything;
mod callers;
mod host;
pub mod toy;
mod versions;
