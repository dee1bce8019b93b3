//! The system as its users meet it: built programs, real sockets, real clients.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod audit;
mod calls;
mod clients;
mod crash;
mod dashboard;
mod disk;
mod faults;
mod limits;
mod local;
mod network;
mod policy;
mod secrets;
mod streams;
mod tampering;
mod tidy;
