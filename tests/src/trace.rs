//! The last things that happened, for a failure's report.

use std::{collections::VecDeque, fmt::Write as _};

use formation_core::{Input, Output, message::Message};

const KEPT: usize = 60;

enum What {
    In(Input),
    Out(Output),
    Note(String),
}

/// Keeps what is cheap to keep, and formats it only when somebody has to read it.
#[derive(Default)]
pub(crate) struct Trace(VecDeque<(u64, usize, What)>);

impl Trace {
    fn push(&mut self, at: u64, host: usize, what: What) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((at, host, what));
    }

    pub(crate) fn input(&mut self, at: u64, host: usize, input: &Input) {
        self.push(at, host, What::In(input.clone()));
    }

    pub(crate) fn output(&mut self, at: u64, host: usize, output: &Output) {
        self.push(at, host, What::Out(output.clone()));
    }

    pub(crate) fn note(&mut self, at: u64, host: usize, note: String) {
        self.push(at, host, What::Note(note));
    }

    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for (at, host, what) in &self.0 {
            let what = match what {
                What::In(Input::Received { conn, chunk }) => format!("<- conn {conn} {}", frames(chunk)),
                What::In(input) => format!("<- {input:?}"),
                What::Out(Output::Send { conn, bytes }) => format!("-> conn {conn} {}", frames(bytes)),
                What::Out(output) => format!("-> {output:?}"),
                What::Note(note) => format!("-- {note}"),
            };
            let _ = writeln!(out, "{:>12.6} node {host} {what}", *at as f64 / 1e6);
        }
        out
    }
}

/// The messages in a chunk, as far as it holds whole frames.
fn frames(mut chunk: &[u8]) -> String {
    let mut out = format!("{} bytes", chunk.len());
    while let Some((prefix, rest)) = chunk.split_first_chunk::<4>() {
        let body = u32::from_be_bytes(*prefix) as usize;
        match rest.get(..body).map(Message::decode) {
            Some(Ok(message)) => {
                let said = format!("{message:?}");
                let _ = write!(out, " | {}", said.chars().take(400).collect::<String>());
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
