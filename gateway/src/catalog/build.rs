//! Makes the catalogue from checked settings: every fault is told, with the setting it lies in.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use arc_swap::ArcSwap;

use crate::{
    catalog::{
        Address, Catalog, Remote, Route, Upstream, UpstreamId,
        facts::{CandidateFacts, CandidateKind, Certification, Deadlines},
        local,
        settings::{
            CertificationSettings, DeadlineSettings, Kind, ModelSettings, RouteSettings,
            StreamMode, TransferMechanism, UpstreamSettings,
        },
        url::{UrlError, place},
    },
    identity::organisation::Organisation,
    quantity::Day,
    secret::{SecretError, SecretReference},
};

/// A decision covers at most this many candidates (the policy contract).
pub const TARGETS_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 128;

/// What the catalogue is built from, besides upstreams and routes.
#[expect(missing_debug_implementations, reason = "it borrows a function")]
pub struct Site<'a> {
    pub organisation: &'a Organisation,
    /// Relative paths start here.
    pub folder: &'a Path,
    /// Looks up the environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// What the local model takes.
    pub local_context_tokens_max: u64,
}

/// One fault, and the path of the setting it lies in.
#[derive(Debug)]
pub struct CatalogFault {
    pub setting: Vec<String>,
    pub error: CatalogError,
}

/// Why a setting of an upstream or a route was refused.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("`{name}` cannot be a name: use 1 to 128 letters, digits and `{allowed}`")]
    Name { name: String, allowed: &'static str },
    #[error("`local` is the model of this process: give the upstream another name")]
    Reserved,
    #[error("the upstream has no models: add `[upstreams.{upstream}.models.NAME]`")]
    NoModels { upstream: String },
    #[error("there is no route: add `[routes.NAME]` with `targets`")]
    NoRoutes,
    #[error("the route has no targets: name at least one `upstream/model`")]
    NoTargets,
    #[error("the route has {count} targets; a decision covers at most {TARGETS_MAX}")]
    TooManyTargets { count: usize },
    #[error("`{target}` stands twice")]
    Twice { target: String },
    #[error("`{target}` is not known; {known}")]
    UnknownTarget { target: String, known: String },
    #[error("`hold` is not built yet: use `pass`")]
    Hold,
    #[error("`{name}` must be longer than no time at all")]
    NoTime { name: &'static str },
    #[error("cannot read `{path}` ({source}): name a PEM file with certificates")]
    TrustRoots { path: String, source: std::io::Error },
    #[error("`tia_until` is a valid assessment's last day, but `tia` says otherwise")]
    Assessment,
}

/// Upstreams by their ids; `None` where one is named and cannot be made, which is told already.
type Known = BTreeMap<UpstreamId, Option<Arc<Upstream>>>;

/// Gathers faults while building goes on, so that all are told at once.
#[derive(Default)]
struct Faults(Vec<CatalogFault>);

// === impl Faults ===

impl Faults {
    fn add(&mut self, setting: &[&str], error: impl Into<CatalogError>) {
        let setting = setting.iter().map(|&part| part.to_owned()).collect();
        self.0.push(CatalogFault { setting, error: error.into() });
    }
}

// === impl Catalog ===

impl Catalog {
    /// Builds every upstream and route, or tells every fault.
    pub fn build(
        upstreams: &BTreeMap<String, UpstreamSettings>,
        routes: &BTreeMap<String, RouteSettings>,
        site: &Site<'_>,
    ) -> Result<Self, Vec<CatalogFault>> {
        let mut faults = Faults::default();
        let mut known = Known::new();
        for (name, settings) in upstreams {
            known.extend(upstreams_of(name, settings, site, &mut faults));
        }
        for upstream in local::upstreams(site) {
            known.insert(upstream.id.clone(), Some(Arc::new(upstream)));
        }
        if routes.is_empty() {
            faults.add(&["routes"], CatalogError::NoRoutes);
        }
        let routes = routes
            .iter()
            .map(|(name, settings)| (name.clone(), route(name, settings, &known, &mut faults)))
            .collect();
        if faults.0.is_empty() { Ok(Self { routes }) } else { Err(faults.0) }
    }
}

/// The models of one provider; they share its address.
fn upstreams_of(
    name: &str,
    settings: &UpstreamSettings,
    site: &Site<'_>,
    faults: &mut Faults,
) -> Known {
    let at = ["upstreams", name];
    if name == local::NAME {
        faults.add(&at, CatalogError::Reserved);
    } else if !is_name(name, "-_.") {
        faults.add(&at, CatalogError::Name { name: name.to_owned(), allowed: "-_." });
    }
    if settings.models.is_empty() {
        faults.add(&at, CatalogError::NoModels { upstream: name.to_owned() });
    }
    if settings.tia_until.is_some() && settings.tia.is_some_and(|tia| tia.as_str() != "valid") {
        faults.add(&["upstreams", name, "tia_until"], CatalogError::Assessment);
    }
    let remote = remote(name, settings, site, faults);
    let mut made = Known::new();
    for (model, model_settings) in &settings.models {
        if !is_name(model, "-_.:/@+") {
            let error = CatalogError::Name { name: model.clone(), allowed: "-_.:/@+" };
            faults.add(&["upstreams", name, "models", model], error);
        }
        let id = UpstreamId::new(name, model);
        let upstream = remote.as_ref().map(|remote| Upstream {
            id: id.clone(),
            model: model.clone(),
            format: settings.format,
            address: Address::Remote(remote.clone()),
            provider: name.to_owned(),
            facts: facts(name, settings, model, model_settings),
            context_tokens_max: model_settings.context_tokens_max,
        });
        made.insert(id, upstream.map(Arc::new));
    }
    made
}

fn remote(
    name: &str,
    settings: &UpstreamSettings,
    site: &Site<'_>,
    faults: &mut Faults,
) -> Option<Remote> {
    let place = place(&settings.url, settings.plaintext)
        .map_err(|error| faults.add(&["upstreams", name, "url"], error))
        .ok();
    let key = settings.key.as_ref().map(|reference| rooted(reference, site.folder));
    let key = key.and_then(|reference| {
        let found = reference.resolve(site.variable);
        found.map_err(|error| faults.add(&["upstreams", name, "key"], error)).ok()
    });
    let trust_roots = settings.trust_roots.as_ref().map(|path| site.folder.join(path));
    if let Some(path) = &trust_roots
        && let Err(source) = std::fs::File::open(path)
    {
        let error = CatalogError::TrustRoots { path: path.display().to_string(), source };
        faults.add(&["upstreams", name, "trust_roots"], error);
    }
    let place = place?;
    Some(Remote {
        tls: place.tls,
        host: place.host,
        port: place.port,
        base_path: place.base_path,
        key,
        trust_roots,
        addresses: Arc::new(ArcSwap::from_pointee(place.known)),
    })
}

/// The reference with its path rooted at the configuration's folder.
fn rooted(reference: &SecretReference, folder: &Path) -> SecretReference {
    match reference {
        SecretReference::Env(name) => SecretReference::Env(name.clone()),
        SecretReference::File(path) => SecretReference::File(folder.join(path)),
    }
}

fn facts(
    name: &str,
    settings: &UpstreamSettings,
    model: &str,
    model_settings: &ModelSettings,
) -> CandidateFacts {
    let text = |day: Option<Day>| day.map(|day| day.to_string());
    let mechanism = |mechanism: &TransferMechanism| mechanism.as_str().to_owned();
    let tia = settings.tia.map(|tia| tia.as_str());
    CandidateFacts {
        kind: kind(settings.kind),
        provider: name.to_owned(),
        provider_headquarters: settings.provider_headquarters.clone(),
        ultimate_parent_headquarters: settings.ultimate_parent_headquarters.clone(),
        operator_headquarters: settings.operator_headquarters.clone(),
        operator_us_persons_only: settings.operator_us_persons_only,
        region: settings.region.clone(),
        residency: settings.residency.map(|residency| residency.as_str().to_owned()),
        subprocessors: settings.subprocessors.clone(),
        transfer_mechanisms: settings
            .transfer_mechanisms
            .as_ref()
            .map(|mechanisms| mechanisms.iter().map(mechanism).collect()),
        dpf_listed: settings.dpf_listed,
        // A last day without a word says that there is an assessment.
        tia: tia.or(settings.tia_until.map(|_| "valid")).map(str::to_owned),
        tia_until: text(settings.tia_until),
        zdr: settings.zdr,
        train: settings.train,
        retention_days: settings.retention_days,
        baa: settings.baa,
        dpa: settings.dpa,
        dora_register: settings.dora_register,
        certifications: settings
            .certifications
            .as_ref()
            .map(|list| list.iter().map(certification).collect()),
        model_id: model.to_owned(),
        model_family: model_settings.family.clone(),
        model_origin: model_settings.origin.clone(),
        model_open_weights: model_settings.open_weights,
        model_eccn: model_settings.eccn.clone(),
        model_signature: model_settings.signature.map(|word| word.as_str().to_owned()),
        model_aibom: model_settings.aibom.map(|word| word.as_str().to_owned()),
        model_advisories: model_settings.advisories.clone(),
        hardware_eccn: settings.hardware_eccn.clone(),
        hardware_country: settings.hardware_country.clone(),
        as_of: text(settings.as_of),
    }
}

fn kind(kind: Kind) -> CandidateKind {
    match kind {
        Kind::Remote => CandidateKind::Remote,
        Kind::Private => CandidateKind::Private,
        Kind::OnPremises => CandidateKind::OnPremises,
    }
}

fn certification(settings: &CertificationSettings) -> Certification {
    Certification {
        id: settings.id.clone(),
        level: settings.level.clone(),
        until: settings.until.map(|day| day.to_string()),
    }
}

/// A route, with the targets that are known; what is not is a fault.
fn route(name: &str, settings: &RouteSettings, known: &Known, faults: &mut Faults) -> Arc<Route> {
    let at = ["routes", name];
    if !is_name(name, "-_.:/@+") {
        faults.add(&at, CatalogError::Name { name: name.to_owned(), allowed: "-_.:/@+" });
    }
    if settings.stream == StreamMode::Hold {
        faults.add(&["routes", name, "stream"], CatalogError::Hold);
    }
    let count = settings.targets.len();
    if count == 0 {
        faults.add(&["routes", name, "targets"], CatalogError::NoTargets);
    } else if count > TARGETS_MAX {
        faults.add(&["routes", name, "targets"], CatalogError::TooManyTargets { count });
    }
    let mut seen = BTreeSet::new();
    let mut upstreams = Vec::with_capacity(count);
    for target in &settings.targets {
        if !seen.insert(target) {
            let error = CatalogError::Twice { target: target.clone() };
            faults.add(&["routes", name, "targets"], error);
        }
        match known.get(target.as_str()) {
            Some(upstream) => upstreams.extend(upstream.clone()),
            None => faults.add(&["routes", name, "targets"], unknown(target, known)),
        }
    }
    let deadlines = deadlines(name, settings.deadlines, faults);
    Arc::new(Route { name: name.to_owned(), upstreams: upstreams.into(), deadlines })
}

/// Says what `target` is nearest to.
fn unknown(target: &str, known: &Known) -> CatalogError {
    let likeness = |id: &UpstreamId| strsim::normalized_damerau_levenshtein(id.as_str(), target);
    let nearest = known.keys().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let known = match nearest {
        Some(nearest) => format!("the nearest is `{}`", nearest.as_str()),
        None => "there are no upstreams".to_owned(),
    };
    CatalogError::UnknownTarget { target: target.to_owned(), known }
}

fn deadlines(route: &str, settings: DeadlineSettings, faults: &mut Faults) -> Deadlines {
    let deadlines = Deadlines {
        connect: settings.connect.0,
        first_token: settings.first_token.0,
        answer: settings.answer.0,
        gap: settings.gap.0,
        total: settings.total.map(|total| total.0),
    };
    let named = [
        ("connect", Some(deadlines.connect)),
        ("first_token", Some(deadlines.first_token)),
        ("answer", Some(deadlines.answer)),
        ("gap", Some(deadlines.gap)),
        ("total", deadlines.total),
    ];
    for (name, time) in named {
        if time.is_some_and(|time| time.is_zero()) {
            faults.add(&["routes", route, "deadlines", name], CatalogError::NoTime { name });
        }
    }
    deadlines
}

/// Whether `name` is made of letters, digits and `allowed`.
fn is_name(name: &str, allowed: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || allowed.contains(c);
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(fits)
}

#[cfg(test)]
mod tests;
