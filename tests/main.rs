//! Every integration test, in one program: each further test program would link the AWS SDK again.

#![allow(missing_docs, unreachable_pub, clippy::needless_pass_by_value)]

mod acceptance;
mod bench;
mod conformance;
mod documentation;
mod laboratory;
mod peer;
mod simulation;
mod support;
