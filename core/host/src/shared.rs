//! The state that the driver publishes and that all handles of a node read.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    thread,
    time::Duration,
};

use async_broadcast as broadcast;
use event_listener::{Event as Changed, EventListener};
use formation_core::{
    Config, Electorate, Event, Formation, Leadership, LossReason, MembersView, Phase, Status, StopReason, Term,
    Timestamp,
};

use crate::{
    clock::Clock,
    discovery::SourceReport,
    ending::Ending,
    events::EVENT_BUFFER,
    handle::Stopped,
    history::History,
    metrics::{
        self, Tallies,
        table::{ELECTIONS, LOSSES, MEMBER_CHANGES, Metric, ROUND_TRIPS, VIEWS, WITHOUT_MASTER_TIMES},
    },
};

/// How many of the events that wait for a slow subscriber may be about peers that have proven nothing.
const UNPROVEN_EVENTS: usize = 64;

/// The latest state of a node.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) view: MembersView,
    pub(crate) status: Status,
    /// The voters, as far as the node knows.
    pub(crate) electorate: Electorate,
    pub(crate) leadership: Option<Leadership>,
    /// The lease that was last announced to those who wait for a change.
    announced: Option<Leadership>,
    /// How much earlier than for the other nodes a lease ends for the application.
    margin: Duration,
    /// The node is about to resign or to leave: there is no lease for the application any more.
    hands_over: bool,
    /// Then work with a guard goes on until here: a margin before the end that the lease had when that began.
    work_until: Timestamp,
    /// How many works of the application run on the lease.
    works: usize,
    /// How many guards of the application protect a step.
    guards: usize,
    /// The last mastership of this node that has ended, and why.
    last_loss: Option<(Term, LossReason)>,
    /// What discovery has found.
    pub(crate) sources: Vec<SourceReport>,
    /// How many events were not reported.
    pub(crate) suppressed: u64,
    /// Since when the node has no master, if it has none.
    pub(crate) without_master_since: Option<Timestamp>,
    pub(crate) history: History,
    /// What was counted.
    pub(crate) tallies: Tallies,
    /// The node does nothing any more. There will be no other state.
    stopped: bool,
}

impl State {
    /// What is true of a node that does nothing any more. The view stays the last one.
    fn end(&mut self, now: Timestamp) {
        self.stopped = true;
        self.leadership = None;
        let status = &mut self.status;
        status.phase = Phase::Stopped;
        (status.master, status.master_term, status.can_vote) = (None, None, false);
        (status.links, status.pending_connections, status.partial_bytes) = (0, 0, 0);
        self.without_master_since.get_or_insert(now);
    }

    pub(crate) fn has_stopped(&self) -> bool {
        self.stopped
    }

    /// The mastership on which the application may act now, with the end of its lease for the application.
    pub(crate) fn usable(&self, now: Timestamp) -> Option<Leadership> {
        self.within_margin(now).filter(|_| !self.hands_over)
    }

    /// When the lease of this term ends for the application. `None`: the node does not have it now.
    pub(crate) fn lease_end(&self, term: Term, now: Timestamp) -> Option<Timestamp> {
        self.usable(now).filter(|usable| usable.term == term).map(|usable| usable.valid_until)
    }

    /// Whether work of this term may go on: the node has the lease. A node that is about to resign or to leave lets its steps end first.
    pub(crate) fn may_work(&self, term: Term, now: Timestamp) -> bool {
        let is_valid = self.within_margin(now).is_some_and(|leadership| leadership.term == term);
        is_valid && (!self.hands_over || (self.guards > 0 && now < self.work_until))
    }

    fn within_margin(&self, now: Timestamp) -> Option<Leadership> {
        let mut leadership = self.leadership?;
        leadership.valid_until = self.margin_before(leadership.valid_until);
        (now < leadership.valid_until).then_some(leadership)
    }

    fn margin_before(&self, end: Timestamp) -> Timestamp {
        let margin = u64::try_from(self.margin.as_micros()).unwrap_or(u64::MAX);
        Timestamp::from_micros(end.as_micros().saturating_sub(margin))
    }

    /// Why a mastership that was usable is not any more. `None`: the driver is about to publish it.
    pub(crate) fn loss_of(&self, lost: Leadership, now: Timestamp) -> Option<LossReason> {
        let reported = self.last_loss.filter(|(term, _)| *term == lost.term).map(|(_, reason)| reason);
        let is_newer = self.leadership.is_some_and(|leadership| leadership.term != lost.term);
        let others = [
            (self.hands_over, LossReason::Resigned),
            (is_newer, LossReason::NewerTerm),
            (now >= lost.valid_until, LossReason::LeaseExpired),
            (self.stopped, LossReason::Ended),
        ];
        reported.or_else(|| others.into_iter().find(|(is_true, _)| *is_true).map(|(_, reason)| reason))
    }

    /// Whether those who wait for a change want to know of this lease. A master that needs no quorum renews its lease with every input,
    /// so small steps are none.
    fn is_news(&self, lease: Option<Leadership>) -> bool {
        match (self.announced, lease) {
            (None, None) => false,
            (Some(known), Some(new)) if known.term == new.term => {
                new != known && new.valid_until.since(known.valid_until) >= self.margin
            }
            _ => true,
        }
    }

    /// Whether nothing of this term protects the work of the application any more, whatever its lease was: the node has stopped, or was
    /// a solo master that has given way (E8).
    pub(crate) fn is_void(&self, term: Term) -> bool {
        self.stopped || self.last_loss == Some((term, LossReason::GaveWay))
    }

    /// The application begins work on the lease.
    pub(crate) fn begin_work(&mut self) {
        self.works += 1;
    }

    /// The application begins a step that must not be cut short.
    pub(crate) fn begin_step(&mut self) {
        self.guards += 1;
    }

    /// Whether nothing of the application depends on the lease.
    fn is_idle(&self) -> bool {
        self.works == 0 && self.guards == 0
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    clock: Clock,
    state: Mutex<State>,
    /// The view, the master, the electorate or `stopped` has changed.
    changed: Changed,
    /// The lease has begun, was renewed, or has ended.
    lease_changed: Changed,
    /// There is one more event.
    reported: Changed,
    /// Nothing depends on the lease any more.
    idle: Changed,
    pub(crate) ending: Ending,
}

impl Shared {
    /// This moment on the clock of the node.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and each field is valid by itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready` finds in the state what it looks for: the view, the master or the electorate. Ends when the node does nothing any more.
    pub(crate) async fn wait<T>(&self, ready: impl FnMut(&State) -> Option<T>) -> Result<T, Stopped> {
        self.wait_on(&self.changed, ready).await
    }

    /// Waits until `ready` finds in the state what it looks for: the lease.
    pub(crate) async fn wait_for_lease<T>(&self, ready: impl FnMut(&State) -> Option<T>) -> Result<T, Stopped> {
        self.wait_on(&self.lease_changed, ready).await
    }

    /// Waits until `ready` finds in the state what it looks for: an event.
    pub(crate) async fn wait_for_event<T>(&self, ready: impl FnMut(&State) -> Option<T>) -> Result<T, Stopped> {
        self.wait_on(&self.reported, ready).await
    }

    /// Resolves with the next change of the view, the master or the electorate, or the end of the node.
    pub(crate) fn changed(&self) -> EventListener {
        self.changed.listen()
    }

    /// Resolves with the next change of the lease.
    pub(crate) fn lease_changed(&self) -> EventListener {
        self.lease_changed.listen()
    }

    /// The lease has ended by the clock.
    pub(crate) fn lease_has_changed(&self) {
        self.lease_changed.notify(usize::MAX);
    }

    /// The application has ended work on the lease.
    pub(crate) fn end_work(&self) {
        self.end_one(|state| state.works -= 1);
    }

    /// The application has ended a step.
    pub(crate) fn end_step(&self) {
        self.end_one(|state| state.guards -= 1);
    }

    fn end_one(&self, end: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        end(&mut state);
        let (is_idle, has_waited) = (state.is_idle(), state.hands_over && state.guards == 0);
        // A task that is woken may take the lock.
        drop(state);
        if is_idle {
            self.idle.notify(usize::MAX);
        }
        if has_waited {
            // Work that has only waited for the step ends now.
            self.lease_has_changed();
        }
    }

    /// The application loses its lease, because the node is about to resign or to leave. Returns the end of the lease for the other nodes,
    /// and the margin before it. `None`: this node is no master.
    pub(crate) fn begin_handover(&self) -> Option<(Timestamp, Duration)> {
        let mut state = self.lock();
        let lease = state.leadership.map(|leadership| (leadership.valid_until, state.margin));
        state.hands_over = true;
        state.work_until = lease.map_or(Timestamp::ZERO, |(until, _)| state.margin_before(until));
        drop(state);
        self.lease_has_changed();
        lease
    }

    /// The node has resigned. It may be the master again.
    pub(crate) fn end_handover(&self) {
        self.lock().hands_over = false;
        self.lease_has_changed();
    }

    /// Whether nothing of the application depends on the lease any more, or the lease has ended.
    pub(crate) fn may_hand_over(&self, now: Timestamp, until: Timestamp) -> bool {
        let state = self.lock();
        state.is_idle() || state.leadership.is_none() || now >= until
    }

    /// Resolves when nothing of the application depends on the lease any more.
    pub(crate) fn becomes_idle(&self) -> EventListener {
        self.idle.listen()
    }

    async fn wait_on<T>(&self, changes: &Changed, mut ready: impl FnMut(&State) -> Option<T>) -> Result<T, Stopped> {
        let mut listening = Listening::default();
        let mut look = || {
            let state = self.lock();
            ready(&state).map(Ok).or_else(|| state.stopped.then_some(Err(Stopped)))
        };
        poll_fn(|cx| listening.poll_for(cx, || changes.listen(), &mut look)).await
    }
}

/// Listens to changes from one poll to the next.
#[derive(Debug, Default)]
pub(crate) struct Listening(Option<EventListener>);

impl Listening {
    /// Resolves with what `look` finds, now or after a change.
    pub(crate) fn poll_for<T>(
        &mut self,
        cx: &mut Context<'_>,
        listen: impl Fn() -> EventListener,
        mut look: impl FnMut() -> Option<T>,
    ) -> Poll<T> {
        loop {
            // Listen first and look second, so that no change gets lost in between.
            let mut listener = self.0.take().unwrap_or_else(&listen);
            if let Some(found) = look() {
                return Poll::Ready(found);
            }
            if Pin::new(&mut listener).poll(cx).is_pending() {
                self.0 = Some(listener);
                return Poll::Pending;
            }
        }
    }
}

/// The driver's end. Dropping it ends every wait and every stream of events.
#[derive(Debug)]
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    config: Config,
    events: broadcast::Sender<Arc<Event>>,
    /// How many events were published.
    published: u64,
    /// The numbers of those in the buffer that are about unproven peers.
    unproven: VecDeque<u64>,
}

impl Publisher {
    /// The publisher of a node, the state that it publishes, and the receiver of the first event and of all others.
    pub(crate) fn new(formation: &Formation, clock: Clock) -> (Self, Arc<Shared>, broadcast::Receiver<Arc<Event>>) {
        let now = clock.now();
        let state = State {
            view: formation.view().clone(),
            status: formation.status(),
            electorate: formation.electorate().clone(),
            leadership: formation.leadership(now),
            announced: None,
            margin: formation.config().lease_margin(),
            hands_over: false,
            work_until: Timestamp::ZERO,
            works: 0,
            guards: 0,
            last_loss: None,
            sources: Vec::new(),
            suppressed: 0,
            without_master_since: Some(now),
            history: History::new(formation.config().limits()),
            tallies: Tallies::new(formation.config()),
            stopped: false,
        };
        let [changed, lease_changed, reported, idle] = [(); 4].map(|()| Changed::new());
        let (state, ending) = (Mutex::new(state), Ending::default());
        let shared = Arc::new(Shared { clock, state, changed, lease_changed, reported, idle, ending });
        let (mut events, receiver) = broadcast::broadcast(EVENT_BUFFER);
        events.set_overflow(true);
        events.set_await_active(false);
        let config = formation.config().clone();
        let publisher = Self { shared: shared.clone(), config, events, published: 0, unproven: VecDeque::new() };
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
        let is_other_view = state.view.id() != formation.view().id();
        let is_other_electorate = state.electorate.version != formation.electorate().version;
        if is_other_electorate {
            state.electorate = formation.electorate().clone();
        }
        let is_news = is_other_view || is_other_electorate || master(&state.status) != master(&status);
        if is_other_view {
            state.tallies.count(&VIEWS, "", 1);
        }
        if is_news {
            state.view = formation.view().clone();
        }
        for round_trip in formation.round_trips() {
            state.tallies.record(&ROUND_TRIPS, *round_trip);
        }
        if let (Some(since), Some(_)) = (state.without_master_since, &status.master) {
            state.tallies.record(&WITHOUT_MASTER_TIMES, now.since(since));
        }
        state.without_master_since = match status.master {
            Some(_) => None,
            None => state.without_master_since.or(Some(now)),
        };
        let is_other_phase = state.status.phase != status.phase;
        state.status = status;
        let leadership = formation.leadership(now);
        state.leadership = leadership;
        let is_other_lease = state.is_news(leadership);
        if is_other_lease {
            state.announced = leadership;
        }
        self.send_metrics(&mut state, is_news || is_other_phase, now);
        drop(state);
        if is_news {
            self.shared.changed.notify(usize::MAX);
        }
        if is_other_lease {
            self.shared.lease_has_changed();
        }
    }

    /// Sends to the facade what the state shows, if somebody may listen.
    fn send_metrics(&self, state: &mut State, has_changed: bool, now: Timestamp) {
        if cfg!(feature = "metrics") && state.tallies.gauges_are_due(has_changed, now) {
            metrics::send(state, &self.config, now);
        }
    }

    /// Counts something.
    pub(crate) fn count(&self, metric: &Metric, label: &str) {
        self.shared.lock().tallies.count(metric, label, 1);
    }

    /// Records how long something took.
    pub(crate) fn record(&self, metric: &Metric, time: Duration) {
        self.shared.lock().tallies.record(metric, time);
    }

    /// Counts an event.
    fn count_event(&self, event: &Event) {
        match event {
            Event::MasterElected { .. } => self.count(&ELECTIONS, ""),
            Event::MasterLost { reason, .. } => self.count(&LOSSES, &metrics::snake(reason)),
            Event::ViewChanged { changes, .. } => {
                changes.iter().for_each(|change| self.count(&MEMBER_CHANGES, &metrics::change(change)));
            }
            _ => {}
        }
    }

    /// Publishes why a mastership of this node has ended.
    pub(crate) fn lost(&self, term: Term, reason: LossReason) {
        self.shared.lock().last_loss = Some((term, reason));
        self.shared.lease_has_changed();
    }

    pub(crate) fn publish_event(&mut self, event: Event) {
        self.publish(event, false);
    }

    fn publish(&mut self, event: Event, is_unproven: bool) {
        let (now, event) = (self.shared.now(), Arc::new(event));
        self.count_event(&event);
        self.shared.lock().history.push(now, event.clone(), is_unproven);
        if let Some(reason) = event.stop_reason() {
            {
                let mut state = self.shared.lock();
                state.end(now);
                self.send_metrics(&mut state, true, now);
            }
            self.shared.changed.notify(usize::MAX);
            self.shared.lease_has_changed();
            self.shared.ending.stopped(reason);
        }
        self.shared.reported.notify(usize::MAX);
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
        self.publish(event, true);
    }

    pub(crate) fn publish_sources(&self, sources: Vec<SourceReport>) {
        self.shared.lock().sources = sources;
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
        let (mut publisher, shared, mut receiver) = Publisher::new(&node, Clock::start());
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
        assert_eq!(receiver.try_recv(), Ok(Event::PersistFailed.into()));
        publisher.publish_event(Event::PersistFailed);
        publisher.publish_unproven(unproven(0));
        assert_eq!(receiver.try_recv(), Ok(unproven(0).into()), "the oldest is still there");
        while receiver.try_recv().is_ok() {}
        publisher.publish_unproven(unproven(1));
        assert_eq!(receiver.try_recv(), Ok(unproven(1).into()));
    }
}
