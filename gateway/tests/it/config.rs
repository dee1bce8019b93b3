//! Configuration files as operators write them: paths, secrets, what is refused.

use std::{os::unix::fs::PermissionsExt, path::Path};

use cordon_gateway::{
    catalog::Address,
    config::{Config, Source, Written},
};

use crate::program::Program;

const HOSPITAL: &str = r#"
[organisation]
name = "Example Hospital"
headquarters = "FR"
region = "FR"

[upstreams.sovereign-fr]
format = "openai"
url = "https://ai.example.fr/v1"
key = { file = "secrets/fr.key" }
provider_headquarters = "FR"
region = "FR"
certifications = [{ id = "secnumcloud", level = "3.2", until = "2027-03-01" }]
as_of = "2026-11-01"

[upstreams.sovereign-fr.models.mistral-large]
origin = "FR"
open_weights = true

[routes.assistant]
targets = ["sovereign-fr/mistral-large", "local/smollm2-135m"]
"#;

fn load(program: &Program) -> Result<Config, String> {
    let file = program.path("house.toml");
    let written = Written::read(Source::File(file)).map_err(|fault| fault.to_string())?;
    written.check(None, &|_| None).map_err(|fault| fault.to_string())
}

fn key_file(program: &Program, mode: u32) {
    std::fs::create_dir_all(program.path("secrets")).unwrap();
    let path = program.path("secrets/fr.key");
    std::fs::write(&path, "sk-geheim\n").unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_file_says_only_what_differs_from_the_defaults() {
    let program = Program::new();
    program.write("house.toml", HOSPITAL);
    key_file(&program, 0o600);
    let config = load(&program).unwrap();
    assert_eq!(config.data.path(), program.path("data"));
    assert_eq!(config.listeners.ai.port(), 8080);
    assert_eq!(
        (config.identity.calls_at_once_max, config.identity.demonstration_key),
        (256, false)
    );
    let upstreams = config.catalog.upstreams();
    assert_eq!(upstreams.len(), 2);
    let remote = upstreams.iter().find(|upstream| upstream.provider() == "sovereign-fr").unwrap();
    let Address::Remote(address) = remote.address() else { panic!("remote") };
    assert_eq!(address.key.as_ref().unwrap().expose(), "sk-geheim");
    assert!(!format!("{config:?}").contains("geheim"));
}

#[test]
fn a_key_file_that_others_may_read_is_refused_with_its_place() {
    let program = Program::new();
    program.write("house.toml", HOSPITAL);
    key_file(&program, 0o644);
    let fault = load(&program).unwrap_err();
    let line = HOSPITAL.lines().position(|line| line.starts_with("key =")).unwrap() + 1;
    assert!(fault.contains(&format!("house.toml:{line}: `upstreams.sovereign-fr.key`")), "{fault}");
    assert!(fault.contains("can be read by others (mode 644): run `chmod 600`"), "{fault}");
}

#[test]
fn a_secret_never_stands_in_the_file_itself() {
    let program = Program::new();
    program
        .write("house.toml", &HOSPITAL.replace("{ file = \"secrets/fr.key\" }", "\"sk-geheim\""));
    let fault = load(&program).unwrap_err();
    assert!(fault.contains("house.toml:10: `upstreams.sovereign-fr.key`"), "{fault}");
    assert!(!fault.contains("sk-geheim"), "{fault}");
}

#[test]
fn the_demonstration_needs_no_file_and_starts_in_the_working_folder() {
    let config = Written::read(Source::Demonstration).unwrap().check(None, &|_| None).unwrap();
    assert_eq!(config.data.path(), Path::new("data"));
    assert!(config.identity.demonstration_key);
}
