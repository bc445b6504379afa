//! The inputs, outputs and events of a node.

use alloc::{collections::BTreeSet, vec::Vec};
use core::{net::IpAddr, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    api::error::{CloseReason, RejectReason, TlsFailure},
    id::{Address, ConnId, DialId, Incarnation, Node, Term, ViewId},
    membership::view::Change,
    time::Timestamp,
    wire::message::Holder,
};

/// What a node starts with, beside its [`Config`](crate::Config).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Start {
    /// The number of this run. It has to be larger than that of any run before, for example the wall clock in microseconds.
    pub incarnation: Incarnation,
    /// The seed of all randomness. It has to be different at each start and on each node. Jitter and nonces come from it.
    pub rng_seed: u64,
    /// The last state that was persisted, or the default if there is none.
    pub hard_state: HardState,
}

impl Start {
    /// A start without durable state. To start with it, use [`resume`](Self::resume).
    pub fn new(incarnation: Incarnation, rng_seed: u64) -> Self {
        Self { incarnation, rng_seed, hard_state: HardState::default() }
    }
}

/// The state that has to be durable for a voter's votes to be durable (PROTOCOL.md, E4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardState {
    /// The newest term that the node has known.
    pub term: Term,
    /// The node that it has voted for in that term, or has followed as its master.
    pub voted_for: Option<Node>,
    /// Whether it has ever had a master, or been one. A voter that may only join needs this to vote (D7).
    pub joined: bool,
}

/// What can happen to a node. Inputs are owned and serializable, so a run can be recorded and replayed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Input {
    /// Time has passed. Report it when [`next_deadline`](crate::Formation::next_deadline) has been reached.
    Tick,
    /// A connection is open.
    Opened {
        /// The number of the connection: larger than that of any connection before.
        conn: ConnId,
        /// Which end opened it.
        origin: Origin,
        /// What the transport knows about the other end.
        remote: Remote,
    },
    /// A dial has failed, or has taken longer than its `timeout`.
    DialFailed {
        /// The dial.
        dial: DialId,
    },
    /// The connection is secured, and the peer's certificate covers the hosts of these seeds. They are added to those that
    /// [`Opened`](Self::Opened) has named. Report it before the first [`Received`](Self::Received): the peer's claim to an
    /// address is judged with what is known by then.
    Certified {
        /// The connection.
        conn: ConnId,
        /// The seeds.
        seeds: BTreeSet<Address>,
    },
    /// Bytes have arrived. They may be cut into chunks anywhere (G4).
    Received {
        /// The connection.
        conn: ConnId,
        /// The bytes.
        chunk: Bytes,
    },
    /// The bytes of the last [`Output::Send`] on the connection are written.
    Flushed {
        /// The connection.
        conn: ConnId,
    },
    /// The connection has ended: the peer has closed it, or an error has occurred. It need not be reported after an
    /// [`Output::Close`].
    Closed {
        /// The connection.
        conn: ConnId,
    },
    /// The connection has ended because it could not be secured (TLS; PROTOCOL.md, H9).
    ///
    /// The embedder reports [`Opened`](Self::Opened) as soon as the path to the peer is open, and secures the connection
    /// after that. In this way the core limits how long this takes, and how many such connections there are.
    /// [`Event::ConnClosed`] reports the failure. For an established connection, [`Event::Unlinked`] reports it, if it was
    /// the last one to that peer.
    TlsFailed {
        /// The connection.
        conn: ConnId,
        /// Which end does not trust the other, and why.
        failure: TlsFailure,
    },
    /// The state of the [`Output::Persist`] in flight is durable.
    Persisted {
        /// The number of the `Persist`.
        seq: u64,
    },
    /// The [`Output::Persist`] in flight has failed, and nobody knows what the storage holds. From now on this node neither
    /// votes nor becomes a candidate, and continues as a member. It requests no other `Persist`. [`Event::PersistFailed`]
    /// reports it.
    PersistFailed {
        /// The number of the `Persist`.
        seq: u64,
    },
    /// The service, or the embedder, requests something.
    Command(Command),
}

/// Which end opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Origin {
    /// The peer opened it.
    Accepted,
    /// This node opened it: this is the answer to an [`Output::Dial`].
    Dialed(DialId),
}

/// What the transport knows about the other end of a connection. The default is that it knows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Remote {
    /// Its IP address, if known. It is used only to share limits fairly between sources.
    pub ip: Option<IpAddr>,
    /// The seeds whose host the peer's certificate covers. Only a transport that verifies certificates fills it. On the accepting
    /// side, a peer that claims one of these addresses counts as that voter at once. [`Input::Certified`] reports them if the
    /// connection is secured after it was opened.
    pub certified: BTreeSet<Address>,
}

impl Remote {
    /// An other end of which only the IP address is known.
    pub fn at(ip: IpAddr) -> Self {
        Self { ip: Some(ip), certified: BTreeSet::new() }
    }
}

/// A request of the service or the embedder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Command {
    /// Leave the cluster (PROTOCOL.md, L1–L6). [`Event::Stopped`] follows once the master has confirmed it, and within
    /// [`down_after`](crate::Timing::down_after) in any case. A master ends its mastership at once.
    Leave,
    /// Dial these addresses too, while the node has no master.
    AddContacts(Vec<Address>),
    /// Change the metadata of this node in the member list.
    SetMetadata(Bytes),
}

/// What the embedder has to do. Outputs have to be carried out in the order in which they are returned.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Output {
    /// Connect to an address, and resolve its name again. Answer once, with [`Input::Opened`] or [`Input::DialFailed`].
    Dial {
        /// The number of the dial, which the answer repeats.
        dial: DialId,
        /// The address.
        addr: Address,
        /// The dial has failed if it takes longer than this.
        timeout: Duration,
    },
    /// Write these bytes, then report [`Input::Flushed`]. At most one `Send` is in flight on a connection.
    Send {
        /// The connection.
        conn: ConnId,
        /// The bytes, with their frame lengths.
        bytes: Bytes,
    },
    /// Close the connection. A `Send` that is already flushed must still reach the peer.
    Close {
        /// The connection.
        conn: ConnId,
        /// The reason.
        reason: CloseReason,
    },
    /// Make this state durable, then report [`Input::Persisted`] or [`Input::PersistFailed`]. At most one `Persist` is in
    /// flight.
    Persist {
        /// The number of the `Persist`, which the answer repeats.
        seq: u64,
        /// The state.
        state: HardState,
    },
    /// Report this event to the service.
    Event(Event),
}

/// What has happened, for the service and for logs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// A peer is linked: its first connection is established.
    Linked {
        /// The peer.
        node: Node,
        /// The address of the peer.
        address: Address,
        /// The connection.
        conn: ConnId,
    },
    /// The last established connection to a peer has ended.
    Unlinked {
        /// The peer.
        node: Node,
        /// The reason, if this node closed the connection or TLS failed.
        reason: Option<CloseReason>,
    },
    /// A connection has ended before it was established: by a fault of the peer, because a limit is reached, or because the
    /// dial had been given up. It is not reported if another event reports the reason.
    ConnClosed {
        /// The connection.
        conn: ConnId,
        /// The address that was dialed. `None` if the peer opened the connection, or if the dial had been given up.
        dialed: Option<Address>,
        /// The reason.
        reason: CloseReason,
    },
    /// This node has a master, or its master has a new term. The master may be this node.
    MasterElected {
        /// The term of the master.
        term: Term,
        /// The master.
        master: Node,
        /// The address of the master.
        address: Address,
    },
    /// This node has lost its master, or is no longer the master itself. The view stays.
    MasterLost {
        /// The term of the lost master.
        term: Term,
        /// The lost master.
        master: Node,
        /// The reason.
        reason: LossReason,
    },
    /// Peers follow a master that this node cannot reach. It is reported once per master, until this node has a master.
    MasterUnreachable {
        /// The master that they follow.
        master: Node,
        /// The address of the master.
        address: Address,
    },
    /// The view has changed. [`view`](crate::Formation::view) returns the new one.
    ViewChanged {
        /// The id of the new view.
        view_id: ViewId,
        /// The differences from the last view. It is empty if only the id has changed.
        changes: Vec<Change>,
    },
    /// A peer rejected this node (PROTOCOL.md, H10). It is reported once per address and reason, until a peer at that
    /// address has sent a message on a link.
    RejectedByPeer {
        /// The address that was dialed.
        address: Address,
        /// The reason.
        reason: RejectReason,
        /// The node that has the id or the address of this node, if that is the reason.
        holder: Option<Holder>,
    },
    /// This node rejected a peer (PROTOCOL.md, H10). It is reported once per node, address, reason and holder. It may be
    /// reported again after the peer has been linked, or, for a rejection by the master, after the peer has become a
    /// member. If there are more such peers than [`Limits::members`](crate::Limits::members), it is reported again from
    /// time to time.
    PeerRejected {
        /// The node that the peer claims to be.
        node: Node,
        /// The address that the peer claims.
        address: Address,
        /// The reason.
        reason: RejectReason,
        /// The node that has the claimed id or address, if that is the reason.
        holder: Option<Holder>,
    },
    /// An address leads to this node itself (PROTOCOL.md, I8). It is reported once per address, until the address leads to
    /// another node. The address is dialed again every [`down_after`](crate::Timing::down_after). If the address is a seed,
    /// the seed list has two spellings of this node, and only `own` can vote.
    SelfDial {
        /// The address that was dialed.
        address: Address,
        /// The configured address of this node.
        own: Address,
    },
    /// Two clusters have become one, and this node was on the losing side (PROTOCOL.md, E8): the solo master that it
    /// followed or was has given way. It is reported with the first view from the master that continues.
    Merged {
        /// The last view of the losing side.
        from: ViewId,
        /// The first view from the master that continues.
        to: ViewId,
    },
    /// A peer is a solo master (PROTOCOL.md, E8). This node is configured without `solo_after`, and does not follow it.
    SoloMasterIgnored {
        /// The solo master.
        node: Node,
        /// The address of the solo master.
        address: Address,
    },
    /// A `Persist` has failed (PROTOCOL.md, E4). Until it is started again, this node neither becomes a candidate nor
    /// votes. It continues as a member. This is reported once.
    PersistFailed,
    /// The node has stopped: every connection is closed, and all further inputs are ignored.
    Stopped {
        /// The reason.
        reason: StopReason,
    },
}

/// Why a master was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LossReason {
    /// For a lease it has sent no heartbeat, no status as a master and no accepting join response.
    Silent,
    /// It has reported that it is no longer the master, or a newer incarnation of it has appeared.
    Ended,
    /// It was this node, and its lease has expired (E6).
    LeaseLapsed,
    /// It was this node, and there is a newer term (E7).
    NewerTerm,
    /// It has resigned or left.
    Resigned,
    /// It was this node as a solo master, and it has met a master that continues instead (E8).
    GaveWay,
}

/// Why a node has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StopReason {
    /// [`Command::Leave`] has been completed.
    Left,
    /// A newer incarnation of this node has appeared (PROTOCOL.md, I1).
    Superseded,
    /// Another living node has the id of this node (PROTOCOL.md, I5). The last [`Event::RejectedByPeer`] or
    /// [`Event::PeerRejected`] names both addresses.
    IdInUse,
}

/// A mastership with a valid lease (PROTOCOL.md, E6).
///
/// Use `term` as a fencing token: a resource that remembers the largest term that it has seen can refuse requests of an
/// earlier master. G1 says on which conditions a term has one master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Leadership {
    /// The term of the mastership. It is larger than that of every earlier master.
    pub term: Term,
    /// The end of the lease. From this moment on, this node must not act as the master.
    pub valid_until: Timestamp,
}
