//! The limits of a node, and how they have to relate (PROTOCOL.md, "Limits").

use serde::{Deserialize, Serialize};

use super::error::{ConfigError, size, sizes};

/// The largest `Hello` without extensions has 445 bytes; the rest is what extensions may take.
const MIN_FIRST_FRAME: usize = 640;

/// What a status or a member takes on the wire beside its metadata, at most.
const METADATA_ROOM: usize = 1024;

/// The limits. Reaching one closes the offending link with a named reason, no more.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a frame before the link is established.
    pub frame_before_handshake: usize,
    /// Bytes of a frame on an established link.
    pub max_frame: usize,
    /// Bytes of one `Send`.
    pub send: usize,
    /// Accepted connections that are not yet established.
    pub pending_connections: usize,
    /// Connections in all.
    pub connections: usize,
    /// Bytes of unfinished frames over all connections.
    pub partial_bytes: usize,
    /// Members of the cluster.
    pub members: usize,
    /// Bytes of one member's metadata.
    pub metadata: usize,
    /// Changes that the master keeps for deltas.
    pub change_log: usize,
    /// Updates of the view that a master sends at once between two heartbeats, one to each member and change. What changes beyond
    /// it is told with the next heartbeat; 0: all of it.
    pub updates_at_once: usize,
    /// Addresses to dial beside the seeds.
    pub contacts: usize,
    /// Views that are kept for slow readers of snapshots.
    pub pinned_views: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_before_handshake: 1 << 10,
            max_frame: 128 << 10,
            send: 64 << 10,
            pending_connections: 64,
            connections: 16_384,
            partial_bytes: 64 << 20,
            members: 16_384,
            metadata: 512,
            change_log: 4_096,
            updates_at_once: 512,
            contacts: 1_024,
            pinned_views: 4,
        }
    }
}

impl Limits {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (field, value, min, max) in [
            ("frame_before_handshake", self.frame_before_handshake, MIN_FIRST_FRAME, usize::MAX),
            // The wire's length has 32 bits; that a frame and its prefix fit a 32-bit address space is why it is less.
            ("max_frame", self.max_frame, MIN_FIRST_FRAME, 1 << 30),
            ("send", self.send, 4096, usize::MAX),
            ("pending_connections", self.pending_connections, 1, usize::MAX),
            ("connections", self.connections, 1, usize::MAX),
            ("members", self.members, 1, usize::MAX),
            ("change_log", self.change_log, 1, usize::MAX),
            ("pinned_views", self.pinned_views, 1, usize::MAX),
        ] {
            size(field, value, min, max)?;
        }
        let frame = ("max_frame", self.max_frame);
        let first = ("frame_before_handshake", self.frame_before_handshake);
        let send = ("send", self.send);
        sizes(frame, "at least", first, frame.1 >= first.1)?;
        sizes(frame, "at least", send, frame.1 >= send.1)?;
        sizes(("partial_bytes", self.partial_bytes), "at least", frame, self.partial_bytes >= frame.1)?;
        let fits = send.1.saturating_sub(METADATA_ROOM) >= self.metadata;
        sizes(send, "at least 1024 more than", ("metadata", self.metadata), fits)
    }
}
