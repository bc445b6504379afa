//! How often a node changes its own entry in the view (PROTOCOL.md, V8).
//!
//! A master sends every change to all members. Without a rule, one node could make it send as many as it likes: by new metadata, or by
//! leaving and joining in turn.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::{id::NodeId, membership::view::Member};

/// How often a node may be admitted between two heartbeats. A restart or a lost link takes one.
const ADMISSIONS: u32 = 2;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Pace {
    /// The nodes whose metadata has changed since the last heartbeat.
    metadata: BTreeSet<NodeId>,
    /// The nodes that were admitted since then, and how often.
    admitted: BTreeMap<NodeId, u32>,
    /// A further change waits for the next heartbeat.
    has_waiting: bool,
    limit: usize,
}

/// How a node changes its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It is an active member, and only its metadata changes.
    Metadata,
    /// It becomes a member, or an active one.
    Admission,
}

impl Change {
    fn between(known: Option<&Member>, member: &Member) -> Self {
        let is_same = |known: &Member| known.node == member.node && known.address == member.address;
        match known.is_some_and(|known| is_same(known) && known.state == member.state) {
            true => Self::Metadata,
            false => Self::Admission,
        }
    }
}

impl Pace {
    pub(super) fn new(limit: usize) -> Self {
        Self { metadata: BTreeSet::new(), admitted: BTreeMap::new(), has_waiting: false, limit }
    }

    /// What a node's entry becomes now. `None` if its change has to wait, and so has the answer to the node; but the answer to a member
    /// that is active does not wait for its new metadata.
    pub(super) fn entry(&mut self, member: Member, known: Option<&Member>, wants_answer: bool) -> Option<Member> {
        let change = Change::between(known, &member);
        if known == Some(&member) || !self.must_wait(&member.node.id, change) {
            return Some(member);
        }
        match change {
            Change::Metadata => known.filter(|_| wants_answer).cloned(),
            Change::Admission => None,
        }
    }

    /// The node is about to change its entry. Returns true if that has to wait for the next heartbeat.
    fn must_wait(&mut self, id: &NodeId, change: Change) -> bool {
        let must_wait = match change {
            Change::Metadata => self.metadata.len() >= self.limit || !self.metadata.insert(id.clone()),
            Change::Admission if self.admitted.len() >= self.limit && !self.admitted.contains_key(id) => true,
            Change::Admission => {
                let count = self.admitted.entry(id.clone()).or_insert(0);
                *count = count.saturating_add(1);
                *count > ADMISSIONS
            }
        };
        self.has_waiting |= must_wait;
        must_wait
    }

    /// A heartbeat is due. Returns true if changes have waited for it.
    pub(super) fn begin_round(&mut self) -> bool {
        self.metadata.clear();
        self.admitted.clear();
        core::mem::take(&mut self.has_waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: &str) -> NodeId {
        NodeId::new(id).unwrap()
    }

    #[test]
    fn v8_a_node_changes_its_entry_a_few_times_per_heartbeat() {
        for (change, count) in [(Change::Metadata, 1), (Change::Admission, 2)] {
            let mut pace = Pace::new(9);
            for _ in 0..2 {
                let taken = (0..20).filter(|_| !pace.must_wait(&id("a"), change)).count();
                assert_eq!(taken, count, "{change:?}");
                assert!(!pace.must_wait(&id("b"), change), "one node does not wait for another");
                assert!(pace.begin_round());
            }
            assert!(!pace.begin_round(), "nobody waits any more");
        }
    }

    #[test]
    fn g7_no_more_nodes_change_at_once_than_the_limit() {
        let mut pace = Pace::new(2);
        let waits = ["a", "b", "c", "a"].map(|name| pace.must_wait(&id(name), Change::Admission));
        assert_eq!(waits, [false, false, true, false]);
        assert_eq!(pace.admitted.len(), 2);
        assert!(pace.begin_round() && !pace.must_wait(&id("c"), Change::Admission));
    }
}
