//! The tests of this crate, through its public surface.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod append;
mod canon;
mod copy;
mod follow;
mod heads;
mod limits;
mod power;
mod recover;
mod support;
mod tamper;
