//! What the process is asked for.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::run::Asked;

pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Leave,
            _ = self.terminate.recv() => Asked::Leave,
            _ = self.hang_up.recv() => Asked::Renew,
        }
    }
}
