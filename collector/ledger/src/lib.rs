//! The ledger: append-only streams of events that every other record is derived from.
//!
//! One writer per stream; readers stop at the durable mark. The format is fixed: frames, chain,
//! commit groups, segments, signed heads. Knows files and hashes; not what a call is. A module
//! uses only what stands above it.

pub mod canon;
pub mod event;
pub mod disk;
pub mod socket;
pub mod frame;
pub mod segment;
pub mod mark;
pub mod head;
pub mod recover;
pub mod append;
pub mod follow;
pub mod verify;

pub use append::{AppendError, Ledger, Observer, Options, Place, Receipt, Status};
pub use disk::{RealDisk, Storage};
pub use event::{DecisionBody, Draft, Event, Kind, Position, Writer};
pub use recover::{OpenCall, OpenError, Recovered};
pub use socket::short_path;
