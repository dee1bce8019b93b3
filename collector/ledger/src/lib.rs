//! The ledger: append-only streams of events that every other record is derived from.
//!
//! One writer per stream; readers stop at the durable mark. The format is fixed: frames, chain,
//! commit groups, segments. Knows files and hashes; not what a call is.

pub mod append;
pub mod canon;
pub mod disk;
pub mod event;
pub mod follow;
pub mod frame;
pub mod head;
pub mod recover;
pub mod segment;
