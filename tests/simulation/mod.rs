//! The provider against the sandbox in one process and in virtual time.

mod crash;
mod drift;
mod lifecycle;
mod refusals;
mod running;
