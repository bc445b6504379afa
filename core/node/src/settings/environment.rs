//! Flags in the environment: `FORMATION_LEAVE_WITHIN` for `--leave-within`.

use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgAction, ArgMatches, Command, Error, error::ErrorKind, parser::ValueSource};

const PREFIX: &str = "FORMATION_";

/// How the text form of a source begins.
const SCHEMES: [&str; 6] = ["static", "dns", "srv", "k8s", "file", "env"];

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
            (ArgAction::Append, Some(list)) => {
                let parts = if flag.get_id() == "discover" { sources(list) } else { parts(list) };
                flags.extend(parts.iter().map(|part| with(&name, OsStr::new(part))));
            }
            _ => flags.push(with(&name, &value)),
        }
    }
    Ok(flags)
}

/// The values of a list. Neither an address nor an ordinary path has a comma.
fn parts(list: &str) -> Vec<String> {
    list.split(',').map(|part| part.trim().to_owned()).collect()
}

/// The sources of a list. One of them may be a list itself, `static:a:1,b:2`: what does not begin like a source belongs to the one
/// before it.
fn sources(list: &str) -> Vec<String> {
    let mut sources: Vec<String> = Vec::new();
    for part in parts(list) {
        let is_source = part.split_once(':').is_some_and(|(scheme, _)| SCHEMES.contains(&scheme));
        match sources.last_mut() {
            Some(last) if !is_source => {
                last.push(',');
                last.push_str(&part);
            }
            _ => sources.push(part),
        }
    }
    sources
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_sources_may_have_a_list_in_it() {
        assert_eq!(sources("static:a:1, b:2,dns:n:7000,env:X"), ["static:a:1,b:2", "dns:n:7000", "env:X"]);
        assert_eq!(sources("b:2,file:/x"), ["b:2", "file:/x"]);
    }
}
