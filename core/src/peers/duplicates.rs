//! Which of several links to one peer is used and kept (PROTOCOL.md, "Two connections").

use alloc::vec::Vec;

use super::{Connection, PeerKey, PeerTable, link::Link};
use crate::{api::input::Origin, env::never, id::ConnId};

impl PeerTable {
    /// The link on which this node sends to the peer. The node with the higher id uses the link that it keeps, the other one
    /// the newest established link.
    pub(super) fn sending_link(&self, key: PeerKey) -> Option<ConnId> {
        let peer = self.peer(key)?;
        match peer.links.as_slice() {
            [only] => Some(*only),
            many if peer.has_higher_id() => many.last().copied(),
            many => self.kept_link(many),
        }
    }

    /// Whether the peer has established any of its links, too.
    pub(crate) fn is_confirmed(&self, key: PeerKey) -> bool {
        self.peer(key).is_some_and(|peer| peer.links.iter().any(|conn| self.is_confirmed_link(*conn)))
    }

    fn is_confirmed_link(&self, conn: ConnId) -> bool {
        self.link(conn).is_some_and(Link::is_confirmed)
    }

    /// The links to the peer that this node closes now: all but the kept one, once the peer has confirmed that one. Only the node
    /// with the higher id closes any.
    pub(crate) fn duplicates(&self, key: PeerKey) -> Vec<ConnId> {
        let Some(peer) = self.peer(key).filter(|peer| !peer.has_higher_id()) else { return Vec::new() };
        let kept = self.kept_link(&peer.links);
        match kept.filter(|conn| self.is_confirmed_link(*conn)) {
            Some(kept) => peer.links.iter().copied().filter(|conn| *conn != kept).collect(),
            None => Vec::new(),
        }
    }

    /// For the node with the higher id only: the newest link that the other node has dialed, or else the newest of this node's own.
    fn kept_link(&self, links: &[ConnId]) -> Option<ConnId> {
        let is_theirs = |conn: &&ConnId| match self.connection(**conn).map(Connection::origin) {
            Some(Origin::Accepted) => true,
            Some(Origin::Dialed(_)) => false,
            None => never!("a peer names its links", false),
        };
        links.iter().filter(is_theirs).max().or_else(|| links.iter().max()).copied()
    }
}
