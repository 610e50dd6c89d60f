//! Every integration test, in one program: each further test program would link the AWS SDK again.

#![allow(missing_docs, unreachable_pub, clippy::needless_pass_by_value)]

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

mod acceptance;
mod bench;
mod conformance;
mod documentation;
mod laboratory;
mod peer;
mod simulation;
mod support;
