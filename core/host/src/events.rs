//! The events of a node, for the application.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_broadcast as broadcast;
use formation_core::Event;
use futures_lite::Stream;

use crate::{metrics::table::SKIPPED, shared::Shared};

/// How many events wait for a slow subscriber. After that the oldest is dropped for each new one.
pub const EVENT_BUFFER: usize = 1024;

/// Why there is no event to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// The subscriber was too slow, and has lost this many events. The next call returns the oldest event that is left.
    #[error("{0} events were skipped; read faster, or look at the view instead")]
    Skipped(u64),
    /// Every event was read, and everything that the node has used is free.
    #[error("the node has stopped, and all of its events were read")]
    Stopped,
}

/// The events of one node, in order. The last one is [`Event::Stopped`], whatever has ended the node.
///
/// It is a [`Stream`], too. It never yields [`RecvError::Stopped`]: it ends instead.
#[derive(Debug)]
#[must_use = "events are buffered for it, and lost with it"]
pub struct Events {
    events: broadcast::Receiver<Arc<Event>>,
    shared: Arc<Shared>,
}

impl Events {
    pub(crate) fn new(events: broadcast::Receiver<Arc<Event>>, shared: Arc<Shared>) -> Self {
        Self { events, shared }
    }

    /// Waits for the next event.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) {
    /// use formation_host::{EVENT_BUFFER, Events, RecvError};
    ///
    /// let mut events: Events = cluster.events();
    /// loop {
    ///     match events.recv().await {
    ///         Ok(event) => println!("this node {event}"),
    ///         Err(RecvError::Skipped(count)) => println!("{count} are missing: more than {EVENT_BUFFER} had to wait"),
    ///         Err(RecvError::Stopped) => break,
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// Cancel safe: an event is taken only when it is returned.
    ///
    /// # Errors
    /// [`RecvError::Skipped`] if the subscriber was more than [`EVENT_BUFFER`] events behind. [`RecvError::Stopped`] once every event
    /// was read and everything that the node has used is free.
    pub async fn recv(&mut self) -> Result<Event, RecvError> {
        poll_fn(|cx| self.poll_event(cx)).await.unwrap_or(Err(RecvError::Stopped))
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, RecvError>>> {
        let Self { events, shared } = self;
        Pin::new(events).poll_recv(cx).map(|next| match next? {
            Ok(event) => Some(Ok(Arc::unwrap_or_clone(event))),
            Err(broadcast::RecvError::Overflowed(count)) => {
                shared.lock().tallies.count(&SKIPPED, "", count);
                Some(Err(RecvError::Skipped(count)))
            }
            Err(broadcast::RecvError::Closed) => None,
        })
    }
}

impl Stream for Events {
    type Item = Result<Event, RecvError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use formation_core::{Config, Formation, Incarnation, Start, StopReason, Timestamp};
    use futures_lite::{
        StreamExt,
        future::{block_on, poll_once},
    };

    use super::*;
    use crate::{clock::Clock, shared::Publisher};

    fn published() -> (Publisher, Events) {
        let config = Config::single("test", "a", "a:1").build().unwrap();
        let node = Formation::new(config, Start::new(Incarnation(1), 1), Timestamp::ZERO);
        let (publisher, shared, events) = Publisher::new(&node, Clock::start());
        (publisher, Events::new(events, shared))
    }

    #[test]
    fn a_slow_subscriber_reads_the_rest_and_then_the_end() {
        let (mut publisher, mut events) = published();
        (0..EVENT_BUFFER + 3).for_each(|_| publisher.publish_event(Event::PersistFailed));
        drop(publisher);
        block_on(async {
            // The last event of all has taken one more place.
            assert_eq!(events.recv().await, Err(RecvError::Skipped(4)));
            for _ in 1..EVENT_BUFFER {
                assert_eq!(events.recv().await, Ok(Event::PersistFailed));
            }
            assert_eq!(events.recv().await, Ok(Event::Stopped { reason: StopReason::ShutDown }));
            assert_eq!(events.recv().await, Err(RecvError::Stopped));
            assert_eq!(events.recv().await, Err(RecvError::Stopped));
        });
    }

    #[test]
    fn a_stream_of_events_counts_those_skipped_and_ends() {
        let (mut publisher, events) = published();
        (0..EVENT_BUFFER + 1).for_each(|_| publisher.publish_event(Event::PersistFailed));
        drop(publisher);
        let all: Vec<_> = block_on(events.collect());
        assert_eq!((all.len(), all[0].clone()), (1 + EVENT_BUFFER, Err(RecvError::Skipped(2))));
        assert_eq!(all.last(), Some(&Ok(Event::Stopped { reason: StopReason::ShutDown })));
    }

    #[test]
    fn an_event_is_not_lost_with_a_cancelled_call() {
        let (mut publisher, mut events) = published();
        {
            let mut waiting = pin!(events.recv());
            assert_eq!(block_on(poll_once(&mut waiting)), None);
            publisher.publish_event(Event::PersistDelayed);
        }
        publisher.publish_event(Event::PersistRecovered);
        assert_eq!(block_on(events.recv()), Ok(Event::PersistDelayed));
        assert_eq!(block_on(events.next()), Some(Ok(Event::PersistRecovered)));
        assert_eq!(block_on(poll_once(events.next())), None);
    }
}
