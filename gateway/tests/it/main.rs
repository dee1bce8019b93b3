//! The tests of this crate, through its public surface.

mod cli;
mod config;
mod keys;
mod policy;
mod program;
