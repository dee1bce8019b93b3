//! A client of plain sockets: one request, one answer, nothing hidden.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// The longest a test waits for a byte.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An answer as it came over the wire.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body ended as its framing promised.
    pub complete: bool,
}

impl Reply {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(each, _)| each == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `Null` where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// `error.code` of a refusal.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// `x-cordon-call-id`.
    pub fn call_id(&self) -> String {
        self.header("x-cordon-call-id").unwrap_or_default().to_owned()
    }

    /// The text of a completion or of a stream of chunks.
    pub fn content(&self) -> String {
        if self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
            let deltas = self.events().into_iter().filter_map(|event| {
                let event: Value = serde_json::from_str(&event).ok()?;
                Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned())
            });
            return deltas.collect();
        }
        self.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
    }

    /// The data of each event of a stream.
    pub fn events(&self) -> Vec<String> {
        let text = self.text();
        let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
        events.map(str::to_owned).collect()
    }
}

/// A request to send; headers as given, the body with its length.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// A chat completion with `key`.
    pub fn chat(key: &str, body: &Value) -> Self {
        Self::post("/v1/chat/completions", key, body.to_string().into_bytes())
    }

    /// A POST of JSON with `key`.
    pub fn post(path: &str, key: &str, body: Vec<u8>) -> Self {
        let headers = vec![
            ("authorization".to_owned(), format!("Bearer {key}")),
            ("content-type".to_owned(), "application/json".to_owned()),
        ];
        Self { method: "POST", path: path.to_owned(), headers, body }
    }

    /// A GET with `key`.
    pub fn get(path: &str, key: &str) -> Self {
        Self { method: "GET", body: Vec::new(), ..Self::post(path, key, Vec::new()) }
    }

    /// The same request with one more header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The request's bytes, asking to close the connection afterwards.
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: localhost\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n", self.body.len()));
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// Sends `request` to `address` and reads the whole answer.
pub fn send(address: SocketAddr, request: &Request) -> io::Result<Reply> {
    let mut stream = connect(address)?;
    stream.write_all(&request.bytes())?;
    read_reply(stream)
}

/// A connection with the test's patience.
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads one answer up to the end of the connection.
pub fn read_reply(mut stream: impl Read) -> io::Result<Reply> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse_reply(&bytes).ok_or_else(|| {
        let seen = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        io::Error::new(io::ErrorKind::UnexpectedEof, format!("no whole head in `{seen}`"))
    })
}

fn parse_reply(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    if (100..200).contains(&status) {
        return parse_reply(&bytes[end + 4..]);
    }
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = &bytes[end + 4..];
    let find = |name: &str| headers.iter().find(|(each, _)| each == name).map(|(_, value)| value);
    let (body, complete) = if find("transfer-encoding").is_some_and(|value| value == "chunked") {
        dechunk(rest)
    } else {
        let length = find("content-length").and_then(|value| value.parse().ok());
        (rest.to_vec(), length.is_none_or(|length: usize| rest.len() == length))
    };
    Some(Reply { status, headers, body, complete })
}

fn dechunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|window| window == b"\r\n") else {
            return (body, false);
        };
        let size = std::str::from_utf8(&rest[..end]).ok();
        let Some(size) = size.and_then(|size| usize::from_str_radix(size, 16).ok()) else {
            return (body, false);
        };
        rest = &rest[end + 2..];
        if size == 0 {
            return (body, true);
        }
        if rest.len() < size + 2 {
            body.extend_from_slice(&rest[..rest.len().min(size)]);
            return (body, false);
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}
