//! The collector: turns the ledger into tables, proofs and answers in SQL.
//!
//! The modules stand in the order an event meets them, and a module uses only what stands above
//! it: `config` names every limit, `schema` turns an event into typed rows, `table` keeps them in
//! Delta tables, `state` holds what is known at one moment, `follow` reads the ledger into it up to
//! the durable mark, `query` answers from it, `access` writes down who asked, `verify` proves the tables
//! against the ledger, `collector` builds the parts once, `serve` is the door to it, `ask` knocks
//! on that door. No module knows what a gateway is.

pub mod config;
pub mod schema;
pub mod table;
pub mod state;
pub mod follow;
pub mod query;
pub mod access;
pub mod verify;
pub mod collector;
pub mod serve;
pub mod ask;
