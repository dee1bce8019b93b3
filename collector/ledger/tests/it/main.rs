//! The tests of this crate, through its public surface.

mod append;
mod canon;
mod follow;
mod limits;
mod power;
mod recover;
mod support;
mod tamper;
