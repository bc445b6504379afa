//! How a node is configured: by a file, and by flags, which come before it.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Parser, ValueEnum};
use serde::Deserialize;

use crate::formation::{Bootstrap, ClusterKey, Config, Credentials, TlsConfig};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// Runs one node and prints what happens to it. Ctrl-C or SIGTERM makes it leave, a second one stops it at once, SIGHUP
/// makes it read its certificates anew.
///
/// It ends with 0 when it has left, 1 when it could not start, 2 when it was called wrongly, 3 when a newer run of the same node has
/// taken its place, 4 when another living node has its id, and 5 when it was stopped without having left.
#[derive(Parser)]
pub(crate) struct Flags {
    /// A TOML file with the same settings under the names of these flags, with _ for -, and lists where a flag is repeated
    #[arg(long)]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// What a node is told.
#[derive(clap::Args, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// The name of the cluster
    #[arg(long)]
    cluster: Option<String>,
    /// The name of this node, its own in the cluster
    #[arg(long)]
    id: Option<String>,
    /// Where to accept the other nodes, host:port
    #[arg(long)]
    listen: Option<String>,
    /// Where the others dial this node, when that is not what it listens on
    #[arg(long)]
    advertise: Option<String>,
    /// The address of a voter; repeat it for each, the same on every node
    #[arg(long = "seed")]
    seed: Vec<String>,
    /// An address to look for a master at; it need not be a voter's
    #[arg(long = "contact")]
    contact: Vec<String>,
    /// The directory in which this node, and no other, keeps its votes
    #[arg(long)]
    state_dir: Option<String>,
    /// Times for one machine, for one site, or for several
    #[arg(long)]
    times: Option<Times>,
    /// Join a cluster, but never form one
    #[arg(long)]
    join_only: bool,
    /// Go on without a quorum after so many milliseconds (E8)
    #[arg(long)]
    solo_after_ms: Option<u64>,
    /// What this node says of itself
    #[arg(long)]
    metadata: Option<String>,
    /// A file that holds the cluster key; twice while it is changed
    #[arg(long = "key-file")]
    key_file: Vec<PathBuf>,
    /// Speak TLS: the certificate of the authority that all nodes trust, in PEM
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
    /// The flags, and behind them the file.
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

    /// What the core is told.
    pub(crate) fn config(&self) -> Fallible<Config> {
        let address = match &self.advertise {
            Some(address) => address,
            None => self.listen()?,
        };
        let mut config = Config::builder(needed("cluster", &self.cluster)?, needed("id", &self.id)?, address)
            .seeds(&self.seed)
            .contacts(&self.contact);
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
            // An editor ends the last line.
            config = config.key(ClusterKey::from(read(path)?.trim_end()));
        }
        Ok(config.build()?)
    }

    /// What TLS needs, if it is wanted.
    pub(crate) fn credentials(&self) -> Fallible<Option<Credentials>> {
        Ok(self.tls()?.map(Credentials::new))
    }

    pub(crate) fn tls(&self) -> Fallible<Option<TlsConfig>> {
        if [&self.tls_authority, &self.tls_certificate, &self.tls_key].iter().all(|path| path.is_none()) {
            return Ok(None);
        }
        let authority = read(needed("tls-authority", &self.tls_authority)?)?;
        let certificate = read(needed("tls-certificate", &self.tls_certificate)?)?;
        let key = read(needed("tls-key", &self.tls_key)?)?;
        Ok(Some(TlsConfig::mutual(authority.as_bytes(), certificate.as_bytes(), key.as_bytes())?))
    }
}

fn needed<'a, T>(name: &str, value: &'a Option<T>) -> Result<&'a T, String> {
    value.as_ref().ok_or_else(|| format!("say --{name}, or {} in the file", name.replace('-', "_")))
}

fn read(path: &Path) -> Fallible<String> {
    Ok(fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?)
}
