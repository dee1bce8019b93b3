//! The models of this process as upstreams: facts we know because we run them.

use crate::{
    catalog::{
        Address, Upstream, UpstreamId,
        build::Site,
        facts::{CandidateFacts, CandidateKind},
    },
    identity::attributes::{Country, Known},
    wire::Format,
};

/// The upstream name of the models of this process.
pub(super) const NAME: &str = "local";

/// A local model as published.
struct LocalModel {
    name: &'static str,
    family: &'static str,
    /// Country of whoever made it.
    origin: &'static str,
}

/// Every model that `cordon models prepare` can make.
const MODELS: [LocalModel; 1] =
    [LocalModel { name: "smollm2-135m", family: "smollm2", origin: "US" }];

/// One upstream for each local model. It has the organisation's headquarters and region; nothing
/// is kept, nothing is trained on, nobody else takes part.
pub(super) fn upstreams(site: &Site<'_>) -> impl Iterator<Item = Upstream> {
    MODELS.iter().map(|model| Upstream {
        id: UpstreamId::new(NAME, model.name),
        model: model.name.to_owned(),
        format: Format::OpenAiChat,
        address: Address::Local,
        provider: NAME.to_owned(),
        facts: facts(model, site),
        context_tokens_max: Some(site.local_context_tokens_max),
    })
}

fn facts(model: &LocalModel, site: &Site<'_>) -> CandidateFacts {
    let organisation = site.organisation;
    CandidateFacts {
        kind: CandidateKind::Local,
        provider: NAME.to_owned(),
        provider_headquarters: Some(organisation.headquarters.clone()),
        ultimate_parent_headquarters: organisation.ultimate_parent_headquarters.clone(),
        operator_headquarters: Some(organisation.headquarters.clone()),
        operator_us_persons_only: Known::Unknown,
        region: Some(organisation.region.clone()),
        residency: Some("guaranteed".to_owned()),
        subprocessors: Some(Vec::new()),
        transfer_mechanisms: Some(Vec::new()),
        dpf_listed: Known::No,
        tia: None,
        tia_until: None,
        zdr: Known::Yes,
        train: Known::No,
        retention_days: Some(0),
        baa: Known::Unknown,
        dpa: Known::Unknown,
        dora_register: Known::Unknown,
        certifications: None,
        model_id: model.name.to_owned(),
        model_family: Some(model.family.to_owned()),
        model_origin: Country::parse(model.origin),
        model_open_weights: Known::Yes,
        model_eccn: None,
        // Its files are checked against their digests when they load; nobody signed them.
        model_signature: Some("none".to_owned()),
        model_aibom: Some("none".to_owned()),
        model_advisories: Vec::new(),
        hardware_eccn: None,
        hardware_country: Some(organisation.region.clone()),
        as_of: None,
    }
}
