//! Server-sent events (WHATWG HTML, section 9.2): a byte-wise reader with a limit.
//!
//! Gives each event twice: its raw bytes, line ends and comments included, for forwarding byte
//! by byte; and its data. The raw bytes of all events, one behind another, are the stream.
//! Line ends may be CRLF, LF or CR, mixed; a byte-order mark is skipped; a stream that ends
//! without its last blank line still gives its last event.

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

/// A byte-order mark, allowed at the very start of a stream.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One event: what stands between two blank lines.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// Every byte, the ending blank line included.
    pub raw: Bytes,
    /// The joined `data` lines; `None` where there are none, as with comments.
    pub data: Option<Bytes>,
    /// The `event` field, where it is given.
    pub name: Option<Bytes>,
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    #[error("an event of the upstream's stream is longer than {max} bytes")]
    TooLarge { max: usize },
}

/// Reads events from pieces of a stream.
pub struct Reader {
    buffer: BytesMut,
    event_bytes_max: usize,
    /// Up to here the buffer was searched for line ends.
    searched: usize,
    /// Start of the line that is not complete.
    line: usize,
    /// Spans of the `data` values of the event that is not complete.
    data: Vec<std::ops::Range<usize>>,
    name: Option<std::ops::Range<usize>>,
    /// Whether no line of the stream was read yet.
    first: bool,
    /// The last byte taken was a CR: an LF next belongs to it.
    after_cr: bool,
}

// === impl Reader ===

impl Reader {
    /// A reader that refuses events of more than `event_bytes_max` bytes.
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            event_bytes_max,
            searched: 0,
            line: 0,
            data: Vec::new(),
            name: None,
            first: true,
            after_cr: false,
        }
    }

    /// Takes the next piece of the stream; its events come from [`Reader::next_event`].
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next complete event; `None` until more bytes are pushed.
    pub fn next_event(&mut self) -> Result<Option<Event>, SseError> {
        while let Some(end) = self.line_end() {
            let line = self.line..end;
            let after = self.after_line(end);
            self.after_cr = self.buffer[after - 1] == b'\r';
            if after > self.event_bytes_max {
                return Err(SseError::TooLarge { max: self.event_bytes_max });
            }
            let blank = line.is_empty();
            self.field(line);
            self.line = after;
            self.searched = after;
            if blank {
                return Ok(Some(self.cut(after)));
            }
        }
        if self.buffer.len() > self.event_bytes_max {
            return Err(SseError::TooLarge { max: self.event_bytes_max });
        }
        Ok(None)
    }

    /// What is left at the end of the stream: the last event, if its blank line is missing.
    pub fn finish(&mut self) -> Option<Event> {
        if self.buffer.is_empty() {
            return None;
        }
        let end = self.buffer.len();
        self.field(self.line..end);
        Some(self.cut(end))
    }

    /// The place of the next line's end, CR or LF, if it has come.
    fn line_end(&mut self) -> Option<usize> {
        if self.after_cr && self.buffer.get(self.line) == Some(&b'\n') {
            self.line += 1;
            self.searched = self.line;
            self.after_cr = false;
        }
        let rest = &self.buffer[self.searched..];
        match memchr2(b'\n', b'\r', rest) {
            Some(offset) => Some(self.searched + offset),
            None => {
                self.searched = self.buffer.len();
                None
            }
        }
    }

    /// The first place behind the line end at `end`. An LF that has not come yet is skipped
    /// when it comes, so that no event waits for it.
    fn after_line(&self, end: usize) -> usize {
        let pair = self.buffer[end] == b'\r' && self.buffer.get(end + 1) == Some(&b'\n');
        if pair { end + 2 } else { end + 1 }
    }

    /// Notes what one line without its end says.
    fn field(&mut self, mut line: std::ops::Range<usize>) {
        if std::mem::take(&mut self.first) && self.buffer[line.clone()].starts_with(BYTE_ORDER_MARK)
        {
            line.start += BYTE_ORDER_MARK.len();
        }
        let bytes = &self.buffer[line.clone()];
        let colon = bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len());
        let mut value = line.start + (colon + 1).min(bytes.len())..line.end;
        if self.buffer.get(value.start) == Some(&b' ') && !value.is_empty() {
            value.start += 1;
        }
        match &bytes[..colon] {
            b"data" => self.data.push(value),
            b"event" => self.name = Some(value),
            // Comments, `id`, `retry` and what is not known: forwarded, not read.
            _ => {}
        }
    }

    /// Cuts the event that ends at `end` from the buffer.
    fn cut(&mut self, end: usize) -> Event {
        let raw = self.buffer.split_to(end).freeze();
        let data = match self.data.as_slice() {
            [] => None,
            [one] => Some(raw.slice(one.clone())),
            many => {
                let lines: Vec<&[u8]> = many.iter().map(|span| &raw[span.clone()]).collect();
                Some(lines.join(&b'\n').into())
            }
        };
        self.data.clear();
        let name = self.name.take().map(|span| raw.slice(span));
        self.line = 0;
        self.searched = 0;
        Event { raw, data, name }
    }
}

impl std::fmt::Debug for Reader {
    /// Counts alone: the buffer holds part of an answer.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Reader")
            .field("buffered", &self.buffer.len())
            .field("event_bytes_max", &self.event_bytes_max)
            .finish_non_exhaustive()
    }
}

// === impl Event ===

impl std::fmt::Debug for Event {
    /// Lengths alone: the data is part of an answer.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Event")
            .field("raw_bytes", &self.raw.len())
            .field("data_bytes", &self.data.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
