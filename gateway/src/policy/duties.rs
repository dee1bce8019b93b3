//! The bytes that leave: redacted, in the upstream's format, and looked at once more.
//!
//! The only maker of [`Outbound`]. What must be taken out is replaced first; then the very bytes
//! that will leave are read back and inspected, so that what was judged is what is sent.
//!
//! Cost: without duties one copy of the body and its SHA-256; a redaction reads and inspects the
//! body once more.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{
    classify::{Classifier, Findings, redact},
    policy::{Denial, Duties, HostCode, Made, Outbound, Permit, Permitted, Refusal},
    wire::{
        Call, Format,
        openai_chat::{self, Outgoing},
    },
};

/// What a permitted call says, and what was found in it.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    pub call: &'a Call,
    pub findings: &'a Findings,
}

/// The bytes for `target`, which is one of `permit`'s. Refuses with `REDACTION_INCOMPLETE` where
/// something that had to go is left, or something is there that was not before.
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
    let bytes = match target.upstream().format() {
        Format::OpenAiChat => openai_chat::outbound(content.call, &edits, outgoing),
    };
    if duties.rescan && !is_clean(&bytes, duties, content, classifier) {
        let decided = Some(permit.decided().clone());
        return Err(Denial::by_host(Refusal { code: HostCode::RedactionIncomplete, decided }));
    }
    let redacted = redact::places(content.findings, &duties.redact);
    let digest = Sha256::digest(&bytes).into();
    Ok(Outbound { bytes, digest, redacted, made: Made })
}

/// Whether the bytes can still be read as one call, and hold nothing that had to go.
fn is_clean(
    bytes: &Bytes,
    duties: &Duties,
    content: &Content<'_>,
    classifier: &Classifier,
) -> bool {
    let Ok(call) = openai_chat::parse(bytes.clone()) else { return false };
    classifier.rescan(content.findings, &call, &duties.redact).is_ok()
}

#[cfg(test)]
mod tests;
