//! Remembers which rejections were reported, because a misconfigured node retries again and again (PROTOCOL.md,
//! "Rejections").

use alloc::collections::{BTreeMap, BTreeSet};
use core::net::SocketAddr;

use crate::{
    api::error::RejectReason,
    api::event::Event,
    env::Sink,
    id::{Address, ClusterName, Incarnation, Node, NodeId},
    wire::message::Holder,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Rejections {
    reported: BTreeMap<(NodeId, Address), BTreeSet<Reported>>,
    /// How many there are in all of these sets.
    count: usize,
    limit: usize,
}

/// A rejection that differs in any of these is reported again.
type Reported = (Incarnation, RejectReason, Option<Holder>);

impl Rejections {
    pub(crate) fn new(limit: usize) -> Self {
        Self { reported: BTreeMap::new(), count: 0, limit }
    }

    /// Reports that a peer is rejected, unless this was reported before. Reports it `in_any_case`, if that is set.
    pub(crate) fn report(
        &mut self,
        sink: &mut Sink,
        (node, address): (Node, Address),
        (reason, holder): (RejectReason, Option<Holder>),
        (cluster, peer_addr): (Option<ClusterName>, Option<SocketAddr>),
        in_any_case: bool,
    ) {
        if self.is_news(&node, &address, reason, holder.as_ref()) || in_any_case {
            sink.event(Event::PeerRejected { node, address, reason, holder, cluster, peer_addr });
        }
    }

    /// Returns true if this rejection was not reported before. At the limit, everything is forgotten: only a peer that uses
    /// very many names reaches the limit, and repeated reports are then a small part.
    fn is_news(&mut self, peer: &Node, address: &Address, reason: RejectReason, holder: Option<&Holder>) -> bool {
        let (by, rejection) = ((peer.id.clone(), address.clone()), (peer.incarnation, reason, holder.cloned()));
        if self.reported.get(&by).is_some_and(|reported| reported.contains(&rejection)) {
            return false;
        }
        if self.count >= self.limit {
            self.reported.clear();
            self.count = 0;
        }
        self.count += 1;
        self.reported.entry(by).or_default().insert(rejection)
    }

    /// The peer is linked: what kept it from that is over.
    pub(crate) fn linked(&mut self, peer: &NodeId, address: &Address) {
        self.forget(peer, address, |reason| !reason.is_from_master());
    }

    /// The peer is a member: nothing keeps it from anything.
    pub(crate) fn admitted(&mut self, peer: &NodeId, address: &Address) {
        self.forget(peer, address, |_| true);
    }

    /// Checks what holds between two inputs.
    ///
    /// # Panics
    /// When something does not hold.
    pub(crate) fn check(&self) {
        let count: usize = self.reported.values().map(BTreeSet::len).sum();
        assert_eq!(self.count, count, "the rejections that were reported are counted");
        assert!(self.count <= self.limit, "the rejections that are remembered are within their limit");
        assert!(self.reported.values().all(|reported| !reported.is_empty()), "no empty set is kept");
    }

    fn forget(&mut self, peer: &NodeId, address: &Address, is_over: impl Fn(RejectReason) -> bool) {
        if self.reported.is_empty() {
            return;
        }
        let by = (peer.clone(), address.clone());
        let Some(reported) = self.reported.get_mut(&by) else { return };
        let before = reported.len();
        reported.retain(|(_, reason, _)| !is_over(*reason));
        let left = reported.len();
        self.count -= before - left;
        if left == 0 {
            self.reported.remove(&by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::violations::{Violation, expect_all_listed, expect_violations};

    fn reject(rejections: &mut Rejections, id: &str, incarnation: u64) -> bool {
        let node = Node { id: NodeId::new(id).expect("a valid id"), incarnation: Incarnation(incarnation) };
        let address = Address::new("a:1").expect("a valid address");
        rejections.is_news(&node, &address, RejectReason::WrongCluster, None)
    }

    #[test]
    fn g7_h10_no_more_rejections_are_remembered_than_the_limit() {
        let mut rejections = Rejections::new(5);
        for turn in 0..1_000 {
            let id = ["a", "b"][turn % 2];
            reject(&mut rejections, id, (turn / 3) as u64 % 5);
            if turn % 7 == 0 {
                let id = NodeId::new("b").expect("a valid id");
                rejections.admitted(&id, &Address::new("a:1").expect("a valid address"));
            }
            rejections.check();
        }
    }

    fn one_rejection() -> Rejections {
        let mut rejections = Rejections::new(5);
        assert!(reject(&mut rejections, "a", 1));
        rejections
    }

    const VIOLATIONS: [Violation<Rejections>; 3] = [
        (one_rejection, |r| r.count = 2, "the rejections that were reported are counted"),
        (one_rejection, |r| r.limit = 0, "the rejections that are remembered are within their limit"),
        (
            one_rejection,
            |r| {
                r.count = 0;
                r.reported.values_mut().for_each(BTreeSet::clear);
            },
            "no empty set is kept",
        ),
    ];

    #[test]
    fn every_invariant_of_rejections_notices_its_violation() {
        expect_violations(&VIOLATIONS, Rejections::check);
        expect_all_listed(include_str!("rejections.rs"), &VIOLATIONS);
    }
}
