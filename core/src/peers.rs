//! What is known of a peer outlives its connections (PROTOCOL.md, "Two connections").

use alloc::vec::Vec;

use crate::{
    error::CloseReason,
    formation::Formation,
    id::{Address, ConnId, NodeId},
    interface::{Event, Origin},
    link::{End, Peer, Phase},
    message::Role,
};

impl Formation {
    /// The higher id speaks on the link that it keeps, the lower id on the newest established.
    pub(crate) fn sending_link(&self, id: &NodeId) -> Option<ConnId> {
        let peer = self.peers.get(id)?;
        match peer.links.as_slice() {
            [] => None,
            [only] => Some(*only),
            many if self.me.id < *id => many.last().copied(),
            many => self.kept_link(many),
        }
    }

    /// Of several links to one peer the higher id keeps one (PROTOCOL.md, "Two connections").
    pub(crate) fn resolve_duplicates(&mut self, id: &NodeId) {
        let Some(peer) = self.peers.get(id).filter(|peer| self.me.id > peer.node.id) else {
            return;
        };
        let Some(kept) = self.kept_link(&peer.links) else { return };
        let heard = matches!(self.links.get(&kept).map(|l| &l.phase), Some(Phase::Established { heard: true, .. }));
        if heard {
            let others: Vec<ConnId> = peer.links.iter().copied().filter(|conn| *conn != kept).collect();
            for conn in others {
                self.end(conn, End::Ours(CloseReason::Duplicate));
            }
        }
    }

    /// The newest that the lower id dialed, or else the newest of our own.
    pub(crate) fn kept_link(&self, links: &[ConnId]) -> Option<ConnId> {
        let theirs = |conn: &&ConnId| self.links.get(conn).is_some_and(|link| link.origin == Origin::Accepted);
        links.iter().filter(theirs).max().or_else(|| links.iter().max()).copied()
    }

    pub(crate) fn peer_lost_link(&mut self, id: &NodeId, conn: ConnId, reason: Option<CloseReason>) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.links.retain(|link| *link != conn);
        if !peer.links.is_empty() {
            self.peer_relinked(id);
            return self.resolve_duplicates(id);
        }
        let Some(peer) = self.peers.remove(id) else { return };
        self.peer_at.remove(&peer.address);
        self.redial = true;
        self.event(Event::Unlinked { node: peer.node.clone(), reason });
        self.election.link_down(&peer.address);
        if let Some(roster) = &mut self.membership.roster {
            let changes = roster.link_down(&mut self.membership.view, id);
            self.view_changed(changes);
            self.watch_member(id);
        }
    }

    /// The peer is spoken to on another link now; what the last one still owed is owed by it.
    pub(crate) fn peer_relinked(&mut self, id: &NodeId) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let address = peer.address.clone();
        peer.owed.leave |= self.election.is_master() && peer.leaves();
        self.owe_resignation(id);
        self.election.relinked(&address);
        if let Some(roster) = &mut self.membership.roster {
            roster.relinked(id);
        }
        self.wake_peer(id);
    }

    /// One that can reach only followers says so.
    pub(crate) fn report_unreachable(&mut self, address: &Address) {
        if self.election.master().is_some() {
            return;
        }
        let follows = |peer: &Peer| match peer.status.as_ref().map(|status| &status.role) {
            Some(Role::Follower { master, address: at }) if at == address => Some(master.clone()),
            _ => None,
        };
        if let Some(master) = self.peers.values().find_map(follows)
            && self.unreachable.as_ref() != Some(&master)
        {
            self.unreachable = Some(master.clone());
            self.event(Event::MasterUnreachable { master, address: address.clone() });
        }
    }
}
