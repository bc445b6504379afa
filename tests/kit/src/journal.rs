//! What has happened, and whether it may have happened.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use formation_core::{Node, Phase, Term, ViewId};
use formation_host::ClusterHandle;

use crate::wires::Host;

/// How many lines are kept. The oldest goes for each new one.
const LINES: usize = 256;

/// A step of a master, as [`TestNode::record`](crate::TestNode::record) has recorded it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Step {
    /// The time since the beginning of the network.
    pub at: Duration,
    /// The id of the node that has acted as the master.
    pub node: String,
    /// The term that it has acted with.
    pub term: Term,
}

/// `node-a in term 3, at 1.25s`
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in term {}, at {:?}", self.node, self.term, self.at)
    }
}

/// Clones are the same journal.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    lines: VecDeque<String>,
    left_out: u64,
    /// The newest step of the newest term.
    newest: Option<Step>,
    steps: u64,
    /// The first thing that must not happen.
    broken: Option<String>,
    seen: BTreeMap<Host, Seen>,
}

/// What was seen of a node the last time.
#[derive(Clone, Default, PartialEq, Eq)]
struct Seen {
    phase: Option<Phase>,
    leads: Option<Term>,
    master: Option<(Node, Term)>,
    view: Option<(ViewId, usize)>,
}

impl Seen {
    fn of(node: &ClusterHandle) -> Self {
        let status = node.status();
        let view = node.view();
        Self {
            phase: Some(status.phase),
            leads: node.leadership().map(|leadership| leadership.term),
            master: status.master.map(|(node, _)| node).zip(status.master_term),
            view: Some((view.id(), view.len())),
        }
    }
}

impl Journal {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each field is valid by itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, now: Duration, line: impl fmt::Display) {
        self.lock().note(now, line);
    }

    /// What has happened, the oldest first.
    pub(crate) fn lines(&self) -> Vec<String> {
        let state = self.lock();
        let left_out = (state.left_out > 0).then(|| format!("{} earlier lines are left out", state.left_out));
        left_out.into_iter().chain(state.lines.iter().cloned()).collect()
    }

    pub(crate) fn newest_step(&self) -> Option<Step> {
        self.lock().newest.clone()
    }

    pub(crate) fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// Something must not happen, and has.
    pub(crate) fn breaks(&self, now: Duration, what: impl fmt::Display) {
        self.lock().breaks(now, what);
    }

    /// What must not happen, and has.
    pub(crate) fn broken(&self) -> Option<String> {
        self.lock().broken.clone()
    }

    /// A node acts as the master of a term. Terms never go back, and each one has one master.
    pub(crate) fn record(&self, now: Duration, node: &Host, term: Term) {
        let mut state = self.lock();
        let step = Step { at: now, node: node.to_string(), term };
        state.steps += 1;
        match &state.newest {
            Some(newest) if newest.term > term || (newest.term == term && *newest.node != **node) => {
                let what = format!("a step of {step}, after one of another master: of {newest}");
                state.breaks(now, what);
            }
            Some(newest) if newest.term == term => state.newest = Some(step),
            Some(_) | None => {
                state.note(now, format_args!("{node}: the first step in term {term}"));
                state.newest = Some(step);
            }
        }
    }

    /// Looks at the nodes whose processes live: notes what has changed, and finds two masters at once.
    pub(crate) fn look<'a>(&self, now: Duration, nodes: impl Iterator<Item = (&'a Host, &'a ClusterHandle)> + Clone) {
        let mut state = self.lock();
        for (host, node) in nodes.clone() {
            let seen = Seen::of(node);
            if state.seen.get(host) != Some(&seen) {
                let before = state.seen.insert(host.clone(), seen.clone()).unwrap_or_default();
                state.note_changes(now, host, &before, &seen);
            }
        }
        let leaders = || -> Vec<(Host, Term)> {
            let leads = nodes.clone().filter_map(|(host, node)| Some((host, node, node.leadership()?.term)));
            // There may be several solo masters (E8).
            let elected = leads.filter(|(_, node, _)| node.status().phase != Phase::Solo);
            elected.map(|(host, _, term)| (host.clone(), term)).collect()
        };
        // On several threads, two looks one after the other prove nothing. Two that find the same do: each lease was valid before and
        // after a look at the other one.
        let found = leaders();
        if found.len() > 1 && leaders() == found {
            let named: Vec<_> = found.iter().map(|(host, term)| format!("{host} in term {term}")).collect();
            state.breaks(now, format_args!("several nodes have a valid lease at once: {}", named.join(", ")));
        }
    }

    /// The process of a node has ended.
    pub(crate) fn forget(&self, node: &Host) {
        self.lock().seen.remove(node);
    }
}

impl State {
    fn note(&mut self, now: Duration, line: impl fmt::Display) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
            self.left_out += 1;
        }
        self.lines.push_back(format!("{:>9.3}s  {line}", now.as_secs_f64()));
    }

    fn breaks(&mut self, now: Duration, what: impl fmt::Display) {
        let what = what.to_string();
        self.note(now, &what);
        self.broken.get_or_insert(what);
    }

    fn note_changes(&mut self, now: Duration, host: &Host, before: &Seen, after: &Seen) {
        if let Some(phase) = after.phase.filter(|_| before.phase != after.phase) {
            self.note(now, format_args!("{host}: {phase}"));
        }
        if before.leads != after.leads {
            match (before.leads, after.leads) {
                (_, Some(term)) => self.note(now, format_args!("{host}: has the lease of term {term}")),
                (Some(term), None) => self.note(now, format_args!("{host}: its lease of term {term} has ended")),
                (None, None) => {}
            }
        }
        if before.master != after.master {
            match &after.master {
                Some((master, term)) => self.note(now, format_args!("{host}: follows {master} in term {term}")),
                None => self.note(now, format_args!("{host}: has no master")),
            }
        }
        if let Some((view, members)) = after.view.filter(|_| before.view != after.view) {
            self.note(now, format_args!("{host}: view {view} of {members}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Duration = Duration::from_secs(1);

    #[test]
    fn steps_of_one_master_after_the_other_are_right() {
        let journal = Journal::default();
        let (a, b) = (Host::from("a"), Host::from("b"));
        for (node, term) in [(&a, 1), (&a, 1), (&b, 2), (&b, 2), (&a, 5)] {
            journal.record(AT, node, Term(term));
        }
        assert_eq!(journal.broken(), None);
        assert_eq!((journal.steps(), journal.newest_step().unwrap().to_string()), (5, "a in term 5, at 1s".to_owned()));
    }

    #[test]
    fn a_step_of_an_earlier_term_or_of_another_node_is_found() {
        for (node, term) in [("a", 1), ("a", 2)] {
            let journal = Journal::default();
            journal.record(AT, &Host::from("b"), Term(2));
            journal.record(AT, &Host::from(node), Term(term));
            let broken = journal.broken().unwrap();
            assert_eq!(
                broken,
                format!("a step of a in term {term}, at 1s, after one of another master: of b in term 2, at 1s")
            );
        }
    }

    #[test]
    fn the_journal_keeps_a_limited_number_of_lines() {
        let journal = Journal::default();
        (0..LINES + 3).for_each(|line| journal.note(AT, line));
        let lines = journal.lines();
        assert_eq!(lines.len(), 1 + LINES);
        assert_eq!(lines[0], "3 earlier lines are left out");
        assert!(lines[1].ends_with("  3"));
    }
}
