//! What the services of a network do with their streams.

use bytes::Bytes;
use formation_core::{ConnId, Input};

use super::Net;
use crate::sim::engine::{
    host::{NodeIx, Stream},
    watch::Watch,
    wire::{Phase, Piece},
};

impl<W: Watch> Net<W> {
    /// A node gives a connection to its service.
    pub(super) fn hands_off(&mut self, ix: NodeIx, conn: ConnId, stream: Stream) {
        let host = &mut self.world.hosts[ix];
        if !host.conns.contains_key(&conn) || host.in_flight.contains(&conn) {
            self.fail(&format!("node {ix} hands off {conn}, which is not open, or has a send in flight"));
        }
        host.streams.insert(conn, stream);
        self.world.activity += 1;
    }

    /// The service of a node writes on a stream.
    ///
    /// # Panics
    /// If the service has no such stream.
    pub fn write(&mut self, ix: NodeIx, conn: ConnId, bytes: impl Into<Bytes>) {
        let host = &self.world.hosts[ix];
        assert!(host.streams.contains_key(&conn), "{conn} of node {ix} is a stream");
        let (wire, side) = host.conns[&conn];
        self.transmit(wire, side, Piece::Bytes(bytes.into()));
    }

    /// The service of a node drops a stream.
    ///
    /// # Panics
    /// If the service has no such stream.
    pub fn drop_stream(&mut self, ix: NodeIx, conn: ConnId) {
        let host = &mut self.world.hosts[ix];
        assert!(host.streams.remove(&conn).is_some(), "{conn} of node {ix} is a stream");
        let (wire, side) = host.conns.remove(&conn).expect("a stream is open");
        self.world.wires[wire.0].ends[side].phase = Phase::Closed;
        self.transmit(wire, side, Piece::End);
        self.give(ix, Input::StreamEnded { conn });
    }
}
