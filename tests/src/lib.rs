//! Starts the built programs as a user would, and watches them.
//!
//! [`world::World`] is a gateway with its collector on ports of their own and a data folder that
//! ends with the test; [`upstream::Upstream`] is a provider that misbehaves on demand, and
//! [`front::Front`] puts TLS before it; [`client`] speaks HTTP byte by byte, so that a test sees
//! what a client sees.

pub mod bench;
pub mod client;
pub mod front;
pub mod upstream;
pub mod world;
