//! The proof: the ledger against itself and its signed heads, and every table row against it.
//!
//! Each row of each table is hashed as it lies in its file; then the ledger is walked once, each
//! event is projected again, and the hashes are compared. What is left over on either side is a
//! fault that names its row. What a table's log says of its files is compared with them too, as
//! readers believe it. Reads files, changes nothing.

mod described;
mod hash;
mod rows;

use cordon_ledger::disk::RealDisk;
use cordon_ledger::verify::VerifyError;
use datafusion::arrow::error::ArrowError;
use serde_json::{Value, json};
use thiserror::Error;
use uuid::Uuid;

use crate::config::DataFolder;
use crate::schema::{Record, Table};
use crate::table::Store;
use crate::verify::rows::Comparison;

/// More faults than this are only counted.
const FAULTS_MAX: usize = 1000;

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Intact events in all streams.
    pub events: u64,
    /// Events that no signed head vouches for yet.
    pub after_last_head: u64,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// Faults that were found and are not listed.
    pub faults_left_out: u64,
}

/// One thing that is wrong.
#[derive(Debug, Clone, Default)]
pub struct Fault {
    /// The word for it.
    pub kind: &'static str,
    /// The stream it concerns.
    pub stream: Option<Uuid>,
    /// The segment's file name.
    pub segment: Option<String>,
    /// The event.
    pub seq: Option<u64>,
    /// The call.
    pub call_id: Option<String>,
    /// What is wrong, in words.
    pub detail: String,
}

/// Why nothing could be proven.
#[derive(Debug, Error)]
pub enum ProofError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] VerifyError),
    /// Our own rows cannot be hashed.
    #[error("rows cannot be compared: {0}")]
    Rows(#[from] ArrowError),
}

// === impl Report ===

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.faults.is_empty()
    }

    /// Adds a fault, or counts it when there are many.
    fn add(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        } else {
            self.faults_left_out += 1;
        }
    }

    /// The report for machines.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let fault = |fault: &Fault| {
            json!({
                "kind": fault.kind,
                "stream": fault.stream.map(|stream| stream.to_string()),
                "segment": fault.segment,
                "seq": fault.seq,
                "call_id": fault.call_id,
                "detail": fault.detail,
            })
        };
        let mut report = json!({
            "ok": self.is_ok(),
            "events": self.events,
            "after_last_head": self.after_last_head,
            "faults": self.faults.iter().map(fault).collect::<Vec<_>>(),
        });
        if self.faults_left_out > 0 {
            report["faults_left_out"] = Value::from(self.faults_left_out);
        }
        report
    }

    /// The report for eyes.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{}: {} events, {} of them after the last signed head\n",
            if self.is_ok() { "ok" } else { "NOT OK" },
            self.events,
            self.after_last_head
        );
        for fault in &self.faults {
            let named = [
                fault.stream.map(|stream| format!(" stream {stream}")),
                fault.segment.as_ref().map(|segment| format!(" segment {segment}")),
                fault.seq.map(|seq| format!(" event {seq}")),
                fault.call_id.as_ref().map(|call| format!(" call {call}")),
            ];
            let place: String = named.into_iter().flatten().collect();
            text.push_str(&format!("{}:{place}: {}\n", fault.kind, fault.detail));
        }
        if self.faults_left_out > 0 {
            text.push_str(&format!("and {} more faults\n", self.faults_left_out));
        }
        text
    }
}

/// Proves the ledger and the tables of a data folder.
///
/// # Errors
/// The ledger cannot be read at all.
pub async fn prove(folder: &DataFolder) -> Result<Report, ProofError> {
    // Tables first: whatever stands in them is in the ledger by the time that is read.
    let mut report = Report::default();
    let mut stores = Vec::new();
    for table in Table::ALL {
        match Store::open_to_prove(&folder.tables(), table).await {
            Ok(store) => stores.extend(store),
            Err(error) => report.add(Fault {
                kind: "table",
                detail: format!("{error}; a start of the collector rebuilds it"),
                ..Fault::default()
            }),
        }
    }
    let mut comparison = Comparison::new(&stores, &mut report)?;
    let mut broken = None;
    let ledger = cordon_ledger::verify::verify(
        &RealDisk,
        &folder.ledger(),
        &folder.heads(),
        &mut |stream, entry| {
            let record = Record {
                stream: stream.stream,
                seq: entry.seq,
                json: entry.json.to_vec(),
                prev: entry.chain_prev,
                leaf: entry.leaf,
                chain: entry.chain,
            };
            if broken.is_none() {
                broken = comparison.compare(&record).err();
            }
        },
    )?;
    if let Some(broken) = broken {
        return Err(broken.into());
    }
    let mut whole = Report {
        events: ledger.events,
        after_last_head: ledger.after_last_head,
        faults_left_out: ledger.faults_left_out,
        ..Report::default()
    };
    for fault in ledger.faults {
        whole.add(Fault {
            kind: fault.kind.name(),
            stream: Some(fault.stream),
            segment: fault.segment,
            seq: fault.seq,
            call_id: fault.call_id.map(|call| call.to_string()),
            detail: fault.detail,
        });
    }
    comparison.finish(&mut report)?;
    report.faults.into_iter().for_each(|fault| whole.add(fault));
    whole.faults_left_out += report.faults_left_out;
    Ok(whole)
}
