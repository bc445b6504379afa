//! What a node prints: lines for a person, or JSON for a program.

use std::{
    error::Error,
    process::ExitCode,
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

/// Where a node says what happens to it.
pub(crate) struct Reporter {
    pub(crate) node: Node,
    pub(crate) json: bool,
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
    /// How many events were not told.
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
        if !self.json {
            if let Some(words) = words() {
                println!("{} {words}", self.node.id);
            }
            return;
        }
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_us = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
        let line = Line { monotonic_us: cluster.now().as_micros(), wall_us, node: &self.node, what };
        match serde_json::to_string(&line) {
            Ok(line) => println!("{line}"),
            Err(error) => eprintln!("an event is no JSON: {error}"),
        }
    }
}
