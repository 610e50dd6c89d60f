//! What runs inside of the account: the monitor that watches, decides and acts.
//!
//! Both regions run the same one. In the writer's region it is the **guard**: it renews a lease at a third
//! region, the witness, for as long as the writer takes writes, and keeps everybody out of its own writer when
//! it is cut off from both others or superseded. In the standby's region it is the **challenger**: it gathers
//! evidence, decides by [`crate::cluster::failover`], and carries a failover out, step by step, each of which
//! can be repeated.
//!
//! Everything that it sees and does goes through a [`Surface`]: AWS, or a world of a test.
//!
//! # Guarantees
//! Nothing is promoted unless the lease could be taken from the writer's region at the very state in which it
//! was seen to stand still: between two regions that both act, the witness decides. What is promoted is
//! recorded before and after, under a version that one run only can write.

pub mod aws;
mod challenger;
pub mod copier;
pub mod drill;
mod evidence;
mod guard;
pub mod handler;
mod ledger;
mod monitor;
pub mod postgres;
pub mod probe;
mod promotion;
mod surface;

pub use ledger::{Ack, Ledger, Moment};
pub use monitor::{Config, LIFE, Monitor, Tick};
pub use surface::{
    Fault, Instance, InstanceRole, Intent, Lease, Metric, Probed, Session, Side, Surface, Written,
};
