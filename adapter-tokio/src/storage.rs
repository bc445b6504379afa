//! Votes on their way to the disk, off the driver's task.

use std::sync::{Arc, Mutex, PoisonError};

use formation_core::HardState;
use formation_host::Store;
use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
};

use crate::connection::Report;

/// One `Persist` is in flight at a time, so nobody waits for the lock.
#[derive(Debug)]
pub(crate) struct Storage(Arc<Mutex<Store>>);

impl Storage {
    pub(crate) fn new(store: Store) -> Self {
        Self(Arc::new(Mutex::new(store)))
    }

    /// Starts to make a state durable; a report says how it went.
    pub(crate) fn keep<S: Send + 'static>(
        &self,
        seq: u64,
        state: HardState,
        reports: &mpsc::Sender<Report<S>>,
        tasks: &mut JoinSet<()>,
    ) {
        let (store, reports) = (self.0.clone(), reports.clone());
        tasks.spawn(async move {
            let kept = spawn_blocking(move || store.lock().unwrap_or_else(PoisonError::into_inner).keep(state)).await;
            let report = match kept {
                Ok(Ok(())) => Report::Persisted { seq },
                Ok(Err(error)) => {
                    tracing::error!(%error, "this node votes no more until it is started again");
                    Report::PersistFailed { seq }
                }
                Err(error) if error.is_panic() => Report::PersistFailed { seq },
                // The runtime goes down, and the driver with it.
                Err(_) => return,
            };
            // A driver that is gone needs no answer.
            let _ = reports.send(report).await;
        });
    }
}
