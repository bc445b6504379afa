//! Accepting connections, and how many at a time.

use std::{io, sync::Arc, time::Duration};

use async_channel::{self as channel, Receiver, Sender};
use formation_core::Limits;

use crate::{opening::Opening, runtime::Runtime, transport::Transport};

/// How long nothing is accepted after a failure, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// How many connections may have been accepted without having been read once: a quarter of `Limits::pending_connections`.
///
/// The core closes the oldest connection that has not finished its handshake when there are too many. If many peers connect
/// at once, the first ones would be closed so although their hello has arrived, only because nobody has read it yet.
#[derive(Clone, Debug)]
pub(crate) struct Permits {
    taken: Sender<()>,
    ended: Receiver<()>,
}

impl Permits {
    pub(crate) fn new(limits: &Limits) -> Self {
        let (taken, ended) = channel::bounded((limits.pending_connections / 4).max(1));
        Self { taken, ended }
    }

    /// Waits for a permit. It holds a place in a bounded channel until it is dropped.
    async fn take(&self) -> Permit {
        // The receiver is alive.
        let _ = self.taken.send(()).await;
        Permit(self.ended.clone())
    }
}

/// Permission to accept a connection. It ends by being dropped.
#[derive(Debug)]
pub(crate) struct Permit(Receiver<()>);

impl Drop for Permit {
    fn drop(&mut self) {
        let _ = self.0.try_recv();
    }
}

/// Waits for the next connection of a peer; for a moment longer if the last attempt has failed.
pub(crate) async fn accept<R: Runtime, T: Transport>(
    transport: Arc<T>,
    permits: Permits,
    has_failed: bool,
) -> io::Result<(Opening<T::Stream>, Permit)> {
    if has_failed {
        R::sleep(PAUSE).await;
    }
    let permit = permits.take().await;
    Ok((transport.accept().await?, permit))
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    fn permits(pending_connections: usize) -> Permits {
        Permits::new(&Limits { pending_connections, ..Limits::default() })
    }

    #[test]
    fn a_quarter_of_the_pending_connections_may_be_unread() {
        block_on(async {
            let permits = permits(16);
            let mut taken = Vec::new();
            while let Some(permit) = poll_once(permits.take()).await {
                taken.push(permit);
            }
            assert_eq!(taken.len(), 4);
            taken.pop();
            assert!(poll_once(permits.take()).await.is_some(), "the permit that ended is free again");
        });
    }

    #[test]
    fn there_is_always_one_permit() {
        assert!(block_on(poll_once(permits(1).take())).is_some());
    }
}
