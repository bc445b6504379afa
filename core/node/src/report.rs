//! The output of a node program: lines for a person, or JSON for a program.

use std::{
    cell::Cell,
    io::Write,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::{JoinHandle, spawn},
    time::{SystemTime, UNIX_EPOCH},
};

use formation_core::{Event, Leadership, Node, Timestamp};
use serde::Serialize;

use formation_host::describe;

/// How many lines wait for a slow reader. Further lines are counted and dropped.
const LINES: usize = 1024;

/// Prints on a thread of its own, so that a slow reader never blocks the node.
pub(crate) struct Reporter {
    node: Node,
    json: bool,
    lines: SyncSender<String>,
    lost: Cell<u64>,
    printer: JoinHandle<()>,
}

/// One line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    /// Microseconds of the monotonic clock that leases refer to. All processes of one machine share it.
    monotonic_us: u64,
    /// Microseconds since 1970.
    wall_us: u64,
    node: &'a Node,
    #[serde(flatten)]
    what: What<'a>,
}

/// What a line reports.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What<'a> {
    /// The node accepts connections at this address.
    Started { listen: &'a str },
    /// An event of the node.
    Event(&'a Event),
    /// The node acts as a master no more, and begins to leave.
    Leaving,
    /// How many events or lines are missing here.
    Skipped(u64),
    /// The lease of this node as the master; `None` once it has no lease any more.
    Lease(Option<Lease>),
}

#[derive(Clone, Copy, Serialize)]
pub(crate) struct Lease {
    term: u64,
    valid_until_us: u64,
}

impl From<Leadership> for Lease {
    fn from(leadership: Leadership) -> Self {
        Self { term: leadership.term.0, valid_until_us: leadership.valid_until.as_micros() }
    }
}

impl What<'_> {
    /// The line for a person, who follows the master by its events and needs no leases.
    fn description(&self, own: &Node) -> Option<String> {
        match self {
            Self::Started { listen } => Some(format!("listens at {listen}; Ctrl-C leaves, a second one stops at once")),
            Self::Event(event) => describe(own, event),
            Self::Skipped(count) => Some(format!("{count} events or lines are missing here")),
            Self::Leaving | Self::Lease(_) => None,
        }
    }
}

impl Reporter {
    /// `out`: where the lines go.
    pub(crate) fn new(node: Node, json: bool, out: impl Write + Send + 'static) -> Self {
        let (lines, to_print) = sync_channel(LINES);
        Self { node, json, lines, lost: Cell::new(0), printer: spawn(move || print(to_print, out)) }
    }

    /// Whether the reader has closed the output.
    pub(crate) fn is_closed(&self) -> bool {
        self.printer.is_finished()
    }

    /// Ends the output. The returned thread ends after the last line.
    pub(crate) fn finish(self) -> JoinHandle<()> {
        self.printer
    }

    pub(crate) fn report(&self, now: Timestamp, what: What<'_>) {
        let lost = self.lost.get();
        let caught_up = lost == 0 || self.send(now, What::Skipped(lost));
        let sent = caught_up && self.send(now, what);
        let before = if caught_up { 0 } else { lost };
        self.lost.set(before + u64::from(!sent));
    }

    /// Returns false when there is no room for the line.
    fn send(&self, now: Timestamp, what: What<'_>) -> bool {
        let line = if self.json {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let wall_us = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
            let line = Line { monotonic_us: now.as_micros(), wall_us, node: &self.node, what };
            serde_json::to_string(&line).unwrap_or_else(|error| format!("an event is no JSON: {error}"))
        } else {
            let Some(description) = what.description(&self.node) else { return true };
            let wall = humantime::format_rfc3339_millis(SystemTime::now());
            format!("{wall} {} {description}", self.node.id)
        };
        !matches!(self.lines.try_send(line), Err(TrySendError::Full(_)))
    }
}

/// Prints line by line until the reader has closed the output.
fn print(lines: Receiver<String>, mut out: impl Write) {
    for line in lines {
        if writeln!(out, "{line}").is_err() {
            break;
        }
    }
}
