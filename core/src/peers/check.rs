//! The invariants of the peer table.

use super::{PeerTable, connection::Connection, link::Link, outbox::Outbox, peer::Peer};
use crate::{
    api::input::Origin,
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
        assert_eq!(self.goes_first, None, "no connection goes first that is not flushed");
        assert!(self.scratch.is_empty(), "the scratch buffer is empty between two writes");
        self.check_sent(newest_status);
        let is_allowed = |peer: &Peer| is_master || !peer.outbox.is_from_a_master();
        assert!(self.peers.values().all(is_allowed), "only a master has a heartbeat or an answer to a join to send");
    }

    fn check_connections(&self, timers: &Timers) {
        let (mut established, mut buffered, mut unsent) = (0, 0, 0);
        for (conn, connection) in &self.connections {
            assert!(self.nonces.contains(&(connection.nonce(), *conn)), "{conn} is found by its nonce");
            let is_claim = connection.claim().is_some();
            assert_eq!(self.claimed.contains(conn), is_claim, "{conn} is among the claims iff it is one");
            let is_dialed = connection.origin() != Origin::Accepted;
            assert_eq!(self.dialed.contains(conn), is_dialed, "{conn} is dialed iff it is not accepted");
            let is_accepted = !is_dialed && !connection.is_apart();
            let is_pending = is_accepted && !connection.is_established();
            assert_eq!(self.pending.contains(conn), is_pending, "{conn} is pending iff accepted and not established");
            assert!(self.newest_conn() >= Some(*conn), "{conn} is not newer than the newest");
            buffered += connection.buffered();
            assert!(connection.counts_its_buffer(), "{conn} counts what it has buffered");
            assert!(connection.has_frame_deadline(), "an unfinished frame on {conn} has a deadline");
            unsent += connection.unsent();
            assert_eq!(connection.unsent() > 0, connection.in_flight(), "{conn} counts what is in flight");
            assert_eq!(
                self.streams.contains(conn),
                connection.stream().is_some(),
                "{conn} is among the streams iff it is one"
            );
            assert!(!connection.is_ready(), "{conn} is handed off when it is ready");
            if let Some(link) = connection.link() {
                established += 1;
                let peer = self.peers.get(&link.peer()).expect("a link names a peer in the table");
                assert!(peer.links.contains(conn), "the peer of {conn} names it");
            }
            assert!(connection.pings_only_on_a_link(), "a ping is due on {conn} only while it is a link");
            let is_link = connection.is_established();
            assert_eq!(timers.is_set(&Timer::Handshake(*conn)), !is_link, "the handshake of {conn} has a deadline");
            for timer in [Timer::Ping(*conn), Timer::Silence(*conn)] {
                assert_eq!(timers.is_set(&timer), is_link, "{timer:?} is set iff {conn} is established");
            }
        }
        assert!(self.streams.iter().all(|conn| self.connections.contains_key(conn)), "each stream is in the table");
        assert!(self.ready.is_empty(), "no stream waits to be handed off");
        assert_eq!(self.nonces.len(), self.connections.len(), "each nonce is that of a connection");
        assert_eq!(self.established, established, "the established connections are counted");
        assert_eq!(self.partial_bytes, buffered, "the bytes of unfinished frames are summed up");
        assert_eq!(self.unsent_bytes, unsent, "the bytes of writes in flight are summed up");
        let is_link = |conn: &ConnId| self.connection(*conn).is_some_and(Connection::is_established);
        assert!(self.withheld.iter().all(is_link), "updates are withheld from links");
        assert!(
            self.pending.iter().all(|conn| self.connections.contains_key(conn)),
            "each pending connection is in the table"
        );
        let is_known = |conn: &ConnId| self.connections.contains_key(conn);
        assert!(self.dialed.iter().all(is_known), "each dialed connection is in the table");
        assert!(timers.conns().all(|conn| is_known(&conn)), "no timer outlives its connection");
    }

    fn check_peers(&self) {
        for (key, peer) in &self.peers {
            assert!(!peer.links.is_empty(), "{} has a link", peer.node());
            assert_eq!(peer.key(), *key, "a peer knows its key");
            assert_eq!(self.ids.get(&peer.node().id), Some(key), "{} is found by its id", peer.node());
            assert_eq!(self.addresses.get(peer.address()), Some(key), "{} is found by its address", peer.node());
            for conn in &peer.links {
                let link = self.connection(*conn).and_then(Connection::link);
                assert_eq!(link.map(Link::peer), Some(*key), "{conn} is a link to {}", peer.node());
                let is_proven = link.is_some_and(Link::is_proven);
                assert_eq!(is_proven, peer.is_verified(), "{conn} is proven iff {} is verified", peer.node());
            }
        }
        assert_eq!(self.ids.len(), self.peers.len(), "each id is that of a peer");
        assert_eq!(self.addresses.len(), self.peers.len(), "each address is that of a peer");
    }

    /// Nothing waits for an idle connection.
    fn check_sent(&self, newest_status: u64) {
        let idle = |(_, connection): &(&ConnId, &Connection)| !connection.in_flight();
        for (conn, connection) in self.connections.iter().filter(idle) {
            assert!(connection.has_sent_all(), "{conn} has sent what it can: {:?}", connection.state());
        }
        let is_idle = |conn: &ConnId| self.in_flight(*conn) == Some(false);
        for (key, peer) in &self.peers {
            let Some(conn) = self.sending_link(*key).filter(is_idle) else { continue };
            assert_eq!(peer.outbox, Outbox::default(), "every message to {} is sent", peer.node());
            let sent = self.link(conn).map(Link::status_sent);
            assert_eq!(sent, Some(newest_status), "the newest status is sent to {}", peer.node());
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use bytes::Bytes;

    use super::*;
    use crate::api::input::Remote;
    use crate::{
        api::config::Config,
        env::{Env, Sink},
        id::{Address, Incarnation, Node, NodeId},
        peers::{PeerKey, connection::ConnectionState, outbox::Post, send::tests::OnlyStatus},
        rng::Rng,
        time::Timestamp,
        violations::{Violation, expect_all_listed, expect_violations},
        wire::frame::SharedFrame,
        wire::message::{Hello, Message},
        wire::voting::Voting,
    };

    /// The peer table of the node a, and what is checked with it.
    struct Table {
        peers: PeerTable,
        sink: Sink,
        newest_status: u64,
    }

    fn node(id: &str) -> Node {
        Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(1) }
    }

    const LINK: ConnId = ConnId(1);
    const PENDING: ConnId = ConnId(2);
    const UNKNOWN: ConnId = ConnId(9);
    const PEER: PeerKey = PeerKey(1);

    fn env() -> Env {
        let config = Config::builder("test", "a", "a:1").seeds(["a:1", "b:1"]).build().unwrap();
        Env::new(config, node("a"), Timestamp::ZERO)
    }

    /// Two accepted connections: a link to b, and one that is pending. Everything is sent.
    fn table() -> Table {
        let env = env();
        let (mut peers, mut sink) = (PeerTable::new(Rng::new(1)), Sink::default());
        for conn in [LINK, PENDING] {
            peers.note_conn(conn);
            let opened = (Origin::Accepted, None, Remote::default());
            peers.open(&env, &mut sink, conn, opened, Voting::of(&env.config));
        }
        let (id, address) = (node("b").id, Address::new("b:1").unwrap());
        let hello = Hello { id, address, ..env.own_hello([0; 16], &Voting::of(&env.config)) };
        peers.establish(&env, &mut sink, LINK, (hello, Bytes::new(), None, false)).unwrap();
        let mut content = OnlyStatus(SharedFrame::new(&Message::Ping));
        peers.flush(&env, &mut sink, &mut content);
        assert_eq!(peers.flushed(LINK), None);
        peers.flush(&env, &mut sink, &mut content);
        Table { peers, sink, newest_status: 1 }
    }

    fn connection(table: &mut Table, conn: ConnId) -> &mut Connection {
        table.peers.connections.get_mut(&conn).unwrap()
    }

    fn peer(table: &mut Table) -> &mut Peer {
        table.peers.peers.get_mut(&PEER).unwrap()
    }

    fn another_peer() -> Peer {
        Peer::new(PeerKey(9), node("x"), Address::new("x:1").unwrap(), false, false)
    }

    /// The pending connection becomes a stream, and is to be handed off.
    fn ready(table: &mut Table) {
        let name = crate::id::StreamName::new("kv").unwrap();
        table.peers.accept_stream(PENDING, (node("c"), name), Bytes::new());
        table.peers.stream_accepted(PENDING);
    }

    const CONNECTIONS: [Violation<Table>; 27] = [
        (
            table,
            |t| {
                t.peers.streams.insert(PENDING);
            },
            "2 is among the streams iff it is one",
        ),
        (table, ready, "2 is handed off when it is ready"),
        (
            table,
            |t| {
                t.peers.streams.insert(UNKNOWN);
            },
            "each stream is in the table",
        ),
        (
            table,
            |t| {
                t.peers.ready.insert(UNKNOWN);
            },
            "no stream waits to be handed off",
        ),
        (table, |t| t.peers.nonces.clear(), "1 is found by its nonce"),
        (
            table,
            |t| {
                t.peers.nonces.insert(([0; 16], UNKNOWN));
            },
            "each nonce is that of a connection",
        ),
        (
            table,
            |t| {
                t.peers.claimed.insert(PENDING);
            },
            "2 is among the claims iff it is one",
        ),
        (
            table,
            |t| {
                t.peers.dialed.insert(PENDING);
            },
            "2 is dialed iff it is not accepted",
        ),
        (
            table,
            |t| {
                t.peers.dialed.insert(UNKNOWN);
            },
            "each dialed connection is in the table",
        ),
        (
            table,
            |t| {
                t.peers.pending.remove(&PENDING);
            },
            "2 is pending iff accepted and not established",
        ),
        (table, |t| t.peers.note_conn(LINK), "2 is not newer than the newest"),
        (
            table,
            |t| {
                let part = connection(t, PENDING).next_body(&env(), &mut Bytes::from_static(b"abc"));
                assert_eq!(part, Ok(None));
            },
            "2 counts what it has buffered",
        ),
        (table, |t| drop(t.peers.peers.remove(&PEER)), "a link names a peer in the table"),
        (table, |t| peer(t).links.clear(), "the peer of 1 names it"),
        (
            table,
            |t| {
                let later = Timestamp::ZERO + 2 * env().timing().heartbeat_interval;
                assert!(connection(t, PENDING).make_ping_due(&Env { now: later, ..env() }).0);
            },
            "a ping is due on 2 only while it is a link",
        ),
        (table, |t| t.sink.clear_timer(&Timer::Handshake(PENDING)), "the handshake of 2 has a deadline"),
        (table, |t| t.sink.set_timer(Timer::Handshake(LINK), Timestamp::ZERO), "the handshake of 1 has a deadline"),
        (table, |t| t.sink.clear_timer(&Timer::Ping(LINK)), "Ping(ConnId(1)) is set iff 1 is established"),
        (
            table,
            |t| t.sink.set_timer(Timer::Silence(PENDING), Timestamp::ZERO),
            "Silence(ConnId(2)) is set iff 2 is established",
        ),
        (table, |t| t.peers.established = 2, "the established connections are counted"),
        (table, |t| t.peers.partial_bytes = 1, "the bytes of unfinished frames are summed up"),
        (table, |t| connection(t, PENDING).set_frame_due(Timestamp::ZERO), "an unfinished frame on 2 has a deadline"),
        (table, |t| connection(t, PENDING).sent(&env(), 0), "2 counts what is in flight"),
        (table, |t| t.peers.unsent_bytes += 1, "the bytes of writes in flight are summed up"),
        (
            table,
            |t| {
                t.peers.withheld.insert(PENDING);
            },
            "updates are withheld from links",
        ),
        (
            table,
            |t| {
                t.peers.pending.insert(UNKNOWN);
            },
            "each pending connection is in the table",
        ),
        (table, |t| t.sink.set_timer(Timer::Ping(UNKNOWN), Timestamp::ZERO), "no timer outlives its connection"),
    ];

    const PEERS: [Violation<Table>; 8] = [
        (table, |t| drop(t.peers.peers.insert(PeerKey(9), another_peer())), "x#1 has a link"),
        (
            table,
            |t| {
                let links = core::mem::take(&mut peer(t).links);
                *peer(t) = another_peer();
                peer(t).links = links;
            },
            "a peer knows its key",
        ),
        (table, |t| t.peers.ids.clear(), "b#1 is found by its id"),
        (table, |t| t.peers.addresses.clear(), "b#1 is found by its address"),
        (table, |t| peer(t).links.push(UNKNOWN), "9 is a link to b#1"),
        (table, |t| peer(t).is_verified = true, "1 is proven iff b#1 is verified"),
        (
            table,
            |t| {
                t.peers.ids.insert(node("x").id, PEER);
            },
            "each id is that of a peer",
        ),
        (
            table,
            |t| {
                t.peers.addresses.insert(Address::new("x:1").unwrap(), PEER);
            },
            "each address is that of a peer",
        ),
    ];

    const SENT: [Violation<Table>; 9] = [
        (
            table,
            |t| {
                t.peers.awake.insert(LINK);
            },
            "every connection that was awake is flushed",
        ),
        (table, |t| t.peers.goes_first = Some(LINK), "no connection goes first that is not flushed"),
        (table, |t| t.peers.scratch.extend_from_slice(b"x"), "the scratch buffer is empty between two writes"),
        (
            table,
            |t| connection(t, PENDING).enter(ConnectionState::AwaitingHello { hello_due: true }),
            "2 has sent what it can",
        ),
        (
            table,
            |t| {
                let later = Timestamp::ZERO + 2 * env().timing().heartbeat_interval;
                assert!(connection(t, LINK).make_ping_due(&Env { now: later, ..env() }).0);
            },
            "1 has sent what it can",
        ),
        (
            table,
            |t| {
                peer(t).is_verified = true;
                connection(t, LINK).enter(ConnectionState::Established(Link::new(PEER, 1, Bytes::new(), Vec::new())));
            },
            "1 has sent what it can",
        ),
        (table, |t| peer(t).outbox.put(Post::LeaveAck), "every message to b#1 is sent"),
        (table, |t| t.newest_status = 2, "the newest status is sent to b#1"),
        (
            table,
            |t| {
                connection(t, LINK).sent(&env(), 1);
                t.peers.unsent_bytes += 1;
                peer(t).outbox.put(Post::Heartbeat);
            },
            "only a master has a heartbeat or an answer to a join to send",
        ),
    ];

    fn violations() -> impl Iterator<Item = &'static Violation<Table>> + Clone {
        CONNECTIONS.iter().chain(&PEERS).chain(&SENT)
    }

    #[test]
    fn every_invariant_of_the_peer_table_notices_its_violation() {
        expect_violations(violations(), |t| t.peers.check(t.sink.timers(), t.newest_status, false));
    }

    #[test]
    fn every_invariant_of_the_peer_table_has_a_violation() {
        expect_all_listed(include_str!("check.rs"), violations());
    }
}
