//! The steps of a configuration under construction, and its check.

use alloc::{
    collections::BTreeSet,
    string::{String, ToString},
};
use core::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::{
    Config, ConfigBuilder, MAX_VOTERS,
    autopilot::Autopilot,
    bootstrap::Bootstrap,
    detector::Detector,
    error::{ConfigError, size, sizes, time, times},
    limits::Limits,
    state_dir::StateDir,
    timing::Timing,
};
use crate::{
    id::{Address, ClusterName, ElectorateDigest, IdError, NodeId},
    metadata::{self, MetadataError},
    peers::proof::{ClusterKey, KEY_LEN, MAX_KEYS},
    wire::message::{KNOWN_PROTOCOL, ProtocolRange},
};

impl ConfigBuilder {
    /// Adds seeds: the addresses of the voters. Every node needs the same list, with at least 1 and at most 64 addresses.
    /// Their order and repetitions do not matter.
    pub fn seeds(mut self, seeds: impl IntoIterator<Item = impl ToString>) -> Self {
        self.seeds.extend(seeds.into_iter().map(|seed| seed.to_string()));
        self
    }

    /// Confirms that this node is meant to be the only voter. [`Config::single`] calls it. Without it, a list with only the node's
    /// own address is an error: each of several nodes that were given the same name would form a cluster of its own.
    pub fn single(mut self) -> Self {
        self.single = true;
        self
    }

    /// Adds the seeds from before a change of the list. The list may change only while all voters are stopped. A node
    /// refuses to start from durable state that was stored with any list except its seeds and this one
    /// ([`ResumeError`](crate::ResumeError)). The former seeds may stay in the configuration.
    pub fn former_seeds(mut self, seeds: impl IntoIterator<Item = impl ToString>) -> Self {
        self.former_seeds.extend(seeds.into_iter().map(|seed| seed.to_string()));
        self
    }

    /// The directory in which the node stores its votes (PROTOCOL.md, E4): a text or a path. Each node needs its own. The directory
    /// is created if it does not exist.
    ///
    /// Without a directory, votes are kept in memory only. A voter that restarts may then vote twice in one term, so two
    /// nodes may be masters of the same term, one after the other (G1). Terms start again once no voter is alive.
    pub fn state_dir(mut self, dir: impl Into<StateDir>) -> Self {
        self.state_dir = Some(dir.into());
        self
    }

    /// Adds addresses that the node dials beside the seeds while it has no master. Unlike the seeds, they may differ from
    /// node to node.
    pub fn contacts(mut self, contacts: impl IntoIterator<Item = impl ToString>) -> Self {
        self.contacts.extend(contacts.into_iter().map(|contact| contact.to_string()));
        self
    }

    /// Whether this node may form a cluster, or only join one. The default is [`Bootstrap::Form`].
    pub fn bootstrap(mut self, bootstrap: Bootstrap) -> Self {
        self.bootstrap = bootstrap;
        self
    }

    /// How much this voter is preferred as the master. The voter with the highest priority has the first turn in every election, and
    /// of several with the same priority the one with the lowest id (PROTOCOL.md, E2). The default is 0, and it may differ from node
    /// to node. On a node that is no voter it has no effect.
    ///
    /// A master reports a voter with a higher priority in [`Event::BetterMaster`](crate::Event::BetterMaster) once that voter is
    /// stable. The embedder then hands the mastership over with [`Command::Resign`](crate::Command::Resign) (L8). The adapters do so.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// The metadata of this node in the member list, at most [`Limits::metadata`] bytes: a `Vec` of bytes, a `String`, a constant text, or
    /// [`Bytes`]. Formation does not interpret it. The default is empty. [`Command::SetMetadata`](crate::Command::SetMetadata) changes it while the node runs.
    ///
    /// [`metadata_as`](Self::metadata_as) takes a value instead, and [`Tags`](crate::Tags) are metadata by which members are found.
    pub fn metadata(mut self, metadata: impl Into<Bytes>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// As [`metadata`](Self::metadata), from a value in postcard's format. [`Member::metadata_as`](crate::Member::metadata_as) reads it.
    ///
    /// ```
    /// #[derive(serde::Serialize)]
    /// struct Worker {
    ///     rack: u16,
    /// }
    ///
    /// let config = formation_core::Config::single("orders", "node-a", "127.0.0.1:7000");
    /// let config = config.metadata_as(&Worker { rack: 7 })?.build()?;
    /// assert_eq!(&config.metadata()[..], [7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`MetadataError::Encode`] if postcard cannot write the value, for example a sequence of unknown length.
    /// [`build`](Self::build) checks its length.
    pub fn metadata_as(self, value: &impl Serialize) -> Result<Self, MetadataError> {
        Ok(self.metadata(metadata::encode(value)?))
    }

    /// Uses [`Timing::lan`], which is the default.
    pub fn lan(self) -> Self {
        self.timing(Timing::lan())
    }

    /// Uses [`Timing::local`].
    pub fn local(self) -> Self {
        self.timing(Timing::local())
    }

    /// Uses [`Timing::wan`].
    ///
    /// ```
    /// use formation_core::{Config, Timing};
    ///
    /// let config = Config::single("orders", "node-a", "eu.example:7000").wan().build()?;
    /// assert_eq!(config.timing(), &Timing::wan());
    /// # Ok::<(), formation_core::ConfigError>(())
    /// ```
    pub fn wan(self) -> Self {
        self.timing(Timing::wan())
    }

    /// Uses other times than a preset.
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// How this node, as a master, decides that a member is suspect. The default is [`Detector::Deadlines`]. It may differ
    /// from node to node.
    pub fn detector(mut self, detector: Detector) -> Self {
        self.detector = detector;
        self
    }

    /// Allows solo masters: masters without a quorum (PROTOCOL.md, E8). A voter that has had neither a master nor a quorum
    /// for this time becomes the master of the nodes that it can reach. Clusters that were partitioned in this way become
    /// one when they meet. The default is off. The time is at least [`bootstrap_wait`](Timing::bootstrap_wait), and has to
    /// be the same on every node.
    ///
    /// **For solo masters, G1 (one master per term) and G2 (one master at a time) do not hold.** Both sides of a partition may
    /// have a master, even of the same term, and [`leadership`](crate::Formation::leadership) reports it on both. A term is
    /// then no fencing token. After the sides have met, the service has to decide about the work of the losing side.
    /// [`Event::Merged`](crate::Event::Merged) is reported on the nodes of that side.
    ///
    /// ```
    /// use core::time::Duration;
    ///
    /// use formation_core::Config;
    ///
    /// let seeds = ["10.0.0.1:7000", "10.0.0.2:7000"];
    /// let config = Config::builder("cache", "node-a", seeds[0]).seeds(seeds).solo_after(Duration::from_secs(30)).build()?;
    /// assert_eq!(config.solo_after(), Some(Duration::from_secs(30)));
    /// # Ok::<(), formation_core::ConfigError>(())
    /// ```
    pub fn solo_after(mut self, time: Duration) -> Self {
        self.solo_after = Some(time);
        self
    }

    /// Lets the cluster keep a number of voters by itself (PROTOCOL.md, E10). Without it, only
    /// [`Command::SetVoters`](crate::Command::SetVoters) changes the voters. It excludes [`solo_after`](Self::solo_after).
    ///
    /// ```
    /// use formation_core::{Autopilot, Config};
    ///
    /// // One node, which becomes three voters as soon as two others have joined.
    /// let config = Config::single("orders", "node-a", "127.0.0.1:7000").autopilot(Autopilot::keep(3)).build()?;
    /// # Ok::<(), formation_core::ConfigError>(())
    /// ```
    pub fn autopilot(mut self, autopilot: Autopilot) -> Self {
        self.autopilot = Some(autopilot);
        self
    }

    /// How long before the end of its lease a master stops its work: a lease of the adapters ends this much earlier than
    /// [`Leadership::valid_until`](crate::Leadership::valid_until). It covers the time between the last check of the lease and the
    /// end of the step that follows, for example a pause of the runtime. The core does not use it. The default is a tenth of the
    /// [`safe_lease`](Timing::safe_lease), and the most is half of it.
    pub fn lease_margin(mut self, margin: Duration) -> Self {
        self.lease_margin = Some(margin);
        self
    }

    /// Restricts the protocol versions that this node speaks. The default is every version that the program knows. During
    /// an upgrade that may have to be undone, all nodes keep speaking the older version.
    ///
    /// ```
    /// use formation_core::{Config, message::ProtocolRange};
    ///
    /// let only_first = ProtocolRange { min: 1, max: 1 };
    /// let config = Config::single("orders", "node-a", "127.0.0.1:7000").protocol(only_first).build()?;
    /// assert_eq!(config.protocol(), only_first);
    /// # Ok::<(), formation_core::ConfigError>(())
    /// ```
    pub fn protocol(mut self, protocol: ProtocolRange) -> Self {
        self.protocol = protocol;
        self
    }

    /// Uses other limits than the default.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Adds a cluster key. A node without the key cannot join. Two nodes work together if they have a key in common.
    ///
    /// A node may have two keys. This makes it possible to change the key while the cluster runs: first give every node the
    /// new key beside the old one, one node at a time. When all nodes have both, remove the old key in the same way.
    /// The order of the keys does not matter.
    ///
    /// Keys are never serialized. The serialized configuration has the flag `keyed` instead. It cannot be built before the
    /// key is supplied again, so a configuration with a key never becomes one without.
    pub fn key(mut self, key: impl Into<ClusterKey>) -> Self {
        self.keyed = true;
        self.keys.push(key.into());
        self
    }

    /// Checks every rule, and returns the configuration.
    ///
    /// # Errors
    /// [`ConfigError`] names the first rule that is broken, with the values that break it.
    pub fn build(self) -> Result<Config, ConfigError> {
        let cluster = ClusterName::new(&self.cluster).map_err(name_error("cluster"))?;
        let id = NodeId::new(&self.id).map_err(name_error("id"))?;
        let address = Address::new(&self.address).map_err(name_error("address"))?;
        let seeds = addresses("seeds", &self.seeds)?;
        let former_seeds = addresses("former_seeds", &self.former_seeds)?;
        let contacts = addresses("contacts", &self.contacts)?;
        if seeds.is_empty() {
            return Err(ConfigError::NoSeeds);
        }
        if let Some(unspecified) = seeds.iter().chain(&contacts).chain([&address]).find(|it| it.is_unspecified()) {
            return Err(ConfigError::Unspecified { address: unspecified.clone() });
        }
        let is_only_own = seeds.len() == 1 && seeds.contains(&address);
        if is_only_own && !self.single {
            return Err(ConfigError::OnlyOwnSeed { address });
        }
        match &self.state_dir {
            Some(dir) if dir.is_empty() => return Err(ConfigError::NoStateDir),
            Some(dir) if !dir.is_path() => return Err(ConfigError::StateDir { dir: dir.clone() }),
            Some(_) | None => {}
        }
        size("the number of seeds", seeds.len(), 1, MAX_VOTERS)?;
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
        self.detector.check()?;
        if let Some(after) = self.solo_after {
            let wait = ("bootstrap_wait", self.timing.bootstrap_wait);
            time("solo_after", after, Duration::ZERO)?;
            // By then the grace of E1 is over, and so is every promise from before.
            times(("solo_after", after), "at least", wait, after >= wait.1)?;
        }
        if let Some(autopilot) = &self.autopilot {
            autopilot.check(&self.timing, self.solo_after)?;
        }
        if let Some(margin) = self.lease_margin {
            let most = self.timing.safe_lease() / 2;
            if margin > most {
                return Err(ConfigError::LeaseMargin { margin, most });
            }
        }
        self.limits.check()?;
        let limits = &self.limits;
        let other = ("the number of seeds", seeds.len());
        sizes(("connections", limits.connections), "more than", other, limits.connections > other.1)?;
        let other = ("the number of contacts", contacts.len());
        sizes(("contacts", limits.contacts), "at least", other, limits.contacts >= other.1)?;
        let other = ("the length of the metadata", self.metadata.len());
        sizes(("metadata", limits.metadata), "at least", other, limits.metadata >= other.1)?;
        Ok(Config {
            cluster,
            id,
            address,
            electorate: ElectorateDigest::of(&seeds),
            seeds,
            former_seeds,
            contacts,
            bootstrap: self.bootstrap,
            priority: self.priority,
            state_dir: self.state_dir,
            metadata: self.metadata,
            timing: self.timing,
            detector: self.detector,
            solo_after: self.solo_after,
            autopilot: self.autopilot,
            lease_margin: self.lease_margin,
            limits: self.limits,
            protocol: self.protocol,
            keys: self.keys,
        })
    }
}

fn name_error(field: &'static str) -> impl Fn(IdError) -> ConfigError {
    move |problem| ConfigError::Name { field, problem }
}

fn addresses(field: &'static str, texts: &[String]) -> Result<BTreeSet<Address>, ConfigError> {
    texts.iter().map(|text| Address::new(text).map_err(name_error(field))).collect()
}
