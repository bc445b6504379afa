//! The state that the driver publishes and that all handles of a node read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_broadcast as broadcast;
use event_listener::Event as Changed;
use formation_core::{Event, Formation, Leadership, MembersView, Status, Timestamp};

use crate::handle::{EVENT_BUFFER, Stopped};

/// The latest state of a node.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) view: MembersView,
    pub(crate) status: Status,
    pub(crate) leadership: Option<Leadership>,
    /// There will be no other state.
    stopped: bool,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// The view, the master or `stopped` has changed. Nobody waits for anything else.
    changed: Changed,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and each field is valid by itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready` finds in the state what it looks for.
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
}

impl Publisher {
    /// The publisher of a node, the state that it publishes, and the receiver of the first event and of all others.
    pub(crate) fn new(formation: &Formation, now: Timestamp) -> (Self, Arc<Shared>, broadcast::Receiver<Event>) {
        let state = State {
            view: formation.view().clone(),
            status: formation.status(),
            leadership: formation.leadership(now),
            stopped: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Changed::new() });
        let (mut events, receiver) = broadcast::broadcast(EVENT_BUFFER);
        events.set_overflow(true);
        events.set_await_active(false);
        (Self { shared: shared.clone(), events }, shared, receiver)
    }

    pub(crate) fn publish_state(&self, formation: &Formation, now: Timestamp) {
        let mut state = self.shared.lock();
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

    pub(crate) fn publish_event(&self, event: Event) {
        // It fails only if there is no subscriber. A full buffer drops its oldest event and counts it.
        let _ = self.events.try_broadcast(event);
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.events.close();
        let mut state = self.shared.lock();
        state.leadership = None;
        state.stopped = true;
        drop(state);
        self.shared.changed.notify(usize::MAX);
    }
}
