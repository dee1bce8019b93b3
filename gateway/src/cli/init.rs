//! `cordon init`: the demonstration's configuration as a file to edit.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    path::PathBuf,
};

use crate::{
    cli::{CliError, End, say},
    config::DEMONSTRATION,
};

/// Where the file is written.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The file to write; one that is there is left alone.
    #[arg(default_value = "cordon.toml")]
    file: PathBuf,
}

pub(crate) fn init(arguments: &Arguments) -> Result<End, CliError> {
    let path = &arguments.file;
    let name = path.display();
    let made = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = made.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            CliError::Usage(format!("`{name}` is there already: name another file, or remove it"))
        }
        _ => CliError::Usage(format!("cannot write `{name}` ({error}): check its folder")),
    })?;
    file.write_all(DEMONSTRATION.as_bytes())
        .map_err(|error| CliError::Failed(format!("cannot write `{name}` ({error})")))?;
    say(&format!("wrote `{name}`; edit it, then `cordon check --config {name}`"));
    Ok(End::Done)
}
