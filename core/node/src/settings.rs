//! The settings of a node: flags, and a file for those that are not given as flags.

mod discovery;
mod environment;
mod file;
mod overrides;
mod problem;
mod secret;
#[cfg(test)]
mod tests;

use std::{
    error::Error,
    ffi::OsString,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{
    CommandFactory, FromArgMatches, Parser, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser},
    error::ErrorKind,
};
use formation_core::{Autopilot, Bootstrap, ClusterKey, Config, ConfigBuilder, Detector, PhiAccrual, Timing};
use formation_host::{
    Environment, Recorder, Source,
    tls::{Credentials, TlsConfig},
};
use formation_http::Token;

use crate::serve::Http;
use discovery::DiscoveryFlags;
use overrides::{LimitFlags, PhiFlags, TimingFlags, shown};
use secret::{read, read_secret};

/// A command gets at least this part of a lease to end.
const STOP_BEFORE_PART: u32 = 20;

/// How often the files of TLS may be looked at.
const LEAST_RELOAD: Duration = Duration::from_millis(10);

type Fallible<T> = Result<T, Box<dyn Error>>;

/// Runs one node and prints its events, which the subcommand `run` does, too. Ctrl-C or SIGTERM makes it leave, a second one stops it at once, SIGHUP
/// makes it read its certificates again.
///
/// Exit codes: 0 after leaving, 1 after a failed start, 2 for wrong or missing flags, 3 when a newer run of the same node has
/// taken its place, 4 when another living node has its id, 5 when it was stopped before it had left, 6 when its output was
/// closed.
///
/// `exec --while-master FLAGS -- COMMAND` runs the command only while this node is the master. The command has the term in its
/// environment (FORMATION_TERM), and no standard input. It gets SIGTERM before the lease ends and SIGKILL at the end of the lease, with
/// all processes of its group, also if the node is stopped or killed. Run the node as root or as the user that the command runs as. The
/// command is started again when this node is the master again. When it ends by itself, the node leaves, and exits with the code of the
/// command: 127 if there is no such command, 126 if it cannot be run. The lines of the node go to the standard error. There, plain lines
/// say when the command starts, is told to end, is killed, and has ended, also with --json.
///
/// The subcommands `status`, `members`, `events`, `explain`, `voters`, `leave` and `resign` ask a running node over HTTP: see `status --help`.
/// `keygen FILE` makes a cluster key or a token for HTTP. `completions SHELL` prints the completions of a shell, and `man` this page for
/// the program man.
///
/// A TIME has a unit, for example 200ms, 2s or 1m 30s.
///
/// Each flag can also stand in the environment: FORMATION_LEAVE_WITHIN for --leave-within, with commas between the values of one that is
/// repeated, and true for one without a value.
///
/// The environment variable RUST_LOG selects what is logged on the standard error: RUST_LOG=formation=debug logs everything.
/// Without it, warnings are logged, but not the lines for events, which are printed.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub(crate) struct Settings {
    /// A TOML file with further flags, under their names with _ for -, and lists where a flag is repeated. Flags and the environment have
    /// precedence
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The name of the cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// The name of this node, unique in the cluster
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    /// The address to accept connections at, host:port
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The address that other nodes dial, if it is another one
    #[arg(long, value_name = "ADDRESS")]
    advertise: Option<String>,
    /// The address of a voter; repeat it for each, the same on every node
    #[arg(long, value_name = "ADDRESS")]
    seed: Vec<String>,
    /// This node is the only voter. It needs no seed. Without this flag, its own address as the only seed is an error
    #[arg(long)]
    single: bool,
    /// A seed from before a change of the list of seeds; repeatable. The list may change only while all voters are stopped
    #[arg(long, value_name = "ADDRESS")]
    former_seed: Vec<String>,
    /// A further address to look for a master at; repeatable, the address of any node
    #[arg(long, value_name = "ADDRESS")]
    contact: Vec<String>,
    #[command(flatten)]
    discovery: DiscoveryFlags,
    /// The directory for the votes of this node alone
    // An empty one has an error of its own, which says what to do.
    #[arg(long, value_name = "DIRECTORY", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    state_dir: Option<PathBuf>,
    /// Join a cluster, but never form one
    #[arg(long)]
    join_only: bool,
    /// How much this voter is preferred as the master, from 0 (the default) to 255; the highest one leads
    #[arg(long, value_name = "NUMBER")]
    priority: Option<u8>,
    /// Continue without a quorum after this time, at the price of two masters in a partition (E8)
    #[arg(long, value_name = "TIME")]
    solo_after: Option<humantime::Duration>,
    /// Keep so many voters: the master replaces lost ones by members. Give all voters the same number
    #[arg(long, value_name = "NUMBER")]
    keep_voters: Option<usize>,
    /// How long a voter has been away when it is replaced; the default is 5 minutes
    #[arg(long, value_name = "TIME")]
    replace_voter_after: Option<humantime::Duration>,
    /// How long it may take to leave. After that the node ends without leaving, and does not wait for its disk
    #[arg(long, value_name = "TIME")]
    leave_within: Option<humantime::Duration>,
    /// How long before the end of its lease a master stops its work; the default is a tenth of the lease
    #[arg(long, value_name = "TIME")]
    lease_margin: Option<humantime::Duration>,
    /// Metadata of this node in the member list
    #[arg(long, value_name = "TEXT")]
    metadata: Option<String>,
    /// The oldest protocol version to speak
    #[arg(long, value_name = "VERSION")]
    protocol_min: Option<u16>,
    /// The newest protocol version to speak
    #[arg(long, value_name = "VERSION")]
    protocol_max: Option<u16>,
    /// Print lines of JSON for a program: one for each event, and one for each new lease
    #[arg(long)]
    pub(crate) json: bool,
    /// Serve the page of this node, its metrics, its health and what the subcommands ask for over HTTP at this address. Everybody who
    /// reaches it can read all of that
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// A file with a token of at least 16 bytes: who has it may make this node leave or resign over HTTP. It is sent in clear text: use it
    /// on an address of this machine, or behind a proxy with TLS
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    http_token_file: Option<PathBuf>,
    /// How many connections are served over HTTP at once; the default is 96. One source address gets a third of them at most
    #[arg(long, value_name = "NUMBER")]
    http_connections: Option<NonZeroUsize>,
    /// How long before the end of its lease the command of `exec` gets SIGTERM; the default is a quarter of the lease, and a twentieth
    /// the least
    #[arg(long, value_name = "TIME")]
    stop_before: Option<humantime::Duration>,
    /// A file that holds the cluster key; repeat it while the key is changed
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    key_file: Vec<PathBuf>,
    /// Use TLS: the certificate of the authority that all nodes trust, in PEM
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    tls_authority: Option<PathBuf>,
    /// The certificate of this node, in PEM
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    tls_certificate: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    tls_key: Option<PathBuf>,
    /// Look that often whether these three files have changed, and read them again. Without it, only SIGHUP does that
    #[arg(long, value_name = "TIME", help_heading = "Security")]
    pub(crate) tls_reload_every: Option<humantime::Duration>,
    /// Record what this node is given to files in this directory, which it needs for itself. `replay` shows it. The files have no key in
    /// them, and the metadata and the addresses of all members
    #[arg(long, value_name = "DIRECTORY", help_heading = "Recording")]
    record_to: Option<PathBuf>,
    /// The most bytes of inputs in a file of the recording, beside the node at its begin; the default is 4194304
    #[arg(long, value_name = "NUMBER", help_heading = "Recording")]
    record_file_bytes: Option<usize>,
    /// How many whole files of the recording are kept, at least 1; shorter ones share a place. The oldest is removed for a new one. The default is 32
    #[arg(long, value_name = "NUMBER", help_heading = "Recording")]
    record_files: Option<NonZeroUsize>,
    /// The times: for one machine, for one site (the default), or for several sites. Each flag below replaces one of them
    #[arg(long, help_heading = "Times")]
    times: Option<Times>,
    #[command(flatten, next_help_heading = "Times")]
    timing: TimingFlags,
    /// How this node, as a master, decides that a member is suspect: after a fixed time (the default), or by the φ accrual
    /// failure detector
    #[arg(long, help_heading = "Failure detector")]
    detector: Option<DetectorKind>,
    #[command(flatten, next_help_heading = "Failure detector")]
    phi: PhiFlags,
    #[command(flatten, next_help_heading = "Limits")]
    limits: LimitFlags,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Times {
    Local,
    Lan,
    Wan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DetectorKind {
    Deadlines,
    Phi,
}

impl Settings {
    /// The settings of the program with this name: its flags, completed by the environment, and then by the file. An error may be the
    /// help or the version that was asked for.
    pub(crate) fn read(
        name: &'static str,
        flags: impl IntoIterator<Item = OsString>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, clap::Error> {
        let mut flags: Vec<OsString> = flags.into_iter().collect();
        let mut command = Self::command().name(name);
        let given = command.clone().try_get_matches_from(&flags)?;
        let mut settings = Self::from_arg_matches(&given)?;
        // An error says where the value stands.
        let mut with = |source: String, more: Vec<OsString>, command: &mut clap::Command| {
            flags.extend(more);
            let given = command.clone().try_get_matches_from(&flags);
            given.and_then(|given| Ok((Self::from_arg_matches(&given)?, given))).map_err(|error| {
                let text = error.to_string();
                let text = text.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
                command.error(error.kind(), format!("{source}: {text}"))
            })
        };
        let more = environment::flags(variables, &mut command, &given)?;
        let given = if more.is_empty() {
            given
        } else {
            let (read, given) = with("environment".to_owned(), more, &mut command)?;
            settings = read;
            given
        };
        if let Some(path) = settings.config.clone() {
            let more = file::flags(&path, &mut command, &given)?;
            (settings, _) = with(path.display().to_string(), more, &mut command)?;
        }
        match settings.missing() {
            missing if missing.is_empty() => Ok(settings),
            missing => Err(command.error(
                ErrorKind::MissingRequiredArgument,
                format!("missing: {}; give them as flags or in the file of --config", missing.join(", ")),
            )),
        }
    }

    /// The flags that cannot be left out.
    fn missing(&self) -> Vec<&'static str> {
        let tls = [&self.tls_authority, &self.tls_certificate, &self.tls_key];
        let is_tls = tls.iter().any(|path| path.is_some());
        let needed = [
            ("--cluster", self.cluster.is_some()),
            ("--id", self.id.is_some()),
            ("--listen", self.listen.is_some()),
            ("--seed (or --single)", self.single || !self.seed.is_empty()),
            ("--tls-authority", !is_tls || self.tls_authority.is_some()),
            ("--tls-certificate", !is_tls || self.tls_certificate.is_some()),
            ("--tls-key", !is_tls || self.tls_key.is_some()),
        ];
        needed.into_iter().filter(|(_, is_given)| !is_given).map(|(flag, _)| flag).collect()
    }

    pub(crate) fn leave_within(&self) -> Option<Duration> {
        self.leave_within.map(Into::into)
    }

    pub(crate) fn listen(&self) -> &str {
        self.listen.as_deref().unwrap_or_default()
    }

    /// What is served over HTTP, and where. With a token, those who have it may make the node leave or resign.
    pub(crate) fn http(&self) -> Fallible<Option<Http>> {
        let Some(address) = self.http.clone() else {
            let without = [
                ("--http-token-file", self.http_token_file.is_some()),
                ("--http-connections", self.http_connections.is_some()),
            ];
            return match without.into_iter().find(|(_, is_given)| *is_given) {
                Some((flag, _)) => Err(format!("{flag} has no effect without --http; give both").into()),
                None => Ok(None),
            };
        };
        let mut settings = formation_http::Settings::new();
        if let Some(most) = self.http_connections {
            settings = settings.connections(most.get());
        }
        if let Some(limit) = self.leave_within() {
            settings = settings.leave_within(limit);
        }
        if let Some(path) = &self.http_token_file {
            settings = settings.control(Token::new(read_secret(path)?.trim())?);
        }
        Ok(Some(Http { address, settings }))
    }

    /// Where to look for further addresses.
    pub(crate) fn sources(&self) -> Fallible<Vec<Source>> {
        self.discovery.sources()
    }

    /// How long before the end of the lease the command of `exec` is told to end. It has to be less than what is left of a lease at any
    /// time, and enough for a command to react.
    pub(crate) fn stop_before(&self, config: &Config, is_exec: bool) -> Fallible<Duration> {
        let timing = config.timing();
        let least = timing.lease / STOP_BEFORE_PART;
        let most = timing.safe_lease().saturating_sub(config.lease_margin() + 2 * timing.heartbeat_interval);
        let time = self.stop_before.map_or(timing.lease / 4, Into::into);
        if !is_exec {
            return match self.stop_before {
                Some(_) => Err("--stop-before has no effect without exec; leave it out".into()),
                None => Ok(time),
            };
        }
        let (problem, bound) = match time {
            time if time > most => ("at most", most),
            time if time < least => ("at least", least),
            _ => return Ok(time),
        };
        let (time, bound) = (shown(time), shown(bound));
        Err(format!("--stop-before is {time}, but has to be {problem} {bound} with this --lease; change one of them")
            .into())
    }

    /// The configuration of the node.
    pub(crate) fn config(&self) -> Fallible<Config> {
        let address = self.advertise.as_deref().unwrap_or(self.listen());
        let (cluster, id) = (self.cluster.as_deref().unwrap_or_default(), self.id.as_deref().unwrap_or_default());
        let start = if self.single { Config::single } else { Config::builder };
        let mut config = start(cluster, id, address)
            .seeds(&self.seed)
            .former_seeds(&self.former_seed)
            .contacts(&self.contact)
            .timing(self.timing());
        if let Some(dir) = &self.state_dir {
            config = config.state_dir(dir);
        }
        if self.join_only {
            config = config.bootstrap(Bootstrap::JoinOnly);
        }
        if let Some(priority) = self.priority {
            config = config.priority(priority);
        }
        if let Some(time) = self.lease_margin {
            config = config.lease_margin(time.into());
        }
        if let Some(time) = self.solo_after {
            config = config.solo_after(time.into());
        }
        if let Some(autopilot) = self.autopilot()? {
            config = config.autopilot(autopilot);
        }
        if let Some(metadata) = &self.metadata {
            config = config.metadata(metadata.clone());
        }
        for path in &self.key_file {
            config = config.key(key(path)?);
        }
        config = self.restricted(config.detector(self.detector()?));
        Ok(config.build().map_err(|error| problem::describe(&error))?)
    }

    /// The system, with a recorder if there is to be one.
    pub(crate) fn environment(&self) -> Fallible<Environment> {
        let environment = Environment::system();
        let Some(dir) = &self.record_to else {
            return match (self.record_file_bytes, self.record_files) {
                (None, None) => Ok(environment),
                _ => Err("a flag --record-… has no effect without --record-to; give both".into()),
            };
        };
        let mut recorder = Recorder::to(dir);
        if let Some(bytes) = self.record_file_bytes {
            recorder = recorder.file_bytes(bytes);
        }
        if let Some(files) = self.record_files {
            recorder = recorder.files(files.get());
        }
        Ok(environment.record(recorder))
    }

    fn timing(&self) -> Timing {
        let mut timing = match self.times {
            Some(Times::Local) => Timing::local(),
            Some(Times::Wan) => Timing::wan(),
            Some(Times::Lan) | None => Timing::lan(),
        };
        self.timing.apply(&mut timing);
        timing
    }

    fn detector(&self) -> Result<Detector, &'static str> {
        match self.detector {
            Some(DetectorKind::Phi) => {
                let mut phi = PhiAccrual::default();
                self.phi.apply(&mut phi);
                Ok(Detector::PhiAccrual(phi))
            }
            Some(DetectorKind::Deadlines) | None if self.phi == PhiFlags::default() => Ok(Detector::Deadlines),
            Some(DetectorKind::Deadlines) | None => {
                Err("a flag --phi-… has no effect without --detector phi; give both")
            }
        }
    }

    fn autopilot(&self) -> Result<Option<Autopilot>, &'static str> {
        match (self.keep_voters.map(Autopilot::keep), self.replace_voter_after) {
            (Some(autopilot), Some(time)) => Ok(Some(autopilot.with_replace_after(time.into()))),
            (None, Some(_)) => Err("--replace-voter-after has no effect without --keep-voters; give both"),
            (autopilot, None) => Ok(autopilot),
        }
    }

    /// Sets the limits and the protocol versions.
    fn restricted(&self, config: ConfigBuilder) -> ConfigBuilder {
        let mut limits = Default::default();
        self.limits.apply(&mut limits);
        let mut protocol = formation_core::message::PROTOCOL;
        protocol.min = self.protocol_min.unwrap_or(protocol.min);
        protocol.max = self.protocol_max.unwrap_or(protocol.max);
        config.limits(limits).protocol(protocol)
    }

    /// The certificates and the key, if TLS is used.
    pub(crate) fn credentials(&self) -> Fallible<Option<Credentials>> {
        let credentials = self.tls()?.map(Credentials::new);
        match self.tls_reload_every {
            Some(_) if credentials.is_none() => {
                Err("--tls-reload-every has no effect without TLS; give --tls-key, too".into())
            }
            Some(every) if Duration::from(every) < LEAST_RELOAD => {
                Err(format!("--tls-reload-every is {every}, but has to be at least {}", shown(LEAST_RELOAD)).into())
            }
            Some(_) | None => Ok(credentials),
        }
    }

    /// The files that TLS needs.
    pub(crate) fn tls_files(&self) -> [Option<&Path>; 3] {
        [&self.tls_authority, &self.tls_certificate, &self.tls_key].map(|path| path.as_deref())
    }

    pub(crate) fn tls(&self) -> Fallible<Option<TlsConfig>> {
        let (Some(authority), Some(certificate), Some(key)) =
            (&self.tls_authority, &self.tls_certificate, &self.tls_key)
        else {
            return Ok(None);
        };
        let (authority, certificate, key) = (read(authority)?, read(certificate)?, read_secret(key)?);
        Ok(Some(TlsConfig::mutual(authority.as_bytes(), certificate.as_bytes(), key.as_bytes())?))
    }
}

/// The cluster key in a file.
pub(crate) fn key(path: &Path) -> Fallible<ClusterKey> {
    // Editors end the last line with a newline.
    let mut key = read_secret(path)?;
    key.truncate(key.trim_end().len());
    Ok(ClusterKey::from(key))
}
