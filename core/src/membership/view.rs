//! The member list, as everybody sees it.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{Address, Node, NodeId, ViewId};

/// One member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Who it is.
    pub node: Node,
    /// Where it can be dialed.
    pub address: Address,
    /// Whether the master hears it.
    pub state: MemberState,
    /// What it says of itself; opaque to Formation.
    pub metadata: Bytes,
}

impl Member {
    /// An upper bound of its size on the wire, in bytes.
    pub(crate) fn wire_size(&self) -> usize {
        self.node.id.as_str().len() + self.address.as_str().len() + self.metadata.len() + 20
    }
}

/// What the master knows of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MemberState {
    /// It answers.
    Active,
    /// It has been silent for `suspect_after`, or its link is closed.
    Suspect,
}

/// One member's part of a delta.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Change {
    /// The member is new, or not what it was.
    Upsert(Member),
    /// The member is gone.
    Remove {
        /// Who.
        id: NodeId,
        /// Why.
        reason: RemovalReason,
    },
}

impl Change {
    /// Whom it concerns.
    pub fn id(&self) -> &NodeId {
        match self {
            Self::Upsert(member) => &member.node.id,
            Self::Remove { id, .. } => id,
        }
    }

    /// An upper bound of its size on the wire, in bytes.
    pub(crate) fn wire_size(&self) -> usize {
        match self {
            Self::Upsert(member) => 1 + member.wire_size(),
            Self::Remove { id, .. } => 4 + id.as_str().len(),
        }
    }
}

/// Why a member is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RemovalReason {
    /// It said so.
    Left,
    /// It was not heard for `down_after`.
    Down,
}

/// The member list of one view id. Cloning it is cheap; it never changes under its holder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MembersView {
    view_id: ViewId,
    members: Arc<BTreeMap<NodeId, Arc<Member>>>,
}

impl MembersView {
    /// Which view this is. `ViewId::default()` until the node has been a member.
    pub fn id(&self) -> ViewId {
        self.view_id
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no member, as before the first view.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The member of that id.
    pub fn get(&self, id: &NodeId) -> Option<&Member> {
        self.members.get(id).map(Arc::as_ref)
    }

    /// The members in the order of their ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values().map(Arc::as_ref)
    }

    pub(crate) fn new(view_id: ViewId, members: impl IntoIterator<Item = Member>) -> Self {
        let members = members.into_iter().map(|m| (m.node.id.clone(), Arc::new(m))).collect();
        Self { view_id, members: Arc::new(members) }
    }

    /// Makes the view of `view_id` out of this one.
    pub(crate) fn apply(&mut self, view_id: ViewId, changes: &[Change]) {
        let members = Arc::make_mut(&mut self.members);
        for change in changes {
            match change {
                Change::Upsert(member) => {
                    members.insert(member.node.id.clone(), Arc::new(member.clone()));
                }
                Change::Remove { id, .. } => {
                    members.remove(id);
                }
            }
        }
        self.view_id = view_id;
    }

    /// What turns `self` into `next`, as far as two views can tell: whoever is missing is taken to be down, unless it has
    /// `said` that it leaves.
    pub(crate) fn changes_to(&self, next: &Self, said: &BTreeSet<Node>) -> Vec<Change> {
        let missing = self.members.values().filter(|m| !next.members.contains_key(&m.node.id));
        let missing = missing.map(|m| {
            let reason = if said.contains(&m.node) { RemovalReason::Left } else { RemovalReason::Down };
            Change::Remove { id: m.node.id.clone(), reason }
        });
        let new = next.members.values().filter(|m| self.members.get(&m.node.id) != Some(m));
        missing.chain(new.map(|m| Change::Upsert((**m).clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Incarnation;

    /// A page or a delta must never be longer than it was reckoned, nor much shorter, or it would take more sends than it has to.
    #[test]
    fn what_a_change_is_reckoned_to_take_on_the_wire_is_enough_and_hardly_more() {
        for (id, address, metadata) in [(1, 3, 0), (5, 9, 127), (64, 259, 512)] {
            let id = NodeId::new("x".repeat(id)).unwrap();
            let address = Address::new(alloc::format!("{}:1", "h".repeat(address - 2))).unwrap();
            for incarnation in [1, u64::MAX].map(Incarnation) {
                let node = Node { id: id.clone(), incarnation };
                let metadata = Bytes::from(alloc::vec![7; metadata]);
                let member = Member { node, address: address.clone(), state: MemberState::Suspect, metadata };
                let removed = Change::Remove { id: id.clone(), reason: RemovalReason::Down };
                for (takes, reckoned) in [
                    (postcard::to_allocvec(&member).unwrap().len(), member.wire_size()),
                    (postcard::to_allocvec(&removed).unwrap().len(), removed.wire_size()),
                    {
                        let change = Change::Upsert(member);
                        (postcard::to_allocvec(&change).unwrap().len(), change.wire_size())
                    },
                ] {
                    assert!((takes..takes + 16).contains(&reckoned), "{takes} bytes were reckoned to be {reckoned}");
                }
            }
        }
    }
}
