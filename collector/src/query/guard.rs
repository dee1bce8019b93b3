//! The guard: a statement is refused unless every node of its plan only reads tables.
//!
//! An allow-list, not a deny-list: a node that a new version of the planner brings is refused
//! until somebody has looked at it. EXPLAIN is refused as well: its output tells file names and
//! row counts, which lie outside of a tenant's scope.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::query::QueryError;

/// Nodes that a plan may have: named parts that use each other double it with every name.
const NODES_MAX: usize = 2_000;
/// Terms that a column may have once all it is made of is put in place of its name, as the planner
/// does: a column that is used twice by the next one, and so on, doubles with every step.
const TERMS_MAX: u64 = 100_000;

/// Passes a plan that only reads.
pub(in crate::query) fn check(plan: &LogicalPlan) -> Result<(), QueryError> {
    let mut refused = None;
    let mut nodes = 0;
    let walked = plan.apply_with_subqueries(|node| {
        nodes += 1;
        refused = match nodes {
            0..=NODES_MAX => what_is_wrong(node),
            _ => Some("this is too large a plan"),
        };
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    if refused.is_none() && terms(plan) > TERMS_MAX {
        refused = Some("a column of it is made of too many terms");
    }
    if let Some(what) = refused {
        return Err(QueryError::NotReading { what: what.to_owned() });
    }
    let options =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let verified = walked.map(|_| ()).and_then(|()| options.verify_plan(plan));
    verified.map_err(|error| QueryError::NotReading { what: error.strip_backtrace() })
}

/// The terms of the longest expression in `plan`, with those of the columns below it in their
/// places.
fn terms(plan: &LogicalPlan) -> u64 {
    let mut longest = 0;
    terms_of_columns(plan, &mut longest);
    longest
}

/// The terms of the longest column that `plan` gives out.
fn terms_of_columns(plan: &LogicalPlan, longest: &mut u64) -> u64 {
    let inputs = plan.inputs().into_iter();
    let below = inputs.map(|input| terms_of_columns(input, longest)).max().unwrap_or(1);
    let mut own = below;
    // Walking expressions fails only where a visitor does, and this one does not.
    let _walked = plan.apply_expressions(|expression| {
        own = own.max(terms_of(expression, below));
        Ok(TreeNodeRecursion::Continue)
    });
    *longest = own.max(*longest);
    match plan {
        LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => own,
        _ => below,
    }
}

/// The terms of one expression, where each column has `below` of them.
fn terms_of(expression: &Expr, below: u64) -> u64 {
    let mut count = 0_u64;
    let _walked = expression.apply(|part| {
        count = count.saturating_add(match part {
            Expr::Column(_) => below,
            Expr::Alias(_) => 0,
            Expr::ScalarSubquery(query) => terms(&query.subquery),
            Expr::InSubquery(query) => terms(&query.subquery.subquery),
            Expr::Exists(query) => terms(&query.subquery.subquery),
            _ => 1,
        });
        Ok(TreeNodeRecursion::Continue)
    });
    count
}

fn what_is_wrong(node: &LogicalPlan) -> Option<&'static str> {
    match node {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Values(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::DescribeTable(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::RecursiveQuery(_) => None,
        LogicalPlan::Dml(_) => Some("this changes rows"),
        LogicalPlan::Ddl(_) => Some("this changes tables"),
        LogicalPlan::Copy(_) => Some("this writes a file"),
        LogicalPlan::Statement(_) => Some("this changes the session"),
        LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => Some("EXPLAIN shows other rows"),
        _ => Some("this is a kind of statement that is not known to only read"),
    }
}
