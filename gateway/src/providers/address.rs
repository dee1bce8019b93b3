//! Addresses of upstreams: resolved in the background, and refused where they lead to a machine's
//! own surroundings instead of a provider.
//!
//! The rules hold twice: when a name is resolved, and again when a connection is made. Knows
//! names and addresses; not calls.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::{catalog::Remote, providers::head::bare_host};

/// How often a name is resolved again.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);
/// How soon a name is asked for again that has never been resolved.
const RESOLVE_AGAIN: Duration = Duration::from_secs(2);
/// How long one look-up may take.
const LOOKUP_MAX: Duration = Duration::from_secs(5);
/// Look-ups at once: each holds a blocking thread.
const LOOKUPS_AT_ONCE: usize = 8;
/// Addresses kept per name.
const ADDRESSES_MAX: usize = 16;

/// Addresses at which clouds serve credentials to whoever asks, beside the link-local ones.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254),
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254),
    Ipv6Addr::new(0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x0042),
];

/// Whether no upstream may live there: unspecified, link-local, multicast, broadcast, or a
/// cloud's metadata service; also where such an IPv4 address is wrapped in an IPv6 one.
pub fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_forbidden_v4(address),
        IpAddr::V6(address) => is_forbidden_v6(address),
    }
}

fn is_forbidden_v4(address: Ipv4Addr) -> bool {
    address.octets()[0] == 0
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || METADATA_V4.contains(&address)
}

fn is_forbidden_v6(address: Ipv6Addr) -> bool {
    address.is_unspecified()
        || address.is_unicast_link_local()
        || address.is_multicast()
        || METADATA_V6.contains(&address)
        || wrapped_v4(address).is_some_and(is_forbidden_v4)
}

/// The IPv4 address that an IPv6 one stands for: mapped and compatible (RFC 4291), NAT64
/// (RFC 6052), 6to4 (RFC 3056).
fn wrapped_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let whole = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match whole {
        [0, 0, 0, 0, 0, 0, 0, 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => Some(join(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

/// The addresses at which an upstream may be reached now, in the resolver's order.
pub(crate) fn allowed(remote: &Remote) -> Vec<SocketAddr> {
    let addresses = remote.addresses.load();
    addresses.iter().copied().filter(|address| !is_forbidden(address.ip())).collect()
}

/// Resolves every name once, at the start. Names without an answer keep what they had.
pub async fn resolve_once(remotes: &[Remote]) {
    let lookups = remotes.iter().map(refresh);
    futures::stream::iter(lookups).buffer_unordered(LOOKUPS_AT_ONCE).collect::<()>().await;
}

/// Keeps the addresses of all `remotes` fresh until `stop` is ready.
pub async fn resolve(remotes: Vec<Remote>, stop: impl Future<Output = ()>) {
    let looking_up = async {
        loop {
            resolve_once(&remotes).await;
            let missing = remotes.iter().any(|remote| remote.addresses.load().is_empty());
            sleep(if missing { RESOLVE_AGAIN } else { RESOLVE_EVERY }).await;
        }
    };
    tokio::select! {
        biased;
        () = stop => {}
        () = looking_up => {}
    }
}

/// Looks a name up and stores what is allowed; the last good answer outlives a bad one.
async fn refresh(remote: &Remote) {
    match lookup(remote).await {
        Ok(found) => {
            let before = remote.addresses.load();
            if **before != found {
                info!(host = %remote.host, addresses = found.len(), "addresses of an upstream");
                remote.addresses.store(Arc::new(found));
            }
        }
        Err(error) => warn!(host = %remote.host, "an upstream's name has no address: {error}"),
    }
}

/// Why a name leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    #[error("the name was not found: {0}")]
    NotFound(String),
    #[error("no answer within {} s", LOOKUP_MAX.as_secs())]
    TooSlow,
    #[error("every address is link-local, multicast, unspecified or a metadata service")]
    Forbidden,
}

/// Asks the system's resolver for the addresses of `remote` and keeps the allowed ones.
pub(crate) async fn lookup(remote: &Remote) -> Result<Vec<SocketAddr>, LookupError> {
    let asked = tokio::net::lookup_host((bare_host(&remote.host), remote.port));
    let found = match timeout(LOOKUP_MAX, asked).await {
        Ok(Ok(found)) => found.collect::<Vec<_>>(),
        Ok(Err(error)) => return Err(LookupError::NotFound(error.to_string())),
        Err(_elapsed) => return Err(LookupError::TooSlow),
    };
    let mut allowed: Vec<_> = found.into_iter().filter(|found| !is_forbidden(found.ip())).collect();
    allowed.truncate(ADDRESSES_MAX);
    if allowed.is_empty() { Err(LookupError::Forbidden) } else { Ok(allowed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(host: &str) -> Remote {
        Remote {
            tls: false,
            host: host.to_owned(),
            port: 80,
            base_path: "/v1".to_owned(),
            key: None,
            trust_roots: None,
            addresses: Arc::default(),
        }
    }

    #[test]
    fn addresses_around_the_machine_are_refused() {
        for forbidden in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(is_forbidden(forbidden.parse().unwrap()), "{forbidden}");
        }
    }

    #[test]
    fn addresses_of_providers_and_of_private_networks_are_not() {
        for allowed in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.1.1",
            "8.8.8.8",
            "::1",
            "2606:4700::1111",
            "fd12::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_forbidden(allowed.parse().unwrap()), "{allowed}");
        }
    }

    #[tokio::test]
    async fn a_forbidden_answer_leaves_the_last_good_one() {
        let remote = remote("169.254.169.254");
        let good: SocketAddr = "192.0.2.7:80".parse().unwrap();
        remote.addresses.store(Arc::new(vec![good]));
        resolve_once(std::slice::from_ref(&remote)).await;
        assert_eq!(**remote.addresses.load(), vec![good]);
        assert_eq!(lookup(&remote).await, Err(LookupError::Forbidden));
    }

    #[tokio::test]
    async fn an_address_that_turned_forbidden_is_not_connected_to() {
        let remote = remote("example.org");
        let (bad, good) = ("169.254.169.254:80".parse().unwrap(), "192.0.2.7:80".parse().unwrap());
        remote.addresses.store(Arc::new(vec![bad, good]));
        assert_eq!(allowed(&remote), vec![good]);
    }

    #[tokio::test]
    async fn the_resolver_ends_when_it_is_told_to_whatever_it_waits_for() {
        let remote = remote("127.0.0.1");
        resolve(vec![remote.clone()], async {}).await;
        assert_eq!(**remote.addresses.load(), vec![], "the order came before the first answer");
        resolve_once(std::slice::from_ref(&remote)).await;
        assert_eq!(**remote.addresses.load(), vec!["127.0.0.1:80".parse().unwrap()]);
    }

    #[tokio::test]
    async fn bracketed_addresses_resolve_to_themselves() {
        let found = lookup(&remote("[::1]")).await;
        assert_eq!(found, Ok(vec!["[::1]:80".parse().unwrap()]));
    }
}
