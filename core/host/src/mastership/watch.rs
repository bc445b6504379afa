//! Following the mastership of this node.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use formation_core::{Leadership, LossReason};
use futures_lite::Stream;

use super::Lease;
use crate::{
    handle::Stopped,
    shared::{Listening, Shared},
};

/// A change of the mastership of this node.
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
///
/// ```no_run
/// # async fn example(cluster: &formation_host::ClusterHandle) {
/// let mut watch: formation_host::LeadershipWatch = cluster.watch_leadership();
/// while let Ok(change) = watch.changed().await {
///     println!("this node {change}");
/// }
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a watch does nothing unless it is asked"]
pub struct LeadershipWatch {
    shared: Arc<Shared>,
    seen: Option<Leadership>,
    listening: Listening,
}

impl LeadershipWatch {
    /// The first change is [`Gained`](LeadershipChange::Gained) if this node is the master already.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, seen: None, listening: Listening::default() }
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
        let Self { shared, seen, listening } = self;
        listening.poll_for(cx, || shared.lease_changed(), || next(shared, seen))
    }
}

/// The next change of what was seen. `Some(None)`: the node has stopped.
fn next(shared: &Arc<Shared>, seen: &mut Option<Leadership>) -> Option<Option<LeadershipChange>> {
    let (state, now) = (shared.lock(), shared.now());
    let usable = state.usable(now);
    let lease = |of: Leadership| Lease::new(of.term, shared.clone());
    let change = match (*seen, usable) {
        (None, None) => return state.has_stopped().then_some(None),
        (None, Some(usable)) => LeadershipChange::Gained(lease(usable)),
        (Some(seen), Some(usable)) if seen == usable => return None,
        (Some(seen), Some(usable)) if seen.term == usable.term => LeadershipChange::Renewed(lease(usable)),
        // If there is no reason yet, the driver is about to tell it.
        (Some(seen), _) => LeadershipChange::Lost { lease: lease(seen), reason: state.loss_of(seen, now)? },
    };
    *seen = match change {
        LeadershipChange::Gained(_) | LeadershipChange::Renewed(_) => usable,
        LeadershipChange::Lost { .. } => None,
    };
    Some(Some(change))
}

impl Stream for LeadershipWatch {
    type Item = LeadershipChange;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<LeadershipChange>> {
        self.poll_changed(cx)
    }
}
