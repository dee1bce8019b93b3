//! Canonical JSON (RFC 8785): one value, one sequence of bytes.
//!
//! Keys sorted by UTF-16 code units, no spaces, the shortest escapes, numbers as ECMAScript
//! prints them. Integers that a double cannot hold exactly are written as strings.

use serde_json::{Map, Number, Value};
use thiserror::Error;

/// The largest integer up to which every integer is exact in a double (2^53).
const EXACT_INTEGER_MAX: u64 = 1 << 53;
/// Deeper values are refused, so that writing one cannot exhaust the stack.
const DEPTH_MAX: usize = 128;
/// How many bytes of a text are looked at together.
const STRIDE_BYTES: usize = 16;

/// Why a value has no canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CanonError {
    #[error("the value is nested deeper than {DEPTH_MAX} levels; flatten it")]
    TooDeep,
    #[error("a number is not finite; JSON cannot hold it")]
    NotFinite,
}

/// The canonical bytes of a value (RFC 8785), with integers above 2^53 as strings.
pub fn canonical(value: &Value) -> Result<Vec<u8>, CanonError> {
    let mut bytes = Vec::with_capacity(256);
    write_value(&mut bytes, value, 0)?;
    Ok(bytes)
}

fn write_value(bytes: &mut Vec<u8>, value: &Value, depth: usize) -> Result<(), CanonError> {
    if depth > DEPTH_MAX {
        return Err(CanonError::TooDeep);
    }
    match value {
        Value::Null => bytes.extend_from_slice(b"null"),
        Value::Bool(true) => bytes.extend_from_slice(b"true"),
        Value::Bool(false) => bytes.extend_from_slice(b"false"),
        Value::Number(number) => write_number(bytes, number)?,
        Value::String(text) => write_string(bytes, text),
        Value::Array(values) => write_array(bytes, values, depth)?,
        Value::Object(members) => write_object(bytes, members, depth)?,
    }
    Ok(())
}

fn write_array(bytes: &mut Vec<u8>, values: &[Value], depth: usize) -> Result<(), CanonError> {
    bytes.push(b'[');
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            bytes.push(b',');
        }
        write_value(bytes, value, depth + 1)?;
    }
    bytes.push(b']');
    Ok(())
}

fn write_object(
    bytes: &mut Vec<u8>,
    members: &Map<String, Value>,
    depth: usize,
) -> Result<(), CanonError> {
    let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
    // RFC 8785 section 3.2.3: by UTF-16 code units, which is the order of bytes for ASCII alone.
    if sorted.iter().all(|(key, _)| key.is_ascii()) {
        sorted.sort_unstable_by_key(|(key, _)| key.as_bytes());
    } else {
        sorted.sort_by(|(left, _), (right, _)| left.encode_utf16().cmp(right.encode_utf16()));
    }
    bytes.push(b'{');
    for (index, (key, value)) in sorted.into_iter().enumerate() {
        if index > 0 {
            bytes.push(b',');
        }
        write_string(bytes, key);
        bytes.push(b':');
        write_value(bytes, value, depth + 1)?;
    }
    bytes.push(b'}');
    Ok(())
}

fn write_number(bytes: &mut Vec<u8>, number: &Number) -> Result<(), CanonError> {
    if let Some(integer) = number.as_i64() {
        write_integer(bytes, integer.unsigned_abs(), integer < 0);
    } else if let Some(integer) = number.as_u64() {
        write_integer(bytes, integer, false);
    } else {
        let double = number.as_f64().filter(|double| double.is_finite());
        let double = double.ok_or(CanonError::NotFinite)?;
        bytes.extend_from_slice(ryu_js::Buffer::new().format_finite(double).as_bytes());
    }
    Ok(())
}

/// Writes an integer, as text where a double could not hold it.
pub fn write_integer(bytes: &mut Vec<u8>, magnitude: u64, negative: bool) {
    let quoted = magnitude > EXACT_INTEGER_MAX;
    if quoted {
        bytes.push(b'"');
    }
    if negative {
        bytes.push(b'-');
    }
    serde_json::to_writer(&mut *bytes, &magnitude).expect("writing to memory cannot fail");
    if quoted {
        bytes.push(b'"');
    }
}

/// Writes a JSON string with the escapes of RFC 8785 section 3.2.2.2.
pub fn write_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, other) = rest.split_at(plain_length(rest));
        bytes.extend_from_slice(plain);
        let Some((escaped, behind)) = other.split_first() else { break };
        write_escape(bytes, *escaped);
        rest = behind;
    }
    bytes.push(b'"');
}

/// How many bytes from the start are neither a quote, a backslash nor a control character. Looks
/// at whole strides without leaving early, which the compiler makes into vector instructions, and
/// then at words: most texts are short.
pub fn plain_length(bytes: &[u8]) -> usize {
    let stops = |byte: &u8| matches!(byte, b'"' | b'\\' | 0x00..=0x1f);
    let plain = |stride: &[u8]| !stride.iter().fold(false, |stop, byte| stop | stops(byte));
    let strides = bytes.chunks_exact(STRIDE_BYTES).take_while(|stride| plain(stride)).count();
    let mut at = strides * STRIDE_BYTES;
    while let Some(word) = bytes[at..].first_chunk() {
        let found = stops_in(u64::from_le_bytes(*word));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += size_of::<u64>();
    }
    let rest = &bytes[at..];
    at + rest.iter().position(stops).unwrap_or(rest.len())
}

/// The top bit of each byte of `word` at which a plain text stops; of bytes above the lowest such
/// one it may be set for nothing, as a subtraction borrows from them.
fn stops_in(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    const TOPS: u64 = ONES * 0x80;
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & TOPS;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    below(word, 0x20) | equal(b'"') | equal(b'\\')
}

fn write_escape(bytes: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => bytes.extend_from_slice(b"\\\""),
        b'\\' => bytes.extend_from_slice(b"\\\\"),
        0x08 => bytes.extend_from_slice(b"\\b"),
        0x09 => bytes.extend_from_slice(b"\\t"),
        0x0a => bytes.extend_from_slice(b"\\n"),
        0x0c => bytes.extend_from_slice(b"\\f"),
        0x0d => bytes.extend_from_slice(b"\\r"),
        control => bytes.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
    }
}
