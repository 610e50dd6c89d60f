//! The provider against the sandbox in one process and in virtual time.

mod drift;
mod lifecycle;
