//! Which decisions have a row already: the ledger repeats one in every segment that refers to it.

use std::collections::{HashSet, VecDeque};

use datafusion::arrow::array::{Array, AsArray};
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use sha2::{Digest, Sha256};

use crate::table::Version;

/// Decisions that are remembered: 32 MiB or so. The oldest is forgotten first; were it repeated
/// after that, it would have a second row.
const SEEN_MAX: usize = 500_000;

/// Half a hash of what makes two decisions the same.
pub(in crate::follow) type DecisionKey = [u8; 16];

/// The decisions that have a row.
#[derive(Debug, Default)]
pub struct Seen {
    known: HashSet<DecisionKey>,
    order: VecDeque<DecisionKey>,
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
                seen.add(Self::key(&(text(digests), text(versions))));
            }
        }
        Ok(seen)
    }

    /// The short name of a decision.
    pub(in crate::follow) fn key((digest, version): &(String, String)) -> DecisionKey {
        let hash = Sha256::new()
            .chain_update(digest.as_bytes())
            .chain_update([0])
            .chain_update(version.as_bytes())
            .finalize();
        let mut key = [0; 16];
        key.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        key
    }

    /// Whether the decision has a row.
    pub(in crate::follow) fn holds(&self, key: &DecisionKey) -> bool {
        self.known.contains(key)
    }

    /// From now on the decision has a row.
    pub(in crate::follow) fn add(&mut self, key: DecisionKey) {
        if !self.known.insert(key) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}
