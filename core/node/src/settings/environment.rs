//! Flags in the environment: `FORMATION_LEAVE_WITHIN` for `--leave-within`.

use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgAction, ArgMatches, Command, Error, error::ErrorKind, parser::ValueSource};

const PREFIX: &str = "FORMATION_";

/// The flags that stand in these variables and not on the command line, which has precedence. An empty variable stands for none.
pub(super) fn flags(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    command: &mut Command,
    given: &ArgMatches,
) -> Result<Vec<OsString>, Error> {
    let mut flags = Vec::new();
    for (variable, value) in variables {
        let flag = variable.to_str().and_then(|name| flag(command, name));
        let is_given = |flag: &Arg| given.value_source(flag.get_id().as_str()) == Some(ValueSource::CommandLine);
        let Some(flag) = flag.filter(|flag| !value.is_empty() && !is_given(flag)) else { continue };
        let name = format!("--{}", flag.get_id().as_str().replace('_', "-"));
        match (flag.get_action(), value.to_str()) {
            (ArgAction::SetTrue, Some("true" | "1")) => flags.push(name.into()),
            (ArgAction::SetTrue, Some("false" | "0")) => {}
            (ArgAction::SetTrue, _) => {
                let text = format!("{}: {value:?} is neither true nor false", variable.display());
                return Err(command.error(ErrorKind::InvalidValue, text));
            }
            // Neither an address nor an ordinary path has a comma.
            (ArgAction::Append, Some(list)) => {
                flags.extend(list.split(',').map(|part| with(&name, OsStr::new(part.trim()))));
            }
            _ => flags.push(with(&name, &value)),
        }
    }
    Ok(flags)
}

/// The flag of a variable.
fn flag<'a>(command: &'a Command, variable: &str) -> Option<&'a Arg> {
    let name = variable.strip_prefix(PREFIX)?;
    command.get_arguments().find(|flag| flag.get_id().as_str().to_ascii_uppercase() == name)
}

fn with(name: &str, value: &OsStr) -> OsString {
    let mut flag = OsString::from(name);
    flag.push("=");
    flag.push(value);
    flag
}
