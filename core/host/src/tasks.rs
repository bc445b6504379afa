//! The tasks that a driver starts: dials, connections, and writes to the disk.

use std::{
    collections::BTreeSet,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
    time::Duration,
};

use async_channel::Sender;
use formation_core::{Address, ConnId, DialId, HardState, TlsFailure};

use crate::{
    connection::Connection,
    driver::{Io, Report, SharedStore},
    log::Log,
    opening::Opening,
    permits::Permit,
    runtime::{ByteStream, Runtime, timeout},
    store::StoreError,
    transport::Transport,
};

pub(crate) struct Tasks<R: Runtime, T: Transport, D> {
    transport: Arc<T>,
    seeds: Arc<BTreeSet<Address>>,
    into_io: fn(T::Stream) -> D,
    reports: Sender<Report<T::Stream>>,
    log: Log,
    dials: Vec<R::Task>,
    /// The last write to the disk.
    persist: Option<R::Task>,
}

impl<R: Runtime, T: Transport, D> Tasks<R, T, D> {
    pub(crate) fn new(
        transport: Arc<T>,
        seeds: BTreeSet<Address>,
        into_io: fn(T::Stream) -> D,
        reports: Sender<Report<T::Stream>>,
        log: Log,
    ) -> Self {
        Self { transport, seeds: Arc::new(seeds), into_io, reports, log, dials: Vec::new(), persist: None }
    }

    pub(crate) fn transport(&self) -> Arc<T> {
        self.transport.clone()
    }

    /// Ends every dial, and waits until nothing is written to the disk any more.
    pub(crate) async fn finish(&mut self) {
        for dial in self.dials.drain(..) {
            R::cancel(dial).await;
        }
        // The node may be started again at once, in the same directory.
        if let Some(persist) = self.persist.take() {
            persist.await;
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

    fn dial(&mut self, dial: DialId, address: Address, limit: Duration) {
        let (transport, reports) = (self.transport.clone(), self.reports.clone());
        self.dials.retain(|dial| !R::is_finished(dial));
        self.dials.push(R::spawn(async move {
            let connected = timeout::<R, _>(limit, transport.connect(&address, limit)).await;
            let result = connected.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()));
            // It fails if the driver is gone.
            let _ = reports.send(Report::Dialed { dial, address, result }).await;
        }));
    }

    fn open(&mut self, conn: ConnId, opening: Opening<T::Stream>, permit: Option<Permit>) -> Connection<R> {
        let (transport, seeds) = (self.transport.clone(), self.seeds.clone());
        let certified = move |stream: &T::Stream| transport.certified(stream, &seeds);
        Connection::open(conn, opening, self.into_io, certified, permit, &self.reports)
    }

    fn persist(&mut self, store: &SharedStore, seq: u64, state: HardState) {
        let (store, reports, log) = (store.clone(), self.reports.clone(), self.log.clone());
        let keep = move || store.lock().unwrap_or_else(PoisonError::into_inner).keep(state);
        self.persist = Some(R::spawn(async move {
            let report = R::unblock(move || persist_and_report(&log, seq, keep)).await;
            // It fails if the driver is gone.
            let _ = reports.send(report).await;
        }));
    }

    fn tls_failure(&self, error: &io::Error) -> Option<TlsFailure> {
        self.transport.tls_failure(error)
    }
}

/// Makes a vote durable. Storage that panics has failed: the core waits for an answer.
fn persist_and_report<S>(log: &Log, seq: u64, keep: impl FnOnce() -> Result<(), StoreError>) -> Report<S> {
    match catch_unwind(AssertUnwindSafe(keep)) {
        Ok(Ok(())) => return Report::Persisted { seq },
        Ok(Err(error)) => log.persist_failed(&error),
        Err(panic) => log.persist_panicked(&*panic),
    }
    Report::PersistFailed { seq }
}

#[cfg(test)]
mod tests {
    use formation_core::{Incarnation, Node, NodeId};

    use super::*;

    #[test]
    fn storage_that_fails_or_panics_is_reported_as_failed() {
        let log = Log::new(&Node { id: NodeId::new("a").unwrap(), incarnation: Incarnation(1) });
        let report = |keep: fn() -> Result<(), StoreError>| persist_and_report::<()>(&log, 7, keep);
        assert!(matches!(report(|| Ok(())), Report::Persisted { seq: 7 }));
        let fail = || Err(StoreError::Foreign { path: "a".into() });
        assert!(matches!(report(fail), Report::PersistFailed { seq: 7 }));
        assert!(matches!(report(|| panic!("the disk is gone")), Report::PersistFailed { seq: 7 }));
    }
}
