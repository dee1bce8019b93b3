//! Facts as the contract's JSON (cordon.facts/1).
