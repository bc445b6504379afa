//! The state that the driver publishes and that all handles of a node read.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use async_broadcast as broadcast;
use event_listener::Event as Changed;
use formation_core::{Event, Formation, Leadership, MembersView, Phase, Status, StopReason, Timestamp};

use crate::{
    ending::Ending,
    handle::{EVENT_BUFFER, Stopped},
};

/// How many of the events that wait for a slow subscriber may be about peers that have proven nothing.
const UNPROVEN_EVENTS: usize = 64;

/// The latest state of a node.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) view: MembersView,
    pub(crate) status: Status,
    pub(crate) leadership: Option<Leadership>,
    /// How many events were not reported.
    pub(crate) suppressed: u64,
    /// The node does nothing any more. There will be no other state.
    stopped: bool,
}

impl State {
    /// What is true of a node that does nothing any more. The view stays the last one.
    fn end(&mut self) {
        self.stopped = true;
        self.leadership = None;
        let status = &mut self.status;
        status.phase = Phase::Stopped;
        (status.master, status.master_term, status.can_vote) = (None, None, false);
        (status.links, status.pending_connections, status.partial_bytes) = (0, 0, 0);
    }

    pub(crate) fn has_stopped(&self) -> bool {
        self.stopped
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// The view, the master or `stopped` has changed. Nobody waits for anything else.
    changed: Changed,
    pub(crate) ending: Ending,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and each field is valid by itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready` finds in the state what it looks for, or the node does nothing any more.
    pub(crate) async fn wait<T>(&self, mut ready: impl FnMut(&State) -> Option<T>) -> Result<T, Stopped> {
        loop {
            // Listen first and look second, so that no change gets lost in between.
            let changed = self.changed.listen();
            {
                let state = self.lock();
                if let Some(found) = ready(&state) {
                    return Ok(found);
                }
                if state.stopped {
                    return Err(Stopped);
                }
            }
            changed.await;
        }
    }
}

/// The driver's end. Dropping it ends every wait and every stream of events.
#[derive(Debug)]
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    events: broadcast::Sender<Event>,
    /// How many events were published.
    published: u64,
    /// The numbers of those in the buffer that are about unproven peers.
    unproven: VecDeque<u64>,
}

impl Publisher {
    /// The publisher of a node, the state that it publishes, and the receiver of the first event and of all others.
    pub(crate) fn new(formation: &Formation, now: Timestamp) -> (Self, Arc<Shared>, broadcast::Receiver<Event>) {
        let state = State {
            view: formation.view().clone(),
            status: formation.status(),
            leadership: formation.leadership(now),
            suppressed: 0,
            stopped: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Changed::new(), ending: Ending::default() });
        let (mut events, receiver) = broadcast::broadcast(EVENT_BUFFER);
        events.set_overflow(true);
        events.set_await_active(false);
        let publisher = Self { shared: shared.clone(), events, published: 0, unproven: VecDeque::new() };
        (publisher, shared, receiver)
    }

    /// The state that this publishes.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Whether it is published that the node does nothing any more.
    pub(crate) fn has_stopped(&self) -> bool {
        self.shared.lock().has_stopped()
    }

    /// Publishes the state of the core, unless the node has stopped: the core may know nothing of that.
    pub(crate) fn publish_state(&self, formation: &Formation, now: Timestamp) {
        let mut state = self.shared.lock();
        if state.has_stopped() {
            return;
        }
        let status = formation.status();
        let master = |status: &Status| (status.master.clone(), status.master_term);
        let is_news = state.view.id() != formation.view().id() || master(&state.status) != master(&status);
        if is_news {
            state.view = formation.view().clone();
        }
        state.status = status;
        state.leadership = formation.leadership(now);
        drop(state);
        if is_news {
            self.shared.changed.notify(usize::MAX);
        }
    }

    pub(crate) fn publish_event(&mut self, event: Event) {
        if let Some(reason) = event.stop_reason() {
            self.shared.lock().end();
            self.shared.changed.notify(usize::MAX);
            self.shared.ending.stopped(reason);
        }
        // It fails only if there is no subscriber. A full buffer drops its oldest event and counts it.
        if self.events.try_broadcast(event).is_ok() {
            self.published += 1;
        }
    }

    /// Publishes an event about a peer that has proven nothing, unless it would take the place of another event.
    pub(crate) fn publish_unproven(&mut self, event: Event) {
        let oldest = self.published - self.events.len() as u64;
        self.unproven.retain(|number| *number >= oldest);
        if self.events.is_full() || self.unproven.len() >= UNPROVEN_EVENTS {
            return self.suppress_event();
        }
        self.unproven.push_back(self.published);
        self.publish_event(event);
    }

    /// Counts an event that is not reported.
    pub(crate) fn suppress_event(&self) {
        self.shared.lock().suppressed += 1;
    }
}

impl Publisher {
    /// Publishes that the node does nothing any more, and why.
    pub(crate) fn stop(&mut self, reason: StopReason) {
        self.publish_event(Event::Stopped { reason });
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if !self.has_stopped() {
            self.stop(if thread::panicking() { StopReason::Failed } else { StopReason::ShutDown });
        }
        self.events.close();
        self.shared.ending.gone();
    }
}

#[cfg(test)]
mod tests {
    use formation_core::{CloseReason, Config, ConnId, Incarnation, Start};

    use super::*;

    /// Whatever the rate: a subscriber that reads nothing for long.
    #[test]
    fn unproven_events_take_few_places_and_only_free_ones() {
        let config = Config::single("test", "a", "a:1").build().unwrap();
        let node = Formation::new(config, Start::new(Incarnation(1), 1), Timestamp::ZERO);
        let (mut publisher, shared, mut receiver) = Publisher::new(&node, Timestamp::ZERO);
        let unproven = |conn| Event::ConnClosed {
            conn: ConnId(conn),
            dialed: None,
            peer_addr: None,
            reason: CloseReason::WrongMagic,
        };
        publisher.publish_event(Event::PersistFailed);
        (0..10_000).for_each(|conn| publisher.publish_unproven(unproven(conn)));
        assert_eq!(receiver.len(), 1 + UNPROVEN_EVENTS);
        assert_eq!(shared.lock().suppressed, 10_000 - UNPROVEN_EVENTS as u64);
        while receiver.len() < EVENT_BUFFER {
            publisher.publish_event(Event::PersistFailed);
        }
        // Its places are free again, but the buffer is full.
        assert_eq!(receiver.try_recv(), Ok(Event::PersistFailed));
        publisher.publish_event(Event::PersistFailed);
        publisher.publish_unproven(unproven(0));
        assert_eq!(receiver.try_recv(), Ok(unproven(0)), "the oldest is still there");
        while receiver.try_recv().is_ok() {}
        publisher.publish_unproven(unproven(1));
        assert_eq!(receiver.try_recv(), Ok(unproven(1)));
    }
}
