//! Why a stream was not opened.

use serde::{Deserialize, Serialize};

use crate::api::error::{CloseReason, DialProblem, RejectReason};

/// Why a stream was not opened (PROTOCOL.md, section 9). The links of the two nodes are as before.
///
/// ```
/// use formation_core::{RejectReason, StreamFailure};
///
/// fn is_worth_another_attempt(failure: StreamFailure) -> bool {
///     match failure {
///         StreamFailure::Rejected(RejectReason::UnknownStream) => false, // the other service does not take it
///         _ => true,
///     }
/// }
/// assert!(!is_worth_another_attempt(StreamFailure::Rejected(RejectReason::UnknownStream)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum StreamFailure {
    /// The address of the member was not reached. It may be down: the view shows it in a while.
    #[error("the address of the member was not reached: {0}")]
    NotReached(DialProblem),
    /// The member refuses the stream.
    #[error("the member refuses the stream: {0}")]
    Rejected(RejectReason),
    /// Another node, or another run of the member, is at the address. Open streams to the nodes of the newest view.
    #[error("another node, or another run of the member, is at its address; take the node from the newest view")]
    AnotherNode,
    /// This node has closed the connection.
    #[error("this node has closed the connection: {0}")]
    Closed(CloseReason),
    /// The connection has ended before the member has accepted the stream.
    #[error("the connection has ended before the member has accepted the stream")]
    Ended,
}
