//! A JSON reader (RFC 8259) that keeps byte spans, strict with clients, lenient with upstreams.
//!
//! One pass over the body makes a flat list of nodes in reading order and resolves the escapes of
//! each string that has any. What two readers could understand differently is refused to clients:
//! duplicate keys at any depth, bytes after the value, invalid UTF-8, lone surrogates, raw control
//! characters, deep nesting. Knows JSON alone; errors name a byte, never the text.
//!
//! Cost: about one nanosecond per byte and two allocations for a body of short strings.

mod scan;

use std::ops::Range;

use bytes::Bytes;

use crate::wire::WireError;

/// Arrays and objects within each other; more are refused. Deeper ones are attacks, not calls.
pub const DEPTH_MAX: usize = 64;

/// Values and keys in one body. Bounds the memory of the node list, which can be twenty times
/// the body's size where a body is made of empty strings.
pub const VALUES_MAX: usize = 1 << 18;

/// Below this depth a lenient reading keeps values only while half of [`VALUES_MAX`] is free: the
/// log probabilities of a long answer shall not push out why it ended and what it cost.
const SHALLOW_DEPTH: usize = 4;

/// How much is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// For what clients send: we and the upstream could read two different calls.
    Strict,
    /// For what upstreams answer, which passes on whether or not we understand all of it. Of two
    /// equal keys the last one holds, as in most readers; a lone surrogate becomes U+FFFD;
    /// elements beyond [`VALUES_MAX`] are checked and left out.
    Lenient,
}

/// A body that was read in full: its bytes and what stands where.
#[derive(Clone)]
pub struct Document {
    body: Bytes,
    nodes: Vec<Node>,
    strings: Vec<Unescaped>,
}

/// One value or key; the children of a container follow it directly.
#[derive(Clone)]
struct Node {
    kind: Kind,
    span: Range<usize>,
    /// Index of the first node behind this one and all within it.
    after: usize,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Object,
    Array,
    /// Key or value; the index of the string.
    String(usize),
    Number,
    True,
    False,
    Null,
}

/// A string of the body: its span with quotes, and its text where escapes had to be resolved.
#[derive(Clone)]
struct Unescaped {
    span: Range<usize>,
    text: Option<Box<str>>,
}

/// A value within a document.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    document: &'a Document,
    index: usize,
}

// === impl Document ===

impl Document {
    /// Reads the whole body, which must be one JSON value.
    pub fn read(body: Bytes, reading: Reading) -> Result<Self, WireError> {
        let (nodes, strings) = scan::scan(&body, reading)?;
        Ok(Self { body, nodes, strings })
    }

    /// The bytes as they were read.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The outermost value.
    pub fn root(&self) -> Value<'_> {
        Value { document: self, index: 0 }
    }

    /// How many strings the body holds, keys included.
    pub fn string_count(&self) -> usize {
        self.strings.len()
    }

    /// The text of a string, escapes resolved; strings count in reading order.
    pub fn string(&self, index: usize) -> &str {
        unescaped(&self.body, &self.strings[index])
    }

    /// Whether a string is `text`; cheaper than reading it first.
    fn is(&self, index: usize, text: &str) -> bool {
        let string = &self.strings[index];
        match &string.text {
            Some(unescaped) => **unescaped == *text,
            None => self.body[string.span.start + 1..string.span.end - 1] == *text.as_bytes(),
        }
    }

    /// Where a string stands in the body, quotes included.
    pub fn string_span(&self, index: usize) -> Range<usize> {
        self.strings[index].span.clone()
    }
}

impl std::fmt::Debug for Document {
    /// Sizes alone: the body is a prompt or an answer.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Document")
            .field("bytes", &self.body.len())
            .field("values", &self.nodes.len())
            .finish()
    }
}

/// The text of a string: borrowed from the body where nothing was escaped.
fn unescaped<'a>(body: &'a [u8], string: &'a Unescaped) -> &'a str {
    match &string.text {
        Some(text) => text,
        None => std::str::from_utf8(&body[string.span.start + 1..string.span.end - 1])
            .expect("the scan checked the body as UTF-8 and spans end at quotes"),
    }
}

// === impl Value ===

impl<'a> Value<'a> {
    fn node(self) -> &'a Node {
        &self.document.nodes[self.index]
    }

    /// Where the value stands in the body.
    pub fn span(self) -> Range<usize> {
        self.node().span.clone()
    }

    /// The value's bytes as they stand in the body.
    pub fn raw(self) -> &'a [u8] {
        &self.document.body[self.span()]
    }

    /// Whether this is an object.
    pub fn is_object(self) -> bool {
        self.node().kind == Kind::Object
    }

    /// Whether this is an array.
    pub fn is_array(self) -> bool {
        self.node().kind == Kind::Array
    }

    /// Whether this is `null`.
    pub fn is_null(self) -> bool {
        self.node().kind == Kind::Null
    }

    /// The values within an array or object, in order; none for anything else.
    pub fn items(self) -> impl Iterator<Item = Value<'a>> {
        let step = if self.is_object() { 2 } else { 1 };
        self.children().skip(step - 1).step_by(step)
    }

    /// The members of an object: index of the key's string, and the value.
    pub fn members(self) -> impl Iterator<Item = (usize, Value<'a>)> {
        let end = if self.is_object() { self.node().after } else { self.index + 1 };
        let mut at = self.index + 1;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let key = Value { document: self.document, index: at };
            let value = Value { document: self.document, index: at + 1 };
            at = value.node().after;
            Some((key.string_index()?, value))
        })
    }

    /// The text of a key that [`Value::members`] gave.
    pub fn key(self, index: usize) -> &'a str {
        self.document.string(index)
    }

    /// The member named `key`; the last one where the document may hold two.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        let named = |index: &usize| self.document.is(*index, key);
        self.members().filter(|(index, _)| named(index)).last().map(|(_, value)| value)
    }

    /// The member named `key`, unless it is `null`.
    pub fn get_some(self, key: &str) -> Option<Value<'a>> {
        self.get(key).filter(|value| !value.is_null())
    }

    /// The index of the string, where the value is one.
    pub fn string_index(self) -> Option<usize> {
        match self.node().kind {
            Kind::String(index) => Some(index),
            Kind::Object | Kind::Array | Kind::Number | Kind::True | Kind::False | Kind::Null => {
                None
            }
        }
    }

    /// The text, where the value is a string.
    pub fn as_str(self) -> Option<&'a str> {
        self.string_index().map(|index| self.document.string(index))
    }

    /// The truth value, where it is one.
    pub fn as_bool(self) -> Option<bool> {
        match self.node().kind {
            Kind::True => Some(true),
            Kind::False => Some(false),
            Kind::Object | Kind::Array | Kind::String(_) | Kind::Number | Kind::Null => None,
        }
    }

    /// A whole number that is not negative.
    pub fn as_u64(self) -> Option<u64> {
        self.number_text()?.parse().ok()
    }

    /// A whole number.
    pub fn as_i64(self) -> Option<i64> {
        self.number_text()?.parse().ok()
    }

    /// A number that is finite once read.
    pub fn as_f64(self) -> Option<f64> {
        self.number_text()?.parse().ok().filter(|number: &f64| number.is_finite())
    }

    fn number_text(self) -> Option<&'a str> {
        let number = self.node().kind == Kind::Number;
        number.then(|| std::str::from_utf8(self.raw()).ok()).flatten()
    }

    /// Every direct child: keys and values of an object, values of an array.
    fn children(self) -> impl Iterator<Item = Value<'a>> {
        let end = self.node().after;
        let mut at = self.index + 1;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let child = Value { document: self.document, index: at };
            at = child.node().after;
            Some(child)
        })
    }
}

impl std::fmt::Debug for Value<'_> {
    /// Place and kind alone, for the same reason as the document.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let node = self.node();
        formatter.debug_tuple("Value").field(&node.kind).field(&node.span).finish()
    }
}

/// Appends `text` as a JSON string, quotes included.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string always serialises into memory");
}

#[cfg(test)]
mod tests;
