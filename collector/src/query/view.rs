//! Views: questions that are asked so often that they have a name.

use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;

/// Where calls went, by day: each attempt that sent something, once per region of the people it is
/// about. An attempt that sent no byte moved no data. A place that is not known is one by name: an
/// empty one would be neither equal to another nor different from it.
const DATA_FLOWS: &str = "
    SELECT day, subject_region, destination_region, provider, legal_basis, mechanism,
           count(DISTINCT call_id) AS calls
    FROM (SELECT CAST(started_ts AS DATE) AS day,
                 unnest(CASE WHEN cardinality(subject_regions) > 0 THEN subject_regions
                             ELSE make_array('unknown') END) AS subject_region,
                 coalesce(region, 'unknown') AS destination_region, provider_name AS provider,
                 legal_basis, mechanism, call_id
          FROM attempts WHERE request_bytes IS DISTINCT FROM 0) AS flows
    GROUP BY day, subject_region, destination_region, provider, legal_basis, mechanism";

/// Makes the views known to a session; they see what the session's tables show.
pub(in crate::query) async fn register(context: &SessionContext) -> Result<(), DataFusionError> {
    let flows = context.sql(DATA_FLOWS).await?.into_view();
    context.register_table("data_flows", flows)?;
    Ok(())
}
