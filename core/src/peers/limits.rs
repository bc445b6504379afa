//! Which connection closes when a limit is reached. No source takes the places of the others.

use alloc::collections::{BTreeMap, BTreeSet};
use core::{cmp::Reverse, net::IpAddr, ops::Bound};

use super::{
    PeerTable,
    connection::{Connection, ConnectionState},
    peer::Peer,
};
use crate::{
    env::Env,
    id::{Address, ConnId},
};

/// The network of an address: one owner has many addresses in it.
pub(super) fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) & !0xff).into()),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into()),
    }
}

/// For so many `handshake_timeout`, a source is distrusted.
const DISTRUST: u32 = 10;

/// Who is distrusted when a proof of the cluster key is wrong or never comes. Different people may have the other addresses of an IPv4
/// network, and must not be harmed. An IPv6 network has one owner, who has all of its addresses.
fn source(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(_) => network(ip),
    }
}

impl Connection {
    /// The peer has sent a `Hello` that fits.
    fn has_greeted(&self) -> bool {
        match self.state() {
            ConnectionState::Proving(_)
            | ConnectionState::Claimed(_)
            | ConnectionState::Established(_)
            | ConnectionState::Stream(_) => true,
            ConnectionState::AwaitingHello { .. } | ConnectionState::Rejecting { .. } => false,
        }
    }
}

impl PeerTable {
    /// The accepted connection that has to close before one more is accepted, when there are as many as allowed.
    pub(crate) fn surplus(&self, env: &Env) -> Option<ConnId> {
        let is_full = self.pending.len() >= env.limits().pending_connections;
        if is_full { self.least_welcome(env, &self.pending) } else { None }
    }

    /// The connection that has to close before one more is opened, when all places are taken. A claim to a voter's address goes only if
    /// nothing else is pending.
    pub(crate) fn evicted(&self, env: &Env) -> Option<ConnId> {
        let is_full = self.len() >= env.limits().connections;
        let evicted = || self.least_welcome(env, &self.pending).or_else(|| self.least_welcome(env, &self.claimed));
        if is_full { evicted() } else { None }
    }

    /// The one of these connections that goes first: one without a `Hello` before one with it, one of a source that is distrusted, one of
    /// the network and the address that has most of them, and of these the oldest. A source that opens many connections therefore loses
    /// its own. Distrust matters only when all places are taken: nobody is kept out because a neighbour has failed.
    fn least_welcome(&self, env: &Env, conns: &BTreeSet<ConnId>) -> Option<ConnId> {
        let pending = || conns.iter().filter_map(|conn| Some((*conn, self.connection(*conn)?)));
        let (mut networks, mut addresses) = (BTreeMap::new(), BTreeMap::new());
        for (_, connection) in pending() {
            *networks.entry(connection.ip().map(network)).or_insert(0_usize) += 1;
            *addresses.entry(connection.ip()).or_insert(0_usize) += 1;
        }
        let rank = |(conn, connection): &(ConnId, &Connection)| {
            let (same_network, same_address) = (networks[&connection.ip().map(network)], addresses[&connection.ip()]);
            let is_distrusted = self.is_distrusted(env, connection.ip());
            (!connection.has_greeted(), is_distrusted, same_network, same_address, Reverse(*conn))
        };
        pending().max_by_key(rank).map(|(conn, _)| conn)
    }

    fn is_distrusted(&self, env: &Env, ip: Option<IpAddr>) -> bool {
        ip.and_then(|ip| self.distrusted.get(&source(ip))).is_some_and(|until| *until > env.now)
    }

    /// The peer has not proven that it holds the cluster key. As many sources are remembered as there are places for pending connections.
    pub(crate) fn distrust(&mut self, env: &Env, conn: ConnId) {
        let Some(source) = self.connection(conn).filter(|c| c.dialed().is_none()).and_then(|c| c.ip()).map(source)
        else {
            return;
        };
        if self.distrusted.len() >= env.limits().pending_connections && !self.distrusted.contains_key(&source) {
            let first = self.distrusted.iter().min_by_key(|(_, until)| **until).map(|(source, _)| *source);
            first.map(|source| self.distrusted.remove(&source));
        }
        self.distrusted.insert(source, env.now + env.timing().handshake_timeout.saturating_mul(DISTRUST));
    }

    /// The peer has proven that it holds the cluster key.
    pub(crate) fn trust(&mut self, conn: ConnId) {
        if let Some(ip) = self.connection(conn).and_then(|connection| connection.ip()) {
            self.distrusted.remove(&source(ip));
        }
    }

    /// One write less is in flight: an update that was withheld may go now, before anything else is sent. The links take turns, so that
    /// none has to wait for one that always has more to be sent.
    pub(super) fn release_withheld(&mut self) {
        let later = (Bound::Excluded(self.released), Bound::Unbounded);
        let Some(next) = self.withheld.range(later).next().or_else(|| self.withheld.first()).copied() else { return };
        self.withheld.remove(&next);
        self.released = next;
        self.goes_first = Some(next);
        self.awake.insert(next);
    }

    /// The next connection that may have something to send.
    pub(super) fn next_awake(&mut self) -> Option<ConnId> {
        let first = self.goes_first.take().filter(|conn| self.awake.remove(conn));
        first.or_else(|| self.awake.pop_first())
    }

    /// The connection that has to close because the writes in flight have reached their limit: of those to nodes that are no voters and
    /// read slowly, the one with most of them. A crowd that reads is never closed. It waits.
    pub(crate) fn largest_unsent(&mut self, env: &Env) -> Option<ConnId> {
        if self.unsent_bytes < env.limits().unsent_bytes || env.now < self.slow_from {
            return None;
        }
        let is_voter = |connection: &Connection| {
            connection.link().and_then(|link| self.peers.get(&link.peer())).is_some_and(Peer::is_voter)
        };
        let holders = || self.connections.iter().filter(|(_, c)| c.in_flight() && !is_voter(c));
        let largest =
            holders().filter(|(_, c)| c.is_slow(env.now)).max_by_key(|(conn, c)| (c.unsent(), Reverse(**conn)));
        let largest = largest.map(|(conn, _)| *conn);
        if largest.is_none() {
            let next = holders().map(|(_, connection)| connection.slow_at()).min();
            self.slow_from = next.unwrap_or(env.now + env.timing().suspect_after);
        }
        largest
    }

    /// The connection that has to close because too many bytes of unfinished frames are buffered: one of the network that has most of
    /// them, without a link before one with it, and of these the one that has most. The link of a voter goes last.
    pub(crate) fn largest_holder(&self, env: &Env) -> Option<ConnId> {
        if self.partial_bytes <= env.limits().partial_bytes {
            return None;
        }
        let is_voter = |connection: &Connection| self.linked_peer(connection).is_some_and(Peer::is_voter);
        let mut networks = BTreeMap::new();
        for connection in self.connections.values().filter(|connection| !is_voter(connection)) {
            *networks.entry(connection.ip().map(network)).or_insert(0_usize) += connection.buffered();
        }
        let rank = |(conn, connection): &(&ConnId, &Connection)| {
            let of_network = networks.get(&connection.ip().map(network)).copied().unwrap_or_default();
            let is_voter = is_voter(connection);
            (!is_voter, of_network, !connection.is_established(), connection.buffered(), Reverse(**conn))
        };
        let holders = self.connections.iter().filter(|(_, connection)| connection.buffered() > 0);
        holders.max_by_key(rank).map(|(conn, _)| *conn)
    }

    /// Whether all places are taken that nodes which are no voters may take. Each voter without a link has a place of its own, and one
    /// more is for a dial, or for a connection that replaces a voter's link.
    pub(crate) fn is_full_for_others(&self, env: &Env) -> bool {
        let is_missing = |seed: &&Address| *seed != env.config.address() && self.at(seed).is_none();
        let missing = env.voters.iter().filter(is_missing).count();
        self.len() + missing + 1 > env.limits().connections
    }
}
