//! What a node is configured with. There is no way to hold a [`Config`] that breaks a rule: [`ConfigBuilder::build`] is
//! the only way to one, for a deserialized one too.

mod detector;
mod error;
mod limits;
mod timing;

use alloc::{
    collections::BTreeSet,
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::error::{size, sizes, time, times};
pub use self::{
    detector::{Detector, PhiAccrual},
    error::ConfigError,
    limits::Limits,
    timing::Timing,
};
use crate::{
    id::{Address, ClusterName, ElectorateDigest, IdError, NodeId},
    peers::proof::{ClusterKey, KEY_LEN, MAX_KEYS},
    wire::message::{KNOWN_PROTOCOL, PROTOCOL, ProtocolRange},
};

/// Every two voters keep a link and tell each other every change of status, so that the cost grows with the square of
/// the seeds; and a quorum of more than a few dozen makes elections slower, never safer. Other members are not limited by it.
const MAX_SEEDS: usize = 64;

/// What a node is configured with: valid, and never changed.
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
    state_dir: Option<String>,
    metadata: Bytes,
    timing: Timing,
    detector: Detector,
    solo_after: Option<Duration>,
    limits: Limits,
    protocol: ProtocolRange,
    keys: Vec<ClusterKey>,
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
            former_seeds: Vec::new(),
            contacts: Vec::new(),
            bootstrap: Bootstrap::default(),
            state_dir: None,
            metadata: Bytes::new(),
            timing: Timing::default(),
            detector: Detector::default(),
            solo_after: None,
            limits: Limits::default(),
            protocol: PROTOCOL,
            keys: Vec::new(),
            keyed: false,
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

    /// The seeds before the list was changed: state that was kept with them may be resumed.
    pub fn former_seeds(&self) -> &BTreeSet<Address> {
        &self.former_seeds
    }

    /// Where the host keeps what has to be durable. The core does not look at it.
    pub fn state_dir(&self) -> Option<&str> {
        self.state_dir.as_deref()
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

    /// How a master notices that a member is silent.
    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    /// After how long without a quorum this node, as a voter, goes on without one (E8); `None`: never.
    pub fn solo_after(&self) -> Option<Duration> {
        self.solo_after
    }

    /// The protocol versions that this node speaks.
    pub fn protocol(&self) -> ProtocolRange {
        self.protocol
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What peers have to prove that they hold; none without a cluster key.
    pub fn keys(&self) -> &[ClusterKey] {
        &self.keys
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
            former_seeds: texts(&config.former_seeds),
            contacts: texts(&config.contacts),
            bootstrap: config.bootstrap,
            state_dir: config.state_dir,
            metadata: config.metadata,
            timing: config.timing,
            detector: config.detector,
            solo_after: config.solo_after,
            limits: config.limits,
            protocol: config.protocol,
            keyed: !config.keys.is_empty(),
            keys: config.keys,
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
    former_seeds: Vec<String>,
    #[serde(default)]
    contacts: Vec<String>,
    #[serde(default)]
    bootstrap: Bootstrap,
    #[serde(default)]
    state_dir: Option<String>,
    #[serde(default)]
    metadata: Bytes,
    #[serde(default)]
    timing: Timing,
    #[serde(default)]
    detector: Detector,
    #[serde(default)]
    solo_after: Option<Duration>,
    #[serde(default)]
    limits: Limits,
    #[serde(default = "usual_protocol")]
    protocol: ProtocolRange,
    #[serde(skip)]
    keys: Vec<ClusterKey>,
    #[serde(default)]
    keyed: bool,
}

impl ConfigBuilder {
    /// Adds seeds. The list has to be the same on every node; order and repetitions do not matter.
    pub fn seeds(mut self, seeds: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.seeds.extend(seeds.into_iter().map(Into::into));
        self
    }

    /// The seed list before a change of it, with all voters stopped: a node that has kept votes of any other list than its
    /// seeds and this one refuses to start. May stay for as long as you like.
    pub fn former_seeds(mut self, seeds: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.former_seeds.extend(seeds.into_iter().map(Into::into));
        self
    }

    /// The directory in which the node keeps its votes over a restart (E4), its own and nobody else's. It is made when it
    /// is not there. Without one they live in memory: a voter that restarts may then vote twice in one term, so that two
    /// nodes may be masters of the same term, one after the other (G1), and terms begin anew once no voter lives.
    pub fn state_dir(mut self, dir: impl Into<String>) -> Self {
        self.state_dir = Some(dir.into());
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

    /// How this node, as a master, notices that a member is silent; [`Detector::Deadlines`] unless said otherwise. Nodes may
    /// differ in it.
    pub fn detector(mut self, detector: Detector) -> Self {
        self.detector = detector;
        self
    }

    /// Lets voters go on without a quorum (E8): one that has found none for this long becomes the master of those it has,
    /// and clusters that have parted in this way become one when they meet. Off unless said; at least
    /// [`bootstrap_wait`](Timing::bootstrap_wait), and the same on every node.
    ///
    /// **This gives up that there is one master at a time (G2) and in a term (G1)**, for solo masters: both sides of a
    /// partition may have one, of the same term, and [`leadership`](crate::Formation::leadership) says so on both. A term
    /// fences no more. When they meet, what the losing side has done is for the service to judge:
    /// [`Event::Merged`](crate::Event::Merged) says on which nodes.
    pub fn solo_after(mut self, time: Duration) -> Self {
        self.solo_after = Some(time);
        self
    }

    /// The protocol versions that this node speaks, where they are not all that the program knows: while a cluster is upgraded node
    /// by node, and may have to go back, all go on speaking the older one.
    pub fn protocol(mut self, protocol: ProtocolRange) -> Self {
        self.protocol = protocol;
        self
    }

    /// Limits of one's own.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Adds a cluster key: who does not hold it stays outside. All nodes need one in common.
    ///
    /// Give two to change the key while the cluster runs: first every node gets the new one beside the old, one node after
    /// the other; once all have both, the old one is taken away from each in the same manner. Their order does not matter.
    ///
    /// A key is not serialized. What remains of it is `keyed`: such a configuration cannot be built before its key is given
    /// anew, so that it is never taken for one without.
    pub fn key(mut self, key: impl Into<ClusterKey>) -> Self {
        self.keyed = true;
        self.keys.push(key.into());
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
        let former_seeds = addresses("former_seeds", &self.former_seeds)?;
        let contacts = addresses("contacts", &self.contacts)?;
        if seeds.is_empty() {
            return Err(ConfigError::NoSeeds);
        }
        if self.state_dir.as_deref() == Some("") {
            return Err(ConfigError::NoStateDir);
        }
        size("the number of seeds", seeds.len(), 1, MAX_SEEDS)?;
        if self.keyed && self.keys.is_empty() {
            return Err(ConfigError::NoKey);
        }
        size("the number of cluster keys", self.keys.len(), 0, MAX_KEYS)?;
        for key in &self.keys {
            size("the length of a cluster key in bytes", key.len(), KEY_LEN.0, KEY_LEN.1)?;
        }
        let (min, max) = (KNOWN_PROTOCOL.min, KNOWN_PROTOCOL.max);
        if self.protocol.min > self.protocol.max || self.protocol.min < min || self.protocol.max > max {
            return Err(ConfigError::Protocol {
                min: self.protocol.min,
                max: self.protocol.max,
                known: KNOWN_PROTOCOL,
            });
        }
        self.timing.check()?;
        if let Detector::PhiAccrual(phi) = &self.detector {
            phi.check()?;
        }
        if let Some(after) = self.solo_after {
            let wait = ("bootstrap_wait", self.timing.bootstrap_wait);
            time("solo_after", after, Duration::ZERO)?;
            // E1, and every promise given before: both are over by then.
            times(("solo_after", after), "at least", wait, after >= wait.1)?;
        }
        self.limits.check()?;
        let limits = &self.limits;
        let given = ("the number of seeds", seeds.len());
        sizes(("connections", limits.connections), "more than", given, limits.connections > given.1)?;
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
            former_seeds,
            contacts,
            bootstrap: self.bootstrap,
            state_dir: self.state_dir,
            metadata: self.metadata,
            timing: self.timing,
            detector: self.detector,
            solo_after: self.solo_after,
            limits: self.limits,
            protocol: self.protocol,
            keys: self.keys,
        })
    }
}

fn usual_protocol() -> ProtocolRange {
    PROTOCOL
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

fn named(field: &'static str) -> impl Fn(IdError) -> ConfigError {
    move |problem| ConfigError::Name { field, problem }
}

fn addresses(field: &'static str, texts: &[String]) -> Result<BTreeSet<Address>, ConfigError> {
    texts.iter().map(|text| Address::new(text).map_err(named(field))).collect()
}
