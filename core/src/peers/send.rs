//! What is written when: at most one `Send` in flight on a connection, made of what the peer lacks at that moment
//! (PROTOCOL.md, "One send in flight").

use bytes::{Bytes, BytesMut};

use super::{Connection, PeerKey, PeerTable, link::Link, peer::Peer};
use crate::{
    api::output::Output,
    env::{Env, Sink, never},
    id::{Address, ConnId, NodeId},
    timers::Timer,
    wire::frame::SharedFrame,
    wire::message::{Message, VoteRequest},
};

/// What a write to a peer is made of, beside the peer's outbox.
pub(crate) trait Content {
    /// What this node reports about itself, and the number of that report.
    fn status(&self) -> (u64, &SharedFrame);

    /// The request that the voter at this address is to be sent, while its answer is open.
    fn vote_request(&self, voter: &Address) -> Option<VoteRequest>;

    /// The electorate that this node holds.
    fn electorate(&self) -> Message;

    /// The newest heartbeat of this master, and its number.
    fn heartbeat(&self) -> Option<(u64, SharedFrame)>;

    /// The next update of the view that the peer lacks, if it fits in `room` bytes.
    fn next_update(&mut self, peer: &Peer, version: u16, room: usize) -> Option<Bytes>;

    /// A heartbeat of this number goes to the node, behind the updates before it.
    fn heartbeat_sent(&mut self, id: &NodeId, number: u64);
}

impl PeerTable {
    /// Sends what the connections that are awake have to send, unless something is in flight on them.
    pub(crate) fn flush(&mut self, env: &Env, sink: &mut Sink, content: &mut impl Content) {
        while let Some(conn) = self.next_awake() {
            let Some(connection) = self.connections.get_mut(&conn) else {
                never!("a connection that is removed is not awake");
                continue;
            };
            if connection.in_flight() {
                continue;
            }
            let bytes = match connection.link().map(Link::peer) {
                None => connection.compose_handshake(env, content.status().1),
                Some(peer) => self.compose(env, conn, peer, content),
            };
            if !bytes.is_empty() {
                self.send(env, sink, conn, bytes);
            } else if self.connections.get(&conn).is_some_and(|connection| connection.flushed_reason().is_some()) {
                // The peer cannot read the reason of its rejection, so there is no `Flushed` to wait for.
                sink.set_timer(Timer::Handshake(conn), env.now);
            }
        }
    }

    fn send(&mut self, env: &Env, sink: &mut Sink, conn: ConnId, bytes: Bytes) {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return never!("a message is sent on a connection in the table");
        };
        connection.sent(env, bytes.len());
        self.unsent_bytes += bytes.len();
        self.counters.bytes_sent += bytes.len() as u64;
        sink.output(Output::Send { conn, bytes });
    }

    fn compose(&mut self, env: &Env, conn: ConnId, key: PeerKey, content: &mut impl Content) -> Bytes {
        let is_used = self.sending_link(key) == Some(conn);
        let mut out = core::mem::take(&mut self.scratch);
        let Some((ping, link)) = self.connections.get_mut(&conn).and_then(Connection::ping_and_link_mut) else {
            return never!("messages are composed for a link", Bytes::new());
        };
        let version = link.version();
        link.compose(is_used, content.status(), &mut out);
        if is_used && let Some(bytes) = self.compose_messages(env, conn, (key, version), content, &mut out) {
            self.scratch = out;
            return bytes;
        }
        if out.is_empty() && ping {
            Message::Ping.encode_for(version, &mut out);
        }
        // Two writes that share a buffer would keep it as long as the slower one of their peers takes.
        let bytes = Bytes::copy_from_slice(&out);
        out.clear();
        self.scratch = out;
        bytes
    }

    /// Appends the peer's outbox and the updates that it lacks, or returns the shared heartbeat where that is all.
    fn compose_messages(
        &mut self,
        env: &Env,
        conn: ConnId,
        (key, version): (PeerKey, u16),
        content: &mut impl Content,
        out: &mut BytesMut,
    ) -> Option<Bytes> {
        let left = env.limits().unsent_bytes.saturating_sub(self.unsent_bytes);
        let peer = self.peer_mut(key)?;
        let left = if peer.is_voter() { usize::MAX } else { left };
        let request = content.vote_request(peer.address());
        if peer.outbox.take_electorate() {
            content.electorate().encode_for(version, out);
        }
        peer.outbox.take_messages(request, |message| message.encode_for(version, out));
        let wants_heartbeat = peer.outbox.take_heartbeat();
        let heartbeat = content.heartbeat().filter(|_| wants_heartbeat);
        let heartbeat = heartbeat.map(|(number, frame)| (number, frame.in_version(version)));
        let reserved = heartbeat.as_ref().map_or(0, |(_, frame)| frame.len());
        let room = |out: &BytesMut| env.limits().send.saturating_sub(out.len() + reserved);
        // An update waits while the limit is reached. Everything else is small, and is sent.
        while out.len() < left
            && let Some(update) = content.next_update(peer, version, room(out))
        {
            out.extend_from_slice(&update);
        }
        let (is_withheld, id) = (out.len() >= left, peer.node().id.clone());
        match is_withheld {
            true => self.withheld.insert(conn),
            false => self.withheld.remove(&conn),
        };
        let (number, frame) = heartbeat?;
        content.heartbeat_sent(&id, number);
        if out.is_empty() {
            return Some(frame);
        }
        out.extend_from_slice(&frame);
        None
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::input::Remote;
    use crate::{
        api::config::Config,
        api::error::RejectReason,
        api::input::Origin,
        id::{Incarnation, Node},
        rng::Rng,
        time::Timestamp,
        wire::message::Rejected,
        wire::voting::Voting,
    };

    /// A node that has a status to send, and nothing else.
    pub(crate) struct OnlyStatus(pub(crate) SharedFrame);

    impl Content for OnlyStatus {
        fn status(&self) -> (u64, &SharedFrame) {
            (1, &self.0)
        }

        fn vote_request(&self, _: &Address) -> Option<VoteRequest> {
            None
        }

        fn electorate(&self) -> Message {
            Message::Ping
        }

        fn heartbeat(&self) -> Option<(u64, SharedFrame)> {
            None
        }

        fn next_update(&mut self, _: &Peer, _: u16, _: usize) -> Option<Bytes> {
            None
        }

        fn heartbeat_sent(&mut self, _: &NodeId, _: u64) {}
    }

    /// The peer speaks a version that does not have the reason. No `Flushed` will come that could end the connection.
    #[test]
    fn a_rejection_that_cannot_be_sent_closes_at_once() {
        let config = Config::single("test", "a", "a:1").build().unwrap();
        let me = Node { id: config.id().clone(), incarnation: Incarnation(1) };
        let env = Env::new(config, me, Timestamp::ZERO);
        let (mut peers, mut sink) = (PeerTable::new(Rng::new(1)), Sink::default());
        let opened = (Origin::Accepted, None, Remote::default());
        peers.open(&env, &mut sink, ConnId(1), opened, Voting::of(&env.config));
        let rejected = Rejected { reason: RejectReason::WrongCluster, holder: None };
        peers.reject(ConnId(1), rejected, 0, Bytes::new());
        peers.flush(&env, &mut sink, &mut OnlyStatus(SharedFrame::default()));
        assert_eq!(sink.next_output(), None);
        assert_eq!(sink.next_due(env.now), Some(Timer::Handshake(ConnId(1))));
    }
}
