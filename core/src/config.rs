//! What a node is configured with. There is no way to hold a [`Config`] that breaks a rule: [`ConfigBuilder::build`] is
//! the only way to one, for a deserialized one too.

use alloc::{
    collections::BTreeSet,
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{Address, ClusterName, ElectorateDigest, IdError, NodeId};

/// Every two voters keep a link and tell each other every change of status, so that the cost grows with the square of
/// the seeds; and a quorum of more than a few dozen makes elections slower, never safer. Other members are not limited by it.
const MAX_SEEDS: usize = 64;

/// The largest `Hello` without extensions has 445 bytes; the rest is what extensions may take.
const MIN_FIRST_FRAME: usize = 640;

/// What a status or a member takes on the wire beside its metadata, at most.
const METADATA_ROOM: usize = 1024;

/// No time is longer: a unit mistaken (milliseconds given as seconds) should not pass for a slow network.
const LONGEST: Duration = Duration::from_secs(3600);

/// What a node is configured with: valid, and never changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "ConfigBuilder", into = "ConfigBuilder")]
pub struct Config {
    cluster: ClusterName,
    id: NodeId,
    address: Address,
    seeds: BTreeSet<Address>,
    contacts: BTreeSet<Address>,
    bootstrap: Bootstrap,
    metadata: Bytes,
    timing: Timing,
    limits: Limits,
    electorate: ElectorateDigest,
}

impl Config {
    /// Starts a configuration for a node that others dial at `address`. It needs [`seeds`](ConfigBuilder::seeds).
    pub fn builder(cluster: impl Into<String>, id: impl Into<String>, address: impl Into<String>) -> ConfigBuilder {
        ConfigBuilder {
            cluster: cluster.into(),
            id: id.into(),
            address: address.into(),
            seeds: Vec::new(),
            contacts: Vec::new(),
            bootstrap: Bootstrap::default(),
            metadata: Bytes::new(),
            timing: Timing::default(),
            limits: Limits::default(),
        }
    }

    /// Starts a configuration for a node that is its own only seed: it is the master at once. Others that name it as
    /// their only seed can join.
    pub fn single(cluster: impl Into<String>, id: impl Into<String>, address: impl Into<String>) -> ConfigBuilder {
        let builder = Self::builder(cluster, id, address);
        let own = builder.address.clone();
        builder.seeds([own])
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// This node's name.
    pub fn id(&self) -> &NodeId {
        &self.id
    }

    /// Where others dial this node.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The addresses of the voters, the same on every node.
    pub fn seeds(&self) -> &BTreeSet<Address> {
        &self.seeds
    }

    /// Other addresses to dial while there is no master.
    pub fn contacts(&self) -> &BTreeSet<Address> {
        &self.contacts
    }

    /// Whether this node may form a cluster.
    pub fn bootstrap(&self) -> Bootstrap {
        self.bootstrap
    }

    /// What this node says of itself in the member list.
    pub fn metadata(&self) -> &Bytes {
        &self.metadata
    }

    /// The times.
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The digest of the seeds, which the handshake compares.
    pub fn electorate(&self) -> ElectorateDigest {
        self.electorate
    }

    /// Whether this node's address is a seed.
    pub fn is_voter(&self) -> bool {
        self.seeds.contains(&self.address)
    }

    /// How many voters elect a master: more than half of the seeds.
    pub fn quorum(&self) -> usize {
        self.seeds.len() / 2 + 1
    }
}

impl TryFrom<ConfigBuilder> for Config {
    type Error = ConfigError;

    fn try_from(builder: ConfigBuilder) -> Result<Self, ConfigError> {
        builder.build()
    }
}

impl From<Config> for ConfigBuilder {
    fn from(config: Config) -> Self {
        let texts = |addresses: &BTreeSet<Address>| addresses.iter().map(Address::to_string).collect();
        Self {
            cluster: config.cluster.to_string(),
            id: config.id.to_string(),
            address: config.address.to_string(),
            seeds: texts(&config.seeds),
            contacts: texts(&config.contacts),
            bootstrap: config.bootstrap,
            metadata: config.metadata,
            timing: config.timing,
            limits: config.limits,
        }
    }
}

/// A configuration in the making; nothing is checked before [`build`](Self::build).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigBuilder {
    cluster: String,
    id: String,
    address: String,
    #[serde(default)]
    seeds: Vec<String>,
    #[serde(default)]
    contacts: Vec<String>,
    #[serde(default)]
    bootstrap: Bootstrap,
    #[serde(default)]
    metadata: Bytes,
    #[serde(default)]
    timing: Timing,
    #[serde(default)]
    limits: Limits,
}

impl ConfigBuilder {
    /// Adds seeds. The list has to be the same on every node; order and repetitions do not matter.
    pub fn seeds(mut self, seeds: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.seeds.extend(seeds.into_iter().map(Into::into));
        self
    }

    /// Adds addresses to dial while there is no master. Unlike seeds they may differ from node to node.
    pub fn contacts(mut self, contacts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.contacts.extend(contacts.into_iter().map(Into::into));
        self
    }

    /// Whether this node may form a cluster; [`Bootstrap::Form`] unless said otherwise.
    pub fn bootstrap(mut self, bootstrap: Bootstrap) -> Self {
        self.bootstrap = bootstrap;
        self
    }

    /// What this node says of itself in the member list.
    pub fn metadata(mut self, metadata: Bytes) -> Self {
        self.metadata = metadata;
        self
    }

    /// [`Timing::lan`], which is the default.
    pub fn lan(self) -> Self {
        self.timing(Timing::lan())
    }

    /// [`Timing::local`].
    pub fn local(self) -> Self {
        self.timing(Timing::local())
    }

    /// [`Timing::wan`].
    pub fn wan(self) -> Self {
        self.timing(Timing::wan())
    }

    /// Times of one's own.
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Limits of one's own.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Checks every rule.
    ///
    /// # Errors
    /// [`ConfigError`] names the first rule that is broken, with the values that break it.
    pub fn build(self) -> Result<Config, ConfigError> {
        let cluster = ClusterName::new(&self.cluster).map_err(named("cluster"))?;
        let id = NodeId::new(&self.id).map_err(named("id"))?;
        let address = Address::new(&self.address).map_err(named("address"))?;
        let seeds = addresses("seeds", &self.seeds)?;
        let contacts = addresses("contacts", &self.contacts)?;
        if seeds.is_empty() {
            return Err(ConfigError::NoSeeds);
        }
        size("the number of seeds", seeds.len(), 1, MAX_SEEDS)?;
        self.timing.check()?;
        self.limits.check()?;
        let limits = &self.limits;
        let given = ("the number of seeds", seeds.len());
        sizes(("links", limits.links), "more than", given, limits.links > given.1)?;
        let given = ("the number of contacts", contacts.len());
        sizes(("contacts", limits.contacts), "at least", given, limits.contacts >= given.1)?;
        let given = ("the length of the metadata", self.metadata.len());
        sizes(("metadata", limits.metadata), "at least", given, limits.metadata >= given.1)?;
        Ok(Config {
            cluster,
            id,
            address,
            electorate: ElectorateDigest::of(&seeds),
            seeds,
            contacts,
            bootstrap: self.bootstrap,
            metadata: self.metadata,
            timing: self.timing,
            limits: self.limits,
        })
    }
}

/// Whether a node may form a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Bootstrap {
    /// With a quorum of voters, it may.
    #[default]
    Form,
    /// It neither stands nor votes before it has been a member once, in this run or by its durable state.
    JoinOnly,
}

/// The times. Start from a preset: `Timing { lease, ..Timing::lan() }`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timing {
    /// From the master to every member.
    pub heartbeat_interval: Duration,
    /// How long a master may act after a quorum last confirmed it; at least 3 heartbeats.
    pub lease: Duration,
    /// A member that has not acknowledged for this long is suspect; at least 2 heartbeats.
    pub suspect_after: Duration,
    /// A member that has not acknowledged for this long is removed, and a silent connection closed.
    pub down_after: Duration,
    /// How long a voter that has just started waits for all others; at least a lease.
    pub bootstrap_wait: Duration,
    /// Between the turns of two candidates.
    pub stagger: Duration,
    /// After this long a candidate gives up: more than a round trip and a persist.
    pub election_timeout: Duration,
    /// From the opening of a connection, or the start of a dial, to an established link.
    pub handshake_timeout: Duration,
    /// The first wait before an address is dialed again; it doubles from there.
    pub dial_backoff_min: Duration,
    /// The longest wait before an address is dialed again.
    pub dial_backoff_max: Duration,
    /// By how much the rates of any two nodes' clocks may differ, in percent.
    pub max_clock_drift_percent: u8,
}

impl Default for Timing {
    fn default() -> Self {
        Self::lan()
    }
}

impl Timing {
    /// For nodes in one data centre.
    pub const fn lan() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(200),
            lease: Duration::from_secs(1),
            suspect_after: Duration::from_millis(600),
            down_after: Duration::from_secs(3),
            bootstrap_wait: Duration::from_secs(3),
            stagger: Duration::from_millis(100),
            election_timeout: Duration::from_millis(500),
            handshake_timeout: Duration::from_secs(2),
            dial_backoff_min: Duration::from_millis(20),
            dial_backoff_max: Duration::from_secs(1),
            max_clock_drift_percent: 1,
        }
    }

    /// For nodes on one machine, and for tests.
    pub const fn local() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(50),
            lease: Duration::from_millis(250),
            suspect_after: Duration::from_millis(150),
            down_after: Duration::from_millis(750),
            bootstrap_wait: Duration::from_secs(1),
            stagger: Duration::from_millis(25),
            election_timeout: Duration::from_millis(120),
            handshake_timeout: Duration::from_millis(500),
            dial_backoff_min: Duration::from_millis(5),
            dial_backoff_max: Duration::from_millis(250),
            max_clock_drift_percent: 1,
        }
    }

    /// For nodes in different regions.
    pub const fn wan() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(1),
            lease: Duration::from_secs(5),
            suspect_after: Duration::from_secs(3),
            down_after: Duration::from_secs(15),
            bootstrap_wait: Duration::from_secs(15),
            stagger: Duration::from_millis(500),
            election_timeout: Duration::from_millis(2500),
            handshake_timeout: Duration::from_secs(10),
            dial_backoff_min: Duration::from_millis(100),
            dial_backoff_max: Duration::from_secs(10),
            max_clock_drift_percent: 1,
        }
    }

    /// What of a lease is left on the fastest clock: `lease` × (1 − drift), in whole microseconds.
    pub fn safe_lease(&self) -> Duration {
        let left = self.lease.as_micros() * u128::from(100_u8.saturating_sub(self.max_clock_drift_percent)) / 100;
        Duration::from_micros(u64::try_from(left).unwrap_or(u64::MAX))
    }

    fn check(&self) -> Result<(), ConfigError> {
        // Timestamps count microseconds: less is no time at all.
        let tick = Duration::from_micros(1);
        for (field, value, min) in [
            // Faster than this, a node does little else.
            ("heartbeat_interval", self.heartbeat_interval, Duration::from_millis(1)),
            ("lease", self.lease, tick),
            ("suspect_after", self.suspect_after, tick),
            ("down_after", self.down_after, tick),
            ("bootstrap_wait", self.bootstrap_wait, tick),
            ("stagger", self.stagger, tick),
            ("election_timeout", self.election_timeout, tick),
            ("handshake_timeout", self.handshake_timeout, tick),
            ("dial_backoff_min", self.dial_backoff_min, tick),
            ("dial_backoff_max", self.dial_backoff_max, tick),
        ] {
            if !(min..=LONGEST).contains(&value) {
                return Err(ConfigError::TimeOutOfRange { field, value, min, max: LONGEST });
            }
        }
        size("max_clock_drift_percent", self.max_clock_drift_percent.into(), 0, 49)?;
        let beat = ("heartbeat_interval", self.heartbeat_interval);
        let lease = ("lease", self.lease);
        let down = ("down_after", self.down_after);
        let election = ("election_timeout", self.election_timeout);
        // One lost heartbeat must neither end a lease nor make a suspect.
        times(lease, "at least 3 times", beat, lease.1 >= 3 * beat.1)?;
        times(("suspect_after", self.suspect_after), "at least 2 times", beat, self.suspect_after >= 2 * beat.1)?;
        times(down, "more than", ("suspect_after", self.suspect_after), down.1 > self.suspect_after)?;
        times(down, "at least", lease, down.1 >= lease.1)?;
        // E1: a voter that forgot its promises in a restart must not vote before they have ended.
        times(("bootstrap_wait", self.bootstrap_wait), "at least", lease, self.bootstrap_wait >= lease.1)?;
        // E2: a candidate gives up before the promise to itself ends on anybody's clock.
        let safe = ("lease x (1 - max_clock_drift_percent)", self.safe_lease());
        times(safe, "more than", election, safe.1 > election.1)?;
        // E3: a request kept for the next turn is answered while its candidate still listens.
        times(election, "more than", ("stagger", self.stagger), election.1 > self.stagger)?;
        let (min, max) = (self.dial_backoff_min, self.dial_backoff_max);
        times(("dial_backoff_max", max), "at least", ("dial_backoff_min", min), max >= min)
    }
}

/// The limits. Reaching one closes the offending link with a named reason, no more.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a frame before the link is established.
    pub frame_before_handshake: usize,
    /// Bytes of a frame on an established link.
    pub max_frame: usize,
    /// Bytes of one `Send`.
    pub send: usize,
    /// Accepted connections that are not yet established.
    pub pending_links: usize,
    /// Connections in all.
    pub links: usize,
    /// Bytes of unfinished frames over all connections.
    pub partial_bytes: usize,
    /// Members of the cluster.
    pub members: usize,
    /// Bytes of one member's metadata.
    pub metadata: usize,
    /// Changes that the master keeps for deltas.
    pub change_log: usize,
    /// Addresses to dial beside the seeds.
    pub contacts: usize,
    /// Views that are kept for slow readers of snapshots.
    pub pinned_epochs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_before_handshake: 1 << 10,
            max_frame: 128 << 10,
            send: 64 << 10,
            pending_links: 64,
            links: 16_384,
            partial_bytes: 64 << 20,
            members: 16_384,
            metadata: 512,
            change_log: 4_096,
            contacts: 1_024,
            pinned_epochs: 4,
        }
    }
}

impl Limits {
    fn check(&self) -> Result<(), ConfigError> {
        for (field, value, min, max) in [
            ("frame_before_handshake", self.frame_before_handshake, MIN_FIRST_FRAME, usize::MAX),
            // The wire's length has 32 bits; that a frame and its prefix fit a 32-bit address space is why it is less.
            ("max_frame", self.max_frame, MIN_FIRST_FRAME, 1 << 30),
            ("send", self.send, 4096, usize::MAX),
            ("pending_links", self.pending_links, 1, usize::MAX),
            ("links", self.links, 1, usize::MAX),
            ("members", self.members, 1, usize::MAX),
            ("change_log", self.change_log, 1, usize::MAX),
            ("pinned_epochs", self.pinned_epochs, 1, usize::MAX),
        ] {
            size(field, value, min, max)?;
        }
        let frame = ("max_frame", self.max_frame);
        let first = ("frame_before_handshake", self.frame_before_handshake);
        let send = ("send", self.send);
        sizes(frame, "at least", first, frame.1 >= first.1)?;
        sizes(frame, "at least", send, frame.1 >= send.1)?;
        sizes(("partial_bytes", self.partial_bytes), "at least", frame, self.partial_bytes >= frame.1)?;
        let fits = send.1.saturating_sub(METADATA_ROOM) >= self.metadata;
        sizes(send, "at least 1024 more than", ("metadata", self.metadata), fits)
    }
}

/// A configuration that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The seed list was forgotten.
    #[error(
        "there are no seeds; give the same list to every node with seeds(), or say Config::single() for a node alone"
    )]
    NoSeeds,
    /// A name or an address cannot be used.
    #[error("{field}: {problem}")]
    Name {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        problem: IdError,
    },
    /// A time is beyond what makes sense, whatever the others are.
    #[error("{field} is {value:?}, but has to be from {min:?} to {max:?}; choose a value between them")]
    TimeOutOfRange {
        /// Which.
        field: &'static str,
        /// Its value.
        value: Duration,
        /// The least.
        min: Duration,
        /// The most.
        max: Duration,
    },
    /// A number is beyond what makes sense, whatever the others are.
    #[error("{field} is {value}, but has to be from {min} to {max}; choose a value between them")]
    SizeOutOfRange {
        /// Which.
        field: &'static str,
        /// Its value.
        value: usize,
        /// The least.
        min: usize,
        /// The most.
        max: usize,
    },
    /// Two times do not fit together.
    #[error(
        "{field} is {value:?}, but has to be {relation} {other}, which is {than:?}; raise {field} or lower {other}"
    )]
    Times {
        /// The one that is too short.
        field: &'static str,
        /// Its value.
        value: Duration,
        /// How they have to relate.
        relation: &'static str,
        /// The one that is too long for it.
        other: &'static str,
        /// That one's value.
        than: Duration,
    },
    /// Two limits do not fit together, or a limit and what was given.
    #[error("{field} is {value}, but has to be {relation} {other}, which is {than}; raise {field} or lower {other}")]
    Sizes {
        /// The one that is too small.
        field: &'static str,
        /// Its value.
        value: usize,
        /// How they have to relate.
        relation: &'static str,
        /// The one that is too large for it.
        other: &'static str,
        /// That one's value.
        than: usize,
    },
}

fn named(field: &'static str) -> impl Fn(IdError) -> ConfigError {
    move |problem| ConfigError::Name { field, problem }
}

fn addresses(field: &'static str, texts: &[String]) -> Result<BTreeSet<Address>, ConfigError> {
    texts.iter().map(|text| Address::new(text).map_err(named(field))).collect()
}

fn size(field: &'static str, value: usize, min: usize, max: usize) -> Result<(), ConfigError> {
    let fits = (min..=max).contains(&value);
    fits.then_some(()).ok_or(ConfigError::SizeOutOfRange { field, value, min, max })
}

type Named<T> = (&'static str, T);

fn sizes(field: Named<usize>, relation: &'static str, other: Named<usize>, fits: bool) -> Result<(), ConfigError> {
    let ((field, value), (other, than)) = (field, other);
    fits.then_some(()).ok_or(ConfigError::Sizes { field, value, relation, other, than })
}

fn times(
    field: Named<Duration>,
    relation: &'static str,
    other: Named<Duration>,
    fits: bool,
) -> Result<(), ConfigError> {
    let ((field, value), (other, than)) = (field, other);
    fits.then_some(()).ok_or(ConfigError::Times { field, value, relation, other, than })
}
