//! What the recorder of the adapters does with each input and output, up to the buffer that its thread writes to the disk.

use std::sync::Mutex;

use formation_core::{Formation, Input, Output, Timestamp};

use crate::file::{Begin, Encoder, Entry, HEADER, Outputs, What};

/// The driver's half of a recording.
#[derive(Default)]
pub struct Recording {
    encoder: Encoder,
    outputs: Outputs,
    at: Timestamp,
    buffer: Mutex<Vec<u8>>,
}

impl Recording {
    /// A recording of this node, whose snapshot is its first entry.
    pub fn of(formation: &Formation, now: Timestamp) -> Self {
        let mut recording = Self { at: now, ..Self::default() };
        let begin = Begin { first: 1, at: now, unix_us: 0, snapshot: formation.snapshot() };
        let mut file = HEADER.to_vec();
        recording.encoder.add(&mut file, &Entry { outputs: Outputs::default(), what: What::Begin(begin) });
        *recording.buffer.get_mut().expect("no panic") = file;
        recording
    }

    #[inline(never)]
    pub fn input(&mut self, now: Timestamp, input: &Input) {
        let outputs = std::mem::take(&mut self.outputs);
        let after_us = now.since(self.at).as_micros() as u64;
        self.at = now;
        let entry = self.encoder.encode(&Entry { outputs, what: What::Input { after_us, input } });
        self.buffer.lock().expect("no panic").extend_from_slice(entry);
    }

    #[inline(never)]
    pub fn output(&mut self, output: &Output) {
        self.encoder.digest(&mut self.outputs, output);
    }

    /// Takes what the thread would write.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.buffer.get_mut().expect("no panic"))
    }
}
