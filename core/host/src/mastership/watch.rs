//! Following the mastership of this node.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use event_listener::EventListener;
use formation_core::{Leadership, LossReason};
use futures_lite::Stream;

use super::Lease;
use crate::{clock::Clock, handle::Stopped, shared::Shared};

/// What has happened to the mastership of this node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LeadershipChange {
    /// This node is the master.
    Gained(Lease),
    /// A quorum has confirmed the mastership again, so the lease lasts longer. This happens about once per heartbeat.
    Renewed(Lease),
    /// This node must not act as the master any more.
    Lost {
        /// The lease that has ended.
        lease: Lease,
        /// The reason.
        reason: LossReason,
    },
}

impl fmt::Display for LeadershipChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gained(lease) => write!(f, "gained the {lease}"),
            Self::Renewed(lease) => write!(f, "renewed the {lease}"),
            Self::Lost { lease, reason } => write!(f, "lost the lease of term {}: {reason}", lease.term),
        }
    }
}

/// Follows the mastership of this node. It keeps no backlog: a slow reader gets the newest state next. No loss is left out between two
/// different terms.
///
/// It is a [`Stream`] of changes, too, which ends when the node has stopped.
#[derive(Debug)]
#[must_use = "a watch does nothing unless it is asked"]
pub struct LeadershipWatch {
    shared: Arc<Shared>,
    clock: Clock,
    seen: Option<Leadership>,
    listener: Option<EventListener>,
}

impl LeadershipWatch {
    /// The first change is [`Gained`](LeadershipChange::Gained) if this node is the master already.
    pub(crate) fn new(shared: Arc<Shared>, clock: Clock) -> Self {
        Self { shared, clock, seen: None, listener: None }
    }

    /// Waits for the next change.
    ///
    /// Cancel safe: nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// [`Stopped`] once the node has stopped and the end of its mastership was returned.
    pub async fn changed(&mut self) -> Result<LeadershipChange, Stopped> {
        poll_fn(|cx| self.poll_changed(cx)).await.ok_or(Stopped)
    }

    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Option<LeadershipChange>> {
        loop {
            // Listen first and look second, so that no change gets lost in between.
            let mut listener = self.listener.take().unwrap_or_else(|| self.shared.lease_changed());
            if let Some(next) = self.next() {
                return Poll::Ready(next);
            }
            if Pin::new(&mut listener).poll(cx).is_pending() {
                self.listener = Some(listener);
                return Poll::Pending;
            }
        }
    }

    /// What is to be returned now. `Some(None)`: the node has stopped.
    fn next(&mut self) -> Option<Option<LeadershipChange>> {
        let state = self.shared.lock();
        let usable = state.usable(self.clock.now());
        let lease = |of: &Leadership| Lease { term: of.term, clock: self.clock.clone(), shared: self.shared.clone() };
        let change = match (self.seen, usable) {
            (None, None) if state.has_stopped() => return Some(None),
            (None, None) => return None,
            (None, Some(usable)) => LeadershipChange::Gained(lease(&usable)),
            (Some(seen), Some(usable)) if seen == usable => return None,
            (Some(seen), Some(usable)) if seen.term == usable.term => LeadershipChange::Renewed(lease(&usable)),
            (Some(seen), _) => {
                // The driver is about to tell the reason.
                let reason = state.loss_of(seen, self.clock.now())?;
                LeadershipChange::Lost { lease: lease(&seen), reason }
            }
        };
        self.seen = match change {
            LeadershipChange::Gained(_) | LeadershipChange::Renewed(_) => usable,
            LeadershipChange::Lost { .. } => None,
        };
        Some(Some(change))
    }
}

impl Stream for LeadershipWatch {
    type Item = LeadershipChange;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<LeadershipChange>> {
        self.poll_changed(cx)
    }
}
