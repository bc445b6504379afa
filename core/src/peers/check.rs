//! The invariants of the peer table.

use super::{
    PeerTable,
    connection::{Connection, State},
    outbox::Outbox,
    peer::Peer,
};
use crate::{
    api::interface::Origin,
    id::ConnId,
    timers::{Timer, Timers},
};

impl PeerTable {
    /// Checks what holds between two inputs. `newest_status`: the number of the newest report of this node.
    /// `is_master`: whether this node is a master.
    ///
    /// # Panics
    /// When something does not hold.
    pub(crate) fn check(&self, timers: &Timers, newest_status: u64, is_master: bool) {
        self.check_connections(timers);
        self.check_peers();
        assert!(self.awake.is_empty(), "every connection that was awake is flushed: {:?}", self.awake);
        assert!(self.scratch.is_empty(), "the scratch buffer is empty between two writes");
        self.check_sent(newest_status);
        let is_allowed = |peer: &Peer| is_master || !peer.outbox.is_from_a_master();
        assert!(self.peers.values().all(is_allowed), "only a master has a heartbeat or an answer to a join to send");
    }

    fn check_connections(&self, timers: &Timers) {
        let (mut established, mut buffered) = (0, 0);
        for (conn, connection) in &self.connections {
            let is_pending = connection.origin == Origin::Accepted && !connection.is_established();
            assert_eq!(self.pending.contains(conn), is_pending, "{conn} is pending iff accepted and not established");
            assert!(self.newest_conn() >= Some(*conn), "{conn} is not newer than the newest");
            buffered += connection.buffered;
            assert_eq!(connection.buffered, connection.decoder.buffered(), "{conn} counts what it has buffered");
            if let Some(link) = connection.link() {
                established += 1;
                let peer = self.peers.get(&link.peer).expect("a link names a peer in the table");
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
        assert!(
            self.pending.iter().all(|conn| self.connections.contains_key(conn)),
            "each pending connection is in the table"
        );
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
                let names = self.connection(*conn).and_then(Connection::link).map(|link| link.peer);
                assert_eq!(names, Some(*key), "{conn} is a link to {}", peer.node());
            }
        }
        assert_eq!(self.ids.len(), self.peers.len(), "each id is that of a peer");
        assert_eq!(self.addresses.len(), self.peers.len(), "each address is that of a peer");
    }

    /// A connection on which nothing is in flight has nothing to send.
    fn check_sent(&self, newest_status: u64) {
        let idle = |(_, connection): &(&ConnId, &Connection)| !connection.in_flight;
        for (conn, connection) in self.connections.iter().filter(idle) {
            let is_sent = match &connection.state {
                State::AwaitingHello { hello_due } => !hello_due,
                State::Proving(proving) => proving.answer.is_empty(),
                State::Established(link) => link.first.is_empty() && link.status_sent > 0 && !connection.ping_due,
                State::Rejecting { sent, .. } => *sent,
            };
            assert!(is_sent, "{conn} has sent what it can: {:?}", connection.state);
        }
        let is_idle = |conn: &ConnId| self.in_flight(*conn) == Some(false);
        for (key, peer) in &self.peers {
            let Some(conn) = self.sending_link(*key).filter(is_idle) else { continue };
            assert_eq!(peer.outbox, Outbox::default(), "every message to {} is sent", peer.node());
            let sent = self.link(conn).map(|link| link.status_sent);
            assert_eq!(sent, Some(newest_status), "the newest status is sent to {}", peer.node());
        }
    }
}
