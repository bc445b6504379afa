//! The text form of a source, and lists of addresses in files and variables.

use std::{collections::BTreeSet, fmt, io, str::FromStr};

use formation_core::{Address, IdError};

use super::source::Source;

/// The longest text of a source, in bytes.
const MAX_LEN: usize = 4096;

/// How much of a wrong text an error shows, in characters.
const SHOWN: usize = 80;

/// Why a text is no [`Source`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is no source of addresses: {problem}")]
pub struct SourceError {
    text: String,
    problem: String,
}

impl SourceError {
    pub(super) fn new(text: &str, problem: impl fmt::Display) -> Self {
        let shown = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        Self { text: shown, problem: problem.to_string() }
    }
}

/// The text form: `static:ADDRESS,ADDRESS`, `dns:NAME:PORT`, `srv:NAME`, `k8s:SERVICE.NAMESPACE:PORT`, `file:PATH` or `env:NAME`.
///
/// ```
/// use formation_host::Source;
///
/// let source: Source = "dns:orders.internal:7000".parse()?;
/// assert_eq!(source.to_string(), "dns:orders.internal:7000");
/// let error = "orders.internal".parse::<Source>().unwrap_err();
/// assert!(error.to_string().contains("dns:NAME:PORT"));
/// # Ok::<(), formation_host::SourceError>(())
/// ```
impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let wrong = |problem: &dyn fmt::Display| SourceError::new(text, problem);
        if text.len() > MAX_LEN {
            return Err(wrong(&format_args!("it is longer than {MAX_LEN} bytes")));
        }
        match text.split_once(':') {
            Some(("static", list)) => Ok(Self::fixed(addresses(list).map_err(|error| wrong(&error))?)),
            Some(("dns", name)) => Ok(Self::dns(Address::new(name).map_err(|error| wrong(&error))?)),
            Some(("srv", name)) => Self::srv(name),
            Some(("k8s", service)) => match service.rsplit_once(':').map(|(name, port)| (name.split_once('.'), port)) {
                Some((Some((name, namespace)), port)) => Self::kubernetes(name, namespace, port),
                Some((None, _)) | None => {
                    Err(wrong(&"write k8s:SERVICE.NAMESPACE:PORT, with the name or the number of the port"))
                }
            },
            Some(("file", path)) if !path.is_empty() => Ok(Self::file(path)),
            Some(("env", name)) if !name.is_empty() => Ok(Self::env(name)),
            Some(_) | None => Err(wrong(
                &"write static:ADDRESS,ADDRESS, dns:NAME:PORT, srv:NAME, k8s:SERVICE.NAMESPACE:PORT, file:PATH or env:NAME",
            )),
        }
    }
}

/// The addresses of a text, between commas or white space.
pub(super) fn addresses(text: &str) -> Result<BTreeSet<Address>, IdError> {
    let is_between = |c: char| c == ',' || c.is_whitespace();
    text.split(is_between).filter(|part| !part.is_empty()).map(Address::new).collect()
}

/// The addresses of a file: one on each line, and comments behind `#`. Its last line has an end, or it is still being written.
pub(super) fn lines(text: &str) -> io::Result<BTreeSet<Address>> {
    if !text.is_empty() && !text.ends_with('\n') {
        let problem =
            "the last line has no end: the file may be half written; end each line, and replace the file by a rename";
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    let mut found = BTreeSet::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {error}", number + 1));
            found.insert(Address::new(line).map_err(wrong)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_written_as_it_is_read() {
        for text in [
            "static:a:1,b:2",
            "dns:orders.internal:7000",
            "srv:_orders._tcp.internal",
            "k8s:orders.default:peers",
            "file:/etc/orders/nodes",
            "env:ORDERS_NODES",
        ] {
            let source: Result<Source, _> = text.parse();
            match source {
                Ok(source) => assert_eq!(source.to_string(), text),
                Err(error) => {
                    assert!(cfg!(not(feature = "dns-srv")) && error.to_string().contains("dns-srv"), "{error}");
                }
            }
        }
    }

    #[test]
    fn the_error_says_what_to_write() {
        let long = format!("file:/{}", "x".repeat(MAX_LEN));
        for (text, named) in [
            ("", "file:PATH"),
            ("orders", "env:NAME"),
            ("file:", "file:PATH"),
            ("env:", "env:NAME"),
            ("dns:orders", "no port"),
            ("static:a:1,b", "no port"),
            ("k8s:orders:7000", "NAMESPACE"),
            ("k8s:orders.default", "PORT"),
            (&long, "longer than 4096"),
        ] {
            let error = text.parse::<Source>().unwrap_err().to_string();
            assert!(error.contains(named) && error.len() < 300, "{text}: {error}");
        }
    }

    #[test]
    fn a_file_has_an_address_on_each_line() {
        let found = lines("# nodes\n\n a:1 # the first\nB:2\r\na:1\n").unwrap();
        assert_eq!(found.iter().map(Address::as_str).collect::<Vec<_>>(), ["a:1", "b:2"]);
        let error = lines("a:1\nb\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("no port"), "{error}");
        assert!(lines("a:1\nb:1").unwrap_err().to_string().contains("half written"));
        assert!(lines("").unwrap().is_empty());
    }
}
