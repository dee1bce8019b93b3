//! The command line as users meet it: help, answers, exit codes.

use std::os::unix::fs::PermissionsExt;

use crate::program::Program;

#[test]
fn every_command_shows_an_example() {
    let program = Program::new();
    for command in [
        "",
        "run",
        "init",
        "check",
        "config schema",
        "keys create",
        "keys list",
        "keys revoke",
        "policy eval",
        "policy rules",
        "policy cases",
        "models list",
        "models prepare",
        "audit",
    ] {
        let ended = program.run(command.split_whitespace().chain(["--help"]));
        assert_eq!(ended.code, 0, "{command}: {}", ended.err);
        assert!(ended.out.contains("Example"), "{command}: {}", ended.out);
        assert!(ended.out.contains("--config") && ended.out.contains("--data"), "{command}");
    }
}

#[test]
fn wrong_usage_ends_with_2_and_says_so_on_standard_error() {
    let program = Program::new();
    for arguments in [
        &["fly"][..],
        &["keys", "create"],
        &["keys", "create", "--tenant", "t", "--name", "n", "--role", "king"],
        &["check", "--config", "gone.toml"],
        &["policy", "eval", "--input", "gone.json"],
        &["keys", "list", "--data", "gone"],
        &["audit", "verify", "--data"],
    ] {
        let ended = program.run(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
        assert_eq!(ended.out, "", "{arguments:?}");
        assert!(!ended.err.is_empty(), "{arguments:?}");
    }
}

#[test]
fn init_writes_a_file_that_is_checked_without_change() {
    let program = Program::new();
    assert_eq!(program.run(["init", "house.toml"]).code, 0);
    let text = std::fs::read_to_string(program.path("house.toml")).unwrap();
    assert_eq!(text, cordon_gateway::config::DEMONSTRATION);
    assert!(!text.lines().any(|line| line.starts_with('#') && line.contains(" = ")));
    let again = program.run(["init", "house.toml"]);
    assert_eq!((again.code, again.err.contains("is there already")), (2, true));

    let ended = program.run(["check", "--config", "house.toml", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let parts: Vec<_> = report["findings"].as_array().unwrap().iter().collect();
    assert_eq!(parts[0]["part"], "configuration");
    assert_eq!(parts[0]["state"], "ok", "{report}");
    // The model's files are not here, and the answer says how to make them.
    assert_eq!((ended.code, &report["ok"]), (1, &serde_json::Value::Bool(false)));
    assert!(ended.out.contains("cordon models prepare"), "{}", ended.out);
    assert!(!program.path("data").try_exists().unwrap(), "a check makes nothing");
}

#[test]
fn check_tells_every_fault_with_file_and_line() {
    let program = Program::new();
    let text = cordon_gateway::config::DEMONSTRATION
        .replacen("profile = ", "profil = ", 1)
        .replacen("http://127.0.0.1:9", "http://ai.example.org", 1);
    program.write("house.toml", &text);
    let ended = program.run(["check", "--config", "house.toml"]);
    assert_eq!((ended.code, ended.out.as_str()), (2, ""));
    let line = text.lines().position(|line| line.starts_with("profil ")).unwrap() + 1;
    let expected =
        format!("house.toml:{line}: `policy.profil` is no setting; the nearest is `profile`");
    assert!(ended.err.contains(&expected), "{}", ended.err);
    let json = program.run(["check", "--config", "house.toml", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(report["findings"][0]["line"], line);
}

#[test]
fn check_takes_a_database_and_a_pepper_that_belong_together() {
    let program = Program::new();
    program.run(["keys", "create", "--tenant", "t", "--name", "n", "--data", "d"]);
    let sound = program.run(["check", "--data", "d"]);
    assert!(sound.out.contains("ok     database: 1 valid keys"), "{}", sound.out);
    std::fs::write(program.path("d/cordon.pepper"), [1; 32]).unwrap();
    let broken = program.run(["check", "--data", "d"]);
    assert_eq!(broken.code, 1);
    assert!(broken.out.contains("is not the pepper"), "{}", broken.out);
    std::fs::write(program.path("d/cordon.db"), "no database at all, but long enough").unwrap();
    let broken = program.run(["check", "--data", "d"]);
    assert!(broken.out.contains("fault  database: cannot open"), "{}", broken.out);
}

#[test]
fn check_tells_what_a_start_would_stumble_over() {
    let program = Program::new();
    program.run(["keys", "create", "--tenant", "t", "--name", "n", "--data", "d"]);
    program.write("roots.pem", "no certificate");
    let upstream = "[upstreams.other]\nformat = \"openai\"\nurl = \"https://ai.example.org/v1\"\n\
                    trust_roots = \"roots.pem\"\n[upstreams.other.models.large]\n\
                    [local]\nruntime = \"gone.so\"\n";
    let text = cordon_gateway::config::DEMONSTRATION
        .replacen("\n[local] ", &format!("\n{upstream}#"), 1)
        .replacen("targets = [", "targets = [\"other/large\", ", 1);
    program.write("house.toml", &text);
    for name in ["signing.key", "body-hash.key"] {
        program.write(&format!("d/{name}"), "a key that everybody can read, long enough");
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(program.path("d").join(name), open).unwrap();
    }
    let cordon = program.path("cordon");
    std::fs::hard_link(env!("CARGO_BIN_EXE_cordon"), &cordon).unwrap();
    let check = ["check", "--config", "house.toml", "--data", "d"];
    let ended = program.run_as(&cordon, check);
    assert_eq!(ended.code, 1, "{ended:?}");
    for fault in [
        "the signing key `d/signing.key` can be read by others",
        "`d/body-hash.key` can be read by others",
        "`local.runtime`: `gone.so`: No such file",
        "roots.pem` holds no usable trust roots",
        "cordon-collector` is not there: install it beside `cordon`",
    ] {
        assert!(ended.out.contains(fault), "{fault}: {}", ended.out);
    }
    program.script("cordon-collector", "#!/bin/sh\necho cordon-collector 0.0.1\n");
    let other = program.run_as(&cordon, check);
    assert!(other.out.contains("is of another build (0.0.1"), "{}", other.out);

    program.write("file", "");
    let nowhere = program.run(["check", "--data", "file/d"]);
    assert!(nowhere.out.contains("fault  data: `file"), "{}", nowhere.out);
}

#[test]
fn check_says_as_json_too_that_a_file_is_missing() {
    let ended = Program::new().run(["check", "--config", "gone.toml", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let told = report["findings"][0]["text"].as_str().unwrap();
    assert_eq!((ended.code, told.contains("`cordon init gone.toml`")), (2, true), "{told}");
}

#[test]
fn the_models_script_reaches_python_without_a_file_and_its_end_is_ours() {
    let program = Program::new();
    std::fs::create_dir(program.path("path")).unwrap();
    let prepare = |text: &str| {
        program.script("path/python3", &format!("#!/bin/sh\n{text}\n"));
        program.run_with_path(&program.path("path"), ["models", "prepare", "--data", "d"])
    };
    let made = prepare("echo \"$@\"; while read -r line; do echo \"$line\"; done");
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(made.out.starts_with("-I - --out d/models\n\"\"\"Makes the local model"), "{made:?}");
    assert_eq!((prepare("exit 1").code, prepare("exit 2").code), (1, 2));
    let none = program.run_with_path(&program.path("none"), ["models", "prepare", "--data", "d"]);
    assert_eq!((none.code, none.err.contains("apt-get install")), (2, true), "{}", none.err);
}

#[test]
fn the_schema_is_json_and_describes_each_part() {
    let ended = Program::new().run(["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    for part in ["listeners", "organisation", "policy", "upstreams", "routes", "ledger"] {
        let text = schema["properties"][part]["description"].as_str();
        assert!(text.is_some_and(|text| !text.is_empty()), "{part}");
    }
}

#[test]
fn audit_becomes_the_collector_beside_the_program() {
    let program = Program::new();
    let cordon = program.path("cordon");
    std::fs::hard_link(env!("CARGO_BIN_EXE_cordon"), &cordon).unwrap();
    let asked = ["audit", "sql", "SELECT 1", "--data", "d", "--format", "json"];
    let missing = program.run_as(&cordon, asked);
    assert_eq!((missing.code, missing.err.contains("install it beside")), (2, true));

    program.script("cordon-collector", "#!/bin/sh\nprintf '%s|' \"$@\"\nexit 1\n");
    let ended = program.run_as(&cordon, asked);
    assert_eq!(ended.out, "sql|--data|d|SELECT 1|--format|json|");
    assert_eq!(ended.code, 1);
}
