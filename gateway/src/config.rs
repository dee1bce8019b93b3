//! The configuration: every setting, checked once.
