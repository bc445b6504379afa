//! The history of all processes, checked against the guarantees. It uses only what a node has reported to its service:
//! events, and the leases during which the service may act.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

use formation_core::{Change, Event, Member, MemberState, Node, NodeId, Term, ViewId};

use crate::record::{Record, What};

type Members = BTreeMap<NodeId, Member>;

/// Everything that the nodes have reported so far.
#[derive(Default)]
pub(crate) struct History {
    masters: BTreeMap<Term, Node>,
    views: BTreeMap<ViewId, (Node, Members)>,
    /// A killed process keeps its claims until the next run of its node starts, because until then, no other node can
    /// know that it has been killed.
    claims: Vec<Claim>,
    nodes: BTreeMap<Node, NodeReports>,
    /// When each run was first reported, by itself or by a peer.
    starts: BTreeMap<Node, u64>,
}

/// A node could act as the master during this time, in microseconds.
#[derive(Clone, Debug)]
struct Claim {
    node: Node,
    term: Term,
    from: u64,
    until: u64,
    /// The time of the last report of this claim.
    reported: u64,
}

/// The latest reports of one run of a node.
#[derive(Default)]
struct NodeReports {
    view_id: ViewId,
    members: Members,
    master: Option<(Term, Node)>,
    /// The time at which the node reported that it leaves. From then on, its service no longer acts as master.
    left_at: Option<u64>,
}

impl History {
    /// Takes the next line. The lines of one process come in order, those of several processes in any order.
    ///
    /// # Errors
    /// Returns the broken guarantee, and the nodes that broke it.
    pub(crate) fn take(&mut self, record: &Record) -> Result<(), String> {
        let node = &record.node;
        match &record.what {
            What::Lease(None) => {}
            What::Started {} => self.note_start(node, record.at),
            What::Skipped(count) => return Err(format!("{node} has skipped {count} events")),
            What::Leaving => self.end_claims(node, record.at),
            What::Lease(Some(lease)) => {
                self.check_master(node, lease.term)?;
                let left_at = self.reports(node).left_at.unwrap_or(u64::MAX);
                self.claim(node, lease.term, (record.at, lease.valid_until_us.min(left_at)));
            }
            What::Event(Event::MasterElected { term, master, .. }) => {
                self.reports(node).master = Some((*term, master.clone()));
                self.check_master(master, *term)?;
            }
            What::Event(Event::MasterLost { .. } | Event::Stopped { .. }) => self.reports(node).master = None,
            What::Event(Event::ViewChanged { view_id, changes }) => self.changes(node, *view_id, changes)?,
            What::Event(Event::Linked { node: peer, .. }) => self.note_start(peer, record.at),
            What::Event(Event::PersistFailed) => {
                return Err(format!("E4: a vote of {node} has failed, not only waited"));
            }
            What::Event(_) => {}
        }
        Ok(())
    }

    fn reports(&mut self, node: &Node) -> &mut NodeReports {
        self.nodes.entry(node.clone()).or_default()
    }

    /// From this time on, the node does not act as the master, even with a valid lease.
    fn end_claims(&mut self, node: &Node, at: u64) {
        let reports = self.reports(node);
        reports.left_at = Some(reports.left_at.map_or(at, |earlier| earlier.min(at)));
        for claim in self.claims.iter_mut().filter(|claim| claim.node == *node) {
            claim.until = claim.until.min(at);
        }
    }

    /// A peer may print its link to a new run before that run prints its own start.
    fn note_start(&mut self, node: &Node, at: u64) {
        let first = self.starts.entry(node.clone()).or_insert(at);
        *first = at.min(*first);
    }

    /// G2: a lease ends with its process. The first report of a newer run of the node shows that the process has ended,
    /// unless it still reports its lease after that.
    fn end(&self, Claim { node, until, reported, .. }: &Claim) -> u64 {
        let newer = self.starts.range((Excluded(node), Unbounded)).take_while(|(other, _)| other.id == node.id);
        let replaced = newer.map(|(_, at)| *at).min().filter(|at| reported < at);
        replaced.map_or(*until, |at| at.min(*until))
    }

    /// G1, which always holds here, because votes are durable.
    fn check_master(&mut self, node: &Node, term: Term) -> Result<(), String> {
        let known = self.masters.entry(term).or_insert_with(|| node.clone());
        if known != node {
            return Err(format!("G1: {known} and {node} are both masters of term {term}"));
        }
        Ok(())
    }

    fn claim(&mut self, node: &Node, term: Term, (from, until): (u64, u64)) {
        if from >= until {
            return;
        }
        let last = self.claims.iter_mut().rev().find(|claim| claim.node == *node);
        match last {
            Some(last) if last.term == term && from <= last.until => {
                (last.until, last.reported) = (last.until.max(until), last.reported.max(from));
            }
            _ => self.claims.push(Claim { node: node.clone(), term, from, until, reported: from }),
        }
    }

    /// G2: no two nodes could act as masters at the same time. Call this when the lines of all nodes for the time in
    /// question have arrived.
    pub(crate) fn one_master_at_a_time(&self) -> Result<(), String> {
        let ended = |claim: &Claim| Claim { until: self.end(claim), ..claim.clone() };
        let mut claims: Vec<_> = self.claims.iter().map(ended).filter(|claim| claim.from < claim.until).collect();
        claims.sort_by_key(|claim| claim.from);
        let mut longest: Option<Claim> = None;
        for claim in claims {
            if let Some(before) = &longest
                && before.node != claim.node
                && claim.from < before.until
            {
                return Err(format!(
                    "G2: {} may act in term {} until {} us, but {} in term {} from {} us on",
                    before.node, before.term, before.until, claim.node, claim.term, claim.from
                ));
            }
            if longest.as_ref().is_none_or(|longest| longest.until < claim.until) {
                longest = Some(claim);
            }
        }
        Ok(())
    }

    /// G3: view ids increase at each node, and one view id stands for one list of members.
    fn changes(&mut self, node: &Node, view_id: ViewId, changes: &[Change]) -> Result<(), String> {
        let reports = self.nodes.entry(node.clone()).or_default();
        if view_id <= reports.view_id {
            return Err(format!("G3: {node} went from view {} to {view_id}", reports.view_id));
        }
        reports.view_id = view_id;
        for change in changes {
            match change {
                Change::Upsert(member) => drop(reports.members.insert(member.node.id.clone(), member.clone())),
                Change::Remove { id, .. } => drop(reports.members.remove(id)),
            }
        }
        let (other, members) = self.views.entry(view_id).or_insert_with(|| (node.clone(), reports.members.clone()));
        if *members != reports.members {
            return Err(format!(
                "G3: view {view_id} of {other} and that of {node} differ\n  {members:?}\n  {:?}",
                reports.members
            ));
        }
        Ok(())
    }

    /// Whether exactly these nodes are the active members of one view, all of them hold its members, and all follow one
    /// master that can act at this time.
    pub(crate) fn agree(&self, nodes: &[&Node], at: u64) -> bool {
        let Some(master) = self.leader(nodes, at) else { return false };
        // A view that differs from the last one by its id only is not reported.
        let NodeReports { members, .. } = &self.nodes[master];
        let mut sorted = nodes.to_vec();
        sorted.sort();
        members.values().map(|member| &member.node).eq(sorted)
            && members.values().all(|member| member.state == MemberState::Active)
            && nodes.iter().all(|node| self.nodes[*node].members == *members)
    }

    /// The master that all of these nodes follow, if it is one of them and can act at this time.
    pub(crate) fn leader<'a>(&self, nodes: &[&'a Node], at: u64) -> Option<&'a Node> {
        let reported_master = |node: &Node| self.nodes.get(node)?.master.as_ref();
        let (term, master) = reported_master(nodes.first()?)?;
        let master = *nodes.iter().find(|node| **node == master)?;
        let agreed = nodes
            .iter()
            .all(|node| reported_master(node).is_some_and(|(other, theirs)| (other, theirs) == (term, master)));
        let claim = self.last_claim(master)?;
        (agreed && claim.term == *term && claim.until > at).then_some(master)
    }

    /// The start of the last claim of this node.
    pub(crate) fn leads_since(&self, master: &Node) -> Option<u64> {
        Some(self.last_claim(master)?.from)
    }

    fn last_claim(&self, node: &Node) -> Option<&Claim> {
        self.claims.iter().rev().find(|claim| claim.node == *node)
    }

    pub(crate) fn master_of(&self, term: Term) -> Option<&Node> {
        self.masters.get(&term)
    }

    /// The number of terms with a master.
    pub(crate) fn terms(&self) -> usize {
        self.masters.len()
    }

    /// The number of different views.
    pub(crate) fn views(&self) -> usize {
        self.views.len()
    }
}

#[cfg(test)]
mod tests;
