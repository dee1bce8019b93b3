//! The bytes that leave: redacted, rescanned, in the upstream's format.
//!
//! The only maker of [`Outbound`]: what it holds is what was judged.

use sha2::{Digest, Sha256};

use crate::{
    classify::{Classifier, Findings, redact},
    policy::{Denial, HostCode, Outbound, Permit, Permitted},
    wire::{
        Call,
        openai_chat::{self, Outgoing},
    },
};

/// A call and what was found in it.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    pub call: &'a Call,
    pub findings: &'a Findings,
}

/// Makes the bytes that may go to `target` under `permit`. Refuses (`REDACTION_INCOMPLETE`) where
/// the rescan still finds something of a redacted category, or anything new.
pub fn outbound(
    permit: &Permit,
    target: &Permitted,
    content: &Content<'_>,
    classifier: &Classifier,
) -> Result<Outbound, Denial> {
    let duties = permit.duties();
    let edits = redact::edits(content.call, content.findings, &duties.redact);
    let outgoing = Outgoing {
        model: Some(target.upstream().model()),
        max_tokens: duties.max_tokens,
        ask_usage: true,
    };
    let bytes = openai_chat::outbound(content.call, &edits, outgoing);
    if duties.rescan || !edits.is_empty() {
        let incomplete = || Denial::host(HostCode::RedactionIncomplete);
        let again = openai_chat::parse(bytes.clone()).map_err(|_broken| incomplete())?;
        classifier
            .rescan(content.findings, &again, &duties.redact)
            .map_err(|_leftover| incomplete())?;
    }
    Ok(Outbound {
        digest: Sha256::digest(&bytes).into(),
        bytes,
        dropped: Vec::new(),
        redacted: redact::places(content.findings, &duties.redact),
    })
}
