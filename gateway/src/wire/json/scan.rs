//! The one pass over the bytes: grammar, spans, escapes, duplicates.

use cordon_ledger::canon::plain_length;

use crate::wire::{
    WireError,
    json::{DEPTH_MAX, Kind, Node, Reading, SHALLOW_DEPTH, Unescaped, VALUES_MAX, unescaped},
};

/// Up to this many keys are compared pair by pair; more are sorted first, so that an object of
/// a hundred thousand keys costs no square.
const PAIRS_MAX: usize = 12;

/// Where the scan stands, and what it has read.
struct Scan<'a> {
    body: &'a [u8],
    at: usize,
    depth: usize,
    reading: Reading,
    nodes: Vec<Node>,
    strings: Vec<Unescaped>,
    /// String indices of the keys of all objects that are open, innermost last; only a strict
    /// reading compares them.
    keys: Vec<usize>,
}

/// Reads `body` as one JSON value: all nodes in reading order, and all strings.
pub(super) fn scan(
    body: &[u8],
    reading: Reading,
) -> Result<(Vec<Node>, Vec<Unescaped>), WireError> {
    if let Err(error) = std::str::from_utf8(body) {
        return Err(WireError::Json { at: error.valid_up_to(), what: "this is not UTF-8" });
    }
    let mut scan = Scan {
        body,
        at: 0,
        depth: 0,
        reading,
        // A short body is nearly all structure, like an event of a stream; a long one nearly all
        // text. Neither shall make the lists grow often.
        nodes: Vec::with_capacity((body.len() / 8).min(body.len() / 24 + 64).min(VALUES_MAX) + 4),
        strings: Vec::with_capacity(
            (body.len() / 10).min(body.len() / 32 + 48).min(VALUES_MAX) + 4,
        ),
        keys: Vec::with_capacity(16),
    };
    scan.skip_space();
    scan.value()?;
    scan.skip_space();
    if scan.at < body.len() {
        return Err(scan.fault("nothing may follow the value"));
    }
    Ok((scan.nodes, scan.strings))
}

// === impl Scan ===

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn fault(&self, what: &'static str) -> WireError {
        WireError::Json { at: self.at, what }
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    /// Opens a node at the current place; `close` sets where it ends.
    fn open(&mut self, kind: Kind) -> Result<usize, WireError> {
        if self.reading == Reading::Strict && self.nodes.len() >= VALUES_MAX {
            return Err(WireError::TooMany { max: VALUES_MAX });
        }
        self.nodes.push(Node { kind, span: self.at..self.at, after: 0 });
        Ok(self.nodes.len() - 1)
    }

    fn close(&mut self, index: usize) {
        let after = self.nodes.len();
        let node = &mut self.nodes[index];
        node.span.end = self.at;
        node.after = after;
    }

    fn value(&mut self) -> Result<(), WireError> {
        match self.peek() {
            Some(b'{') => self.container(Kind::Object),
            Some(b'[') => self.container(Kind::Array),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal(b"true", Kind::True),
            Some(b'f') => self.literal(b"false", Kind::False),
            Some(b'n') => self.literal(b"null", Kind::Null),
            Some(_) => Err(self.fault("a value must begin here")),
            None => Err(self.fault("the body ends where a value must begin")),
        }
    }

    fn literal(&mut self, word: &[u8], kind: Kind) -> Result<(), WireError> {
        if !self.body[self.at..].starts_with(word) {
            return Err(self.fault("a value must begin here"));
        }
        let index = self.open(kind)?;
        self.at += word.len();
        self.close(index);
        Ok(())
    }

    fn container(&mut self, kind: Kind) -> Result<(), WireError> {
        if self.depth == DEPTH_MAX {
            return Err(WireError::TooDeep { max: DEPTH_MAX });
        }
        let (index, keys) = (self.open(kind)?, self.keys.len());
        let end = if kind == Kind::Object { b'}' } else { b']' };
        self.depth += 1;
        self.at += 1;
        self.skip_space();
        if self.peek() != Some(end) {
            self.elements(kind, end)?;
        }
        self.at += 1;
        self.depth -= 1;
        self.refuse_duplicates(keys)?;
        self.keys.truncate(keys);
        self.close(index);
        Ok(())
    }

    /// One or more elements, up to the closing bracket.
    fn elements(&mut self, kind: Kind, end: u8) -> Result<(), WireError> {
        loop {
            let kept = (self.nodes.len(), self.strings.len());
            if kind == Kind::Object {
                self.key()?;
            }
            self.value()?;
            self.forget_beyond_the_limit(kept);
            self.skip_space();
            match self.peek() {
                Some(byte) if byte == end => return Ok(()),
                Some(b',') => self.at += 1,
                Some(_) => return Err(self.fault("`,` or the closing bracket must stand here")),
                None => return Err(self.fault("the body ends within an array or object")),
            }
            self.skip_space();
        }
    }

    /// Leaves out the element just read, which began behind what is `kept`, where a lenient
    /// reading holds more than it may. A strict one has refused the body before.
    fn forget_beyond_the_limit(&mut self, (nodes, strings): (usize, usize)) {
        let max = if self.depth > SHALLOW_DEPTH { VALUES_MAX / 2 } else { VALUES_MAX };
        if self.reading == Reading::Lenient && self.nodes.len() > max {
            self.nodes.truncate(nodes);
            self.strings.truncate(strings);
        }
    }

    fn key(&mut self) -> Result<(), WireError> {
        if self.peek() != Some(b'"') {
            return Err(self.fault("a key must begin here"));
        }
        if self.reading == Reading::Strict {
            self.keys.push(self.strings.len());
        }
        self.string()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.fault("`:` must stand here"));
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    /// Refuses two equal keys among those read since `from`, the keys of one object.
    fn refuse_duplicates(&mut self, from: usize) -> Result<(), WireError> {
        let (body, strings) = (self.body, &self.strings);
        let text = |index: usize| unescaped(body, &strings[index]);
        let keys = &mut self.keys[from..];
        let double = if keys.len() <= PAIRS_MAX {
            let same = |place: usize, key: usize| {
                keys[..place].iter().any(|other| text(*other) == text(key))
            };
            keys.iter().enumerate().find(|(place, key)| same(*place, **key)).map(|(_, key)| *key)
        } else {
            keys.sort_by(|a, b| text(*a).cmp(text(*b)).then(a.cmp(b)));
            keys.windows(2).find(|pair| text(pair[0]) == text(pair[1])).map(|pair| pair[1])
        };
        match double {
            Some(key) => Err(WireError::DuplicateKey { at: strings[key].span.start }),
            None => Ok(()),
        }
    }

    fn number(&mut self) -> Result<(), WireError> {
        let index = self.open(Kind::Number)?;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        self.close(index);
        Ok(())
    }

    fn digits(&mut self) -> Result<(), WireError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.fault("a digit must stand here"));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), WireError> {
        let index = self.open(Kind::String(self.strings.len()))?;
        let start = self.at;
        self.at += 1;
        let text = self.string_rest()?;
        self.strings.push(Unescaped { span: start..self.at, text });
        self.close(index);
        Ok(())
    }

    /// Reads behind the opening quote up to and with the closing one; the text, where escapes
    /// make it differ from the bytes.
    fn string_rest(&mut self) -> Result<Option<Box<str>>, WireError> {
        let mut text: Option<String> = None;
        let mut plain_from = self.at;
        loop {
            self.at += plain_length(&self.body[self.at..]);
            let Some(stop) = self.peek() else {
                return Err(self.fault("the text that should go on here never ends"));
            };
            match stop {
                b'\\' => {
                    let text = text.get_or_insert_default();
                    text.push_str(self.plain(plain_from));
                    text.push(self.escape()?);
                    plain_from = self.at;
                }
                b'"' => {
                    if let Some(text) = &mut text {
                        text.push_str(self.plain(plain_from));
                    }
                    self.at += 1;
                    return Ok(text.map(String::into_boxed_str));
                }
                _ => return Err(self.fault("control characters must be escaped")),
            }
        }
    }

    /// The bytes from `from` to here, which hold no escape.
    fn plain(&self, from: usize) -> &str {
        std::str::from_utf8(&self.body[from..self.at])
            .expect("the body was checked as UTF-8 and both ends stand at ASCII bytes")
    }

    /// One escape sequence, at the backslash.
    fn escape(&mut self) -> Result<char, WireError> {
        self.at += 1;
        let plain = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(self.fault("this is no escape sequence")),
        };
        self.at += 1;
        Ok(plain)
    }

    /// `\uXXXX`, or a pair of them for what lies beyond 16 bits; stands at the `u`.
    fn unicode_escape(&mut self) -> Result<char, WireError> {
        let lone = self.fault("a surrogate stands alone");
        let high = self.four_hex()?;
        if let Some(plain) = char::from_u32(high) {
            return Ok(plain);
        }
        let behind = self.at;
        if high < 0xdc00 && self.body[behind..].starts_with(b"\\u") {
            self.at += 1;
            let low = self.four_hex()?;
            if (0xdc00..0xe000).contains(&low) {
                let pair = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return char::from_u32(pair).ok_or(lone);
            }
        }
        match self.reading {
            Reading::Strict => Err(lone),
            Reading::Lenient => {
                self.at = behind;
                Ok(char::REPLACEMENT_CHARACTER)
            }
        }
    }

    /// The four hexadecimal digits behind the `u`.
    fn four_hex(&mut self) -> Result<u32, WireError> {
        let mut number = 0;
        for _ in 0..4 {
            self.at += 1;
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.fault("four hexadecimal digits must stand here"));
            };
            number = number * 16 + digit;
        }
        self.at += 1;
        Ok(number)
    }
}
