//! What each command does, and what it leaves to say.

use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cordon_collector::access::{AccessError, AccessLog};
use cordon_collector::ask::{Ask, AskError, Told};
use cordon_collector::collector::{self, Collector, Onlooker};
use cordon_collector::config::{DataFolder, Limits};
use cordon_collector::query::{Format, QueryError, Scope};
use cordon_collector::serve::{Socket, serve};
use cordon_collector::table::NoWatch;
use cordon_collector::verify::{Report, prove};
use cordon_ledger::recover::OpenError;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

/// How long a collector may take from taking its stream to answering.
const STARTING_MAX: Duration = Duration::from_secs(30);
/// How long to wait before asking it again.
const STARTING_PAUSE: Duration = Duration::from_millis(100);

/// How a command ended.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// The exit code.
    pub(crate) code: u8,
    /// For standard output.
    pub(crate) output: String,
    /// For standard error.
    pub(crate) notes: Vec<String>,
}

/// What `sql` was asked.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) statement: String,
    pub(crate) format: Format,
    pub(crate) tenant: Option<String>,
}

// === impl Done ===

impl Done {
    pub(crate) fn no(note: String) -> Self {
        Self { code: 1, output: String::new(), notes: vec![note] }
    }

    fn wrong(note: String) -> Self {
        Self { code: 2, output: String::new(), notes: vec![note] }
    }
}

/// Follows and serves until standard input closes or a signal comes.
pub(crate) async fn run(folder: &DataFolder) -> Done {
    let limits = Limits::default();
    // The proxy beside us goes first.
    let _niceness = rustix::process::nice(10);
    let (stop, stopped) = watch::channel(false);
    watch_input(stop.clone());
    let started = Collector::start(folder, limits.clone(), Arc::new(NoWatch)).await;
    let collector = match started {
        Ok(collector) => Arc::new(collector),
        Err(error) => return Done::no(error.to_string()),
    };
    let socket = match Socket::bind(&folder.socket()) {
        Ok(socket) => socket,
        Err(error) => return Done::no(error.to_string()),
    };
    info!("answering on {}", folder.socket().display());
    let serving = serve(socket, Arc::clone(&collector), limits, stopped);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        () = &mut serving => {}
        () = signalled() => {
            stop.send_replace(true);
            serving.await;
        }
    }
    let Some(collector) = Arc::into_inner(collector) else {
        return Done::no("a statement did not end; the next start catches up".to_owned());
    };
    match collector.stop("asked to").await {
        Ok(()) => Done::default(),
        Err(error) => Done::no(error.to_string()),
    }
}

/// Where standard input is a pipe, its end is the end: whoever started us has gone.
fn watch_input(stop: watch::Sender<bool>) {
    let inherited = std::fs::metadata("/proc/self/fd/0").map(|data| data.file_type());
    if !inherited.is_ok_and(|kind| kind.is_fifo() || kind.is_socket()) {
        return;
    }
    let watching = std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        let mut sink = [0; 64];
        while std::io::stdin().lock().read(&mut sink).is_ok_and(|bytes| bytes > 0) {}
        stop.send_replace(true);
    });
    if let Err(error) = watching {
        warn!("standard input is not watched: {error}");
    }
}

async fn signalled() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        warn!("signals are not heard");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Asks the running collector; with none running, reads tables and ledger itself.
pub(crate) async fn sql(folder: &DataFolder, question: &Question) -> Done {
    if !folder.ledger().is_dir() {
        let note = format!(
            "`{}` holds no ledger; start Cordon first, or name its folder with --data",
            folder.root().display()
        );
        return Done::wrong(note);
    }
    let format = match question.format {
        Format::Json => "json",
        Format::Csv => "csv",
        Format::Table => "table",
    };
    let ask = Ask {
        path: "/v1/audit/sql",
        body: Some(json!({"sql": question.statement, "format": format})),
        tenant: question.tenant.as_deref(),
        who: &owner(),
    };
    let deadline = Instant::now() + STARTING_MAX;
    loop {
        match ask.through(&folder.socket()).await {
            Ok(told) => return told_to_done(told),
            Err(AskError::NotRunning) => {}
            Err(error @ AskError::Broken(_)) => return Done::no(error.to_string()),
        }
        match own_log(folder, &Limits::default()) {
            // Somebody has the stream and does not answer yet: a collector that starts.
            Err(error) if is_taken(&error) && Instant::now() < deadline => {
                tokio::time::sleep(STARTING_PAUSE).await;
            }
            log => return sql_alone(folder, question, log).await,
        }
    }
}

fn told_to_done(told: Told) -> Done {
    if told.status == 200 {
        return Done { output: told.body, ..Done::default() };
    }
    let error = serde_json::from_str::<Value>(&told.body).unwrap_or_default();
    let field = |name: &str| error.pointer(&format!("/error/{name}")).and_then(Value::as_str);
    let (code, message) = (field("code").unwrap_or("NO_ANSWER"), field("message"));
    let note = message.unwrap_or("the collector gave no reason").to_owned();
    let note = if note.contains(code) { note } else { format!("{code}: {note}") };
    if is_wrong_usage(code) { Done::wrong(note) } else { Done::no(note) }
}

/// The words for statements that no waiting makes right.
fn is_wrong_usage(code: &str) -> bool {
    matches!(code, "READ_ONLY" | "INVALID_SQL" | "STATEMENT_TOO_LONG" | "INVALID_HEADER")
}

async fn sql_alone(
    folder: &DataFolder,
    question: &Question,
    log: Result<AccessLog, AccessError>,
) -> Done {
    let log = match log {
        Ok(log) => Ok(Some(log)),
        Err(error) if not_ours_to_write(&error) => Err(format!(
            "this folder cannot be written to: this question is not recorded ({error})"
        )),
        Err(error) => return Done::no(error.to_string()),
    };
    let (log, mut notes) = match log {
        Ok(log) => (log, Vec::new()),
        Err(note) => (None, vec![note]),
    };
    let mut done = match answer_alone(folder, question, log.as_ref()).await {
        Ok((output, more)) => {
            notes.extend(more);
            Done { output, ..Done::default() }
        }
        Err(done) => done,
    };
    if let Some(Err(error)) = log.map(|log| log.close("asked once")) {
        notes.push(error.to_string());
    }
    done.notes.splice(0..0, notes);
    done
}

async fn answer_alone(
    folder: &DataFolder,
    question: &Question,
    log: Option<&AccessLog>,
) -> Result<(String, Vec<String>), Done> {
    let no = |error: &dyn std::fmt::Display| Done::no(error.to_string());
    let (onlooker, notes) =
        Onlooker::look(folder, Limits::default()).await.map_err(|error| no(&error))?;
    let scope = question.tenant.clone().map_or(Scope::All, Scope::Tenant);
    let answer = onlooker.sql((&owner(), log), &scope, &question.statement).await;
    let answer = answer.map_err(|error| match &error {
        collector::AskError::Query(query) if is_wrong_usage(query.code()) => {
            Done::wrong(format!("{}: {error}", query.code()))
        }
        collector::AskError::Query(query @ QueryError::Behind) => no(&query),
        collector::AskError::Query(query) => Done::no(format!("{}: {error}", query.code())),
        collector::AskError::Access(_) => no(&error),
    })?;
    Ok((answer.to_text(question.format).map_err(|error| no(&error))?, notes))
}

fn is_taken(error: &AccessError) -> bool {
    matches!(error, AccessError::Open(OpenError::Locked { .. }))
}

/// The collector's stream, for one event.
fn own_log(folder: &DataFolder, limits: &Limits) -> Result<AccessLog, AccessError> {
    let probe = folder.ledger();
    if let Err(source) = rustix::fs::access(&probe, rustix::fs::Access::WRITE_OK) {
        let open = OpenError::Io { path: probe, source: source.into() };
        return Err(AccessError::Open(open));
    }
    AccessLog::open(folder, limits)
}

fn not_ours_to_write(error: &AccessError) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    let AccessError::Open(OpenError::Io { source, .. }) = error else {
        return false;
    };
    matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem)
}

/// Who asks on the command line: the user that the system knows.
fn owner() -> String {
    format!("uid:{}", rustix::process::getuid().as_raw())
}

/// Proves ledger and tables.
pub(crate) async fn verify(folder: &DataFolder, write: fn(&Report) -> String) -> Done {
    if !folder.ledger().is_dir() {
        let note = format!("`{}` holds no ledger", folder.root().display());
        return Done::wrong(note);
    }
    let report = match prove(folder).await {
        Ok(report) => report,
        Err(error) => return Done::no(error.to_string()),
    };
    let code = u8::from(!report.is_ok());
    Done { code, output: write(&report), notes: Vec::new() }
}
