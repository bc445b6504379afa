//! Which connection closes when a limit is reached. No source takes the places of the others.

use alloc::collections::BTreeMap;
use core::{cmp::Reverse, net::IpAddr};

use super::{
    PeerTable,
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
        match self.state() {
            ConnectionState::Proving(_) | ConnectionState::Claimed(_) | ConnectionState::Established(_) => true,
            ConnectionState::AwaitingHello { .. } | ConnectionState::Rejecting { .. } => false,
        }
    }
}

impl PeerTable {
    /// The accepted connection that has to close before one more is accepted, when there are as many as allowed.
    pub(crate) fn surplus(&self, env: &Env) -> Option<ConnId> {
        let is_full = self.pending.len() >= env.limits().pending_connections;
        if is_full { self.least_welcome() } else { None }
    }

    /// The pending connection that goes first: one without a `Hello` before one with it, one of the network and the address that has most
    /// of them, and of these the oldest. A source that opens many connections therefore loses its own.
    pub(crate) fn least_welcome(&self) -> Option<ConnId> {
        let pending = || self.pending.iter().filter_map(|conn| Some((*conn, self.connection(*conn)?)));
        let (mut networks, mut addresses) = (BTreeMap::new(), BTreeMap::new());
        for (_, connection) in pending() {
            *networks.entry(connection.ip().map(network)).or_insert(0_usize) += 1;
            *addresses.entry(connection.ip()).or_insert(0_usize) += 1;
        }
        let rank = |(conn, connection): &(ConnId, &Connection)| {
            let (same_network, same_address) = (networks[&connection.ip().map(network)], addresses[&connection.ip()]);
            (!connection.has_greeted(), same_network, same_address, Reverse(*conn))
        };
        pending().max_by_key(rank).map(|(conn, _)| conn)
    }

    /// Whether all places are taken that nodes which are no voters may take. Each voter without a link has a place of its own, and one
    /// more is for the dial that proves such a voter (H11).
    pub(crate) fn is_full_for_others(&self, env: &Env) -> bool {
        let is_missing = |seed: &&Address| *seed != env.config.address() && self.at(seed).is_none();
        let missing = env.config.seeds().iter().filter(is_missing).count();
        self.connections.len() + missing + usize::from(missing > 0) > env.limits().connections
    }
}
