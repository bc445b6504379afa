//! Whether this node runs, leaves or has stopped (PROTOCOL.md, "Leaving").

/// The life of a node, which goes in one direction only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum Lifecycle {
    Running,
    /// On its way out, since the embedder has asked for it.
    Leaving {
        /// A master has reported that this node is in none of its views any more.
        acknowledged: bool,
    },
    /// No input has any effect any more.
    Stopped,
}

impl Lifecycle {
    pub(crate) fn is_running(&self) -> bool {
        match self {
            Self::Running => true,
            Self::Leaving { .. } | Self::Stopped => false,
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        match self {
            Self::Stopped => true,
            Self::Running | Self::Leaving { .. } => false,
        }
    }

    /// The node is on its way out.
    pub(crate) fn leave(&mut self) {
        debug_assert!(self.is_running(), "a node leaves once");
        *self = Self::Leaving { acknowledged: false };
    }

    /// A master has acknowledged that this node leaves.
    pub(crate) fn acknowledge(&mut self) {
        match self {
            Self::Leaving { acknowledged } => *acknowledged = true,
            // A peer may send anything. Only a node that leaves waits for this.
            Self::Running | Self::Stopped => {}
        }
    }

    pub(crate) fn stop(&mut self) {
        *self = Self::Stopped;
    }

    /// Whether the node waits for a master to acknowledge that it leaves. `None`: it does not leave.
    pub(crate) fn awaits_ack(&self) -> Option<bool> {
        match self {
            Self::Leaving { acknowledged } => Some(!acknowledged),
            Self::Running | Self::Stopped => None,
        }
    }
}
