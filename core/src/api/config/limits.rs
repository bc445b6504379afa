//! The limits of a node, and how they have to relate (PROTOCOL.md, section 8).

use serde::{Deserialize, Serialize};

use super::{
    error::{ConfigError, size, sizes},
    setters::setters,
};

/// The largest `Hello` without extensions has 445 bytes. The rest is for extensions.
const MIN_FIRST_FRAME: usize = 640;

/// The most bytes that a status or a member needs on the wire beside its metadata.
const METADATA_ROOM: usize = 1024;

/// The limits of a node (PROTOCOL.md, section 8). Each field says what happens when its limit is reached. Start from the
/// default, and set what differs.
///
/// ```
/// use formation_core::Limits;
///
/// const SMALL: Limits = Limits::new().with_members(100).with_connections(500);
/// assert_eq!(Limits::default(), Limits::new());
/// assert_eq!((SMALL.members, SMALL.metadata), (100, Limits::new().metadata));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// The largest frame on a connection that is not established, in bytes; at least 640. A larger one closes the
    /// connection (`FrameTooLong`).
    pub frame_before_handshake: usize,
    /// The largest frame on a link, in bytes; at least `frame_before_handshake` and `send`. A larger one closes the link
    /// (`FrameTooLong`).
    pub max_frame: usize,
    /// The largest `Send`, in bytes; at least 4096. The rest waits for the next one.
    pub send: usize,
    /// The most accepted connections that are not established. With one more, one of them closes (`TooManyPending`). The adapters accept
    /// no more while half of this number (at most 1,024) have just been accepted and are silent.
    pub pending_connections: usize,
    /// The most connections; more than there are seeds. One more is closed (`TooManyConnections`), and some places are kept for
    /// voters. The adapters lower it to what the process may open.
    pub connections: usize,
    /// The most bytes of unfinished frames over all connections; at least `max_frame`. More close a connection of the network that
    /// has most of them (`TooManyPartialBytes`).
    pub partial_bytes: usize,
    /// The most bytes of writes in flight over all connections; at least `send`. While it is reached, updates of the view to nodes
    /// that are no voters wait, and of those that read slowly, the connection with most of these bytes closes
    /// (`TooManyUnsentBytes`).
    pub unsent_bytes: usize,
    /// The most messages that a peer may send on a connection within a
    /// [`heartbeat_interval`](crate::Timing::heartbeat_interval), on a link without updates of the view; at least 64. As many may come
    /// at once after a pause. One more closes the connection (`TooManyMessages`).
    pub messages: usize,
    /// The most members of the cluster. The master rejects one more (`ClusterFull`). It is also the number of rejections
    /// that are remembered as reported.
    pub members: usize,
    /// The largest metadata of one member, in bytes. The master rejects a node with more (`MetadataTooLong`). More metadata
    /// for this node itself is [`Misuse`](crate::Misuse). A node does not take a view with more (`ViewTooLarge`), so give all nodes the
    /// same limit.
    pub metadata: usize,
    /// How many changes of the view a master keeps for deltas. A member that lacks older ones gets a snapshot.
    pub change_log: usize,
    /// The most updates of the view that a master sends between two heartbeats, counting one per member and change. Further
    /// changes are sent with the next heartbeat, or at the end of a burst (PROTOCOL.md, V8). With 0, all of them are.
    pub updates_at_once: usize,
    /// The most members that become suspect because of their silence within a
    /// [`heartbeat_interval`](crate::Timing::heartbeat_interval). The next ones wait, and do not become suspect if they answer
    /// meanwhile. Members that are down are removed all the same.
    pub suspicions: usize,
    /// The most contacts: addresses to dial beside the seeds, by the configuration and by
    /// [`AddContacts`](crate::Command::AddContacts). More of them are [`Misuse`](crate::Misuse).
    pub contacts: usize,
    /// The most addresses to dial that a discovery has found ([`SetDiscovered`](crate::Command::SetDiscovered)), beside the seeds and
    /// contacts. More of them are [`Misuse`](crate::Misuse). The adapters give each source its share, and leave out the rest.
    pub discovered: usize,
    /// The most views that are kept for slow readers of snapshots. One more reader gets the newest of these views.
    pub pinned_views: usize,
    /// The most events of the past that an adapter keeps for those who come later (`past_events`). The oldest goes for each new one.
    pub event_history: usize,
    /// The most bytes that these events may take, about. The newest event is kept in any case.
    pub event_history_bytes: usize,
    /// The most streams, open and being opened. One more from a peer is refused (`TooManyStreams`), one more to a peer is
    /// [`Misuse`](crate::Misuse). With 0, there are none. Each is an open file beside the `connections`.
    pub streams: usize,
    /// The most streams with one member, as `streams`.
    pub streams_per_member: usize,
    /// The most streams that one member may open to this node within a [`heartbeat_interval`](crate::Timing::heartbeat_interval). As
    /// many may come at once after a pause. One more is refused (`TooManyStreams`).
    pub stream_openings: usize,
    /// The most names under which this node takes streams. More of them are [`Misuse`](crate::Misuse).
    pub stream_names: usize,
}

setters! {
    Limits {
        with_frame_before_handshake: frame_before_handshake: usize,
        with_max_frame: max_frame: usize,
        with_send: send: usize,
        with_pending_connections: pending_connections: usize,
        with_connections: connections: usize,
        with_partial_bytes: partial_bytes: usize,
        with_unsent_bytes: unsent_bytes: usize,
        with_messages: messages: usize,
        with_members: members: usize,
        with_metadata: metadata: usize,
        with_change_log: change_log: usize,
        with_updates_at_once: updates_at_once: usize,
        with_suspicions: suspicions: usize,
        with_contacts: contacts: usize,
        with_discovered: discovered: usize,
        with_pinned_views: pinned_views: usize,
        with_event_history: event_history: usize,
        with_event_history_bytes: event_history_bytes: usize,
        with_streams: streams: usize,
        with_streams_per_member: streams_per_member: usize,
        with_stream_openings: stream_openings: usize,
        with_stream_names: stream_names: usize,
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

impl Limits {
    /// The limits for nodes of an ordinary service. They are the default.
    pub const fn new() -> Self {
        Self {
            frame_before_handshake: 1 << 10,
            max_frame: 128 << 10,
            send: 64 << 10,
            pending_connections: 1_024,
            connections: 16_384,
            partial_bytes: 64 << 20,
            unsent_bytes: 64 << 20,
            messages: 512,
            members: 16_384,
            metadata: 512,
            change_log: 4_096,
            updates_at_once: 512,
            suspicions: 16,
            contacts: 1_024,
            discovered: 256,
            pinned_views: 4,
            event_history: 256,
            event_history_bytes: 1 << 20,
            streams: 1_024,
            streams_per_member: 128,
            stream_openings: 64,
            stream_names: 64,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (field, value, min, max) in [
            ("frame_before_handshake", self.frame_before_handshake, MIN_FIRST_FRAME, usize::MAX),
            // The length on the wire has 32 bits. A frame and its prefix also have to fit into a 32-bit address space.
            ("max_frame", self.max_frame, MIN_FIRST_FRAME, 1 << 30),
            ("send", self.send, 4096, usize::MAX),
            ("pending_connections", self.pending_connections, 1, usize::MAX),
            ("connections", self.connections, 1, usize::MAX),
            ("messages", self.messages, 64, u32::MAX as usize),
            ("members", self.members, 1, usize::MAX),
            ("change_log", self.change_log, 1, usize::MAX),
            ("suspicions", self.suspicions, 1, usize::MAX),
            ("pinned_views", self.pinned_views, 1, usize::MAX),
            ("event_history", self.event_history, 1, usize::MAX),
        ] {
            size(field, value, min, max)?;
        }
        let frame = ("max_frame", self.max_frame);
        let first = ("frame_before_handshake", self.frame_before_handshake);
        let send = ("send", self.send);
        sizes(frame, "at least", first, frame.1 >= first.1)?;
        sizes(frame, "at least", send, frame.1 >= send.1)?;
        sizes(("partial_bytes", self.partial_bytes), "at least", frame, self.partial_bytes >= frame.1)?;
        sizes(("unsent_bytes", self.unsent_bytes), "at least", send, self.unsent_bytes >= send.1)?;
        let fits = send.1.saturating_sub(METADATA_ROOM) >= self.metadata;
        sizes(send, "at least 1024 more than", ("metadata", self.metadata), fits)
    }
}
