//! The attributes of a caller in the policy contract's vocabulary (`cordon.facts/1`).
//!
//! Absent means unknown, and unknown never satisfies a requirement. Instants are kept, ages are
//! computed when facts are assembled.

use std::fmt;

use serde::{Deserialize, Deserializer};

use crate::identity::countries;

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

// === impl Known ===

impl Known {
    /// Reads `yes`, `no` or `unknown`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "yes" => Some(Self::Yes),
            "no" => Some(Self::No),
            "unknown" => Some(Self::Unknown),
            _ => None,
        }
    }

    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// In settings `true` and `false` say yes and no, as does the word; unknown is left out.
impl<'de> Deserialize<'de> for Known {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "write `true`, `false` or `\"unknown\"`")]
        enum Written {
            Bool(bool),
            Word(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Bool(true) => Ok(Self::Yes),
            Written::Bool(false) => Ok(Self::No),
            Written::Word(word) => Self::parse(&word).ok_or_else(|| {
                serde::de::Error::custom(format!(
                    "`{word}` is neither yes nor no: write `true`, `false` or `\"unknown\"`"
                ))
            }),
        }
    }
}

impl schemars::JsonSchema for Known {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Known".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [{ "type": "boolean" }, { "enum": ["yes", "no", "unknown"] }]
        })
    }
}

// === impl Country ===

impl Country {
    /// Reads an assigned ISO 3166-1 alpha-2 code in upper case.
    pub fn parse(text: &str) -> Option<Self> {
        let code: [u8; 2] = text.as_bytes().try_into().ok()?;
        countries::is_assigned(text).then_some(Self(code))
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        // INVARIANT: codes come from the table of assigned ones, which is ASCII.
        std::str::from_utf8(&self.0).unwrap_or("??")
    }
}

impl fmt::Display for Country {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Country {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(countries::refusal(&text)))
    }
}

impl schemars::JsonSchema for Country {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Country".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[A-Z]{2}$",
            "description": "ISO 3166-1 alpha-2 code, upper case"
        })
    }
}

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
