//! From an open connection to a link (PROTOCOL.md, "The handshake").

use core::net::SocketAddr;

use bytes::Bytes;

use super::{Formation, effects::End};
use crate::{
    api::error::{CloseReason, DialProblem, RejectReason},
    api::event::{Event, StopReason},
    api::input::{Origin, Remote},
    api::output::Output,
    discovery::{Consequence, consequence},
    env::never,
    id::{Address, ConnId, DialId},
    peers::proof::Side,
    peers::{
        Connection, NewLink, Peer, PeerKey,
        handshake::{self, Claimant, Rejection, Standing, ViewState},
    },
    wire::message::{Hello, Holder, PROTOCOL, Proof, Rejected},
    wire::stream::StreamRequest,
};

impl Formation {
    pub(super) fn opened(&mut self, conn: ConnId, origin: Origin, remote: Remote) {
        self.peers.note_conn(conn);
        let dialed = match origin {
            Origin::Accepted => None,
            Origin::Dialed(dial) if self.streams.is_dialing(dial) => return self.stream_opened(conn, dial, remote),
            Origin::Dialed(dial) => match self.discovery.opened(&self.env, &mut self.sink, dial, conn) {
                Some(address) => Some(address),
                None => return self.close_unused(conn, None, remote.addr, CloseReason::DialGivenUp),
            },
        };
        if let Some(evicted) = self.peers.evicted(&self.env) {
            self.end(evicted, End::Closed(CloseReason::TooManyConnections));
        }
        if self.peers.len() >= self.env.limits().connections {
            if let Some(address) = &dialed {
                self.discovery.closed(&self.env, address, conn, Some(CloseReason::TooManyConnections));
            }
            self.discovery.invalidate();
            return self.close_unused(conn, dialed, remote.addr, CloseReason::TooManyConnections);
        }
        match origin {
            Origin::Dialed(_) => {}
            Origin::Accepted => {
                if let Some(oldest) = self.peers.surplus(&self.env) {
                    self.end(oldest, End::Closed(CloseReason::TooManyPending));
                }
            }
        }
        let voting = self.election.voting();
        self.peers.open(&self.env, &mut self.sink, conn, (origin, dialed, remote), voting);
    }

    /// The socket address of the other end, if the transport knows it.
    pub(super) fn peer_addr(&self, conn: ConnId) -> Option<SocketAddr> {
        self.peers.connection(conn).and_then(Connection::addr)
    }

    /// Closes a connection that was never in the table.
    fn close_unused(
        &mut self,
        conn: ConnId,
        dialed: Option<Address>,
        peer_addr: Option<SocketAddr>,
        reason: CloseReason,
    ) {
        self.sink.output(Output::Close { conn, reason });
        self.sink.event(Event::ConnClosed { conn, dialed, peer_addr, reason });
    }

    pub(super) fn dial_failed(&mut self, dial: DialId, problem: DialProblem) {
        if self.streams.is_dialing(dial) {
            return self.stream_not_reached(dial, problem);
        }
        if let Some(address) = self.discovery.failed(&self.env, &mut self.sink, (dial, problem)) {
            self.discovery.not_reached(&mut self.sink, &self.peers, &self.election, &address);
        }
    }

    /// The peer's `Hello` has come.
    pub(super) fn hello_received(&mut self, conn: ConnId, hello: Hello, body: &[u8]) {
        let Some(connection) = self.peers.connection(conn) else { return never!("a hello comes on a connection") };
        match handshake::judge_cluster(&self.env, connection, &hello, &self.election) {
            Err(rejection) if self.peers.is_dialed_stream(conn) => self.judge_stream_peer(conn, Err(rejection)),
            Err(rejection) => self.reject_hello(conn, hello, rejection, Bytes::new()),
            Ok(Some(key)) => {
                let proving = handshake::proving(&self.env, connection, key, (hello, body));
                self.peers.prove(conn, proving);
            }
            Ok(None) => {
                let answer = match connection.side() {
                    Side::Dialing => Bytes::new(),
                    Side::Accepting => handshake::own_hello(&self.env, connection),
                };
                self.admit_peer(conn, hello, answer, Bytes::new());
            }
        }
    }

    /// The peer's proof of the key has come. Only with it does the `Hello` count that came before.
    pub(super) fn proof_received(&mut self, conn: ConnId, proof: &Proof) {
        let Some(connection) = self.peers.connection(conn) else { return never!("a proof comes on a connection") };
        let Some(proving) = connection.proving() else { return never!("a proof comes behind a hello") };
        let hello = proving.hello.clone();
        match handshake::judge_proof(&self.env, connection, proving, proof) {
            Ok(first) => {
                self.peers.trust(conn);
                self.admit_peer(conn, hello, first.clone(), first);
            }
            Err(rejection) => {
                self.peers.distrust(&self.env, conn);
                if self.peers.is_dialed_stream(conn) {
                    return self.judge_stream_peer(conn, Err(rejection));
                }
                self.reject_hello(conn, hello, rejection, Bytes::new());
            }
        }
    }

    /// `first` is what comes first on the link, `before_rejection` what comes before the reason of a rejection.
    fn admit_peer(&mut self, conn: ConnId, hello: Hello, first: Bytes, before_rejection: Bytes) {
        if self.peers.is_dialed_stream(conn) {
            return self.judge_stream_peer(conn, Ok((hello, first)));
        }
        if self.peers.dialed(conn).is_none() {
            match hello.stream() {
                StreamRequest::None => {}
                StreamRequest::Named(name) => return self.admit_stream(conn, hello, name, first),
                StreamRequest::Invalid => return self.end(conn, End::Closed(CloseReason::Malformed)),
            }
        }
        // E10: a member that is to become a voter has to be proven. Of its two links only one stays.
        let is_to_vote = |dialed: &Address| self.election.electorate().may_become_voter(dialed);
        let is_wanted = |dialed: &Address| self.discovery.is_configured(dialed) || is_to_vote(dialed);
        let is_reserved = self.peers.dialed(conn).is_some_and(is_wanted) || self.env.is_voter(&hello.address);
        if !is_reserved && self.peers.is_full_for_others(&self.env) {
            return self.end(conn, End::Closed(CloseReason::TooManyConnections));
        }
        match self.judge_node(conn, &hello, false) {
            Ok(Standing::Accepted) => self.establish(conn, hello, first, false),
            Ok(Standing::Unproven) => self.claimed(conn, hello, first, before_rejection),
            Err(rejection) => self.reject_hello(conn, hello, rejection, before_rejection),
        }
    }

    pub(super) fn judge_node(&self, conn: ConnId, hello: &Hello, is_vouched: bool) -> Result<Standing, Rejection> {
        // I1: two runs that replace each other again and again would cost a master each time.
        if let Some(known) = self.replacements.keeps(&self.env, &self.peers, hello) {
            let holder = Holder { node: known.node().clone(), address: known.address().clone() };
            return Err(Rejection::Reject(RejectReason::IdInUse, Some(holder)));
        }
        let view_state = match self.election.master() {
            Some((master, _)) if *master == self.env.me => ViewState::Own,
            Some(_) => ViewState::Current,
            None if self.env.now < self.view_counts_until => ViewState::Recent,
            None => ViewState::Old,
        };
        let view = (self.membership.view(), view_state);
        handshake::judge_node(&self.env, &self.peers, view, &Claimant { conn, hello, is_vouched })
    }

    pub(super) fn reject_hello(&mut self, conn: ConnId, hello: Hello, rejection: Rejection, first: Bytes) {
        match rejection {
            Rejection::Close(reason) => self.end(conn, End::Closed(reason)),
            Rejection::SelfDial => self.met_itself(conn, hello.nonce),
            Rejection::ThisRunIsOlder => self.stop(StopReason::Superseded),
            Rejection::Reject(reason, holder) => self.reject(conn, hello, (reason, holder), first),
        }
    }

    pub(super) fn reject(
        &mut self,
        conn: ConnId,
        hello: Hello,
        (reason, holder): (RejectReason, Option<Holder>),
        first: Bytes,
    ) {
        let node = hello.node();
        // Two nodes with one id reject each other, and either may be the one that has to go.
        let rival = Holder { node: node.clone(), address: hello.address.clone() };
        let loses = match consequence(reason) {
            Consequence::MayLoseItsId if node.id == self.env.me.id => {
                self.discovery.loses_its_id(&self.env, &self.election, &rival.address, &rival)
            }
            Consequence::MayLoseItsId | Consequence::Superseded | Consequence::None => false,
        };
        if let Some(address) = self.peers.dialed(conn) {
            self.discovery.rejects(address, reason);
        }
        let peer_addr = self.peer_addr(conn);
        let cluster = (hello.cluster != *self.env.config.cluster()).then_some(hello.cluster);
        let version = hello.protocol.common(self.env.config.protocol()).unwrap_or(PROTOCOL.min);
        self.peers.reject(conn, Rejected { reason, holder: holder.clone() }, version, first);
        // A reader who looks for the reason of the stop finds in the event who has the id.
        self.rejections.report(&mut self.sink, (node, hello.address), (reason, holder), (cluster, peer_addr), loses);
        if loses {
            self.stop(StopReason::IdInUse);
        }
    }

    /// The peer has rejected this node.
    pub(super) fn rejected_by_peer(&mut self, conn: ConnId, rejected: Rejected) {
        let Rejected { reason, holder } = rejected;
        if self.peers.is_dialed_stream(conn) {
            return self.end(conn, End::Closed(CloseReason::RejectedByPeer(reason)));
        }
        let dialed = self.peers.dialed(conn).cloned();
        let stop = self.must_stop(conn, reason, holder.as_ref());
        if let Some(address) = dialed {
            let is_believed = |connection: &Connection| connection.is_trusted_without_key(&self.env, &address);
            if reason == RejectReason::ElectorateMismatch && self.peers.connection(conn).is_some_and(is_believed) {
                self.election.met_other_seed_list(&address, holder.as_ref());
            }
            let is_news = self.discovery.rejected_by(&address, reason);
            // A reader who looks for the reason of the stop finds in the event who has the id.
            if is_news || stop.is_some() {
                let peer_addr = self.peer_addr(conn);
                self.sink.event(Event::RejectedByPeer { address, reason, holder, peer_addr });
            }
        }
        self.end(conn, End::Closed(CloseReason::RejectedByPeer(reason)));
        if let Some(reason) = stop {
            self.stop(reason);
        }
    }

    /// Whether this node has to stop, now that a peer has rejected it. Only voters are believed, and no voter alone (I1, I5).
    fn must_stop(&mut self, conn: ConnId, reason: RejectReason, holder: Option<&Holder>) -> Option<StopReason> {
        let connection = self.peers.connection(conn)?;
        let voter = connection.dialed().or(self.peers.linked_peer(connection).map(Peer::address))?.clone();
        match (consequence(reason), holder) {
            // The peer that is reached at this node's own address knows which run of it is there.
            (Consequence::Superseded, _) if connection.dialed() == Some(self.env.config.address()) => {
                Some(StopReason::Superseded)
            }
            (Consequence::Superseded, _) => {
                self.discovery.is_superseded(&self.env, &voter).then_some(StopReason::Superseded)
            }
            (Consequence::MayLoseItsId, Some(holder)) => {
                let loses = self.discovery.loses_its_id(&self.env, &self.election, &voter, holder);
                loses.then_some(StopReason::IdInUse)
            }
            (Consequence::MayLoseItsId, None) | (Consequence::None, _) => None,
        }
    }

    /// This node has dialed itself. The nonce finds the other end, and the end that was dialed has the address that leads back.
    fn met_itself(&mut self, conn: ConnId, nonce: [u8; 16]) {
        let other = self.peers.other_end(conn, nonce);
        let ends = || [other, Some(conn)].into_iter().flatten();
        let dialed = ends().find_map(|end| self.peers.dialed(end).cloned());
        let is_at_own_address = other.is_some() && dialed.as_ref() == Some(self.env.config.address());
        match (other, dialed) {
            // A peer repeats what this node has once sent.
            (None, dialed) => {
                let peer_addr = self.peer_addr(conn);
                self.sink.event(Event::ConnClosed { conn, dialed, peer_addr, reason: CloseReason::SelfDial });
            }
            (Some(_), Some(address)) => self.discovery.led_to_itself(&self.env, &mut self.sink, address),
            (Some(_), None) => never!("one of the two ends was dialed"),
        }
        for end in ends() {
            self.end(end, End::Closed(CloseReason::SelfDial));
        }
        if is_at_own_address {
            self.refute_claims();
        }
    }

    /// The connection is a link from now on.
    pub(super) fn establish(&mut self, conn: ConnId, hello: Hello, first: Bytes, is_vouched: bool) {
        self.drop_others(&hello);
        let node = hello.node();
        let (address, nonce) = (hello.address.clone(), hello.nonce);
        let is_accepted = self.peers.dialed(conn).is_none();
        let voucher = self.discovery.voucher(&address, &node);
        let hello = (hello, first, voucher, is_vouched);
        let Some(NewLink { peer: key, is_first, doubtful }) =
            self.peers.establish(&self.env, &mut self.sink, conn, hello)
        else {
            return never!("a connection is established whose hello was accepted");
        };
        doubtful.into_iter().for_each(|doubtful| self.withdraw(doubtful));
        self.discovery.note_nonce(&address, &node, nonce);
        self.note_established(conn, key);
        if is_first {
            self.report_linked(conn, key);
        } else {
            self.relinked(key);
        }
        self.discovery.invalidate();
        self.limit_links(key);
        self.close_duplicates(key);
        if is_accepted {
            self.vouch((&node, &address), nonce);
        }
        self.judge_claims(&node, &address);
    }

    /// A link to a peer is not proven, and a newer one is. The older one has to show now that it leads to the same node.
    fn withdraw(&mut self, conn: ConnId) {
        // A connection that was dialed at another address than the peer's own is not asked for proof.
        match self.peers.dialed(conn) {
            Some(_) => self.end(conn, End::Closed(CloseReason::Duplicate)),
            None => self.peers.withdraw(&self.env, &mut self.sink, conn),
        }
    }

    /// Closes the links to those whose place this peer takes.
    fn drop_others(&mut self, hello: &Hello) {
        // The node that this one's own dial has reached at an address wins over one that only claims the address.
        if let Some(holder) = self.peers.at(&hello.address).filter(|holder| holder.node().id != hello.id) {
            self.drop_peer(holder.key(), CloseReason::Rejected(RejectReason::AddressInUse));
        }
        if let Some(known) = self.peers.with_id(&hello.id) {
            let is_same = known.node().incarnation == hello.incarnation && *known.address() == hello.address;
            let reason = match *known.address() == hello.address {
                true => CloseReason::Superseded,
                false => CloseReason::Rejected(RejectReason::IdInUse),
            };
            if !is_same {
                if reason == CloseReason::Superseded {
                    self.replacements.note(&self.env, &self.peers, hello);
                }
                self.drop_peer(known.key(), reason);
            }
        }
    }

    fn note_established(&mut self, conn: ConnId, key: PeerKey) {
        let Some(peer) = self.peers.peer(key) else { return never!("a link names a peer") };
        if let Some(dialed) = self.peers.dialed(conn) {
            self.discovery.established(&self.env, dialed, peer);
        }
        self.rejections.linked(&peer.node().id, peer.address());
    }

    fn report_linked(&mut self, conn: ConnId, key: PeerKey) {
        let Some(peer) = self.peers.peer(key) else { return never!("a link names a peer") };
        let (node, address) = (peer.node().clone(), peer.address().clone());
        let peer_addr = self.peer_addr(conn);
        self.sink.event(Event::Linked { node: node.clone(), address: address.clone(), conn, peer_addr });
        self.election.link_up(&address, &node, peer.voting());
        self.post_resignation(key);
    }
}
