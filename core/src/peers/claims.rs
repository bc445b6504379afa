//! Identities that peers claim and have not proven (PROTOCOL.md, H11).

use alloc::vec::Vec;
use core::{cmp::Reverse, net::IpAddr};

use super::{
    Peer, PeerKey, PeerTable,
    connection::{Claim, Connection, ConnectionState},
    limits::network,
    link::VOUCHERS,
};
use crate::{
    env::{Env, Sink, never},
    id::{Address, ConnId, Node, NodeId},
    timers::Timer,
    wire::message::Hello,
    wire::stream::StreamRequest,
};

impl Connection {
    /// Whether the peer is, or claims to be, this node at this address.
    fn names(&self, peers: &PeerTable, node: &Node, address: &Address) -> bool {
        let is_named = |hello: &Hello| hello.node() == *node && hello.address == *address;
        match self.state() {
            ConnectionState::Claimed(claim) => is_named(&claim.hello),
            ConnectionState::Established(_) => {
                peers.linked_peer(self).is_some_and(|peer| peer.node() == node && peer.address() == address)
            }
            // A voucher goes to the address itself. It does no harm if somebody else has only claimed to be there.
            ConnectionState::Proving(proving) => {
                proving.hello.stream() == StreamRequest::None && is_named(&proving.hello)
            }
            ConnectionState::AwaitingHello { .. } | ConnectionState::Stream(_) | ConnectionState::Rejecting { .. } => {
                false
            }
        }
    }
}

impl PeerTable {
    /// The peer has to prove its identity.
    pub(crate) fn claim(&mut self, env: &Env, conn: ConnId, claim: Claim) {
        let Some(connection) = self.connections.get_mut(&conn) else { return never!("a claim comes on a connection") };
        let of_seed = env.is_voter(&claim.hello.address);
        if of_seed {
            // It does not take the place of another: there are few claims of each identity, and few voters.
            self.pending.remove(&conn);
        }
        connection.claimed(claim, of_seed);
        self.claimed.insert(conn);
        self.awake.insert(conn);
    }

    /// The identity that the peer of this connection claims and has not proven.
    pub(crate) fn claim_on(&self, conn: ConnId) -> Option<&Claim> {
        self.connection(conn)?.claim()
    }

    /// The network from which this connection comes, if the transport knows it.
    pub(crate) fn network_of(&self, conn: ConnId) -> Option<IpAddr> {
        self.connection(conn)?.ip().map(network)
    }

    /// The connections whose peers claim an identity that they have not proven.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (ConnId, &Claim)> {
        self.claimed.iter().filter_map(|conn| Some((*conn, self.claim_on(*conn)?)))
    }

    /// The connection that has to close because one more claims the same identity as these: one from the address that most of them come
    /// from, and of these the oldest. A false claim therefore does not keep the true owner from proving its identity.
    pub(crate) fn surplus_claim(&self, same: &[ConnId]) -> Option<ConnId> {
        let network = |conn: &ConnId| self.network_of(*conn);
        let of_address = |conn: &ConnId| same.iter().filter(|other| network(other) == network(conn)).count();
        same.iter().copied().max_by_key(|conn| (of_address(conn), Reverse(*conn)))
    }

    /// The claims of this id, or of this address.
    pub(crate) fn claims_of(&self, id: &NodeId, address: &Address) -> Vec<ConnId> {
        let is_meant = |claim: &Claim| claim.hello.id == *id || claim.hello.address == *address;
        self.claims().filter(|(_, claim)| is_meant(claim)).map(|(conn, _)| conn).collect()
    }

    /// Whether a peer claims this address and has not proven that.
    pub(crate) fn is_claimed(&self, address: &Address) -> bool {
        self.claims().any(|(_, claim)| claim.hello.address == *address)
    }

    /// The peer that this connection is a link to.
    pub(crate) fn linked_peer(&self, connection: &Connection) -> Option<&Peer> {
        self.peer(connection.link()?.peer())
    }

    /// Whether the nonce shows that a peer is the node that it claims to be: this node has sent the nonce to the claimed address, or on
    /// a link to that node that is proven itself.
    pub(crate) fn is_vouched(&self, node: &Node, address: &Address, nonce: [u8; 16]) -> bool {
        let is_linked = |connection: &Connection| {
            self.linked_peer(connection).is_some_and(|peer| peer.node() == node && peer.is_verified())
        };
        let is_dialed = |connection: &Connection| {
            connection.dialed() == Some(address)
                && connection.stream().is_none()
                && match connection.state() {
                    ConnectionState::AwaitingHello { .. } | ConnectionState::Proving(_) => true,
                    ConnectionState::Established(_) => connection.names(self, node, address),
                    ConnectionState::Claimed(_) | ConnectionState::Stream(_) | ConnectionState::Rejecting { .. } => {
                        false
                    }
                }
        };
        self.with_nonce(nonce).any(|(_, connection)| is_linked(connection) || is_dialed(connection))
    }

    /// A voucher on the link of this peer shows that it is at its address.
    pub(crate) fn verify(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return never!("a link names a peer") };
        peer.is_verified = true;
        for conn in &peer.links {
            if let Some(link) = self.connections.get_mut(conn).and_then(Connection::link_mut) {
                link.prove();
            }
        }
    }

    /// Another node claims the id of this peer, and this node looks whether the peer is at its address.
    pub(crate) fn doubt(&mut self, env: &Env, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.doubted_at.get_or_insert(env.now);
        }
    }

    /// The peer that another node than itself claims the id of, while nothing has proven which of the two has it.
    pub(crate) fn contested(&self, claim: &Hello) -> Option<&Peer> {
        self.with_id(&claim.id).filter(|peer| !peer.is_verified() && *peer.address() != claim.address)
    }

    /// Whether another node claims the id of the peer at this address.
    pub(crate) fn is_contested(&self, address: &Address) -> bool {
        let is_meant = |claim: &Claim| self.contested(&claim.hello).is_some_and(|peer| peer.address() == address);
        self.claims().any(|(_, claim)| is_meant(claim))
    }

    /// A link that was never proven is a claim from now on, since another link to the same peer is proven.
    pub(crate) fn withdraw(&mut self, env: &Env, sink: &mut Sink, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(&conn) else { return never!("a peer names its links") };
        let Some(key) = connection.withdraw() else {
            return never!("a link that is doubtful is not proven");
        };
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.links.retain(|link| *link != conn);
        }
        self.established -= 1;
        self.withheld.remove(&conn);
        self.claimed.insert(conn);
        self.awake.insert(conn);
        for timer in [Timer::Ping(conn), Timer::Silence(conn)] {
            sink.clear_timer(&timer);
        }
        sink.set_timer(Timer::Handshake(conn), env.now + env.timing().handshake_timeout);
    }

    /// The nonces of the node's `Hello`s on its other connections to this node. Only `Hello`s with this address count: another node
    /// may have taken the same id at an address of its own, and must not get a nonce of the true node.
    pub(super) fn vouchers_for(&self, (node, address): (&Node, &Address), conn: ConnId) -> Vec<[u8; 16]> {
        let nonce = |connection: &Connection| connection.peer_nonce().filter(|_| connection.names(self, node, address));
        let others = self.connections.iter().filter(|(other, _)| **other != conn);
        others.filter_map(|(_, connection)| nonce(connection)).take(VOUCHERS).collect()
    }

    /// A voucher on this connection proves nothing. Returns false if there are more of these than an honest peer sends.
    pub(crate) fn count_wrong_voucher(&mut self, env: &Env, conn: ConnId) -> bool {
        match self.connections.get_mut(&conn) {
            Some(connection) => connection.count_wrong_voucher(env),
            None => never!("a voucher comes on a connection", true),
        }
    }

    /// A connection from the node has arrived. Each link that was dialed to the node's own address carries a voucher for it. Returns
    /// true if there is such a link.
    pub(crate) fn vouch(&mut self, env: &Env, (node, address): (&Node, &Address), nonce: [u8; 16]) -> bool {
        let Some(peer) = self.with_node(node).filter(|peer| peer.address() == address) else { return false };
        let links = peer.links.clone();
        let mut is_sent = false;
        for conn in links {
            let Some(connection) = self.connections.get_mut(&conn) else { continue };
            let is_own_dial = connection.dialed() == Some(address);
            if is_own_dial && connection.link_mut().is_some_and(|link| link.vouch(env, nonce)) {
                self.awake.insert(conn);
                is_sent = true;
            }
        }
        is_sent
    }
}
