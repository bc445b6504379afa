//! Queries about a network.

use std::{collections::BTreeSet, env, fmt::Write as _, thread, time::Duration};

use bytes::Bytes;
use formation_core::{Event, MemberState, Status, message::Message};

use super::{Net, NodeIx, WireId};
use crate::{peer::messages, replay::Run};

impl Net {
    /// Whether these nodes follow one master among them, and hold one view that contains exactly them, all active.
    pub fn agree(&self, nodes: &[NodeIx]) -> bool {
        let Some(master) = self.master().filter(|m| nodes.contains(m)) else { return false };
        let first = self.host(master).formation.as_ref().map(|f| f.view());
        let all: BTreeSet<_> = nodes.iter().map(|ix| self.node(*ix)).collect();
        let complete = first.is_some_and(|view| {
            view.len() == all.len() && view.iter().all(|m| m.state == MemberState::Active && all.contains(&m.node))
        });
        let leader = self.node(master);
        complete
            && nodes.iter().all(|ix| {
                let formation = self.host(*ix).formation.as_ref();
                formation.map(|f| f.view().id()) == first.map(|view| view.id())
                    && formation.is_some_and(|f| f.status().master.is_some_and(|(node, _)| node == leader))
            })
            && (!self.watch.settings.compare_views
                || nodes.iter().all(|ix| self.host(*ix).formation.as_ref().map(|f| f.view()) == first))
    }

    /// Whether all living nodes [`agree`](Self::agree).
    pub fn converged(&self) -> bool {
        self.agree(&self.living())
    }

    /// Runs until all living nodes agree.
    ///
    /// # Panics
    /// If they do not agree within `time`.
    pub fn converge(&mut self, time: Duration) {
        if !self.run_until(time, |net| net.converged()) {
            self.fail(&format!("the living nodes do not agree within {time:?}"));
        }
    }

    /// The first bytes of a node that dialed this one, up to its proof. Chosen among the latest connections.
    pub(crate) fn overheard(&mut self, ix: NodeIx) -> Option<Bytes> {
        let proven = |sent: &[Message]| matches!(sent, [Message::Hello(_), Message::Proof(_), ..]);
        let to = |wire: WireId| self.towards(wire, 1).is_some_and(|(_, to)| to == ix);
        let recorded = self.watch.first_bytes.iter().rev().filter(|(wire, _)| to(**wire));
        let recorded = recorded.filter(|(_, sent)| proven(&messages(&mut (*sent).clone()))).take(8);
        let recorded: Vec<Bytes> = recorded.map(|(_, sent)| Bytes::copy_from_slice(sent)).collect();
        let which = self.rng.below(recorded.len().max(1));
        recorded.get(which).cloned()
    }

    /// The messages that the test has received on its connection since the last call.
    pub fn messages(&mut self, wire: WireId) -> Vec<Message> {
        messages(self.inbox(wire))
    }

    /// All runs of a node, including the current one, if the network records.
    pub fn runs(&self, ix: NodeIx) -> &[Run] {
        self.watch.nodes.get(&ix).map_or(&[], |known| &known.runs)
    }

    /// The stage of a rolling change of key on a node; `None` without a key.
    pub fn key_stage(&self, ix: NodeIx) -> Option<u64> {
        self.watch.nodes.get(&ix)?.key_stage
    }

    /// The latest inputs and outputs, the state of the nodes, and the command that runs it again.
    pub(crate) fn report(&self) -> String {
        let seed = self.seed();
        let mut out = format!("--- seed {seed}; the latest events:\n{}--- the nodes:\n", self.watch.trace.text());
        for ix in (0..self.len()).take(12) {
            let _ = writeln!(out, "{}", self.describe(ix));
        }
        let nodes = env::var("FORMATION_SIM_NODES").map(|nodes| format!(" FORMATION_SIM_NODES={nodes}"));
        let nodes = nodes.unwrap_or_default();
        let _ = write!(out, "--- again: FORMATION_SIM_SEED={seed}{nodes} cargo {}", again());
        out
    }

    fn describe(&self, ix: NodeIx) -> String {
        let host = self.host(ix);
        let Some(formation) = &host.formation else { return format!("node {ix}: does not run") };
        let Status { phase, term, master, links, counters, .. } = formation.status();
        let members: Vec<_> = formation.view().iter().take(12).map(|m| format!("{}:{:?}", m.node, m.state)).collect();
        let mut out = format!(
            "node {ix} = {}: {phase:?} term {term} master {master:?} links {links} {counters:?}\n    view {} of {} {}",
            formation.node(),
            formation.view().id(),
            formation.view().len(),
            members.join(" "),
        );
        let elections = |event: &Event| {
            matches!(event, Event::MasterElected { .. } | Event::MasterLost { .. } | Event::Stopped { .. })
        };
        let latest: Vec<_> = host.events.iter().filter(|(_, event)| elections(event)).collect();
        for (at, event) in &latest[latest.len().saturating_sub(6)..] {
            let _ = write!(out, "\n    {:.6} {event:?}", *at as f64 / 1e6);
        }
        out
    }
}

/// The arguments with which cargo runs this program again: the same arguments, or only the test of this thread.
fn again() -> String {
    let program = env::current_exe().ok();
    match program.as_ref().and_then(|program| program.file_stem()?.to_str()) {
        Some("simulate") => {
            let arguments: Vec<String> = env::args().skip(1).collect();
            format!("run --release -p formation-tests --bin simulate -- {}", arguments.join(" "))
        }
        _ => {
            let test = thread::current().name().unwrap_or_default().to_owned();
            format!("test -p formation-tests --test virtual_time -- --exact {test}")
        }
    }
}
