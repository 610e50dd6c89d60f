//! The cluster: what the user wants, what it is placed into, what follows from both, and what is to change.
//!
//! [`Spec`] and [`Surroundings`] make a [`Blueprint`]; held against an [`Inventory`] it makes [`Changes`].
//! Discovery and observation look at AWS; everything else here is pure.

pub mod blueprint;
pub mod changes;
pub mod concurrency;
mod defaults;
pub mod failover;
pub mod inventory;
mod mistake;
pub mod names;
pub mod objectives;
pub mod parameters;
mod policies;
pub mod preflight;
pub mod roles;
pub mod schedule;
pub mod spec;
pub mod surroundings;
pub mod window;

pub use blueprint::Blueprint;
pub use changes::{Change, Changes, Verb};
pub use inventory::Inventory;
pub use mistake::Mistake;
pub use roles::{Role, Roles};
pub use spec::{Site, Spec};
pub use surroundings::{DiscoveryError, Surroundings};
