//! The collector as its callers meet it: events in, rows, answers and proofs out.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod commits;
mod door;
mod guard;
mod limits;
mod process;
mod proof;
mod rows;
mod scope;
mod world;
