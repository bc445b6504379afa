//! One end of a connection.

use std::{
    fmt, io,
    task::{Context, Poll, ready},
};

use super::{Host, Sleep, Wires, pipe::Read};

/// One end of a connection of the network. It implements the traits for reading and writing of both runtimes. Dropping it closes the
/// connection.
pub struct TestStream {
    wires: Wires,
    incoming: u64,
    outgoing: u64,
    peer: Host,
    /// The next bytes arrive then.
    arriving: Option<Sleep>,
}

impl TestStream {
    pub(super) fn new(wires: Wires, incoming: u64, outgoing: u64, peer: Host) -> Self {
        Self { wires, incoming, outgoing, peer, arriving: None }
    }

    /// The name of the node at the other end.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    pub(crate) fn poll_bytes(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let now = self.wires.now();
            let mut state = self.wires.lock();
            let Some(pipe) = state.pipes.get(&self.incoming) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let is_cut = state.is_cut(&pipe.from, &pipe.to);
            let Some(pipe) = state.pipes.get_mut(&self.incoming) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let arrives = match pipe.read(now, buffer, cx.waker(), is_cut)? {
                Read::Bytes(length) => {
                    self.arriving = None;
                    return Poll::Ready(Ok(length));
                }
                Read::Nothing => {
                    self.arriving = None;
                    return Poll::Pending;
                }
                Read::Until(arrives) => arrives,
            };
            drop(state);
            let sleep = self.wires.0.time.sleep;
            let arriving = self.arriving.get_or_insert_with(|| sleep(arrives.saturating_sub(now)));
            ready!(arriving.as_mut().poll(cx));
            self.arriving = None;
        }
    }

    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let now = self.wires.now();
        let mut state = self.wires.lock();
        let Some(pipe) = state.pipes.get(&self.outgoing) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let (from, to) = (pipe.from.clone(), pipe.to.clone());
        let knows_end = !state.is_cut(&to, &from) && !state.is_silent(&to);
        let Some(pipe) = state.pipes.get_mut(&self.outgoing) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        match pipe.write(now, bytes, cx.waker(), knows_end)? {
            Some(length) => Poll::Ready(Ok(length)),
            None => Poll::Pending,
        }
    }

    pub(crate) fn end(&mut self) {
        let now = self.wires.now();
        if let Some(pipe) = self.wires.lock().pipes.get_mut(&self.outgoing) {
            pipe.close(now);
        }
    }
}

impl Drop for TestStream {
    fn drop(&mut self) {
        let now = self.wires.now();
        let mut state = self.wires.lock();
        let own = state.pipes.get(&self.incoming).map(|pipe| pipe.to.clone());
        let is_silent = own.is_some_and(|own| state.is_silent(&own));
        if let Some(pipe) = state.pipes.get_mut(&self.incoming) {
            pipe.drop_reader(is_silent);
        }
        if let Some(pipe) = state.pipes.get_mut(&self.outgoing) {
            pipe.drop_writer(now);
        }
        for pipe in [self.incoming, self.outgoing] {
            if state.pipes.get(&pipe).is_some_and(|pipe| pipe.is_over()) {
                state.pipes.remove(&pipe);
            }
        }
    }
}

impl fmt::Debug for TestStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestStream").field("peer", &self.peer).finish_non_exhaustive()
    }
}
