//! What a message means once the link is established, and what the election's conclusions mean for the links.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::{
    election::Effect,
    error::{CloseReason, RejectReason},
    formation::Formation,
    id::{Address, ConnId, NodeId, Term},
    interface::{Event, StopReason},
    link::{End, Peer, Phase},
    message::{self, HeartbeatAck, Holder, JoinResponse, MembersUpdate, Message, Rejected, Role},
    shared::Shared,
    view::Change,
};

/// A term grows by one with each election, so an honest peer is never this far ahead. It keeps one false term from bringing
/// the count to its end.
const TERM_REACH: u64 = 1 << 32;

fn view_id_term(update: &MembersUpdate) -> Term {
    match update {
        MembersUpdate::Page { view_id, .. } | MembersUpdate::Delta { view_id, .. } => view_id.term,
    }
}

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
            (Phase::Opening { .. }, Message::Hello(hello)) => self.greeted(conn, hello, body),
            (Phase::Proving(_), Message::Proof(proof)) => self.proved(conn, proof),
            (Phase::Opening { .. }, Message::Rejected(rejected))
                if dialed.is_some() && (self.config.keys().is_empty() || rejected.reason.needs_no_proof()) =>
            {
                self.refused_by_peer(conn, dialed, rejected);
            }
            (Phase::Proving(_), Message::Rejected(rejected)) if rejected.reason.needs_no_proof() => {
                self.refused_by_peer(conn, dialed, rejected);
            }
            (Phase::Established { .. }, Message::Rejected(rejected)) => {
                self.refused_by_peer(conn, dialed, rejected);
            }
            (Phase::Opening { .. } | Phase::Proving(_), _) | (_, Message::Hello(_) | Message::Proof(_)) => {
                self.end(conn, End::Ours(CloseReason::UnexpectedMessage));
            }
            // To who speaks an older version it is no message.
            (Phase::Established { version, .. }, message) if message.since() > *version => {
                self.end(conn, End::Ours(CloseReason::Malformed));
            }
            (Phase::Established { peer, heard, .. }, message) => {
                let (peer, first) = (peer.clone(), !core::mem::replace(heard, true));
                if first {
                    if let Some(address) = dialed {
                        self.seeking.taken_in(&address);
                    }
                    self.resolve_duplicates(&peer);
                }
                self.heard(conn, &peer, message.meaning());
            }
        }
    }

    fn refused_by_peer(&mut self, conn: ConnId, dialed: Option<Address>, rejected: Rejected) {
        let Rejected { reason, holder } = rejected;
        let loses = holder.as_ref().is_some_and(|holder| self.loses_its_id(reason, dialed.as_ref(), holder));
        if let Some(address) = dialed {
            self.seeking.led_to_a_stranger(&address, reason);
            // Whoever reads why this node has stopped finds who has its id.
            if self.seeking.rejected(&address, reason) || loses {
                self.event(Event::RejectedByPeer { address, reason, holder });
            }
        }
        self.end(conn, End::Ours(CloseReason::RejectedByPeer(reason)));
        match reason {
            RejectReason::Superseded => self.stop(StopReason::Superseded),
            _ if loses => self.stop(StopReason::IdInUse),
            _ => {}
        }
    }

    /// Whether this node has been kept outside for its id for so long that who has it must be alive: a dead one is forgotten
    /// by its links after `down_after`, and by the view after another. Of two that only refuse each other, one gives way.
    pub(crate) fn loses_its_id(&mut self, reason: RejectReason, refused_by: Option<&Address>, holder: &Holder) -> bool {
        let own = self.config.address();
        let is_seed = |address| self.config.seeds().contains(address);
        let gives_way = (is_seed(&holder.address), own) > (is_seed(own), &holder.address);
        if reason != RejectReason::IdInUse || self.election.master().is_some() {
            return false;
        }
        if refused_by == Some(&holder.address) && !gives_way {
            return false;
        }
        let patience = 2 * self.config.timing().down_after;
        // One long ago and one now do not mean that it was kept outside all the while.
        let since = match self.id_refused {
            Some((first, last)) if self.now.since(last) < patience => first,
            _ => self.now,
        };
        self.id_refused = Some((since, self.now));
        self.now.since(since) >= patience
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
                | Message::LeaveAck
                | Message::JoinResponse(_)
                | Message::MembersUpdate(_)
                | Message::Status(message::StatusReport {
                    role: Role::Candidate | Role::Master | Role::Solo { .. },
                    ..
                })
        );
        if electoral && !peer.is_voter {
            return self.end(conn, End::Ours(CloseReason::UnexpectedMessage));
        }
        if message.term().is_some_and(|Term(term)| term.saturating_sub(self.election.term().0) > TERM_REACH) {
            return self.end(conn, End::Ours(CloseReason::TermOutOfReach));
        }
        match message {
            Message::Status(status) => self.heard_status(id, status),
            Message::VoteRequest(request) if self.config.is_voter() => self.election.vote_request(&node, request),
            Message::VoteRequest(_) | Message::Hello(_) | Message::Rejected(_) | Message::Proof(_) => {
                self.end(conn, End::Ours(CloseReason::UnexpectedMessage));
            }
            Message::Vote(vote) => self.election.vote(&address, vote),
            Message::Release(release) => self.election.release(&node, release),
            Message::Resign(resign) => {
                self.peer_leaves(id);
                self.election.resigned(&node, &address, resign.term);
            }
            Message::Heartbeat(heartbeat) => {
                let (_, confirms) = self.election.heartbeat(&node, &address, heartbeat);
                let (term, view_id) = (self.election.term(), self.membership.held());
                peer.owed.ack = Some(HeartbeatAck { term, number: heartbeat.number, view_id, confirms });
                self.wake_peer(id);
            }
            Message::HeartbeatAck(ack) => self.acknowledged(id, &address, ack),
            Message::JoinResponse(JoinResponse::Accepted { term }) => {
                self.election.accept_master(&node, &address, term);
            }
            Message::JoinResponse(JoinResponse::Rejected { reason, .. }) => {
                if self.seeking.rejected(&address, reason) {
                    self.event(Event::RejectedByPeer { address, reason, holder: None });
                }
            }
            Message::MembersUpdate(update) => {
                // Who has gone over to another master, or follows no solo one (E8), may still be sent views.
                if self.election.master().is_none_or(|(master, _)| *master != node) {
                    return;
                }
                // A master writes in its own term only; a view from beyond would stand in the way of every later one (G3).
                if view_id_term(&update) > self.election.term() {
                    return self.end(conn, End::Ours(CloseReason::UnexpectedMessage));
                }
                self.take_update(&node, update);
            }
            Message::LeaveAck => self.dismissed |= self.leaving && peer.leads(),
            Message::Ping => {}
            #[cfg(feature = "unstable-next-protocol")]
            Message::Probe { .. } | Message::Beat { .. } => {}
        }
    }

    fn heard_status(&mut self, id: &NodeId, mut status: message::StatusReport) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        // Two links to one peer may deliver its statuses out of order.
        if peer.status.as_ref().is_some_and(|known| known.number >= status.number) {
            return;
        }
        let was_solo = matches!(peer.status.as_ref().map(|known| &known.role), Some(Role::Solo { .. }));
        peer.metadata_too_long = status.metadata.len() > self.config.limits().metadata;
        if peer.metadata_too_long {
            status.metadata = Bytes::new();
        }
        peer.status = Some(status.clone());
        let (node, address) = (peer.node.clone(), peer.address.clone());
        self.election.heard_status(&node, &address, &status);
        if status.role == Role::Leaving {
            self.peer_leaves(id);
        } else if self.election.is_master() {
            self.admit(id);
        }
        if matches!(status.role, Role::Solo { .. }) && !was_solo && self.config.solo_after().is_none() {
            self.event(Event::SoloMasterIgnored { node, address });
        }
        self.count_members();
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
                self.id_refused = None;
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
            }
        }
    }

    pub(crate) fn view_changed(&mut self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.announce_view(changes);
        }
    }

    /// A view of a new view id, even if it lists the same as the last.
    pub(crate) fn announce_view(&mut self, changes: Vec<Change>) {
        let view = &self.membership.view;
        self.gone.retain(|node| view.get(&node.id).is_some_and(|member| member.node == *node));
        self.event(Event::ViewChanged { view_id: self.membership.view.id(), changes });
        self.count_members();
        if let Some(roster) =
            self.membership.roster.as_ref().filter(|roster| roster.tells_at_once(&self.membership.view))
        {
            let linked = roster.members().filter_map(|id| self.peers.get(id));
            self.awake.extend(linked.flat_map(|peer| peer.links.iter().copied()));
        }
    }

    /// Says this node's status again where it has changed. The view's view id alone is no news.
    pub(crate) fn refresh_status(&mut self) {
        let (term, role, abstains) = (self.election.term(), self.election.role(), self.election.abstains());
        let promise = self.election.promised_to();
        let known = &self.status;
        let same = known.term == term
            && known.role == role
            && known.abstains == abstains
            && known.promise.as_ref() == promise
            && known.metadata == self.metadata;
        if same {
            return;
        }
        self.status = message::StatusReport {
            number: known.number + 1,
            term,
            role,
            abstains,
            promise: promise.cloned(),
            view_id: self.membership.held(),
            metadata: self.metadata.clone(),
        };
        self.status_frame = Shared::new(&Message::Status(self.status.clone()));
        self.awake.extend(self.peers.values().flat_map(|peer| peer.links.iter().copied()));
        self.say_own_metadata();
    }
}
