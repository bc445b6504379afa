//! The invariants of the peer table.

use super::PeerTable;
use crate::{
    api::interface::Origin,
    id::ConnId,
    timers::{Timer, Timers},
};

impl PeerTable {
    /// Checks what holds between two inputs.
    ///
    /// # Panics
    /// When something does not hold.
    pub(crate) fn check(&self, timers: &Timers) {
        self.check_connections(timers);
        self.check_peers();
        assert!(self.awake.is_empty(), "nothing is left to send: {:?}", self.awake);
        assert!(self.scratch.is_empty(), "the scratch buffer is empty between two writes");
    }

    fn check_connections(&self, timers: &Timers) {
        let (mut established, mut buffered) = (0, 0);
        for (conn, connection) in &self.connections {
            let is_pending = connection.origin == Origin::Accepted && !connection.is_established();
            assert_eq!(self.pending.contains(conn), is_pending, "{conn} is pending iff accepted and not established");
            assert!(self.newest_conn() >= Some(*conn), "{conn} is newer than the newest");
            buffered += connection.buffered;
            assert_eq!(connection.buffered, connection.decoder.buffered(), "{conn} counts what it has buffered");
            if let Some(link) = connection.link() {
                established += 1;
                let peer = self.peer(link.peer).expect("a link names a peer in the table");
                assert!(peer.links.contains(conn), "the peer of {conn} names it");
            }
            let is_link = connection.is_established();
            assert_eq!(timers.is_set(&Timer::Handshake(*conn)), !is_link, "the handshake of {conn} has a deadline");
            for timer in [Timer::Ping(*conn), Timer::Silence(*conn)] {
                assert_eq!(timers.is_set(&timer), is_link, "{timer:?} is set iff {conn} is established");
            }
        }
        assert_eq!(self.established, established, "the established connections are counted");
        assert_eq!(self.partial_bytes, buffered, "the bytes of unfinished frames are summed up");
        assert!(self.pending.iter().all(|conn| self.connections.contains_key(conn)), "each pending one is there");
        let is_known = |conn: &ConnId| self.connections.contains_key(conn);
        assert!(timers.conns().all(|conn| is_known(&conn)), "no timer outlives its connection");
    }

    fn check_peers(&self) {
        for (key, peer) in &self.peers {
            assert!(!peer.links.is_empty(), "{} has a link", peer.node());
            assert_eq!(peer.key(), *key, "a peer knows its key");
            assert_eq!(self.ids.get(&peer.node().id), Some(key), "{} is found by its id", peer.node());
            assert_eq!(self.addresses.get(peer.address()), Some(key), "{} is found by its address", peer.node());
            for conn in &peer.links {
                let names = self.link(*conn).map(|link| link.peer);
                assert_eq!(names, Some(*key), "{conn} is a link to {}", peer.node());
            }
        }
        assert_eq!(self.ids.len(), self.peers.len(), "each id is that of a peer");
        assert_eq!(self.addresses.len(), self.peers.len(), "each address is that of a peer");
    }
}
