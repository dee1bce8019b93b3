//! The socket: names arrive as they are, and whoever hangs up leaves a record.

use std::path::Path;
use std::sync::Arc;

use cordon_collector::ask::Ask;
use cordon_collector::collector::Collector;
use cordon_collector::config::Limits;
use cordon_collector::serve::{Socket, serve};
use cordon_collector::table::NoWatch;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::world::{World, limits, run, value};

/// A collector behind its socket.
struct Door {
    collector: Arc<Collector>,
    socket: std::path::PathBuf,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
}

impl Door {
    async fn open(world: &World, limits: Limits) -> Self {
        let collector = Arc::new(world.collector_with(limits.clone(), Arc::new(NoWatch)).await);
        let socket = world.folder().socket();
        let (stop, stopped) = watch::channel(false);
        let bound = Socket::bind(&socket).unwrap();
        let served = tokio::spawn(serve(bound, Arc::clone(&collector), limits, stopped));
        Self { collector, socket, stop, served }
    }

    async fn close(self) {
        self.stop.send_replace(true);
        self.served.await.unwrap();
        Arc::into_inner(self.collector).unwrap().stop("test").await.unwrap();
    }
}

async fn told(socket: &Path, tenant: Option<&str>, sql: &str) -> Value {
    let body = Some(json!({"sql": sql}));
    let ask = Ask { path: "/v1/audit/sql", body, tenant, who: "müller" };
    let told = ask.through(socket).await.unwrap();
    assert_eq!(told.status, 200, "{}", told.body);
    serde_json::from_str(&told.body).unwrap()
}

#[test]
fn a_tenant_is_never_taken_for_another() {
    run(async {
        let world = World::new();
        world.calls("acme", 1);
        world.calls("acme ", 2);
        world.calls("müller", 3);
        let door = Door::open(&world, limits()).await;
        for (tenant, calls) in [("acme", 1), ("acme ", 2), (" acme", 0), ("müller", 3)] {
            let count = told(&door.socket, Some(tenant), "SELECT count(*) AS n FROM calls").await;
            assert_eq!(count, json!([{"n": calls}]), "`{tenant}`");
        }
        let sql = "SELECT DISTINCT body_json->'body'->>'who' AS who FROM events \
                   WHERE kind = 'access'";
        assert_eq!(told(&door.socket, None, sql).await, json!([{"who": "müller"}]));
        door.close().await;
    });
}

#[test]
fn whoever_hangs_up_leaves_a_record_and_no_statement_behind() {
    run(async {
        let world = World::new();
        let limits = Limits { statements_per_tenant: 1, ..limits() };
        let door = Door::open(&world, limits).await;
        let slow = "SELECT count(*) FROM generate_series(1, 1000000) AS a \
                    CROSS JOIN generate_series(1, 1000000) AS b WHERE a.value * b.value = 7";
        let body = json!({"sql": slow}).to_string();
        let request = format!(
            "POST /v1/audit/sql HTTP/1.1\r\nhost: collector\r\nx-cordon-tenant: acme\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let left = "SELECT count(*) FROM events WHERE kind = 'access' AND tenant_id = 'acme' AND \
                    body_json->'body'->>'outcome' = 'LEFT'";
        // One who leaves before the request was read leaves nothing: so until somebody was heard.
        let mut heard = json!(0);
        for _try in 0..100 {
            let mut stream = UnixStream::connect(&door.socket).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            drop(stream);
            heard = value(&door.collector, left).await;
            if heard != json!(0) {
                break;
            }
        }
        assert_ne!(heard, json!(0));
        let quick = told(&door.socket, Some("acme"), "SELECT 1 AS one").await;
        assert_eq!(quick, json!([{"one": 1}]), "no place is held");
        door.close().await;
    });
}
