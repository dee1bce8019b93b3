//! One connection of HTTP/1.1, as the bench needs it: a head, then a body of known framing.

use std::io;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// Longest line of a head or of a chunk's size.
const LINE_BYTES_MAX: u64 = 8 * 1024;
/// Lines of a head.
const LINES_MAX: usize = 100;
/// Longest body.
const BODY_BYTES_MAX: usize = 4 << 20;

/// A connection with what was read ahead.
#[derive(Debug)]
pub struct Link {
    stream: BufReader<TcpStream>,
    line: Vec<u8>,
}

/// What a head says that matters here.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Head {
    /// The second word of the first line: an answer's status, a request's path.
    pub word: String,
    pub framing: Framing,
    /// Whether the other side closes after this message.
    pub closes: bool,
}

/// How a body ends.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    #[default]
    Empty,
    Length(usize),
    Chunked,
}

impl Link {
    /// Takes a connection over; small writes leave at once.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(64 * 1024, stream), line: Vec::new() })
    }

    /// Writes all bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads a head; `None` where the other side closed between two messages.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        if self.read_line().await? == 0 {
            return Ok(None);
        }
        let mut head = Head { word: second_word(&self.line), ..Head::default() };
        for _ in 0..LINES_MAX {
            if self.read_line().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if self.line == b"\r\n" {
                return Ok(Some(head));
            }
            head.note(&self.line)?;
        }
        Err(malformed("a head without an end"))
    }

    /// Reads a body into `body`, which is emptied first.
    pub async fn body(&mut self, framing: Framing, body: &mut Vec<u8>) -> io::Result<()> {
        body.clear();
        match framing {
            Framing::Empty => Ok(()),
            Framing::Length(length) => self.read_exactly(length, body).await,
            Framing::Chunked => loop {
                self.read_line().await?;
                let size = chunk_size(&self.line).ok_or_else(|| malformed("a bad chunk"))?;
                self.read_exactly(size, body).await?;
                self.read_line().await?;
                if size == 0 {
                    return Ok(());
                }
            },
        }
    }

    async fn read_line(&mut self) -> io::Result<usize> {
        self.line.clear();
        let mut limited = (&mut self.stream).take(LINE_BYTES_MAX);
        limited.read_until(b'\n', &mut self.line).await
    }

    async fn read_exactly(&mut self, length: usize, body: &mut Vec<u8>) -> io::Result<()> {
        let start = body.len();
        if start + length > BODY_BYTES_MAX {
            return Err(malformed("a body that is too long"));
        }
        body.resize(start + length, 0);
        self.stream.read_exact(&mut body[start..]).await.map(drop)
    }
}

impl Head {
    fn note(&mut self, line: &[u8]) -> io::Result<()> {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Err(malformed("a header without a colon"));
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = str::from_utf8(value).ok().and_then(|value| value.parse().ok());
            self.framing = Framing::Length(length.ok_or_else(|| malformed("a bad length"))?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case(b"connection") {
            self.closes = value.eq_ignore_ascii_case(b"close");
        }
        Ok(())
    }
}

fn second_word(line: &[u8]) -> String {
    let word = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    String::from_utf8_lossy(word.trim_ascii()).into_owned()
}

fn chunk_size(line: &[u8]) -> Option<usize> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What a link reads when the other side writes `bytes` and closes.
    async fn read(bytes: &'static [u8]) -> io::Result<Option<(Head, Vec<u8>)>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut writer = TcpStream::connect(listener.local_addr()?).await?;
        let (stream, _) = listener.accept().await?;
        writer.write_all(bytes).await?;
        drop(writer);
        let mut link = Link::new(stream)?;
        let Some(head) = link.head().await? else { return Ok(None) };
        let mut body = Vec::new();
        link.body(head.framing, &mut body).await?;
        Ok(Some((head, body)))
    }

    #[tokio::test]
    async fn both_framings_are_read_and_broken_ones_are_errors() {
        let answer = read(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").await.unwrap();
        let (head, body) = answer.unwrap();
        assert_eq!((head.word.as_str(), body.as_slice()), ("200", &b"abc"[..]));
        let chunked =
            b"POST /v1 HTTP/1.1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
            2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n";
        let (head, body) = read(chunked).await.unwrap().unwrap();
        assert_eq!((head.word.as_str(), head.closes, body.as_slice()), ("/v1", true, &b"abc"[..]));
        assert!(read(b"").await.unwrap().is_none());
        for broken in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-le",
        ] {
            assert!(read(broken).await.is_err(), "{}", String::from_utf8_lossy(broken));
        }
    }
}
