//! The collector as its callers meet it: events in, rows, answers and proofs out.

mod commits;
mod guard;
mod limits;
mod process;
mod proof;
mod rows;
mod scope;
mod world;
