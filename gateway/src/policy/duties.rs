//! The bytes that leave: redacted, in the upstream's format, and looked at once more.
//!
//! The only maker of [`Outbound`]. What must be taken out is replaced first; then the very bytes
//! that will leave are read back and inspected, so that what was judged is what is sent.
//!
//! Cost: without duties one copy of the body and its SHA-256; a redaction reads and inspects the
//! body once more, and seldom a few times.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{
    classify::{
        Classifier, Findings,
        redact::{self, Tokens},
    },
    policy::{Denial, Duties, HostCode, Made, Outbound, Permit, Permitted, Refusal},
    wire::{
        Call, Format,
        openai_chat::{self, Outgoing},
    },
};

/// How often a call is redacted at most.
const ROUNDS_MAX: usize = 4;

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
    let outgoing = Outgoing {
        model: Some(target.upstream().model()),
        max_tokens: duties.max_tokens,
        ask_usage: true,
    };
    let mut tokens = Tokens::default();
    let places = &content.findings.places;
    let edits = redact::edits(content.call, places, &duties.redact, &mut tokens);
    let bytes = match target.upstream().format() {
        Format::OpenAiChat => openai_chat::outbound(content.call, &edits, outgoing),
    };
    let mut written = Written { bytes, redacted: redact::count(places, &duties.redact) };
    if duties.rescan {
        written =
            cleaned(written, duties, content.findings, classifier, tokens).ok_or_else(|| {
                let decided = Some(permit.decided().clone());
                Denial::by_host(Refusal { code: HostCode::RedactionIncomplete, decided })
            })?;
    }
    let Written { bytes, redacted } = written;
    let digest = Sha256::digest(&bytes).into();
    Ok(Outbound { bytes, digest, redacted, made: Made })
}

/// A body that may leave, and how many places in it were replaced.
struct Written {
    bytes: Bytes,
    redacted: u32,
}

/// The bytes once they can be read back as one call and hold nothing that had to go.
///
/// What is taken out brings the words around it nearer to each other: `phone` nearer to a number
/// that nobody took for one before. So what one round makes appear, the next one takes out.
fn cleaned(
    mut written: Written,
    duties: &Duties,
    before: &Findings,
    classifier: &Classifier,
    mut tokens: Tokens,
) -> Option<Written> {
    for _round in 0..ROUNDS_MAX {
        let call = openai_chat::parse(written.bytes.clone()).ok()?;
        if classifier.rescan(before, &call, &duties.redact).is_ok() {
            return Some(written);
        }
        let left = classifier.inspect_texts(call.texts());
        let edits = redact::edits(&call, left.places(), &duties.redact, &mut tokens);
        if edits.is_empty() {
            return None;
        }
        let redacted = written.redacted + redact::count(left.places(), &duties.redact);
        let bytes = openai_chat::outbound(&call, &edits, Outgoing::default());
        written = Written { bytes, redacted };
    }
    None
}

#[cfg(test)]
mod tests;
