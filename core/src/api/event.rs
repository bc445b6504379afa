//! What has happened, and why.
//!
//! - `display`: an event as a line for people.

mod display;

use alloc::{collections::BTreeSet, sync::Arc};
use core::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    api::electorate::Electorate,
    api::error::{CloseReason, RejectReason},
    api::explain::{NoMaster, Waiting},
    id::{Address, ClusterName, ConnId, Node, Term, ViewId},
    membership::view::Change,
    wire::message::Holder,
};

/// What has happened, for the service and for logs.
///
/// ```
/// use formation_core::{Event, LossReason};
///
/// fn show(event: &Event) {
///     match event {
///         Event::MasterElected { term, master, .. } => println!("{master} is the master of term {term}"),
///         Event::MasterLost { reason: LossReason::LeaseExpired, .. } => println!("this node was cut off from the other voters"),
///         Event::MasterLost { reason, .. } => println!("there is no master: {reason}"),
///         Event::ViewChanged { changes, .. } => changes.iter().for_each(|change| println!("{}", change.id())),
///         other => println!("this node {other}"),
///     }
/// }
/// ```
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
        /// The socket address of the peer's end, if the transport knows it.
        peer_addr: Option<SocketAddr>,
    },
    /// The last established connection to a peer has ended.
    Unlinked {
        /// The peer.
        node: Node,
        /// The reason, if this node closed the connection or TLS failed.
        reason: Option<CloseReason>,
        /// The socket address of the peer's end, if the transport knows it.
        peer_addr: Option<SocketAddr>,
    },
    /// A connection has ended before it was established: by a fault of the peer, because a limit is reached, or because the
    /// dial had been given up. It is not reported if another event reports the reason.
    ConnClosed {
        /// The connection.
        conn: ConnId,
        /// The address that was dialed. `None` if the peer opened the connection, or if the dial had been given up.
        dialed: Option<Address>,
        /// The socket address of the peer's end, if the transport knows it.
        peer_addr: Option<SocketAddr>,
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
    /// This node is no voter, and has gone back to the lower term of the voters (PROTOCOL.md, E7): all voters have lost their state, or
    /// a voter that was compromised has raised this node's term. Terms and view ids begin again. A service that uses the term as a
    /// fencing token has to do so, too.
    TermWentBack {
        /// The term of this node before.
        from: Term,
        /// The term of the voters.
        to: Term,
    },
    /// This node has another electorate now: the voters have changed, or are about to (PROTOCOL.md, E10). A node that starts with an
    /// electorate that is not the configured seed list reports it, too.
    ElectorateChanged {
        /// The electorate.
        electorate: Electorate,
    },
    /// The voters that were asked for are not all voters yet. The master reports it again every minute, and goes on when it can.
    VotersWait {
        /// The voters that were asked for.
        target: BTreeSet<Address>,
        /// What it waits for.
        waits_for: Waiting,
    },
    /// This master has chosen other voters by itself ([`Autopilot`](crate::Autopilot)), and the cluster changes to them.
    VotersChosen {
        /// The voters.
        voters: BTreeSet<Address>,
        /// The voters before that have been away for long.
        away: BTreeSet<Address>,
    },
    /// This master keeps a number of voters ([`Autopilot`](crate::Autopilot)), there are fewer, and not enough members can become voters. It is
    /// reported again every minute.
    VotersLacking {
        /// How many voters there are without those that have been away for long.
        living: usize,
        /// How many it keeps.
        wanted: usize,
        /// The voters that have been away for long.
        away: BTreeSet<Address>,
        /// A voter that does not store its votes. As long as there is one, the voters cannot change.
        in_memory: Option<Address>,
    },
    /// Peers follow a master that this node cannot reach. It is reported once per master, until this node has a master.
    MasterUnreachable {
        /// The master that they follow.
        master: Node,
        /// The address of the master.
        address: Address,
    },
    /// This voter follows a master, and peers that are linked here have stayed without one for a while: they do not reach the address that
    /// the master advertises, or it does not admit them. It is reported again every minute.
    PeersWithoutMaster {
        /// The master.
        master: Node,
        /// The address that it advertises.
        address: Address,
        /// One of the peers.
        peer: Node,
        /// The address of this peer.
        peer_address: Address,
        /// How many peers there are.
        peers: usize,
    },
    /// The members have changed. [`view`](crate::Formation::view) returns the new view. A view that has the members of the last one
    /// is not reported, for example the first view of a new master: only its id is new. The first view of a joining node may be some
    /// changes old, and have no entry of this node or an old one: the next event follows at once.
    ViewChanged {
        /// The id of the new view.
        view_id: ViewId,
        /// Exactly the differences from the last view that was reported: each member that is new or has changed, and each that was
        /// removed. There is at least one.
        changes: Arc<[Change]>,
    },
    /// A peer rejected this node (PROTOCOL.md, H10). It is reported once per address and reason, until a peer at that
    /// address has sent a message on a link, or, for a rejection by the master, until that master has made this node a
    /// member. If the peer had dialed, [`Event::ConnClosed`] reports the rejection, since there is no dialed address.
    RejectedByPeer {
        /// The address that was dialed.
        address: Address,
        /// The reason.
        reason: RejectReason,
        /// The node that has the id or the address of this node, if that is the reason. The master of the other seed list, if the seed
        /// lists differ and that list has a master.
        holder: Option<Holder>,
        /// The socket address of the peer's end, if the transport knows it.
        peer_addr: Option<SocketAddr>,
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
        /// The node that has the claimed id or address, if that is the reason. The master of this node, if the seed lists differ.
        holder: Option<Holder>,
        /// The name of the peer's cluster, if that is the reason.
        cluster: Option<ClusterName>,
        /// The socket address of the peer's end, if the transport knows it. `None` for a rejection by the master, which rejects a linked
        /// node: [`Event::Linked`] names its socket address.
        peer_addr: Option<SocketAddr>,
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
    /// This node has had no master for a while. It is reported again when the reason changes, and every minute.
    NoMaster {
        /// For how long.
        since: Duration,
        /// Why.
        why: NoMaster,
    },
    /// Two voters have times that do not fit together (PROTOCOL.md, E5): one asks for a lease as a candidate that the other does not
    /// confirm. Both report it, once until one of the two has other times. Give both a `bootstrap_wait` of at least the longer lease.
    LeaseTooLong {
        /// The voter that asks for the lease.
        candidate: Node,
        /// The lease.
        lease: Duration,
        /// The voter that does not confirm it.
        voter: Node,
        /// The longest lease that this one confirms.
        bootstrap_wait: Duration,
    },
    /// A peer is a solo master (PROTOCOL.md, E8). This node is configured without `solo_after`, and does not follow it.
    SoloMasterIgnored {
        /// The solo master.
        node: Node,
        /// The address of the solo master.
        address: Address,
    },
    /// The master has sent a view that is over a limit of this node, which keeps the view that it has. It is reported once, until
    /// a view is taken. Give all nodes the same [`Limits::members`](crate::Limits::members) and
    /// [`Limits::metadata`](crate::Limits::metadata).
    ViewTooLarge {
        /// The master.
        master: Node,
        /// The limit.
        limit: ViewLimit,
    },
    /// This node is the master, and a voter with a higher priority has been a sound member for long enough to be the next one
    /// (PROTOCOL.md, L8). The embedder ends the work of the master, and then hands the mastership over with
    /// [`Command::Resign`](crate::Command::Resign). The adapters do so. It is reported again at the earliest 100 ×
    /// [`down_after`](crate::Timing::down_after) later, and twice as long each time until that voter has been the master for as long as
    /// the wait.
    BetterMaster {
        /// The voter that would be the next master.
        node: Node,
        /// The address of the voter.
        address: Address,
    },
    /// A `Persist` has failed (PROTOCOL.md, E4). Until it is started again, this node neither becomes a candidate nor
    /// votes. It continues as a member. This is reported once.
    PersistFailed,
    /// The node has stopped: every connection is closed, and all further inputs are ignored, except that a connection that opens later
    /// is closed, too. It is the last event, and from now on the only output is [`Output::Close`](crate::Output::Close).
    Stopped {
        /// The reason.
        reason: StopReason,
    },
    /// The storage does not make a vote durable at the moment (PROTOCOL.md, E4). Until it does, this node neither becomes a
    /// candidate nor votes. It continues as a member. This is reported once, until [`Event::PersistRecovered`] follows.
    PersistDelayed,
    /// The storage works again after [`Event::PersistDelayed`], and this node votes again.
    PersistRecovered,
}

/// How much attention an event needs, for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// It is about one link, and nobody has to know.
    Detail,
    /// It belongs to the normal life of a cluster.
    Progress,
    /// Somebody may have to do something about it.
    Problem,
}

impl Event {
    /// How much attention the event needs.
    ///
    /// ```
    /// use formation_core::{Event, Severity};
    ///
    /// assert_eq!(Event::PersistFailed.severity(), Severity::Problem);
    /// assert_eq!(Event::PersistRecovered.severity(), Severity::Progress);
    /// ```
    pub fn severity(&self) -> Severity {
        match self {
            Self::Linked { .. } | Self::Unlinked { .. } => Severity::Detail,
            Self::MasterElected { .. }
            | Self::ElectorateChanged { .. }
            | Self::ViewChanged { .. }
            | Self::BetterMaster { .. }
            | Self::Stopped { .. }
            | Self::PersistRecovered => Severity::Progress,
            Self::ConnClosed { .. }
            | Self::MasterLost { .. }
            | Self::TermWentBack { .. }
            | Self::MasterUnreachable { .. }
            | Self::PeersWithoutMaster { .. }
            | Self::VotersWait { .. }
            | Self::VotersChosen { .. }
            | Self::VotersLacking { .. }
            | Self::RejectedByPeer { .. }
            | Self::PeerRejected { .. }
            | Self::SelfDial { .. }
            | Self::Merged { .. }
            | Self::NoMaster { .. }
            | Self::LeaseTooLong { .. }
            | Self::SoloMasterIgnored { .. }
            | Self::ViewTooLarge { .. }
            | Self::PersistDelayed
            | Self::PersistFailed => Severity::Problem,
        }
    }

    /// The connection that the event is about.
    ///
    /// ```
    /// use formation_core::{CloseReason, ConnId, Event};
    ///
    /// let event = Event::ConnClosed { conn: ConnId(4), dialed: None, peer_addr: None, reason: CloseReason::SpeaksHttp };
    /// assert_eq!(event.conn(), Some(ConnId(4)));
    /// assert_eq!(event.to_string(), "has no link to a peer that connected: the peer speaks HTTP: it is no node");
    /// ```
    pub fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Linked { conn, .. } | Self::ConnClosed { conn, .. } => Some(*conn),
            Self::Unlinked { .. }
            | Self::MasterElected { .. }
            | Self::MasterLost { .. }
            | Self::TermWentBack { .. }
            | Self::MasterUnreachable { .. }
            | Self::PeersWithoutMaster { .. }
            | Self::ElectorateChanged { .. }
            | Self::VotersWait { .. }
            | Self::VotersChosen { .. }
            | Self::VotersLacking { .. }
            | Self::ViewChanged { .. }
            | Self::RejectedByPeer { .. }
            | Self::PeerRejected { .. }
            | Self::SelfDial { .. }
            | Self::Merged { .. }
            | Self::NoMaster { .. }
            | Self::LeaseTooLong { .. }
            | Self::SoloMasterIgnored { .. }
            | Self::ViewTooLarge { .. }
            | Self::BetterMaster { .. }
            | Self::PersistDelayed
            | Self::PersistRecovered
            | Self::PersistFailed
            | Self::Stopped { .. } => None,
        }
    }

    /// Why the node has stopped, if that is the event. It is then the last one.
    ///
    /// ```
    /// use formation_core::{Event, StopReason};
    ///
    /// assert_eq!(Event::Stopped { reason: StopReason::Left }.stop_reason(), Some(StopReason::Left));
    /// assert_eq!(Event::PersistFailed.stop_reason(), None);
    /// ```
    pub fn stop_reason(&self) -> Option<StopReason> {
        match self {
            Self::Stopped { reason } => Some(*reason),
            Self::Linked { .. }
            | Self::Unlinked { .. }
            | Self::ConnClosed { .. }
            | Self::MasterElected { .. }
            | Self::MasterLost { .. }
            | Self::TermWentBack { .. }
            | Self::MasterUnreachable { .. }
            | Self::PeersWithoutMaster { .. }
            | Self::ElectorateChanged { .. }
            | Self::VotersWait { .. }
            | Self::VotersChosen { .. }
            | Self::VotersLacking { .. }
            | Self::ViewChanged { .. }
            | Self::RejectedByPeer { .. }
            | Self::PeerRejected { .. }
            | Self::SelfDial { .. }
            | Self::Merged { .. }
            | Self::NoMaster { .. }
            | Self::LeaseTooLong { .. }
            | Self::SoloMasterIgnored { .. }
            | Self::ViewTooLarge { .. }
            | Self::BetterMaster { .. }
            | Self::PersistDelayed
            | Self::PersistRecovered
            | Self::PersistFailed => None,
        }
    }
}

/// A limit of this node that the view of a master exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ViewLimit {
    /// [`Limits::members`](crate::Limits::members).
    #[error("the limit of members")]
    Members,
    /// [`Limits::metadata`](crate::Limits::metadata).
    #[error("the limit of metadata")]
    Metadata,
}

/// Why a master was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum LossReason {
    /// For a lease it has sent no heartbeat, no status as a master and no accepting join response.
    #[error("it was silent for a lease")]
    Silent,
    /// It has reported that it is no longer the master, or a newer incarnation of it has appeared.
    #[error("it has reported that it is the master no more")]
    Ended,
    /// It was this node, and its lease has expired (E6).
    #[error("its lease has expired")]
    LeaseExpired,
    /// It was this node, and there is a newer term (E7).
    #[error("there is a newer term")]
    NewerTerm,
    /// It was this node, and it has resigned or left. Or it was another node that has left. If another node has resigned and stays a
    /// member, the reason is [`Ended`](Self::Ended).
    #[error("it has resigned")]
    Resigned,
    /// It was this node as a solo master, and it has met a master that continues instead (E8).
    #[error("it has given way to another master")]
    GaveWay,
}

/// Why a node has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    /// [`Command::Leave`](crate::Command::Leave) has been completed.
    #[error("it has left the cluster")]
    Left,
    /// A newer incarnation of this node has appeared (PROTOCOL.md, I1).
    #[error("a newer run of the same node has taken its place")]
    Superseded,
    /// Another living node has the id of this node (PROTOCOL.md, I5). The last [`Event::RejectedByPeer`] or
    /// [`Event::PeerRejected`] names both addresses.
    #[error("another living node has its id")]
    IdInUse,
    /// It was ended without leaving, like by a crash: the application has shut it down or dropped it, or its runtime has ended.
    /// Only an embedder reports this.
    #[error("it was ended without leaving")]
    ShutDown,
    /// A task that serves the whole node has panicked, such as its storage or its listener. Only an embedder reports this.
    #[error("one of its tasks has panicked")]
    Failed,
}
