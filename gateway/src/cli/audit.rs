//! `cordon audit`: hands over to `cordon-collector` beside our own program, same arguments.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt,
    path::PathBuf,
    process,
};

use crate::cli::{CliError, End, Place};

/// The collector's program, beside our own.
const PROGRAM: &str = "cordon-collector";

pub(crate) const HELP: &str = "Examples:
  cordon audit sql \"SELECT outcome, count(*) FROM calls GROUP BY outcome\" --format json
  cordon audit verify --json --data /copy/of/data";

/// What is asked, as the collector takes it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// `sql STATEMENT [--format table|json|csv]` or `verify [--json]`.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, num_args = 1..)]
    rest: Vec<OsString>,
}

/// Becomes the collector; comes back only where that fails.
pub(crate) fn audit(place: Place, arguments: &Arguments) -> Result<End, CliError> {
    let (rest, place) = sorted(&arguments.rest, place)?;
    let own = std::env::current_exe().map_err(CliError::failed)?;
    let program = own.with_file_name(PROGRAM);
    let asks_for_help = rest.iter().any(|part| part == "--help" || part == "-h");
    let mut command = process::Command::new(&program);
    // Behind the subcommand's name, before whatever may follow a `--`.
    let (name, theirs) =
        rest.split_first().map_or((None, &rest[..]), |(name, rest)| (Some(name), rest));
    command.args(name);
    if !asks_for_help {
        command.arg("--data").arg(place.folder()?.path());
    }
    command.args(theirs);
    let error = command.exec();
    Err(CliError::Usage(format!(
        "cannot start `{}` ({error}): install it beside `cordon`, or wait where `make run` is \
         still building it",
        program.display()
    )))
}

/// Takes our own options out of the collector's arguments, wherever they stand.
fn sorted(rest: &[OsString], mut place: Place) -> Result<(Vec<OsString>, Place), CliError> {
    let mut theirs = Vec::with_capacity(rest.len());
    let mut parts = rest.iter();
    while let Some(part) = parts.next() {
        if part == "--" {
            theirs.push(part.clone());
            theirs.extend(parts.by_ref().cloned());
        } else if let Some(value) = option(part, "--config", &mut parts)? {
            place.config = Some(value);
        } else if let Some(value) = option(part, "--data", &mut parts)? {
            place.data = Some(value);
        } else {
            theirs.push(part.clone());
        }
    }
    Ok((theirs, place))
}

/// The value of `name`, written `--name VALUE` or `--name=VALUE`.
fn option<'a>(
    part: &OsStr,
    name: &str,
    rest: &mut impl Iterator<Item = &'a OsString>,
) -> Result<Option<PathBuf>, CliError> {
    if part == name {
        let value =
            rest.next().ok_or_else(|| CliError::Usage(format!("`{name}` needs a value")))?;
        return Ok(Some(value.into()));
    }
    let joined = part.to_str().and_then(|text| text.strip_prefix(name)?.strip_prefix('='));
    Ok(joined.map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rest: &[&str], theirs: &[&str], data: Option<&str>) {
        let rest: Vec<_> = rest.iter().map(OsString::from).collect();
        let place = Place { config: None, data: None };
        let (found, place) = sorted(&rest, place).unwrap();
        assert_eq!(found, theirs);
        assert_eq!(place.data, data.map(PathBuf::from));
    }

    #[test]
    fn our_own_options_are_taken_out_and_all_else_is_handed_over() {
        check(
            &["sql", "SELECT 1", "--format", "json"],
            &["sql", "SELECT 1", "--format", "json"],
            None,
        );
        check(&["verify", "--data", "copy", "--json"], &["verify", "--json"], Some("copy"));
        check(&["verify", "--data=copy"], &["verify"], Some("copy"));
        check(&["sql", "--", "--data"], &["sql", "--", "--data"], None);
    }

    #[test]
    fn an_option_without_its_value_is_wrong_usage() {
        let place = Place { config: None, data: None };
        assert!(sorted(&["--data".into()], place).is_err());
    }
}
