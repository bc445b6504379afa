//! What each message of a peer means, and to which part of the node it goes.

use super::{Formation, context, effects::End};
use crate::{
    api::error::CloseReason,
    api::event::Event,
    env::never,
    id::{ConnId, Term},
    membership::Update,
    peers::{Peer, PeerKey, Post},
    wire::message::{
        Heartbeat, HeartbeatAck, JoinResponse, MembersUpdate, Message, Resign, Role, StatusReport, VoteRequest,
    },
};

/// Who may send a message on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Anyone,
    /// Only voters take part in elections, and only a voter can be master.
    Voter,
    /// Nobody: it belongs to the handshake.
    Nobody,
}

/// Who may send this message on a link.
fn sender_of(message: &Message) -> Sender {
    match message {
        Message::Hello(_) | Message::Rejected(_) | Message::Proof(_) | Message::StreamAccepted => Sender::Nobody,
        Message::HeartbeatAck(_) | Message::Ping | Message::Voucher(_) | Message::Electorate(_) => Sender::Anyone,
        Message::Status(status) => match status.role {
            Role::Joining | Role::Follower { .. } | Role::Leaving => Sender::Anyone,
            Role::Candidate | Role::Master | Role::Solo { .. } => Sender::Voter,
        },
        Message::JoinResponse(_)
        | Message::MembersUpdate(_)
        | Message::VoteRequest(_)
        | Message::Vote(_)
        | Message::Release(_)
        | Message::Heartbeat(_)
        | Message::LeaveAck
        | Message::Resign(_) => Sender::Voter,
    }
}

/// Whether a peer may send a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MaySend {
    Yes,
    /// It is no voter, and holds another electorate: the message is ignored.
    WithAnotherElectorate,
    No,
}

fn term_of(update: &MembersUpdate) -> Term {
    match update {
        MembersUpdate::Page { view_id, .. } | MembersUpdate::Delta { view_id, .. } => view_id.term,
    }
}

impl Formation {
    /// `confirms`: the message is the first one on its link, and shows that the peer has established the link too.
    pub(super) fn message_received(&mut self, conn: ConnId, peer: PeerKey, confirms: bool, message: Message) {
        let may_send = self.may_send(peer, &message);
        if may_send == MaySend::No {
            return self.end(conn, End::Closed(CloseReason::UnexpectedMessage));
        }
        if confirms {
            if let Some(dialed) = self.peers.dialed(conn) {
                self.discovery.accepted(dialed);
            }
            self.close_duplicates(peer);
            self.judge_master(peer);
        }
        if may_send == MaySend::WithAnotherElectorate {
            return self.note_status(peer, message);
        }
        self.dispatch(conn, peer, message);
        // Not if the message has closed the link.
        if let Some(address) = self.peers.take_stood(&self.env, conn) {
            self.discovery.stood(address);
        }
    }

    /// Whether the peer may send this message.
    fn may_send(&self, peer: PeerKey, message: &Message) -> MaySend {
        let Some(peer) = self.peers.peer(peer) else { return MaySend::No };
        match sender_of(message) {
            Sender::Anyone => MaySend::Yes,
            Sender::Voter if peer.is_voter() => MaySend::Yes,
            // A status may be the first one.
            Sender::Voter if self.shows_another_electorate(message) => MaySend::WithAnotherElectorate,
            Sender::Voter => self.unless_electorates_differ(peer),
            Sender::Nobody => MaySend::No,
        }
    }

    fn shows_another_electorate(&self, message: &Message) -> bool {
        matches!(message, Message::Status(status) if status.electorate != self.election.electorate().version)
    }

    /// E10: one of two nodes with different electorates may take itself, or the other one, for a voter without a fault.
    fn unless_electorates_differ(&self, peer: &Peer) -> MaySend {
        let own = self.election.electorate().version;
        match peer.status().is_some_and(|status| status.electorate != own) {
            true => MaySend::WithAnotherElectorate,
            false => MaySend::No,
        }
    }

    fn dispatch(&mut self, conn: ConnId, key: PeerKey, message: Message) {
        let Some(peer) = self.peers.peer(key) else { return never!("a link names a peer") };
        let (node, address, is_leaving) = (peer.node().clone(), peer.address().clone(), peer.is_leaving());
        match message {
            Message::Status(status) => self.status_received(key, status),
            Message::VoteRequest(request) => self.vote_requested(conn, key, request),
            Message::Vote(vote) => self.election.vote(&address, vote),
            Message::Release(release) => self.election.release(&node, release),
            Message::Resign(Resign { term }) => {
                // L7: its status, which came before, says whether it stays.
                if is_leaving {
                    self.peer_leaves(key);
                }
                self.election.resigned(&node, &address, term);
            }
            Message::Heartbeat(heartbeat) => self.heartbeat_received(key, heartbeat),
            // Nobody can have received a heartbeat that was never sent.
            Message::HeartbeatAck(ack) if ack.number > self.election.newest_number() => {
                self.end(conn, End::Closed(CloseReason::UnexpectedMessage));
            }
            Message::HeartbeatAck(ack) => {
                self.election.heartbeat_ack(&address, &ack);
                self.owe_electorate(key, ack.electorate);
                self.membership.acknowledged(context!(self), key, ack);
                self.view_may_have_changed();
            }
            Message::JoinResponse(JoinResponse::Accepted { term }) => {
                self.discovery.admitted(&address);
                self.election.accept_master(&node, &address, term);
            }
            Message::JoinResponse(JoinResponse::Rejected { reason, .. }) => {
                if self.discovery.not_admitted(&address, reason) {
                    let peer_addr = self.peer_addr(conn);
                    self.sink.event(Event::RejectedByPeer { address, reason, holder: None, peer_addr });
                }
            }
            Message::MembersUpdate(update) => self.update_received(conn, key, update),
            Message::LeaveAck => {
                if peer.leads() {
                    self.lifecycle.acknowledge();
                }
            }
            Message::Voucher(voucher) => self.vouched(conn, key, voucher),
            Message::Electorate(electorate) => self.electorate_received(conn, key, electorate),
            Message::Ping => {}
            Message::Hello(_) | Message::Rejected(_) | Message::Proof(_) | Message::StreamAccepted => {
                never!("a message of the handshake is judged before");
            }
        }
    }

    /// E10: the peer is no voter in this node's electorate, and holds another one. Its status counts once it is a voter here.
    fn note_status(&mut self, key: PeerKey, message: Message) {
        if let Message::Status(status) = message {
            let held = status.electorate;
            if self.peers.receive_status(&self.env, key, status) {
                self.owe_electorate(key, held);
            }
        }
    }

    /// The peer has established the link, too. If it is a master, its heartbeats come from now on. If both are masters, they have met.
    pub(super) fn judge_master(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.peer(key) else { return };
        if let Some(status) = peer.status().filter(|_| peer.leads()) {
            self.election.status_received(peer.node(), peer.address(), status);
        }
    }

    fn status_received(&mut self, key: PeerKey, status: StatusReport) {
        let was_solo = self.peers.peer(key).is_some_and(|peer| peer.is_solo());
        if !self.peers.receive_status(&self.env, key, status) {
            return;
        }
        let Some(peer) = self.peers.peer(key) else { return never!("a link names a peer") };
        let Some(status) = peer.status() else { return never!("the status was taken") };
        match (peer.leads() && !self.peers.is_confirmed(key), self.election.is_solo()) {
            // E8: of two masters that meet, each has to know the other, so that both judge by the same state.
            (true, true) => {}
            // A solo master is followed at once, so that nobody becomes a candidate beside it.
            (true, false) if !peer.is_solo() => self.election.master_greets(peer.node(), peer.address(), status),
            (true | false, _) => self.election.status_received(peer.node(), peer.address(), status),
        }
        if peer.follows().is_some() && self.election.master().is_none() {
            // It may name an address that is not dialed yet.
            self.discovery.invalidate();
        }
        let electorate = status.electorate;
        let is_solo_news = peer.is_solo() && !was_solo && self.env.config.solo_after().is_none();
        let ignored = is_solo_news.then(|| (peer.node().clone(), peer.address().clone()));
        if peer.is_leaving() {
            self.peer_leaves(key);
        } else if self.election.is_master() {
            self.membership.admit(context!(self), &mut self.rejections, key);
        }
        if let Some((node, address)) = ignored {
            self.sink.event(Event::SoloMasterIgnored { node, address });
        }
        self.owe_electorate(key, electorate);
        self.membership.take_announced();
        self.count_members();
    }

    /// Only a voter is asked for its vote.
    fn vote_requested(&mut self, conn: ConnId, key: PeerKey, request: VoteRequest) {
        let Some(peer) = self.peers.peer(key) else { return never!("a link names a peer") };
        match self.env.votes() {
            true => self.election.vote_request(peer.node(), request),
            false => match self.unless_electorates_differ(peer) {
                MaySend::Yes | MaySend::WithAnotherElectorate => {}
                MaySend::No => self.end(conn, End::Closed(CloseReason::UnexpectedMessage)),
            },
        }
    }

    pub(super) fn heartbeat_received(&mut self, key: PeerKey, heartbeat: Heartbeat) {
        let Some(peer) = self.peers.peer(key) else { return never!("a link names a peer") };
        let (_, confirms) = self.election.heartbeat(peer.node(), peer.address(), heartbeat);
        let (term, view_id) = (self.election.term(), self.membership.held_id());
        let electorate = self.election.electorate().version;
        let ack = HeartbeatAck { term, number: heartbeat.number, view_id, confirms, electorate };
        self.peers.post(key, Post::HeartbeatAck(ack));
    }

    fn update_received(&mut self, conn: ConnId, key: PeerKey, update: MembersUpdate) {
        let Some(node) = self.peers.peer(key).map(|peer| peer.node().clone()) else {
            return never!("a link names a peer");
        };
        // A node that has gone over to another master, or follows no solo one (E8), may still be sent views.
        if self.election.master().is_none_or(|(master, _)| *master != node) {
            return;
        }
        // A master writes in its own term only. A view of a later term would block every view that follows (G3).
        if term_of(&update) > self.election.term() {
            return self.end(conn, End::Closed(CloseReason::UnexpectedMessage));
        }
        // This node may know of a later term already, in which another node will write.
        if self.election.master_term() < Some(term_of(&update)) {
            return;
        }
        match self.membership.take_update(context!(self), &node, update) {
            Update::Ignored => {}
            Update::Taken => {
                self.election.take_gave_way();
            }
            Update::TakenFromAnotherSide { from, to, succeeds } => {
                if self.election.take_gave_way() || !succeeds {
                    self.sink.event(Event::Merged { from, to });
                }
            }
        }
        self.view_may_have_changed();
    }

    /// A peer reports that it leaves. A master lets it go. Another node may be the next master, and notes it.
    fn peer_leaves(&mut self, key: PeerKey) {
        if self.election.is_master() {
            self.membership.let_go(context!(self), &mut self.rejections, key);
            self.view_may_have_changed();
            return;
        }
        let Some(peer) = self.peers.peer(key) else { return never!("a link names a peer") };
        if peer.leaves_verifiably() {
            self.membership.note_leaver(peer);
        }
    }
}
