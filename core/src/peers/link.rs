//! What an established connection has beyond the others.

use alloc::{boxed::Box, vec::Vec};

use bytes::{Bytes, BytesMut};

use super::{PeerKey, budget::Budget};
use crate::{
    env::Env,
    time::Timestamp,
    wire::frame::SharedFrame,
    wire::message::{Hello, Message, Voucher},
};

/// How many vouchers wait on one link, and how many go out in each heartbeat interval. A node has no more connections to one peer that could need one.
pub(super) const VOUCHERS: usize = 4;

/// A connection to a peer that is established.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Link {
    peer: PeerKey,
    /// Sent before anything else: one end is established before it has answered with its own `Hello`, or its proof.
    first: Bytes,
    /// The newest protocol version that both ends speak.
    version: u16,
    /// The nonces of the peer's `Hello`s on other connections, to be sent on this one (H11). Only on a connection that this node has
    /// dialed to the peer's own address.
    vouchers: Vec<[u8; 16]>,
    /// False claims must not make this node send more than the peer accepts.
    vouched: Budget,
    /// The number of the last status that was due on it, sent or newer than its version; 0 before the first.
    status_sent: u64,
    confirmation: Confirmation,
    /// The peer's `Hello`, while nothing has proven that it is the node that it claims to be (H11).
    unproven: Option<Box<Hello>>,
}

impl Link {
    pub(super) fn new(peer: PeerKey, version: u16, first: Bytes, vouchers: Vec<[u8; 16]>) -> Self {
        let (vouched, confirmation) = (Budget::new(Timestamp::ZERO), Confirmation::Open);
        Self { peer, first, version, vouchers, vouched, status_sent: 0, confirmation, unproven: None }
    }

    /// The same, where nothing has proven that the peer is the node that it claims to be in this `Hello`.
    pub(super) fn unproven(self, hello: Hello) -> Self {
        Self { unproven: Some(Box::new(hello)), ..self }
    }

    /// Whether the peer has proven that it is the node that it claims to be.
    pub(super) fn is_proven(&self) -> bool {
        self.unproven.is_none()
    }

    pub(super) fn prove(&mut self) {
        self.unproven = None;
    }

    pub(super) fn take_unproven(&mut self) -> Option<Hello> {
        self.unproven.take().map(|hello| *hello)
    }

    /// What was to be sent before anything else.
    pub(super) fn take_first(&mut self) -> Bytes {
        core::mem::take(&mut self.first)
    }

    pub(super) fn peer(&self) -> PeerKey {
        self.peer
    }

    pub(super) fn version(&self) -> u16 {
        self.version
    }

    pub(super) fn status_sent(&self) -> u64 {
        self.status_sent
    }

    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmation == Confirmation::Confirmed
    }

    /// Adds a voucher for a connection of the peer's. Returns true if it is new, and there is room for it.
    pub(super) fn vouch(&mut self, env: &Env, nonce: [u8; 16]) -> bool {
        let has_room = !self.vouchers.contains(&nonce) && self.vouchers.len() < VOUCHERS;
        let is_added = has_room && self.vouched.spend(env, VOUCHERS);
        if is_added {
            self.vouchers.push(nonce);
            // The peer may have ignored what came before.
            self.status_sent = 0;
        }
        is_added
    }

    /// Appends what goes before all messages of the peer's outbox. Each link gets one status when it is established. Later ones go on
    /// the link that is used.
    pub(super) fn compose(&mut self, is_used: bool, (number, status): (u64, &SharedFrame), out: &mut BytesMut) {
        out.extend_from_slice(&core::mem::take(&mut self.first));
        for nonce in core::mem::take(&mut self.vouchers) {
            Message::Voucher(Voucher { nonce }).encode_for(self.version, out);
        }
        if self.status_sent == 0 || (is_used && self.status_sent != number) {
            self.status_sent = number;
            out.extend_from_slice(&status.in_version(self.version));
        }
    }

    /// A message has arrived. Returns true if it is the first one that shows that the peer has established the link, too.
    pub(super) fn confirm(&mut self, message: &Message, is_dialed: bool) -> bool {
        let is_greeting = match (message, self.confirmation) {
            (Message::Status(_), Confirmation::Open) => is_dialed,
            (_, Confirmation::Open | Confirmation::Greeted | Confirmation::Confirmed) => false,
        };
        let now = if is_greeting { Confirmation::Greeted } else { Confirmation::Confirmed };
        let before = core::mem::replace(&mut self.confirmation, now);
        now == Confirmation::Confirmed && before != Confirmation::Confirmed
    }

    /// Whether everything is sent that goes before the messages of the peer's outbox.
    pub(super) fn has_sent_all(&self) -> bool {
        self.first.is_empty() && self.vouchers.is_empty() && self.status_sent > 0
    }
}

/// Whether the peer has established the link, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
enum Confirmation {
    /// Nothing has come but its `Hello`.
    Open,
    /// Its first status has come, which goes with the `Hello` that answers this node's. This node may still have to prove itself (H11).
    Greeted,
    Confirmed,
}
