//! Merging small files: each commit adds some, and a table of very many is slow to open and read.
//!
//! Files of one partition and about the same size are read as they lie and written as one, so that
//! a row is written again only twice. The log entry says that no row changed, and says the marks
//! again. The old files stay where they are: statements and other readers may have them open.

use std::collections::BTreeMap;
use std::path::PathBuf;

use datafusion::arrow::error::ArrowError;
use deltalake::kernel::{Action, LogicalFileView};
use deltalake::protocol::DeltaOperation;

use crate::table::{DataFile, Store, TableError};

/// The sizes below which files are about the same size; larger files stay as they are.
const SIZES: [u64; 2] = [64 << 10, 1 << 20];

/// Files that are merged into one.
struct Merge {
    files: Vec<DataFile>,
    removals: Vec<Action>,
}

impl Store {
    /// Merges the first `count` files that belong together, if there are so many; gives the files
    /// that the table does not use any more.
    ///
    /// # Errors
    /// Nothing was merged, or it is not known: calling again is right in both cases.
    pub async fn merge_small_files(&mut self, count: usize) -> Result<Vec<PathBuf>, TableError> {
        self.refresh().await?;
        let Some(merge) = self.mergeable(count)? else {
            return Ok(Vec::new());
        };
        let mut writer = self.writer()?;
        for file in &merge.files {
            let rows = file.rows(self.table).map_err(|e| self.rows_error(e))?;
            for rows in rows {
                let rows = rows.map_err(|e| self.rows_error(e))?;
                self.write(&mut writer, rows).await?;
            }
        }
        let mut adds = self.finish(writer).await?;
        adds.iter_mut().for_each(|add| add.data_change = false);
        let target_size = i64::try_from(SIZES[SIZES.len() - 1]).unwrap_or(i64::MAX);
        let operation = DeltaOperation::Optimize { predicate: None, target_size };
        let marks = self.marks.clone();
        self.land(adds, merge.removals, (operation, &marks)).await?;
        Ok(merge.files.into_iter().map(|file| file.path).collect())
    }

    fn mergeable(&self, count: usize) -> Result<Option<Merge>, TableError> {
        let state = self.delta.snapshot().map_err(|e| self.delta_error(e))?;
        let mut alike: BTreeMap<_, Vec<LogicalFileView>> = BTreeMap::new();
        for view in state.log_data().iter() {
            let bytes = u64::try_from(view.size()).unwrap_or(u64::MAX);
            let Some(size) = SIZES.iter().position(|size| bytes < *size) else {
                continue;
            };
            let partition = BTreeMap::from_iter(view.partition_values_map());
            let group = alike.entry((partition, size)).or_default();
            group.push(view);
            if group.len() >= count {
                let files = group.iter().map(|view| self.data_file(view)).collect();
                let removals = group.iter().map(|view| Action::Remove(view.remove_action(false)));
                return Ok(Some(Merge { files, removals: removals.collect() }));
            }
        }
        Ok(None)
    }

    fn rows_error(&self, source: ArrowError) -> TableError {
        TableError::Rows { table: self.table.name(), source }
    }
}
