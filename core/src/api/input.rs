//! What a node starts with, and what can happen to it.

use alloc::{collections::BTreeSet, vec::Vec};
use core::{fmt, net::SocketAddr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    api::durable::HardState,
    api::error::{DialProblem, TlsFailure},
    id::{Address, ConnId, DialId, Incarnation, Node, StreamId, StreamName},
    metadata::{self, MetadataError},
};

/// What a node starts with, beside its [`Config`](crate::Config).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Start {
    /// The number of this run. It has to be larger than that of any run before, for example the wall clock in microseconds.
    pub incarnation: Incarnation,
    /// The seed of all randomness. It has to be different at each start and on each node. Jitter and nonces come from it.
    pub rng_seed: u64,
    /// The last state that was persisted, or the default if there is none.
    pub hard_state: HardState,
    /// Whether the embedder stores what it is asked to persist. A voter without this cannot be added to the electorate (PROTOCOL.md, E10).
    pub is_durable: bool,
}

impl Start {
    /// A start without durable state. To start with it, use [`resume`](Self::resume).
    pub fn new(incarnation: Incarnation, rng_seed: u64) -> Self {
        Self { incarnation, rng_seed, hard_state: HardState::default(), is_durable: false }
    }
}

/// What can happen to a node. Inputs are owned and serializable, so a run can be recorded and replayed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
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
        /// Why, for [`Event::NoMaster`](crate::Event::NoMaster) and [`explain`](crate::Formation::explain).
        problem: DialProblem,
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
    /// The bytes of the last [`Output::Send`](crate::Output::Send) on the connection are written.
    Flushed {
        /// The connection.
        conn: ConnId,
    },
    /// The connection has ended: the peer has closed it, or an error has occurred. It need not be reported after an
    /// [`Output::Close`](crate::Output::Close).
    Closed {
        /// The connection.
        conn: ConnId,
    },
    /// The connection has ended because it could not be secured (TLS; PROTOCOL.md, H9).
    ///
    /// The embedder reports [`Opened`](Self::Opened) as soon as the path to the peer is open, and secures the connection
    /// after that. In this way the core limits how long this takes, and how many such connections there are.
    /// [`Event::ConnClosed`](crate::Event::ConnClosed) reports the failure. For an established connection,
    /// [`Event::Unlinked`](crate::Event::Unlinked) reports it, if it was the last one to that peer.
    TlsFailed {
        /// The connection.
        conn: ConnId,
        /// Which end does not trust the other, and why.
        failure: TlsFailure,
    },
    /// The state of the [`Output::Persist`](crate::Output::Persist) in flight is durable.
    Persisted {
        /// The number of the `Persist`.
        seq: u64,
    },
    /// The [`Output::Persist`](crate::Output::Persist) in flight has failed for good, and nobody knows what the storage holds. From
    /// now on this node neither votes nor becomes a candidate, and continues as a member. It requests no other `Persist`.
    /// [`Event::PersistFailed`](crate::Event::PersistFailed) reports it.
    PersistFailed {
        /// The number of the `Persist`.
        seq: u64,
    },
    /// The service, or the embedder, requests something.
    Command(Command),
    /// The [`Output::Persist`](crate::Output::Persist) in flight is not durable yet, and this takes longer than it should: the
    /// storage does not answer, or it has failed without changing what is durable, and the embedder tries again. The answer to
    /// the `Persist` still has to follow. Until then this node neither votes nor becomes a candidate, and the other voters
    /// know it. [`Event::PersistDelayed`](crate::Event::PersistDelayed) reports it.
    PersistDelayed {
        /// The number of the `Persist`.
        seq: u64,
    },
    /// The service has dropped a stream that an [`Output::Handoff`](crate::Output::Handoff) has given to it. It counts no more.
    StreamEnded {
        /// The connection.
        conn: ConnId,
    },
}

/// Which end opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Origin {
    /// The peer opened it.
    Accepted,
    /// This node opened it: this is the answer to an [`Output::Dial`](crate::Output::Dial).
    Dialed(DialId),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.pad("accepted"),
            Self::Dialed(dial) => write!(f, "dial {dial}"),
        }
    }
}

/// What the transport knows about the other end of a connection. The default is that it knows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Remote {
    /// Its socket address, if known. Events name it, so that a person finds out who connects, and limits are shared fairly between IP
    /// addresses. Nothing else depends on it.
    pub addr: Option<SocketAddr>,
    /// The seeds whose host the peer's certificate covers. Only a transport that verifies certificates fills it. On the accepting
    /// side, a peer that claims one of these addresses counts as that voter at once. [`Input::Certified`] reports them if the
    /// connection is secured after it was opened.
    pub certified: BTreeSet<Address>,
}

impl Remote {
    /// An other end of which only the socket address is known.
    pub fn at(addr: impl Into<SocketAddr>) -> Self {
        Self { addr: Some(addr.into()), certified: BTreeSet::new() }
    }

    /// The same end, whose certificate covers the hosts of these seeds.
    ///
    /// ```
    /// use formation_core::{Address, Remote};
    ///
    /// let seed = Address::new("node-b.example:7000")?;
    /// let remote = Remote::at(([10, 0, 0, 2], 41_000)).with_certified([seed.clone()]);
    /// assert!(remote.certified.contains(&seed));
    /// # Ok::<(), formation_core::IdError>(())
    /// ```
    #[must_use = "it returns the changed value"]
    pub fn with_certified(self, seeds: impl IntoIterator<Item = Address>) -> Self {
        Self { certified: seeds.into_iter().collect(), ..self }
    }
}

/// A request of the service or the embedder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Command {
    /// Leave the cluster (PROTOCOL.md, L1–L6). [`Event::Stopped`](crate::Event::Stopped) follows once the master has
    /// confirmed it, and within [`down_after`](crate::Timing::down_after) in any case. A master ends its mastership at
    /// once.
    Leave,
    /// Hand the mastership over, and stay a member (PROTOCOL.md, L7). A master ends its mastership at once, and the other voters have
    /// their turns before this one. On any other node this does nothing.
    Resign,
    /// Dial these addresses too, while the node has no master.
    AddContacts(Vec<Address>),
    /// Change the metadata of this node in the member list.
    SetMetadata(#[serde(with = "metadata::readable")] Bytes),
    /// Dial exactly these addresses too, while the node has no master. They replace those of the last such command. An address that is
    /// missing now is not dialed again, unless it is a seed or a contact; a link that was dialed to it stays (PROTOCOL.md, D8).
    SetDiscovered(Vec<Address>),
    /// Change the voters to these. Only the master takes it: it changes the electorate one voter at a time, and the next master goes on where
    /// this one ends. [`Event::ElectorateChanged`](crate::Event::ElectorateChanged) reports each step (PROTOCOL.md, E10).
    SetVoters(BTreeSet<Address>),
    /// Open a stream to a member (PROTOCOL.md, section 9). One output answers it, unless the node stops before:
    /// [`Output::Handoff`](crate::Output::Handoff) or [`Output::StreamFailed`](crate::Output::StreamFailed).
    OpenStream {
        /// The number of the stream: larger than that of any stream before.
        stream: StreamId,
        /// The member, in the run that the view has.
        to: Node,
        /// The name under which the member takes it.
        name: StreamName,
    },
    /// Take streams of exactly these names. They replace those of the last such command. Streams that are open stay.
    ServeStreams(BTreeSet<StreamName>),
}

impl Command {
    /// [`SetMetadata`](Self::SetMetadata) with a value in postcard's format. [`Member::metadata_as`](crate::Member::metadata_as) reads it.
    ///
    /// ```
    /// use formation_core::Command;
    ///
    /// #[derive(serde::Serialize)]
    /// struct Worker {
    ///     rack: u16,
    /// }
    ///
    /// let Command::SetMetadata(metadata) = Command::set_metadata_as(&Worker { rack: 7 })? else { unreachable!() };
    /// assert_eq!(&metadata[..], [7]);
    /// # Ok::<(), formation_core::MetadataError>(())
    /// ```
    ///
    /// # Errors
    /// [`MetadataError::Encode`] if postcard cannot write the value.
    pub fn set_metadata_as(value: &impl Serialize) -> Result<Self, MetadataError> {
        Ok(Self::SetMetadata(metadata::encode(value)?))
    }
}
