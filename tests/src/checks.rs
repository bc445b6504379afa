//! Checks of the guarantees, at every step of every simulated run.

use std::collections::BTreeMap;

use formation_core::{
    Bootstrap, Change, Config, Event, Formation, HardState, Leadership, Member, MemberState, MembersView, Node, NodeId,
    Output, Phase, Term, ViewId,
    message::{Message, Role},
};

use formation_testing::sim::engine::{Clock, RunId};

use crate::electorates::Electorates;

/// Everything that the nodes of one cluster have claimed so far.
#[derive(Default)]
pub(crate) struct Checks {
    masters: BTreeMap<Term, Node>,
    /// The latest end of a lease that each run has reported, in the simulation's time. A lease ends with its process: it is
    /// kept until a newer run of the node starts (G2).
    leases: BTreeMap<RunId, u64>,
    views: BTreeMap<ViewId, MembersView>,
    /// The voters that change (E10).
    pub(crate) electorates: Electorates,
    /// The number of candidacies and the number of links of each run at the last check.
    candidacies: BTreeMap<RunId, (u64, usize)>,
}

/// E4: describes a message that uses a vote before the vote is durable.
pub(crate) fn vote_not_durable(message: &Message, disk: &HardState) -> Option<String> {
    let (action, term) = match message {
        Message::VoteRequest(request) => ("asks for votes", request.term),
        Message::Vote(vote) if vote.granted => ("grants its vote", vote.term),
        Message::Status(status) if matches!(status.role, Role::Solo { .. }) => ("is a solo master", status.term),
        _ => return None,
    };
    let durable = disk.term > term || (disk.term == term && disk.voted_for.is_some());
    (!durable).then(|| format!("{action} in term {term}, but its durable state is {disk:?}"))
}

/// `Bootstrap::JoinOnly`: whether this message is only for voters that may form a cluster or have joined one.
pub(crate) fn forms_cluster(message: &Message) -> bool {
    match message {
        Message::VoteRequest(_) => true,
        Message::Vote(vote) => vote.granted,
        Message::Status(status) => matches!(status.role, Role::Candidate | Role::Master | Role::Solo { .. }),
        _ => false,
    }
}

/// `Bootstrap::JoinOnly`: a node that has never joined is neither candidate nor master.
pub(crate) fn check_join_only(config: &Config, formation: &Formation, has_joined: bool) -> Result<(), String> {
    let phase = formation.status().phase;
    if config.bootstrap() == Bootstrap::Form || has_joined {
        return Ok(());
    }
    match phase {
        Phase::Candidate | Phase::Master | Phase::Solo => {
            Err(format!("JoinOnly: {} is {phase:?}, but has never joined", formation.node()))
        }
        _ => Ok(()),
    }
}

/// Nothing follows `Stopped`. Only a connection that opens later is closed. `stopped`: whether `Stopped` came before.
pub(crate) fn check_stop(stopped: &mut bool, output: &Output) -> Result<(), String> {
    match output {
        Output::Close { .. } => Ok(()),
        _ if *stopped => Err(format!("{output:?} follows Stopped")),
        Output::Event(Event::Stopped { .. }) => {
            *stopped = true;
            Ok(())
        }
        Output::Event(_)
        | Output::Dial { .. }
        | Output::Send { .. }
        | Output::Persist { .. }
        | Output::Handoff { .. }
        | Output::StreamFailed { .. } => Ok(()),
    }
}

/// G7, as far as it is visible from outside.
pub(crate) fn check_limits(config: &Config, formation: &Formation, conns: usize) -> Result<(), String> {
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
            Err(format!("G7: {} has {are} {what}, but only {may_be} are allowed", formation.node()))
        }
    }
}

impl Checks {
    /// G1 and G2: `node` reports a valid lease now.
    pub(crate) fn leads(
        &mut self,
        now: u64,
        (run, node, clock): (RunId, &Node, Clock),
        leadership: Leadership,
        (votes_last, leases_never_overlap): (bool, bool),
    ) -> Result<(), String> {
        let Leadership { term, valid_until, .. } = leadership;
        if votes_last
            && let known = self.masters.entry(term).or_insert_with(|| node.clone())
            && known != node
        {
            return Err(format!("G1: {known} and {node} are both masters of term {term}"));
        }
        let until = clock.reaches(valid_until);
        if until <= now {
            return Err(format!("leadership() of {node} reports a lease that has expired at {until}"));
        }
        for (other, theirs) in &self.leases {
            if leases_never_overlap && *other != run && *theirs > now {
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

    /// The lease of this run counts no more (G2): a newer run of its node starts, or its own embedder made it leave.
    pub(crate) fn ended(&mut self, run: RunId) {
        self.leases.remove(&run);
    }

    /// E2: no voter becomes a candidate without enough links for a quorum.
    /// E4: no voter becomes a candidate after its storage has failed.
    pub(crate) fn stands(
        &mut self,
        run: RunId,
        formation: &Formation,
        (persist_failed, new_links): (bool, usize),
    ) -> Result<(), String> {
        let status = formation.status();
        let seen = (status.counters.candidacies, status.links);
        let (candidacies_before, links_before) = self.candidacies.insert(run, seen).unwrap_or_default();
        let is_new_candidate = seen.0 > candidacies_before && status.phase == Phase::Candidate;
        if is_new_candidate && persist_failed {
            return Err(format!("E4: {} is a candidate, although its storage has failed", formation.node()));
        }
        // A master that learned a newer term becomes a candidate without the count of E2 (E7).
        // A link may open and close within one input.
        let links = status.links.max(links_before + new_links);
        if is_new_candidate && links + 1 < formation.electorate().quorum() && !self.leases.contains_key(&run) {
            return Err(format!("E2: {} is a candidate with only {} links", formation.node(), status.links));
        }
        Ok(())
    }

    /// G3 between nodes: one view id stands for one member list.
    pub(crate) fn holds(&mut self, node: &Node, view: &MembersView) -> Result<(), String> {
        let view_id = view.id();
        let known = self.views.entry(view_id).or_insert_with(|| view.clone());
        if known != view {
            return Err(format!(
                "G3: the view {view_id} of {node} differs from that of others\n  {known:?}\n  {view:?}"
            ));
        }
        if self.views.len() > 4_096 {
            self.views.pop_first();
        }
        Ok(())
    }
}

/// Rebuilds the view of one node from the changes that the node reports.
#[derive(Default)]
pub(crate) struct Mirror {
    view_id: ViewId,
    members: BTreeMap<NodeId, Member>,
    /// The previous view id.
    before: ViewId,
    /// The solo master that gave way, and its term, if this node was it or followed it.
    loser: Option<(Node, Term)>,
    /// The node has taken a view of another side, and has to report `Merged`.
    merge_due: bool,
}

impl Mirror {
    /// G3 at one node: view ids increase. The reported changes are exactly the differences from the last view, and there are some.
    pub(crate) fn changed(
        &mut self,
        node: &Node,
        (view_id, changes): (ViewId, &[Change]),
        compare: bool,
    ) -> Result<(), String> {
        self.moved(node, view_id)?;
        if changes.is_empty() {
            return Err(format!("{node} reports view {view_id}, in which nothing has changed"));
        }
        for change in changes.iter().filter(|_| compare) {
            let differs = match change {
                Change::Upsert(member) => {
                    self.members.insert(member.node.id.clone(), member.clone()).as_ref() != Some(member)
                }
                Change::Remove { id, .. } => self.members.remove(id).is_some(),
            };
            if !differs {
                return Err(format!("{node} reports a change to view {view_id} that changes nothing: {change:?}"));
            }
        }
        Ok(())
    }

    /// G3 at one node: the node holds a view with a larger id.
    fn moved(&mut self, node: &Node, view_id: ViewId) -> Result<(), String> {
        if view_id <= self.view_id {
            return Err(format!("G3: {node} went from {} to {view_id}", self.view_id));
        }
        self.before = std::mem::replace(&mut self.view_id, view_id);
        Ok(())
    }

    /// The last view id that is known.
    pub(crate) fn view_id(&self) -> ViewId {
        self.view_id
    }

    /// E7: terms and view ids begin again with this term.
    pub(crate) fn went_back(&mut self, term: Term) {
        if self.view_id.term >= term {
            self.view_id = ViewId::default();
        }
    }

    /// E8: the solo master that this node is or follows has given way.
    pub(crate) fn gave_way(&mut self, master: &Node, term: Term) {
        if self.view_id.term == term {
            self.loser = Some((master.clone(), term));
        }
    }

    /// E8: `Merged` is due with the first view of another master, unless this node knew that master as a member of the
    /// side that gave way. Call this before [`changed`](Self::changed).
    pub(crate) fn expects_merged(&mut self, node: &Node, master: Option<&Node>, view_id: ViewId) {
        let Some((loser, term)) = &self.loser else { return };
        if master == Some(loser) && view_id.term == *term {
            return;
        }
        let knows = |master: &Node| {
            let member = self.members.get(&master.id);
            member.is_some_and(|member| member.node == *master && member.state == MemberState::Active)
        };
        self.merge_due = master.is_some_and(|master| master.id != loser.id && master != node && !knows(master));
        self.loser = None;
    }

    /// E8: the node reports that it has changed sides.
    pub(crate) fn merged(&mut self, node: &Node, from: ViewId, to: ViewId) -> Result<(), String> {
        self.merge_due = false;
        if to > self.view_id {
            // The first view from the master that continues has the members of the last one, so only its id is new.
            self.loser = None;
            self.moved(node, to)?;
        }
        // Views of the losing side may have been silent, too.
        if to == self.view_id && (self.before..to).contains(&from) {
            return Ok(());
        }
        Err(format!(
            "E8: {node} reports a merge from {from} to {to}, but went from {} to {}",
            self.before, self.view_id
        ))
    }

    /// E8: the node has reported every `Merged` that was due with a view.
    pub(crate) fn reported_all(&self, node: &Node) -> Result<(), String> {
        match self.merge_due {
            true => Err(format!("E8: {node} has changed sides with {}, and has not reported it", self.view_id)),
            false => Ok(()),
        }
    }

    /// Checks that the reported changes lead to the view that the node holds. The id may be new
    /// without a report, but not the members.
    pub(crate) fn agrees(
        &mut self,
        (node, view): (&Node, &MembersView),
        master: Option<&Node>,
        compare: bool,
    ) -> Result<(), String> {
        if view.id() != self.view_id {
            self.expects_merged(node, master, view.id());
            self.moved(node, view.id())?;
        }
        if compare && !view.iter().eq(self.members.values()) {
            return Err(format!("{node} holds view {view:?}, but has reported {:?}", self.members));
        }
        Ok(())
    }
}
