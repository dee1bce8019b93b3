//! Which decisions have a row already: the ledger repeats one in every segment that refers to it.

use std::collections::{HashSet, VecDeque};

use datafusion::arrow::array::{Array, AsArray};
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::schema::decision_key;
use crate::table::Version;

/// Decisions that are remembered: 32 MiB or so. The oldest is forgotten first; were it repeated
/// after that, it would have a second row.
const SEEN_MAX: usize = 500_000;

/// The decisions that have a row.
#[derive(Debug, Default)]
pub struct Seen {
    known: HashSet<[u8; 16]>,
    order: VecDeque<[u8; 16]>,
}

// === impl Seen ===

impl Seen {
    /// The decisions that stand in a table.
    ///
    /// # Errors
    /// The table cannot be read.
    pub async fn load(version: &Version) -> Result<Self, DataFusionError> {
        let context = SessionContext::new();
        let frame = context.read_table(version.provider.clone())?;
        let frame = frame.select_columns(&["digest", "policy_set_version"])?;
        let mut rows = frame.execute_stream().await?;
        let mut seen = Self::default();
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            let (digests, versions) =
                (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
            for row in 0..batch.num_rows() {
                let text = |column: &datafusion::arrow::array::StringArray| {
                    if column.is_null(row) { String::new() } else { column.value(row).to_owned() }
                };
                seen.add(&(text(digests), text(versions)));
            }
        }
        Ok(seen)
    }

    /// Whether the decision has no row yet; from now on it has one.
    pub fn is_new(&mut self, cells: &Map<String, Value>) -> bool {
        self.add(&decision_key(cells))
    }

    fn add(&mut self, (digest, version): &(String, String)) -> bool {
        let hash = Sha256::new()
            .chain_update(digest.as_bytes())
            .chain_update([0])
            .chain_update(version.as_bytes())
            .finalize();
        let mut key = [0; 16];
        key.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        if !self.known.insert(key) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}
