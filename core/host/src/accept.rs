//! Accepting connections, and how many at a time.

use std::{io, sync::Arc, time::Duration};

use formation_core::Limits;

use crate::{
    opening::Opening,
    permits::{Permit, Permits},
    runtime::Runtime,
    transport::Transport,
};

/// How long nothing is accepted after a failure, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// The most connections that were accepted and not read once, however large the limit is: each takes some memory in advance.
const MOST_UNREAD: usize = 1024;

/// How many connections may have been accepted without having been read once: a quarter of `Limits::pending_connections`.
///
/// When too many connections have not finished their handshake, the core closes one, of those without a `Hello` first. If many
/// peers connect at once, honest ones would be closed whose `Hello` has arrived and is not read yet.
pub(crate) fn unread(limits: &Limits) -> Permits {
    Permits::new((limits.pending_connections / 4).min(MOST_UNREAD))
}

/// Waits for the next connection of a peer; for a moment longer if the last attempt has failed.
pub(crate) async fn accept<R: Runtime, T: Transport>(
    transport: Arc<T>,
    permits: Permits,
    has_failed: bool,
) -> io::Result<(Opening<T::Stream>, Permit)> {
    if has_failed {
        R::sleep(PAUSE).await;
    }
    let permit = permits.take().await;
    Ok((transport.accept().await?, permit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_turned_off_needs_no_memory() {
        unread(&Limits { pending_connections: usize::MAX, ..Limits::default() });
    }
}
