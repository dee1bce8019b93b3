//! Storage under the ledger: the real one, and a simulated one for tests.
