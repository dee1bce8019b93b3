//! The attributes of a caller in the policy contract's vocabulary (`cordon.facts/1`).
//!
//! Absent means unknown, and unknown never satisfies a requirement. Instants are kept, ages are
//! computed when facts are assembled.

/// A tri-state fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Known {
    Yes,
    No,
    #[default]
    Unknown,
}

/// A country by its ISO 3166-1 alpha-2 code, upper case; the maker checks the shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country(pub [u8; 2]);

/// The contract's `caller` section.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct CallerFacts {
    /// `human`, `service` or `agent`; unknown where not said.
    pub kind: Option<String>,
    /// `apikey` for keys.
    pub authn_method: Option<String>,
    pub authn_bound: Known,
    pub organisation: OrganisationFacts,
    pub person: PersonFacts,
    pub location: LocationFacts,
}

/// `caller.org`: the organisation's own (configuration) unless the key says another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct OrganisationFacts {
    pub headquarters: Option<Country>,
    pub ultimate_parent_headquarters: Option<Country>,
    /// `clear`, `match`, `possible`.
    pub screening_status: Option<String>,
    pub screening_lists: Vec<String>,
    pub owned50: Known,
    /// Day of the screening, `YYYY-MM-DD`; its age becomes the fact.
    pub screened_on: Option<String>,
}

/// `caller.person`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PersonFacts {
    pub nationalities: Vec<Country>,
    /// `verified`, `asserted`.
    pub nationality_status: Option<String>,
    pub us_person: Known,
    pub clearance: Vec<String>,
    pub roles: Vec<String>,
    pub groups: Vec<String>,
}

/// `caller.location`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LocationFacts {
    pub country: Option<Country>,
    /// `corp_net`, `idp`, `geoip`.
    pub source: Option<String>,
    pub vpn: Known,
}

/// What a key says about its requests (`request.*` of the contract). The first purpose is the
/// default; a header may choose another of them and no other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct RequestAttributes {
    pub purposes: Vec<String>,
    pub app: Option<String>,
    pub ai_act: Option<String>,
    pub end_use: Option<String>,
    pub critical_function: Known,
    pub affects_person: Known,
}

/// What a key says about its data (`data.*`): joined with what is declared and detected.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct DataAttributes {
    /// Label norms with dissemination marks, e.g. `cui:sp-cti;diss=noforn`.
    pub labels: Vec<String>,
    pub class: Option<String>,
    pub subject_regions: Vec<Country>,
    pub children: Known,
}
