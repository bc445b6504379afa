//! What a node keeps over a restart, and who may start from it (PROTOCOL.md, E4 and "Who may form a cluster").

use alloc::collections::BTreeSet;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    api::config::Config,
    api::interface::{HardState, Start},
    id::{Address, ClusterName, Incarnation, NodeId},
};

/// What a node's storage holds: its [`HardState`], and whose that is. Only the `HardState` changes while a node runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DurableState {
    /// The cluster that it votes in.
    pub cluster: ClusterName,
    /// Its name.
    pub id: NodeId,
    /// The electorate: votes count in no other.
    pub seeds: BTreeSet<Address>,
    /// The run that has kept it.
    pub incarnation: Incarnation,
    /// What that run last persisted.
    pub hard_state: HardState,
}

impl DurableState {
    /// What has to be durable before a node of this configuration and start says its first word, so that no later run takes
    /// its incarnation again.
    pub fn of(config: &Config, start: &Start) -> Self {
        Self {
            cluster: config.cluster().clone(),
            id: config.id().clone(),
            seeds: config.seeds().clone(),
            incarnation: start.incarnation,
            hard_state: start.hard_state.clone(),
        }
    }
}

impl Start {
    /// A start from what the last run has kept. The incarnation is the given one, or the next after that run's when the
    /// clock it was taken from has gone back.
    ///
    /// # Errors
    /// [`ResumeError`] when it is not this node's, or when its votes were for another seed list.
    pub fn resume(
        config: &Config,
        kept: DurableState,
        incarnation: Incarnation,
        rng_seed: u64,
    ) -> Result<Self, ResumeError> {
        if kept.cluster != *config.cluster() {
            return Err(ResumeError::OtherCluster { kept: kept.cluster, configured: config.cluster().clone() });
        }
        if kept.id != *config.id() {
            return Err(ResumeError::OtherNode { kept: kept.id, configured: config.id().clone() });
        }
        if kept.seeds != *config.seeds() && kept.seeds != *config.former_seeds() {
            return Err(ResumeError::OtherSeeds { kept: kept.seeds, configured: config.seeds().clone() });
        }
        let incarnation = incarnation.max(Incarnation(kept.incarnation.0.saturating_add(1)));
        Ok(Self { incarnation, rng_seed, hard_state: kept.hard_state })
    }
}

/// Why a node cannot start from what was kept. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// It is of a node of another cluster.
    #[error("it was kept by a node of the cluster {kept:?}, and this node is of {configured:?}; give each its own")]
    OtherCluster {
        /// That node's cluster.
        kept: ClusterName,
        /// The configured one.
        configured: ClusterName,
    },
    /// It is another node's.
    #[error("it was kept by the node {kept:?}, and this is the node {configured:?}; give each node its own")]
    OtherNode {
        /// That node.
        kept: NodeId,
        /// This one.
        configured: NodeId,
    },
    /// The votes were cast in another electorate. Two seed lists at once could elect two masters.
    #[error(
        "it was kept with the seeds {}, and now they are {}; to change the list, stop all voters first, then start every \
         node with the new list as seeds and the old one as former_seeds",
        List(kept),
        List(configured)
    )]
    OtherSeeds {
        /// The seeds when it was kept.
        kept: BTreeSet<Address>,
        /// The configured ones.
        configured: BTreeSet<Address>,
    },
}

struct List<'a>(&'a BTreeSet<Address>);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for address in self.0 {
            write!(f, "{separator}{address}")?;
            separator = ", ";
        }
        Ok(())
    }
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

    fn kept() -> DurableState {
        let hard_state = HardState { term: Term(7), voted_for: None, joined: true };
        let start = Start { hard_state, ..Start::new(Incarnation(40), 1) };
        DurableState::of(&config("a", &["a:1", "b:1"], &[]), &start)
    }

    fn resume(config: &Config) -> Result<Start, ResumeError> {
        Start::resume(config, kept(), Incarnation(50), 2)
    }

    #[test]
    fn e4_a_restarted_node_goes_on_in_its_term_as_a_larger_incarnation() {
        let config = config("a", &["b:1", "a:1"], &[]);
        let start = resume(&config).unwrap();
        assert_eq!((start.incarnation, &start.hard_state), (Incarnation(50), &kept().hard_state));
        let node = crate::Formation::new(config, start, Timestamp::ZERO);
        assert_eq!(node.status().term, Term(7));
    }

    #[test]
    fn a_clock_that_went_back_gives_no_smaller_incarnation() {
        let start = Start::resume(&config("a", &["a:1", "b:1"], &[]), kept(), Incarnation(39), 2).unwrap();
        assert_eq!(start.incarnation, Incarnation(41));
    }

    #[test]
    fn a_node_with_another_seed_list_refuses_and_names_both() {
        let error = resume(&config("a", &["a:1", "c:1"], &[])).unwrap_err().to_string();
        assert!(error.contains("a:1, b:1,") && error.contains("a:1, c:1;"), "{error}");
    }

    #[test]
    fn a_change_of_the_seed_list_is_said_by_naming_the_former_one() {
        assert_eq!(resume(&config("a", &["a:1", "c:1"], &["b:1", "a:1"])).unwrap().hard_state, kept().hard_state);
        assert!(resume(&config("a", &["a:1", "c:1"], &["b:1"])).is_err());
    }

    #[test]
    fn the_state_of_another_node_or_cluster_is_refused_with_both_names() {
        let error = resume(&config("b", &["a:1", "b:1"], &[])).unwrap_err().to_string();
        assert!(error.contains(r#""a""#) && error.contains(r#""b""#), "{error}");
        let other = Config::builder("prod", "a", "a:1").seeds(["a:1", "b:1"]).build().unwrap();
        let error = resume(&other).unwrap_err().to_string();
        assert!(error.contains(r#""test""#) && error.contains(r#""prod""#), "{error}");
    }
}
