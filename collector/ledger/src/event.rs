//! Events: kinds, drafts, and the canonical JSON around a body.
//!
//! A producer hands over a canonical `body`; the writer adds the envelope by concatenation, since
//! `body` sorts before every other key. Readers get the whole event back with [`Event::parse`].

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, de::Error as _};
use thiserror::Error;
use uuid::Uuid;

use crate::canon;

/// The version of the event's shape, in its key `schema`.
pub const SCHEMA: u32 = 1;
/// Length of a time as it is printed.
const TIME_BYTES: usize = 27;
/// The last second of the year 9999, since 1970.
const SECONDS_MAX: u64 = 253_402_300_799;
/// Room for the envelope of an event beside body, tenant, gateway version and configuration.
const ENVELOPE_FIXED_BYTES: usize = 256;

/// What an event tells. Numbers on disk are never used twice; 0 is the commit frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    Decision = 1,
    Intent = 2,
    Attempt = 3,
    Outcome = 4,
    Open = 5,
    Start = 6,
    Stop = 7,
    Poison = 8,
    Change = 9,
    Notify = 10,
    Access = 11,
    Erasure = 12,
    Checkpoint = 13,
    Trim = 14,
    Gap = 15,
    Refused = 16,
}

/// Which program writes a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Writer {
    Gateway,
    Collector,
}

/// Where an event stands: its stream and its number within it, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub stream: Uuid,
    pub seq: u64,
}

/// The canonical body of a `decision` event that other events refer to.
#[derive(Clone)]
pub struct DecisionBody {
    /// What the events that refer to the decision call it.
    pub digest: Arc<str>,
    /// Canonical JSON object.
    pub body: Arc<[u8]>,
}

/// An event before it has a place.
#[derive(Clone)]
pub struct Draft {
    pub kind: Kind,
    pub tenant: Option<Arc<str>>,
    pub call_id: Option<Uuid>,
    /// Canonical JSON object. Not read when `kind` is `Decision` and `decision` is set.
    pub body: Vec<u8>,
    /// A decision this event refers to: written just before it, unless the current segment
    /// already holds it. With kind `Decision` it is the event itself, and a repetition resolves
    /// at the place of the first.
    pub decision: Option<DecisionBody>,
}

/// An event as readers see it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    pub body: serde_json::Value,
    pub call_id: Option<Uuid>,
    /// Digest of the configuration in force, lower hex SHA-256.
    pub config: Option<String>,
    /// Version of the program that wrote the event.
    #[serde(rename = "gateway")]
    pub gateway_version: Option<String>,
    pub kind: Kind,
    pub schema: u32,
    pub seq: u64,
    pub stream: Uuid,
    pub tenant: Option<String>,
    /// RFC 3339, UTC, microseconds.
    pub time: String,
}

/// The envelope of an event without its body: what verification compares.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Label {
    pub call_id: Option<Uuid>,
    pub kind: Kind,
    pub schema: u32,
    pub seq: u64,
    pub stream: Uuid,
    pub tenant: Option<String>,
    pub time: String,
}

/// The bytes of a frame are no event.
#[derive(Debug, Error)]
#[error("the event's JSON cannot be read ({0}); it was not written by this version")]
pub struct EventError(#[from] serde_json::Error);

// === impl Kind ===

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::Decision,
        Self::Intent,
        Self::Attempt,
        Self::Outcome,
        Self::Open,
        Self::Start,
        Self::Stop,
        Self::Poison,
        Self::Change,
        Self::Notify,
        Self::Access,
        Self::Erasure,
        Self::Checkpoint,
        Self::Trim,
        Self::Gap,
        Self::Refused,
    ];

    /// The number on disk.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The kind with this number on disk.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The name in the event's JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Intent => "intent",
            Self::Attempt => "attempt",
            Self::Outcome => "outcome",
            Self::Open => "open",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Poison => "poison",
            Self::Change => "change",
            Self::Notify => "notify",
            Self::Access => "access",
            Self::Erasure => "erasure",
            Self::Checkpoint => "checkpoint",
            Self::Trim => "trim",
            Self::Gap => "gap",
            Self::Refused => "refused",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::from_name(&name).ok_or_else(|| D::Error::custom(format!("unknown kind `{name}`")))
    }
}

// === impl Writer ===

impl Writer {
    /// The word for it in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Collector => "collector",
        }
    }

    /// The writer of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Gateway, Self::Collector].into_iter().find(|writer| writer.name() == name)
    }
}

// === impl Draft ===

// Bodies name callers and their data: they stay out of debug output.
impl fmt::Debug for Draft {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Draft");
        shown.field("kind", &self.kind).field("call_id", &self.call_id);
        shown.field("body_bytes", &self.body.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for DecisionBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DecisionBody").field("digest", &self.digest).finish_non_exhaustive()
    }
}

// === impl Event ===

impl Event {
    /// Reads the JSON of an event frame.
    pub fn parse(json: &[u8]) -> Result<Self, EventError> {
        Ok(serde_json::from_slice(json)?)
    }
}

// === impl Label ===

impl Label {
    /// Reads the envelope and passes over the body.
    pub fn parse(json: &[u8]) -> Result<Self, EventError> {
        Ok(serde_json::from_slice(json)?)
    }
}

/// What is the same in the envelope of all events of one writer.
#[derive(Debug)]
pub(crate) struct Envelope {
    /// `,"config":"…","gateway":"…","kind":"` or less, as they apply.
    before_kind: Vec<u8>,
    /// `","schema":1,"seq":`.
    before_seq: String,
    /// `,"stream":"…"`.
    stream: String,
}

/// The parts of one event that its envelope names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) kind: Kind,
    pub(crate) seq: u64,
    pub(crate) tenant: Option<&'a str>,
    pub(crate) call_id: Option<Uuid>,
    pub(crate) time: Timestamp,
    pub(crate) body: &'a [u8],
}

// === impl Envelope ===

impl Envelope {
    pub(crate) fn new(stream: Uuid, gateway_version: &str, config_digest: Option<&str>) -> Self {
        let mut before_kind = Vec::new();
        if let Some(digest) = config_digest {
            before_kind.extend_from_slice(b",\"config\":");
            canon::write_string(&mut before_kind, digest);
        }
        if !gateway_version.is_empty() {
            before_kind.extend_from_slice(b",\"gateway\":");
            canon::write_string(&mut before_kind, gateway_version);
        }
        before_kind.extend_from_slice(b",\"kind\":\"");
        let before_seq = format!("\",\"schema\":{SCHEMA},\"seq\":");
        Self { before_kind, before_seq, stream: format!(",\"stream\":\"{stream}\"") }
    }

    /// Appends the event's canonical JSON.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>, parts: &Parts<'_>) {
        bytes.extend_from_slice(b"{\"body\":");
        bytes.extend_from_slice(parts.body);
        if let Some(call_id) = parts.call_id {
            bytes.extend_from_slice(b",\"call_id\":\"");
            let mut text = Uuid::encode_buffer();
            bytes.extend_from_slice(call_id.hyphenated().encode_lower(&mut text).as_bytes());
            bytes.push(b'"');
        }
        bytes.extend_from_slice(&self.before_kind);
        bytes.extend_from_slice(parts.kind.name().as_bytes());
        bytes.extend_from_slice(self.before_seq.as_bytes());
        canon::write_integer(bytes, parts.seq, false);
        bytes.extend_from_slice(self.stream.as_bytes());
        if let Some(tenant) = parts.tenant {
            bytes.extend_from_slice(b",\"tenant\":");
            canon::write_string(bytes, tenant);
        }
        bytes.extend_from_slice(b",\"time\":\"");
        bytes.extend_from_slice(&parts.time.text());
        bytes.extend_from_slice(b"\"}");
    }

    /// At least the bytes that `write` adds for such an event.
    pub(crate) fn bytes_max(&self, body_bytes: usize, tenant: Option<&str>) -> usize {
        // A control character of a tenant's name takes six bytes when escaped.
        let tenant_bytes = tenant.map_or(0, |tenant| tenant.len() * 6);
        ENVELOPE_FIXED_BYTES + self.before_kind.len() + body_bytes + tenant_bytes
    }
}

/// A moment in UTC with microseconds, printed as RFC 3339: `2026-11-22T19:45:12.123456Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(Duration);

// === impl Timestamp ===

impl Timestamp {
    /// The clock's time.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// A moment by its distance from 1970.
    pub fn from_epoch(since: Duration) -> Self {
        Self(since)
    }

    /// The moment that is printed so; nothing else is read.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
        let days = days(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
        let seconds = number(11, 13)? * 3_600 + number(14, 16)? * 60 + number(17, 19)?;
        let since = Duration::from_secs(days * 86_400 + seconds);
        let at = Self(since + Duration::from_micros(number(20, 26)?));
        (at.text() == text.as_bytes()).then_some(at)
    }

    /// How much later this is than another moment; nothing if it is earlier.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The characters that are printed, without an allocation: every event has several times.
    /// A moment after the year 9999 has the last second of it.
    pub fn text(self) -> [u8; TIME_BYTES] {
        let seconds = self.0.as_secs().min(SECONDS_MAX);
        let (year, month, day) = date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let fields = [
            (4, year),
            (7, month),
            (10, day),
            (13, hour),
            (16, minute),
            (19, second),
            (26, u64::from(self.0.subsec_micros())),
        ];
        for (end, mut number) in fields {
            for digit in text[..end].iter_mut().rev().take_while(|byte| byte.is_ascii_digit()) {
                *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
                number /= 10;
            }
        }
        text
    }
}

/// A time before 1970 counts as 1970.
impl From<SystemTime> for Timestamp {
    fn from(at: SystemTime) -> Self {
        Self(at.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(str::from_utf8(&self.text()).map_err(|_not_ascii| fmt::Error)?)
    }
}

/// Year, month and day of a count of days since 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that a leap day is the last of its year and every span of
    // 400 years has the same 146097 days.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, months repeat in spans of five with 153 days.
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// The count of days since 1970-01-01 of a date, the other way round.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month_from_march) =
        if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * month_from_march + 2) / 5 + day.checked_sub(1)?;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_rfc_3339_with_microseconds() {
        let cases = [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000001Z"),
            (1_795_376_712, 123_456, "2026-11-22T19:45:12.123456Z"),
            (4_107_542_399, 999_999, "2100-02-28T23:59:59.999999Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000Z"),
        ];
        for (seconds, micros, text) in cases {
            let since = Duration::from_secs(seconds) + Duration::from_micros(micros);
            assert_eq!(Timestamp::from_epoch(since).to_string(), text);
            assert_eq!(Timestamp::parse(text), Some(Timestamp::from_epoch(since)));
        }
        for wrong in ["", "1969-12-31T23:59:59.000000Z", "2100-02-29T00:00:00.000000Z", "yesterday"]
        {
            assert_eq!(Timestamp::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_envelope_is_canonical() {
        let stream = Uuid::from_u128(7);
        let envelope = Envelope::new(stream, "0.1.0", Some("ab"));
        let parts = Parts {
            kind: Kind::Intent,
            seq: 3,
            tenant: Some("a\"b"),
            call_id: Some(Uuid::from_u128(9)),
            time: Timestamp::from_epoch(Duration::ZERO),
            body: b"{\"attempt\":1}",
        };
        let mut bytes = Vec::new();
        envelope.write(&mut bytes, &parts);
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(bytes, canon::canonical(&value).unwrap());
        assert!(bytes.len() <= envelope.bytes_max(parts.body.len(), parts.tenant));
        let event = Event::parse(&bytes).unwrap();
        assert_eq!(
            (event.seq, event.kind, event.tenant.as_deref()),
            (3, Kind::Intent, Some("a\"b"))
        );
    }
}
