//! The explanation of a node, which costs its driver time: one at a time, and not more often than is of use.

use std::{sync::Arc, time::Duration};

use formation_core::{Explanation, Status, Timestamp};
use formation_host::{ClusterHandle, Snapshot, Stopped};
use tokio::{sync::Mutex, time::timeout};

/// For how long an explanation serves all requests, unless the master or the term changes.
const FRESH: Duration = Duration::from_millis(100);

/// How long the driver may take to explain. It does so at its next turn, so it takes that long only if it hangs or starves.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unexplained {
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(
        "the driver of the node has not answered for {PATIENCE:?}: a task blocks its runtime, or the machine is overloaded"
    )]
    Hangs,
}

/// The last explanation of a node.
#[derive(Debug)]
pub(crate) struct Explanations {
    handle: ClusterHandle,
    /// It is locked while the driver is asked, so that it is asked once by all who wait.
    last: Mutex<Option<(Timestamp, Arc<Explanation>)>>,
}

impl Explanations {
    pub(crate) fn new(handle: ClusterHandle) -> Self {
        Self { handle, last: Mutex::new(None) }
    }

    /// The node at this moment, and an explanation that fits to it.
    pub(crate) async fn now(&self) -> (Snapshot, Result<Arc<Explanation>, Unexplained>) {
        match timeout(PATIENCE, self.ask()).await {
            Ok((snapshot, explanation)) => (snapshot, explanation.map_err(Into::into)),
            Err(_) => (self.handle.snapshot(), Err(Unexplained::Hangs)),
        }
    }

    async fn ask(&self) -> (Snapshot, Result<Arc<Explanation>, Stopped>) {
        let mut last = self.last.lock().await;
        let snapshot = self.handle.snapshot();
        if let Some((at, explanation)) = &*last
            && snapshot.at.since(*at) < FRESH
            && fits(explanation, &snapshot.status)
        {
            return (snapshot, Ok(explanation.clone()));
        }
        match self.handle.explain().await {
            Ok(explanation) => {
                let (explanation, snapshot) = (Arc::new(explanation), self.handle.snapshot());
                *last = Some((snapshot.at, explanation.clone()));
                (snapshot, Ok(explanation))
            }
            Err(stopped) => (self.handle.snapshot(), Err(stopped)),
        }
    }
}

/// Whether nothing has happened since that makes the explanation wrong.
fn fits(explanation: &Explanation, status: &Status) -> bool {
    (explanation.phase, explanation.term, &explanation.master) == (status.phase, status.term, &status.master)
}
