//! The proof names what was changed, where, and which call it concerns.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use cordon_collector::collector::Collector;
use cordon_collector::config::DataFolder;
use cordon_collector::verify::{Report, prove};
use cordon_ledger::event::Kind;
use datafusion::arrow::array::{ArrayRef, Int32Array, StringArray};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, decision, run};

async fn filled() -> (World, Vec<Uuid>) {
    let mut world = World::new();
    for digest in ["sha256:d1", "sha256:d2", "sha256:d1"] {
        world.append(Kind::Decision, None, None, &decision(digest, "acme"));
    }
    let calls = world.calls("acme", 5);
    let collector = world.collector().await;
    commit_and_stop(collector).await;
    world.close_ledger();
    (world, calls)
}

async fn commit_and_stop(collector: Collector) {
    collector.commit().await.unwrap();
    collector.stop("test").await.unwrap();
}

fn data_files(folder: &DataFolder, table: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.tables().join(table)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "parquet") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Writes a data file anew with its rows changed.
fn rewrite(file: &PathBuf, change: impl Fn(&RecordBatch) -> RecordBatch) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap();
    let schema = Arc::clone(reader.schema());
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    let changed = change(&concat_batches(&schema, &batches).unwrap());
    let schema = changed.schema();
    let mut writer = ArrowWriter::try_new(File::create(file).unwrap(), schema, None).unwrap();
    writer.write(&changed).unwrap();
    writer.close().unwrap();
}

fn with_column(rows: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let mut columns = rows.columns().to_vec();
    columns[rows.schema().index_of(name).unwrap()] = column;
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

fn kinds(report: &Report) -> Vec<&'static str> {
    report.faults.iter().map(|fault| fault.kind).collect()
}

#[test]
fn an_untouched_folder_is_proven() {
    run(async {
        let (world, _calls) = filled().await;
        let report = prove(&world.folder()).await.unwrap();
        assert!(report.is_ok(), "{}", report.to_text());
        let json = report.to_json();
        assert_eq!(json["ok"], serde_json::json!(true));
        assert!(json["events"].as_u64().unwrap() >= 13, "{json}");
        assert_eq!(json["after_last_head"], serde_json::json!(0));
        assert_eq!(json["faults"], serde_json::json!([]));
    });
}

#[test]
fn a_changed_row_is_named_with_its_call_and_columns() {
    run(async {
        let (world, calls) = filled().await;
        let file = data_files(&world.folder(), "calls").remove(0);
        rewrite(&file, |rows| {
            let mut status = vec![Some(200); rows.num_rows()];
            status[2] = Some(500);
            with_column(rows, "http_status", Arc::new(Int32Array::from(status)))
        });
        let report = prove(&world.folder()).await.unwrap();
        let fault = report.faults.iter().find(|fault| fault.kind == "row").unwrap();
        assert_eq!(fault.call_id, Some(calls[2].to_string()));
        assert!(fault.seq.is_some() && fault.stream.is_some());
        assert!(fault.detail.contains("table `calls`"), "{}", fault.detail);
        assert!(fault.detail.contains("columns: http_status"), "{}", fault.detail);
        assert_eq!(kinds(&report).iter().filter(|kind| **kind == "row").count(), 1);
    });
}

#[test]
fn rows_taken_away_added_or_doubled_are_named() {
    run(async {
        let (world, calls) = filled().await;
        let file = data_files(&world.folder(), "calls").remove(0);
        rewrite(&file, |rows| rows.slice(1, rows.num_rows() - 1));
        let report = prove(&world.folder()).await.unwrap();
        let fault = report.faults.iter().find(|fault| fault.kind == "row_missing").unwrap();
        assert_eq!(fault.call_id, Some(calls[0].to_string()));
        rewrite(&file, |rows| {
            let schema = rows.schema();
            concat_batches(&schema, [rows, &rows.slice(0, 1)]).unwrap()
        });
        let report = prove(&world.folder()).await.unwrap();
        assert!(kinds(&report).contains(&"row_twice"), "{}", report.to_text());
        let file = data_files(&world.folder(), "attempts").remove(0);
        rewrite(&file, |rows| {
            let nobody = vec![Uuid::nil().to_string(); rows.num_rows()];
            with_column(rows, "node_id", Arc::new(StringArray::from(nobody)))
        });
        let report = prove(&world.folder()).await.unwrap();
        let extra = report.faults.iter().filter(|fault| fault.kind == "row_extra");
        let mut named: Vec<String> = extra.filter_map(|fault| fault.call_id.clone()).collect();
        named.sort();
        assert_eq!(named, calls.iter().map(Uuid::to_string).collect::<Vec<_>>());
    });
}

/// Writes what a table's log says of its data file anew.
fn rewrite_log(folder: &DataFolder, table: &str, change: impl Fn(&mut Value)) {
    let log = folder.tables().join(table).join("_delta_log/00000000000000000001.json");
    let mut lines = String::new();
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        let mut action: Value = serde_json::from_str(line).unwrap();
        if let Some(add) = action.get_mut("add") {
            change(add);
        }
        lines.push_str(&format!("{action}\n"));
    }
    std::fs::write(log, lines).unwrap();
}

/// Changes the counts and bounds that a log gives of its file.
fn with_stats(add: &mut Value, change: impl Fn(&mut Value)) {
    let mut stats = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
    change(&mut stats);
    add["stats"] = Value::from(stats.to_string());
}

#[test]
fn a_table_log_that_hides_rows_is_named() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 4] = [
        (|stats| stats["numRecords"] = json!(4), "has 5 and not 4 rows"),
        (
            |stats| stats["maxValues"]["ts"] = json!("2026-11-22T19:45:12.000Z"),
            "has a row beyond the bounds of `ts`",
        ),
        (
            |stats| stats["minValues"]["outcome"] = json!("p"),
            "has a row beyond the bounds of `outcome`",
        ),
        (
            |stats| stats["nullCount"]["http_status"] = json!(5),
            "has 0 and not 5 empty `http_status`",
        ),
    ];
    for (change, expected) in cases {
        run(async move {
            let (world, _calls) = filled().await;
            rewrite_log(&world.folder(), "calls", |add| with_stats(add, change));
            let report = prove(&world.folder()).await.unwrap();
            let text = report.to_text();
            assert_eq!(kinds(&report), ["table"], "{text}");
            assert!(text.contains(expected), "{text}");
        });
    }
}

#[test]
fn rows_put_on_another_day_are_named() {
    run(async {
        let (world, calls) = filled().await;
        rewrite_log(&world.folder(), "calls", |add| {
            add["partitionValues"]["call_date"] = json!("2026-10-01");
        });
        let report = prove(&world.folder()).await.unwrap();
        let mut named: Vec<_> = report.faults.iter().filter_map(|f| f.call_id.clone()).collect();
        named.sort();
        assert_eq!(named, calls.iter().map(Uuid::to_string).collect::<Vec<_>>());
        let text = report.to_text();
        assert!(report.faults.iter().all(|fault| fault.kind == "row"), "{text}");
        assert!(text.contains("columns: call_date"), "{text}");
    });
}

#[test]
fn a_table_from_before_its_last_columns_is_proven() {
    run(async {
        let mut world = World::new();
        let mut attempt = crate::world::attempt();
        attempt["policy_citations"] = Value::Null;
        world.append(Kind::Attempt, Some("acme"), Some(Uuid::now_v7()), &attempt);
        commit_and_stop(world.collector().await).await;
        world.close_ledger();
        let without = |rows: &RecordBatch| {
            let kept: Vec<usize> = (0..rows.num_columns() - 1).collect();
            rows.project(&kept).unwrap()
        };
        let file = data_files(&world.folder(), "attempts").remove(0);
        rewrite(&file, without);
        let log = world.folder().tables().join("attempts/_delta_log");
        let made = log.join("00000000000000000000.json");
        let text = std::fs::read_to_string(&made).unwrap();
        let lines = text.lines().map(|line| {
            let mut action: Value = serde_json::from_str(line).unwrap();
            if let Some(table) = action.get_mut("metaData") {
                let schema = table["schemaString"].as_str().unwrap();
                let mut schema: Value = serde_json::from_str(schema).unwrap();
                schema["fields"].as_array_mut().unwrap().pop();
                table["schemaString"] = Value::from(schema.to_string());
            }
            format!("{action}\n")
        });
        let lines: String = lines.collect();
        std::fs::write(made, lines).unwrap();
        rewrite_log(&world.folder(), "attempts", |add| {
            add["size"] = json!(std::fs::metadata(&file).unwrap().len());
            with_stats(add, |stats| {
                stats["nullCount"].as_object_mut().unwrap().remove("policy_citations");
            });
        });
        let report = prove(&world.folder()).await.unwrap();
        assert!(report.is_ok(), "{}", report.to_text());
    });
}

#[test]
fn a_data_file_that_cannot_be_read_or_a_lost_table_log_is_named() {
    run(async {
        let (world, _calls) = filled().await;
        let file = data_files(&world.folder(), "events").remove(0);
        std::fs::write(&file, "no parquet").unwrap();
        let log = world.folder().tables().join("attempts/_delta_log/00000000000000000000.json");
        std::fs::write(log, "{\"no\": \"log\"").unwrap();
        let report = prove(&world.folder()).await.unwrap();
        let text = report.to_text();
        assert!(text.contains("cannot be read"), "{text}");
        assert!(text.contains("table `attempts`"), "{text}");
        assert!(!report.is_ok());
    });
}
