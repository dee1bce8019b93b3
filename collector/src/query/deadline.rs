//! The deadline inside a running statement.
//!
//! Waiting for a statement to give way is not enough: a join that matches nothing, or a filter that
//! drops everything, may compute for hours without doing so. So after planning every node is
//! wrapped, and so is every join's condition: each looks at the clock for each batch, and ends the
//! statement when its time has passed or nobody waits for its answer any more.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use thiserror::Error;

/// The statement's time has passed.
#[derive(Debug, Error)]
#[error("the deadline has passed")]
pub(in crate::query) struct Passed;

/// Until when a statement may run.
#[derive(Debug)]
pub(in crate::query) struct Clock {
    deadline: Instant,
    unwanted: AtomicBool,
}

/// Somebody waits for the answer, for as long as this is kept.
#[derive(Debug)]
pub(in crate::query) struct Wanted(Arc<Clock>);

// === impl Clock ===

impl Clock {
    /// A clock that stops a statement at `deadline`, or when `Wanted` is dropped before.
    pub(in crate::query) fn until(deadline: Instant) -> (Arc<Self>, Wanted) {
        let clock = Arc::new(Self { deadline, unwanted: AtomicBool::new(false) });
        (Arc::clone(&clock), Wanted(clock))
    }

    /// By how much the deadline has passed.
    pub(in crate::query) fn late_by(&self) -> Duration {
        Instant::now().saturating_duration_since(self.deadline)
    }

    fn in_time(&self) -> Result<()> {
        if !self.unwanted.load(Ordering::Relaxed) && Instant::now() < self.deadline {
            return Ok(());
        }
        Err(DataFusionError::External(Box::new(Passed)))
    }
}

// === impl Wanted ===

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.unwanted.store(true, Ordering::Relaxed);
    }
}

/// `plan`, which ends itself when `clock` says so.
pub(in crate::query) fn watch(
    plan: Arc<dyn ExecutionPlan>,
    clock: &Arc<Clock>,
) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let node = watch_condition(node, clock)?;
        Ok(Transformed::yes(Arc::new(WatchedExec { input: node, clock: Arc::clone(clock) }) as _))
    })
    .data()
}

/// A join evaluates its condition for pair after pair before it gives anything out.
fn watch_condition(
    node: Arc<dyn ExecutionPlan>,
    clock: &Arc<Clock>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let any: &dyn Any = node.as_ref();
    if let Some(join) = any.downcast_ref::<NestedLoopJoinExec>() {
        let filter = join.filter().map(|filter| watched_filter(filter, clock));
        let join = NestedLoopJoinExecBuilder::from(join).with_filter(filter).build()?;
        return Ok(Arc::new(join));
    }
    if let Some(join) = any.downcast_ref::<HashJoinExec>()
        && let Some(filter) = join.filter()
    {
        return join.builder().with_filter(Some(watched_filter(filter, clock))).build_exec();
    }
    Ok(node)
}

fn watched_filter(filter: &JoinFilter, clock: &Arc<Clock>) -> JoinFilter {
    let condition =
        WatchedExpr { inner: Arc::clone(filter.expression()), clock: Arc::clone(clock) };
    let columns = filter.column_indices().to_vec();
    JoinFilter::new(Arc::new(condition), columns, Arc::clone(filter.schema()))
}

/// A node that looks at the clock for each batch.
#[derive(Debug)]
struct WatchedExec {
    input: Arc<dyn ExecutionPlan>,
    clock: Arc<Clock>,
}

/// A condition that looks at the clock each time.
#[derive(Debug)]
struct WatchedExpr {
    inner: Arc<dyn PhysicalExpr>,
    clock: Arc<Clock>,
}

// === impl WatchedExec ===

impl DisplayAs for WatchedExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchedExec")
    }
}

impl ExecutionPlan for WatchedExec {
    fn name(&self) -> &'static str {
        "WatchedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children
            .pop()
            .ok_or_else(|| DataFusionError::Internal("the watch needs its input".to_owned()))?;
        Ok(Arc::new(Self { input, clock: Arc::clone(&self.clock) }))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let clock = Arc::clone(&self.clock);
        let rows = self.input.execute(partition, context)?;
        let schema = rows.schema();
        let watched = rows.map(move |batch| clock.in_time().and(batch));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, watched)))
    }
}

// === impl WatchedExpr ===

impl fmt::Display for WatchedExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PartialEq for WatchedExpr {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for WatchedExpr {}

impl Hash for WatchedExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl PhysicalExpr for WatchedExpr {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.inner.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.inner.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.clock.in_time()?;
        self.inner.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let inner = children
            .pop()
            .ok_or_else(|| DataFusionError::Internal("the watch needs its input".to_owned()))?;
        Ok(Arc::new(Self { inner, clock: Arc::clone(&self.clock) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
