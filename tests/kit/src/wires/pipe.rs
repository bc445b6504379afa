//! One direction of a connection.

use std::{collections::VecDeque, io, ops::RangeInclusive, task::Waker, time::Duration};

use super::Host;
use crate::sim::engine::Rng;

/// How many bytes wait in a pipe. After that its writer waits for the reader.
const WINDOW: usize = 64 * 1024;
/// How many bytes travel together.
const SEGMENT: usize = 16 * 1024;

pub(super) struct Pipe {
    pub(super) from: Host,
    pub(super) to: Host,
    rng: Rng,
    latency: RangeInclusive<Duration>,
    /// What is added to the latency.
    pub(super) delay: Duration,
    /// What was written and not read, with the time at which it arrives.
    segments: VecDeque<(Duration, Vec<u8>)>,
    waiting: usize,
    /// When the last segment arrives. None overtakes another one.
    last: Duration,
    /// When the reader learns that nothing comes any more.
    end: Option<Duration>,
    is_broken: bool,
    /// The writer's host is without power: nothing leaves it.
    is_silent: bool,
    reader_is_gone: bool,
    writer_is_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What a read finds.
pub(super) enum Read {
    Bytes(usize),
    /// Nothing before this time.
    Until(Duration),
    Nothing,
}

impl Pipe {
    pub(super) fn new(from: Host, to: Host, rng: Rng, latency: RangeInclusive<Duration>, delay: Duration) -> Self {
        Self {
            from,
            to,
            rng,
            latency,
            delay,
            segments: VecDeque::new(),
            waiting: 0,
            last: Duration::ZERO,
            end: None,
            is_broken: false,
            is_silent: false,
            reader_is_gone: false,
            writer_is_gone: false,
            reader: None,
            writer: None,
        }
    }

    pub(super) fn joins(&self, host: &Host) -> bool {
        self.from == *host || self.to == *host
    }

    pub(super) fn wake(&mut self) {
        [self.reader.take(), self.writer.take()].into_iter().flatten().for_each(Waker::wake);
    }

    /// The connection breaks. The bytes under way are lost.
    pub(super) fn reset(&mut self) {
        self.is_broken = true;
        self.segments.clear();
        self.waiting = 0;
        self.wake();
    }

    /// The end of the pipe that is at this host is closed.
    pub(super) fn end_at(&mut self, host: &Host, now: Duration) {
        if self.from == *host {
            self.close(now);
        } else {
            self.reader_is_gone = true;
        }
        self.wake();
    }

    /// The host has no power. Its bytes under way are lost.
    pub(super) fn silence(&mut self, host: &Host) {
        if self.from == *host {
            self.is_silent = true;
            self.segments.clear();
            self.waiting = 0;
            self.end = None;
        }
    }

    pub(super) fn read(&mut self, now: Duration, buffer: &mut [u8], waker: &Waker, is_cut: bool) -> io::Result<Read> {
        if self.is_broken {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        self.reader = Some(waker.clone());
        let Some(arrives) = self.segments.front().map(|(arrives, _)| *arrives).or(self.end).filter(|_| !is_cut) else {
            return Ok(Read::Nothing);
        };
        if arrives > now {
            return Ok(Read::Until(arrives));
        }
        let Some((_, segment)) = self.segments.front_mut() else { return Ok(Read::Bytes(0)) };
        let length = segment.len().min(buffer.len());
        buffer[..length].copy_from_slice(&segment[..length]);
        segment.drain(..length);
        if segment.is_empty() {
            self.segments.pop_front();
        }
        self.waiting -= length;
        self.writer.take().into_iter().for_each(Waker::wake);
        Ok(Read::Bytes(length))
    }

    /// `None`: the writer has to wait. `knows_end`: the writer learns of the end of the reader.
    pub(super) fn write(
        &mut self,
        now: Duration,
        bytes: &[u8],
        waker: &Waker,
        knows_end: bool,
    ) -> io::Result<Option<usize>> {
        if self.is_broken {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if self.end.is_some() || (self.reader_is_gone && knows_end) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let length = bytes.len().min(SEGMENT).min(WINDOW - self.waiting);
        if length == 0 && !bytes.is_empty() {
            self.writer = Some(waker.clone());
            return Ok(None);
        }
        if !self.is_silent && length > 0 {
            let arrives = self.arrival(now);
            self.segments.push_back((arrives, bytes[..length].to_vec()));
            self.waiting += length;
            self.reader.take().into_iter().for_each(Waker::wake);
        }
        Ok(Some(length))
    }

    /// When something arrives that is sent now.
    fn arrival(&mut self, now: Duration) -> Duration {
        self.last = self.last.max(now + self.rng.in_range(&self.latency) + self.delay);
        self.last
    }

    /// Nothing is written any more. The end arrives behind what was written.
    pub(super) fn close(&mut self, now: Duration) {
        if !self.is_silent && self.end.is_none() {
            self.end = Some(self.arrival(now));
        }
        self.reader.take().into_iter().for_each(Waker::wake);
    }

    /// `is_silent`: nobody takes what is under way any more, and its writer does not learn that.
    pub(super) fn drop_reader(&mut self, is_silent: bool) {
        self.reader_is_gone = true;
        if is_silent {
            return;
        }
        self.segments.clear();
        self.waiting = 0;
        self.writer.take().into_iter().for_each(Waker::wake);
    }

    pub(super) fn drop_writer(&mut self, now: Duration) {
        self.close(now);
        self.writer_is_gone = true;
    }

    pub(super) fn is_over(&self) -> bool {
        self.reader_is_gone && self.writer_is_gone
    }
}
