//! Which requests are heard at all: addressed to us, and of a kind that no web page can send.
//!
//! A page that a browser shows may send forms to loopback and may point its own name at it
//! (DNS rebinding). Neither can name one of our hosts and send JSON with a key.

use std::net::SocketAddr;

use http::{
    HeaderMap, Method,
    header::{CONTENT_TYPE, HOST},
};

use crate::listener::Settings;

/// The names by which the administration may be addressed.
#[derive(Debug)]
pub(crate) struct Guard {
    hosts: Vec<String>,
}

/// Why a request is not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotHeard {
    #[error(
        "this is no host of ours: use `127.0.0.1` or `localhost` with the port, or add the name \
         to `listeners.admin_hosts`"
    )]
    Host,
    #[error("send `Content-Type: application/json`")]
    ContentType,
}

const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

impl Guard {
    pub(crate) fn new(settings: &Settings, address: SocketAddr) -> Self {
        let port = address.port();
        let own = address.to_string();
        let mut hosts: Vec<String> =
            LOOPBACK.iter().map(|name| format!("{name}:{port}")).chain([own]).collect();
        for name in &settings.admin_hosts {
            let name = name.to_ascii_lowercase();
            hosts.push(format!("{name}:{port}"));
            hosts.push(name);
        }
        Self { hosts }
    }

    /// Checks a request that needs a key.
    pub(crate) fn hear(&self, method: &Method, headers: &HeaderMap) -> Result<(), NotHeard> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !self.hosts.contains(&host.to_ascii_lowercase()) {
            return Err(NotHeard::Host);
        }
        if method == Method::POST && !is_json(headers) {
            return Err(NotHeard::ContentType);
        }
        Ok(())
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let named = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = named.and_then(|value| value.split(';').next()).unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_hosts_and_json_are_heard() {
        let settings =
            Settings { admin_hosts: vec!["Cordon.Example".to_owned()], ..Settings::default() };
        let guard = Guard::new(&settings, "10.0.0.7:8081".parse().unwrap());
        let cases = [
            ("localhost:8081", "application/json", Ok(())),
            ("LOCALHOST:8081", "Application/JSON; charset=utf-8", Ok(())),
            ("[::1]:8081", "application/json", Ok(())),
            ("10.0.0.7:8081", "application/json", Ok(())),
            ("cordon.example", "application/json", Ok(())),
            ("cordon.example:8081", "application/json", Ok(())),
            ("cordon.example:8082", "application/json", Err(NotHeard::Host)),
            ("localhost", "application/json", Err(NotHeard::Host)),
            ("evil.example:8081", "application/json", Err(NotHeard::Host)),
            ("localhost.evil.example:8081", "application/json", Err(NotHeard::Host)),
            ("", "application/json", Err(NotHeard::Host)),
            ("localhost:8081", "text/plain", Err(NotHeard::ContentType)),
            ("localhost:8081", "application/jsonp", Err(NotHeard::ContentType)),
            ("localhost:8081", "", Err(NotHeard::ContentType)),
        ];
        for (host, kind, heard) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            headers.insert(CONTENT_TYPE, kind.parse().unwrap());
            assert_eq!(guard.hear(&Method::POST, &headers), heard, "{host} {kind}");
        }
    }
}
