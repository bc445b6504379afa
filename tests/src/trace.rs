//! The latest inputs and outputs, for the report of a failure.

use std::{collections::VecDeque, fmt::Write as _};

use formation_core::{Input, Output};

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
                Entry::In(input) => format!("<- {input}"),
                Entry::Out(output) => format!("-> {output}"),
                Entry::Note(note) => format!("-- {note}"),
            };
            let _ = writeln!(out, "{:>12.6} node {host} {entry}", *at as f64 / 1e6);
        }
        out
    }
}
