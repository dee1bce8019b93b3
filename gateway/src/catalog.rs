//! Where a call could go: upstreams with their facts and the age of these.
//!
//! Makes the [`Upstream`]s, one shared list per route. Knows settings; not calls.

pub mod build;
mod egress;
pub mod facts;
mod local;
pub mod settings;
mod url;

pub use egress::is_forbidden;
pub use url::UrlError;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use crate::{catalog::facts::CandidateFacts, secret::Secret, wire::Format};

/// `upstream/model`, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamId(Arc<str>);

/// As its text, by which it is looked up.
impl std::borrow::Borrow<str> for UpstreamId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl UpstreamId {
    /// Joins the names of the configuration.
    pub fn new(upstream: &str, model: &str) -> Self {
        Self(format!("{upstream}/{model}").into())
    }
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How an upstream is reached.
#[derive(Debug, Clone)]
pub enum Address {
    /// Over the network.
    Remote(Remote),
    /// The model of this process.
    Local,
}

/// A provider's address, checked: TLS always has a name to verify.
#[derive(Debug, Clone)]
pub struct Remote {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// Path before `/chat/completions`, without a trailing slash: `/v1`.
    pub base_path: String,
    pub key: Option<Secret>,
    /// Extra trust roots (PEM file), instead of the system's.
    pub trust_roots: Option<std::path::PathBuf>,
    /// Addresses resolved in the background; the executor connects to these only.
    pub addresses: Arc<arc_swap::ArcSwap<Vec<SocketAddr>>>,
}

/// One model at one provider.
#[derive(Debug)]
pub struct Upstream {
    pub(crate) id: UpstreamId,
    pub(crate) model: String,
    pub(crate) format: Format,
    pub(crate) address: Address,
    pub(crate) provider: String,
    pub(crate) facts: CandidateFacts,
    pub(crate) context_tokens_max: Option<u64>,
}

impl Upstream {
    pub fn id(&self) -> &UpstreamId {
        &self.id
    }
    pub fn model(&self) -> &str {
        &self.model
    }
    pub fn format(&self) -> Format {
        self.format
    }
    pub fn address(&self) -> &Address {
        &self.address
    }
    /// OpenTelemetry's `gen_ai.provider.name`: the upstream's configured name.
    pub fn provider(&self) -> &str {
        &self.provider
    }
    pub fn facts(&self) -> &CandidateFacts {
        &self.facts
    }
    pub fn context_tokens_max(&self) -> Option<u64> {
        self.context_tokens_max
    }
}

/// The upstreams of one route, in the configured order.
#[derive(Debug)]
pub struct Route {
    pub(crate) name: String,
    pub(crate) upstreams: Arc<[Arc<Upstream>]>,
    pub(crate) deadlines: crate::catalog::facts::Deadlines,
}

/// Every route by the model name that clients ask for.
#[derive(Debug)]
pub struct Catalog {
    pub(crate) routes: BTreeMap<String, Arc<Route>>,
}

// === impl Route ===

impl Route {
    /// The model name that clients ask for.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its upstreams, the preferred first.
    pub fn upstreams(&self) -> &Arc<[Arc<Upstream>]> {
        &self.upstreams
    }
    /// When an attempt is given up.
    pub fn deadlines(&self) -> crate::catalog::facts::Deadlines {
        self.deadlines
    }
}

// === impl Catalog ===

impl Catalog {
    /// The route that clients ask for by `name`.
    pub fn route(&self, name: &str) -> Option<&Arc<Route>> {
        self.routes.get(name)
    }
    /// Every route, by name.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.values()
    }
    /// Every upstream that a route leads to, once each, in the order of their ids.
    pub fn upstreams(&self) -> Vec<Arc<Upstream>> {
        let targets = self.routes.values().flat_map(|route| route.upstreams.iter());
        let by_id: BTreeMap<_, _> =
            targets.map(|upstream| (upstream.id.as_str(), Arc::clone(upstream))).collect();
        by_id.into_values().collect()
    }
    /// Whether a route leads to the model of this process.
    pub fn needs_local_model(&self) -> bool {
        let local = |upstream: &Arc<Upstream>| matches!(upstream.address, Address::Local);
        self.upstreams().iter().any(local)
    }
}
