//! What `make bench` is made of: CPU of a gateway per call, as a multiple of nginx's.
//!
//! `cordon-bench` starts everything; `cordon-bench-upstream` answers at once;
//! `cordon-bench-load` calls at a pace or in a closed loop; `cordon-bench-handover` looks at the
//! ledger alone. Everything is bounded in count and time and stays
//! on loopback. `docs/performance.md` says how to read the results.

pub mod answer;
pub mod figures;
pub mod handover;
pub mod link;
pub mod load;
pub mod machine;
pub mod memory;
pub mod meter;
pub mod plan;
pub mod report;
pub mod subject;
pub mod upstream;
