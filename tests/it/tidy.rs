//! The rules of style that a machine can read, over every source file of the workspace.
//!
//! Each rule is a function from a file's text to its faults, and each is proven to fail where it
//! should. It reads text, not syntax.

use std::{
    fs,
    path::{Path, PathBuf},
};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const VAGUE_NAMES: [&str; 6] = ["util", "utils", "common", "helper", "helpers", "misc"];
/// A word, and where it may stand (prefixes of paths).
const HOMES: [(&str, &[&str]); 6] = [
    ("opa_wasm", &["gateway/src/policy/engine.rs"]),
    ("wasmtime", &["gateway/src/policy/engine.rs"]),
    ("pingora_", &["gateway/src/listener", "gateway/src/admin", "gateway/src/providers/executor"]),
    ("deltalake", &["collector/src/table", "collector/src/query"]),
    ("ort::", &["gateway/src/local/"]),
    ("datafusion", &["collector/"]),
];

struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["gateway/src", "gateway/tests", "gateway/benches", "collector", "tests"] {
        collect(&root().join(folder), &mut found);
    }
    assert!(found.len() > 50, "only {} sources found", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            found.push(Source { path: relative, text: fs::read_to_string(&path).unwrap() });
        }
    }
}

/// Runs `rule` over every source and fails with all faults at once.
fn check(rule: impl Fn(&Source) -> Vec<String>) {
    let faults: Vec<String> = sources()
        .iter()
        .flat_map(|source| {
            let faults = rule(source);
            faults.into_iter().map(|fault| format!("{}: {fault}", source.path)).collect::<Vec<_>>()
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

fn is_test(path: &str) -> bool {
    path.contains("tests/") || path.ends_with("tests.rs")
}

fn purpose(source: &Source) -> Vec<String> {
    let told = source.text.starts_with("//! ");
    if told { Vec::new() } else { vec!["does not begin by saying what it is for".to_owned()] }
}

fn file_length(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= FILE_LINES_MAX { Vec::new() } else { vec![format!("has {lines} lines")] }
}

fn function_length(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let lines: Vec<&str> = source.text.lines().collect();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let starts = ["fn ", "pub fn ", "pub(crate) fn ", "async fn ", "pub async fn "];
        if !starts.iter().any(|word| code.starts_with(word)) || code.ends_with(';') {
            continue;
        }
        let indent = line.len() - code.len();
        let close = format!("{}}}", " ".repeat(indent));
        let length = lines[start..].iter().position(|line| *line == close).unwrap_or(0) + 1;
        if length > FUNCTION_LINES_MAX {
            faults.push(format!("line {}: a function of {length} lines", start + 1));
        }
    }
    faults
}

fn names(source: &Source) -> Vec<String> {
    let parts = source.path.trim_end_matches(".rs").split('/');
    let vague = parts.filter(|part| VAGUE_NAMES.contains(part) || *part == "mod");
    vague.map(|part| format!("`{part}` says nothing about its subject")).collect()
}

fn homes(source: &Source) -> Vec<String> {
    let here = |home: &&str| source.path.starts_with(*home);
    HOMES
        .iter()
        .filter(|(_, homes)| !is_test(&source.path) && !homes.iter().any(here))
        .filter(|(word, _)| code_lines(&source.text).any(|line| names_word(line, word)))
        .map(|(word, _)| format!("names `{word}`, which lives elsewhere"))
        .collect()
}

fn names_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
    })
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

fn loose_ends(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let ends =
        ["TO", "FIX"].map(|half| format!("{half}{}", if half == "TO" { "DO" } else { "ME" }));
    for (number, line) in source.text.lines().enumerate() {
        if ends.iter().any(|end| line.contains(end.as_str()) && !line.contains('#')) {
            faults.push(format!("line {}: an open end without an issue", number + 1));
        }
        if line.contains("super::") && !is_test(&source.path) && !line.contains("use super::*") {
            faults.push(format!("line {}: a relative path", number + 1));
        }
    }
    faults
}

/// The modules of `lib.rs` in order; a module may name those above it and itself.
fn reading_order(lib: &str, source: &Source) -> Vec<String> {
    let modules: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let own = source.path.trim_start_matches("gateway/src/");
    let own = own.split(['/', '.']).next().unwrap_or_default();
    let Some(place) = modules.iter().position(|module| *module == own) else { return Vec::new() };
    modules[place + 1..]
        .iter()
        .filter(|below| {
            let direct = format!("crate::{below}");
            let grouped = format!("    {below}::");
            code_lines(&source.text).take_while(|line| !line.starts_with("#[cfg(test)]")).any(
                |line| names_word(line, &direct) || in_crate_group(&source.text, line, &grouped),
            )
        })
        .map(|below| format!("uses `{below}`, which stands below it in lib.rs"))
        .collect()
}

/// Whether `line` is a part of a `use crate::{…}` group and names the module.
fn in_crate_group(text: &str, line: &str, grouped: &str) -> bool {
    let opening = text.find("use crate::{");
    let group = opening.and_then(|start| Some(&text[start..start + text[start..].find("};")?]));
    line.starts_with(grouped) && group.is_some_and(|group| group.contains(line))
}

/// The rank of a `use` line: std, crates, ours.
fn import_rank(line: &str) -> Option<u8> {
    let path = line.strip_prefix("use ").or_else(|| line.strip_prefix("pub use "))?;
    let first = path.split([':', ';', ' ']).next().unwrap_or_default();
    match first {
        "std" | "core" | "alloc" => Some(0),
        "crate" => Some(2),
        // Our other crates may stand with either group.
        "super" | "self" | "cordon_gateway" | "cordon_collector" | "cordon_system" => None,
        _crates => Some(1),
    }
}

fn import_groups(source: &Source) -> Vec<String> {
    let mut last = 0;
    for (number, line) in source.text.lines().enumerate() {
        if line.starts_with("fn ") || line.starts_with("mod ") || line.starts_with("#[cfg(test)]") {
            break;
        }
        let Some(rank) = import_rank(line) else { continue };
        if rank < last {
            return vec![format!("line {}: imports go std, crates, ours", number + 1)];
        }
        last = rank;
    }
    Vec::new()
}

#[test]
fn every_file_says_what_it_is_for() {
    assert_eq!(purpose(&source("a.rs", "use std::fs;")).len(), 1);
    check(purpose);
}

#[test]
fn files_and_functions_fit_their_limits() {
    assert_eq!(file_length(&source("a.rs", &"x\n".repeat(501))).len(), 1);
    let long = format!("    fn long() {{\n{}    }}\n", "        x;\n".repeat(70));
    assert_eq!(function_length(&source("a.rs", &long)).len(), 1);
    check(file_length);
    check(function_length);
}

#[test]
fn no_file_has_a_name_without_a_subject() {
    assert_eq!(names(&source("gateway/src/utils.rs", "")).len(), 1);
    assert_eq!(names(&source("gateway/src/wire/mod.rs", "")).len(), 1);
    check(names);
}

#[test]
fn heavy_libraries_are_named_only_at_home() {
    assert_eq!(homes(&source("gateway/src/pipeline.rs", "use pingora_core::x;")).len(), 1);
    assert!(homes(&source("gateway/src/pipeline.rs", "// pingora_core\nreport::x")).is_empty());
    check(homes);
}

#[test]
fn nothing_is_left_open_and_paths_are_whole() {
    assert_eq!(loose_ends(&source("a.rs", concat!("// TO", "DO later"))).len(), 1);
    assert_eq!(loose_ends(&source("a.rs", "use super::x;")).len(), 1);
    check(loose_ends);
}

#[test]
fn modules_use_only_what_stands_above_them() {
    let lib = fs::read_to_string(root().join("gateway/src/lib.rs")).unwrap();
    let wrong = source("gateway/src/wire/json.rs", "use crate::policy::Permit;");
    assert_eq!(reading_order(&lib, &wrong).len(), 1);
    let grouped = source("gateway/src/wire.rs", "use crate::{\n    policy::Permit,\n};");
    assert_eq!(reading_order(&lib, &grouped).len(), 1);
    check(|source| {
        if !source.path.starts_with("gateway/src/") {
            return Vec::new();
        }
        reading_order(&lib, source)
    });
}

#[test]
fn imports_stand_in_three_groups() {
    assert_eq!(import_groups(&source("a.rs", "use bytes::Bytes;\nuse std::fs;")).len(), 1);
    check(import_groups);
}
