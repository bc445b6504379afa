//! Votes on their way to the disk, off the driver's task.

use std::sync::{Arc, Mutex, PoisonError};

use formation_core::HardState;
use formation_host::Store;
use smol::{Task, channel::Sender};

use crate::driver::Signal;

/// One `Persist` is in flight at a time, so nobody waits for the lock.
pub(crate) struct Storage {
    store: Arc<Mutex<Store>>,
    keeping: Option<Task<()>>,
}

impl Storage {
    pub(crate) fn new(store: Store) -> Self {
        Self { store: Arc::new(Mutex::new(store)), keeping: None }
    }

    /// Starts to make a state durable; a signal says how it went.
    pub(crate) fn keep<S: Send + 'static>(
        &mut self,
        seq: u64,
        state: HardState,
        signals: &Sender<Signal<S>>,
        node: &Arc<str>,
    ) {
        let (store, signals, node) = (self.store.clone(), signals.clone(), node.clone());
        self.keeping = Some(smol::spawn(async move {
            let kept = smol::unblock(move || store.lock().unwrap_or_else(PoisonError::into_inner).keep(state)).await;
            let signal = match kept {
                Ok(()) => Signal::Persisted(seq),
                Err(error) => {
                    tracing::error!(%node, %error, "this node votes no more until it is started again");
                    Signal::PersistFailed(seq)
                }
            };
            // A driver that is gone needs no answer.
            let _ = signals.send(signal).await;
        }));
    }

    /// Waits until nothing is being written any more; the directory is free then. Nobody may have to take its signal.
    pub(crate) async fn finish(self) {
        if let Some(keeping) = self.keeping {
            keeping.await;
        }
    }
}
