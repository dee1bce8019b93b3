//! What a bundle says about itself (`cordon/about`): asked once, and everything it must be able
//! to answer checked before it may judge a call.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::policy::{
    Rule,
    document::NUMBERS,
    steps::{StepError, Steps},
};

/// The schema of the answer.
const SCHEMA: &str = "cordon.about/1";
/// What a bundle may ask to be told of a caller beyond the usual facts.
const NEEDS: [&str; 1] = ["caller.id"];

/// A bundle's description of itself, checked.
#[derive(Debug, Clone)]
pub struct About {
    pub revision: String,
    pub data_revision: String,
    /// Version by pack.
    pub packs: BTreeMap<String, String>,
    pub profiles: Vec<String>,
    pub steps: Steps,
    /// Whether decisions depend on who calls, not only on what the caller is.
    pub needs_caller_id: bool,
}

/// Why a bundle may not be used.
#[derive(Debug, thiserror::Error)]
pub enum AboutError {
    #[error("the bundle does not answer `cordon/about` as it must: {0}")]
    Shape(String),
    #[error("the manifest calls the bundle `{manifest}`, its policy `{policy}`: rebuild it")]
    Revision { manifest: String, policy: String },
    #[error("the bundle needs the fact `{0}`, which this gateway does not know")]
    Need(String),
    #[error("the bundle has no pack `{name}`; it holds {held}")]
    Pack { name: String, held: String },
    #[error("the bundle has no profile `{name}`; it holds {held}")]
    Profile { name: String, held: String },
    #[error(transparent)]
    Steps(#[from] StepError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    schema: String,
    revision: String,
    data_rev: String,
    packs: BTreeMap<String, String>,
    #[serde(default)]
    profiles: Vec<String>,
    steps: BTreeMap<String, Vec<u64>>,
    needs: Vec<String>,
}

// === impl About ===

impl About {
    /// Reads the answer to `cordon/about` of the bundle that its manifest calls `revision`.
    pub fn read(value: &Value, revision: &str) -> Result<Self, AboutError> {
        let answer =
            Answer::deserialize(value).map_err(|fault| AboutError::Shape(fault.to_string()))?;
        if answer.schema != SCHEMA {
            return Err(AboutError::Shape(format!("its schema is `{}`", answer.schema)));
        }
        if answer.revision != revision {
            let (manifest, policy) = (revision.to_owned(), answer.revision);
            return Err(AboutError::Revision { manifest, policy });
        }
        if let Some(need) = answer.needs.iter().find(|need| !NEEDS.contains(&need.as_str())) {
            return Err(AboutError::Need(need.clone()));
        }
        let steps = Steps::new(answer.steps)?;
        if let Some(path) = NUMBERS.into_iter().find(|path| !steps.declares(path)) {
            return Err(StepError::Undeclared { path: path.to_owned() }.into());
        }
        Ok(Self {
            revision: answer.revision,
            data_revision: answer.data_rev,
            packs: answer.packs,
            profiles: answer.profiles,
            steps,
            needs_caller_id: answer.needs.iter().any(|need| need == "caller.id"),
        })
    }

    /// Whether the bundle holds what the configuration asks for.
    pub fn holds(&self, profile: &str, packs: &[String]) -> Result<(), AboutError> {
        if let Some(name) = packs.iter().find(|name| !self.packs.contains_key(*name)) {
            let held: Vec<&str> = self.packs.keys().map(String::as_str).collect();
            return Err(AboutError::Pack { name: name.clone(), held: held.join(", ") });
        }
        if !self.profiles.iter().any(|held| held == profile) {
            let held = self.profiles.join(", ");
            return Err(AboutError::Profile { name: profile.to_owned(), held });
        }
        Ok(())
    }
}

/// The texts of a bundle's rules, from the annotations compiled into its data.
#[derive(Debug, Clone, Default)]
pub struct Rules(BTreeMap<String, Listed>);

/// A rule as the bundle describes it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Listed {
    pub title: String,
    /// What to do about it.
    pub description: String,
    pub citation: String,
    pub severity: String,
    pub owner: String,
    pub waivable: bool,
    pub valid_from: Option<String>,
    pub valid_until: Option<String>,
}

// === impl Rules ===

impl Rules {
    /// Reads `data.rules`; a bundle without texts has none, and says so in its answers.
    pub fn read(data: &Value) -> Result<Self, AboutError> {
        let rules = data.get("rules").cloned().unwrap_or_else(|| Value::Object(Default::default()));
        let rules = serde_json::from_value(rules)
            .map_err(|fault| AboutError::Shape(format!("its rules: {fault}")))?;
        Ok(Self(rules))
    }

    /// The rule as users are told of it; an id without texts stands alone.
    pub fn named(&self, id: &str) -> Rule {
        let (title, citation, advice) = self.0.get(id).map_or_else(Default::default, |listed| {
            (listed.title.clone(), listed.citation.clone(), listed.description.clone())
        });
        Rule { id: id.to_owned(), title, citation, advice }
    }

    /// Every rule by id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Listed)> {
        self.0.iter().map(|(id, listed)| (id.as_str(), listed))
    }
}
