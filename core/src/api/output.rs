//! What the embedder has to do.

use core::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    api::durable::HardState,
    api::error::CloseReason,
    api::event::Event,
    api::stream::StreamFailure,
    id::{Address, ConnId, DialId, Node, StreamId, StreamName},
};

/// What the embedder has to do. Outputs have to be carried out in the order in which they are returned.
///
/// The core learns that a connection has ended only from [`Input::Closed`](crate::Input::Closed). Until then it may still send on the
/// connection or close it. For a connection that has ended, do neither: drop the bytes, report no
/// [`Input::Flushed`](crate::Input::Flushed), and report `Closed` if no [`Close`](Self::Close) has come. After
/// [`Event::Stopped`](crate::Event::Stopped) the only output is `Close`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Output {
    /// Connect to an address, and resolve its name again. Answer once, with [`Input::Opened`](crate::Input::Opened) or
    /// [`Input::DialFailed`](crate::Input::DialFailed).
    Dial {
        /// The number of the dial, which the answer repeats.
        dial: DialId,
        /// The address.
        addr: Address,
        /// The dial has failed if it takes longer than this.
        timeout: Duration,
    },
    /// Write these bytes, then report [`Input::Flushed`](crate::Input::Flushed). At most one `Send` is in flight on a
    /// connection.
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
    /// Make this state durable, then report [`Input::Persisted`](crate::Input::Persisted) or
    /// [`Input::PersistFailed`](crate::Input::PersistFailed). At most one `Persist` is in flight.
    Persist {
        /// The number of the `Persist`, which the answer repeats.
        seq: u64,
        /// The state.
        state: HardState,
    },
    /// Report this event to the service.
    Event(Event),
    /// Give the connection to the service, as a stream. Everything that was sent on it is flushed. The core knows it no more: report
    /// neither its bytes nor its end, and only [`Input::StreamEnded`](crate::Input::StreamEnded) once the service has dropped it.
    ///
    /// The service reads `unread` first. Behind these come the bytes that arrive later, also those that the embedder has read already and
    /// not reported yet.
    Handoff {
        /// The connection.
        conn: ConnId,
        /// The stream, if this node has opened it.
        stream: Option<StreamId>,
        /// The other end.
        peer: Node,
        /// The name under which the accepting node takes it.
        name: StreamName,
        /// What has arrived behind the handshake.
        unread: Bytes,
    },
    /// A stream was not opened. Nothing is left of it.
    StreamFailed {
        /// The stream.
        stream: StreamId,
        /// Why.
        failure: StreamFailure,
    },
}
