//! Remembers decisions by facts, for their quarter hour.
