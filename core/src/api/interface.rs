//! What goes in and what comes out.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    api::error::{CloseReason, RejectReason, TlsFailure},
    id::{Address, ConnId, DialId, Incarnation, Node, Term, ViewId},
    membership::view::Change,
    time::Timestamp,
    wire::message::Holder,
};

/// What a node starts with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Start {
    /// Larger than that of any run before, for example the wall clock in microseconds.
    pub incarnation: Incarnation,
    /// Different at each start and on each node; jitter and nonces come from it.
    pub rng_seed: u64,
    /// What was last persisted, or the default.
    pub hard_state: HardState,
}

impl Start {
    /// A start without durable state.
    pub fn new(incarnation: Incarnation, rng_seed: u64) -> Self {
        Self { incarnation, rng_seed, hard_state: HardState::default() }
    }
}

/// What a voter has to remember for its votes to be durable (E4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardState {
    /// The newest term it has known.
    pub term: Term,
    /// Whom it has voted for in that term, or followed as its master.
    pub voted_for: Option<Node>,
    /// Whether it has ever been a member of a formed cluster.
    pub joined: bool,
}

/// Everything that can happen to a node. Owned and serializable, so that a run can be recorded and replayed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Input {
    /// Time has passed; say it when [`next_deadline`](crate::Formation::next_deadline) is due.
    Tick,
    /// A connection is open.
    Opened {
        /// Its name: larger than that of any connection before.
        conn: ConnId,
        /// Who opened it.
        origin: Origin,
    },
    /// A dial has failed, or took longer than its `timeout`.
    DialFailed {
        /// Which.
        dial: DialId,
    },
    /// Bytes have come, cut anywhere.
    Received {
        /// On which connection.
        conn: ConnId,
        /// What.
        chunk: Bytes,
    },
    /// The last [`Output::Send`] on the connection is written.
    Flushed {
        /// Which connection.
        conn: ConnId,
    },
    /// The connection has ended, at the peer's wish or by a fault. Not needed after an [`Output::Close`].
    Closed {
        /// Which connection.
        conn: ConnId,
    },
    /// The connection has ended, since it could not be secured as the host wants it to be (TLS): the host says that it is open
    /// when the way to the peer is, and secures it then, so that the time and the number of such connections are limited as
    /// those of all that are not established. Told as an [`Event::ConnClosed`]; of a connection that is established already, as
    /// the reason of [`Event::Unlinked`], if it was the last one to that peer.
    TlsFailed {
        /// Which connection.
        conn: ConnId,
        /// Who does not trust whom, and why.
        failure: TlsFailure,
    },
    /// An [`Output::Persist`] is durable.
    Persisted {
        /// Which.
        seq: u64,
    },
    /// An [`Output::Persist`] has failed, and what storage holds is unknown: from now on this node votes no more, says so
    /// with [`Event::PersistFailed`], asks for no other `Persist` and goes on as a member.
    PersistFailed {
        /// Which.
        seq: u64,
    },
    /// The host wants something.
    Command(Command),
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Origin {
    /// A peer did.
    Accepted,
    /// It answers an [`Output::Dial`].
    Dialed(DialId),
}

/// What the host wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Command {
    /// Leave the cluster; [`Event::Stopped`] follows once the master has confirmed it, and within `down_after` in any case.
    Leave,
    /// More addresses to dial while there is no master.
    AddContacts(Vec<Address>),
    /// What this node says of itself in the member list.
    SetMetadata(Bytes),
}

/// What the host has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Output {
    /// Connect to an address, resolving its name anew. Answer once: [`Input::Opened`] or [`Input::DialFailed`].
    Dial {
        /// Echoed by the answer.
        dial: DialId,
        /// Where to.
        addr: Address,
        /// Give up after this long, so that dials do not pile up.
        timeout: Duration,
    },
    /// Write these bytes, then say [`Input::Flushed`]. At most one is in flight on a connection.
    Send {
        /// On which connection.
        conn: ConnId,
        /// What.
        bytes: Bytes,
    },
    /// Close the connection; what was sent before and is flushed stays sent.
    Close {
        /// Which.
        conn: ConnId,
        /// Why.
        reason: CloseReason,
    },
    /// Make this durable, then say [`Input::Persisted`], or [`Input::PersistFailed`]. At most one is in flight.
    Persist {
        /// Echoed by the answer.
        seq: u64,
        /// What.
        state: HardState,
    },
    /// Something that the service may want to know.
    Event(Event),
}

/// What has happened, for the service and its logs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// A peer is linked, by its first established connection.
    Linked {
        /// Who.
        node: Node,
        /// Its address.
        address: Address,
        /// The connection.
        conn: ConnId,
    },
    /// The last connection to a peer has ended.
    Unlinked {
        /// Who.
        node: Node,
        /// Why, when this end closed it or was told.
        reason: Option<CloseReason>,
    },
    /// A connection ended before it was established, by the fault of its peer, for want of room, or because its dial had been
    /// given up, and no other event says so.
    ConnClosed {
        /// Which.
        conn: ConnId,
        /// The address that was dialed, unless the peer has opened it, or the dial had been given up.
        dialed: Option<Address>,
        /// Why.
        reason: CloseReason,
    },
    /// There is a master, or the master has a new term. It may be this node.
    MasterElected {
        /// Its term.
        term: Term,
        /// Who.
        master: Node,
        /// Where.
        address: Address,
    },
    /// There is no master any more. The view stays.
    MasterLost {
        /// The term of the lost master.
        term: Term,
        /// Who it was.
        master: Node,
        /// Why.
        reason: LossReason,
    },
    /// Peers follow a master that this node cannot reach.
    MasterUnreachable {
        /// Whom they follow.
        master: Node,
        /// Where.
        address: Address,
    },
    /// The view has changed; [`view`](crate::Formation::view) is the new one.
    ViewChanged {
        /// The new view.
        view_id: ViewId,
        /// What is different.
        changes: Vec<Change>,
    },
    /// A peer refused this node. Said once for each address and reason.
    RejectedByPeer {
        /// Which address was dialed.
        address: Address,
        /// Why.
        reason: RejectReason,
        /// Who has the id or the address that this node claims too, where that is why.
        holder: Option<Holder>,
    },
    /// This node refused a peer. Said once until that peer has been linked (or, what only a master says of a linked one,
    /// until it is a member), or something of this has changed; with more such peers than `Limits::members`, again from time to time.
    PeerRejected {
        /// Who it said it was.
        node: Node,
        /// The address that it gave.
        address: Address,
        /// Why.
        reason: RejectReason,
        /// Who has the id or the address that it claims, where that is why.
        holder: Option<Holder>,
    },
    /// An address leads to this node itself. Said once until it has led elsewhere; it is looked at again every `down_after`.
    /// When it is a seed and stays so, the seed list names this node by two spellings, and only `own` can vote.
    SelfDial {
        /// The address that was dialed.
        address: Address,
        /// The address that this node is configured with.
        own: Address,
    },
    /// This node has changed sides: clusters that had their own masters have met, and the solo master that it followed or was
    /// has given way (E8). Said with the first view of the master that goes on.
    Merged {
        /// The last view of the side that has ended.
        from: ViewId,
        /// The first view of the other.
        to: ViewId,
    },
    /// A peer is a solo master (E8). This node is configured without `solo_after`, and does not follow it.
    SoloMasterIgnored {
        /// Who.
        node: Node,
        /// Its address.
        address: Address,
    },
    /// A `Persist` has failed (E4): this node neither stands nor votes until it is started again, and goes on as a member. Said once.
    PersistFailed,
    /// The node is done: every connection is closed, and no input does anything any more.
    Stopped {
        /// Why.
        reason: StopReason,
    },
}

/// Why a master was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LossReason {
    /// Nothing was heard of it for a lease.
    Silent,
    /// It says that it is not the master any more, or a newer incarnation of it has come.
    Ended,
    /// It was this node, and its lease was not confirmed in time (E6).
    LeaseLapsed,
    /// It was this node, and there is a newer term (E7).
    NewerTerm,
    /// It resigned, or left.
    Resigned,
    /// It was this node, without a quorum, and it has met a master that goes on in its place (E8).
    GaveWay,
}

/// Why a node is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StopReason {
    /// The host asked for it.
    Left,
    /// A newer incarnation of this node has come.
    Superseded,
    /// Another living node has its id, and kept it outside for longer than a dead one could: the last [`Event::RejectedByPeer`] or
    /// [`Event::PeerRejected`] names both addresses.
    IdInUse,
}

/// A mastership with a live lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Leadership {
    /// A fencing token: larger than that of every master before.
    pub term: Term,
    /// The moment from which no longer to act as the master.
    pub valid_until: Timestamp,
}
