//! Leaving of one's own accord, and of others (PROTOCOL.md, "Leaving").

use alloc::vec::Vec;

use crate::{
    formation::Formation,
    id::{ConnId, NodeId},
    interface::StopReason,
    link::Peer,
    message::Resign,
    timer::Timer,
    view::RemovalReason,
};

impl Formation {
    /// From now on this node's status says so, on every link that it has or gets.
    pub(crate) fn leave(&mut self) {
        if self.leaving {
            return;
        }
        self.leaving = true;
        self.resigning = self.election.leave();
        while let Some(effect) = self.election.next_effect() {
            self.effect(effect);
        }
        self.timers.set(Timer::Leave, self.now + self.config.timing().down_after);
        let linked: Vec<NodeId> = self.peers.keys().cloned().collect();
        for id in &linked {
            self.owe_resignation(id);
        }
        // One that is left alone has no link whose loss would make it look for others.
        self.redial = true;
    }

    /// A master that resigned says so on every link that a voter has or gets.
    pub(crate) fn owe_resignation(&mut self, id: &NodeId) {
        if let Some(term) = self.resigning
            && let Some(peer) = self.peers.get_mut(id).filter(|peer| peer.is_voter)
        {
            peer.owed.resign = Some(Resign { term });
            self.wake_peer(id);
        }
    }

    /// A node has left once a master says so; or once its voters have been told, when no master can say it.
    pub(crate) fn finish_leaving(&mut self) {
        if !self.leaving || self.is_stopped() {
            return;
        }
        let may_be_in_a_view = self.election.has_known_a_master() || self.peers.values().any(Peer::leads);
        let waits = !self.dismissed && may_be_in_a_view && self.election.others_may_lead();
        // What a voter is still owed waits behind what is in flight.
        let in_flight = |conn: &ConnId| self.links.get(conn).is_some_and(|link| link.in_flight);
        let busy = |peer: &Peer| peer.is_voter && peer.links.iter().any(in_flight);
        if !waits && !self.peers.values().any(busy) {
            self.stop(StopReason::Left);
        }
    }

    /// A peer says that it leaves. A master lets it go; another voter may be the next master, and write the next view.
    pub(crate) fn peer_leaves(&mut self, id: &NodeId) {
        let Some(peer) = self.peers.get(id) else { return };
        if self.election.is_master() {
            self.let_go(id);
        } else if self.membership.view.get(id).is_some_and(|member| member.node == peer.node) {
            self.gone.insert(peer.node.clone());
        }
    }

    /// Takes a peer that leaves out of the view, and tells it, as often as it says so.
    pub(crate) fn let_go(&mut self, id: &NodeId) {
        self.remove_member(id, RemovalReason::Left);
        if let Some(peer) = self.peers.get_mut(id) {
            peer.owed.leave = true;
            self.wake_peer(id);
        }
    }
}
