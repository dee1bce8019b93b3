//! A table as one statement sees it: its version on disk and its tail, in one scan.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use datafusion::prelude::{col, lit};

use crate::query::Scope;
use crate::query::scope::ScopeExec;
use crate::state::TableView;

/// One table for one statement.
#[derive(Debug)]
pub(in crate::query) struct AuditTable {
    view: TableView,
    scope: Scope,
}

// === impl AuditTable ===

impl AuditTable {
    /// The table of `view`, of which `scope` is seen.
    pub(in crate::query) fn new(view: TableView, scope: Scope) -> Self {
        Self { view, scope }
    }

    /// The rows on disk and in the tail, before any scope. `filters` only spare reading files:
    /// rows they do not match may still come.
    async fn rows(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let tail = [self.view.tail.to_vec()];
        let schema = self.schema();
        let tail = MemorySourceConfig::try_new_exec(&tail, schema, projection.cloned())?;
        let Some(version) = &self.view.version else {
            return Ok(tail);
        };
        let table = version.provider.scan(session, projection, filters, None).await?;
        if self.view.tail.is_empty() {
            return Ok(table);
        }
        UnionExec::try_new(vec![table, tail])
    }
}

#[async_trait]
impl TableProvider for AuditTable {
    fn schema(&self) -> SchemaRef {
        self.view.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Scope::Tenant(tenant) = &self.scope else {
            return self.rows(session, projection, filters).await;
        };
        let schema = self.schema();
        let tenant_column = schema.index_of("tenant_id")?;
        let wanted: Vec<usize> =
            projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
        let mut read = wanted.clone();
        if !read.contains(&tenant_column) {
            read.push(tenant_column);
        }
        let mut pruning = filters.to_vec();
        pruning.push(col("tenant_id").eq(lit(tenant.clone())));
        let rows = self.rows(session, Some(&read), &pruning).await?;
        Ok(Arc::new(ScopeExec::try_new(rows, tenant, wanted.len())?))
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let answer = |filter: &&Expr| match is_comparison(filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(answer).collect())
    }
}

/// Whether `filter` compares a column with a constant: such a filter can spare files, and can
/// neither fail nor tell anything about a row outside the scope.
fn is_comparison(filter: &Expr) -> bool {
    let Expr::BinaryExpr(binary) = filter else {
        return false;
    };
    let plain = matches!(
        (&*binary.left, &*binary.right),
        (Expr::Column(_), Expr::Literal(..)) | (Expr::Literal(..), Expr::Column(_))
    );
    let compares = matches!(
        binary.op,
        Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq
    );
    plain && compares
}
