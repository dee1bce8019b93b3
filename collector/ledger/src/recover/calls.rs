//! The calls that a dead process left open, read from the events it wrote.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    disk::Storage,
    event::{Event, Kind, Label},
    frame::{self, Parsed},
    recover::{OpenError, io_error, tail::Tail},
    segment::{self, Cursor, Entry, Flaw, SegmentName, Step},
};

/// A call that began and has no outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenCall {
    pub call_id: Uuid,
    pub tenant: Option<Arc<str>>,
    /// When it began, RFC 3339.
    pub started: String,
    /// The call's first event; `None` when it has none, and so has sent nothing.
    pub first_seq: Option<u64>,
    /// Bodies of the intents that no attempt answers: what may have been sent.
    pub intents_without_attempt: Vec<Value>,
    /// How many attempts ended.
    pub attempts: u32,
    /// The body of the call's last intent, whether its attempt ended or not.
    pub last_intent: Option<Value>,
}

/// The body of an `open` event.
#[derive(Debug, Deserialize)]
struct OpenBody {
    calls: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    call_id: Uuid,
    tenant: String,
    started: String,
    first_seq: Option<u64>,
}

/// The calls without an outcome at the end of a stream.
pub(super) fn open_calls(
    storage: &dyn Storage,
    folder: &Path,
    tail: &Tail,
) -> Result<Vec<OpenCall>, OpenError> {
    let mut calls = BTreeMap::new();
    let last = Part { name: tail.name, bytes: &tail.prefix, before: tail.before };
    // A last segment without events has no `open` event: the one before it tells.
    let [.., previous, _last] = tail.segments.as_slice() else {
        last.each(folder, &mut |entry| list(&mut calls, entry))?;
        return finish(storage, folder, tail, calls);
    };
    if tail.prefix.is_empty() {
        let bytes = segment::read(storage, folder, previous).map_err(io_error(folder))?;
        let part = Part::of(*previous, &bytes, last.before);
        part.each(folder, &mut |entry| list(&mut calls, entry))?;
    } else {
        last.each(folder, &mut |entry| list(&mut calls, entry))?;
    }
    finish(storage, folder, tail, calls)
}

/// Reads the open calls' events, from the first of them on.
fn finish(
    storage: &dyn Storage,
    folder: &Path,
    tail: &Tail,
    mut calls: BTreeMap<Uuid, OpenCall>,
) -> Result<Vec<OpenCall>, OpenError> {
    if let Some(first) = calls.values().filter_map(|call| call.first_seq).min() {
        let holding = tail.segments.partition_point(|name| name.first_seq <= first);
        for name in tail.segments.iter().skip(holding.saturating_sub(1)) {
            let read = segment::read(storage, folder, name).map_err(io_error(folder))?;
            let intact = if *name == tail.name { tail.prefix.len() } else { read.len() };
            let bytes = read.get(..intact).unwrap_or_default();
            Part::of(*name, bytes, tail.before)
                .each(folder, &mut |entry| gather(&mut calls, entry))?;
        }
    }
    Ok(calls.into_values().collect())
}

/// Notes which calls are open, without reading bodies.
fn list(calls: &mut BTreeMap<Uuid, OpenCall>, entry: &Entry<'_>) -> Result<(), serde_json::Error> {
    if entry.kind == Kind::Open {
        let event: Event = serde_json::from_slice(entry.json)?;
        let body: OpenBody = serde_json::from_value(event.body)?;
        *calls = body.calls.into_iter().map(|listed| (listed.call_id, listed.into())).collect();
        return Ok(());
    }
    // The kinds that belong to a call; a decision belongs to all that refer to it.
    if !matches!(entry.kind, Kind::Notify | Kind::Intent | Kind::Attempt | Kind::Outcome) {
        return Ok(());
    }
    let label: Label = serde_json::from_slice(entry.json)?;
    let Some(call_id) = label.call_id else { return Ok(()) };
    if entry.kind == Kind::Outcome {
        calls.remove(&call_id);
        return Ok(());
    }
    let call = calls.entry(call_id).or_insert_with(|| OpenCall {
        call_id,
        tenant: label.tenant.map(Arc::from),
        started: label.time,
        first_seq: None,
        intents_without_attempt: Vec::new(),
        attempts: 0,
        last_intent: None,
    });
    call.first_seq.get_or_insert(entry.seq);
    Ok(())
}

/// Gathers intents and attempts of the calls that are open.
fn gather(
    calls: &mut BTreeMap<Uuid, OpenCall>,
    entry: &Entry<'_>,
) -> Result<(), serde_json::Error> {
    if !matches!(entry.kind, Kind::Intent | Kind::Attempt) {
        return Ok(());
    }
    let label: Label = serde_json::from_slice(entry.json)?;
    let Some(call) = label.call_id.and_then(|call_id| calls.get_mut(&call_id)) else {
        return Ok(());
    };
    let event: Event = serde_json::from_slice(entry.json)?;
    let number = |body: &Value| body.get("attempt").cloned();
    if entry.kind == Kind::Intent {
        call.intents_without_attempt.push(event.body.clone());
        call.last_intent = Some(event.body);
    } else {
        let ended = number(&event.body);
        call.intents_without_attempt.retain(|intent| number(intent) != ended);
        call.attempts += 1;
    }
    Ok(())
}

/// A segment's intact bytes.
struct Part<'a> {
    name: SegmentName,
    bytes: &'a [u8],
    before: Cursor,
}

// === impl Part ===

impl<'a> Part<'a> {
    /// A segment that is read for its calls; it begins as its first frame says.
    fn of(name: SegmentName, bytes: &'a [u8], otherwise: Cursor) -> Self {
        let before = match frame::parse(bytes, 0) {
            Parsed::Frame(frame) => Cursor { seq: name.first_seq - 1, chain: frame.chain_prev },
            Parsed::End | Parsed::Damaged(_) => otherwise,
        };
        Self { name, bytes, before }
    }

    fn each(
        &self,
        folder: &Path,
        see: &mut dyn FnMut(&Entry<'_>) -> Result<(), serde_json::Error>,
    ) -> Result<(), OpenError> {
        let (mut offset, mut cursor) = (0, self.before);
        let damaged = |offset, seq, flaw| OpenError::Damaged {
            segment: self.name.path(folder),
            offset,
            seq,
            flaw,
        };
        loop {
            match segment::next_group(self.bytes, offset, &cursor) {
                Step::End => return Ok(()),
                Step::Broken(broken) => {
                    let flaw: Flaw = broken.flaw;
                    return Err(damaged(broken.offset, broken.seq, flaw.to_string()));
                }
                Step::Group(group) => {
                    for entry in &group.entries {
                        see(entry)
                            .map_err(|error| damaged(offset, entry.seq, error.to_string()))?;
                    }
                    (offset, cursor) = (group.end, group.cursor);
                }
            }
        }
    }
}

// === impl OpenCall ===

impl From<Listed> for OpenCall {
    fn from(listed: Listed) -> Self {
        Self {
            call_id: listed.call_id,
            tenant: Some(Arc::from(listed.tenant)),
            started: listed.started,
            first_seq: listed.first_seq,
            intents_without_attempt: Vec::new(),
            attempts: 0,
            last_intent: None,
        }
    }
}
