//! Whether a decision answers the question that was asked; if not, nobody may use it.
//!
//! Knows the two documents; not what a rule means.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::policy::{Effect, HostCode, decision::Decision};

/// What a facts document asks: everything a decision is held against.
#[derive(Debug)]
pub struct Question<'a> {
    digest: &'a str,
    data_revision: &'a str,
    /// Kind by id.
    candidates: BTreeMap<&'a str, &'a str>,
    personal_data: bool,
}

impl<'a> Question<'a> {
    /// Reads the question out of a facts document; missing parts ask nothing.
    pub fn of(document: &'a Value, data_revision: &'a str) -> Self {
        let text = |value: &'a Value, name: &str| {
            value.get(name).and_then(Value::as_str).unwrap_or_default()
        };
        let list = |path: &str| {
            document.pointer(path).and_then(Value::as_array).map_or(&[][..], Vec::as_slice)
        };
        Self {
            digest: text(document, "digest"),
            data_revision,
            candidates: list("/candidates")
                .iter()
                .map(|candidate| (text(candidate, "id"), text(candidate, "kind")))
                .collect(),
            personal_data: list("/data/categories")
                .iter()
                .any(|category| is_personal(text(category, "id"))),
        }
    }

    /// Reads and checks a decision: echo, shape, exactly the candidates, and a reason for each.
    pub fn check(&self, value: &Value) -> Result<Decision, HostCode> {
        // A policy that never saw the facts answers with its defaults: that is no bad shape but
        // an answer to something else.
        let echoed = value.pointer("/echo/digest").and_then(Value::as_str);
        if echoed != Some(self.digest) {
            return Err(HostCode::EchoMismatch);
        }
        let decision = Decision::read(value)?;
        if decision.echo.data_rev != self.data_revision {
            return Err(HostCode::EchoMismatch);
        }
        let sound = self.is_complete(&decision)
            && self.keeps_to_its_effect(&decision)
            && decision.candidates.iter().all(|chosen| {
                let moves = chosen.rank >= 2 && self.personal_data;
                let named = chosen.mechanism.as_deref().is_some_and(|id| !id.is_empty());
                chosen.rank >= 1 && !chosen.basis.is_empty() && (!moves || named)
            });
        sound.then_some(decision).ok_or(HostCode::BadDecisionSchema)
    }

    /// Candidates and excluded together are exactly what was asked, each once.
    fn is_complete(&self, decision: &Decision) -> bool {
        let chosen = decision.candidates.iter().map(|chosen| chosen.id.as_str());
        let excluded = decision.excluded.iter().map(|excluded| excluded.id.as_str());
        let mut answered: Vec<&str> = chosen.chain(excluded).collect();
        answered.sort_unstable();
        answered.iter().copied().eq(self.candidates.keys().copied())
            && decision.excluded.iter().all(|excluded| !excluded.rules.is_empty())
    }

    fn keeps_to_its_effect(&self, decision: &Decision) -> bool {
        match decision.effect {
            Effect::Allow => !decision.candidates.is_empty() && decision.request_rules.is_empty(),
            Effect::LocalOnly => {
                let house =
                    |id: &str| matches!(self.candidates.get(id), Some(&"local" | &"onprem"));
                !decision.candidates.is_empty()
                    && decision.request_rules.is_empty()
                    && decision.candidates.iter().all(|chosen| house(&chosen.id))
            }
            Effect::NeedsApproval => true,
            Effect::Deny => decision.candidates.is_empty(),
        }
    }
}

/// Whether findings of this category concern people, as the packs take it.
fn is_personal(category: &str) -> bool {
    matches!(category.split('.').next(), Some("pii" | "phi" | "pci"))
}
