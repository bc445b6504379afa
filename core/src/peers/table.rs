//! What the peer table holds, and how it changes.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    vec::Vec,
};

use bytes::{Bytes, BytesMut};
use core::net::{IpAddr, SocketAddr};

use super::{
    PeerKey,
    connection::{Connection, ConnectionState, Proving, Received},
    link::Link,
    outbox::Post,
    peer::Peer,
};
use crate::{
    api::electorate::ElectorateVersion,
    api::error::CloseReason,
    api::input::{Origin, Remote},
    api::status::Counters,
    env::{Env, Sink, never},
    id::{Address, ConnId, Node, NodeId, StreamId},
    rng::Rng,
    time::Timestamp,
    timers::Timer,
    wire::message::{Hello, Rejected, StatusReport},
    wire::voting::Voting,
};

/// Every connection, and every peer that has one that is established.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct PeerTable {
    pub(super) connections: BTreeMap<ConnId, Connection>,
    /// Links name peers in here, and these name their links.
    pub(super) peers: BTreeMap<PeerKey, Peer>,
    /// The inverse of `peers` by id, and so the order in which peers are gone through.
    pub(super) ids: BTreeMap<NodeId, PeerKey>,
    /// The inverse of `peers` by address.
    pub(super) addresses: BTreeMap<Address, PeerKey>,
    newest_key: PeerKey,
    newest_conn: Option<ConnId>,
    /// The connections by the nonces of this node's `Hello`s on them.
    pub(super) nonces: BTreeSet<([u8; 16], ConnId)>,
    /// The connections that this node has dialed. A node that many others dial has few of them.
    pub(super) dialed: BTreeSet<ConnId>,
    /// The connections that are accepted and not established, without the claims of voters.
    pub(super) pending: BTreeSet<ConnId>,
    /// The connections whose peers claim an identity. There are few for each identity.
    pub(super) claimed: BTreeSet<ConnId>,
    /// The connections that become streams. They take no place of others.
    pub(super) streams: BTreeSet<ConnId>,
    /// Those of them that are to be handed off. Empty after each input.
    pub(super) ready: BTreeSet<ConnId>,
    /// How many connections are established.
    pub(super) established: usize,
    /// The sum of what the connections have buffered.
    pub(super) partial_bytes: usize,
    /// The sum of the writes that are in flight.
    pub(super) unsent_bytes: usize,
    /// The links for which an update of the view waits until other writes are flushed. At the next heartbeat they try again.
    pub(super) withheld: BTreeSet<ConnId>,
    /// The last of them that was released.
    pub(super) released: ConnId,
    /// It was released just now, and is sent to before all others. Empty after each input.
    pub(super) goes_first: Option<ConnId>,
    /// No write in flight is slow before this time.
    pub(super) slow_from: Timestamp,
    /// The sources of which a proof of the cluster key was wrong or never came, and until when that counts.
    pub(super) distrusted: BTreeMap<IpAddr, Timestamp>,
    /// The connections that may have something to send. Empty after each input.
    pub(super) awake: BTreeSet<ConnId>,
    /// Room for what is composed. Empty between two writes.
    pub(super) scratch: BytesMut,
    pub(super) counters: Counters,
    /// Nonces come from it.
    rng: Rng,
}

/// What has become of a connection that is a link now.
#[derive(Debug)]
pub(crate) struct NewLink {
    pub(crate) peer: PeerKey,
    /// It is the only link to the peer.
    pub(crate) is_first: bool,
    /// The older links to the peer, if nothing has proven them and this one is proven.
    pub(crate) doubtful: Vec<ConnId>,
}

/// What ends with a connection.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The address that was dialed.
    pub(crate) dialed: Option<Address>,
    /// The socket address of the other end, if the transport knows it.
    pub(crate) addr: Option<SocketAddr>,
    /// It was dialed for a stream.
    pub(crate) is_dialed_stream: bool,
    /// The stream that this node opened on it, and that has not failed yet.
    pub(crate) opening: Option<StreamId>,
    pub(crate) link: LinkEnd,
}

/// What ends with a link.
#[derive(Debug)]
pub(crate) enum LinkEnd {
    /// The connection was not established.
    None,
    /// The peer has other links.
    Relinked(PeerKey),
    /// It was the last link to the peer, which is out of the table now.
    Lost(Box<Peer>),
}

impl PeerTable {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            connections: BTreeMap::new(),
            peers: BTreeMap::new(),
            ids: BTreeMap::new(),
            addresses: BTreeMap::new(),
            newest_key: PeerKey(0),
            newest_conn: None,
            nonces: BTreeSet::new(),
            dialed: BTreeSet::new(),
            pending: BTreeSet::new(),
            claimed: BTreeSet::new(),
            streams: BTreeSet::new(),
            ready: BTreeSet::new(),
            established: 0,
            partial_bytes: 0,
            unsent_bytes: 0,
            withheld: BTreeSet::new(),
            released: ConnId(0),
            goes_first: None,
            slow_from: Timestamp::ZERO,
            distrusted: BTreeMap::new(),
            awake: BTreeSet::new(),
            scratch: BytesMut::new(),
            counters: Counters::default(),
            rng,
        }
    }

    // Queries.

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// The newest connection that was ever opened.
    pub(crate) fn newest_conn(&self) -> Option<ConnId> {
        self.newest_conn
    }

    /// How many connections there are, in any state, without those that become streams.
    pub(crate) fn len(&self) -> usize {
        self.connections.len() - self.streams.len()
    }

    pub(crate) fn established(&self) -> usize {
        self.established
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn partial_bytes(&self) -> usize {
        self.partial_bytes
    }

    pub(crate) fn conns(&self) -> Vec<ConnId> {
        self.connections.keys().copied().collect()
    }

    pub(crate) fn connection(&self, conn: ConnId) -> Option<&Connection> {
        self.connections.get(&conn)
    }

    /// The address that was dialed for a connection in the table; `None` where it was accepted.
    pub(crate) fn dialed(&self, conn: ConnId) -> Option<&Address> {
        let Some(connection) = self.connection(conn) else {
            return never!("the connection is in the table", None);
        };
        connection.dialed()
    }

    /// A link that a peer names.
    pub(super) fn link(&self, conn: ConnId) -> Option<&Link> {
        let link = self.connection(conn).and_then(Connection::link);
        debug_assert!(link.is_some(), "a peer names its links");
        link
    }

    /// Whether a `Send` on the connection is not flushed yet; `None` when there is no such connection.
    pub(crate) fn in_flight(&self, conn: ConnId) -> Option<bool> {
        Some(self.connection(conn)?.in_flight())
    }

    /// Whether anything that was sent to the peer is not flushed yet.
    pub(crate) fn is_busy(&self, peer: &Peer) -> bool {
        peer.links.iter().any(|conn| self.in_flight(*conn) == Some(true))
    }

    /// The peer of a key. Nobody keeps a key for longer than the peer has a link, so there is one.
    pub(crate) fn peer(&self, key: PeerKey) -> Option<&Peer> {
        let peer = self.peers.get(&key);
        debug_assert!(peer.is_some(), "a key names a peer in the table");
        peer
    }

    /// The peer of a key, to be changed.
    pub(super) fn peer_mut(&mut self, key: PeerKey) -> Option<&mut Peer> {
        let peer = self.peers.get_mut(&key);
        debug_assert!(peer.is_some(), "a key names a peer in the table");
        peer
    }

    pub(crate) fn with_id(&self, id: &NodeId) -> Option<&Peer> {
        self.peer(*self.ids.get(id)?)
    }

    /// The peer that is this very run of a node.
    pub(crate) fn with_node(&self, node: &Node) -> Option<&Peer> {
        self.with_id(&node.id).filter(|peer| peer.node() == node)
    }

    pub(crate) fn at(&self, address: &Address) -> Option<&Peer> {
        self.peer(*self.addresses.get(address)?)
    }

    /// The peers, in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.ids.values().filter_map(|key| self.peer(*key))
    }

    /// The keys of the peers, in the order of their ids.
    pub(crate) fn keys(&self) -> Vec<PeerKey> {
        self.ids.values().copied().collect()
    }

    /// The links that this node has dialed to peers of this kind.
    pub(crate) fn dialed_links_to(&self, is_meant: impl Fn(&Peer) -> bool) -> Vec<ConnId> {
        let is_one = |conn: &ConnId| {
            let link = self.connection(*conn).and_then(Connection::link);
            link.and_then(|link| self.peer(link.peer())).is_some_and(&is_meant)
        };
        self.dialed.iter().copied().filter(is_one).collect()
    }

    /// The other end of a connection that this node has opened to itself: it carries this nonce, and is not established either.
    pub(crate) fn other_end(&self, conn: ConnId, nonce: [u8; 16]) -> Option<ConnId> {
        let Some(side) = self.connection(conn).map(Connection::side) else {
            return never!("the connection is in the table", None);
        };
        let is_other = |connection: &Connection| connection.side() != side && !connection.is_established();
        self.with_nonce(nonce).find(|(_, connection)| is_other(connection)).map(|(other, _)| other)
    }

    /// The connections on which this node's `Hello` has this nonce: at most one, since nonces are random.
    pub(super) fn with_nonce(&self, nonce: [u8; 16]) -> impl Iterator<Item = (ConnId, &Connection)> {
        let named = self.nonces.range((nonce, ConnId(0))..=(nonce, ConnId(u64::MAX)));
        named.filter_map(|(_, conn)| Some((*conn, self.connection(*conn)?)))
    }

    // Connections open, receive and end.

    /// The embedder has used this name for a connection.
    pub(crate) fn note_conn(&mut self, conn: ConnId) {
        self.newest_conn = Some(conn);
    }

    /// `voting`: how this node votes, as its `Hello` reports it.
    pub(crate) fn open(
        &mut self,
        env: &Env,
        sink: &mut Sink,
        conn: ConnId,
        (origin, dialed, remote): (Origin, Option<Address>, Remote),
        voting: Voting,
    ) {
        match origin {
            Origin::Accepted => self.pending.insert(conn),
            Origin::Dialed(_) => self.dialed.insert(conn),
        };
        let drawn = self.rng.bytes();
        // With a key, a nonce does not depend on the generator alone.
        let nonce = env.config.keys().first().map_or(drawn, |key| key.nonce(drawn));
        self.nonces.insert((nonce, conn));
        self.connections.insert(conn, Connection::new((origin, dialed, remote), (nonce, voting), env.now));
        sink.set_timer(Timer::Handshake(conn), env.now + env.timing().handshake_timeout);
        self.awake.insert(conn);
    }

    /// The peer's certificate covers the hosts of these seeds.
    pub(crate) fn certify(&mut self, conn: ConnId, seeds: BTreeSet<Address>) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.certify(seeds);
        }
    }

    /// Bytes have come that nobody reads: the node has stopped.
    pub(crate) fn count_unread(&mut self, len: usize) {
        self.counters.bytes_received += len as u64;
    }

    /// Begins to read a chunk. Returns what its first frame is, as [`next_frame`](Self::next_frame). Bytes for a connection that is
    /// closed are counted, and not read.
    pub(crate) fn begin_chunk(&mut self, env: &Env, conn: ConnId, chunk: &mut Bytes) -> Option<Received> {
        self.counters.bytes_received += chunk.len() as u64;
        let connection = self.connections.get_mut(&conn)?;
        self.partial_bytes -= connection.begin_chunk(env);
        self.next_frame(env, conn, chunk)
    }

    /// What the next frame of the chunk is; `None` once the chunk is used up, which ends it, or the connection is over.
    pub(crate) fn next_frame(&mut self, env: &Env, conn: ConnId, chunk: &mut Bytes) -> Option<Received> {
        let connection = self.connections.get_mut(&conn)?;
        let kept = connection.unread();
        let next = connection.next_body(env, chunk);
        // The bytes of the services do not count: how many come before the handoff depends on the chunks.
        self.counters.bytes_received -= (connection.unread() - kept) as u64;
        match next {
            Ok(Some(body)) => {
                self.counters.frames_received += 1;
                Some(connection.classify(env, body))
            }
            Ok(None) => {
                self.partial_bytes += connection.end_chunk(env);
                None
            }
            Err(reason) => Some(Received::Fault(reason)),
        }
    }

    /// The last `Send` is written. Returns the reason to close the connection, if it was only waiting for that.
    pub(crate) fn flushed(&mut self, conn: ConnId) -> Option<CloseReason> {
        let connection = self.connections.get_mut(&conn)?;
        let (length, reason) = connection.flushed();
        self.unsent_bytes -= length;
        if reason.is_none() {
            self.awake.insert(conn);
            self.note_ready(conn);
        }
        self.release_withheld();
        reason
    }

    /// Takes a connection out of the table, and its peer with the last link.
    pub(crate) fn remove(&mut self, sink: &mut Sink, conn: ConnId) -> Option<Ended> {
        let connection = self.connections.remove(&conn)?;
        self.dialed.remove(&conn);
        self.nonces.remove(&(connection.nonce(), conn));
        self.partial_bytes -= connection.buffered();
        self.unsent_bytes -= connection.unsent();
        self.pending.remove(&conn);
        self.claimed.remove(&conn);
        self.streams.remove(&conn);
        self.ready.remove(&conn);
        self.awake.remove(&conn);
        self.withheld.remove(&conn);
        self.release_withheld();
        for timer in [Timer::Handshake(conn), Timer::Ping(conn), Timer::Silence(conn)] {
            sink.clear_timer(&timer);
        }
        let link = match connection.link() {
            None => LinkEnd::None,
            Some(link) => self.unlink(conn, link.peer()),
        };
        let is_dialed_stream = connection.stream().is_some() && connection.dialed().is_some();
        let opening = connection.stream().and_then(|of| of.stream);
        Some(Ended { dialed: connection.dialed().cloned(), addr: connection.addr(), is_dialed_stream, opening, link })
    }

    fn unlink(&mut self, conn: ConnId, key: PeerKey) -> LinkEnd {
        self.established -= 1;
        let Entry::Occupied(mut entry) = self.peers.entry(key) else {
            return never!("a link names a peer in the table", LinkEnd::None);
        };
        let links = &mut entry.get_mut().links;
        links.retain(|link| *link != conn);
        if !links.is_empty() {
            return LinkEnd::Relinked(key);
        }
        let peer = entry.remove();
        self.ids.remove(&peer.node().id);
        self.addresses.remove(peer.address());
        LinkEnd::Lost(Box::new(peer))
    }

    // The handshake.

    /// The peer has to prove that it holds the key.
    pub(crate) fn prove(&mut self, conn: ConnId, proving: Proving) {
        self.change_state(conn, ConnectionState::Proving(Box::new(proving)));
    }

    /// Sends the peer the reason of its rejection, then closes the connection. `first` goes before the reason.
    pub(crate) fn reject(&mut self, conn: ConnId, rejected: Rejected, version: u16, first: Bytes) {
        self.claimed.remove(&conn);
        self.change_state(conn, ConnectionState::Rejecting { rejected, first, version, sent: false });
    }

    pub(super) fn change_state(&mut self, conn: ConnId, state: ConnectionState) {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return never!("a hello comes on a connection");
        };
        connection.enter(state);
        self.awake.insert(conn);
    }

    /// The connection is a link to this node from now on. `first` is sent before anything else. `voucher`: the nonce of an earlier
    /// `Hello` of the same node. `is_vouched`: the peer has sent a voucher that holds.
    pub(crate) fn establish(
        &mut self,
        env: &Env,
        sink: &mut Sink,
        conn: ConnId,
        (hello, first, voucher, is_vouched): (Hello, Bytes, Option<[u8; 16]>, bool),
    ) -> Option<NewLink> {
        let version = hello.protocol.common(env.config.protocol())?;
        let key = match self.ids.get(&hello.id) {
            Some(key) => *key,
            None => self.insert_peer(env, &hello),
        };
        // Only a connection to the peer's own address carries vouchers.
        let is_own_dial = self.dialed(conn) == Some(&hello.address);
        let mut vouchers =
            if is_own_dial { self.vouchers_for((&hello.node(), &hello.address), conn) } else { Vec::new() };
        vouchers.extend(voucher.filter(|nonce| is_own_dial && !vouchers.contains(nonce)));
        let (connection, peer) = (self.connections.get_mut(&conn)?, self.peers.get_mut(&key)?);
        let is_proven = is_vouched || connection.proves(&hello.address);
        let doubtful = if is_proven && !peer.is_verified { peer.links.clone() } else { Vec::new() };
        if !doubtful.is_empty() {
            peer.forget_status();
        }
        peer.is_verified |= is_proven;
        peer.links.push(conn);
        let is_first = peer.links.len() == 1;
        let link = Link::new(key, version, first, vouchers);
        let link = if is_proven { link } else { link.unproven(hello) };
        let (ping_at, silent_at) = connection.establish(env, link);
        self.established += 1;
        self.pending.remove(&conn);
        self.claimed.remove(&conn);
        self.awake.insert(conn);
        sink.clear_timer(&Timer::Handshake(conn));
        sink.set_timer(Timer::Ping(conn), ping_at);
        sink.set_timer(Timer::Silence(conn), silent_at);
        Some(NewLink { peer: key, is_first, doubtful })
    }

    fn insert_peer(&mut self, env: &Env, hello: &Hello) -> PeerKey {
        self.newest_key.0 += 1;
        let key = self.newest_key;
        let node = hello.node();
        let has_higher_id = node.id > env.me.id;
        let mut peer = Peer::new(key, node, hello.address.clone(), env.is_voter(&hello.address), has_higher_id);
        peer.voting = hello.voting();
        self.ids.insert(hello.id.clone(), key);
        self.addresses.insert(hello.address.clone(), key);
        self.peers.insert(key, peer);
        key
    }

    /// The links to a peer.
    pub(crate) fn links(&self, key: PeerKey) -> Vec<ConnId> {
        self.peer(key).map(|peer| peer.links.clone()).unwrap_or_default()
    }

    /// Takes a status of the peer, unless a newer one has come before. Returns true if it was taken.
    pub(crate) fn receive_status(&mut self, env: &Env, key: PeerKey, status: StatusReport) -> bool {
        self.peer_mut(key).is_some_and(|peer| peer.receive_status(status, env.limits().metadata))
    }

    /// The address that a link leads to, once it has stood for `down_after`: the one that was dialed, or the one that the peer has proven.
    pub(crate) fn take_stood(&mut self, env: &Env, conn: ConnId) -> Option<&Address> {
        self.connections.get_mut(&conn)?.take_stood(env.now).then_some(())?;
        let connection = self.connection(conn)?;
        let proven = || self.linked_peer(connection).filter(|peer| peer.is_verified()).map(Peer::address);
        connection.dialed().or_else(proven)
    }

    // Messages to send.

    /// Sends a message to the peer with its next write.
    pub(crate) fn post(&mut self, key: PeerKey, post: Post) {
        if let Some(peer) = self.peer_mut(key) {
            peer.outbox.put(post);
            self.wake(key);
        }
    }

    /// Sends a message to every one of these peers, on whichever link it is sent.
    pub(crate) fn post_to_all(&mut self, post: &Post, is_meant: impl Fn(&Peer) -> bool) {
        for peer in self.peers.values_mut().filter(|peer| is_meant(peer)) {
            peer.outbox.put(post.clone());
            self.awake.extend(peer.links.iter().copied());
        }
    }

    /// The link on which the peer is sent to may have something to send.
    pub(crate) fn wake(&mut self, key: PeerKey) {
        self.awake.extend(self.sending_link(key));
    }

    /// E10: the voters have changed. Returns the peers that are voters now and are not proven to be at their addresses.
    pub(crate) fn set_voters(&mut self, env: &Env) -> Vec<PeerKey> {
        self.peers.values_mut().for_each(|peer| peer.is_voter = env.is_voter(peer.address()));
        self.peers.values().filter(|peer| peer.is_voter && !peer.is_verified()).map(Peer::key).collect()
    }

    /// E10: sends this node's electorate to a peer that holds an older one, but not again within `down_after`: its storage may be slow.
    pub(crate) fn post_electorate(
        &mut self,
        env: &Env,
        key: PeerKey,
        versions: (ElectorateVersion, ElectorateVersion),
    ) {
        if self.peer_mut(key).is_some_and(|peer| peer.electorate_is_due(env, versions)) {
            self.post(key, Post::Electorate);
        }
    }

    /// E10: the electorate that was sent last may be lost.
    pub(crate) fn forget_electorate_sent(&mut self, key: PeerKey) {
        if let Some(peer) = self.peer_mut(key) {
            peer.electorate_sent = None;
        }
    }

    /// Every link may have something to send.
    pub(crate) fn wake_all(&mut self) {
        self.awake.extend(self.peers.values().flat_map(|peer| peer.links.iter().copied()));
    }

    /// Every link to these nodes, as far as they have one, may have something to send.
    pub(crate) fn wake_links_of<'a>(&mut self, ids: impl Iterator<Item = &'a NodeId>) {
        let peers = ids.filter_map(|id| self.peers.get(self.ids.get(id)?));
        self.awake.extend(peers.flat_map(|peer| peer.links.iter().copied()));
    }

    /// This node is no master any more.
    pub(crate) fn end_mastership(&mut self) {
        self.peers.values_mut().for_each(|peer| peer.outbox.end_mastership());
    }

    // Time passes.

    /// This node has paused: nothing that it has not received meanwhile makes a connection silent.
    pub(crate) fn reset_allowances(&mut self, silent_at: Timestamp) {
        for connection in self.connections.values_mut() {
            connection.reset_allowance(silent_at);
        }
    }

    /// The link may have carried nothing of this node's for a heartbeat interval. Returns the reason to close it, if the peer reads too
    /// slowly, or sends a frame too slowly.
    pub(crate) fn ping_is_due(&mut self, env: &Env, sink: &mut Sink, conn: ConnId) -> Option<CloseReason> {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return never!("a connection takes its timers along", None);
        };
        if let Some(reason) = connection.stall(env.now) {
            return Some(reason);
        }
        let (is_due, next) = connection.make_ping_due(env);
        if is_due {
            self.awake.insert(conn);
        }
        sink.set_timer(Timer::Ping(conn), next);
        None
    }

    /// Whether the link has carried nothing of the peer's for `down_after`. If not, it is judged again later.
    pub(crate) fn is_silent(&mut self, env: &Env, sink: &mut Sink, conn: ConnId) -> bool {
        match self.connection(conn).map(Connection::silent_at) {
            Some(at) if at > env.now => {
                sink.set_timer(Timer::Silence(conn), at);
                false
            }
            Some(_) => true,
            None => {
                never!("a connection takes its timers along");
                false
            }
        }
    }
}
