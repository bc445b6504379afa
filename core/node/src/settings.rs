//! The settings of a node: flags, and a file for those that are not given as flags.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Parser, ValueEnum};
use formation_core::{Bootstrap, ClusterKey, Config};
use formation_host::tls::{Credentials, TlsConfig};
use serde::Deserialize;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// Runs one node and prints its events. Ctrl-C or SIGTERM makes it leave, a second one stops it at once, SIGHUP
/// makes it read its certificates again.
///
/// Exit codes: 0 after leaving, 1 after a failed start, 2 for wrong flags, 3 when a newer run of the same node has taken its
/// place, 4 when another living node has its id, 5 when it was stopped before it had left, 6 when its output was closed.
///
/// The environment variable RUST_LOG selects what is logged on the standard error: RUST_LOG=formation=debug logs everything.
/// Without it, only errors are logged.
#[derive(Parser)]
pub(crate) struct Flags {
    /// A TOML file with the same settings under the names of these flags, with _ for -, and lists where a flag is repeated
    #[arg(long)]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// The flags that the file may hold, too.
#[derive(clap::Args, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// The name of the cluster
    #[arg(long)]
    cluster: Option<String>,
    /// The name of this node, unique in the cluster
    #[arg(long)]
    id: Option<String>,
    /// The address to accept connections at, host:port
    #[arg(long)]
    listen: Option<String>,
    /// The address that other nodes dial, if it is another one
    #[arg(long)]
    advertise: Option<String>,
    /// The address of a voter; repeat it for each, the same on every node
    #[arg(long = "seed")]
    seed: Vec<String>,
    /// This node is the only voter. It needs no seed. Without this flag, its own address as the only seed is an error
    #[arg(long)]
    single: bool,
    /// A further address to look for a master at; repeatable, the address of any node
    #[arg(long = "contact")]
    contact: Vec<String>,
    /// The directory for the votes of this node alone
    #[arg(long)]
    state_dir: Option<String>,
    /// The timing: for one machine, for one site, or for several sites
    #[arg(long)]
    times: Option<Times>,
    /// Join a cluster, but never form one
    #[arg(long)]
    join_only: bool,
    /// Continue without a quorum after this many milliseconds (E8)
    #[arg(long)]
    solo_after_ms: Option<u64>,
    /// Metadata of this node in the member list
    #[arg(long)]
    metadata: Option<String>,
    /// A file that holds the cluster key; repeat it while the key is changed
    #[arg(long = "key-file")]
    key_file: Vec<PathBuf>,
    /// Use TLS: the certificate of the authority that all nodes trust, in PEM
    #[arg(long)]
    tls_authority: Option<PathBuf>,
    /// The certificate of this node, in PEM
    #[arg(long)]
    tls_certificate: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long)]
    tls_key: Option<PathBuf>,
    /// Print one line of JSON for each event and each new lease
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Times {
    Local,
    Lan,
    Wan,
}

impl Flags {
    /// The flags, completed by the file.
    pub(crate) fn read(self) -> Fallible<Settings> {
        let Some(path) = self.config else { return Ok(self.settings) };
        let text = read(&path)?;
        let file: Settings = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(self.settings.or(file))
    }
}

impl Settings {
    fn or(self, file: Self) -> Self {
        fn list<T>(flags: Vec<T>, file: Vec<T>) -> Vec<T> {
            if flags.is_empty() { file } else { flags }
        }
        Self {
            cluster: self.cluster.or(file.cluster),
            id: self.id.or(file.id),
            listen: self.listen.or(file.listen),
            advertise: self.advertise.or(file.advertise),
            seed: list(self.seed, file.seed),
            single: self.single || file.single,
            contact: list(self.contact, file.contact),
            state_dir: self.state_dir.or(file.state_dir),
            times: self.times.or(file.times),
            join_only: self.join_only || file.join_only,
            solo_after_ms: self.solo_after_ms.or(file.solo_after_ms),
            metadata: self.metadata.or(file.metadata),
            key_file: list(self.key_file, file.key_file),
            tls_authority: self.tls_authority.or(file.tls_authority),
            tls_certificate: self.tls_certificate.or(file.tls_certificate),
            tls_key: self.tls_key.or(file.tls_key),
            json: self.json || file.json,
        }
    }

    pub(crate) fn listen(&self) -> Fallible<&str> {
        Ok(needed("listen", &self.listen)?)
    }

    /// The configuration of the node.
    pub(crate) fn config(&self) -> Fallible<Config> {
        let address = match &self.advertise {
            Some(address) => address,
            None => self.listen()?,
        };
        let (cluster, id) = (needed("cluster", &self.cluster)?, needed("id", &self.id)?);
        let start = if self.single { Config::single } else { Config::builder };
        let mut config = start(cluster, id, address).seeds(&self.seed).contacts(&self.contact);
        config = match self.times {
            Some(Times::Local) => config.local(),
            Some(Times::Wan) => config.wan(),
            Some(Times::Lan) | None => config.lan(),
        };
        if let Some(dir) = &self.state_dir {
            config = config.state_dir(dir);
        }
        if self.join_only {
            config = config.bootstrap(Bootstrap::JoinOnly);
        }
        if let Some(millis) = self.solo_after_ms {
            config = config.solo_after(Duration::from_millis(millis));
        }
        if let Some(metadata) = &self.metadata {
            config = config.metadata(metadata.clone().into());
        }
        for path in &self.key_file {
            // Editors end the last line with a newline.
            let mut key = read_secret(path)?;
            key.truncate(key.trim_end().len());
            config = config.key(ClusterKey::from(key));
        }
        Ok(config.build()?)
    }

    /// The certificates and the key, if TLS is used.
    pub(crate) fn credentials(&self) -> Fallible<Option<Credentials>> {
        Ok(self.tls()?.map(Credentials::new))
    }

    pub(crate) fn tls(&self) -> Fallible<Option<TlsConfig>> {
        if [&self.tls_authority, &self.tls_certificate, &self.tls_key].iter().all(|path| path.is_none()) {
            return Ok(None);
        }
        let authority = read(needed("tls-authority", &self.tls_authority)?)?;
        let certificate = read(needed("tls-certificate", &self.tls_certificate)?)?;
        let key = read_secret(needed("tls-key", &self.tls_key)?)?;
        Ok(Some(TlsConfig::mutual(authority.as_bytes(), certificate.as_bytes(), key.as_bytes())?))
    }
}

fn needed<'a, T>(name: &str, value: &'a Option<T>) -> Result<&'a T, String> {
    value.as_ref().ok_or_else(|| format!("--{name} is missing, or {} in the file", name.replace('-', "_")))
}

/// Reads a file that should be for the user of the node only.
fn read_secret(path: &Path) -> Fallible<String> {
    let text = read(path)?;
    if is_open_to_others(path) {
        tracing::warn!(
            target: "formation", path = %path.display(),
            "other users of this machine can read or change this key file; take their permissions away (chmod 600)"
        );
    }
    Ok(text)
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_: &Path) -> bool {
    false
}

fn read(path: &Path) -> Fallible<String> {
    Ok(fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_file_is_for_its_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "secret").unwrap();
        for (mode, is_open) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true), (0o620, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_open_to_others(&path), is_open, "{mode:o}");
        }
    }
}
