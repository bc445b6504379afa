//! What a node prints: lines for a person, or JSON for a program.

use std::{
    cell::Cell,
    error::Error,
    io::{Write, stdout},
    process::ExitCode,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::{JoinHandle, spawn},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use crate::{
    describe::describe,
    formation::{Cluster, Event, Leadership, Node, Skipped},
    run::FAILED,
};

/// What is logged goes to the standard error.
pub(crate) fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
}

/// How the process ends, and why if it could not start.
pub(crate) fn exit_code(run: Result<u8, Box<dyn Error>>) -> ExitCode {
    run.unwrap_or_else(|error| {
        eprintln!("{error}");
        FAILED
    })
    .into()
}

/// Lines that wait for a slow reader; more are counted, and not said.
const LINES: usize = 1024;

/// Where a node says what happens to it. Whoever reads that, or does not, keeps nobody waiting: it is printed on a thread.
pub(crate) struct Reporter {
    node: Node,
    json: bool,
    lines: SyncSender<String>,
    lost: Cell<u64>,
    printer: JoinHandle<()>,
}

/// One line of JSON. Two processes on one machine have the same monotonic clock.
#[derive(Serialize)]
struct Line<'a> {
    /// Microseconds of the clock in which leases are meant.
    monotonic_us: u64,
    /// Microseconds since 1970.
    wall_us: u64,
    node: &'a Node,
    #[serde(flatten)]
    what: What<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum What<'a> {
    Started {
        listen: &'a str,
    },
    Event(&'a Event),
    /// It acts as a master no more, and begins to leave.
    Leaving,
    /// How many events, or lines, were not told.
    Skipped(u64),
    /// It is the master of this term until then; nothing when it is none any more.
    Lease(Option<Lease>),
}

#[derive(Serialize)]
struct Lease {
    term: u64,
    valid_until_us: u64,
}

impl Reporter {
    pub(crate) fn new(node: Node, json: bool) -> Self {
        let (lines, to_print) = sync_channel(LINES);
        Self { node, json, lines, lost: Cell::new(0), printer: spawn(move || print(to_print)) }
    }

    /// Nobody will ever read it.
    pub(crate) fn is_unheard(&self) -> bool {
        self.printer.is_finished()
    }

    /// No more is said; what has been is still printed, and once it is the thread has ended.
    pub(crate) fn finish(self) -> JoinHandle<()> {
        self.printer
    }

    pub(crate) fn started(&self, cluster: &Cluster, listen: &str) {
        self.say(cluster, What::Started { listen }, || {
            Some(format!("listens at {listen}; Ctrl-C leaves, and once more stops at once"))
        });
    }

    pub(crate) fn event(&self, cluster: &Cluster, event: &Event) {
        self.say(cluster, What::Event(event), || describe(&self.node, event));
    }

    pub(crate) fn skipped(&self, cluster: &Cluster, skipped: Skipped) {
        self.say(cluster, What::Skipped(skipped.0), || Some(skipped.to_string()));
    }

    pub(crate) fn leaving(&self, cluster: &Cluster) {
        self.say(cluster, What::Leaving, || None);
    }

    /// A person reads of the master by its events.
    pub(crate) fn lease(&self, cluster: &Cluster, leadership: Option<Leadership>) {
        let lease = leadership
            .map(|leadership| Lease { term: leadership.term.0, valid_until_us: leadership.valid_until.as_micros() });
        self.say(cluster, What::Lease(lease), || None);
    }

    fn say(&self, cluster: &Cluster, what: What<'_>, words: impl FnOnce() -> Option<String>) {
        let lost = self.lost.get();
        let caught_up = lost == 0 || self.send(cluster, What::Skipped(lost), || Some(format!("{lost} lines are lost")));
        let told = caught_up && self.send(cluster, what, words);
        let before = if caught_up { 0 } else { lost };
        self.lost.set(before + u64::from(!told));
    }

    /// Whether there was room for it.
    fn send(&self, cluster: &Cluster, what: What<'_>, words: impl FnOnce() -> Option<String>) -> bool {
        let line = if self.json {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let wall_us = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
            let line = Line { monotonic_us: cluster.now().as_micros(), wall_us, node: &self.node, what };
            serde_json::to_string(&line).unwrap_or_else(|error| format!("an event is no JSON: {error}"))
        } else {
            let Some(words) = words() else { return true };
            format!("{} {words}", self.node.id)
        };
        !matches!(self.lines.try_send(line), Err(TrySendError::Full(_)))
    }
}

/// Prints line by line, until nobody reads any more.
fn print(lines: Receiver<String>) {
    for line in lines {
        if writeln!(stdout(), "{line}").is_err() {
            break;
        }
    }
}
