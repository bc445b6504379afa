//! What a master does for its members: it takes them in, keeps them informed, and judges who is gone
//! (PROTOCOL.md, "Members and views").

use alloc::vec::Vec;

use crate::{
    error::{CloseReason, RejectReason},
    formation::Formation,
    id::{Address, Node, NodeId, Term},
    link::Peer,
    message::{HeartbeatAck, JoinResponse, Message, Role},
    roster::{Ack, Roster},
    shared::Shared,
    timer::Timer,
    view::{Member, MemberState, RemovalReason},
};

impl Formation {
    pub(crate) fn begin_term(&mut self, term: Term) {
        let mut roster = Roster::new(&self.config);
        let me = Member {
            node: self.me.clone(),
            address: self.config.address().clone(),
            state: MemberState::Active,
            metadata: self.metadata.clone(),
        };
        let solo = self.election.is_solo();
        let peer = |node: &Node| self.peers.get(&node.id).filter(|peer| peer.node == *node);
        let linked = |node: &Node| peer(node).is_some_and(|peer| !(solo && peer.is_elsewhere(&self.me)));
        let said_so = core::mem::take(&mut self.gone);
        let gone = |node: &Node| said_so.contains(node) || peer(node).is_some_and(Peer::leaves);
        let writer = self.membership.writer.take();
        let view = (&mut self.membership.view, writer);
        let changes = roster.begin(view, term, me, gone, linked, self.now);
        self.membership.written_by(&self.me);
        self.membership.solo = solo;
        self.election.take_gave_way();
        let tracked: Vec<NodeId> = roster.members().cloned().collect();
        self.membership.roster = Some(roster);
        self.announce_view(changes);
        for id in &tracked {
            self.watch_member(id);
        }
        self.refresh_status();
        let linked: Vec<NodeId> = self.peers.keys().cloned().collect();
        for id in &linked {
            self.admit(id);
        }
        self.beat();
    }

    pub(crate) fn end_term(&mut self) {
        self.membership.roster = None;
        self.heartbeat = None;
        self.turned_away = false;
        self.timers.clear(&Timer::Heartbeat);
        for peer in self.peers.values_mut() {
            peer.owed.heartbeat = false;
            peer.owed.join = None;
        }
    }

    /// A heartbeat to every member that has a link.
    pub(crate) fn beat(&mut self) {
        let Some(heartbeat) = self.election.next_heartbeat() else { return };
        let frame = Shared::encoded(&Message::Heartbeat(heartbeat), &mut self.scratch);
        self.heartbeat = Some((heartbeat.number, frame));
        self.timers.set(Timer::Heartbeat, self.now + self.config.timing().heartbeat_interval);
        if let Some(roster) = &mut self.membership.roster {
            roster.beats(&self.membership.view);
            for peer in self.peers.values_mut().filter(|peer| roster.tracks(&peer.node.id)) {
                peer.owed.heartbeat = true;
                self.awake.extend(peer.links.iter().copied());
            }
        }
    }

    /// A master takes in every linked node that is not leaving (PROTOCOL.md, "Members and views").
    pub(crate) fn admit(&mut self, id: &NodeId) {
        let Some(peer) = self.peers.get(id) else { return };
        let Some(status) = &peer.status else { return };
        if peer.leaves() {
            return self.let_go(id);
        }
        let Some(roster) = &mut self.membership.roster else { return };
        let term = self.election.term();
        if self.election.is_solo() && !peer.takes_views_of(&self.me) {
            return roster.has_gone_over(id);
        }
        let follows_me = match &status.role {
            Role::Leaving | Role::Master | Role::Solo { .. } => return,
            Role::Follower { master, .. } => *master == self.me && status.term == term,
            Role::Joining | Role::Candidate => false,
        };
        let known = self.membership.view.get(id);
        let says_the_same = |known: &Member| !peer.metadata_too_long && known.metadata == status.metadata;
        let same = known.is_some_and(|known| known.node == peer.node && says_the_same(known));
        if follows_me && same {
            return;
        }
        let limits = self.config.limits();
        let refusal = if known.is_none() && self.membership.view.len() >= limits.members {
            self.turned_away = true;
            Some(RejectReason::ClusterFull)
        } else {
            peer.metadata_too_long.then_some(RejectReason::MetadataTooLong)
        };
        let (node, address, metadata) = (peer.node.clone(), peer.address.clone(), status.metadata.clone());
        let join = match refusal {
            Some(reason) => JoinResponse::Rejected { term, reason },
            None => JoinResponse::Accepted { term },
        };
        if let Some(peer) = self.peers.get_mut(id).filter(|_| !follows_me) {
            peer.owed.join = Some(join);
        }
        if let Some(reason) = refusal {
            // Who is a member goes on as it is known: it is not refused.
            if !follows_me {
                self.report_refusal(node, address, reason, None, false);
            }
        } else {
            self.refusals.taken_in(id, &address);
            let member = Member { node, address, state: MemberState::Active, metadata };
            let changes = roster.admit(&mut self.membership.view, member, self.now);
            self.view_changed(changes);
            self.watch_member(id);
        }
        self.wake_peer(id);
    }

    pub(crate) fn remove_member(&mut self, id: &NodeId, reason: RemovalReason) {
        let Some(roster) = &mut self.membership.roster else { return };
        let removed = self.membership.view.get(id).map(|member| member.node.clone());
        let changes = roster.remove(&mut self.membership.view, id, reason);
        self.timers.clear(&Timer::Member(id.clone()));
        // A newer incarnation may be linked already, and not be a member yet. Who leaves is told first.
        if reason == RemovalReason::Down && self.peers.get(id).is_some_and(|peer| Some(&peer.node) == removed.as_ref())
        {
            self.drop_peer(id, CloseReason::Silent);
        }
        self.view_changed(changes);
        if core::mem::take(&mut self.turned_away) {
            let waiting: Vec<NodeId> = self.peers.keys().cloned().collect();
            for id in &waiting {
                self.admit(id);
            }
        }
    }

    /// Suspect, then down; but only while this master is sound itself.
    pub(crate) fn judge_member(&mut self, id: NodeId) {
        let Some(roster) = &self.membership.roster else { return };
        let due = roster.deadline(&self.membership.view, &id).is_some_and(|at| at <= self.now);
        if due && self.election.leadership(self.now).is_none() {
            let again = self.now + self.config.timing().heartbeat_interval;
            self.timers.set(Timer::Member(id), again);
        } else if due {
            if roster.is_down(&id, self.now) {
                return self.remove_member(&id, RemovalReason::Down);
            }
            self.set_member_state(&id, MemberState::Suspect);
        } else {
            self.watch_member(&id);
        }
    }

    pub(crate) fn set_member_state(&mut self, id: &NodeId, state: MemberState) {
        let Some(roster) = &mut self.membership.roster else { return };
        let changes = roster.set_state(&mut self.membership.view, id, state);
        self.view_changed(changes);
        self.watch_member(id);
    }

    pub(crate) fn watch_member(&mut self, id: &NodeId) {
        let Some(roster) = &self.membership.roster else { return };
        if let Some(at) = roster.deadline(&self.membership.view, id) {
            self.timers.set(Timer::Member(id.clone()), at);
        }
    }

    /// A master writes its own metadata into the view.
    pub(crate) fn say_own_metadata(&mut self) {
        let Some(roster) = &mut self.membership.roster else { return };
        if let Some(me) = self.membership.view.get(&self.me.id).filter(|me| me.metadata != self.metadata) {
            let me = Member { metadata: self.metadata.clone(), ..me.clone() };
            let changes = roster.write(&mut self.membership.view, me);
            self.view_changed(changes);
        }
    }

    pub(crate) fn acknowledged(&mut self, id: &NodeId, address: &Address, ack: HeartbeatAck) {
        self.election.heartbeat_ack(address, &ack);
        let Some(roster) = &mut self.membership.roster else { return };
        match roster.ack(&self.membership.view, id, ack.number, ack.view_id, self.now) {
            Ack::Revived => self.set_member_state(id, MemberState::Active),
            Ack::Expected => {}
        }
        // The acknowledgement may have shown that something is missing.
        self.wake_peer(id);
    }
}
