//! The deadline inside a running statement.
//!
//! Waiting for a statement to give way is not enough: a join that matches nothing, or a filter that
//! drops everything, may compute for hours without doing so. So after planning every node is
//! wrapped, and so is every join's condition: each looks at the clock for each batch, and ends the
//! statement when its time has passed.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

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

/// `plan`, which ends itself when `deadline` has passed.
pub(in crate::query) fn watch(
    plan: Arc<dyn ExecutionPlan>,
    deadline: Instant,
) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let node = watch_condition(node, deadline)?;
        Ok(Transformed::yes(Arc::new(WatchedExec { input: node, deadline }) as _))
    })
    .data()
}

/// A join evaluates its condition for pair after pair before it gives anything out.
fn watch_condition(
    node: Arc<dyn ExecutionPlan>,
    deadline: Instant,
) -> Result<Arc<dyn ExecutionPlan>> {
    let any: &dyn Any = node.as_ref();
    if let Some(join) = any.downcast_ref::<NestedLoopJoinExec>() {
        let filter = join.filter().map(|filter| watched_filter(filter, deadline));
        let join = NestedLoopJoinExecBuilder::from(join).with_filter(filter).build()?;
        return Ok(Arc::new(join));
    }
    if let Some(join) = any.downcast_ref::<HashJoinExec>()
        && let Some(filter) = join.filter()
    {
        return join.builder().with_filter(Some(watched_filter(filter, deadline))).build_exec();
    }
    Ok(node)
}

fn watched_filter(filter: &JoinFilter, deadline: Instant) -> JoinFilter {
    let condition = WatchedExpr { inner: Arc::clone(filter.expression()), deadline };
    let columns = filter.column_indices().to_vec();
    JoinFilter::new(Arc::new(condition), columns, Arc::clone(filter.schema()))
}

fn in_time(deadline: Instant) -> Result<()> {
    if Instant::now() < deadline {
        return Ok(());
    }
    Err(DataFusionError::External(Box::new(Passed)))
}

/// A node that looks at the clock for each batch.
#[derive(Debug)]
struct WatchedExec {
    input: Arc<dyn ExecutionPlan>,
    deadline: Instant,
}

/// A condition that looks at the clock each time.
#[derive(Debug)]
struct WatchedExpr {
    inner: Arc<dyn PhysicalExpr>,
    deadline: Instant,
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
        Ok(Arc::new(Self { input, deadline: self.deadline }))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let deadline = self.deadline;
        let rows = self.input.execute(partition, context)?;
        let schema = rows.schema();
        let watched = rows.map(move |batch| in_time(deadline).and(batch));
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
        in_time(self.deadline)?;
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
        Ok(Arc::new(Self { inner, deadline: self.deadline }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
