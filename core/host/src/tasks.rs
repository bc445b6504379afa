//! The tasks that a driver starts: dials, connections, and writes to the disk.

use std::{
    any::Any,
    collections::BTreeSet,
    convert::Infallible,
    io,
    panic::AssertUnwindSafe,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_channel::{self as channel, Receiver, Sender};
use formation_core::{Address, ConnId, DialId, HardState, Timing, TlsFailure};
use futures_lite::future::FutureExt;
use tracing::Instrument;

use crate::{
    accept::AcceptPlace,
    connection::Connection,
    discovery::{Answer, AnyDiscovery, ask},
    driver::{Io, Report, SharedStore},
    log::Log,
    opening::Opening,
    persist::Persist,
    resolve::configured,
    runtime::{ByteStream, Runtime, timeout},
    shared::Shared,
    streams::Notifier,
    transport::Transport,
};

/// The least time after which storage that does not answer counts as delayed.
const SLOW_STORAGE: Duration = Duration::from_secs(1);

/// A task that serves one peer has panicked.
#[derive(Debug, thiserror::Error)]
#[error("the transport panicked: {0}")]
pub(crate) struct TransportPanicked(String);

impl TransportPanicked {
    pub(crate) fn new(panic: &(dyn Any + Send)) -> Self {
        Self(message(panic).to_owned())
    }

    /// The panic that has ended a dial or a connection with this error.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// The message of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> &str {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown")
}

/// Starts tasks in the span of their node.
#[derive(Clone)]
pub(crate) struct Spawner<S> {
    reports: Sender<Report<S>>,
    log: Log,
}

impl<S: Send + 'static> Spawner<S> {
    pub(crate) fn new(reports: Sender<Report<S>>, log: Log) -> Self {
        Self { reports, log }
    }

    pub(crate) fn reports(&self) -> &Sender<Report<S>> {
        &self.reports
    }

    /// Starts a task of the node. The node ends if it panics.
    pub(crate) fn spawn<R: Runtime>(&self, task: impl Future<Output = ()> + Send + 'static) -> R::Task {
        let log = self.log.clone();
        self.watch::<R>(task, move |panic| {
            log.panicked(message(panic));
            Report::Panicked
        })
    }

    /// Starts a task that serves one peer. If it panics, the driver gets this report, and the node goes on: the task holds nothing of
    /// the node's state, and the peer may have caused the panic with what it sent.
    pub(crate) fn spawn_for_peer<R: Runtime>(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
        failed: impl FnOnce(io::Error) -> Report<S> + Send + 'static,
    ) -> R::Task {
        self.watch::<R>(task, |panic| failed(io::Error::other(TransportPanicked::new(panic))))
    }

    fn watch<R: Runtime>(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
        panicked: impl FnOnce(&(dyn Any + Send)) -> Report<S> + Send + 'static,
    ) -> R::Task {
        let (reports, span) = (self.reports.clone(), self.log.span().clone());
        let watched = async move {
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                let report = panicked(&*panic);
                // It fails if the driver is gone.
                let _ = reports.send(report).await;
            }
        };
        R::spawn(watched.instrument(span))
    }
}

/// The voters, and those that are about to become voters. The certificates of their hosts prove them.
fn voters(shared: &Shared) -> BTreeSet<Address> {
    let electorate = shared.lock().electorate.clone();
    electorate.voters.into_iter().chain(electorate.target.into_iter().flatten()).collect()
}

pub(crate) struct Tasks<R: Runtime, T: Transport, D> {
    transport: Arc<T>,
    shared: Arc<Shared>,
    into_io: fn(T::Stream) -> D,
    spawner: Spawner<T::Stream>,
    log: Log,
    dials: Vec<R::Task>,
    /// Each asks one source of addresses.
    finders: Vec<R::Task>,
    /// The last write to the disk.
    write: Write<R>,
    slow_storage: Duration,
    /// Nothing is sent here: dropping it ends the wait for the next attempt to write.
    _running: Sender<Infallible>,
    stopping: Receiver<Infallible>,
}

impl<R: Runtime, T: Transport, D> Tasks<R, T, D> {
    pub(crate) fn new(
        transport: Arc<T>,
        (shared, timing): (Arc<Shared>, &Timing),
        into_io: fn(T::Stream) -> D,
        reports: Sender<Report<T::Stream>>,
        log: Log,
    ) -> Self {
        let (_running, stopping) = channel::bounded(1);
        Self {
            transport,
            shared,
            into_io,
            spawner: Spawner::new(reports, log.clone()),
            log,
            dials: Vec::new(),
            finders: Vec::new(),
            write: Write { task: None, is_paused: Arc::default() },
            slow_storage: timing.election_timeout.max(SLOW_STORAGE),
            _running,
            stopping,
        }
    }

    pub(crate) fn transport(&self) -> Arc<T> {
        self.transport.clone()
    }

    /// Ends every dial and every discovery, and drops the transport with its port. Returns what cannot be ended: the node may be started again at once in
    /// the same directory, so nothing may be written there any more.
    pub(crate) async fn finish(self) -> Write<R> {
        for task in self.dials.into_iter().chain(self.finders) {
            R::cancel(task).await;
        }
        self.write
    }
}

/// A write to the disk.
pub(crate) struct Write<R: Runtime> {
    /// `None` if nothing is written.
    task: Option<R::Task>,
    /// It waits for the next attempt. If the node has stopped, there is none.
    is_paused: Arc<AtomicBool>,
}

impl<R: Runtime> Write<R> {
    /// Whether the disk has still to answer.
    pub(crate) fn is_in_progress(&self) -> bool {
        let runs = self.task.as_ref().is_some_and(|task| !R::is_finished(task));
        runs && !self.is_paused.load(Ordering::Acquire)
    }

    /// Waits until nothing is written any more.
    pub(crate) async fn end(&mut self) {
        if let Some(task) = &mut self.task {
            task.await;
            self.task = None;
        }
    }
}

impl<R, T, D> Io for Tasks<R, T, D>
where
    R: Runtime,
    T: Transport,
    D: ByteStream,
{
    type Stream = T::Stream;
    type Connection = Connection<R>;

    fn dial(&mut self, dial: DialId, address: Address, limit: Duration, is_configured: bool) {
        let (transport, reports) = (self.transport.clone(), self.spawner.reports().clone());
        self.dials.retain(|dial| !R::is_finished(dial));
        let panicked = {
            let address = address.clone();
            move |error| Report::Dialed { dial, address, result: Err(error) }
        };
        let dialing = async move {
            let _configured = is_configured.then(|| configured(&address));
            let connected = timeout::<R, _>(limit, transport.connect(&address, limit)).await;
            let result = connected.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()));
            // It fails if the driver is gone.
            let _ = reports.send(Report::Dialed { dial, address, result }).await;
        };
        self.dials.push(self.spawner.spawn_for_peer::<R>(dialing, panicked));
    }

    fn open(&mut self, conn: ConnId, opening: Opening<T::Stream>, place: Option<AcceptPlace>) -> Connection<R> {
        let (transport, shared) = (self.transport.clone(), self.shared.clone());
        let certified = move |stream: &T::Stream| transport.certified(stream, &voters(&shared));
        Connection::open(conn, opening, self.into_io, certified, place, &self.spawner)
    }

    fn discover(&mut self, number: usize, source: Box<dyn AnyDiscovery>) {
        let asking = ask::<R, _>(number, source, self.spawner.reports().clone());
        let panicked = move |error| Report::Discovered { number, answer: Answer::Found(Err(error)) };
        self.finders.push(self.spawner.spawn_for_peer::<R>(asking, panicked));
    }

    fn persist(&mut self, store: &SharedStore, seq: u64, state: HardState) {
        let store = store.clone();
        let keep = move || store.lock().unwrap_or_else(PoisonError::into_inner).keep(state.clone());
        let (reports, log) = (self.spawner.reports().clone(), self.log.clone());
        let persist = Persist::new(seq, self.slow_storage, self.stopping.clone(), reports, log);
        let is_paused = persist.is_paused();
        self.write = Write { task: Some(self.spawner.spawn::<R>(persist.run::<R>(keep))), is_paused };
    }

    fn notifier(&self) -> Notifier {
        let reports = self.spawner.reports().clone();
        // It fails if the driver is gone.
        Arc::new(move |notice| drop(reports.try_send(Report::Noticed(notice))))
    }

    fn tls_failure(&self, error: &io::Error) -> Option<TlsFailure> {
        self.transport.tls_failure(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Smol;

    #[test]
    fn a_write_is_in_progress_until_it_ends_or_pauses() {
        let write = |task, is_paused| Write::<Smol> { task, is_paused: Arc::new(AtomicBool::new(is_paused)) };
        let task = || Some(smol::spawn(std::future::pending()));
        assert!(write(task(), false).is_in_progress());
        assert!(!write(task(), true).is_in_progress());
        assert!(!write(None, false).is_in_progress());
    }

    #[test]
    fn what_a_task_panicked_with_is_named() {
        let panics: [&(dyn Any + Send); 3] = [&"a message", &"another one".to_owned(), &5];
        assert_eq!(panics.map(message), ["a message", "another one", "unknown"]);
        assert_eq!(TransportPanicked::new(&"a bug").to_string(), "the transport panicked: a bug");
    }
}
