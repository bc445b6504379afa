//! The configuration file: further flags, under their names with `_` for `-`.

use std::{ffi::OsString, fs, path::Path};

use clap::{ArgAction, ArgMatches, Command, Error, error::ErrorKind, parser::ValueSource};
use toml::{Table, Value};

/// The flags that stand in a file and not on the command line, which has precedence.
pub(super) fn flags(path: &Path, command: &mut Command, given: &ArgMatches) -> Result<Vec<OsString>, Error> {
    let problem = |problem: String| format!("{}: {problem}", path.display());
    let text = fs::read_to_string(path)
        .map_err(|error| command.error(ErrorKind::Io, format!("cannot read {}: {error}", path.display())))?;
    let table: Table = toml::from_str(&text)
        .map_err(|error| command.error(ErrorKind::InvalidValue, problem(error.to_string().trim_end().to_owned())))?;
    let mut flags = Vec::new();
    for (key, value) in &table {
        let flag = command.get_arguments().find(|flag| flag.get_id() == key.as_str() && key != "config");
        let Some(flag) = flag else {
            return Err(command.error(ErrorKind::UnknownArgument, problem(format!("there is no setting {key}"))));
        };
        if given.value_source(key) == Some(ValueSource::CommandLine) {
            continue;
        }
        let name = key.replace('_', "-");
        let values = match value {
            Value::Array(values) => values.as_slice(),
            single => std::slice::from_ref(single),
        };
        for value in values {
            match (value, flag.get_action()) {
                (Value::Boolean(true), ArgAction::SetTrue) => flags.push(format!("--{name}").into()),
                (Value::Boolean(false), ArgAction::SetTrue) => {}
                (Value::String(text), ArgAction::Set | ArgAction::Append) => {
                    flags.push(format!("--{name}={text}").into());
                }
                (Value::Integer(number), ArgAction::Set | ArgAction::Append) => {
                    flags.push(format!("--{name}={number}").into());
                }
                (value, _) => {
                    let kind = problem(format!("{key} cannot be a {}", value.type_str()));
                    return Err(command.error(ErrorKind::InvalidValue, kind));
                }
            }
        }
    }
    Ok(flags)
}
