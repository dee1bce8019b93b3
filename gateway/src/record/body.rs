//! Bodies of events, written as canonical JSON (RFC 8785) in one pass.
//!
//! Fields are given in the order of their keys, so nothing is sorted or built up first: an
//! outcome costs one buffer. Absent values leave no key.

use std::time::SystemTime;

use cordon_ledger::{canon, event::Timestamp};
use serde_json::Value;

/// A canonical JSON object under construction.
#[derive(Debug)]
pub struct Body {
    bytes: Vec<u8>,
    last: &'static str,
}

impl Body {
    /// An empty object.
    pub fn new() -> Self {
        let mut bytes = Vec::with_capacity(1024);
        bytes.push(b'{');
        Self { bytes, last: "" }
    }

    /// Closes the object and gives its bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(b'}');
        self.bytes
    }

    fn key(&mut self, key: &'static str) {
        // INVARIANT: keys rise; every key is ASCII, so byte order is RFC 8785's order.
        debug_assert!(self.last < key, "`{}` before `{key}`", self.last);
        if !self.last.is_empty() {
            self.bytes.push(b',');
        }
        self.last = key;
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.extend_from_slice(b"\":");
    }

    /// A text, or nothing.
    pub fn text<'a>(&mut self, key: &'static str, value: impl Into<Option<&'a str>>) -> &mut Self {
        if let Some(value) = value.into() {
            self.key(key);
            self.string(value);
        }
        self
    }

    /// A whole number, or nothing. Above 2^53 it is written as text, as the ledger asks.
    pub fn number(&mut self, key: &'static str, value: impl Into<Option<u64>>) -> &mut Self {
        if let Some(value) = value.into() {
            self.key(key);
            canon::write_integer(&mut self.bytes, value, false);
        }
        self
    }

    /// A truth value, or nothing.
    pub fn flag(&mut self, key: &'static str, value: impl Into<Option<bool>>) -> &mut Self {
        if let Some(value) = value.into() {
            self.key(key);
            self.bytes.extend_from_slice(if value { b"true" } else { b"false" });
        }
        self
    }

    /// A list of texts; an empty one leaves no key.
    pub fn list<'a>(
        &mut self,
        key: &'static str,
        values: impl IntoIterator<Item = &'a str>,
    ) -> &mut Self {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return self;
        }
        self.key(key);
        self.bytes.push(b'[');
        for (index, value) in values.enumerate() {
            if index > 0 {
                self.bytes.push(b',');
            }
            self.string(value);
        }
        self.bytes.push(b']');
        self
    }

    /// A value that is already canonical JSON.
    pub fn raw(&mut self, key: &'static str, canonical: &[u8]) -> &mut Self {
        self.key(key);
        self.bytes.extend_from_slice(canonical);
        self
    }

    /// A number with a fraction, or nothing.
    pub fn real(&mut self, key: &'static str, value: Option<f64>) -> &mut Self {
        let canonical = value
            .and_then(serde_json::Number::from_f64)
            .and_then(|number| canon::canonical(&Value::Number(number)).ok());
        if let Some(canonical) = canonical {
            self.raw(key, &canonical);
        }
        self
    }

    /// A moment in UTC with microseconds (RFC 3339), or nothing.
    pub fn time(&mut self, key: &'static str, at: impl Into<Option<SystemTime>>) -> &mut Self {
        if let Some(at) = at.into() {
            self.key(key);
            self.bytes.push(b'"');
            self.bytes.extend_from_slice(&Timestamp::from(at).text());
            self.bytes.push(b'"');
        }
        self
    }

    fn string(&mut self, value: &str) {
        canon::write_string(&mut self.bytes, value);
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_canonical_json() {
        let mut body = Body::new();
        body.flag("a", true)
            .list("b", ["x\n\"y\u{1}ü", "z"])
            .number("c", 7)
            .number("d", None)
            .real("e", Some(0.5))
            .text("f", "t");
        let bytes = body.finish();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(bytes, cordon_ledger::canon::canonical(&value).unwrap());
        assert_eq!(value["b"][0], "x\n\"y\u{1}ü");
        assert!(value.get("d").is_none());
    }

    #[test]
    fn numbers_beyond_the_exact_range_are_text() {
        let mut body = Body::new();
        body.number("n", u64::MAX);
        assert_eq!(body.finish(), br#"{"n":"18446744073709551615"}"#);
    }
}
