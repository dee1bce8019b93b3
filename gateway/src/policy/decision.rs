//! The decision document (cordon.decision/1), typed.
