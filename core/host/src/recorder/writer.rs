//! The thread that writes a recording to the disk.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use async_channel::{self as channel, Receiver};

/// How long the bytes of a recording may wait, so that the thread is not woken for each entry.
const LINGER: Duration = Duration::from_millis(50);

/// So many bytes are written at once.
const URGENT: usize = 256 << 10;

/// Where files are written.
pub(super) trait Files: Send + 'static {
    /// Begins the file of which this is the number of the first input, with these bytes.
    fn begin(&mut self, first: u64, bytes: &[u8]) -> io::Result<()>;
    /// Adds to the file.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// The driver's end of the thread. Dropping it ends the thread once everything is written.
pub(super) struct Writer {
    queue: Arc<Queue>,
    /// Closed by the end of the thread.
    ended: Receiver<Infallible>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    parts: Vec<Part>,
    bytes: usize,
    is_writing: bool,
    /// Why something was not written.
    problem: Option<io::Error>,
    is_ended: bool,
}

/// Bytes for one file.
struct Part {
    /// They begin the file with this first input.
    begins: Option<u64>,
    bytes: Vec<u8>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    pub(super) fn start(files: impl Files) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let (running, ended) = channel::bounded(1);
        let of_thread = queue.clone();
        thread::Builder::new().name("formation-recorder".into()).spawn(move || {
            write(&of_thread, files);
            drop(running);
        })?;
        Ok(Self { queue, ended })
    }

    /// Begins the next file, of which this is the number of the first input.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub(super) fn begin_file(&self, first: u64, bytes: Vec<u8>, limit: usize) -> Result<(), String> {
        self.push(bytes.len(), limit, |parts| parts.push(Part { begins: Some(first), bytes }))
    }

    /// Adds to the file.
    ///
    /// # Errors
    /// Says why nothing more belongs into this file: something before this could not be written, or more than `limit` bytes would wait.
    pub(super) fn add(&self, bytes: &[u8], limit: usize) -> Result<(), String> {
        self.push(bytes.len(), limit, |parts| match parts.last_mut() {
            Some(part) => part.bytes.extend_from_slice(bytes),
            None => parts.push(Part { begins: None, bytes: bytes.to_vec() }),
        })
    }

    fn push(&self, len: usize, limit: usize, push: impl FnOnce(&mut Vec<Part>)) -> Result<(), String> {
        let mut waiting = self.queue.lock();
        if let Some(problem) = waiting.problem.take() {
            return Err(problem.to_string());
        }
        let before = waiting.bytes;
        if before > 0 && before + len > limit {
            return Err("the disk is too slow".into());
        }
        push(&mut waiting.parts);
        waiting.bytes += len;
        let is_urgent = before < URGENT && waiting.bytes >= URGENT;
        drop(waiting);
        if before == 0 || is_urgent {
            self.queue.changed.notify_one();
        }
        Ok(())
    }

    /// Whether everything is written.
    pub(super) fn is_idle(&self) -> bool {
        let waiting = self.queue.lock();
        waiting.bytes == 0 && !waiting.is_writing && waiting.problem.is_none()
    }

    /// Forgets what has gone wrong. Returns whether nothing waits for the disk, so that a new file may begin.
    pub(super) fn recover(&self) -> bool {
        self.queue.lock().problem = None;
        self.is_idle()
    }

    /// Ends the thread once everything is written, and waits for that.
    pub(super) async fn ended(&self) {
        self.end();
        let _ = self.ended.recv().await;
    }

    #[cfg(test)]
    pub(super) fn has_failed(&self) -> bool {
        self.queue.lock().problem.is_some()
    }

    /// Closed by the end of the thread.
    #[cfg(test)]
    pub(super) fn end_of_thread(&self) -> Receiver<Infallible> {
        self.ended.clone()
    }

    fn end(&self) {
        self.queue.lock().is_ended = true;
        self.queue.changed.notify_one();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

fn write(queue: &Queue, mut files: impl Files) {
    loop {
        let mut waiting = queue.lock();
        while waiting.bytes == 0 && !waiting.is_ended {
            waiting = queue.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if !waiting.is_ended {
            let lingers = |waiting: &mut Waiting| !waiting.is_ended && waiting.bytes < URGENT;
            (waiting, _) =
                queue.changed.wait_timeout_while(waiting, LINGER, lingers).unwrap_or_else(PoisonError::into_inner);
        }
        if waiting.bytes == 0 {
            return;
        }
        let parts = std::mem::take(&mut waiting.parts);
        (waiting.bytes, waiting.is_writing) = (0, true);
        drop(waiting);
        let written = parts.iter().try_for_each(|part| match part.begins {
            Some(first) => files.begin(first, &part.bytes),
            None => files.write(&part.bytes),
        });
        let mut waiting = queue.lock();
        waiting.is_writing = false;
        if let Err(error) = written {
            (waiting.parts, waiting.bytes) = (Vec::new(), 0);
            waiting.problem = Some(error);
        }
    }
}
