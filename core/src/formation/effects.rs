//! What follows from conclusions: the election's effects, the end of connections, and the end of the node.

use alloc::vec::Vec;

use super::{Formation, context};
use crate::{
    api::error::{CloseReason, RejectReason, TlsFailure},
    api::event::{Event, LossReason, StopReason},
    api::output::Output,
    election::Effect,
    env::never,
    id::{Address, ConnId, Node, Term},
    peers::{LinkEnd, Peer, PeerKey, Post},
    timers::Timer,
};

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The embedder has reported that it ended.
    Reported,
    /// TLS could not secure it, and the embedder has closed it.
    TlsFailed(TlsFailure),
    /// This node closes it.
    Closed(CloseReason),
}

impl Formation {
    /// Does what the election has concluded. Returns whether that was anything.
    pub(super) fn apply_effects(&mut self) -> bool {
        let mut has_any = false;
        while let Some(effect) = self.election.next_effect() {
            has_any = true;
            match effect {
                Effect::Persist { seq, state } => self.sink.output(Output::Persist { seq, state }),
                Effect::Ask(to) => self.post_to_voter(&to, Post::VoteRequest),
                Effect::Release { to, release } => self.post_to_voter(&to, Post::Release(release)),
                Effect::Answer { to, vote } => {
                    // The candidate may have gone while its vote became durable. It asks again on its next link.
                    if let Some(peer) = self.peers.with_node(&to).map(|peer| peer.key()) {
                        self.peers.post(peer, Post::Vote(vote));
                    }
                }
                Effect::Found { term, master, address } => self.master_found(term, master, address),
                Effect::WentBack { from, to } => {
                    self.membership.begin_again(to);
                    self.sink.event(Event::TermWentBack { from, to });
                }
                Effect::LeaseTooLong { candidate: (candidate, lease), voter: (voter, bootstrap_wait) } => {
                    self.sink.event(Event::LeaseTooLong { candidate, lease, voter, bootstrap_wait });
                }
                Effect::ElectorateChanged => self.electorate_changed(),
                Effect::Lost { term, master, reason } => self.master_lost(term, master, reason),
            }
        }
        has_any
    }

    /// Nothing is posted to a voter that has no link: once it is linked, the election concludes again what it needs.
    fn post_to_voter(&mut self, voter: &Address, post: Post) {
        if let Some(peer) = self.peers.at(voter).map(|peer| peer.key()) {
            self.peers.post(peer, post);
        }
    }

    fn master_found(&mut self, term: Term, master: Node, address: Address) {
        let is_me = master == self.env.me;
        self.discovery.found_master(&self.env);
        self.membership.forget_pages();
        self.sink.event(Event::MasterElected { term, master, address });
        if is_me {
            self.begin_term(term);
        }
    }

    fn master_lost(&mut self, term: Term, master: Node, reason: LossReason) {
        if master == self.env.me {
            self.membership.end_term(context!(self));
            self.post_resignations();
        }
        // The view shows for a while who lives: as long as it would keep the id of a dead member otherwise.
        self.view_counts_until = self.env.now + 2 * self.env.timing().down_after;
        self.discovery.lost_master(&self.env, reason);
        self.sink.event(Event::MasterLost { term, master, reason });
    }

    fn begin_term(&mut self, term: Term) {
        self.election.take_gave_way();
        self.drop_unproven_runs();
        self.membership.begin_term(context!(self), term, self.own_status.reported_metadata());
        self.view_may_have_changed();
        self.refresh_status();
        self.membership.admit_all(context!(self), &mut self.rejections);
        self.view_may_have_changed();
        self.beat();
    }

    /// Closes the unproven links to other runs of members. Such a peer may be a copy of a member that lives and has no link to this new
    /// master yet. It may come back, and then has to prove itself (H11).
    fn drop_unproven_runs(&mut self) {
        let view = self.membership.view();
        let is_other_run = |peer: &Peer| view.get(&peer.node().id).is_some_and(|known| known.node != *peer.node());
        let is_doubtful = |peer: &&Peer| !peer.is_verified() && is_other_run(peer);
        let doubtful: Vec<PeerKey> = self.peers.iter().filter(is_doubtful).map(Peer::key).collect();
        for key in doubtful {
            self.drop_peer(key, CloseReason::Rejected(RejectReason::Unproven));
        }
    }

    /// Sends the next heartbeat of this master.
    pub(super) fn beat(&mut self) {
        let Some(heartbeat) = self.election.next_heartbeat() else { return never!("only a master beats") };
        // Changes that have waited for the heartbeat go with it.
        self.membership.admit_waiting(context!(self), &mut self.rejections);
        self.membership.beat(context!(self), heartbeat);
        if self.election.is_solo() {
            // A candidate may have kept it from admitting somebody.
            self.membership.admit_all(context!(self), &mut self.rejections);
        }
        self.view_may_have_changed();
    }

    /// After everything that may have changed the view: a solo master reports how many members it has (E8).
    pub(super) fn view_may_have_changed(&mut self) {
        if self.membership.take_announced() {
            self.count_members();
        }
    }

    /// A solo master reports how many members it has (E8).
    pub(super) fn count_members(&mut self) {
        if self.election.is_solo() {
            let members = self.membership.count_active(&self.peers, &self.env.me);
            self.election.set_members(u32::try_from(members).unwrap_or(u32::MAX));
        }
    }

    /// Reports this node's status again where it has changed. Returns whether it has.
    pub(super) fn refresh_status(&mut self) -> bool {
        let held = (self.membership.held_id(), self.peers.established());
        let is_new = self.own_status.refresh(&self.env, &self.election, held);
        if let Some(at) = self.own_status.metadata_due().filter(|_| !self.lifecycle.is_stopped()) {
            self.sink.set_timer(Timer::Metadata, at);
        }
        if is_new {
            self.peers.wake_all();
            self.membership.write_own(context!(self), self.own_status.reported_metadata());
            self.view_may_have_changed();
        }
        is_new
    }

    /// A connection is over: only what depended on it ends with it.
    pub(super) fn end(&mut self, conn: ConnId, end: End) {
        // It may have ended already: a node that closes several connections closes the duplicates among them with the first,
        // and what the embedder reports may be late.
        let Some(ended) = self.peers.remove(&mut self.sink, conn) else { return };
        let reason = match end {
            End::Reported => None,
            End::TlsFailed(failure) => Some(CloseReason::TlsFailed(failure)),
            End::Closed(reason) => {
                self.sink.output(Output::Close { conn, reason });
                Some(reason)
            }
        };
        let was_link = match &ended.link {
            LinkEnd::None => false,
            LinkEnd::Relinked(_) | LinkEnd::Lost(_) => true,
        };
        if ended.is_dialed_stream {
            return self.stream_ended(ended.opening, reason);
        }
        if let Some(reason) = reason.filter(|reason| !was_link && !reason.has_own_event(ended.dialed.is_some())) {
            let (dialed, peer_addr) = (ended.dialed.clone(), ended.addr);
            self.sink.event(Event::ConnClosed { conn, dialed, peer_addr, reason });
        }
        if let Some(address) = &ended.dialed {
            match end {
                End::TlsFailed(_) => self.discovery.tls_failed(address),
                End::Reported | End::Closed(_) => {}
            }
            self.discovery.closed(&self.env, address, conn, reason);
            if !was_link {
                self.discovery.not_reached(&mut self.sink, &self.peers, &self.election, address);
            }
        }
        match ended.link {
            LinkEnd::None => {}
            LinkEnd::Relinked(peer) => {
                self.relinked(peer);
                self.close_duplicates(peer);
            }
            LinkEnd::Lost(peer) => {
                self.discovery.invalidate();
                self.sink.event(Event::Unlinked { node: peer.node().clone(), reason, peer_addr: ended.addr });
                self.election.link_down(peer.address());
                self.membership.link_down(context!(self), &peer.node().id);
                self.view_may_have_changed();
            }
        }
    }

    /// The link on which this node sends may have changed. Messages that the last link may not have delivered are sent again.
    pub(super) fn relinked(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.peer(key) else { return never!("a peer that is relinked has a link") };
        let (id, address) = (peer.node().id.clone(), peer.address().clone());
        if self.election.is_master() && peer.is_leaving() {
            self.peers.post(key, Post::LeaveAck);
        }
        self.post_resignation(key);
        self.election.relinked(&address);
        self.membership.relinked(&id, self.env.now);
        self.owe_electorate_again(key);
        self.peers.wake(key);
    }

    /// Of several links to a peer only one is kept.
    pub(super) fn close_duplicates(&mut self, key: PeerKey) {
        for conn in self.peers.duplicates(key) {
            self.end(conn, End::Closed(CloseReason::Duplicate));
        }
    }

    /// A master that has resigned sends `Resign` to every voter that has a link, or gets one.
    pub(super) fn post_resignation(&mut self, key: PeerKey) {
        if let Some(resign) = self.election.resignation()
            && self.peers.peer(key).is_some_and(|peer| peer.is_voter())
        {
            self.peers.post(key, Post::Resign(resign));
        }
    }

    /// Closes every link to a peer.
    pub(super) fn drop_peer(&mut self, key: PeerKey, reason: CloseReason) {
        for conn in self.peers.links(key) {
            self.end(conn, End::Closed(reason));
        }
    }

    /// Closes everything. No input has any effect any more.
    pub(super) fn stop(&mut self, reason: StopReason) {
        debug_assert!(!self.lifecycle.is_stopped(), "a node stops once");
        let close = match reason {
            StopReason::Left | StopReason::IdInUse | StopReason::ShutDown | StopReason::Failed => CloseReason::Left,
            StopReason::Superseded => CloseReason::Superseded,
        };
        if self.lifecycle.is_running() {
            self.election.leave();
            self.lifecycle.leave();
            self.apply_effects();
        }
        for conn in self.peers.conns() {
            self.end(conn, End::Closed(close));
        }
        self.fail_dials(close);
        self.apply_effects();
        self.sink.clear_timers();
        self.lifecycle.stop();
        self.sink.event(Event::Stopped { reason });
    }
}
