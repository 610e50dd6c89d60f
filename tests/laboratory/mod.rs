//! Failovers of real databases, measured: the real `terraform` makes the cluster, its functions' own program watches two
//! PostgreSQL 15 through the network's stand-in, applications write by the cluster's name, and trouble comes.

mod application;
mod demo;
mod drawing;
mod experiments;
mod stage;
mod story;

pub use experiments::{programs, region_lost};
pub use stage::Stage;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// How fast time passes while programs run: they wait for AWS, and for PostgreSQL, in real time.
pub const SCALE: f64 = 6.0;

/// What runs on real databases or runs the functions' program does so one at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}
