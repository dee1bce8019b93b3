//! What is measured: the gateways with their configurations, and the calls.

use std::{net::SocketAddr, path::Path};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// One gateway as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    Nginx,
    /// Nothing but the organisation's own rules, of which there are none; the ledger's thread is
    /// not counted.
    PermitAll,
    /// The decision is remembered; the ledger is there, as always, but in memory.
    Remembered,
    /// No decision is remembered, so that each call is evaluated anew.
    NotRemembered,
    /// As operators run it: the ledger on a disk.
    Durable,
    /// The end of an answer, too, waits for the disk.
    DurableFull,
}

/// One kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// Of one request's body.
    pub bytes: usize,
    pub stream: bool,
    /// Calls per second; `None`: as many as there are answers, or as the upstream's pauses allow.
    pub pace: Option<u32>,
}

/// A pace that every gateway keeps up with, so that all of them are measured under the same load
/// and no core is full.
const PACE: u32 = 1_000;
/// Connections, where each call is answered at once.
const CONNECTIONS: usize = 16;
/// Streams at once. With few of them the client sleeps between two events, and what the machine
/// needs to wake it counts as the gateway's.
const STREAMS: usize = 64;

/// Where things of one start lie and listen.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub folder: &'a Path,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub upstream: SocketAddr,
}

/// All of them; nginx first, the others by what is added.
pub const SUBJECTS: [Subject; 6] = [
    Subject::Nginx,
    Subject::PermitAll,
    Subject::Remembered,
    Subject::NotRemembered,
    Subject::Durable,
    Subject::DurableFull,
];

/// All of them.
pub const CALLS: [Calls; 5] = [
    Calls { bytes: 1_024, stream: false, pace: Some(PACE) },
    CLOSED_LOOP,
    Calls { bytes: 32 * 1_024, stream: false, pace: Some(PACE) },
    SHORT_STREAM,
    Calls { bytes: 32 * 1_024, stream: true, pace: None },
];

/// Short calls, one behind another.
pub const CLOSED_LOOP: Calls = Calls { bytes: 1_024, stream: false, pace: None };
/// Streams of short calls.
pub const SHORT_STREAM: Calls = Calls { bytes: 1_024, stream: true, pace: None };

// === impl Subject ===

impl Subject {
    /// What the row is called: what is there, not what it stands for.
    pub fn title(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::PermitAll => "permit-all, the ledger's thread not counted",
            Self::Remembered => "policy remembered, ledger in memory (/dev/shm)",
            Self::NotRemembered => "policy not remembered, ledger in memory (/dev/shm)",
            Self::Durable => "all on, durable (disk)",
            Self::DurableFull => "all on, `required_full`, durable (disk)",
        }
    }

    /// Whether its ledger lies on a disk.
    pub fn is_durable(self) -> bool {
        match self {
            Self::Durable | Self::DurableFull => true,
            Self::Nginx | Self::PermitAll | Self::Remembered | Self::NotRemembered => false,
        }
    }

    /// Whether what the ledger's thread uses is part of the number.
    pub fn counts_the_ledger(self) -> bool {
        self != Self::PermitAll
    }

    /// Whether each call must differ from its neighbours in what policy sees.
    pub fn calls_differ(self) -> bool {
        self == Self::NotRemembered
    }

    /// Names its configuration: SHA-256 of the text, but for addresses and folders.
    pub fn digest(self) -> String {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let folder = Path::new("folder");
        let place = Place { folder, listen: nowhere, admin: nowhere, upstream: nowhere };
        hex::encode(Sha256::digest(self.configuration(&place)))
    }

    /// The text of its configuration.
    pub fn configuration(self, place: &Place<'_>) -> String {
        let all = r#""org", "gdpr", "us-ear", "itar", "markings""#;
        let (mode, packs, remembered) = match self {
            Self::Nginx => return nginx(place),
            Self::PermitAll => ("required", r#""org""#, 10_000),
            Self::Remembered | Self::Durable => ("required", all, 10_000),
            Self::NotRemembered => ("required", all, 1),
            Self::DurableFull => ("required_full", all, 10_000),
        };
        cordon(place, mode, packs, remembered)
    }
}

// === impl Calls ===

impl Calls {
    /// How many are under way at once.
    pub fn at_once(self) -> usize {
        if self.stream { STREAMS } else { CONNECTIONS }
    }

    /// Whether the load stays below what the machine could do, whichever gateway is measured.
    pub fn is_paced(self) -> bool {
        self.stream || self.pace.is_some()
    }

    /// `1 KB JSON, 1000/s`.
    pub fn title(self) -> String {
        let size = self.bytes / 1_024;
        match (self.stream, self.pace) {
            (true, _) => format!("{size} KB SSE"),
            (false, Some(pace)) => format!("{size} KB JSON, {pace}/s"),
            (false, None) => format!("{size} KB JSON, closed loop"),
        }
    }
}

fn cordon(place: &Place<'_>, mode: &str, packs: &str, remembered: usize) -> String {
    let Place { listen, admin, upstream, .. } = place;
    format!(
        r#"[listeners]
ai = "{listen}"
admin = "{admin}"

[organisation]
name = "Bench"
headquarters = "DE"
region = "DE"

[policy]
packs = [{packs}]
memo_entries_max = {remembered}

[ledger]
mode = "{mode}"

[collector]
start = false

[upstreams.provider]
format = "openai"
url = "http://{upstream}/v1"
provider_headquarters = "DE"
region = "DE"

[upstreams.provider.models.m]
origin = "DE"
open_weights = true

[routes.assistant]
targets = ["provider/m"]
"#
    )
}

/// One process, connections kept on both sides, nothing written to disk, nothing buffered.
fn nginx(place: &Place<'_>) -> String {
    let Place { listen, upstream, .. } = place;
    let folder = place.folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|module| format!("    {module}_temp_path {folder}/{module};\n"))
        .collect();
    format!(
        r#"daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
{temporary}    client_body_buffer_size 2m;
    client_max_body_size 8m;
    keepalive_requests 100000000;
    upstream provider {{
        server {upstream};
        keepalive 256;
        keepalive_requests 100000000;
    }}
    server {{
        listen {listen};
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_differ_in_what_their_title_says() {
        let address: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        let folder = Path::new("folder");
        let place = Place { folder, listen: address, admin: address, upstream: address };
        let text = |subject: Subject| subject.configuration(&place);
        assert_eq!(text(Subject::Remembered), text(Subject::Durable));
        assert_ne!(Subject::NotRemembered.digest(), Subject::Durable.digest());
        assert!(text(Subject::PermitAll).contains("packs = [\"org\"]\n"));
        assert!(text(Subject::NotRemembered).contains("memo_entries_max = 1\n"));
        assert!(text(Subject::DurableFull).contains("mode = \"required_full\""));
        assert!(text(Subject::Nginx).contains("proxy_temp_path folder/proxy;"));
        let titles = "1 KB JSON, 1000/s; 1 KB JSON, closed loop; 32 KB JSON, 1000/s; 1 KB SSE; \
                      32 KB SSE";
        assert_eq!(CALLS.map(Calls::title).join("; "), titles);
    }
}
