//! Work that blocks, on a thread of its own.

use std::{io, thread};

use async_channel as channel;

/// Runs work that may block for any time. If the future is dropped, the thread ends with its work.
///
/// # Errors
/// As the work, and if there is no thread for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (done, result) = channel::bounded(1);
    let run = move || {
        // It fails if nobody waits any more.
        let _ = done.try_send(work());
    };
    thread::Builder::new().name("formation-finds".into()).spawn(run)?;
    // The sender is dropped if the work panics.
    result.recv().await.unwrap_or_else(|_| Err(io::Error::other("the thread that looked for addresses panicked")))
}
