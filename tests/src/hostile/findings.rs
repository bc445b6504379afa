//! What a hostile peer must never achieve, and the checks of it.

use std::{collections::BTreeMap, time::Duration};

use formation_core::{Event, MemberState, Node, Phase, StopReason, Term};

use super::{Attack, Place};
use crate::{NodeIx, net::Net};

/// What a hostile peer has achieved. Each kind is reported once per run, with the first example.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings(BTreeMap<&'static str, String>);

impl Findings {
    pub(super) fn add(&mut self, kind: &'static str, what: impl FnOnce() -> String) {
        self.0.entry(kind).or_insert_with(what);
    }

    /// All of them in one line, each beginning with its kind. `None` if there are none.
    pub(super) fn text(&self) -> Option<String> {
        let all: Vec<_> = self.0.iter().map(|(kind, what)| format!("{kind}: {what}")).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// A healthy cluster before the attack.
pub(super) struct Healthy {
    since: Duration,
    master: (NodeIx, Term),
    nodes: Vec<(Node, u64)>,
}

impl Healthy {
    /// The state of a cluster that has formed.
    pub(super) fn of(net: &Net) -> Self {
        let candidacies = |ix| net.status(ix).counters.candidacies;
        let Some(master) = net.masters().first().copied() else { net.fail("a formed cluster has a master") };
        let nodes = (0..net.len()).map(|ix| (net.node(ix), candidacies(ix))).collect();
        // What happened at this very time belongs to the formation.
        Self { since: net.now() + Duration::from_micros(1), master, nodes }
    }

    /// T2: no term, no master, no lease, no link and no entry of an honest node has changed.
    pub(super) fn check(&self, net: &Net, findings: &mut Findings) {
        for (ix, (node, candidacies)) in self.nodes.iter().enumerate() {
            let Some(formation) = &net.host(ix).formation else { continue };
            let status = formation.status();
            if status.phase == Phase::Stopped {
                continue;
            }
            if status.term != self.master.1 {
                findings.add("term", || format!("{node} went from {} to {}", self.master.1, status.term));
            }
            if status.counters.candidacies != *candidacies {
                findings.add("candidacy", || format!("{node} became a candidate"));
            }
            for (other, _) in &self.nodes {
                let member = formation.view().get(&other.id);
                if member.is_none_or(|member| member.node != *other || member.state != MemberState::Active) {
                    findings.add("view", || format!("{node} has {member:?} as the entry of {other}"));
                }
            }
        }
        if net.masters() != [self.master] {
            findings.add("lease", || format!("{:?} have a lease, instead of {:?}", net.masters(), self.master));
        }
    }

    /// The same for what happens in between.
    pub(super) fn check_events(&self, net: &Net, findings: &mut Findings) {
        let is_voter = |ix: NodeIx| {
            let config = &net.host(ix).config;
            config.seeds().contains(config.address())
        };
        for (ix, (node, _)) in self.nodes.iter().enumerate() {
            for (at, event) in &net.host(ix).events {
                if Duration::from_micros(*at) < self.since {
                    continue;
                }
                let kind = match event {
                    Event::MasterLost { .. } => "master",
                    // Everybody keeps a link to the master, and the voters to each other.
                    Event::Unlinked { node: peer, .. } => {
                        let Some(other) = self.nodes.iter().position(|(node, _)| node == peer) else { continue };
                        let kept = [ix, other].contains(&self.master.0) || is_voter(ix) && is_voter(other);
                        if !kept {
                            continue;
                        }
                        "link"
                    }
                    _ => continue,
                };
                findings.add(kind, || format!("{node} reports {event:?} at {:.3} s", *at as f64 / 1e6));
            }
        }
    }
}

/// No honest node has stopped. None of them is superseded, because an older run is over when a newer one starts.
pub(super) fn check_stopped(net: &Net, findings: &mut Findings) {
    for ix in 0..net.len() {
        for reason in [StopReason::Superseded, StopReason::IdInUse] {
            if net.saw(ix, |event| *event == Event::Stopped { reason }) {
                findings.add("stopped", || format!("node {ix} stopped with {reason:?}"));
            }
        }
    }
}

/// The hostile peer is gone and the network is quiet: what keeps the honest nodes from being whole.
pub(super) fn check_whole(attack: &Attack, net: &Net, findings: &mut Findings) {
    let nodes: Vec<_> = net.living();
    let voters = net.len() - attack.members;
    let linked = |a: NodeIx, b: NodeIx| !net.between(a, b).is_empty();
    let before = findings.0.len();
    match net.masters()[..] {
        [] => findings.add("no master", || "no honest node is the master".into()),
        [(master, _)] => {
            for ix in nodes.iter().copied().filter(|ix| *ix != master) {
                if !linked(ix, master) {
                    findings.add("out of reach", || format!("node {ix} has no link to the master {master}"));
                }
            }
        }
        _ => findings.add("two masters", || format!("{:?}", net.masters())),
    }
    for a in nodes.iter().copied().filter(|ix| *ix < voters) {
        for b in nodes.iter().copied().filter(|ix| (a + 1..voters).contains(ix)) {
            if !linked(a, b) {
                findings.add("out of reach", || format!("the voters {a} and {b} have no link"));
            }
        }
    }
    for ix in &nodes {
        let Some(formation) = &net.host(*ix).formation else { continue };
        for other in &nodes {
            if formation.view().get(&net.node(*other).id).is_none_or(|member| member.node != net.node(*other)) {
                findings.add("missing", || format!("node {other} is not in the view of node {ix}"));
            }
        }
        if let Some(ghost) = formation.view().iter().find(|m| nodes.iter().all(|ix| net.node(*ix) != m.node)) {
            findings.add("ghost", || format!("{} is in the view of node {ix}", ghost.node));
        }
    }
    if findings.0.len() == before {
        findings.add("G5", || "the living nodes do not agree".into());
    }
}

impl Attack {
    /// G1 and G2 need two quorums to share an honest voter. With an odd number of voters of which one is hostile, two
    /// quorums may share the hostile one alone.
    pub(super) fn may_split_quorums(&self, honest: usize) -> bool {
        self.place == Place::Voter && honest.is_multiple_of(2)
    }
}
