//! What happened when, at which node; and whether anything happened that never should.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use formation_tokio::describe;
use formation_tokio::{Change, Event, Events, Member, MembersView, Node, NodeId, RecvError, Term};
use tokio::sync::Notify;

/// Prints one line per happening, and wakes whoever waits for the next one.
pub(crate) struct Timeline {
    start: Instant,
    happened: Notify,
    printed: Mutex<Printed>,
}

/// The state that the printed events have reported.
#[derive(Default)]
struct Printed {
    views: BTreeMap<Node, BTreeMap<NodeId, Member>>,
    masters: BTreeMap<Term, Node>,
    broken: Option<String>,
}

impl Timeline {
    pub(crate) fn start() -> Self {
        println!("{:>7}  {:<8} what happened", "ms", "node");
        Self { start: Instant::now(), happened: Notify::new(), printed: Mutex::default() }
    }

    /// Goes on with another cluster, whose terms are its own.
    pub(crate) fn of_another_cluster(&self) -> Self {
        Self { start: self.start, happened: Notify::new(), printed: Mutex::default() }
    }

    /// Prints a title.
    pub(crate) fn chapter(&self, title: &str) {
        println!("\n--- {title} ---");
    }

    pub(crate) fn print(&self, who: &NodeId, what: &str) {
        println!("{:>7.1}  {:<8} {what}", self.start.elapsed().as_secs_f64() * 1e3, who.as_str());
    }

    /// Prints the events of one node until it has stopped.
    pub(crate) async fn follow(&self, own: Node, mut events: Events) {
        loop {
            match events.recv().await {
                Ok(event) => {
                    if let Some(line) = describe(&own, &event) {
                        self.print(&own.id, &line);
                    }
                    self.note(&own, &event);
                }
                Err(RecvError::Stopped) => return,
                Err(skipped @ RecvError::Skipped(_)) => self.print(&own.id, &skipped.to_string()),
            }
            self.happened.notify_waiters();
        }
    }

    /// Waits until `holds`, which can change with each event of any followed node. Fails when a term has two masters.
    pub(crate) async fn until<T>(&self, mut holds: impl FnMut() -> Option<T>) -> Result<T, String> {
        loop {
            let happened = self.happened.notified();
            if let Some(broken) = &self.printed().broken {
                return Err(broken.clone());
            }
            if let Some(it) = holds() {
                return Ok(it);
            }
            happened.await;
        }
    }

    /// Whether the printed events of a node have reached the members of a view.
    pub(crate) fn has_printed(&self, own: &Node, view: &MembersView) -> bool {
        self.printed().views.get(own).is_some_and(|printed| printed.values().eq(view.iter()))
    }

    fn note(&self, own: &Node, event: &Event) {
        let mut printed = self.printed();
        match event {
            Event::ViewChanged { changes, .. } => {
                let members = printed.views.entry(own.clone()).or_default();
                for change in changes.iter() {
                    match change {
                        Change::Upsert(member) => drop(members.insert(member.node.id.clone(), member.clone())),
                        Change::Remove { id, .. } => drop(members.remove(id)),
                    }
                }
            }
            Event::MasterElected { term, master, .. } => {
                let first = printed.masters.entry(*term).or_insert_with(|| master.clone()).clone();
                if first != *master {
                    printed.broken = Some(format!("term {term} has two masters, {first} and {master}"));
                }
            }
            _ => {}
        }
    }

    fn printed(&self) -> MutexGuard<'_, Printed> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long each part took.
#[derive(Default)]
pub(crate) struct Summary(Vec<(String, Duration)>);

impl Summary {
    pub(crate) fn add(&mut self, what: impl Into<String>, took: Duration) {
        self.0.push((what.into(), took));
    }

    pub(crate) fn print(&self) {
        let width = self.0.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
        println!("\n{:<width$}  {:>10}", "what", "took");
        for (what, took) in &self.0 {
            println!("{what:<width$}  {:>7.1} ms", took.as_secs_f64() * 1e3);
        }
    }
}
