//! The configuration of a node. A [`Config`] is always valid: [`ConfigBuilder::build`] is the only way to create one, and
//! deserializing uses it too.

mod autopilot;
mod bootstrap;
mod builder;
mod detector;
mod error;
mod limits;
mod setters;
mod state_dir;
mod timing;

use alloc::{
    collections::BTreeSet,
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::{
    autopilot::Autopilot,
    bootstrap::Bootstrap,
    detector::{Detector, PhiAccrual},
    error::ConfigError,
    limits::Limits,
    state_dir::StateDir,
    timing::Timing,
};
use crate::{
    api::electorate::majority,
    id::{Address, ClusterName, ElectorateDigest, NodeId},
    metadata::readable,
    peers::proof::ClusterKey,
    wire::message::{PROTOCOL, ProtocolRange},
};

/// The most voters, and seeds. Every two voters keep a link and send each other every change of their status, so the cost grows with
/// the square of their number. A quorum of more than a few dozen voters makes elections slower, and not safer.
/// Members that are no voters do not count.
pub(crate) const MAX_VOTERS: usize = 64;

/// The configuration of a node. It is valid, and never changes.
///
/// ```
/// use formation_core::Config;
///
/// let seeds = ["10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.3:7000"];
/// let config = Config::builder("orders", "node-a", seeds[0]).seeds(seeds).state_dir("/var/lib/orders").build()?;
/// assert!(config.is_voter());
/// assert_eq!(config.quorum(), 2);
/// # Ok::<(), formation_core::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "ConfigBuilder", into = "ConfigBuilder")]
pub struct Config {
    cluster: ClusterName,
    id: NodeId,
    address: Address,
    seeds: BTreeSet<Address>,
    former_seeds: BTreeSet<Address>,
    contacts: BTreeSet<Address>,
    bootstrap: Bootstrap,
    priority: u8,
    state_dir: Option<StateDir>,
    metadata: Bytes,
    timing: Timing,
    detector: Detector,
    solo_after: Option<Duration>,
    autopilot: Option<Autopilot>,
    lease_margin: Option<Duration>,
    limits: Limits,
    protocol: ProtocolRange,
    keys: Vec<ClusterKey>,
    electorate: ElectorateDigest,
}

impl Config {
    /// Starts the configuration of a node: its `cluster`, its `id`, and the `address` at which other nodes dial it. At
    /// least the [`seeds`](ConfigBuilder::seeds) have to be added.
    ///
    /// Names and addresses are texts, or whatever displays itself as one: a `&str` or a `String`, a [`ClusterName`], a [`NodeId`],
    /// an [`Address`], or a [`SocketAddr`](core::net::SocketAddr). [`build`](ConfigBuilder::build) checks them.
    ///
    /// ```
    /// use std::net::SocketAddr;
    ///
    /// use formation_core::{Address, Config, NodeId};
    ///
    /// let own = SocketAddr::from(([10, 0, 0, 1], 7000));
    /// let seeds = [Address::try_from(own)?, "node-b.example:7000".parse()?];
    /// let config = Config::builder("orders", NodeId::new("node-a")?, own).seeds(&seeds).build()?;
    /// assert_eq!(config.address(), &seeds[0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(cluster: impl ToString, id: impl ToString, address: impl ToString) -> ConfigBuilder {
        ConfigBuilder {
            cluster: cluster.to_string(),
            id: id.to_string(),
            address: address.to_string(),
            seeds: Vec::new(),
            former_seeds: Vec::new(),
            contacts: Vec::new(),
            bootstrap: Bootstrap::default(),
            priority: 0,
            state_dir: None,
            metadata: Bytes::new(),
            timing: Timing::default(),
            detector: Detector::default(),
            solo_after: None,
            autopilot: None,
            lease_margin: None,
            limits: Limits::default(),
            protocol: PROTOCOL,
            keys: Vec::new(),
            keyed: false,
            single: false,
        }
    }

    /// Starts the configuration of a node that is its own only seed. It becomes master at once. Nodes that have its address
    /// as their only seed can join it.
    pub fn single(cluster: impl ToString, id: impl ToString, address: impl ToString) -> ConfigBuilder {
        let builder = Self::builder(cluster, id, address);
        let own = builder.address.clone();
        builder.seeds([own]).single()
    }

    /// The name of the cluster.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The id of this node.
    pub fn id(&self) -> &NodeId {
        &self.id
    }

    /// The address at which other nodes dial this node.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The addresses of the voters. They are the same on every node.
    pub fn seeds(&self) -> &BTreeSet<Address> {
        &self.seeds
    }

    /// The seeds before the list was changed. A node may resume from durable state that was stored with these seeds.
    pub fn former_seeds(&self) -> &BTreeSet<Address> {
        &self.former_seeds
    }

    /// The directory in which the embedder stores the durable state. The core does not use it.
    pub fn state_dir(&self) -> Option<&StateDir> {
        self.state_dir.as_ref()
    }

    /// The addresses that the node dials beside the seeds while it has no master.
    pub fn contacts(&self) -> &BTreeSet<Address> {
        &self.contacts
    }

    /// Whether this node may form a cluster, or only join one (PROTOCOL.md, D7).
    pub fn bootstrap(&self) -> Bootstrap {
        self.bootstrap
    }

    /// How much this voter is preferred as the master ([`ConfigBuilder::priority`]).
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// The metadata of this node in the member list.
    pub fn metadata(&self) -> &Bytes {
        &self.metadata
    }

    /// The times of this node (PROTOCOL.md, section 7).
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// How this node, as a master, decides that a member is suspect (PROTOCOL.md, V5).
    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    /// After how long without a quorum a voter becomes a solo master (PROTOCOL.md, E8). `None` means never.
    pub fn solo_after(&self) -> Option<Duration> {
        self.solo_after
    }

    /// How many voters the cluster keeps by itself, if it does.
    pub fn autopilot(&self) -> Option<&Autopilot> {
        self.autopilot.as_ref()
    }

    /// How long before the end of its lease a master stops its work ([`ConfigBuilder::lease_margin`]).
    pub fn lease_margin(&self) -> Duration {
        self.lease_margin.unwrap_or(self.timing.safe_lease() / 10)
    }

    /// The protocol versions that this node speaks (PROTOCOL.md, H4).
    pub fn protocol(&self) -> ProtocolRange {
        self.protocol
    }

    /// The limits of this node (PROTOCOL.md, section 8).
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The cluster keys of this node, at most two. A peer has to prove that it holds one of them. Without keys, peers prove
    /// nothing.
    pub fn keys(&self) -> &[ClusterKey] {
        &self.keys
    }

    /// The digest of the seeds. The handshake rejects a peer with a different one.
    ///
    /// ```
    /// use formation_core::{Config, ElectorateDigest};
    ///
    /// let digest = |seeds| Config::builder("orders", "node-a", "a:7000").seeds(seeds).build().map(|config| config.electorate());
    /// let one: ElectorateDigest = digest(["a:7000", "b:7000"])?;
    /// assert_eq!(one, digest(["b:7000", "a:7000"])?);
    /// assert_ne!(one, digest(["a:7000", "c:7000"])?);
    /// # Ok::<(), formation_core::ConfigError>(())
    /// ```
    pub fn electorate(&self) -> ElectorateDigest {
        self.electorate
    }

    /// Whether this node is a voter: its address is a seed.
    pub fn is_voter(&self) -> bool {
        self.seeds.contains(&self.address)
    }

    /// Whether this node is the only voter.
    fn is_single(&self) -> bool {
        self.is_voter() && self.seeds.len() == 1
    }

    /// The number of voters that elect a master: more than half of the seeds.
    pub fn quorum(&self) -> usize {
        majority(&self.seeds)
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
        let single = config.is_single();
        let texts = |addresses: &BTreeSet<Address>| addresses.iter().map(Address::to_string).collect();
        Self {
            cluster: config.cluster.to_string(),
            id: config.id.to_string(),
            address: config.address.to_string(),
            seeds: texts(&config.seeds),
            former_seeds: texts(&config.former_seeds),
            contacts: texts(&config.contacts),
            bootstrap: config.bootstrap,
            priority: config.priority,
            state_dir: config.state_dir,
            metadata: config.metadata,
            timing: config.timing,
            detector: config.detector,
            solo_after: config.solo_after,
            autopilot: config.autopilot,
            lease_margin: config.lease_margin,
            limits: config.limits,
            protocol: config.protocol,
            single,
            keyed: !config.keys.is_empty(),
            keys: config.keys,
        }
    }
}

/// A configuration under construction. Nothing is checked before [`build`](Self::build).
///
/// ```
/// use core::time::Duration;
/// use formation_core::{Bootstrap, ClusterKey, Config, ConfigBuilder, Detector, Limits, PhiAccrual, Timing};
///
/// let seeds = ["10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.3:7000"];
/// let common: ConfigBuilder = Config::builder("orders", "node-a", seeds[0]).seeds(seeds).state_dir("/var/lib/orders");
/// let config = common
///     .priority(10)
///     .bootstrap(Bootstrap::JoinOnly)
///     .timing(Timing::lan().with_lease(Duration::from_secs(2)))
///     .lease_margin(Duration::from_millis(500))
///     .detector(Detector::PhiAccrual(PhiAccrual::new().with_threshold(6)))
///     .limits(Limits::new().with_members(100))
///     .key(ClusterKey::new(*b"32 random bytes from a safe file"))
///     .former_seeds(["10.0.0.1:7000"])
///     .contacts(["10.0.0.9:7000"])
///     .build()?;
/// # Ok::<(), formation_core::ConfigError>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use = "`build` makes it a configuration"]
pub struct ConfigBuilder {
    cluster: String,
    id: String,
    address: String,
    #[serde(default)]
    seeds: Vec<String>,
    #[serde(default)]
    former_seeds: Vec<String>,
    #[serde(default)]
    contacts: Vec<String>,
    #[serde(default)]
    bootstrap: Bootstrap,
    #[serde(default)]
    priority: u8,
    #[serde(default)]
    state_dir: Option<StateDir>,
    #[serde(default, with = "readable")]
    metadata: Bytes,
    #[serde(default)]
    timing: Timing,
    #[serde(default)]
    detector: Detector,
    #[serde(default)]
    solo_after: Option<Duration>,
    #[serde(default)]
    autopilot: Option<Autopilot>,
    #[serde(default)]
    lease_margin: Option<Duration>,
    #[serde(default)]
    limits: Limits,
    #[serde(default = "default_protocol")]
    protocol: ProtocolRange,
    #[serde(skip)]
    keys: Vec<ClusterKey>,
    #[serde(default)]
    keyed: bool,
    #[serde(default)]
    single: bool,
}

fn default_protocol() -> ProtocolRange {
    PROTOCOL
}
