//! Accepting connections, and how many at a time.

use std::{io, sync::Arc, time::Duration};

use formation_core::{Limits, Timing};

use crate::{
    opening::Opening,
    permits::{Permit, Permits},
    runtime::Runtime,
    transport::Transport,
};

/// How long nothing is accepted after a failure, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// The most connections that were accepted and have sent nothing, however large the limit is: each takes some memory in advance.
const MOST_SILENT: usize = 1024;

/// The longest time that a connection may be silent in its place. With a short `Timing::handshake_timeout`, it is less.
const SILENCE: Duration = Duration::from_millis(100);

/// The places of connections that were accepted and have sent nothing: half of `Limits::pending_connections`. While all are taken,
/// further connections wait in the queue of the listener.
///
/// When too many connections have not finished their handshake, the core closes one, of those without a `Hello` first. If many nodes
/// connect at once, honest ones would be closed whose `Hello` is on its way. A connection loses its place after a short time, so that
/// silent ones cannot stop others.
#[derive(Clone, Debug)]
pub(crate) struct AcceptPlaces {
    permits: Permits,
    limit: Duration,
}

/// The place of a connection that was accepted and has sent nothing. It is free once this is dropped.
#[derive(Debug)]
pub(crate) struct AcceptPlace {
    _permit: Permit,
    /// How long the connection may keep it.
    pub(crate) limit: Duration,
}

impl AcceptPlaces {
    pub(crate) fn new(limits: &Limits, timing: &Timing) -> Self {
        let permits = Permits::new((limits.pending_connections / 2).min(MOST_SILENT));
        Self { permits, limit: SILENCE.min(timing.handshake_timeout / 10) }
    }

    /// One place that a connection may keep for so long.
    #[cfg(test)]
    pub(crate) fn one(limit: Duration) -> Self {
        Self { permits: Permits::new(1), limit }
    }

    /// Waits until one is free.
    pub(crate) async fn take(&self) -> AcceptPlace {
        AcceptPlace { _permit: self.permits.take().await, limit: self.limit }
    }
}

/// Waits for the next connection of a peer; for a moment longer if the last attempt has failed.
pub(crate) async fn accept<R: Runtime, T: Transport>(
    transport: Arc<T>,
    places: AcceptPlaces,
    has_failed: bool,
) -> io::Result<(Opening<T::Stream>, AcceptPlace)> {
    if has_failed {
        R::sleep(PAUSE).await;
    }
    let place = places.take().await;
    Ok((transport.accept().await?, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_turned_off_needs_no_memory() {
        AcceptPlaces::new(&Limits::new().with_pending_connections(usize::MAX), &Timing::lan());
    }
}
