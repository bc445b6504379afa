//! A bounded number of permits, each of which ends by being dropped.

use async_channel::{self as channel, Receiver, Sender};

/// Gives out so many permits at a time. All clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Permits {
    taken: Sender<()>,
    ended: Receiver<()>,
}

impl Permits {
    pub(crate) fn new(count: usize) -> Self {
        let (taken, ended) = channel::bounded(count.max(1));
        Self { taken, ended }
    }

    /// Waits for a permit. It holds a place in a bounded channel until it is dropped.
    pub(crate) async fn take(&self) -> Permit {
        // The receiver is alive.
        let _ = self.taken.send(()).await;
        Permit(self.ended.clone())
    }
}

/// A permission that ends by being dropped.
#[derive(Debug)]
pub(crate) struct Permit(Receiver<()>);

impl Drop for Permit {
    fn drop(&mut self) {
        let _ = self.0.try_recv();
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn a_permit_that_has_ended_is_free_again() {
        block_on(async {
            let permits = Permits::new(4);
            let mut taken = Vec::new();
            while let Some(permit) = poll_once(permits.take()).await {
                taken.push(permit);
            }
            assert_eq!(taken.len(), 4);
            taken.pop();
            assert!(poll_once(permits.take()).await.is_some());
        });
    }

    #[test]
    fn there_is_always_one_permit() {
        assert!(block_on(poll_once(Permits::new(0).take())).is_some());
    }
}
