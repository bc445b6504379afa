//! The guarantees that hold at every step of every simulated run.

use std::collections::BTreeMap;

use formation_core::{
    Bootstrap, Change, Config, Formation, HardState, Leadership, Member, MemberState, MembersView, Node, NodeId, Phase,
    Term, ViewId,
    message::{Message, Role},
};

use crate::{clock::Clock, host::RunId};

/// What all nodes have claimed so far.
#[derive(Default)]
pub(crate) struct Checks {
    masters: BTreeMap<Term, Node>,
    /// Until when, in the simulation's time, a run has ever been told that it is the master.
    leases: BTreeMap<RunId, u64>,
    views: BTreeMap<ViewId, MembersView>,
    /// How often a run has stood, and how many links it had, when it was last looked at.
    candidacies: BTreeMap<RunId, (u64, usize)>,
}

/// E4: a vote that the disk does not hold yet.
pub(crate) fn says_too_early(message: &Message, disk: &HardState) -> Option<String> {
    let (what, term) = match message {
        Message::VoteRequest(request) => ("asks for votes", request.term),
        Message::Vote(vote) if vote.granted => ("grants its vote", vote.term),
        Message::Status(status) if matches!(status.role, Role::Solo { .. }) => ("is a solo master", status.term),
        _ => return None,
    };
    let durable = disk.term > term || (disk.term == term && disk.voted_for.is_some());
    (!durable).then(|| format!("{what} in term {term}, and what is durable is {disk:?}"))
}

/// `Bootstrap::JoinOnly`: what only a voter may say that may form a cluster, or has joined one.
pub(crate) fn forms(message: &Message) -> bool {
    match message {
        Message::VoteRequest(_) => true,
        Message::Vote(vote) => vote.granted,
        Message::Status(status) => matches!(status.role, Role::Candidate | Role::Master | Role::Solo { .. }),
        _ => false,
    }
}

/// `Bootstrap::JoinOnly`: a node that has never joined neither stands nor is master.
pub(crate) fn only_joins(config: &Config, formation: &Formation, has_joined: bool) -> Result<(), String> {
    let phase = formation.status().phase;
    if config.bootstrap() == Bootstrap::Form || has_joined {
        return Ok(());
    }
    match phase {
        Phase::Candidate | Phase::Master | Phase::Solo => {
            Err(format!("JoinOnly: {} is {phase:?}, and has never joined", formation.node()))
        }
        _ => Ok(()),
    }
}

/// G7, as far as it can be seen from outside.
pub(crate) fn stays_in_bounds(config: &Config, formation: &Formation, conns: usize) -> Result<(), String> {
    let (limits, status) = (config.limits(), formation.status());
    let bounds = [
        ("connections", conns, limits.connections),
        ("connections that are not established", status.pending_connections, limits.pending_connections),
        ("bytes of unfinished frames", status.partial_bytes, limits.partial_bytes),
        ("members", formation.view().len(), limits.members),
    ];
    match bounds.into_iter().find(|(_, are, may_be)| are > may_be) {
        None => Ok(()),
        Some((what, are, may_be)) => {
            Err(format!("G7: {} has {are} {what}, and {may_be} are allowed", formation.node()))
        }
    }
}

impl Checks {
    /// G1 and G2: `node` says now that it is the master.
    pub(crate) fn leads(
        &mut self,
        now: u64,
        (run, node, clock): (RunId, &Node, Clock),
        leadership: Leadership,
        votes_last: bool,
    ) -> Result<(), String> {
        let Leadership { term, valid_until } = leadership;
        if votes_last
            && let known = self.masters.entry(term).or_insert_with(|| node.clone())
            && known != node
        {
            return Err(format!("G1: {known} and {node} are both masters of term {term}"));
        }
        let until = clock.reaches(valid_until);
        if until <= now {
            return Err(format!("leadership() of {node} reports a lease that ended at {until}"));
        }
        for (other, theirs) in &self.leases {
            if *other != run && *theirs > now {
                return Err(format!(
                    "G2: {node} has a lease for term {term}, while node {} has one until {theirs}",
                    other.host
                ));
            }
        }
        let mine = self.leases.entry(run).or_insert(0);
        *mine = until.max(*mine);
        Ok(())
    }

    /// The host of this run has ended its own mastership.
    pub(crate) fn ended(&mut self, run: RunId) {
        self.leases.remove(&run);
    }

    /// E2: nobody stands that is not even linked to as many others as a quorum needs.
    /// E4: and nobody whose votes cannot be kept.
    pub(crate) fn stands(
        &mut self,
        run: RunId,
        (config, formation): (&Config, &Formation),
        persist_failed: bool,
    ) -> Result<(), String> {
        let status = formation.status();
        let seen = (status.counters.candidacies, status.links);
        let (stood_before, links_before) = self.candidacies.insert(run, seen).unwrap_or_default();
        let stood = seen.0 > stood_before && status.phase == Phase::Candidate;
        if stood && persist_failed {
            return Err(format!("E4: {} stands, and has been told that its votes are not kept", formation.node()));
        }
        // A master that met a newer term stands without counting (E7).
        if stood && status.links.max(links_before) + 1 < config.quorum() && !self.leases.contains_key(&run) {
            return Err(format!("E2: {} stands with {} links only", formation.node(), status.links));
        }
        Ok(())
    }

    /// G3 between nodes: one view id is one member list.
    pub(crate) fn holds(&mut self, node: &Node, view: &MembersView) -> Result<(), String> {
        let view_id = view.id();
        let known = self.views.entry(view_id).or_insert_with(|| view.clone());
        if known != view {
            return Err(format!("G3: {node} holds another view of {view_id} than others\n  {known:?}\n  {view:?}"));
        }
        if self.views.len() > 4_096 {
            self.views.pop_first();
        }
        Ok(())
    }
}

/// Follows one node's reported changes.
#[derive(Default)]
pub(crate) struct Mirror {
    view_id: ViewId,
    members: BTreeMap<NodeId, Member>,
    /// The view id before.
    before: ViewId,
    /// The solo master that this node was or followed, which has given way, and its term.
    left: Option<(Node, Term)>,
    /// A view of another side has come, and `Merged` has to be said.
    merges: bool,
}

impl Mirror {
    /// G3 at one node: view ids increase, and the reported changes lead to the view.
    pub(crate) fn changed(
        &mut self,
        node: &Node,
        (view_id, changes): (ViewId, &[Change]),
        compare: bool,
    ) -> Result<(), String> {
        if view_id <= self.view_id {
            return Err(format!("G3: {node} went from {} to {view_id}", self.view_id));
        }
        self.before = std::mem::replace(&mut self.view_id, view_id);
        if compare {
            for change in changes {
                match change {
                    Change::Upsert(member) => drop(self.members.insert(member.node.id.clone(), member.clone())),
                    Change::Remove { id, .. } => drop(self.members.remove(id)),
                }
            }
        }
        Ok(())
    }

    /// E8: the master that this node is or follows has given way.
    pub(crate) fn leaves(&mut self, master: &Node, term: Term) {
        if self.view_id.term == term {
            self.left = Some((master.clone(), term));
        }
    }

    /// E8: `Merged` is due with the first view of another master, unless that one was a member of the side that ended, as
    /// far as this node knew. To be called before [`changed`](Self::changed).
    pub(crate) fn expects_merged(&mut self, node: &Node, master: Option<&Node>, view_id: ViewId) {
        let Some((left, term)) = &self.left else { return };
        if master == Some(left) && view_id.term == *term {
            return;
        }
        let knew = |master: &Node| {
            let member = self.members.get(&master.id);
            member.is_some_and(|member| member.node == *master && member.state == MemberState::Active)
        };
        self.merges = master.is_some_and(|master| master.id != left.id && master != node && !knew(master));
        self.left = None;
    }

    /// E8: it says that it has changed sides.
    pub(crate) fn merged(&mut self, node: &Node, from: ViewId, to: ViewId) -> Result<(), String> {
        self.merges = false;
        if (from, to) == (self.before, self.view_id) {
            return Ok(());
        }
        Err(format!("E8: {node} has merged from {from} to {to}, and went from {} to {}", self.before, self.view_id))
    }

    /// E8: nothing that had to be said with a view is missing.
    pub(crate) fn said_all(&self, node: &Node) -> Result<(), String> {
        match self.merges {
            true => Err(format!("E8: {node} has changed sides with {}, and has not said so", self.view_id)),
            false => Ok(()),
        }
    }

    /// Whether the view is the one that the changes made.
    pub(crate) fn agrees(&self, node: &Node, view: &MembersView, compare: bool) -> Result<(), String> {
        if view.id() != self.view_id {
            return Err(format!("{node} holds {}, but has reported {}", view.id(), self.view_id));
        }
        if compare && !view.iter().eq(self.members.values()) {
            return Err(format!("{node} holds {view:?}, but has reported {:?}", self.members));
        }
        Ok(())
    }
}
