//! The end of a node: how long it may take, and what was not finished by then.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use event_listener::Event as Changed;
use formation_core::{StopReason, Timestamp};
use futures_lite::future;
use serde::Serialize;

use crate::{clock::Clock, handle::Stopped, runtime::Runtime};

/// The time limit has passed, and this was not finished. The node does nothing any more: its last event is
/// [`Event::Stopped`](formation_core::Event::Stopped), its port is free, and its connections are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub struct Unfinished {
    /// The node had not left the cluster, and was ended as by [`shutdown`](crate::ClusterHandle::shutdown). The other nodes notice
    /// that it is silent.
    pub leave: bool,
    /// The disk does not answer to a write. The node holds its `state_dir` until the disk does, so it cannot be started again in the
    /// same directory before. [`shutdown`](crate::ClusterHandle::shutdown) waits for that. If the `Cluster` is dropped, the write
    /// goes on, and nothing tells when it ends.
    pub write: bool,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time limit has passed")?;
        if self.leave {
            f.write_str("; the node had not left, and was ended without leaving")?;
        }
        if self.write {
            f.write_str("; the disk does not answer to a write, so the state_dir is still in use")?;
        }
        Ok(())
    }
}

/// Why a node has not left in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaveError {
    /// The node had stopped before it could leave.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The time limit has passed.
    #[error(transparent)]
    Unfinished(#[from] Unfinished),
}

/// The end of a node, as its handles and its driver agree on it.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    state: Mutex<State>,
    changed: Changed,
}

#[derive(Debug, Default)]
struct State {
    /// The earliest limit of a call that waits. At that time the node ends without leaving.
    limit: Option<Timestamp>,
    /// The last limit that has passed while the disk did not answer.
    late: Option<Timestamp>,
    /// Why the node does nothing any more.
    reason: Option<StopReason>,
    /// It was ended because a limit had passed.
    was_cut: bool,
    /// Everything that the node has used is free.
    is_gone: bool,
}

/// How a node has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// Why the node does nothing any more.
    pub(crate) reason: Option<StopReason>,
    pub(crate) was_cut: bool,
    /// The disk does not answer to a write.
    pub(crate) is_writing: bool,
}

impl Ending {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, update: impl FnOnce(&mut State)) {
        update(&mut self.lock());
        self.changed.notify(usize::MAX);
    }

    /// Ends the node at this time at the latest.
    pub(crate) fn limit(&self, limit: Timestamp) {
        self.update(|state| state.limit = Some(state.limit.map_or(limit, |earlier| earlier.min(limit))));
    }

    /// Waits until everything is free, or until the disk does not answer for longer than the limit.
    pub(crate) async fn wait(&self, limit: Option<Timestamp>) -> End {
        loop {
            // Listen first and look second, so that no change gets lost in between.
            let changed = self.changed.listen();
            let missed = {
                let state = self.lock();
                let is_late = limit.is_some_and(|limit| state.late.is_some_and(|late| limit <= late));
                if state.is_gone || is_late {
                    return End { reason: state.reason, was_cut: state.was_cut, is_writing: !state.is_gone };
                }
                // An earlier limit has passed, and the disk still has some time.
                limit.filter(|_| state.limit.is_none())
            };
            match missed {
                Some(limit) => self.limit(limit),
                None => changed.await,
            }
        }
    }

    /// Waits until a limit has passed, and returns it.
    pub(crate) async fn passed<R: Runtime>(&self, clock: &Clock) -> Timestamp {
        loop {
            let changed = self.changed.listen();
            let limit = self.lock().limit;
            let now = clock.now();
            match limit {
                Some(limit) if limit <= now => return limit,
                Some(limit) => future::or(R::sleep(limit.since(now)), changed).await,
                None => changed.await,
            }
        }
    }

    /// A limit has passed, and the node is ended for that reason.
    pub(crate) fn cut(&self) {
        self.update(|state| state.was_cut = true);
    }

    /// The node does nothing any more.
    pub(crate) fn stopped(&self, reason: StopReason) {
        self.update(|state| state.reason = Some(reason));
    }

    /// Everything but the `state_dir` is free, the limit has passed, and the disk does not answer.
    pub(crate) fn late(&self, limit: Timestamp) {
        self.update(|state| {
            state.late = state.late.max(Some(limit));
            state.limit = state.limit.filter(|later| *later > limit);
        });
    }

    /// Everything that the node has used is free.
    pub(crate) fn gone(&self) {
        self.update(|state| state.is_gone = true);
    }
}
