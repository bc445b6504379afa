//! A node on a runtime: how it starts, and the loop of its driver.

use std::{io, panic::AssertUnwindSafe, pin::pin, sync::Arc, task::Context};

use async_channel::{self as channel, Receiver};
use formation_core::{Address, Config, Formation, Input, Origin, StopReason, Timestamp};
use futures_lite::future::{self, FutureExt, pending, yield_now};
use tracing::Instrument;

use crate::{
    accept::{AcceptPlace, AcceptPlaces, accept},
    clock::Clock,
    descriptors::{fit, open_files},
    driver::{Driver, Remains, Report},
    ending::Ending,
    environment::Environment,
    handle::{ClusterHandle, Request},
    handover::Handover,
    log::Log,
    mastership::keep,
    opening::Opening,
    recorder::Recording,
    runtime::{ByteStream, Runtime},
    shared::Publisher,
    start::StartError,
    store::Store,
    tasks::{self, Tasks},
    transport::Transport,
    turns::{Source, Turns},
};

/// How many reports the driver handles before it takes a new connection.
const REPORTS: usize = 256;
/// How many inputs the driver handles before it lets the other tasks of its thread run.
const INPUTS_AT_ONCE: usize = 64;
/// How many bytes the driver receives before it does so.
const BYTES_AT_ONCE: usize = 64 * 1024;

/// Prepares a node, and returns its handle and its driver. The node runs for as long as the driver is polled; dropping the
/// driver ends the node like a crash, with all of its tasks and sockets. `into_io` converts the transport's stream into a
/// [`ByteStream`].
///
/// The driver is not cancel safe: to drop it is to end the node.
///
/// The limits of connections and of streams are lowered to what the process may open, and the log says so about the connections.
///
/// With a [`state_dir`](formation_core::ConfigBuilder::state_dir) it waits for the disk: it returns once the votes of the
/// last run are read and the new run is recorded.
///
/// # Errors
/// As [`Environment::begin`], and if the node cannot run here. Nothing is running then, and nothing that was kept has changed.
pub fn start_node<R, T, D>(
    config: Config,
    transport: T,
    environment: &Environment,
    into_io: fn(T::Stream) -> D,
) -> Result<(ClusterHandle, impl Future<Output = ()> + Send + use<R, T, D>), StartError>
where
    R: Runtime,
    T: Transport,
    D: ByteStream,
{
    R::check().and_then(|()| transport.check()).map_err(StartError::Runtime)?;
    let (config, lowered) = fit(config, open_files());
    let (start, store) = environment.begin(&config)?;
    let clock = environment.node_clock();
    let formation = Formation::new(config, start, clock.now());
    let log = Log::new(formation.node());
    if let Some(lowered) = lowered {
        log.connections_lowered(lowered);
    }
    if let Some(dir) = formation.config().state_dir()
        && store.as_ref().is_some_and(Store::is_new)
    {
        log.state_dir_is_empty(&dir.to_path_buf());
    }
    warn_about(&formation, store.is_some(), &transport, &log);
    let (publisher, shared, events) = Publisher::new(&formation, clock.clone());
    let (handle, requests) = ClusterHandle::new(&formation, shared, events);
    // Each connection has a few reports on the way at most, so the limit of connections is the limit of these, too.
    let (to_driver, reports) = channel::unbounded();
    let places = AcceptPlaces::new(formation.config().limits(), formation.config().timing());
    let settings = (publisher.shared(), formation.config().timing());
    let tasks = Tasks::<R, T, D>::new(Arc::new(transport), settings, into_io, to_driver, log.clone());
    let recording = Recording::begin(environment, &formation, &log);
    let driver = Driver::new(formation, tasks, store, log.clone(), publisher).recorded(recording);
    let sources = Sources { turns: Turns::new(), requests: Inbox(requests), reports: Inbox(reports) };
    let node = Node { clock, places, sources, handover: None, keeper: None, driver };
    Ok((handle, supervise(node.run(), log)))
}

/// Warns about a configuration that works, and may not be what somebody wants.
fn warn_about(formation: &Formation, is_durable: bool, transport: &impl Transport, log: &Log) {
    let (config, electorate) = (formation.config(), formation.electorate());
    if electorate.voters != *config.seeds() {
        log.voters_are_not_the_seeds(electorate, config);
    }
    if electorate.voters.contains(config.address()) && !is_durable {
        log.votes_in_memory();
    }
    if config.keys().is_empty() && transport.is_plain() && !is_on_this_machine(config.address()) {
        log.peers_prove_nothing(config.address());
    }
}

/// Whether only this machine can dial the address.
fn is_on_this_machine(address: &Address) -> bool {
    let name_is_local = || address.host() == "localhost" || address.host().ends_with(".localhost");
    address.ip().map_or_else(name_is_local, |ip| ip.is_loopback())
}

/// Runs the driver in the span of its node. A panic, for example in the transport, ends the node and is logged; the publisher
/// of the driver has told the application by then.
async fn supervise(driver: impl Future<Output = ()> + Send, log: Log) {
    let span = log.span().clone();
    let watched = async {
        if let Err(panic) = AssertUnwindSafe(driver).catch_unwind().await {
            log.panicked(tasks::message(&*panic));
        }
    };
    watched.instrument(span).await;
}

/// Where inputs come from, beside timers and accepted connections.
struct Sources<S> {
    turns: Turns,
    requests: Inbox<Request>,
    reports: Inbox<Report<S>>,
}

/// The driver's end of a channel. Dropping it drops what is in the channel as well, which would live as long as a sender: nobody waits
/// for an answer any more, and no socket stays open.
struct Inbox<M>(Receiver<M>);

impl<M> Drop for Inbox<M> {
    fn drop(&mut self) {
        self.0.close();
        while self.0.try_recv().is_ok() {}
    }
}

type Accepted<S> = io::Result<(Opening<S>, AcceptPlace)>;

/// The next thing to be handled.
enum Next<S> {
    Due,
    Request(Request),
    Report(Report<S>),
    Accepted(Accepted<S>),
}

impl<S> Sources<S> {
    /// Waits for the source whose turn it is.
    async fn next(&mut self, due: impl Future<Output = ()>, accepting: impl Future<Output = Accepted<S>>) -> Next<S> {
        let mut due = pin!(due);
        let mut request = pin!(received(&self.requests.0));
        let mut report = pin!(received(&self.reports.0));
        let mut accepting = pin!(accepting);
        let take = |cx: &mut Context<'_>| {
            self.turns.take(|source| match source {
                Source::Timers => due.as_mut().poll(cx).map(|()| Next::Due),
                Source::Requests => request.as_mut().poll(cx).map(Next::Request),
                Source::Reports => report.as_mut().poll(cx).map(Next::Report),
                Source::Accepts => accepting.as_mut().poll(cx).map(Next::Accepted),
            })
        };
        future::poll_fn(take).await
    }
}

/// Nothing comes from a channel that has no sender any more.
async fn received<M>(channel: &Receiver<M>) -> M {
    match channel.recv().await {
        Ok(message) => message,
        Err(_) => pending().await,
    }
}

struct Node<R: Runtime, T: Transport, D: ByteStream> {
    clock: Clock,
    places: AcceptPlaces,
    sources: Sources<T::Stream>,
    /// The node is about to resign or to leave.
    handover: Option<Handover>,
    /// It reports the end of a lease on time.
    keeper: Option<R::Task>,
    /// The last field: its publisher announces that everything is free.
    driver: Driver<Tasks<R, T, D>>,
}

impl<R, T, D> Node<R, T, D>
where
    R: Runtime,
    T: Transport,
    D: ByteStream,
{
    /// Runs until the node has stopped and everything is free, or the future is dropped.
    async fn run(mut self) {
        let (shared, clock) = (self.driver.shared(), self.clock.clone());
        self.keeper = Some(R::spawn(keep::<R>(shared.clone())));
        let served = async {
            self.serve().await;
            true
        };
        let late = async {
            shared.ending.passed::<R>(&clock).await;
            false
        };
        if !future::or(served, late).await {
            self.driver.stop_at_limit();
        }
        self.finish(&shared.ending).await;
    }

    /// Handles inputs until the node has stopped.
    async fn serve(&mut self) {
        self.driver.handle_own(self.clock.now(), Input::Tick);
        let mut accepting = Box::pin(self.accept(false));
        let mut spent = Spent::default();
        while !self.driver.is_stopped() {
            // Listen first and look second, so that no end of work gets lost in between.
            let idle = self.idle();
            self.hand_over();
            if self.driver.is_stopped() {
                return;
            }
            let due = due::<R>(self.next_deadline(), &self.clock).or(idle);
            match self.sources.next(due, accepting.as_mut()).await {
                Next::Due => self.driver.handle_own(self.clock.now(), Input::Tick),
                Next::Report(report) => {
                    spent.received(&report);
                    self.driver.report(self.clock.now(), report);
                }
                Next::Request(Request::SetVoters(voters, reply)) => {
                    // It fails if the caller has stopped waiting.
                    let _ = reply.try_send(self.driver.set_voters(self.clock.now(), voters));
                }
                Next::Request(Request::Explain(reply)) => {
                    // It fails if the caller has stopped waiting.
                    let _ = reply.try_send(self.driver.explain());
                }
                Next::Request(Request::Discover(name, source, reply)) => {
                    // It fails if the caller has stopped waiting.
                    let _ = reply.try_send(self.driver.discover(name, source));
                }
                Next::Request(Request::OpenStream(to, name, reply)) => {
                    self.driver.open_stream(self.clock.now(), (to, name), reply);
                }
                Next::Request(Request::ServeStreams(name, reply)) => {
                    self.driver.serve_streams(self.clock.now(), name, &reply);
                }
                Next::Request(Request::ShutDown) => self.driver.stop(StopReason::ShutDown),
                Next::Request(Request::Command(command, reply)) if Handover::is_begun_by(&command) => {
                    let (shared, now) = (self.driver.shared(), self.clock.now());
                    self.handover.get_or_insert_with(|| Handover::begin(&shared, now)).add(&command, reply);
                }
                Next::Request(Request::Command(command, reply)) => {
                    let result = self.driver.handle(self.clock.now(), Input::Command(command));
                    // It fails if the caller has stopped waiting.
                    let _ = reply.try_send(result);
                }
                Next::Accepted(accepted) => {
                    accepting.set(self.accept(accepted.is_err()));
                    self.accepted(accepted);
                }
            }
            if spent.turn_is_over() {
                yield_now().await;
            }
        }
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        let handover = self.handover.as_ref().map(|handover| handover.looks_again_at(self.clock.now()));
        self.driver.next_deadline().into_iter().chain(handover).min()
    }

    /// Resolves when nothing depends on the lease of a node that is about to resign or to leave.
    fn idle(&self) -> impl Future<Output = ()> + Send + use<R, T, D> {
        let idle = self.handover.as_ref().map(|_| self.driver.shared().becomes_idle());
        async {
            match idle {
                Some(idle) => idle.await,
                None => pending().await,
            }
        }
    }

    /// Resigns or leaves as soon as nothing of the application depends on the lease. A better master (L8) gets the mastership in the same
    /// way as if the application had asked for that.
    fn hand_over(&mut self) {
        let is_asked = self.driver.take_better_master();
        if !is_asked && self.handover.is_none() {
            return;
        }
        let (shared, now) = (self.driver.shared(), self.clock.now());
        if is_asked {
            self.handover.get_or_insert_with(|| Handover::begin(&shared, now));
        }
        let Some(handover) = self.handover.take_if(|handover| handover.is_ready(&shared, now)) else { return };
        let result = self.driver.handle(now, Input::Command(handover.command()));
        handover.end(&shared, &result);
    }

    /// Owns all that it needs, so that it goes on while other inputs are handled.
    fn accept(&self, has_failed: bool) -> impl Future<Output = Accepted<T::Stream>> + Send + use<R, T, D> {
        accept::<R, T>(self.driver.io.transport(), self.places.clone(), has_failed)
    }

    fn accepted(&mut self, accepted: Accepted<T::Stream>) {
        match accepted {
            Ok((opening, place)) => {
                // First everything that was read on the older connections, of which the core may have to close one.
                for _ in 0..self.sources.reports.0.len().min(REPORTS) {
                    if let Ok(report) = self.sources.reports.0.try_recv() {
                        self.driver.report(self.clock.now(), report);
                    }
                }
                self.driver.opened(self.clock.now(), opening, Origin::Accepted, Some(place));
            }
            Err(error) => self.driver.accept_failed(self.clock.now(), &error),
        }
    }

    /// Waits until nothing of a node that has stopped is left. The connections that it has closed may still deliver the last bytes.
    async fn finish(self, ending: &Ending) {
        let Self { clock, places: _, sources, handover, keeper, driver } = self;
        // Callers that wait for one of them learn that the node has stopped.
        drop((sources, handover));
        // The first one here is dropped last: the publisher announces that everything else is free.
        let Remains { publisher: _publisher, log, recording, store, closing, open, io } = driver.end();
        for connection in open {
            connection.cut().await;
        }
        if let Some(keeper) = keeper {
            R::cancel(keeper).await;
        }
        let mut write = io.finish().await;
        for connection in closing {
            connection.finish(ending.passed::<R>(&clock)).await;
        }
        loop {
            let written = async {
                write.end().await;
                None
            };
            let late = async { Some(ending.passed::<R>(&clock).await) };
            match future::or(written, late).await {
                None => break,
                Some(limit) if write.is_in_progress() => {
                    log.disk_is_late();
                    ending.late(limit);
                }
                // It ends in a moment.
                Some(_) => yield_now().await,
            }
        }
        // The state_dir does not wait for the recording.
        drop(store);
        let late = async {
            ending.passed::<R>(&clock).await;
        };
        recording.finish::<R>().or(late).await;
    }
}

/// The inputs that the driver has handled since it last let others run.
#[derive(Debug, Default)]
struct Spent {
    inputs: usize,
    bytes: usize,
}

impl Spent {
    fn received<S>(&mut self, report: &Report<S>) {
        if let Report::Received { chunk, .. } = report {
            self.bytes += chunk.len();
        }
    }

    /// Counts one more input. If that is enough for a turn, the next turn begins.
    fn turn_is_over(&mut self) -> bool {
        self.inputs += 1;
        let is_over = self.inputs >= INPUTS_AT_ONCE || self.bytes >= BYTES_AT_ONCE;
        if is_over {
            *self = Self::default();
        }
        is_over
    }
}

async fn due<R: Runtime>(deadline: Option<Timestamp>, clock: &Clock) {
    match deadline {
        Some(deadline) => R::sleep(deadline.since(clock.now())).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
