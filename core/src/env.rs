//! What every part of a node may read, and where every part puts what it causes.

use alloc::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use crate::{
    api::config::{Config, Limits, Timing},
    api::electorate::majority,
    api::event::Event,
    api::output::Output,
    id::{Address, Node},
    peers::proof::{self, ClusterKey},
    time::Timestamp,
    timers::{Timer, Timers},
    wire::message::{Hello, MAGIC},
    wire::voting::Voting,
};

/// What every part of a node may read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Env {
    pub(crate) config: Arc<Config>,
    pub(crate) me: Node,
    pub(crate) now: Timestamp,
    /// E10: the voters, as the election has them.
    pub(crate) voters: Arc<BTreeSet<Address>>,
}

impl Env {
    pub(crate) fn new(config: Config, me: Node, now: Timestamp) -> Self {
        let voters = Arc::new(config.seeds().clone());
        Self { config: Arc::new(config), me, now, voters }
    }

    pub(crate) fn timing(&self) -> &Timing {
        self.config.timing()
    }

    pub(crate) fn limits(&self) -> &Limits {
        self.config.limits()
    }

    /// The cluster key at this place of the configuration.
    pub(crate) fn key(&self, at: usize) -> Option<&ClusterKey> {
        self.config.keys().get(at)
    }

    /// Whether the node at this address is a voter.
    pub(crate) fn is_voter(&self, address: &Address) -> bool {
        self.voters.contains(address)
    }

    /// Whether this node is a voter.
    pub(crate) fn votes(&self) -> bool {
        self.is_voter(self.config.address())
    }

    /// Whether a master keeps a number of voters by itself (E10).
    pub(crate) fn keeps_voters(&self) -> bool {
        self.config.autopilot().is_some()
    }

    /// How many voters elect a master.
    pub(crate) fn quorum(&self) -> usize {
        majority(&self.voters)
    }

    /// The `Hello` with this nonce and this report of how this node votes.
    pub(crate) fn own_hello(&self, nonce: [u8; 16], voting: &Voting) -> Hello {
        let mut extensions = proof::announcement(self.config.keys());
        voting.encode(&mut extensions);
        Hello {
            magic: MAGIC,
            protocol: self.config.protocol(),
            cluster: self.config.cluster().clone(),
            electorate: self.config.electorate(),
            id: self.me.id.clone(),
            incarnation: self.me.incarnation,
            address: self.config.address().clone(),
            nonce,
            extensions: extensions.freeze(),
        }
    }
}

/// What the parts of a node cause: outputs for the embedder, in order, and deadlines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Sink {
    outputs: VecDeque<Output>,
    timers: Timers,
}

impl Sink {
    pub(crate) fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.output(Output::Event(event));
    }

    pub(crate) fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(crate) fn set_timer(&mut self, timer: Timer, at: Timestamp) {
        self.timers.set(timer, at);
    }

    /// Sets the timer, unless it is set to an earlier time.
    pub(crate) fn bring_forward(&mut self, timer: Timer, at: Timestamp) {
        self.timers.bring_forward(timer, at);
    }

    pub(crate) fn clear_timer(&mut self, timer: &Timer) {
        self.timers.clear(timer);
    }

    pub(crate) fn clear_timers(&mut self) {
        self.timers = Timers::default();
    }

    pub(crate) fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Takes one timer that is due.
    pub(crate) fn next_due(&mut self, now: Timestamp) -> Option<Timer> {
        self.timers.pop_due(now)
    }
}

/// A branch that an invariant excludes: it fails in tests, and results in the given value in a release build.
macro_rules! never {
    ($why:literal) => {
        debug_assert!(false, $why)
    };
    ($why:literal, $otherwise:expr) => {{
        debug_assert!(false, $why);
        $otherwise
    }};
}
pub(crate) use never;
