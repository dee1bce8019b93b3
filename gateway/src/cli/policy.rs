//! `cordon policy`: decide one facts document, show what the bundle holds, run the cases.

use std::path::PathBuf;

use crate::{
    cli::{CliError, End, Place, answer, say, wait},
    policy::{Settings, replay},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Decide one facts document (`cordon.facts/1`). Exit 0: allow or local_only; 1: deny or
    /// needs_approval; 2: unusable input.
    #[command(after_help = "Example: cordon policy eval --input facts.json --json")]
    Eval {
        /// The facts; the digest is computed where there is none.
        #[arg(long, value_name = "FILE")]
        input: PathBuf,
        /// Another bundle than the configured one.
        #[arg(long, value_name = "FILE")]
        bundle: Option<PathBuf>,
        /// The decision document.
        #[arg(long)]
        json: bool,
    },
    /// What the bundle holds: packs, profiles, rules with titles and citations.
    #[command(after_help = "Example: cordon policy rules")]
    Rules {
        /// Another bundle than the configured one.
        #[arg(long, value_name = "FILE")]
        bundle: Option<PathBuf>,
        /// As one object.
        #[arg(long)]
        json: bool,
    },
    /// Run the case files.
    #[command(after_help = "Example: cordon policy cases --cases policies/cases")]
    Cases {
        /// Their folder.
        #[arg(long, value_name = "DIR", default_value = "policies/cases")]
        cases: PathBuf,
        /// Another bundle than the configured one.
        #[arg(long, value_name = "FILE")]
        bundle: Option<PathBuf>,
        /// As one object.
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn policy(place: &Place, command: Command) -> Result<End, CliError> {
    match command {
        Command::Eval { input, bundle, json } => {
            let facts = replay::read_facts(&input).map_err(CliError::usage)?;
            let settings = settings(place, bundle)?;
            wait(async { replay::eval(&settings, facts).await.map_err(CliError::usage) })
                .and_then(|replayed| tell(replayed, json))
        }
        Command::Rules { bundle, json } => {
            let settings = settings(place, bundle)?;
            let contents = wait(async { replay::rules(&settings).await.map_err(CliError::usage) })?;
            answer(&if json { format!("{:#}", contents.json()) } else { contents.text() })?;
            Ok(End::Done)
        }
        Command::Cases { cases, bundle, json } => {
            let settings = settings(place, bundle)?;
            let report =
                wait(async { replay::cases(&settings, &cases).await.map_err(CliError::usage) })?;
            answer(&if json { format!("{:#}", report.json()) } else { report.text() })?;
            Ok(end(report.exit_code()))
        }
    }
}

fn settings(place: &Place, bundle: Option<PathBuf>) -> Result<Settings, CliError> {
    let mut settings = place.written()?.policy();
    settings.bundle = bundle.or(settings.bundle);
    Ok(settings)
}

fn tell(
    replayed: Result<replay::Replayed, replay::Unanswered>,
    json: bool,
) -> Result<End, CliError> {
    let replayed = match replayed {
        Ok(replayed) => replayed,
        Err(unanswered) => {
            say(&unanswered);
            return Ok(End::No);
        }
    };
    answer(&if json { format!("{:#}", replayed.json()) } else { replayed.text() })?;
    if let Some(code) = replayed.refusal() {
        say(&format!("the host would refuse this call: {}", code.name()));
    }
    Ok(end(replayed.exit_code()))
}

fn end(code: u8) -> End {
    if code == 0 { End::Done } else { End::No }
}
