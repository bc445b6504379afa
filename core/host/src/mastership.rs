//! Holding the mastership: the lease of a master, the work that depends on it, and the steps that must not be cut short.
//!
//! A lease ends for the application a margin before it ends for the other nodes ([`ConfigBuilder::lease_margin`]), and it ends at once
//! when the node resigns or leaves.
//!
//! [`ConfigBuilder::lease_margin`]: formation_core::ConfigBuilder::lease_margin

mod keeper;
mod watch;
mod work;

use std::{fmt, sync::Arc, time::Duration};

use formation_core::{Leadership, Term, Timestamp};
use serde::Serialize;

pub use self::watch::{LeadershipChange, LeadershipWatch};
pub(crate) use self::{keeper::keep, work::run};
use crate::{
    handle::Stopped,
    shared::{Shared, State},
};

/// The mastership of this node in one term. It is renewed for as long as a quorum confirms it.
///
/// A lease is a cheap handle: clone it, and send it to other tasks. It never becomes valid for another term.
///
/// ```no_run
/// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), Box<dyn std::error::Error>> {
/// use formation_host::Lease;
///
/// let lease: Lease = cluster.wait_until_master().await?;
/// let background = lease.clone();
/// std::thread::spawn(move || {
///     // A thread of your own looks at the lease before each step.
///     while background.is_valid() {
///         println!("one step in term {}", background.term());
///     }
/// });
/// lease.ended().await;
/// println!("the {lease}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Lease {
    term: Term,
    shared: Arc<Shared>,
}

impl Lease {
    pub(crate) fn new(term: Term, shared: Arc<Shared>) -> Self {
        Self { term, shared }
    }

    /// The lease that this node has now.
    pub(crate) fn current(shared: &Arc<Shared>) -> Option<Self> {
        let Leadership { term, .. } = shared.lock().usable(shared.now())?;
        Some(Self::new(term, shared.clone()))
    }

    /// The term of the mastership, which is a fencing token: it is larger than that of every earlier master. Send it along with
    /// every write, and let the receiver check it with a [`Fence`](formation_core::Fence).
    pub fn term(&self) -> Term {
        self.term
    }

    /// How long this node may still act as the master, if the lease is not renewed again. It is zero once the lease has ended.
    pub fn remaining(&self) -> Duration {
        self.ends_at().map_or(Duration::ZERO, |end| end.since(self.shared.now()))
    }

    /// Whether this node may act as the master at this moment.
    pub fn is_valid(&self) -> bool {
        self.ends_at().is_some()
    }

    /// Protects a step that needs at most `needed` and must not be cut short. [`leave`](crate::ClusterHandle::leave) and
    /// [`resign`](crate::ClusterHandle::resign) wait until all guards are dropped, at most until the end of the lease. The work of
    /// [`run_while_master`](crate::ClusterHandle::run_while_master) goes on for as long, although its lease has ended. No new guard is
    /// given in that time. A guard is no help if the future of `run_while_master` is dropped: so call `leave` while it still runs.
    ///
    /// `needed` has to fit into what is left of the lease, although the lease will be renewed. That is at most the
    /// [`safe_lease`](formation_core::Timing::safe_lease) without the [`lease_margin`](formation_core::ConfigBuilder::lease_margin), and a
    /// heartbeat less at times: a step of a second never gets a guard with [`Timing::lan`](formation_core::Timing::lan). Use a longer
    /// `lease`, or cut the step into parts.
    ///
    /// A guard does not outlast the mastership: if this node learns of a newer term, the work of `run_while_master` is dropped although its
    /// step has a guard. That step is then cut short, not doubled.
    ///
    /// Keep the guard in a variable with a name: `let _ = lease.guard(…)?` drops it at once.
    ///
    /// Nothing can stop a step that takes longer than `needed`. Check [`Guard::is_valid`] before a write, and send
    /// [`Guard::term`] along with it.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// use futures_lite::future;
    ///
    /// # async fn write(term: formation_core::Term) {}
    /// # async fn told_to_end() {}
    /// # async fn sleep(time: Duration) {} // The timer of the runtime.
    /// let work = cluster.run_while_master(async |lease| {
    ///     loop {
    ///         // A step this short gets its guard at the next heartbeat, or the lease ends.
    ///         if let Ok(guard) = lease.guard(Duration::from_millis(200)) {
    ///             write(guard.term()).await;
    ///         }
    ///         // A timer of your runtime. Without it, the loop would keep a processor busy until it gets a guard.
    ///         sleep(Duration::from_millis(20)).await;
    ///     }
    /// });
    /// let leave = async {
    ///     told_to_end().await;
    ///     cluster.leave().await
    /// };
    /// // The work goes on until its step is done and the node has left.
    /// let (_, left) = future::zip(work, leave).await;
    /// left?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`LeaseTooShort`] if the lease ends earlier, or has ended. Nothing has begun then.
    pub fn guard(&self, needed: Duration) -> Result<Guard, LeaseTooShort> {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let end = state.lease_end(self.term, now);
        let left = end.map_or(Duration::ZERO, |end| end.since(now));
        if end.is_none() || left < needed {
            return Err(LeaseTooShort { needed, left });
        }
        state.begin_step();
        drop(state);
        Ok(Guard { lease: self.clone(), until: now + needed })
    }

    /// Waits until this node may not act as the master any more. To stop a task with the lease, wait for both: the task then has the
    /// [`lease_margin`](formation_core::ConfigBuilder::lease_margin) to come to an end.
    ///
    /// Cancel safe.
    pub async fn ended(&self) {
        // A node that has stopped has no lease.
        let has_ended = |state: &State| state.lease_end(self.term, self.shared.now()).is_none();
        let (Ok(()) | Err(Stopped)) = self.shared.wait_for_lease(|state| has_ended(state).then_some(())).await;
    }

    /// Whether work on this lease may go on.
    fn may_work(&self) -> bool {
        self.shared.lock().may_work(self.term, self.shared.now())
    }

    /// Waits until work on this lease must end.
    async fn work_must_end(&self) {
        let may_work = |state: &State| state.may_work(self.term, self.shared.now());
        let (Ok(()) | Err(Stopped)) = self.shared.wait_for_lease(|state| (!may_work(state)).then_some(())).await;
    }

    /// When the lease ends for the application. `None` if it has ended.
    fn ends_at(&self) -> Option<Timestamp> {
        self.shared.lock().lease_end(self.term, self.shared.now())
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("term", &self.term).field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}

/// `lease of term 3, 950ms left`
impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lease of term {}, ", self.term)?;
        match self.remaining() {
            Duration::ZERO => f.write_str("which has ended"),
            left => write!(f, "{left:?} left"),
        }
    }
}

/// A step of a master that must not be cut short. Drop it when the step is done.
///
/// ```
/// use std::time::Duration;
///
/// use formation_host::{Guard, Lease, LeaseTooShort};
///
/// fn step(lease: &Lease) -> Result<(), LeaseTooShort> {
///     let guard: Guard = lease.guard(Duration::from_millis(200))?;
///     // It reads for a while, and looks again before it writes.
///     if guard.is_valid() {
///         println!("one write in term {}, {:?} left for it", guard.term(), guard.remaining());
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "a guard protects a step only until it is dropped"]
pub struct Guard {
    lease: Lease,
    until: Timestamp,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.lease.shared.end_step();
    }
}

impl Guard {
    /// The term of the mastership, a fencing token.
    pub fn term(&self) -> Term {
        self.lease.term
    }

    /// The rest of the time that the step asked for. It is zero when that is over.
    pub fn remaining(&self) -> Duration {
        self.until.since(self.lease.shared.now())
    }

    /// Whether the step may still act as the master: its time is not over, and its node runs. A node that resigns or leaves waits for the
    /// step. One that is shut down, or that ends for another reason, does not.
    pub fn is_valid(&self) -> bool {
        self.lease.shared.now() < self.until && !self.lease.shared.lock().is_void(self.lease.term)
    }
}

/// A step would take longer than this node may act as the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[non_exhaustive]
#[error("the step needs {needed:?}, but the lease of this master has only {left:?} left; try again once it is renewed")]
pub struct LeaseTooShort {
    /// How long the step needs.
    pub needed: Duration,
    /// How long the lease lasts; zero if it has ended.
    pub left: Duration,
}

/// Work of a master. A node that resigns or leaves waits until this is dropped.
#[derive(Debug)]
struct Working {
    shared: Arc<Shared>,
}

impl Working {
    /// Begins work under the lease, if it is valid.
    fn begin(lease: &Lease) -> Option<Self> {
        let mut state = lease.shared.lock();
        state.lease_end(lease.term, lease.shared.now())?;
        state.begin_work();
        Some(Self { shared: lease.shared.clone() })
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.shared.end_work();
    }
}

#[cfg(test)]
mod tests;
