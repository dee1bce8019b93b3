//! What an operator sets about the listeners: the types stand with the configuration, which comes
//! before this module in the order of the house.

pub use crate::config::listeners::{HalfClosed, Limits, Settings};
