//! What a master does for its members: it admits them, keeps them informed, and judges who is down
//! (PROTOCOL.md, "Members and views").

use alloc::vec::Vec;

use bytes::Bytes;

use super::{
    Context, Membership,
    pace::Pace,
    tracker::{Ack, MemberKey, Tracker},
    unresponsive::Unresponsive,
};
use crate::{
    api::error::RejectReason,
    api::explain::MemberReport,
    discovery::Rejections,
    env::{Env, never},
    id::{Node, NodeId, Term},
    membership::view::{Change, Member, MemberState, MembersView, RemovalReason},
    peers::{Peer, PeerKey, PeerTable, Post},
    time::Timestamp,
    timers::{Timer, Timers},
    wire::frame::SharedFrame,
    wire::message::{Heartbeat, HeartbeatAck, JoinResponse, Message, Role},
};

/// What a node has only while it is master.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Mastering {
    pub(super) tracker: Tracker,
    /// The newest heartbeat and its number, encoded once for all members.
    pub(super) heartbeat: Option<(u64, SharedFrame)>,
    /// A joining node was rejected because the cluster was full.
    rejected_as_full: bool,
    /// The nodes that were removed without having acknowledged a heartbeat.
    unresponsive: Unresponsive,
    pace: Pace,
    /// The members have got the changes of a burst since the last heartbeat.
    pub(super) burst_ended: bool,
}

impl Mastering {
    pub(super) fn check(&self, view: &MembersView, env: &Env, peers: &PeerTable, timers: &Timers) {
        let others = || view.iter().map(|member| &member.node.id).filter(|id| **id != env.me.id);
        assert!(self.tracker.members().eq(others()), "exactly the other members are tracked");
        assert!(view.get(&env.me.id).is_some_and(|member| member.node == env.me), "a master is a member of its view");
        self.tracker.check(view, |node| peers.with_node(node).is_some());
        let is_watched = timers.is_set(&Timer::Members);
        assert_eq!(
            is_watched,
            self.tracker.members().next().is_some(),
            "the members have a deadline, if there are any"
        );
        assert!(timers.is_set(&Timer::Heartbeat), "the next heartbeat has a deadline");
    }
}

/// What has become of a member that was to be judged.
pub(crate) enum Judged {
    /// It is a member as before, perhaps a suspect one.
    Member,
    /// It is down, and not a member any more.
    Down(Removal),
}

/// A member was removed, and its removal is not reported yet.
pub(crate) struct Removal {
    changes: Vec<Change>,
    /// The member, if it is linked all the same.
    pub(crate) linked: Option<PeerKey>,
}

impl Membership {
    /// What this master knows of each member. Nothing on any other node.
    pub(crate) fn explain(&self, now: Timestamp) -> Vec<MemberReport> {
        let Some(Mastering { tracker, .. }) = &self.mastering else { return Vec::new() };
        let report = |member: &Member| {
            let id = &member.node.id;
            let (view_id, linked, round_trip) = tracker.known(id)?;
            let judged_in = tracker.deadline(self.held.view(), id).map(|at| at.since(now));
            Some(MemberReport { id: id.clone(), state: member.state, linked, view_id, judged_in, round_trip })
        };
        self.held.view().iter().filter_map(report).collect()
    }

    pub(super) fn tracker(&self) -> Option<&Tracker> {
        self.mastering.as_ref().map(|mastering| &mastering.tracker)
    }

    /// This node is the master of a new term: writes the first view of it.
    pub(crate) fn begin_term(&mut self, context: &mut Context<'_>, term: Term, metadata: &Bytes) {
        let (env, solo) = (context.env, context.election.is_solo());
        let me = Member {
            node: env.me.clone(),
            address: env.config.address().clone(),
            state: MemberState::Active,
            metadata: metadata.clone(),
        };
        let peers = &*context.peers;
        let is_linked = |node: &Node| peers.with_node(node).is_some_and(|peer| !(solo && peer.is_elsewhere(&env.me)));
        let leavers = self.held.take_leavers();
        let leaves = |node: &Node| leavers.contains(node) || peers.with_node(node).is_some_and(Peer::leaves_verifiably);
        let mut tracker = Tracker::new(&env.config);
        let changes = tracker.begin(&mut self.held, term, me, leaves, is_linked, env.now);
        self.held.written_by((&env.me, solo));
        self.mastering = Some(Mastering {
            tracker,
            heartbeat: None,
            rejected_as_full: false,
            unresponsive: Unresponsive::new(&env.config),
            pace: Pace::new(env.limits().members),
            burst_ended: false,
        });
        self.announce(context, changes);
        let tracked: Vec<NodeId> = self.tracker().into_iter().flat_map(Tracker::members).cloned().collect();
        for id in &tracked {
            self.watch(context, id);
        }
    }

    /// This node is master no more.
    pub(crate) fn end_term(&mut self, context: &mut Context<'_>) {
        if self.mastering.take().is_none() {
            return never!("a mastership that ends has begun");
        }
        context.sink.clear_timer(&Timer::Heartbeat);
        context.sink.clear_timer(&Timer::Members);
        context.sink.clear_timer(&Timer::Burst);
        context.peers.end_mastership();
    }

    /// Whether this master has the node as an active member, which has acknowledged a heartbeat since it became one.
    pub(crate) fn is_sound_member(&self, node: &Node) -> bool {
        let member = self.held.view().get(&node.id);
        member.is_some_and(|member| member.node == *node && member.state.is_active())
            && self.tracker().is_some_and(|tracker| tracker.has_acked(&node.id))
    }

    /// Sends a heartbeat to every member that has a link.
    pub(crate) fn beat(&mut self, context: &mut Context<'_>, heartbeat: Heartbeat) {
        let Some(mastering) = &mut self.mastering else { return never!("only a master has a heartbeat") };
        let frame = SharedFrame::new(&Message::Heartbeat(heartbeat));
        mastering.heartbeat = Some((heartbeat.number, frame));
        let next = context.env.now + context.env.timing().heartbeat_interval;
        context.sink.set_timer(Timer::Heartbeat, next);
        context.sink.clear_timer(&Timer::Burst);
        mastering.burst_ended = false;
        mastering.tracker.begin_round(self.held.view());
        context.peers.post_to_all(&Post::Heartbeat, |peer| mastering.tracker.tracks(&peer.node().id));
    }

    /// Nothing has changed for a moment after a burst: the members get it now, once per heartbeat (V8).
    pub(crate) fn end_burst(&mut self, context: &mut Context<'_>) {
        let Some(mastering) = &mut self.mastering else { return never!("only a master waits for the end of a burst") };
        mastering.burst_ended = true;
        mastering.tracker.end_burst(self.held.view());
        context.peers.wake_links_of(mastering.tracker.members());
    }

    /// Admits every linked node that is not leaving, as far as it is no member yet.
    pub(crate) fn admit_all(&mut self, context: &mut Context<'_>, rejections: &mut Rejections) {
        for key in context.peers.keys() {
            self.admit(context, rejections, key);
        }
    }

    /// Decides what the status of a linked node means for the membership: the node is admitted, rejected or let go, its entry in the
    /// view changes, it gets no more views, or nothing happens.
    pub(crate) fn admit(&mut self, context: &mut Context<'_>, rejections: &mut Rejections, key: PeerKey) {
        let (env, election) = (context.env, context.election);
        let Some(peer) = context.peers.peer(key) else { return never!("a peer that is to be admitted is linked") };
        // It is judged again with its first status.
        let Some(status) = peer.status() else { return };
        if peer.is_leaving() {
            return self.let_go(context, rejections, key);
        }
        let Some(mastering) = &mut self.mastering else { return never!("only a master admits") };
        let (id, term) = (peer.node().id.clone(), election.term());
        if election.is_solo() && !peer.takes_views_of(&env.me) {
            return mastering.tracker.has_gone_over(&id);
        }
        let follows_me = match &status.role {
            Role::Leaving | Role::Master | Role::Solo { .. } => return,
            Role::Follower { master, .. } => *master == env.me && status.term == term,
            // E8: the candidate may be a solo master in a moment, and the joining node one of its members. Neither must decide between
            // the two masters as a member of this one.
            Role::Joining | Role::Candidate if election.is_solo() && election.knows_a_candidate() => return,
            Role::Joining | Role::Candidate => false,
        };
        let known = self.held.view().get(&id);
        let is_same = known.is_some_and(|known| {
            known.node == *peer.node() && !peer.metadata_too_long() && known.metadata == status.metadata
        });
        if follows_me && is_same {
            return;
        }
        let is_full = known.is_none() && self.held.view().len() >= env.limits().members;
        mastering.rejected_as_full |= is_full;
        let is_unresponsive = known.is_none() && mastering.unresponsive.must_wait(peer.node(), env.now);
        let rejection = match (is_full, peer.metadata_too_long(), is_unresponsive) {
            (true, _, _) => Some(RejectReason::ClusterFull),
            (false, true, _) => Some(RejectReason::MetadataTooLong),
            (false, false, true) => Some(RejectReason::Unresponsive),
            (false, false, false) => None,
        };
        let (node, address, metadata) = (peer.node().clone(), peer.address().clone(), status.metadata.clone());
        let state = mastering.tracker.state_of(&node, known);
        let mut member = Member { node, address, state, metadata };
        if rejection.is_none() {
            match mastering.pace.entry(member, known, !follows_me) {
                Some(entry) => member = entry,
                // V8: it is judged again with the next heartbeat, by its newest status.
                None => return,
            }
        }
        if !follows_me {
            let response = match rejection {
                Some(reason) => JoinResponse::Rejected { term, reason },
                None => JoinResponse::Accepted { term },
            };
            context.peers.post(key, Post::Join(response));
        }
        match rejection {
            // No answer: it follows this master already. A member keeps its entry; another node was answered when it joined.
            Some(_) if follows_me => {}
            Some(reason) => {
                rejections.report(context.sink, (member.node, member.address), (reason, None), (None, None), false);
            }
            None => {
                rejections.admitted(&id, &member.address);
                let changes = mastering.tracker.admit(&mut self.held, member, env.now);
                self.announce_if_any(context, changes);
                self.watch(context, &id);
            }
        }
        context.peers.wake(key);
    }

    /// Removes a peer that leaves from the view, and acknowledges that, as often as the peer reports that it leaves.
    pub(crate) fn let_go(&mut self, context: &mut Context<'_>, rejections: &mut Rejections, key: PeerKey) {
        let Some(id) = context.peers.peer(key).map(|peer| peer.node().id.clone()) else {
            return never!("a peer that leaves is linked");
        };
        let removal = self.remove(context, &id, RemovalReason::Left);
        self.report(context, rejections, removal);
        context.peers.post(key, Post::LeaveAck);
    }

    /// The members whose deadlines have come, the earliest first. The timer is set for the others.
    pub(crate) fn due(&self, context: &mut Context<'_>) -> Vec<MemberKey> {
        let Some(tracker) = self.tracker() else { return never!("only a master watches members", Vec::new()) };
        let (due, next) = tracker.due(self.held.view(), context.env.now);
        if let Some(next) = next {
            context.sink.bring_forward(Timer::Members, next);
        }
        due
    }

    /// Judges a member whose deadline has come: it is suspect, then down. Only while this master has its lease.
    pub(crate) fn judge(&mut self, context: &mut Context<'_>, member: MemberKey) -> Judged {
        let now = context.env.now;
        let Some((tracker, id)) = self.tracker().and_then(|tracker| Some((tracker, tracker.id_of(member)?.clone())))
        else {
            return never!("a member that is due is tracked", Judged::Member);
        };
        let Some(deadline) = tracker.deadline(self.held.view(), &id) else {
            return never!("a member that is tracked has a deadline", Judged::Member);
        };
        if deadline > now {
            self.watch(context, &id);
        } else if context.election.leadership(now).is_none() {
            context.sink.bring_forward(Timer::Members, now + context.env.timing().heartbeat_interval);
        } else if tracker.is_down(&id, now) {
            return Judged::Down(self.remove(context, &id, RemovalReason::Down));
        } else {
            self.suspect(context, &id);
        }
        Judged::Member
    }

    /// Removes a member. The caller closes the links to one that is down, then calls [`report`](Self::report).
    fn remove(&mut self, context: &mut Context<'_>, id: &NodeId, reason: RemovalReason) -> Removal {
        let Some(mastering) = &mut self.mastering else {
            return never!("only a master removes", Removal { changes: Vec::new(), linked: None });
        };
        let removed = self.held.view().get(id).map(|member| member.node.clone());
        if let (Some(node), RemovalReason::Down) = (&removed, reason) {
            mastering.unresponsive.removed(node, mastering.tracker.has_acked(id), context.env.now);
        }
        let changes = mastering.tracker.remove(&mut self.held, id, reason);
        if mastering.tracker.members().next().is_none() {
            context.sink.clear_timer(&Timer::Members);
        }
        // A newer run of the node may be linked already, and not be a member yet.
        let linked = removed.and_then(|node| context.peers.with_node(&node)).map(Peer::key);
        Removal { changes, linked }
    }

    /// Reports the removal of a member, which may make room for a node that was rejected.
    pub(crate) fn report(&mut self, context: &mut Context<'_>, rejections: &mut Rejections, removal: Removal) {
        self.announce_if_any(context, removal.changes);
        let Some(mastering) = &mut self.mastering else { return never!("only a master removes") };
        if core::mem::take(&mut mastering.rejected_as_full) {
            self.admit_all(context, rejections);
        }
    }

    /// A heartbeat is due. Admits the nodes that had to wait, once their time is over, and takes the changes that had to wait.
    pub(crate) fn admit_waiting(&mut self, context: &mut Context<'_>, rejections: &mut Rejections) {
        let Some(mastering) = &mut self.mastering else { return never!("only a master admits") };
        let (is_due, has_waiting) = (mastering.unresponsive.take_due(context.env.now), mastering.pace.begin_round());
        if is_due || has_waiting {
            self.admit_all(context, rejections);
        }
    }

    /// The last link to a node has ended.
    pub(crate) fn link_down(&mut self, context: &mut Context<'_>, id: &NodeId) {
        if let Some(mastering) = &mut self.mastering {
            let changes = mastering.tracker.link_down(&mut self.held, id);
            self.judged(context, id, changes);
        }
    }

    /// One of several links to a node has ended.
    pub(crate) fn relinked(&mut self, id: &NodeId, now: Timestamp) {
        if let Some(mastering) = &mut self.mastering {
            mastering.tracker.relinked(id, now);
        }
    }

    /// A member has acknowledged a heartbeat.
    pub(crate) fn acknowledged(&mut self, context: &mut Context<'_>, key: PeerKey, ack: HeartbeatAck) {
        // It may have been one when it sent the heartbeat.
        let Some(mastering) = &mut self.mastering else { return };
        let Some(id) = context.peers.peer(key).map(|peer| peer.node().id.clone()) else {
            return never!("a peer that acknowledges is linked");
        };
        let known = mastering.tracker.ack(self.held.view(), &id, ack.number, ack.view_id, context.env.now);
        if known != Ack::Old
            && let Some(sent) = context.election.sent_at(ack.number)
        {
            let round_trip = context.env.now.since(sent);
            mastering.tracker.took(&id, round_trip);
            self.round_trips.push(round_trip);
        }
        match known {
            Ack::Revived => self.revive(context, &id),
            Ack::Expected | Ack::Old => {}
        }
        // The acknowledgement may have shown that something is missing.
        context.peers.wake(key);
    }

    /// A master writes its own metadata into the view.
    pub(crate) fn write_own(&mut self, context: &mut Context<'_>, metadata: &Bytes) {
        let Some(mastering) = &mut self.mastering else { return };
        let Some(me) = self.held.view().get(&context.env.me.id) else {
            return never!("a master is a member of its view");
        };
        if me.metadata != *metadata {
            let me = Member { metadata: metadata.clone(), ..me.clone() };
            let changes = mastering.tracker.write(&mut self.held, me);
            self.announce_if_any(context, changes);
        }
    }

    /// This node has paused: every member gets a full new allowance.
    pub(crate) fn reset_allowances(&mut self, now: Timestamp) {
        if let Some(mastering) = &mut self.mastering {
            mastering.tracker.reset_allowances(now);
        }
    }

    fn suspect(&mut self, context: &mut Context<'_>, id: &NodeId) {
        let Some(mastering) = &mut self.mastering else { return never!("only a master judges members") };
        let changes = mastering.tracker.suspect(&mut self.held, id, context.env.now);
        self.judged(context, id, changes);
    }

    fn revive(&mut self, context: &mut Context<'_>, id: &NodeId) {
        let Some(mastering) = &mut self.mastering else { return never!("only a master judges members") };
        let changes = mastering.tracker.set_state(&mut self.held, id, MemberState::Active);
        self.judged(context, id, changes);
    }

    /// The state of a member may have changed, and with it its next deadline.
    fn judged(&mut self, context: &mut Context<'_>, id: &NodeId, changes: Vec<Change>) {
        self.announce_if_any(context, changes);
        self.watch(context, id);
    }

    /// The timer is due no later than the member's next deadline.
    fn watch(&self, context: &mut Context<'_>, id: &NodeId) {
        let Some(tracker) = self.tracker() else { return never!("only a master watches members") };
        // A linked node need not be a member.
        if let Some(at) = tracker.deadline(self.held.view(), id) {
            context.sink.bring_forward(Timer::Members, at);
        }
    }

    fn announce_if_any(&mut self, context: &mut Context<'_>, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.announce(context, changes);
        }
    }
}
