//! Who we are: the organisation that runs this gateway, as its configuration says.

use serde::Deserialize;

use crate::{
    identity::attributes::{Country, Known, OrganisationFacts},
    quantity::Day,
};

/// Our organisation: facts about every caller that is ours, about the local model, and the
/// region of data subjects where a call names none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
pub struct Organisation {
    /// Its name, for people.
    pub name: String,
    /// Country of its headquarters.
    pub headquarters: Country,
    /// Country where the parent at the top has its headquarters; unknown where left out.
    pub ultimate_parent_headquarters: Option<Country>,
    /// Country where this gateway runs; also the data subjects' where a call names none.
    pub region: Country,
    /// The result of screening it against sanctions lists; unknown where left out.
    pub screening: Option<Screening>,
}

/// What a screening found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
pub struct Screening {
    /// What it found.
    pub status: ScreeningStatus,
    /// Lists with a hit.
    #[serde(default)]
    pub lists: Vec<String>,
    /// Whether listed parties own half of it or more.
    #[serde(default)]
    pub owned50: Known,
    /// Day of the screening; its age becomes a fact.
    pub on: Day,
}

/// The contract's words for a screening's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScreeningStatus {
    Clear,
    Match,
    Possible,
}

// === impl Organisation ===

impl Organisation {
    /// The contract's `caller.org` section of callers that are ours.
    pub fn facts(&self) -> OrganisationFacts {
        let screening = self.screening.as_ref();
        OrganisationFacts {
            headquarters: Some(self.headquarters.clone()),
            ultimate_parent_headquarters: self.ultimate_parent_headquarters.clone(),
            screening_status: screening.map(|found| found.status.as_str().to_owned()),
            screening_lists: screening.map(|found| found.lists.clone()).unwrap_or_default(),
            owned50: screening.map(|found| found.owned50).unwrap_or_default(),
            screened_on: screening.map(|found| found.on.to_string()),
        }
    }
}

// === impl ScreeningStatus ===

impl ScreeningStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Match => "match",
            Self::Possible => "possible",
        }
    }
}
