//! Checks an upstream's address: what it names, and that nobody between can read the calls.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::Uri;

use crate::catalog::egress::is_forbidden;

/// An address taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) base_path: String,
    /// Where it is known without asking anybody: numbers and `localhost`.
    pub(super) known: Vec<SocketAddr>,
}

/// Why an address was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("`{url}` is no address: write it like `https://ai.example.org/v1`")]
    Form { url: String },
    #[error("an address carries no user name or password: give the key by `key = {{ env = … }}`")]
    UserInfo,
    #[error("an address ends with its path: remove what follows `?` or `#`")]
    Query,
    #[error("`{scheme}://` is not spoken: use `https://`")]
    Scheme { scheme: String },
    #[error(
        "`http://{host}` would send every call in the clear: use `https://`, \
         or say `plaintext = true` if the network between is yours alone"
    )]
    Plaintext { host: String },
    #[error("`https://{host}` names no one whose certificate could be verified: use a name")]
    Unnamed { host: String },
    #[error("`{host}` is a link-local, metadata or unusable address: no model answers there")]
    Forbidden { host: String },
}

/// Takes `url` apart and checks it; `plaintext`: the operator allows `http://` to anywhere.
pub(super) fn place(url: &str, plaintext: bool) -> Result<Place, UrlError> {
    let form = || UrlError::Form { url: url.to_owned() };
    // The user's part of an address may hold a password: it is refused before it is repeated.
    if url.split('/').nth(2).is_some_and(|authority| authority.contains('@')) {
        return Err(UrlError::UserInfo);
    }
    if url.contains(['?', '#']) {
        return Err(UrlError::Query);
    }
    let uri: Uri = url.parse().map_err(|_fault| form())?;
    let scheme = uri.scheme_str().ok_or_else(form)?;
    let tls = match scheme {
        "https" => true,
        "http" => false,
        _ => return Err(UrlError::Scheme { scheme: scheme.to_owned() }),
    };
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(form)?.to_lowercase();
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let addresses = numbers(&host);
    check(&host, &addresses, tls || plaintext)?;
    if tls && is_number(&host) {
        return Err(UrlError::Unnamed { host });
    }
    let known = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
    let base_path = uri.path().trim_end_matches('/').to_owned();
    Ok(Place { tls, host: bare(&host).to_owned(), port, base_path, known })
}

fn check(host: &str, addresses: &[IpAddr], covered: bool) -> Result<(), UrlError> {
    if addresses.iter().copied().any(is_forbidden) {
        return Err(UrlError::Forbidden { host: host.to_owned() });
    }
    let loopback = !addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback);
    if !loopback && !covered {
        return Err(UrlError::Plaintext { host: host.to_owned() });
    }
    let labels = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if !is_number(host) && !host.chars().all(labels) {
        return Err(UrlError::Form { url: host.to_owned() });
    }
    Ok(())
}

fn is_number(host: &str) -> bool {
    bare(host).parse::<IpAddr>().is_ok()
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The addresses that a host says itself. `localhost` is loopback everywhere (RFC 6761 6.3).
fn numbers(host: &str) -> Vec<IpAddr> {
    if host == "localhost" {
        return vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    }
    bare(host).parse().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (url, tls, host, port, base_path, known) in [
            ("https://ai.example.fr/v1", true, "ai.example.fr", 443, "/v1", 0),
            ("https://AI.example.fr:8443/a/b/", true, "ai.example.fr", 8443, "/a/b", 0),
            ("http://127.0.0.1:9/v1", false, "127.0.0.1", 9, "/v1", 1),
            ("http://[::1]:9", false, "::1", 9, "", 1),
            ("http://localhost:11434/v1", false, "localhost", 11434, "/v1", 2),
        ] {
            let place = place(url, false).unwrap();
            assert_eq!(
                (place.tls, place.host.as_str(), place.port, place.base_path.as_str()),
                (tls, host, port, base_path),
                "{url}"
            );
            assert_eq!(place.known.len(), known, "{url}");
        }
    }

    #[test]
    fn what_is_unsafe_or_unclear_is_refused_with_advice() {
        for (url, advice) in [
            ("http://ai.example.fr/v1", "say `plaintext = true`"),
            ("http://10.0.0.7/v1", "say `plaintext = true`"),
            ("https://10.0.0.7/v1", "use a name"),
            ("https://user:geheim@ai.example.fr", "no user name or password"),
            ("https://ai.example.fr/v1?key=geheim", "remove what follows"),
            ("https://ai.example.fr/v1#x", "remove what follows"),
            ("ftp://ai.example.fr", "use `https://`"),
            ("ai.example.fr", "write it like"),
            ("https://", "write it like"),
            ("https://ex%41mple.org", "write it like"),
            ("http://169.254.169.254/v1", "link-local"),
            ("http://[fe80::1]/v1", "link-local"),
            ("http://[::ffff:169.254.169.254]/v1", "link-local"),
            ("http://0.0.0.0:80/v1", "unusable"),
            ("http://100.100.100.200/v1", "metadata"),
        ] {
            let refusal = place(url, false).unwrap_err().to_string();
            assert!(refusal.contains(advice), "{url}: {refusal}");
            assert!(!refusal.contains("geheim"), "{refusal}");
        }
    }

    #[test]
    fn plaintext_is_the_operators_word() {
        let place = place("http://10.0.0.7:8000/v1", true).unwrap();
        assert_eq!((place.tls, place.known.len()), (false, 1));
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_check_and_what_passes_is_covered(
            scheme in "https?", rest in "[a-z0-9.:/@?#\\[\\]%-]{0,40}"
        ) {
            if let Ok(place) = place(&format!("{scheme}://{rest}"), false) {
                let loopback = place.known.iter().all(|address| address.ip().is_loopback());
                let named = place.host.parse::<IpAddr>().is_err();
                assert!(if place.tls { named } else { loopback && !place.known.is_empty() });
            }
        }
    }
}
