//! The tenant's wall: a plan node that lets one tenant's rows through and nothing else, ever.
//!
//! A filter would not do: the planner merges filters and may run a caller's own expression on
//! other tenants' rows first, whose failure then tells about them. This node takes no filter, no
//! limit and no projection from above, and tells no statistics.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Scalar, StringArray};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::compute::kernels::cmp::eq;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties,
};
use futures::StreamExt;

/// Lets through the rows of one tenant, and of them the first `columns` columns.
#[derive(Debug)]
pub(in crate::query) struct ScopeExec {
    input: Arc<dyn ExecutionPlan>,
    tenant: String,
    tenant_column: usize,
    columns: usize,
    properties: Arc<PlanProperties>,
}

// === impl ScopeExec ===

impl ScopeExec {
    /// The wall above `input`, which must hold `tenant_id`.
    pub(in crate::query) fn try_new(
        input: Arc<dyn ExecutionPlan>,
        tenant: &str,
        columns: usize,
    ) -> Result<Self> {
        let schema = input.schema();
        let tenant_column = schema.index_of("tenant_id")?;
        let fields = schema.fields()[..columns].to_vec();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        let properties = Arc::new(properties);
        Ok(Self { input, tenant: tenant.to_owned(), tenant_column, columns, properties })
    }
}

/// The rows of `batch` that belong to the tenant.
fn rows_of_tenant(
    batch: &RecordBatch,
    (tenant, tenant_column, columns): (&str, usize, usize),
) -> Result<RecordBatch> {
    let tenant = Scalar::new(StringArray::from(vec![tenant]));
    let own = eq(batch.column(tenant_column), &tenant)?;
    let own = filter_record_batch(batch, &own)?;
    Ok(own.project(&(0..columns).collect::<Vec<_>>())?)
}

impl DisplayAs for ScopeExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScopeExec")
    }
}

impl ExecutionPlan for ScopeExec {
    fn name(&self) -> &'static str {
        "ScopeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
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
            .ok_or_else(|| DataFusionError::Internal("the scope needs its input".to_owned()))?;
        Ok(Arc::new(Self::try_new(input, &self.tenant, self.columns)?))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let (tenant, tenant_column, columns) =
            (self.tenant.clone(), self.tenant_column, self.columns);
        let own = rows.map(move |batch| rows_of_tenant(&batch?, (&tenant, tenant_column, columns)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), own)))
    }
}
