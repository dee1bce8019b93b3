//! The rules of style that a machine can read, over every source file of the workspace.
//!
//! Each rule is a function from a file's text to its faults, and each is proven to fail where it
//! should. It reads text, not syntax.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const VAGUE_NAMES: [&str; 6] = ["util", "utils", "common", "helper", "helpers", "misc"];
/// All that may lie at the top of the repository.
const TOP_LEVEL: [&str; 22] = [
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "clippy.toml",
    "collector",
    "dashboards",
    "deny.toml",
    "docs",
    "gateway",
    "migrations",
    "policies",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "tests",
];
/// Where the sources of each crate lie whose `lib.rs` promises a reading order.
const ORDERED: [&str; 3] = ["gateway/src/", "collector/src/", "collector/ledger/src/"];
/// Who may name the module `local`: itself, who calls it, who builds it, who reads its settings,
/// who prepares and checks it (prefixes of paths).
const LOCAL_HOMES: [&str; 6] = [
    "gateway/src/local",
    "gateway/src/providers.rs",
    "gateway/src/providers/local.rs",
    "gateway/src/gateway.rs",
    "gateway/src/config",
    "gateway/src/cli/",
];
/// Names of our enums that the standard library has as well: text cannot tell them apart.
const SHARED_NAMES: [&str; 1] = ["ErrorKind"];
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
    for folder in ["gateway/src", "gateway/tests", "collector", "tests"] {
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
        if !begins_function(code) || code.ends_with(';') {
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

/// Whether nothing but visibility and kind stands before a line's `fn`.
fn begins_function(code: &str) -> bool {
    let Some((before, _)) = code.split_once("fn ") else { return false };
    let own_words = ["", "pub", "const", "async", "unsafe", "extern", "\"C\""];
    // `pub(in crate::some::place)` is one word.
    let before = match (before.strip_prefix("pub("), before.split_once(") ")) {
        (Some(_), Some((_place, rest))) => rest,
        _ => before,
    };
    before.split(' ').all(|word| own_words.contains(&word))
        && (before.is_empty() || before.ends_with(' '))
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

/// What stands before the tests of a file, without its comments.
fn code_before_tests(text: &str) -> String {
    let lines = code_lines(text).take_while(|line| !line.starts_with("#[cfg(test)]"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules of its own crate that a file names: `crate::name`, and each part of
/// `crate::{name, …}`.
fn modules_named(text: &str) -> BTreeSet<String> {
    let code = code_before_tests(text);
    let mut named = BTreeSet::new();
    for (at, found) in code.match_indices("crate::") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let rest = &code[at + found.len()..];
        match rest.strip_prefix('{') {
            Some(group) => named.extend(group_parts(group).map(first_word)),
            None => drop(named.insert(first_word(rest))),
        }
    }
    named
}

/// The parts of a group of imports whose opening brace was read, the groups within them cut.
fn group_parts(group: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    let end = group.find(|sign| {
        depth += i32::from(sign == '{') - i32::from(sign == '}');
        depth < 0
    });
    let mut depth = 0;
    group[..end.unwrap_or(group.len())].split(move |sign| {
        depth += i32::from(sign == '{') - i32::from(sign == '}');
        sign == ',' && depth == 0
    })
}

fn first_word(text: &str) -> String {
    let word = text.trim_start().chars().take_while(|sign| sign.is_alphanumeric() || *sign == '_');
    word.collect()
}

/// The modules of `lib.rs` in order; a module may name those above it and itself. `base` is where
/// the crate's sources lie.
fn reading_order(lib: &str, base: &str, source: &Source) -> Vec<String> {
    let modules: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let own = source.path.trim_start_matches(base);
    let own = own.split(['/', '.']).next().unwrap_or_default();
    let Some(place) = modules.iter().position(|module| *module == own) else { return Vec::new() };
    let named = modules_named(&source.text);
    modules[place + 1..]
        .iter()
        .filter(|below| named.contains(**below))
        .map(|below| format!("uses `{below}`, which stands below it in lib.rs"))
        .collect()
}

fn names_local(source: &Source) -> Vec<String> {
    let gateway = source.path.starts_with("gateway/src/");
    let home = LOCAL_HOMES.iter().any(|home| source.path.starts_with(home));
    if !gateway || home || !modules_named(&source.text).contains("local") {
        return Vec::new();
    }
    vec!["names the module `local`, which providers alone call".to_owned()]
}

/// The enums that are made here.
fn enums(sources: &[Source]) -> BTreeSet<String> {
    let named = |line: &str| {
        let (before, name) = line.split_once("enum ")?;
        let before = before.trim_start();
        (before.is_empty() || before.starts_with("pub")).then(|| first_word(name))
    };
    let all = sources.iter().flat_map(|source| code_lines(&source.text).filter_map(named));
    all.filter(|name| !SHARED_NAMES.contains(&name.as_str())).collect()
}

/// Arms like `_ =>` or `_other =>` beside arms that name variants of our own enums. rustfmt puts
/// the arms four columns further in than the line that begins the `match`.
fn open_arms(ours: &BTreeSet<String>, source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let opens = |line: &str| line.ends_with('{') && names_word(line, "match ");
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut faults = Vec::new();
    for (start, line) in lines.iter().enumerate().filter(|(_, line)| opens(line)) {
        let within = |inner: &&&str| inner.trim().is_empty() || indent(inner) > indent(line);
        let arms = || {
            let body = lines[start + 1..].iter().take_while(within);
            body.filter(|inner| indent(inner) == indent(line) + 4).map(|inner| inner.trim())
        };
        let of_ours = arms().any(|arm| names_variant(ours, arm));
        if let Some(open) = arms().find(|arm| arm.starts_with('_') && arm.contains("=>"))
            && of_ours
        {
            faults.push(format!("line {}: `{open}` hides variants of our own enum", start + 1));
        }
    }
    faults
}

/// Whether an arm begins with a variant of an enum of ours.
fn names_variant(ours: &BTreeSet<String>, arm: &str) -> bool {
    let path = arm.trim_start_matches("| ").split_once("::");
    path.is_some_and(|(name, _)| name == "Self" || ours.contains(name))
}

/// What lies at the top of the repository and does not belong there.
fn strays(tracked: &str) -> BTreeSet<&str> {
    let tops = tracked.lines().filter_map(|path| path.split('/').next());
    tops.filter(|top| !TOP_LEVEL.contains(top)).collect()
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
    for kind in ["pub(in crate::a::b) fn", "pub(crate) async fn", "pub const unsafe fn"] {
        let long = long.replace("fn", kind);
        assert_eq!(function_length(&source("a.rs", &long)).len(), 1, "{kind}");
    }
    assert!(!begins_function("let work: fn () = other;"));
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
    let lib = "pub mod wire;\npub mod policy;\npub mod gateway;";
    for (path, text) in [
        ("wire/json.rs", "use crate::policy::Permit;"),
        ("wire.rs", "use crate::{\n    policy::Permit,\n};"),
        ("wire.rs", "use crate::{wire::{x, y}, policy::Permit};"),
        ("policy.rs", "fn x() { crate::gateway::y() }"),
    ] {
        let wrong = source(&format!("gateway/src/{path}"), text);
        assert_eq!(reading_order(lib, "gateway/src/", &wrong).len(), 1, "{text}");
    }
    let right = source("gateway/src/policy.rs", "use crate::{wire::{policy, gateway}};");
    assert_eq!(reading_order(lib, "gateway/src/", &right), Vec::<String>::new());
    for base in ORDERED {
        let lib = fs::read_to_string(root().join(base).join("lib.rs")).unwrap();
        check(|source| {
            let here = source.path.starts_with(base);
            if here { reading_order(&lib, base, source) } else { Vec::new() }
        });
    }
}

#[test]
fn only_those_who_call_build_or_prepare_it_name_the_local_model() {
    let wrong = source("gateway/src/pipeline.rs", "use crate::{local::LocalModel, wire::x};");
    assert_eq!(names_local(&wrong).len(), 1);
    check(names_local);
}

#[test]
fn a_new_variant_makes_the_compiler_point_at_every_place() {
    let ours = enums(&[source("a.rs", "pub(crate) enum Way {")]);
    let text = "fn x() {\n    match way {\n        Way::Up => 1,\n        _down => 2,\n    }\n}";
    assert_eq!(open_arms(&ours, &source("a.rs", text)).len(), 1);
    assert!(open_arms(&ours, &source("a.rs", &text.replace("Way::", "Other::"))).is_empty());
    let ours = enums(&sources());
    assert!(ours.len() > 50 && ours.contains("Refusal"), "{ours:?}");
    check(|source| if is_test(&source.path) { Vec::new() } else { open_arms(&ours, source) });
}

#[test]
fn the_top_of_the_repository_holds_what_it_should() {
    assert_eq!(strays("events.json\ndocs/policy.md\n"), BTreeSet::from(["events.json"]));
    // What is not committed is nobody's business: whoever tries things out leaves files here.
    if !root().join(".git").try_exists().unwrap() {
        return;
    }
    let listed = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let tracked = String::from_utf8(listed.stdout).unwrap();
    assert!(tracked.lines().count() > 100);
    assert_eq!(strays(&tracked), BTreeSet::new());
}

#[test]
fn imports_stand_in_three_groups() {
    assert_eq!(import_groups(&source("a.rs", "use bytes::Bytes;\nuse std::fs;")).len(), 1);
    check(import_groups);
}
