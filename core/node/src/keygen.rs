//! The subcommand that makes a secret: a cluster key, or a token for HTTP.

use std::{
    error::Error,
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;

/// How many random bytes a secret has: as many as a key needs (PROTOCOL.md, "The cluster key").
const BYTES: usize = 32;

#[derive(Args, Debug)]
pub(crate) struct Keygen {
    /// A new file for the secret, which only its user can read. Without it, the secret is printed
    file: Option<PathBuf>,
}

impl Keygen {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        let secret = secret()?;
        match self.file {
            None => Ok(writeln!(io::stdout(), "{secret}")?),
            Some(file) => write(&file, &secret)
                .map_err(|error| format!("cannot write {}: {}", file.display(), describe(&error)).into()),
        }
    }
}

/// 64 hexadecimal digits.
fn secret() -> io::Result<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let mut text = String::with_capacity(2 * BYTES);
    for byte in bytes {
        // A String takes everything.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// Writes a new file, and never over another one: that may be the key of a running cluster.
fn write(path: &Path, secret: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let written = writeln!(file, "{secret}").and_then(|()| file.sync_all());
    if written.is_err() {
        // Part of a secret would be in the way of the next attempt. The first error says more than one of this.
        let _ = fs::remove_file(path);
    }
    written
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            "it exists, and may be in use; name another file, or remove it first".to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use formation_core::{ClusterKey, Config};

    use super::*;

    #[test]
    fn a_secret_is_a_key_that_only_its_user_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        Keygen { file: Some(path.clone()) }.run().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        let key = text.trim_end();
        assert!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}");
        Config::single("c", "a", "a:1").key(ClusterKey::from(key.to_owned())).build().unwrap();
        assert_ne!(secret().unwrap(), secret().unwrap());
    }

    #[test]
    fn a_secret_never_replaces_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "in use").unwrap();
        let error = Keygen { file: Some(path.clone()) }.run().unwrap_err().to_string();
        assert!(error.contains("key") && error.contains("remove it"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "in use");
        let missing = dir.path().join("no/key");
        let error = Keygen { file: Some(missing) }.run().unwrap_err().to_string();
        assert!(error.contains("No such file"), "{error}");
    }
}
