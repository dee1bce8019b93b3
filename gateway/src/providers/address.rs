//! Addresses of upstreams: resolved in the background, and refused where no provider may live.
//!
//! The rules hold twice: when a name is resolved, and again when a connection is made. Knows
//! names and addresses; not calls.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::{
    catalog::{Remote, is_forbidden},
    providers::head::bare_host,
};

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

/// The addresses at which an upstream may be reached now, in the resolver's order.
pub(crate) fn allowed(remote: &Remote) -> Vec<SocketAddr> {
    let addresses = remote.addresses.load();
    addresses.iter().copied().filter(|address| is_allowed(remote, *address)).collect()
}

/// Whether `remote` may live at `address`. `localhost` is this machine whatever a resolver says
/// (RFC 6761, 6.3): a call to it may be sent in the clear.
fn is_allowed(remote: &Remote, address: SocketAddr) -> bool {
    let elsewhere = remote.host == "localhost" && !address.ip().is_loopback();
    !elsewhere && !is_forbidden(address.ip())
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
    #[error(
        "every address is link-local, multicast, unspecified or a metadata service, or is not \
             the loopback that `localhost` means"
    )]
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
    let mut allowed: Vec<_> =
        found.into_iter().filter(|found| is_allowed(remote, *found)).collect();
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

    #[test]
    fn localhost_is_this_machine_whatever_a_resolver_says() {
        let remote = remote("localhost");
        let (own, other) = ("[::1]:80".parse().unwrap(), "192.0.2.7:80".parse().unwrap());
        remote.addresses.store(Arc::new(vec![other, own]));
        assert_eq!(allowed(&remote), vec![own]);
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
