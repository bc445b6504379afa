//! Records what a node is given, so that its run can be replayed.
//!
//! The driver writes each input into a buffer before it handles it, and a digest of the outputs of the input before. A thread writes
//! the buffer to the disk. So the driver never waits for the disk: when the buffer is full, the recording ends there, and begins anew
//! with a snapshot once the disk has caught up.

mod file;
mod ring;
mod writer;

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use formation_core::{Formation, Input, Output, Timestamp};

use self::{file::HEADER, ring::Ring, writer::Writer};
pub(crate) use self::{
    file::{Begin, Encoder, Entry, Fault, Outputs, VERSION, What, read, version},
    ring::recordings,
};
use crate::{
    environment::Environment,
    log::Log,
    runtime::{Runtime, timeout},
};

/// How many bytes may wait for the disk, beside the snapshot at the begin of the file.
const WAITING: usize = 4 << 20;

/// The most bytes of inputs in a file, so that it can be read as a whole.
const MOST_BYTES: usize = 256 << 20;

/// How long after its end a recording may begin anew.
const PAUSE: Duration = Duration::from_secs(10);

/// How long a node that has stopped waits for the last entries.
const LAST_ENTRIES: Duration = Duration::from_secs(1);

/// The end of the names of recordings.
pub(crate) const EXTENSION: &str = "recording";

/// Where a node records what it is given, and how much of it. [`Environment::record`](crate::Environment::record) switches it on, and
/// [`Replay`](crate::Replay) reads it.
///
/// The recording is a ring of files: the oldest is removed once a new one has begun. Each file begins with a snapshot of the node, so it can be
/// replayed alone. It holds the metadata and the addresses of all members, and not the cluster key. On Unix only the user of the node
/// can read it.
///
/// A recording never delays the node. If the disk is too slow, or full, a warning is logged and the recording has a gap: it begins anew
/// with a new file. Give it a disk of its own, or one with room for it: a recording that fills the disk of the `state_dir` takes the room
/// of the votes. A process that is killed loses the last fraction of a second of its recording.
///
/// ```
/// use formation_host::{Environment, Recorder};
///
/// // At most about 64 MiB.
/// let recorder = Recorder::to("/var/log/orders/recording").file_bytes(4 << 20).files(16);
/// let environment = Environment::system().record(recorder);
/// # drop(environment);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "Environment::record uses it"]
pub struct Recorder {
    dir: PathBuf,
    file_bytes: usize,
    files: usize,
}

impl Recorder {
    /// Records to this directory, which belongs to one node. It is created if it does not exist. There are at most 32 whole files, each with
    /// a snapshot and 4 MiB of inputs.
    pub fn to(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), file_bytes: 4 << 20, files: 32 }
    }

    /// How many bytes of inputs a file may have, at most 256 MiB: after that, the next file begins. If the snapshot at its begin is larger than that, as
    /// many as the snapshot has.
    pub fn file_bytes(self, file_bytes: usize) -> Self {
        Self { file_bytes: file_bytes.min(MOST_BYTES), ..self }
    }

    /// How many whole files there may be, those of earlier runs of the node included. At least one is kept. Short files, such as those of
    /// a node that is started again and again, share the place of a whole one, at most four of them for each place.
    pub fn files(self, files: usize) -> Self {
        Self { files: files.max(1), ..self }
    }
}

/// The recording of a node, or none.
#[derive(Default)]
pub(crate) struct Recording(Option<Box<Tape>>);

struct Tape {
    /// How many bytes of inputs a file may have.
    file_bytes: usize,
    /// How many bytes may wait for the disk, beside the snapshot of the file.
    waiting: usize,
    writer: Writer,
    log: Log,
    encoder: Encoder,
    state: State,
    /// The number of the last input of the node.
    number: u64,
    /// What was done since the last entry.
    outputs: Outputs,
    /// It was reported that the recording has a gap.
    has_gap: bool,
}

enum State {
    /// The time of the last entry, the bytes of this file's inputs, how many there may be, and how many may wait for the disk.
    Recording { at: Timestamp, bytes: usize, most: usize, room: usize },
    /// It begins anew at this time, if everything is written by then.
    Waiting { until: Timestamp },
}

impl Recording {
    /// A recording that begins with the next input.
    pub(crate) fn begin(environment: &Environment, formation: &Formation, log: &Log) -> Self {
        let tape = environment.recorder().and_then(|recorder| {
            let ring = Ring::new(recorder, formation.node().incarnation);
            let writer = Writer::start(ring).inspect_err(|error| log.recording_ended(&error.to_string())).ok()?;
            Some(Box::new(Tape::new(recorder.file_bytes, writer, log.clone())))
        });
        Self(tape)
    }

    /// The node is about to handle this input.
    pub(crate) fn input(&mut self, formation: &Formation, now: Timestamp, input: &Input) {
        if let Some(tape) = &mut self.0 {
            tape.input(formation, now, input);
        }
    }

    /// The node does this.
    pub(crate) fn output(&mut self, output: &Output) {
        if let Some(tape) = &mut self.0 {
            tape.encoder.digest(&mut tape.outputs, output);
        }
    }

    /// Waits a moment for the disk.
    pub(crate) async fn finish<R: Runtime>(mut self) {
        if let Some(mut tape) = self.0.take() {
            tape.end();
            let _ = timeout::<R, _>(LAST_ENTRIES, tape.writer.ended()).await;
        }
    }
}

impl Tape {
    fn new(file_bytes: usize, writer: Writer, log: Log) -> Self {
        Self {
            file_bytes,
            waiting: WAITING,
            writer,
            log,
            encoder: Encoder::default(),
            state: State::Waiting { until: Timestamp::ZERO },
            number: 0,
            outputs: Outputs::default(),
            has_gap: false,
        }
    }

    fn input(&mut self, formation: &Formation, now: Timestamp, input: &Input) {
        self.number += 1;
        let outputs = std::mem::take(&mut self.outputs);
        let is_recording = matches!(self.state, State::Recording { .. });
        if self.has_gap && is_recording && self.writer.is_idle() {
            self.has_gap = false;
            self.log.recording_goes_on();
        }
        let recorded = match self.state {
            State::Waiting { until } if now < until || !self.writer.recover() => return,
            State::Waiting { .. } => self.begin(formation, now, outputs, input),
            State::Recording { bytes, most, .. } if bytes >= most => self.begin(formation, now, outputs, input),
            State::Recording { at, .. } => {
                self.add(now, &Entry { outputs, what: What::Input { after_us: micros(now.since(at)), input } })
            }
        };
        if let Err(problem) = recorded {
            self.state = State::Waiting { until: now + PAUSE };
            if !std::mem::replace(&mut self.has_gap, true) {
                self.log.recording_ended(&problem);
            }
        }
    }

    /// A file begins with a snapshot. The input follows it.
    fn begin(&mut self, formation: &Formation, now: Timestamp, outputs: Outputs, input: &Input) -> Result<(), String> {
        let unix_us = micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        let snapshot = formation.snapshot();
        let most = self.file_bytes.max(snapshot.len());
        let begin = Begin { first: self.number, at: now, unix_us, snapshot };
        let mut bytes = HEADER.to_vec();
        self.encoder.add(&mut bytes, &Entry { outputs, what: What::Begin(begin) });
        let room = self.waiting + bytes.len();
        self.writer.begin_file(self.number, bytes, room)?;
        self.state = State::Recording { at: now, bytes: 0, most, room };
        self.add(now, &Entry { outputs: Outputs::default(), what: What::Input { after_us: 0, input } })
    }

    fn add(&mut self, now: Timestamp, entry: &Entry<&Input>) -> Result<(), String> {
        if let State::Recording { at, bytes, room, .. } = &mut self.state {
            let encoded = self.encoder.encode(entry);
            self.writer.add(encoded, *room)?;
            *at = now.max(*at);
            *bytes += encoded.len();
        }
        Ok(())
    }

    /// The outputs of the last input.
    fn end(&mut self) {
        if let State::Recording { at, .. } = self.state {
            let outputs = std::mem::take(&mut self.outputs);
            // Nobody is there any more who could do something about a failure.
            let _ = self.add(at, &Entry { outputs, what: What::End });
            self.state = State::Waiting { until: Timestamp::from_micros(u64::MAX) };
        }
    }
}

/// A node that ends without a word, too, has a whole recording.
impl Drop for Tape {
    fn drop(&mut self) {
        self.end();
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
