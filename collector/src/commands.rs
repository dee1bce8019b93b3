//! What each command does, and what it leaves to say.

use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cordon_collector::access::{AccessError, AccessLog};
use cordon_collector::ask::{Ask, AskError, Told};
use cordon_collector::collector::{Collector, Onlooker, SqlError};
use cordon_collector::config::{DataFolder, Limits};
use cordon_collector::query::{Format, Question, Scope};
use cordon_collector::serve::{Socket, serve};
use cordon_collector::table::NoWatch;
use cordon_collector::verify::{Report, prove};
use cordon_ledger::disk::RealDisk;
use cordon_ledger::recover::OpenError;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// How long a collector may take from taking its stream to answering.
const STARTING_MAX: Duration = Duration::from_secs(30);
/// How long to wait before asking it again.
const STARTING_PAUSE: Duration = Duration::from_millis(100);

/// Memory of the whole process: what a statement builds besides its counted memory, such as long
/// texts, ends here. Nothing is lost by ending: the next start catches up.
const MEMORY_KILOBYTES_MAX: u64 = 3 << 20;
/// How often it is looked how much there is.
const MEMORY_LOOK_EVERY: Duration = Duration::from_millis(200);
/// How the process ends then.
const EXIT_MEMORY: i32 = 70;

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

/// Why a question is not recorded.
#[derive(Debug)]
enum NoLog {
    /// The folder takes nothing from us.
    Unwritable(io::Error),
    /// The folder is a copy of another.
    Copy,
    /// The stream does not open: there must be no answer.
    Broken(AccessError),
}

const NOT_RECORDED: &str = "this question is not recorded";

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
    give_way_to_the_proxy();
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
    let ended = async {
        tokio::select! {
            () = signalled() => {}
            () = collector.broken() => {}
        }
    };
    tokio::select! {
        () = &mut serving => {}
        () = ended => {
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

/// The proxy beside us goes first: it gets the processor before us, and where the machine's memory
/// runs out, it is not the one that is killed.
fn give_way_to_the_proxy() {
    let _niceness = rustix::process::nice(10);
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "1000") {
        warn!("this process cannot offer itself where memory runs out: {error}");
    }
    let watching = std::thread::Builder::new().name("memory".to_owned()).spawn(|| {
        while held_kilobytes().is_none_or(|held| held <= MEMORY_KILOBYTES_MAX) {
            std::thread::sleep(MEMORY_LOOK_EVERY);
        }
        error!("a statement takes too much memory: the collector ends; its next start catches up");
        std::process::exit(EXIT_MEMORY);
    });
    if let Err(error) = watching {
        warn!("memory is not watched: {error}");
    }
}

/// The memory that this process holds, where the system says it.
fn held_kilobytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let held = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    held.trim().strip_suffix(" kB")?.parse().ok()
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
        body: Some(json!({"sql": question.sql, "format": format})),
        tenant: match &question.scope {
            Scope::All => None,
            Scope::Tenant(tenant) => Some(tenant),
        },
        who: &question.who,
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
    refused(code, message.unwrap_or("the collector gave no reason").to_owned())
}

/// A statement that has no answer: the word first, so that scripts can tell.
fn refused(code: &str, note: String) -> Done {
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
    log: Result<AccessLog, NoLog>,
) -> Done {
    let (log, mut notes) = match log {
        Ok(log) => (Some(log), Vec::new()),
        Err(NoLog::Unwritable(why)) => {
            let note = format!("this folder cannot be written to: {NOT_RECORDED} ({why})");
            (None, vec![note])
        }
        Err(NoLog::Copy) => {
            let note = format!("this folder is a copy, without `signing.key`: {NOT_RECORDED}");
            (None, vec![note])
        }
        Err(NoLog::Broken(error)) => return Done::no(error.to_string()),
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
    let answer = onlooker.sql(question, log).await;
    let answer = answer.map_err(|error| match &error {
        SqlError::Query(query) => refused(query.code(), error.to_string()),
        SqlError::Access(_) => no(&error),
    })?;
    Ok((answer.text, notes))
}

fn is_taken(error: &NoLog) -> bool {
    matches!(error, NoLog::Broken(AccessError::Open(OpenError::Locked { .. })))
}

/// The collector's stream, for one event. Nothing is written to a copy: it is evidence, and a
/// second history under the original's stream would be no proof of anything.
fn own_log(folder: &DataFolder, limits: &Limits) -> Result<AccessLog, NoLog> {
    if let Err(why) = rustix::fs::access(folder.ledger(), rustix::fs::Access::WRITE_OK) {
        return Err(NoLog::Unwritable(why.into()));
    }
    let has_key = folder.signing_key().try_exists().map_err(NoLog::Unwritable)?;
    if !has_key && holds_streams(folder).map_err(NoLog::Unwritable)? {
        return Err(NoLog::Copy);
    }
    AccessLog::open(folder, limits).map_err(|error| match error {
        AccessError::Open(OpenError::Io { source, .. }) if is_not_ours(&source) => {
            NoLog::Unwritable(source)
        }
        error => NoLog::Broken(error),
    })
}

fn holds_streams(folder: &DataFolder) -> io::Result<bool> {
    let streams = cordon_ledger::segment::streams(&RealDisk, &folder.ledger())?;
    Ok(!streams.is_empty())
}

fn is_not_ours(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Who asks on the command line: the user that the system knows.
pub(crate) fn owner() -> String {
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
