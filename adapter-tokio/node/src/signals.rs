//! The signals of the process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use formation_node::Request;

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

    pub(crate) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.interrupt.recv() => Request::Leave,
            _ = self.terminate.recv() => Request::Leave,
            _ = self.hang_up.recv() => Request::Reload,
        }
    }
}
