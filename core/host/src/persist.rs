//! One `Persist`: it is tried until it is durable, or until nobody knows what is durable.

use std::{
    any::Any,
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_channel::{Receiver, Sender};
use futures_lite::future;

use crate::{
    driver::Report,
    log::Log,
    runtime::{Runtime, timeout},
    store::StoreError,
};

/// How long to wait after the first failed attempt. The wait doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest wait between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often it is logged again that the storage does not answer.
const REMINDER: Duration = Duration::from_secs(60);

pub(crate) struct Persist<S> {
    pub(crate) seq: u64,
    /// How long the storage may take before it counts as delayed.
    pub(crate) slow_after: Duration,
    reminder: Duration,
    /// Closed when the node has stopped.
    pub(crate) stopping: Receiver<Infallible>,
    pub(crate) reports: Sender<Report<S>>,
    pub(crate) log: Log,
    delayed: bool,
    /// It waits for the next attempt.
    is_paused: Arc<AtomicBool>,
}

/// How an attempt has ended.
enum Kept {
    Tried(Result<(), StoreError>),
    Panicked(Box<dyn Any + Send>),
}

impl<S: Send + 'static> Persist<S> {
    pub(crate) fn new(
        seq: u64,
        slow_after: Duration,
        stopping: Receiver<Infallible>,
        reports: Sender<Report<S>>,
        log: Log,
    ) -> Self {
        Self { seq, slow_after, reminder: REMINDER, stopping, reports, log, delayed: false, is_paused: Arc::default() }
    }

    /// Whether it waits for the next attempt, now and later.
    pub(crate) fn is_paused(&self) -> Arc<AtomicBool> {
        self.is_paused.clone()
    }

    /// Repeats `keep` until it succeeds, fails for good, or the node has stopped.
    ///
    /// # Panics
    /// When `keep` panics.
    pub(crate) async fn run<R: Runtime>(mut self, keep: impl Fn() -> Result<(), StoreError> + Clone + Send + 'static) {
        let mut pause = FIRST_PAUSE;
        let mut last_error = String::new();
        loop {
            match self.attempt::<R>(keep.clone()).await {
                Ok(()) => return self.report(Report::Persisted { seq: self.seq }).await,
                Err(error) if error.is_final() => {
                    self.log.persist_failed(&error);
                    return self.report(Report::PersistFailed { seq: self.seq }).await;
                }
                Err(error) => {
                    let said = error.to_string();
                    if said != last_error {
                        self.log.persist_delayed(&error);
                        last_error = said;
                    }
                }
            }
            self.is_paused.store(true, Ordering::Release);
            self.delay().await;
            let stopped = async { self.stopping.recv().await.is_err() };
            let paused = async {
                R::sleep(pause).await;
                false
            };
            if future::or(stopped, paused).await {
                return;
            }
            self.is_paused.store(false, Ordering::Release);
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }

    /// Tries once, and waits for the storage for as long as it takes.
    async fn attempt<R: Runtime>(
        &mut self,
        keep: impl FnOnce() -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let log = self.log.clone();
        let work = R::unblock(move || match catch_unwind(AssertUnwindSafe(|| log.span().in_scope(keep))) {
            Ok(kept) => Kept::Tried(kept),
            Err(panic) => Kept::Panicked(panic),
        });
        let mut work = pin!(work);
        let (mut wait, mut waited) = (self.slow_after, Duration::ZERO);
        let kept = loop {
            if let Some(kept) = timeout::<R, _>(wait, work.as_mut()).await {
                break kept;
            }
            waited += wait;
            self.log.persist_is_slow(waited);
            self.delay().await;
            wait = self.reminder;
        };
        match kept {
            Kept::Tried(kept) => kept,
            Kept::Panicked(panic) => resume_unwind(panic),
        }
    }

    async fn delay(&mut self) {
        if !std::mem::replace(&mut self.delayed, true) {
            self.report(Report::PersistDelayed { seq: self.seq }).await;
        }
    }

    async fn report(&self, report: Report<S>) {
        // It fails if the driver is gone.
        let _ = self.reports.send(report).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::atomic::AtomicUsize, thread};

    use async_channel as channel;
    use formation_core::{Incarnation, Node, NodeId};

    use super::*;
    use crate::{
        log::tests::{logged, logged_so_far},
        testing::Smol,
    };

    fn full() -> StoreError {
        StoreError::unchanged("write", Path::new("dir"), std::io::ErrorKind::StorageFull.into())
    }

    fn broken() -> StoreError {
        StoreError::not_synced(Path::new("dir"), std::io::ErrorKind::Other.into())
    }

    /// Starts a `Persist` on `keep`, and returns its reports.
    fn persist(
        slow_after: Duration,
        stopping: Receiver<Infallible>,
        keep: impl Fn() -> Result<(), StoreError> + Clone + Send + 'static,
    ) -> Receiver<Report<()>> {
        let (sender, reports) = channel::unbounded();
        let log = Log::new(&Node { id: NodeId::new("a").unwrap(), incarnation: Incarnation(1) });
        smol::spawn(Persist::new(7, slow_after, stopping, sender, log).run::<Smol>(keep)).detach();
        reports
    }

    fn text(report: &Report<()>) -> String {
        format!("{report:?}")
    }

    #[test]
    fn e4_storage_that_recovers_costs_no_vote_for_good() {
        let (_running, stopping) = channel::bounded(1);
        let attempts = Arc::new(AtomicUsize::new(0));
        let keep = move || if attempts.fetch_add(1, Ordering::Relaxed) < 3 { Err(full()) } else { Ok(()) };
        let reports = persist(Duration::from_secs(3600), stopping, keep);
        smol::block_on(async {
            let all = [reports.recv().await.unwrap(), reports.recv().await.unwrap()];
            assert_eq!(all.each_ref().map(text), ["PersistDelayed { seq: 7 }", "Persisted { seq: 7 }"]);
            assert!(reports.recv().await.is_err(), "nothing else");
        });
    }

    #[test]
    fn e4_a_failure_at_the_rename_is_final() {
        let (_running, stopping) = channel::bounded(1);
        let reports = persist(Duration::from_secs(3600), stopping, || Err(broken()));
        smol::block_on(async {
            assert_eq!(text(&reports.recv().await.unwrap()), "PersistFailed { seq: 7 }");
            assert!(reports.recv().await.is_err(), "nothing else");
        });
    }

    #[test]
    fn e4_storage_that_does_not_answer_is_reported() {
        let (_running, stopping) = channel::bounded(1);
        let (go, wait) = channel::bounded::<()>(1);
        let keep = move || wait.recv_blocking().map_err(|_| full());
        let reports = persist(Duration::from_millis(1), stopping, keep);
        smol::block_on(async {
            assert_eq!(text(&reports.recv().await.unwrap()), "PersistDelayed { seq: 7 }");
            go.send(()).await.unwrap();
            assert_eq!(text(&reports.recv().await.unwrap()), "Persisted { seq: 7 }");
        });
    }

    /// A disk that hangs for good is not forgotten after one line.
    #[test]
    fn storage_that_does_not_answer_is_logged_again() {
        let (_running, stopping) = channel::bounded(1);
        let (go, wait) = channel::bounded::<()>(1);
        let (sender, reports) = channel::unbounded();
        let log = Log::new(&Node { id: NodeId::new("a").unwrap(), incarnation: Incarnation(1) });
        let tick = Duration::from_millis(1);
        let persist = Persist { reminder: tick, ..Persist::<()>::new(7, tick, stopping, sender, log) };
        let answer = async {
            while logged_so_far() < 3 {
                future::yield_now().await;
            }
            go.send(()).await.unwrap();
        };
        let keep = move || wait.recv_blocking().map_err(|_| full());
        let lines = logged(|| {
            smol::block_on(future::zip(persist.run::<Smol>(keep), answer));
        });
        assert!(lines.iter().all(|line| line.message() == "the storage does not answer; check the disk"));
        assert_eq!(text(&reports.try_recv().unwrap()), "PersistDelayed { seq: 7 }");
        assert_eq!(text(&reports.try_recv().unwrap()), "Persisted { seq: 7 }", "the delay is reported once");
    }

    #[test]
    fn a_pause_between_two_attempts_is_no_write() {
        let (_running, stopping) = channel::bounded(1);
        let (go, wait) = channel::bounded::<()>(1);
        let (sender, _reports) = channel::unbounded();
        let log = Log::new(&Node { id: NodeId::new("a").unwrap(), incarnation: Incarnation(1) });
        let persist = Persist::<()>::new(7, Duration::from_secs(3600), stopping, sender, log);
        let is_paused = persist.is_paused();
        let mut runs = pin!(persist.run::<Smol>(move || {
            let _ = wait.recv_blocking();
            Err(full())
        }));
        smol::block_on(async {
            assert!(future::poll_once(&mut runs).await.is_none());
            assert!(!is_paused.load(Ordering::Acquire), "the disk has still to answer");
            drop(go);
            while !is_paused.load(Ordering::Acquire) {
                assert!(future::poll_once(&mut runs).await.is_none());
            }
        });
    }

    #[test]
    fn a_stopped_node_tries_no_further() {
        let (running, stopping) = channel::bounded(1);
        let reports = persist(Duration::from_secs(3600), stopping, || {
            thread::yield_now();
            Err(full())
        });
        smol::block_on(async {
            assert_eq!(text(&reports.recv().await.unwrap()), "PersistDelayed { seq: 7 }");
            drop(running);
            assert!(reports.recv().await.is_err());
        });
    }
}
