//! The provider against the sandbox in one process and in virtual time.

mod crash;
mod drift;
mod lifecycle;
mod looking;
mod refusals;
mod running;
mod summaries;
