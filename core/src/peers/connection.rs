//! One connection, from open to closed (PROTOCOL.md, "The handshake").

mod classify;

pub(crate) use self::classify::Received;

use alloc::{boxed::Box, collections::BTreeSet};
use core::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::{Bytes, BytesMut};

use super::{PeerKey, budget::Budget};
use crate::{
    api::error::CloseReason,
    api::input::{Origin, Remote},
    env::{Env, never},
    id::{Address, Node},
    peers::link::{Link, VOUCHERS},
    peers::proof::Side,
    peers::streams::{StreamOf, StreamState},
    time::Timestamp,
    wire::decoder::Decoder,
    wire::frame::SharedFrame,
    wire::message::{Hello, Message, PROTOCOL, Rejected},
    wire::voting::Voting,
};

/// A write that is not flushed for this many `down_after` has stalled, and so has a frame that is not complete.
const STALLS: u32 = 2;

/// For how long a link carries nothing of this node's until a `Ping` is due (D5). Heartbeats and acknowledgements come once per interval,
/// not quite regularly. Where they flow, no `Ping` is needed.
fn ping_after(env: &Env) -> Duration {
    env.timing().heartbeat_interval.saturating_mul(3) / 2
}

/// A connection in any state. The peer table changes it through its methods.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Connection {
    origin: Origin,
    /// The address that was dialed.
    dialed: Option<Address>,
    /// The socket address of the other end, if the transport knows it.
    addr: Option<SocketAddr>,
    /// The seeds whose host the peer's certificate covers.
    certified: BTreeSet<Address>,
    /// The nonce of this node's `Hello`: a node that has dialed itself recognises it.
    nonce: [u8; 16],
    /// How this node votes, as its `Hello` reports it.
    voting: Voting,
    decoder: Decoder,
    /// The bytes of an unfinished frame after the last chunk, as counted in the sum over all connections.
    buffered: usize,
    /// It does not count as pending: the peer has claimed a seed's address and had to prove that, or has had a link. There are few.
    is_apart: bool,
    /// The nonce of the peer's `Hello`, once it has come.
    peer_nonce: Option<[u8; 16]>,
    pub(super) state: ConnectionState,
    /// The stream that it becomes.
    pub(super) stream: Option<Box<StreamOf>>,
    /// When the unfinished frame has to be complete.
    frame_due: Option<Timestamp>,
    /// What the peer may send.
    budget: Budget,
    /// The vouchers of the peer that have proven nothing.
    wrong_vouchers: Budget,
    /// A `Send` is not flushed yet.
    in_flight: bool,
    /// The length of that `Send`, as counted in the sum over all connections; 0 if there is none.
    unsent: usize,
    /// When that counts as slow: the connection may close for those that wait for room.
    slow_at: Timestamp,
    /// When that counts as stalled: the peer does not read.
    stalled_at: Timestamp,
    /// When the connection counts as silent, unless something arrives.
    silent_at: Timestamp,
    /// When the link has stood for `down_after`; `None` once that was taken.
    stands_at: Option<Timestamp>,
    /// When a `Ping` is due, unless something is sent.
    ping_at: Timestamp,
    /// A `Ping` is due, on a link.
    ping_due: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum ConnectionState {
    /// The peer's `Hello` has not come.
    AwaitingHello {
        hello_due: bool,
    },
    /// With a cluster key: the peer's `Hello` has come, its proof has not. Nothing that it claims is believed.
    Proving(Box<Proving>),
    /// The peer claims a seed's address, or the identity of a node that is linked, and has not proven it (H11).
    Claimed(Box<Claim>),
    Established(Link),
    /// The peer is a member, and the connection becomes a stream of the services.
    Stream(StreamState),
    /// The peer is rejected. The connection closes once the reason is written.
    Rejecting {
        rejected: Rejected,
        /// This node's own proof: without it the peer would not believe the reason.
        first: Bytes,
        /// The newest protocol version that both ends speak; the first one, when they have none in common.
        version: u16,
        sent: bool,
    },
}

/// An identity that a peer claims, and has not proven.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Claim {
    pub(crate) hello: Hello,
    /// This node's answer to it, until it is sent.
    answer: Bytes,
    /// The status was sent.
    is_greeted: bool,
}

impl Claim {
    pub(crate) fn new(hello: Hello, answer: Bytes) -> Self {
        Self { hello, answer, is_greeted: false }
    }

    /// The claim that a link becomes. `is_greeted`: the status was sent.
    fn of_link(hello: Hello, answer: Bytes, is_greeted: bool) -> Self {
        Self { hello, answer, is_greeted }
    }

    /// The peer's `Hello`, and the part of the answer that is not sent.
    pub(crate) fn parts(&self) -> (Hello, Bytes) {
        (self.hello.clone(), self.answer.clone())
    }

    /// The node that the peer claims to be.
    pub(crate) fn node(&self) -> Node {
        self.hello.node()
    }

    /// The answer and the status are sent.
    fn is_answered(&self) -> bool {
        self.answer.is_empty() && self.is_greeted
    }
}

/// What is known of a peer whose proof has not come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Proving {
    pub(crate) hello: Hello,
    /// What the proofs are over.
    pub(crate) hellos: Bytes,
    /// The place of the key that they are made with.
    pub(crate) key: usize,
    /// The accepting node answers with its own `Hello` and its proof. The dialing node waits for both, and has no answer yet.
    pub(crate) answer: Bytes,
}

impl Connection {
    pub(super) fn new(
        (origin, dialed, Remote { addr, certified }): (Origin, Option<Address>, Remote),
        (nonce, voting): ([u8; 16], Voting),
        now: Timestamp,
    ) -> Self {
        let hello_due = match origin {
            Origin::Dialed(_) => true,
            Origin::Accepted => false,
        };
        Self {
            origin,
            dialed,
            addr,
            certified,
            nonce,
            voting,
            decoder: Decoder::new(),
            buffered: 0,
            is_apart: false,
            peer_nonce: None,
            state: ConnectionState::AwaitingHello { hello_due },
            stream: None,
            frame_due: None,
            budget: Budget::new(now),
            wrong_vouchers: Budget::new(now),
            in_flight: false,
            unsent: 0,
            slow_at: now,
            stalled_at: now,
            silent_at: now,
            stands_at: None,
            ping_at: now,
            ping_due: false,
        }
    }

    pub(crate) fn side(&self) -> Side {
        Side::of(self.origin)
    }

    pub(crate) fn dialed(&self) -> Option<&Address> {
        self.dialed.as_ref()
    }

    pub(crate) fn nonce(&self) -> [u8; 16] {
        self.nonce
    }

    /// How this node votes, as its `Hello` reports it.
    pub(crate) fn voting(&self) -> &Voting {
        &self.voting
    }

    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// The socket address of the other end, if the transport knows it.
    pub(crate) fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.addr.map(|addr| addr.ip())
    }

    pub(super) fn peer_nonce(&self) -> Option<[u8; 16]> {
        self.peer_nonce
    }

    pub(super) fn state(&self) -> &ConnectionState {
        &self.state
    }

    /// Whether it does not count as pending, although it may be accepted and not established.
    pub(super) fn is_apart(&self) -> bool {
        self.is_apart
    }

    pub(super) fn buffered(&self) -> usize {
        self.buffered
    }

    /// Whether what counts as buffered is what the decoder holds.
    pub(super) fn counts_its_buffer(&self) -> bool {
        self.buffered == self.decoder.buffered() + self.unread()
    }

    pub(super) fn in_flight(&self) -> bool {
        self.in_flight
    }

    pub(super) fn silent_at(&self) -> Timestamp {
        self.silent_at
    }

    /// What is known of the peer while its proof has not come.
    pub(crate) fn proving(&self) -> Option<&Proving> {
        match &self.state {
            ConnectionState::Proving(proving) => Some(proving),
            ConnectionState::AwaitingHello { .. }
            | ConnectionState::Claimed(_)
            | ConnectionState::Established(_)
            | ConnectionState::Stream(_)
            | ConnectionState::Rejecting { .. } => None,
        }
    }

    /// The identity that the peer claims and has not proven.
    pub(crate) fn claim(&self) -> Option<&Claim> {
        match &self.state {
            ConnectionState::Claimed(claim) => Some(claim),
            ConnectionState::AwaitingHello { .. }
            | ConnectionState::Proving(_)
            | ConnectionState::Established(_)
            | ConnectionState::Stream(_)
            | ConnectionState::Rejecting { .. } => None,
        }
    }

    /// Whether this node's own dial of this address, or the peer's certificate, shows that the peer is at the address.
    pub(crate) fn proves(&self, address: &Address) -> bool {
        self.dialed.as_ref() == Some(address) || self.certified.contains(address)
    }

    /// Whether this node tells the peer who is master, and believes the peer about that, before a proof of the cluster key (E9). With a
    /// key, only the certificate of the peer shows that it is at the address of this seed.
    pub(crate) fn is_trusted_without_key(&self, env: &Env, address: &Address) -> bool {
        env.config.keys().is_empty() || self.certified.contains(address)
    }

    pub(super) fn link(&self) -> Option<&Link> {
        match &self.state {
            ConnectionState::Established(link) => Some(link),
            ConnectionState::AwaitingHello { .. }
            | ConnectionState::Proving(_)
            | ConnectionState::Claimed(_)
            | ConnectionState::Stream(_)
            | ConnectionState::Rejecting { .. } => None,
        }
    }

    pub(super) fn link_mut(&mut self) -> Option<&mut Link> {
        match &mut self.state {
            ConnectionState::Established(link) => Some(link),
            ConnectionState::AwaitingHello { .. }
            | ConnectionState::Proving(_)
            | ConnectionState::Claimed(_)
            | ConnectionState::Stream(_)
            | ConnectionState::Rejecting { .. } => None,
        }
    }

    /// Whether no `Ping` is due, or it is due on a link.
    pub(super) fn pings_only_on_a_link(&self) -> bool {
        !self.ping_due || self.is_established()
    }

    /// Whether a `Ping` is due on the link, and the link.
    pub(super) fn ping_and_link_mut(&mut self) -> Option<(bool, &mut Link)> {
        let ping = self.ping_due;
        self.link_mut().map(|link| (ping, link))
    }

    pub(super) fn is_established(&self) -> bool {
        self.link().is_some()
    }

    /// Which other protocol the first bytes of the peer are of. A frame with such a length is too long in any case.
    fn other_protocol(&self) -> Option<CloseReason> {
        let ConnectionState::AwaitingHello { .. } = &self.state else { return None };
        match &self.decoder.bad_prefix()? {
            // A handshake record or an alert.
            [21 | 22, 3, ..] => Some(CloseReason::SpeaksTls),
            b"GET " | b"HEAD" | b"POST" | b"PUT " | b"DELE" | b"OPTI" | b"CONN" | b"TRAC" | b"PATC" | b"PRI "
            | b"HTTP" => Some(CloseReason::SpeaksHttp),
            _ => None,
        }
    }

    /// Takes the next frame's body out of the chunk; `None` once the chunk is used up.
    pub(super) fn next_body(&mut self, env: &Env, chunk: &mut Bytes) -> Result<Option<Bytes>, CloseReason> {
        if self.keep_unread(chunk)? {
            return Ok(None);
        }
        let limits = env.limits();
        // The peer takes the connection for a link as soon as it has this node's `Hello`, which a claim is answered with.
        let limit = match &self.state {
            ConnectionState::Claimed(_) | ConnectionState::Established(_) => limits.max_frame,
            ConnectionState::AwaitingHello { .. }
            | ConnectionState::Proving(_)
            | ConnectionState::Stream(_)
            | ConnectionState::Rejecting { .. } => limits.frame_before_handshake,
        };
        let body = self.decoder.next(chunk, limit).map_err(|reason| self.other_protocol().unwrap_or(reason))?;
        if body.is_some() {
            self.frame_due = None;
        }
        Ok(body)
    }
}

impl Connection {
    /// Why the connection closes when its time for the handshake is over.
    pub(crate) fn timeout_reason(&self) -> CloseReason {
        match &self.state {
            ConnectionState::Rejecting { rejected, .. } => CloseReason::Rejected(rejected.reason),
            ConnectionState::AwaitingHello { .. }
            | ConnectionState::Proving(_)
            | ConnectionState::Claimed(_)
            | ConnectionState::Established(_)
            | ConnectionState::Stream(_) => CloseReason::HandshakeTimeout,
        }
    }

    /// Why the connection closes once its last bytes are written, if it is only waiting for that.
    pub(super) fn flushed_reason(&self) -> Option<CloseReason> {
        match &self.state {
            ConnectionState::Rejecting { rejected, sent: true, .. } => Some(CloseReason::Rejected(rejected.reason)),
            ConnectionState::Rejecting { sent: false, .. }
            | ConnectionState::AwaitingHello { .. }
            | ConnectionState::Proving(_)
            | ConnectionState::Claimed(_)
            | ConnectionState::Established(_)
            | ConnectionState::Stream(_) => None,
        }
    }
}

/// How it changes, apart from the frames that arrive.
impl Connection {
    pub(super) fn enter(&mut self, state: ConnectionState) {
        self.state = state;
    }

    /// The peer claims an identity. `of_seed`: it claims the address of a seed.
    pub(super) fn claimed(&mut self, claim: Claim, of_seed: bool) {
        self.is_apart |= of_seed;
        self.state = ConnectionState::Claimed(Box::new(claim));
    }

    /// A link that was never proven is a claim from now on. Returns the peer; `None` if it is no such link.
    pub(super) fn withdraw(&mut self) -> Option<PeerKey> {
        let link = self.link_mut()?;
        let (peer, hello) = (link.peer(), link.take_unproven()?);
        let (answer, is_greeted) = (link.take_first(), link.status_sent() > 0);
        self.state = ConnectionState::Claimed(Box::new(Claim::of_link(hello, answer, is_greeted)));
        self.is_apart = true;
        self.ping_due = false;
        self.stands_at = None;
        Some(peer)
    }

    /// It is a link from now on. Returns when a `Ping` is due, and when it counts as silent.
    pub(super) fn establish(&mut self, env: &Env, link: Link) -> (Timestamp, Timestamp) {
        self.state = ConnectionState::Established(link);
        self.ping_at = env.now + ping_after(env);
        self.silent_at = env.now + env.timing().down_after;
        self.stands_at = Some(self.silent_at);
        (self.ping_at, self.silent_at)
    }

    /// Whether the link has stood for `down_after`. True only once.
    pub(super) fn take_stood(&mut self, now: Timestamp) -> bool {
        self.stands_at.take_if(|at| *at <= now).is_some()
    }

    /// It takes the place of no other connection from now on.
    pub(super) fn set_apart(&mut self) {
        self.is_apart = true;
    }

    /// The peer's certificate covers the hosts of these seeds.
    pub(super) fn certify(&mut self, seeds: BTreeSet<Address>) {
        self.certified.extend(seeds);
    }

    /// Something has arrived. Returns how much was buffered, which is not counted while the chunk is read.
    pub(super) fn begin_chunk(&mut self, env: &Env) -> usize {
        self.silent_at = env.now + env.timing().down_after;
        core::mem::take(&mut self.buffered)
    }

    /// Returns how much of the chunk is buffered.
    pub(super) fn end_chunk(&mut self, env: &Env) -> usize {
        self.buffered = self.decoder.buffered() + self.unread();
        if self.buffered > 0 && self.frame_due.is_none() {
            self.frame_due = Some(env.now + env.timing().down_after.saturating_mul(STALLS));
        }
        self.buffered
    }

    /// Another voucher has proven nothing. Returns false if it is one too many. An honest peer sends some, because others make false
    /// claims to it, or because a connection of this node's has ended.
    pub(super) fn count_wrong_voucher(&mut self, env: &Env) -> bool {
        self.wrong_vouchers.spend(env, 2 * VOUCHERS)
    }

    /// What the handshake needs now.
    pub(super) fn compose_handshake(&mut self, env: &Env, status: &SharedFrame) -> Bytes {
        if let ConnectionState::AwaitingHello { hello_due: hello_due @ true } = &mut self.state {
            *hello_due = false;
            return Message::Hello(self.own_hello(env)).to_frame();
        }
        match &mut self.state {
            ConnectionState::Stream(state) => Self::compose_stream(state),
            ConnectionState::Proving(proving) => core::mem::take(&mut proving.answer),
            ConnectionState::Claimed(claim) if !claim.is_greeted => {
                claim.is_greeted = true;
                let version = claim.hello.protocol.common(env.config.protocol()).unwrap_or(PROTOCOL.min);
                let mut out = BytesMut::from(core::mem::take(&mut claim.answer));
                out.extend_from_slice(&status.in_version(version));
                out.freeze()
            }
            ConnectionState::Rejecting { rejected, first, version, sent: sent @ false } => {
                *sent = true;
                let mut out = BytesMut::from(core::mem::take(first));
                Message::Rejected(rejected.clone()).encode_for(*version, &mut out);
                out.freeze()
            }
            ConnectionState::AwaitingHello { .. }
            | ConnectionState::Claimed(_)
            | ConnectionState::Rejecting { sent: true, .. } => Bytes::new(),
            ConnectionState::Established(_) => never!("the handshake of a link is over", Bytes::new()),
        }
    }

    /// A `Send` is in flight from now on.
    pub(super) fn sent(&mut self, env: &Env, length: usize) {
        self.in_flight = true;
        self.unsent = length;
        self.slow_at = env.now + env.timing().suspect_after;
        self.stalled_at = env.now + env.timing().down_after.saturating_mul(STALLS);
        self.ping_at = env.now + ping_after(env);
        self.ping_due = false;
    }

    /// The last `Send` is written. Returns its length, and the reason to close the connection, if it was only waiting for that.
    pub(super) fn flushed(&mut self) -> (usize, Option<CloseReason>) {
        self.in_flight = false;
        (core::mem::take(&mut self.unsent), self.flushed_reason())
    }

    /// The length of the `Send` in flight; 0 if there is none.
    pub(super) fn unsent(&self) -> usize {
        self.unsent
    }

    /// Whether the peer has not read the `Send` in flight for a while.
    pub(super) fn is_slow(&self, now: Timestamp) -> bool {
        self.in_flight && self.slow_at <= now
    }

    /// When the `Send` in flight counts as slow.
    pub(super) fn slow_at(&self) -> Timestamp {
        self.slow_at
    }

    #[cfg(test)]
    pub(super) fn set_frame_due(&mut self, at: Timestamp) {
        self.frame_due = Some(at);
    }

    /// Whether an unfinished frame has a deadline.
    pub(super) fn has_frame_deadline(&self) -> bool {
        self.frame_due.is_some() == (self.buffered > 0)
    }

    /// Whether everything that can be sent is sent.
    pub(super) fn has_sent_all(&self) -> bool {
        match &self.state {
            ConnectionState::AwaitingHello { hello_due } => !hello_due,
            ConnectionState::Proving(proving) => proving.answer.is_empty(),
            ConnectionState::Claimed(claim) => claim.is_answered(),
            ConnectionState::Stream(StreamState::Awaiting { first }) => first.is_empty(),
            ConnectionState::Stream(StreamState::Accepting { .. }) => false,
            ConnectionState::Stream(StreamState::Ready) => true,
            ConnectionState::Established(link) => link.has_sent_all() && !self.ping_due,
            ConnectionState::Rejecting { sent, .. } => *sent,
        }
    }

    /// Why the connection has to close now, if the peer does not read what was sent last, or does not complete a frame.
    pub(super) fn stall(&self, now: Timestamp) -> Option<CloseReason> {
        if self.in_flight && self.stalled_at <= now {
            return Some(CloseReason::Stalled);
        }
        self.frame_due.filter(|due| *due <= now).map(|_| CloseReason::FrameTooSlow)
    }

    /// Makes a `Ping` due, if it is time for one. Returns true if so, and when the next one is due.
    pub(super) fn make_ping_due(&mut self, env: &Env) -> (bool, Timestamp) {
        let is_due = self.ping_at <= env.now;
        if is_due {
            self.ping_due = true;
            self.ping_at = env.now + ping_after(env);
        }
        (is_due, self.ping_at)
    }

    /// This node has paused: the peer gets a new allowance.
    pub(super) fn reset_allowance(&mut self, silent_at: Timestamp) {
        self.silent_at = silent_at;
        self.stalled_at = self.stalled_at.max(silent_at);
        self.slow_at = self.slow_at.max(silent_at);
        self.frame_due = self.frame_due.map(|due| due.max(silent_at));
    }
}

#[cfg(test)]
mod tests;
