//! Connections that become streams of the services (PROTOCOL.md, section 9). They are in the table from the dial, or from the
//! acceptance, until they are handed off.

use bytes::{Bytes, BytesMut};

use super::{
    PeerTable,
    connection::{Connection, ConnectionState},
};
use crate::{
    api::error::CloseReason,
    api::input::{Origin, Remote},
};
use crate::{
    env::{Env, Sink, never},
    id::{Address, ConnId, Node, NodeId, StreamId, StreamName},
    peers::proof::{self, Side},
    timers::Timer,
    wire::message::{Hello, Message},
    wire::stream::{self, LinkTag},
    wire::voting::Voting,
};

/// A stream that this connection becomes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct StreamOf {
    /// The number of the stream, if this node opens it.
    pub(crate) stream: Option<StreamId>,
    /// The other end: the member that this node opens it to, or the member that opens it.
    pub(crate) peer: Node,
    pub(crate) name: StreamName,
    /// What shows that this node has a link to the member.
    tag: Option<LinkTag>,
    /// What has come behind the handshake.
    unread: BytesMut,
}

/// How far the handshake of a stream is, once both ends are known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum StreamState {
    /// The peer has to accept the stream. `first`: this node's proof of the cluster key, until it is sent.
    Awaiting { first: Bytes },
    /// This node accepts the stream. The answer is not sent yet.
    Accepting { answer: Bytes },
    /// Only the services' bytes come from now on.
    Ready,
}

impl Connection {
    pub(super) fn stream(&self) -> Option<&StreamOf> {
        self.stream.as_deref()
    }

    /// This node's `Hello` on the connection.
    pub(crate) fn own_hello(&self, env: &Env) -> Hello {
        let hello = env.own_hello(self.nonce(), self.voting());
        match self.stream().filter(|of| of.stream.is_some()) {
            None => hello,
            Some(of) => {
                let mut extensions = BytesMut::from(&hello.extensions[..]);
                stream::encode(&of.name, of.tag.as_ref(), &mut extensions);
                Hello { extensions: extensions.freeze(), ..hello }
            }
        }
    }

    /// The bytes that have come behind the handshake, and are kept.
    pub(super) fn unread(&self) -> usize {
        self.stream().map_or(0, |of| of.unread.len())
    }

    /// Keeps the chunk where only the services' bytes come. Returns whether no frame is looked for in it.
    pub(super) fn keep_unread(&mut self, chunk: &mut Bytes) -> Result<bool, CloseReason> {
        match &self.state {
            ConnectionState::Stream(StreamState::Ready) => {
                if let Some(of) = &mut self.stream {
                    of.unread.extend_from_slice(&core::mem::take(chunk));
                }
                Ok(true)
            }
            // Nobody may send anything until this node has accepted the stream.
            ConnectionState::Stream(StreamState::Accepting { .. }) => match chunk.is_empty() {
                true => Ok(true),
                false => Err(CloseReason::UnexpectedMessage),
            },
            ConnectionState::Stream(StreamState::Awaiting { .. })
            | ConnectionState::AwaitingHello { .. }
            | ConnectionState::Proving(_)
            | ConnectionState::Claimed(_)
            | ConnectionState::Established(_)
            | ConnectionState::Rejecting { .. } => Ok(false),
        }
    }

    /// What the handshake of a stream needs now.
    pub(super) fn compose_stream(state: &mut StreamState) -> Bytes {
        match state {
            StreamState::Awaiting { first } => core::mem::take(first),
            StreamState::Accepting { answer } => {
                let answer = core::mem::take(answer);
                *state = StreamState::Ready;
                answer
            }
            StreamState::Ready => Bytes::new(),
        }
    }

    /// Whether the connection may be handed off.
    pub(super) fn is_ready(&self) -> bool {
        match &self.state {
            ConnectionState::Stream(StreamState::Ready) => !self.in_flight(),
            ConnectionState::Stream(StreamState::Awaiting { .. } | StreamState::Accepting { .. })
            | ConnectionState::AwaitingHello { .. }
            | ConnectionState::Proving(_)
            | ConnectionState::Claimed(_)
            | ConnectionState::Established(_)
            | ConnectionState::Rejecting { .. } => false,
        }
    }
}

/// A connection that leaves the table as a stream.
#[derive(Debug)]
pub(crate) struct HandedOff {
    pub(crate) stream: Option<StreamId>,
    pub(crate) peer: Node,
    pub(crate) name: StreamName,
    pub(crate) unread: Bytes,
}

impl PeerTable {
    /// A connection that this node has dialed for a stream.
    pub(crate) fn open_stream(
        &mut self,
        env: &Env,
        sink: &mut Sink,
        conn: ConnId,
        (origin, dialed, remote): (Origin, Address, Remote),
        (voting, stream, peer, name): (Voting, StreamId, Node, StreamName),
    ) {
        let key = self.tag_key(&peer);
        self.open(env, sink, conn, (origin, Some(dialed), remote), voting);
        self.streams.insert(conn);
        if let Some(connection) = self.connections.get_mut(&conn) {
            let tag = key.map(|key| proof::link_tag(&key, &connection.nonce()));
            let of = StreamOf { stream: Some(stream), peer, name, tag, unread: BytesMut::new() };
            connection.stream = Some(alloc::boxed::Box::new(of));
        }
    }

    /// The nonce in the peer's `Hello` on a link: only the two ends know it. A link that the peer has confirmed is a link there, too.
    fn tag_key(&self, peer: &Node) -> Option<[u8; 16]> {
        let links = &self.with_node(peer)?.links;
        let connections = || links.iter().filter_map(|conn| self.connection(*conn));
        let is_confirmed = |connection: &&Connection| connection.link().is_some_and(|link| link.is_confirmed());
        connections().find(is_confirmed).or_else(|| connections().next())?.peer_nonce()
    }

    /// S4: whether the sender of this `Hello` has a link to this node under the identity that it claims. `None` if that identity has none.
    pub(crate) fn has_link_of(&self, hello: &Hello) -> Option<bool> {
        let peer = self.with_node(&hello.node()).filter(|peer| *peer.address() == hello.address)?;
        let tag = hello.link_tag();
        let expected = |connection: &Connection| Some(proof::link_tag(&connection.nonce(), &hello.nonce));
        Some(
            peer.links
                .iter()
                .filter_map(|conn| self.connection(*conn))
                .any(|link| tag.is_some() && expected(link) == tag),
        )
    }

    /// The stream that the connection is to become.
    pub(crate) fn stream_of(&self, conn: ConnId) -> Option<&StreamOf> {
        self.connection(conn)?.stream()
    }

    /// The number of the stream that this node opens on the connection. It is not reported again when the connection ends.
    pub(crate) fn take_opening(&mut self, conn: ConnId) -> Option<StreamId> {
        self.connections.get_mut(&conn)?.stream.as_mut()?.stream.take()
    }

    /// The peer is the member that this node opens the stream to. `first`: this node's proof of the cluster key.
    pub(crate) fn await_acceptance(&mut self, conn: ConnId, first: Bytes) {
        self.change_state(conn, ConnectionState::Stream(StreamState::Awaiting { first }));
    }

    /// The peer accepts the stream.
    pub(crate) fn stream_accepted(&mut self, conn: ConnId) {
        self.change_state(conn, ConnectionState::Stream(StreamState::Ready));
        self.note_ready(conn);
    }

    /// This node accepts the stream of the peer. `first` is sent before that. It takes no place of others from now on.
    pub(crate) fn accept_stream(&mut self, conn: ConnId, (peer, name): (Node, StreamName), first: Bytes) {
        let Some(connection) = self.connections.get_mut(&conn) else { return never!("a hello comes on a connection") };
        let mut answer = BytesMut::from(&first[..]);
        Message::StreamAccepted.encode(&mut answer);
        let of = StreamOf { stream: None, peer, name, tag: None, unread: BytesMut::new() };
        connection.stream = Some(alloc::boxed::Box::new(of));
        connection.set_apart();
        self.pending.remove(&conn);
        self.streams.insert(conn);
        self.change_state(conn, ConnectionState::Stream(StreamState::Accepting { answer: answer.freeze() }));
    }

    /// The connection may be ready to be handed off.
    pub(super) fn note_ready(&mut self, conn: ConnId) {
        if self.connection(conn).is_some_and(Connection::is_ready) {
            self.ready.insert(conn);
        }
    }

    /// Takes a connection out of the table that is ready to be handed off.
    pub(crate) fn hand_off(&mut self, sink: &mut Sink) -> Option<(ConnId, HandedOff)> {
        let conn = self.ready.pop_first()?;
        let of = self.connections.get_mut(&conn)?.stream.take();
        self.remove(sink, conn);
        debug_assert!(!sink.timers().is_set(&Timer::Handshake(conn)), "its timers go with a connection");
        let Some(of) = of else { return never!("a connection that is ready is one of a stream", None) };
        let StreamOf { stream, peer, name, tag: _, unread } = *of;
        Some((conn, HandedOff { stream, peer, name, unread: unread.freeze() }))
    }

    /// The members at the other ends of the streams that are not handed off yet.
    pub(crate) fn stream_peers(&self) -> impl Iterator<Item = &NodeId> {
        self.streams.iter().filter_map(|conn| Some(&self.stream_of(*conn)?.peer.id))
    }

    /// Whether the connection is one that this node has dialed for a stream.
    pub(crate) fn is_dialed_stream(&self, conn: ConnId) -> bool {
        self.connection(conn)
            .is_some_and(|connection| connection.stream().is_some() && connection.side() == Side::Dialing)
    }
}
