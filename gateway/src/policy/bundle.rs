//! The bundle: a tar read with limits, its Wasm, data and rules.
