//! A disk in memory that can lose power, lose pages, and lie once about an fsync.
