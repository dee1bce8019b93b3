//! The tests of this crate, through its public surface.

mod policy;
