//! What all processes have said, held against the guarantees. It trusts nothing that a node thinks of itself but what it
//! has told its service: events, and the leases by which the service may act.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

use formation_core::{Change, Event, Member, MemberState, Node, NodeId, Term, ViewId};

use crate::record::{Record, What};

type Members = BTreeMap<NodeId, Member>;

/// All that was said so far.
#[derive(Default)]
pub(crate) struct History {
    masters: BTreeMap<Term, Node>,
    views: BTreeMap<ViewId, (Node, Members)>,
    /// A killed process keeps its claims until the next run of its node, since nobody can know before that it is dead.
    claims: Vec<Claim>,
    nodes: BTreeMap<Node, Told>,
    /// When each run was first reported, by itself or by a peer.
    starts: BTreeMap<Node, u64>,
}

/// A node could act as the master from one moment to the other, in microseconds.
#[derive(Clone, Debug)]
struct Claim {
    node: Node,
    term: Term,
    from: u64,
    until: u64,
    /// When it reported so last.
    reported: u64,
}

/// What one run of a node has said last.
#[derive(Default)]
struct Told {
    view_id: ViewId,
    members: Members,
    master: Option<(Term, Node)>,
    persist_failed: bool,
    /// It has said that it leaves: its host lets it act no longer.
    over: Option<u64>,
}

impl History {
    /// Takes one more line. Those of one process come in their order, those of several in any.
    ///
    /// # Errors
    /// Says which guarantee is broken, by whom.
    pub(crate) fn take(&mut self, record: &Record) -> Result<(), String> {
        let node = &record.node;
        match &record.what {
            What::Lease(None) => {}
            What::Started {} => self.starts(node, record.at),
            What::Skipped(count) => return Err(format!("{node} has told {count} events less than there were")),
            What::Leaving => self.ends(node, record.at),
            What::Lease(Some(lease)) => {
                self.leads(node, lease.term)?;
                let over = self.told(node).over.unwrap_or(u64::MAX);
                self.claim(node, lease.term, (record.at, lease.valid_until_us.min(over)));
            }
            What::Event(Event::MasterElected { term, master, .. }) => {
                self.told(node).master = Some((*term, master.clone()));
                self.leads(master, *term)?;
            }
            What::Event(Event::MasterLost { .. } | Event::Stopped { .. }) => self.told(node).master = None,
            What::Event(Event::ViewChanged { view_id, changes }) => self.changes(node, *view_id, changes)?,
            What::Event(Event::Linked { node: peer, .. }) => self.starts(peer, record.at),
            What::Event(Event::PersistFailed) => self.told(node).persist_failed = true,
            What::Event(_) => {}
        }
        Ok(())
    }

    fn told(&mut self, node: &Node) -> &mut Told {
        self.nodes.entry(node.clone()).or_default()
    }

    /// From then on this node does not act as a master, whatever it was promised.
    fn ends(&mut self, node: &Node, at: u64) {
        let told = self.told(node);
        told.over = Some(told.over.map_or(at, |over| over.min(at)));
        for claim in self.claims.iter_mut().filter(|claim| claim.node == *node) {
            claim.until = claim.until.min(at);
        }
    }

    /// A peer may print its link to a new run before that run prints its own start.
    fn starts(&mut self, node: &Node, at: u64) {
        let first = self.starts.entry(node.clone()).or_insert(at);
        *first = at.min(*first);
    }

    /// G2: a lease ends with its process. The process has ended by the first report of a newer run of its node, unless it goes on
    /// to report its lease.
    fn end(&self, Claim { node, until, reported, .. }: &Claim) -> u64 {
        let newer = self.starts.range((Excluded(node), Unbounded)).take_while(|(other, _)| other.id == node.id);
        let replaced = newer.map(|(_, at)| *at).min().filter(|at| reported < at);
        replaced.map_or(*until, |at| at.min(*until))
    }

    /// G1, which durable votes give always.
    fn leads(&mut self, node: &Node, term: Term) -> Result<(), String> {
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

    /// G2: no two nodes could act as masters at one moment. To be asked once all have said what they have to say of the time
    /// in question.
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
                    "G2: {} may act in term {} until {} us, and {} in term {} from {} us",
                    before.node, before.term, before.until, claim.node, claim.term, claim.from
                ));
            }
            if longest.as_ref().is_none_or(|longest| longest.until < claim.until) {
                longest = Some(claim);
            }
        }
        Ok(())
    }

    /// G3: view ids grow at each node, and one view id is one list of members.
    fn changes(&mut self, node: &Node, view_id: ViewId, changes: &[Change]) -> Result<(), String> {
        let told = self.nodes.entry(node.clone()).or_default();
        if view_id <= told.view_id {
            return Err(format!("G3: {node} went from view {} to {view_id}", told.view_id));
        }
        told.view_id = view_id;
        for change in changes {
            match change {
                Change::Upsert(member) => drop(told.members.insert(member.node.id.clone(), member.clone())),
                Change::Remove { id, .. } => drop(told.members.remove(id)),
            }
        }
        let (other, members) = self.views.entry(view_id).or_insert_with(|| (node.clone(), told.members.clone()));
        if *members != told.members {
            return Err(format!(
                "G3: view {view_id} of {other} and that of {node} differ\n  {members:?}\n  {:?}",
                told.members
            ));
        }
        Ok(())
    }

    /// Whether these, and no others, are active members of one view, which all of them hold, and follow one master that can
    /// act at that time.
    pub(crate) fn agree(&self, nodes: &[&Node], at: u64) -> bool {
        let Some(master) = self.leader(nodes, at) else { return false };
        let Told { view_id, members, .. } = &self.nodes[master];
        let mut sorted = nodes.to_vec();
        sorted.sort();
        members.values().map(|member| &member.node).eq(sorted)
            && members.values().all(|member| member.state == MemberState::Active)
            && nodes.iter().all(|node| self.nodes[*node].view_id == *view_id)
    }

    /// Whom all of these follow, if it is one of them and can act at that time.
    pub(crate) fn leader<'a>(&self, nodes: &[&'a Node], at: u64) -> Option<&'a Node> {
        let followed = |node: &Node| self.nodes.get(node)?.master.as_ref();
        let (term, master) = followed(nodes.first()?)?;
        let master = *nodes.iter().find(|node| **node == master)?;
        let agreed =
            nodes.iter().all(|node| followed(node).is_some_and(|(other, theirs)| (other, theirs) == (term, master)));
        let claim = self.last_claim(master)?;
        (agreed && claim.term == *term && claim.until > at).then_some(master)
    }

    /// Since when this node can act as a master, or could when it was one last.
    pub(crate) fn leads_since(&self, master: &Node) -> Option<u64> {
        Some(self.last_claim(master)?.from)
    }

    fn last_claim(&self, node: &Node) -> Option<&Claim> {
        self.claims.iter().rev().find(|claim| claim.node == *node)
    }

    /// It votes no more until it is started again (E4).
    pub(crate) fn has_failed_to_persist(&self, node: &Node) -> bool {
        self.nodes.get(node).is_some_and(|told| told.persist_failed)
    }

    pub(crate) fn master_of(&self, term: Term) -> Option<&Node> {
        self.masters.get(&term)
    }

    /// How many masters there were.
    pub(crate) fn terms(&self) -> usize {
        self.masters.len()
    }

    /// How many different views there were.
    pub(crate) fn views(&self) -> usize {
        self.views.len()
    }
}

#[cfg(test)]
mod tests;
