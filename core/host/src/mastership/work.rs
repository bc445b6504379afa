//! Work that is done only by the master.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
};

use super::{Lease, Working};
use crate::handle::{ClusterHandle, Stopped};

/// Runs the work whenever this node is the master, until it is done once.
pub(crate) async fn run<W: Future>(
    node: &ClusterHandle,
    mut work: impl FnMut(Lease) -> W,
) -> Result<W::Output, Stopped> {
    loop {
        let lease = node.wait_until_master().await?;
        // It is dropped behind the work.
        let Some(_working) = Working::begin(&lease) else { continue };
        let work = pin!(work(lease.clone()));
        if let Some(done) = while_valid(&lease, work).await {
            return Ok(done);
        }
    }
}

/// Polls the work while the lease is valid. `None`: the lease has ended first.
async fn while_valid<T>(lease: &Lease, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let mut ended = pin!(lease.work_must_end());
    poll_fn(|cx| {
        // First: the work must not run on a lease that has ended. `ended` only wakes this task.
        if ended.as_mut().poll(cx).is_ready() || !lease.may_work() {
            return Poll::Ready(None);
        }
        work.as_mut().poll(cx).map(Some)
    })
    .await
}
