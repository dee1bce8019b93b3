//! The tests of this crate, through its public surface.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cli;
mod config;
mod keys;
mod local;
mod policy;
mod program;
