//! The latest inputs and outputs, for the report of a failure.

use std::{collections::VecDeque, fmt::Write as _};

use formation_core::{Input, Output, message::Message};

const KEPT: usize = 60;

enum Entry {
    In(Input),
    Out(Output),
    Note(String),
}

/// Keeps cheap clones, and formats them only when a report is printed.
#[derive(Default)]
pub(crate) struct Trace(VecDeque<(u64, usize, Entry)>);

impl Trace {
    fn push(&mut self, at: u64, host: usize, entry: Entry) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((at, host, entry));
    }

    pub(crate) fn input(&mut self, at: u64, host: usize, input: &Input) {
        self.push(at, host, Entry::In(input.clone()));
    }

    pub(crate) fn output(&mut self, at: u64, host: usize, output: &Output) {
        self.push(at, host, Entry::Out(output.clone()));
    }

    pub(crate) fn note(&mut self, at: u64, host: usize, note: String) {
        self.push(at, host, Entry::Note(note));
    }

    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for (at, host, entry) in &self.0 {
            let entry = match entry {
                Entry::In(Input::Received { conn, chunk }) => format!("<- conn {conn} {}", frames(chunk)),
                Entry::In(input) => format!("<- {input:?}"),
                Entry::Out(Output::Send { conn, bytes }) => format!("-> conn {conn} {}", frames(bytes)),
                Entry::Out(output) => format!("-> {output:?}"),
                Entry::Note(note) => format!("-- {note}"),
            };
            let _ = writeln!(out, "{:>12.6} node {host} {entry}", *at as f64 / 1e6);
        }
        out
    }
}

/// The messages of the whole frames at the start of a chunk.
fn frames(mut chunk: &[u8]) -> String {
    let mut out = format!("{} bytes", chunk.len());
    while let Some((prefix, rest)) = chunk.split_first_chunk::<4>() {
        let body = u32::from_be_bytes(*prefix) as usize;
        match rest.get(..body).map(Message::decode) {
            Some(Ok(message)) => {
                let text = format!("{message:?}");
                let _ = write!(out, " | {}", text.chars().take(400).collect::<String>());
                chunk = &rest[body..];
            }
            _ => break,
        }
    }
    if !chunk.is_empty() {
        let _ = write!(out, " | {} bytes of a frame", chunk.len());
    }
    out
}
