//! Nodes that are not what they should be: other configurations, twins and liars.

use formation_core::{Bootstrap, ConfigBuilder, Timing, message::ProtocolRange};

use super::{Net, NodeIx};
use crate::keys::{under, with_keys};

impl Net {
    /// Starts a second node with the same id at its own address, as a configuration mistake does.
    pub fn start_twin(&mut self, of: NodeIx) {
        let twin = self.len();
        let stage = self.key_stage(of);
        let config = with_keys(&self.host(of).config, &Self::address(twin), stage);
        let twin = self.add(config);
        self.watch.node(twin).key_stage = stage;
        self.start(twin);
    }

    /// Starts a node with another id that claims a voter's address. The address still leads to the same target. Two
    /// nodes at one seed address would have two votes, but G2 assumes one live node per seed address. Therefore the
    /// storage of this node fails, and its `bootstrap_wait` is too short to confirm the others' lease.
    pub fn start_liar(&mut self, of: NodeIx) {
        let (address, stage) = (self.host(of).config.address().clone(), self.key_stage(of));
        let timing = self.host(of).config.timing().clone();
        let lease = 3 * timing.heartbeat_interval;
        assert!(lease < timing.lease, "the node would confirm a lease of {:?}", timing.lease);
        let liar = under(&format!("liar{}", self.len()), &self.host(of).config, address.as_str(), stage);
        let liar = liar.timing(timing.with_lease(lease).with_bootstrap_wait(lease)).bootstrap(Bootstrap::Form);
        let leads = self.target(&address);
        let liar = self.add(liar.build().expect("a valid configuration"));
        match leads {
            Some(target) => self.name(address.as_str(), target),
            None => self.forget_name(address.as_str()),
        }
        self.start(liar);
        self.fail_disk(liar);
    }

    /// Sets the protocol versions of a node that does not run.
    ///
    /// # Panics
    /// If the node is running, or if a version does not exist.
    pub fn set_protocol(&mut self, ix: NodeIx, min: u16, max: u16) {
        assert!(self.host(ix).formation.is_none(), "node {ix} runs");
        let config = ConfigBuilder::from(self.host(ix).config.clone()).protocol(ProtocolRange { min, max });
        self.host_mut(ix).config = config.build().expect("versions that exist");
    }

    /// Sets the times of a node that does not run.
    ///
    /// # Panics
    /// If the node is running, or if the times do not fit together.
    pub fn set_timing(&mut self, ix: NodeIx, timing: Timing) {
        assert!(self.host(ix).formation.is_none(), "node {ix} runs");
        let config = ConfigBuilder::from(self.host(ix).config.clone()).timing(timing);
        self.host_mut(ix).config = config.build().expect("times that fit together");
    }

    /// Gives a node that does not run another list of seeds: the addresses of the nodes `0..n`. Its disk is erased, because the state
    /// there belongs to the old list.
    ///
    /// # Panics
    /// If the node is running.
    pub fn set_seeds(&mut self, ix: NodeIx, n: usize) {
        self.forget(ix);
        let last = self.last_run(ix);
        self.end_lease(last);
        let timing = self.host(ix).config.timing().clone();
        let config = Self::builder(ix, n).timing(timing);
        self.host_mut(ix).config = config.build().expect("a valid configuration");
    }
}
