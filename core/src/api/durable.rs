//! The durable state of a node, and which node may start from it (PROTOCOL.md, E4 and I9).

use alloc::collections::BTreeSet;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    api::config::Config,
    api::electorate::{Electorate, List},
    api::input::Start,
    id::{Address, ClusterName, Incarnation, Node, NodeId, Term},
};

/// The state that has to be durable for a voter's votes to be durable (PROTOCOL.md, E4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HardState {
    /// The newest term that the node has known.
    pub term: Term,
    /// The node that it has voted for in that term, or has followed as its master.
    pub voted_for: Option<Node>,
    /// Whether it has ever had a master, or been one. A voter that may only join needs this to vote (D7).
    pub joined: bool,
    /// The longest lease of a promise of this node that may still run (E1). The next run waits for its end, even if it has shorter times.
    pub promised_lease: Duration,
    /// The newest electorate that the node has taken (E10). `None` stands for the first one, the seeds.
    pub electorate: Option<Electorate>,
    /// The newest term in which it may have voted before it was removed from the voters (E10). If its term is lower, it does not vote.
    pub spent: Term,
}

impl HardState {
    /// The state of a node that promises this lease, because its configuration has it.
    pub(crate) fn promising(self, lease: Duration) -> Self {
        Self { promised_lease: self.promised_lease.max(lease), ..self }
    }
}

/// The durable state of a node: its [`HardState`], and to which node of which cluster it belongs. Only the `HardState`
/// changes while the node runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DurableState {
    /// The cluster of the node.
    pub cluster: ClusterName,
    /// The id of the node.
    pub id: NodeId,
    /// The electorate. Its votes count in no other.
    pub seeds: BTreeSet<Address>,
    /// The run that has stored it.
    pub incarnation: Incarnation,
    /// The last state that this run has persisted.
    pub hard_state: HardState,
}

impl DurableState {
    /// What has to be durable before a node with this configuration and start sends its first message. No later run then
    /// uses its incarnation again.
    pub fn of(config: &Config, start: &Start) -> Self {
        Self {
            cluster: config.cluster().clone(),
            id: config.id().clone(),
            seeds: config.seeds().clone(),
            incarnation: start.incarnation,
            hard_state: start.hard_state.clone().promising(config.timing().lease),
        }
    }
}

impl Start {
    /// A start from the durable state of the last run. The incarnation is `incarnation`, or the one after that of the last
    /// run if the clock has gone back.
    ///
    /// ```
    /// use formation_core::{Config, DurableState, HardState, Incarnation, ResumeError, Start, Term};
    ///
    /// let config = Config::single("orders", "node-a", "127.0.0.1:7000").build()?;
    /// // The first run has stored this.
    /// let mut stored = DurableState::of(&config, &Start::new(Incarnation(1), 42));
    /// stored.hard_state.term = Term(3);
    /// // The clock has gone back since then.
    /// let next = Start::resume(&config, stored.clone(), Incarnation(1), 43)?;
    /// let HardState { term, .. } = next.hard_state;
    /// assert_eq!((next.incarnation, term), (Incarnation(2), Term(3)));
    /// // Another node cannot have these votes.
    /// let other = Config::single("orders", "node-b", "127.0.0.1:7000").build()?;
    /// let refused = Start::resume(&other, stored, Incarnation(1), 44);
    /// assert!(matches!(refused, Err(ResumeError::OtherNode { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ResumeError`] if the state belongs to another node, or to another seed list.
    pub fn resume(
        config: &Config,
        stored: DurableState,
        incarnation: Incarnation,
        rng_seed: u64,
    ) -> Result<Self, ResumeError> {
        if stored.cluster != *config.cluster() {
            return Err(ResumeError::OtherCluster { stored: stored.cluster, configured: config.cluster().clone() });
        }
        if stored.id != *config.id() {
            return Err(ResumeError::OtherNode { stored: stored.id, configured: config.id().clone() });
        }
        if stored.seeds != *config.seeds() && stored.seeds != *config.former_seeds() {
            return Err(ResumeError::OtherSeeds { stored: stored.seeds, configured: config.seeds().clone() });
        }
        let incarnation = incarnation.max(Incarnation(stored.incarnation.0.saturating_add(1)));
        // Another seed list begins with a first electorate of its own.
        let electorate = stored.hard_state.electorate.filter(|_| stored.seeds == *config.seeds());
        let hard_state = HardState { electorate, ..stored.hard_state };
        Ok(Self { incarnation, rng_seed, hard_state, is_durable: true })
    }
}

/// Why a node cannot start from a durable state. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The state belongs to a node of another cluster.
    #[error(
        "it was stored by a node of the cluster {stored:?}, but this node is of the cluster {configured:?}; give each node its own"
    )]
    OtherCluster {
        /// The cluster of that node.
        stored: ClusterName,
        /// The configured cluster.
        configured: ClusterName,
    },
    /// The state belongs to another node.
    #[error("it was stored by the node {stored:?}, but this is the node {configured:?}; give each node its own")]
    OtherNode {
        /// The node that has stored it.
        stored: NodeId,
        /// The configured id.
        configured: NodeId,
    },
    /// The votes were for another electorate. Two seed lists at once could elect two masters.
    #[error(
        "it was stored with the seeds {}, but now they are {}; to change the list, stop all voters first, then start every \
         node with the new list as seeds and the old one as former_seeds",
        List(stored),
        List(configured)
    )]
    OtherSeeds {
        /// The seeds when it was stored.
        stored: BTreeSet<Address>,
        /// The configured seeds.
        configured: BTreeSet<Address>,
    },
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::{id::Term, time::Timestamp};

    fn config(id: &str, seeds: &[&str], former: &[&str]) -> Config {
        let (seeds, former) = (seeds.iter().copied(), former.iter().copied());
        Config::builder("test", id, "a:1").seeds(seeds).former_seeds(former).build().unwrap()
    }

    fn stored() -> DurableState {
        let hard_state = HardState { term: Term(7), joined: true, ..HardState::default() };
        let start = Start { hard_state, ..Start::new(Incarnation(40), 1) };
        DurableState::of(&config("a", &["a:1", "b:1"], &[]), &start)
    }

    fn resume(config: &Config) -> Result<Start, ResumeError> {
        Start::resume(config, stored(), Incarnation(50), 2)
    }

    #[test]
    fn e4_i9_a_restarted_node_keeps_its_term_in_a_new_incarnation() {
        let config = config("a", &["b:1", "a:1"], &[]);
        let start = resume(&config).unwrap();
        assert_eq!((start.incarnation, &start.hard_state), (Incarnation(50), &stored().hard_state));
        let node = crate::Formation::new(config, start, Timestamp::ZERO);
        assert_eq!(node.status().term, Term(7));
    }

    #[test]
    fn i9_the_incarnation_grows_even_if_the_clock_has_gone_back() {
        let start = Start::resume(&config("a", &["a:1", "b:1"], &[]), stored(), Incarnation(39), 2).unwrap();
        assert_eq!(start.incarnation, Incarnation(41));
    }

    #[test]
    fn i9_another_seed_list_is_an_error_that_names_both_lists() {
        let error = resume(&config("a", &["a:1", "c:1"], &[])).unwrap_err().to_string();
        assert!(error.contains("a:1, b:1,") && error.contains("a:1, c:1;"), "{error}");
    }

    #[test]
    fn i9_former_seeds_allow_a_change_of_the_seed_list() {
        assert_eq!(resume(&config("a", &["a:1", "c:1"], &["b:1", "a:1"])).unwrap().hard_state, stored().hard_state);
        assert!(resume(&config("a", &["a:1", "c:1"], &["b:1"])).is_err());
    }

    #[test]
    fn i9_the_state_of_another_node_is_an_error_with_both_names() {
        let error = resume(&config("b", &["a:1", "b:1"], &[])).unwrap_err().to_string();
        assert!(error.contains(r#""a""#) && error.contains(r#""b""#), "{error}");
        let other = Config::builder("prod", "a", "a:1").seeds(["a:1", "b:1"]).build().unwrap();
        let error = resume(&other).unwrap_err().to_string();
        assert!(error.contains(r#""test""#) && error.contains(r#""prod""#), "{error}");
    }
}
