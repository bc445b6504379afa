//! What a message means once the link is established, and what the election's conclusions mean for the links.

use crate::{
    election::Effect,
    error::{CloseReason, RejectReason},
    formation::Formation,
    id::{Address, ConnId, Node, NodeId, Term},
    interface::{Event, LossReason, Origin, StopReason},
    link::{End, Peer, Phase},
    message::{self, HeartbeatAck, JoinResponse, Message, Resign, Role},
    roster::{Ack, Roster},
    timer::Timer,
    view::{Change, Member, MemberState, RemovalReason},
};

impl Formation {
    pub(crate) fn frame(&mut self, conn: ConnId, body: &[u8]) {
        let message = match Message::decode(body) {
            Ok(message) => message,
            Err(reason) => return self.end(conn, End::Ours(reason)),
        };
        let Some(link) = self.links.get_mut(&conn) else { return };
        let dialed = link.dialed.clone();
        match (&mut link.phase, message) {
            (Phase::Refusing { .. }, _) => {}
            (Phase::Opening { .. }, Message::Hello(hello)) => self.greeted(conn, hello),
            (Phase::Opening { .. } | Phase::Established { .. }, Message::Rejected(rejected)) if dialed.is_some() => {
                self.refused_by_peer(conn, dialed, rejected.reason);
            }
            (Phase::Established { .. }, Message::Rejected(rejected)) => {
                self.refused_by_peer(conn, dialed, rejected.reason);
            }
            (Phase::Opening { .. }, _) | (_, Message::Hello(_)) => {
                self.end(conn, End::Ours(CloseReason::UnexpectedMessage));
            }
            (Phase::Established { peer, heard, .. }, message) => {
                let (peer, first) = (peer.clone(), !core::mem::replace(heard, true));
                if first {
                    self.resolve_duplicates(&peer);
                }
                self.heard(conn, &peer, message);
            }
        }
    }

    fn refused_by_peer(&mut self, conn: ConnId, dialed: Option<Address>, reason: RejectReason) {
        if let Some(address) = dialed
            && self.seeking.refused(&address, reason)
        {
            self.event(Event::Rejected { address, reason });
        }
        self.end(conn, End::Ours(CloseReason::RefusedByPeer(reason)));
        if reason == RejectReason::Superseded {
            self.stop(StopReason::Superseded);
        }
    }

    fn heard(&mut self, conn: ConnId, id: &NodeId, message: Message) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let (node, address) = (peer.node.clone(), peer.address.clone());
        // Only voters take part in elections, and only a voter can be master.
        let electoral = matches!(
            message,
            Message::VoteRequest(_)
                | Message::Vote(_)
                | Message::Release(_)
                | Message::Heartbeat(_)
                | Message::Resign(_)
                | Message::JoinResponse(_)
                | Message::MembersUpdate(_)
                | Message::Status(message::Status { role: Role::Standing | Role::Master, .. })
        );
        if electoral && !peer.is_voter {
            return self.end(conn, End::Ours(CloseReason::UnexpectedMessage));
        }
        match message {
            Message::Status(status) => self.heard_status(id, status),
            Message::VoteRequest(request) if self.config.is_voter() => self.election.vote_request(&node, request),
            Message::VoteRequest(_) | Message::Hello(_) | Message::Rejected(_) => {
                self.end(conn, End::Ours(CloseReason::UnexpectedMessage));
            }
            Message::Vote(vote) => self.election.vote(&address, vote),
            Message::Release(release) => self.election.release(&node, release),
            Message::Resign(resign) => {
                self.resigned = Some(id.clone());
                self.election.resigned(&node, &address, resign.term);
            }
            Message::Heartbeat(heartbeat) => {
                let (_, confirms) = self.election.heartbeat(&node, &address, heartbeat);
                let (term, epoch) = (self.election.term(), self.membership.view.epoch());
                peer.owed.ack = Some(HeartbeatAck { term, number: heartbeat.number, epoch, confirms });
                self.wake_peer(id);
            }
            Message::HeartbeatAck(ack) => self.acknowledged(id, &address, ack),
            Message::JoinResponse(JoinResponse::Accepted { term }) => {
                self.election.accept_master(&node, &address, term);
            }
            Message::JoinResponse(JoinResponse::Rejected { reason, .. }) => {
                if self.seeking.refused(&address, reason) {
                    self.event(Event::Rejected { address, reason });
                }
            }
            Message::MembersUpdate(update) => {
                let from_master = self.election.master().is_some_and(|(master, _)| *master == node);
                if from_master && let Some(changes) = self.membership.update(update) {
                    self.view_changed(changes);
                }
            }
            Message::Leave => {
                if self.membership.roster.as_ref().is_some_and(|roster| roster.tracks(id)) {
                    self.remove_member(id, RemovalReason::Left, CloseReason::Left);
                }
            }
            Message::Ping => {}
        }
    }

    fn heard_status(&mut self, id: &NodeId, status: message::Status) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        // Two links to one peer may deliver its statuses out of order.
        if peer.status.as_ref().is_some_and(|known| known.number >= status.number) {
            return;
        }
        peer.status = Some(status.clone());
        let (node, address) = (peer.node.clone(), peer.address.clone());
        self.election.heard_status(&node, &address, &status);
        if self.election.is_master() {
            self.admit(id);
        }
    }

    fn acknowledged(&mut self, id: &NodeId, address: &Address, ack: HeartbeatAck) {
        self.election.heartbeat_ack(address, &ack);
        let Some(roster) = &mut self.membership.roster else { return };
        match roster.ack(&self.membership.view, id, ack.number, ack.epoch, self.now) {
            Ack::Newer => self.election.learn(ack.epoch.term.max(self.election.term().next())),
            Ack::Revived => self.set_member_state(id, MemberState::Active),
            Ack::Expected => {}
        }
        // The acknowledgement may have shown that something is missing.
        self.wake_peer(id);
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        let owe = |formation: &mut Self, to: &Address, owe: &dyn Fn(&mut Peer)| {
            let Some(id) = formation.peer_at.get(to).cloned() else { return };
            if let Some(peer) = formation.peers.get_mut(&id) {
                owe(peer);
                formation.wake_peer(&id);
            }
        };
        match effect {
            Effect::Persist { seq, state } => {
                self.outputs.push_back(crate::interface::Output::Persist { seq, state });
            }
            Effect::Ask(to) => owe(self, &to, &|peer| peer.owed.request = true),
            Effect::Release { to, release } => owe(self, &to, &|peer| peer.owed.release = Some(release)),
            Effect::Answer { to, vote } => {
                if let Some(peer) = self.peers.get_mut(&to.id).filter(|peer| peer.node == to) {
                    peer.owed.vote = Some(vote);
                    self.wake_peer(&to.id);
                }
            }
            Effect::Found { term, master, address } => {
                let is_me = master == self.me;
                self.unreachable = None;
                self.redial = true;
                self.membership.forget_pages();
                self.event(Event::MasterElected { term, master, address });
                if is_me {
                    self.begin_term(term);
                }
            }
            Effect::Lost { term, master, reason } => {
                if master == self.me {
                    self.end_term();
                }
                self.redial = true;
                self.event(Event::MasterLost { term, master, reason });
                if self.leaving && reason != LossReason::Resigned {
                    // Nobody is left to acknowledge it.
                    self.timers.set(Timer::Leave, self.now);
                }
            }
        }
    }

    fn begin_term(&mut self, term: Term) {
        let mut roster = Roster::new(&self.config);
        let me = Member {
            node: self.me.clone(),
            address: self.config.address().clone(),
            state: MemberState::Active,
            metadata: self.metadata.clone(),
        };
        let linked = |node: &Node| self.peers.get(&node.id).is_some_and(|peer| peer.node == *node);
        let gone = self.resigned.take();
        let view = &mut self.membership.view;
        let changes = roster.begin(view, term, me, gone.as_ref(), linked, self.now);
        let tracked: alloc::vec::Vec<NodeId> = roster.members().cloned().collect();
        self.membership.roster = Some(roster);
        self.view_changed(changes);
        for id in &tracked {
            self.watch_member(id);
        }
        self.refresh_status();
        let linked: alloc::vec::Vec<NodeId> = self.peers.keys().cloned().collect();
        for id in &linked {
            self.admit(id);
        }
        self.beat();
    }

    fn end_term(&mut self) {
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
        let mut frame = core::mem::take(&mut self.scratch);
        Message::Heartbeat(heartbeat).encode(&mut frame);
        self.heartbeat = Some((heartbeat.number, frame.split().freeze()));
        self.scratch = frame;
        self.timers.set(Timer::Heartbeat, self.now + self.config.timing().heartbeat_interval);
        if let Some(roster) = &self.membership.roster {
            for peer in self.peers.values_mut().filter(|peer| roster.tracks(&peer.node.id)) {
                peer.owed.heartbeat = true;
                self.awake.extend(peer.links.iter().copied());
            }
        }
    }

    /// A master takes in every linked node that is not leaving (PROTOCOL.md, "Members and views").
    fn admit(&mut self, id: &NodeId) {
        let Some(peer) = self.peers.get(id) else { return };
        let Some(status) = &peer.status else { return };
        let Some(roster) = &mut self.membership.roster else { return };
        let term = self.election.term();
        let follows_me = match &status.role {
            Role::Leaving | Role::Master => return,
            Role::Following { master, .. } => *master == self.me && status.term == term,
            Role::Seeking | Role::Standing => false,
        };
        if status.epoch > self.membership.view.epoch() {
            // An earlier master of this very term wrote it, and its voters have forgotten (G1): a new term settles it.
            return self.election.learn(status.epoch.term.max(term.next()));
        }
        let known = self.membership.view.get(id);
        let same = known.is_some_and(|known| known.node == peer.node && known.metadata == status.metadata);
        if follows_me && same && roster.tracks(id) {
            return;
        }
        let limits = self.config.limits();
        let refusal = if known.is_none() && self.membership.view.len() >= limits.members {
            self.turned_away = true;
            Some(RejectReason::ClusterFull)
        } else {
            (status.metadata.len() > limits.metadata).then_some(RejectReason::MetadataTooLong)
        };
        let (node, address, metadata) = (peer.node.clone(), peer.address.clone(), status.metadata.clone());
        let join = match refusal {
            Some(reason) => JoinResponse::Rejected { term, reason },
            None => JoinResponse::Accepted { term },
        };
        if let Some(peer) = self.peers.get_mut(id).filter(|_| !follows_me) {
            peer.owed.join = Some(join);
        }
        if refusal.is_none() {
            let member = Member { node, address, state: MemberState::Active, metadata };
            let changes = roster.admit(&mut self.membership.view, member, self.now);
            self.view_changed(changes);
            self.watch_member(id);
        }
        self.wake_peer(id);
    }

    fn remove_member(&mut self, id: &NodeId, reason: RemovalReason, close: CloseReason) {
        let Some(roster) = &mut self.membership.roster else { return };
        let changes = roster.remove(&mut self.membership.view, id, reason);
        self.timers.clear(&Timer::Member(id.clone()));
        self.drop_peer(id, close);
        self.view_changed(changes);
        if core::mem::take(&mut self.turned_away) {
            let waiting: alloc::vec::Vec<NodeId> = self.peers.keys().cloned().collect();
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
                return self.remove_member(&id, RemovalReason::Down, CloseReason::Silent);
            }
            self.set_member_state(&id, MemberState::Suspect);
        } else {
            self.watch_member(&id);
        }
    }

    fn set_member_state(&mut self, id: &NodeId, state: MemberState) {
        let Some(roster) = &mut self.membership.roster else { return };
        let changes = roster.set_state(&mut self.membership.view, id, state);
        self.view_changed(changes);
        self.watch_member(id);
    }

    fn watch_member(&mut self, id: &NodeId) {
        let Some(roster) = &self.membership.roster else { return };
        if let Some(at) = roster.deadline(&self.membership.view, id) {
            self.timers.set(Timer::Member(id.clone()), at);
        }
    }

    fn view_changed(&mut self, changes: alloc::vec::Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        self.event(Event::ViewChanged { epoch: self.membership.view.epoch(), changes });
        if let Some(roster) = &self.membership.roster {
            let linked = roster.members().filter_map(|id| self.peers.get(id));
            self.awake.extend(linked.flat_map(|peer| peer.links.iter().copied()));
        }
    }

    /// Says this node's status again where it has changed. The view's epoch alone is no news.
    pub(crate) fn refresh_status(&mut self) {
        let (term, role, held) = (self.election.term(), self.election.role(), self.election.is_held());
        let promise = self.election.promised_to();
        let known = &self.status;
        let same = known.number > 0
            && known.term == term
            && known.role == role
            && known.held == held
            && known.promise.as_ref() == promise
            && known.metadata == self.metadata;
        if same {
            return;
        }
        self.status = message::Status {
            number: known.number + 1,
            term,
            role,
            held,
            promise: promise.cloned(),
            epoch: self.membership.view.epoch(),
            metadata: self.metadata.clone(),
        };
        self.status_frame = Message::Status(self.status.clone()).to_frame();
        self.awake.extend(self.peers.values().flat_map(|peer| peer.links.iter().copied()));
        self.say_own_metadata();
    }

    /// A master writes its own metadata into the view.
    fn say_own_metadata(&mut self) {
        let Some(roster) = &mut self.membership.roster else { return };
        if let Some(me) = self.membership.view.get(&self.me.id).filter(|me| me.metadata != self.metadata) {
            let me = Member { metadata: self.metadata.clone(), ..me.clone() };
            let changes = roster.write(&mut self.membership.view, me);
            self.view_changed(changes);
        }
    }

    /// Of several links to one peer the higher id keeps one (PROTOCOL.md, "Two connections").
    pub(crate) fn resolve_duplicates(&mut self, id: &NodeId) {
        let Some(peer) = self.peers.get(id).filter(|peer| peer.links.len() > 1 && self.me.id > peer.node.id) else {
            return;
        };
        let Some(kept) = self.kept_link(&peer.links) else { return };
        let heard = matches!(self.links.get(&kept).map(|l| &l.phase), Some(Phase::Established { heard: true, .. }));
        if heard {
            let others: alloc::vec::Vec<ConnId> = peer.links.iter().copied().filter(|conn| *conn != kept).collect();
            for conn in others {
                self.end(conn, End::Ours(CloseReason::Duplicate));
            }
        }
    }

    /// The newest that the lower id dialed, or else the newest of our own.
    pub(crate) fn kept_link(&self, links: &[ConnId]) -> Option<ConnId> {
        let theirs = |conn: &&ConnId| self.links.get(conn).is_some_and(|link| link.origin == Origin::Accepted);
        links.iter().filter(theirs).max().or_else(|| links.iter().max()).copied()
    }

    pub(crate) fn peer_lost_link(&mut self, id: &NodeId, conn: ConnId, reason: Option<CloseReason>) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.links.retain(|link| *link != conn);
        if !peer.links.is_empty() {
            self.peer_relinked(id);
            return self.resolve_duplicates(id);
        }
        let Some(peer) = self.peers.remove(id) else { return };
        self.peer_at.remove(&peer.address);
        self.redial = true;
        self.event(Event::Unlinked { node: peer.node.clone(), reason });
        self.election.link_down(&peer.address);
        if let Some(roster) = &mut self.membership.roster {
            let changes = roster.link_down(&mut self.membership.view, id);
            self.view_changed(changes);
            self.watch_member(id);
        }
        if self.leaving && self.election.master().is_some_and(|(master, _)| *master == peer.node) {
            self.timers.set(Timer::Leave, self.now);
        }
    }

    /// The peer is spoken to on another link now; what the last one still owed is owed by it.
    pub(crate) fn peer_relinked(&mut self, id: &NodeId) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let address = peer.address.clone();
        if self.leaving && self.election.master().is_some_and(|(master, _)| master.id == *id) {
            peer.owed.leave = true;
        }
        self.election.relinked(&address);
        if let Some(roster) = &mut self.membership.roster {
            roster.relinked(id);
        }
        self.wake_peer(id);
    }

    /// One that can reach only followers says so.
    pub(crate) fn report_unreachable(&mut self, address: &Address) {
        if self.election.master().is_some() {
            return;
        }
        let follows = |peer: &Peer| match peer.status.as_ref().map(|status| &status.role) {
            Some(Role::Following { master, address: at }) if at == address => Some(master.clone()),
            _ => None,
        };
        if let Some(master) = self.peers.values().find_map(follows)
            && self.unreachable.as_ref() != Some(&master)
        {
            self.unreachable = Some(master.clone());
            self.event(Event::MasterUnreachable { master, address: address.clone() });
        }
    }

    pub(crate) fn leave(&mut self) {
        if self.leaving {
            return;
        }
        self.leaving = true;
        let master = self.election.master().map(|(master, _)| master.id.clone());
        let resigned = self.election.leave();
        while let Some(effect) = self.election.next_effect() {
            self.effect(effect);
        }
        self.timers.set(Timer::Leave, self.now + self.config.timing().down_after);
        match (resigned, master.and_then(|master| self.peers.get_mut(&master))) {
            (Some(term), _) => {
                for peer in self.peers.values_mut().filter(|peer| peer.is_voter) {
                    peer.owed.resign = Some(Resign { term });
                    self.awake.extend(peer.links.iter().copied());
                }
            }
            (None, Some(master)) => {
                master.owed.leave = true;
                self.awake.extend(master.links.iter().copied());
            }
            (None, None) => self.timers.set(Timer::Leave, self.now),
        }
    }

    /// A master that resigned has left once that is written; a member once it is not in the view any more.
    pub(crate) fn finish_leaving(&mut self) {
        if !self.leaving || self.is_stopped() {
            return;
        }
        let follows = self.election.master().is_some();
        let busy = |peer: &Peer| {
            let in_flight = |conn| self.links.get(conn).is_some_and(|link| link.in_flight);
            peer.is_voter && (peer.owed.resign.is_some() || peer.links.iter().any(in_flight))
        };
        if !follows && !self.peers.values().any(busy) {
            self.stop(StopReason::Left);
        }
    }
}
