//! The writer: groups, commits, receipts.
