//! Facts: one typed value, equal facts get equal decisions.
