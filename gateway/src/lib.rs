//! The map of the gateway: its modules, in the order a call meets them.
//!
//! A module may use only what stands above it in this list, so the list is the flow of one call
//! and cycles cannot exist. `tests/it/tidy.rs` keeps it true.

pub mod quantity;
pub mod secret;
pub mod room;
pub mod store;
pub mod identity;
pub mod wire;
pub mod local;
pub mod classify;
pub mod catalog;
pub mod policy;
pub mod route;
pub mod record;
pub mod providers;
pub mod config;
pub mod gateway;
pub mod pipeline;
pub mod listener;
pub mod admin;
pub mod cli;
