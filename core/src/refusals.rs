//! Which refusals were told: a node that is configured wrongly comes again and again, and that is one piece of news
//! (PROTOCOL.md, "Rejections").

use alloc::collections::{BTreeMap, BTreeSet};

use crate::{
    error::RejectReason,
    id::{Address, Incarnation, Node, NodeId},
    message::Holder,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Refusals {
    told: BTreeMap<(NodeId, Address), BTreeSet<Told>>,
    /// How many there are in all of these.
    count: usize,
    limit: usize,
}

/// What is new when some of it has changed.
type Told = (Incarnation, RejectReason, Option<Holder>);

impl Refusals {
    pub(crate) fn new(limit: usize) -> Self {
        Self { told: BTreeMap::new(), count: 0, limit }
    }

    /// A peer is refused: whether that is news. At the limit all that was told is forgotten: whoever brings that about comes
    /// under so many names that what is told again is little beside.
    pub(crate) fn is_news(
        &mut self,
        peer: &Node,
        address: &Address,
        reason: RejectReason,
        holder: Option<&Holder>,
    ) -> bool {
        let (by, refusal) = ((peer.id.clone(), address.clone()), (peer.incarnation, reason, holder.cloned()));
        if self.told.get(&by).is_some_and(|told| told.contains(&refusal)) {
            return false;
        }
        if self.count >= self.limit {
            self.told.clear();
            self.count = 0;
        }
        self.count += 1;
        self.told.entry(by).or_default().insert(refusal)
    }

    /// The peer is linked: what stood in the way of that is over.
    pub(crate) fn linked(&mut self, peer: &NodeId, address: &Address) {
        self.forget(peer, address, |reason| !reason.is_said_by_the_master());
    }

    /// The peer is a member: nothing stands in its way any more.
    pub(crate) fn taken_in(&mut self, peer: &NodeId, address: &Address) {
        self.forget(peer, address, |_| true);
    }

    fn forget(&mut self, peer: &NodeId, address: &Address, is_over: impl Fn(RejectReason) -> bool) {
        if self.told.is_empty() {
            return;
        }
        let by = (peer.clone(), address.clone());
        let Some(told) = self.told.get_mut(&by) else { return };
        let before = told.len();
        told.retain(|(_, reason, _)| !is_over(*reason));
        let left = told.len();
        self.count -= before - left;
        if left == 0 {
            self.told.remove(&by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(refusals: &mut Refusals, id: &str, incarnation: u64) -> bool {
        let node = Node { id: NodeId::new(id).expect("a valid id"), incarnation: Incarnation(incarnation) };
        let address = Address::new("a:1").expect("a valid address");
        refusals.is_news(&node, &address, RejectReason::WrongCluster, None)
    }

    #[test]
    fn g7_no_more_is_remembered_than_the_limit_however_it_was_told_and_forgotten() {
        let mut refusals = Refusals::new(5);
        for turn in 0..1_000 {
            let id = ["a", "b"][turn % 2];
            refuse(&mut refusals, id, (turn / 3) as u64 % 5);
            if turn % 7 == 0 {
                let id = NodeId::new("b").expect("a valid id");
                refusals.taken_in(&id, &Address::new("a:1").expect("a valid address"));
            }
            let remembered: usize = refusals.told.values().map(BTreeSet::len).sum();
            assert_eq!(remembered, refusals.count);
            assert!(remembered <= 5, "{refusals:?}");
        }
    }
}
