//! Which connection closes when a limit is reached. No source takes the places of the others.

use alloc::collections::{BTreeMap, BTreeSet};
use core::{cmp::Reverse, net::IpAddr};

use super::{
    Peer, PeerTable,
    connection::{Connection, ConnectionState},
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

impl Connection {
    /// The peer has sent a `Hello` that fits.
    fn has_greeted(&self) -> bool {
        match &self.state {
            ConnectionState::Proving(_) | ConnectionState::Claimed(_) | ConnectionState::Established(_) => true,
            ConnectionState::AwaitingHello { .. } | ConnectionState::Rejecting { .. } => false,
        }
    }
}

impl PeerTable {
    /// The accepted connection that has to close before one more is accepted, when there are as many as allowed.
    pub(crate) fn surplus(&self, env: &Env) -> Option<ConnId> {
        let is_full = self.pending.len() >= env.limits().pending_connections;
        if is_full { self.least_welcome(&self.pending) } else { None }
    }

    /// The connection that has to close before one more is opened, when all places are taken. A claim to a voter's address goes only if
    /// nothing else is pending.
    pub(crate) fn evicted(&self, env: &Env) -> Option<ConnId> {
        let is_full = self.len() >= env.limits().connections;
        let evicted = || self.least_welcome(&self.pending).or_else(|| self.least_welcome(&self.claimed));
        if is_full { evicted() } else { None }
    }

    /// The one of these connections that goes first: one without a `Hello` before one with it, one of the network and the address that
    /// has most of them, and of these the oldest. A source that opens many connections therefore loses its own.
    fn least_welcome(&self, conns: &BTreeSet<ConnId>) -> Option<ConnId> {
        let pending = || conns.iter().filter_map(|conn| Some((*conn, self.connection(*conn)?)));
        let (mut networks, mut addresses) = (BTreeMap::new(), BTreeMap::new());
        for (_, connection) in pending() {
            *networks.entry(connection.ip.map(network)).or_insert(0_usize) += 1;
            *addresses.entry(connection.ip).or_insert(0_usize) += 1;
        }
        let rank = |(conn, connection): &(ConnId, &Connection)| {
            let (same_network, same_address) = (networks[&connection.ip.map(network)], addresses[&connection.ip]);
            (!connection.has_greeted(), same_network, same_address, Reverse(*conn))
        };
        pending().max_by_key(rank).map(|(conn, _)| conn)
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
            *networks.entry(connection.ip.map(network)).or_insert(0_usize) += connection.buffered;
        }
        let rank = |(conn, connection): &(&ConnId, &Connection)| {
            let of_network = networks.get(&connection.ip.map(network)).copied().unwrap_or_default();
            let is_voter = is_voter(connection);
            (!is_voter, of_network, !connection.is_established(), connection.buffered, Reverse(**conn))
        };
        let holders = self.connections.iter().filter(|(_, connection)| connection.buffered > 0);
        holders.max_by_key(rank).map(|(conn, _)| *conn)
    }

    /// Whether all places are taken that nodes which are no voters may take. Each voter without a link has a place of its own, and one
    /// more is for a dial, or for a connection that replaces a voter's link.
    pub(crate) fn is_full_for_others(&self, env: &Env) -> bool {
        let is_missing = |seed: &&Address| *seed != env.config.address() && self.at(seed).is_none();
        let missing = env.config.seeds().iter().filter(is_missing).count();
        self.connections.len() + missing + 1 > env.limits().connections
    }
}
