//! From an open connection to an established link: who is it, and may it be here (PROTOCOL.md, "The handshake").

use alloc::{boxed::Box, vec::Vec};
use core::cmp::Ordering;

use bytes::{Bytes, BytesMut};

use crate::{
    error::{CloseReason, RejectReason},
    formation::Formation,
    id::{Address, ConnId, Node},
    interface::{Event, StopReason},
    link::{End, Link, Owed, Peer, Phase, Proving},
    message::{Hello, Holder, MAGIC, Message, Proof, Rejected},
    proof::{self, Side},
    timer::Timer,
};

enum Refusal {
    Close(CloseReason),
    Reject(RejectReason, Option<Holder>),
    /// The other end is this node as well.
    SelfDial,
    /// This node is the older incarnation.
    Superseded,
}

impl Formation {
    pub(crate) fn own_hello(&self, nonce: [u8; 16]) -> Hello {
        Hello {
            magic: MAGIC,
            protocol: self.config.protocol(),
            cluster: self.config.cluster().clone(),
            electorate: self.config.electorate(),
            id: self.me.id.clone(),
            incarnation: self.me.incarnation,
            address: self.config.address().clone(),
            nonce,
            extensions: proof::announcement(self.config.keys()),
        }
    }

    /// With a key, the generator is not the only thing that a nonce hangs on.
    pub(crate) fn fresh_nonce(&mut self) -> [u8; 16] {
        let drawn = self.rng.bytes();
        self.config.keys().first().map_or(drawn, |key| key.nonce(drawn))
    }

    pub(crate) fn greeted(&mut self, conn: ConnId, hello: Hello, body: &[u8]) {
        let Some(link) = self.links.get(&conn) else { return };
        let side = Side::of(link.origin);
        let common = self.judge_cluster(&hello).and_then(|()| {
            let common = proof::common(self.config.keys(), side, &hello);
            common.map_err(|_| Refusal::Reject(RejectReason::KeyMismatch, None))
        });
        let nonce = link.nonce;
        let key = match common {
            Err(refusal) => return self.turn_away(conn, hello, refusal, Bytes::new()),
            Ok(key) => key.cloned(),
        };
        let own = Message::Hello(self.own_hello(nonce)).to_frame();
        let mut answer = match side {
            Side::Dialing => BytesMut::new(),
            Side::Accepting => BytesMut::from(&own[..]),
        };
        let Some(key) = key else { return self.admit_peer(conn, hello, answer.freeze(), Bytes::new()) };
        let hellos = proof::hellos(side, &own, body);
        if side == Side::Accepting {
            Message::Proof(key.prove(side, &hellos)).encode(&mut answer);
        }
        let Some(link) = self.links.get_mut(&conn) else { return };
        link.phase = Phase::Proving(Box::new(Proving { hello, hellos, key, answer: answer.freeze() }));
        self.wake(conn);
    }

    /// The other end says that it holds the key. Only now does it count what its hello says of itself.
    pub(crate) fn proved(&mut self, conn: ConnId, proof: Proof) {
        let Some(link) = self.links.get(&conn) else { return };
        let Phase::Proving(proving) = &link.phase else { return };
        let own = Side::of(link.origin);
        let Proving { hello, hellos, key, .. } = &**proving;
        let hello = hello.clone();
        if !key.is_proven(own.other(), hellos, &proof) {
            return self.turn_away(conn, hello, Refusal::Reject(RejectReason::BadProof, None), Bytes::new());
        }
        let first = match own {
            Side::Accepting => Bytes::new(),
            Side::Dialing => Message::Proof(key.prove(own, hellos)).to_frame(),
        };
        self.admit_peer(conn, hello, first.clone(), first);
    }

    /// What comes first on the link, or before the refusal.
    fn admit_peer(&mut self, conn: ConnId, hello: Hello, first: Bytes, before_refusal: Bytes) {
        let node = Node { id: hello.id.clone(), incarnation: hello.incarnation };
        match self.judge_node(conn, &hello, &node) {
            Ok(()) => self.establish(conn, hello, node, first),
            Err(refusal) => self.turn_away(conn, hello, refusal, before_refusal),
        }
    }

    fn turn_away(&mut self, conn: ConnId, hello: Hello, refusal: Refusal, first: Bytes) {
        match refusal {
            Refusal::Close(reason) => self.end(conn, End::Ours(reason)),
            Refusal::SelfDial => self.met_itself(conn, hello.nonce),
            Refusal::Reject(reason, holder) => {
                let node = Node { id: hello.id, incarnation: hello.incarnation };
                // Two nodes of one id refuse each other, and either may be the one that has to go.
                let rival = Holder { node: node.clone(), address: hello.address.clone() };
                let loses = node.id == self.me.id && self.loses_its_id(reason, Some(&rival.address), &rival);
                self.refuse(conn, Rejected { reason, holder: holder.clone() }, first);
                // Whoever reads why this node has stopped finds who has its id.
                self.report_refusal(node, hello.address, reason, holder, loses);
                if loses {
                    self.stop(StopReason::IdInUse);
                }
            }
            Refusal::Superseded => self.stop(StopReason::Superseded),
        }
    }

    /// Says whom this node refuses, if that is news, or has to be said all the same.
    pub(crate) fn report_refusal(
        &mut self,
        node: Node,
        address: Address,
        reason: RejectReason,
        holder: Option<Holder>,
        all_the_same: bool,
    ) {
        if self.refusals.is_news(&node, &address, reason, holder.as_ref()) || all_the_same {
            self.event(Event::PeerRejected { node, address, reason, holder });
        }
    }

    /// The nonce finds the other end. The one that was dialed has the address that leads back.
    fn met_itself(&mut self, conn: ConnId, seen: [u8; 16]) {
        let Some(side) = self.links.get(&conn).map(|link| Side::of(link.origin)) else { return };
        // Of the two ends this node has dialed one and accepted the other; what only echoes has no such other end.
        let is_other = |link: &Link| link.nonce == seen && Side::of(link.origin) != side && !link.is_established();
        let other = self.links.iter().find(|(_, link)| is_other(link)).map(|(other, _)| *other);
        let ends = || [other, Some(conn)].into_iter().flatten();
        let dialed = ends().find_map(|end| self.links.get(&end)?.dialed.clone());
        if other.is_none() {
            // Somebody repeats what this node once said.
            self.event(Event::ConnClosed { conn, dialed, reason: CloseReason::SelfDial });
        } else if let Some(address) = dialed
            && self.seeking.is_self(&address, self.now)
        {
            self.event(Event::SelfDial { address, own: self.config.address().clone() });
        }
        for end in ends() {
            self.end(end, End::Ours(CloseReason::SelfDial));
        }
    }

    /// Says why, then closes.
    fn refuse(&mut self, conn: ConnId, rejected: Rejected, first: Bytes) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        let reason = rejected.reason;
        link.phase = Phase::Refusing { rejected, first, said: false };
        if let Some(address) = &link.dialed {
            self.seeking.led_to_a_stranger(address, reason);
        }
        self.wake(conn);
    }

    /// What may be asked of anybody: the answer shows nothing, and changes nothing.
    fn judge_cluster(&self, hello: &Hello) -> Result<(), Refusal> {
        let reject = |reason| Err(Refusal::Reject(reason, None));
        if hello.magic != MAGIC {
            return Err(Refusal::Close(CloseReason::WrongMagic));
        }
        if hello.protocol.common(self.config.protocol()).is_none() {
            return reject(RejectReason::NoCommonProtocol);
        }
        if hello.cluster != *self.config.cluster() {
            return reject(RejectReason::WrongCluster);
        }
        if hello.electorate != self.config.electorate() {
            return reject(RejectReason::ElectorateMismatch);
        }
        Ok(())
    }

    /// Who it is, and whether it may be here. With a key it has proven itself: a forged hello must not stop this node, nor
    /// take the place of another.
    fn judge_node(&self, conn: ConnId, hello: &Hello, node: &Node) -> Result<(), Refusal> {
        let reject = |reason| Err(Refusal::Reject(reason, None));
        let held = |reason, node: &Node, address: &Address| {
            Err(Refusal::Reject(reason, Some(Holder { node: node.clone(), address: address.clone() })))
        };
        let own = self.config.address();
        let same_address = hello.address == *own;
        if hello.id == self.me.id {
            return match node.cmp(&self.me) {
                _ if !same_address => held(RejectReason::IdInUse, &self.me, own),
                Ordering::Greater => Err(Refusal::Superseded),
                Ordering::Equal => Err(Refusal::SelfDial),
                Ordering::Less => reject(RejectReason::Superseded),
            };
        }
        if same_address {
            return held(RejectReason::AddressInUse, &self.me, own);
        }
        // A voter's address is configured: who only claims its id gives way.
        let gives_way = |address: &Address| !self.is_seed(address) && self.is_seed(&hello.address);
        // A restart keeps its address; the same id at another is another node of that name, and neither supersedes the other.
        if let Some(known) = self.membership.view.get(&hello.id) {
            if known.address == hello.address && known.node > *node {
                return reject(RejectReason::Superseded);
            }
            // Its master waits until the one that it knows is down. Without a master a view says nothing of who lives.
            if known.address != hello.address && self.election.is_master() && !gives_way(&known.address) {
                return held(RejectReason::IdInUse, &known.node, &known.address);
            }
        }
        let known = self.peers.get(&hello.id);
        if let Some(known) = known.filter(|known| !gives_way(&known.address)) {
            if known.address != hello.address {
                return held(RejectReason::IdInUse, &known.node, &known.address);
            }
            if known.node > *node {
                return reject(RejectReason::Superseded);
            }
        }
        // An address has at most one connection of our own dials: where it is this one, the holder only claims the address.
        let holder = self.peer_at.get(&hello.address).filter(|holder| **holder != hello.id);
        let reached = self.links.get(&conn).is_some_and(|link| link.dialed.as_ref() == Some(&hello.address));
        if let Some(holder) = holder.filter(|_| !reached).and_then(|holder| self.peers.get(holder)) {
            return held(RejectReason::AddressInUse, &holder.node, &holder.address);
        }
        Ok(())
    }

    fn establish(&mut self, conn: ConnId, hello: Hello, node: Node, first: Bytes) {
        let Some(version) = hello.protocol.common(self.config.protocol()) else { return };
        // What our own dial reached at an address wins over who only claims it.
        if let Some(holder) = self.peer_at.get(&hello.address).filter(|holder| **holder != node.id).cloned() {
            self.drop_peer(&holder, CloseReason::Rejected(RejectReason::AddressInUse));
        }
        if let Some(known) =
            self.peers.get(&node.id).filter(|known| known.node != node || known.address != hello.address)
        {
            let reason = match known.address == hello.address {
                true => CloseReason::Superseded,
                false => CloseReason::Rejected(RejectReason::IdInUse),
            };
            self.drop_peer(&node.id, reason);
        }
        let is_voter = self.is_seed(&hello.address);
        let peer = self.peers.entry(node.id.clone()).or_insert_with(|| Peer {
            node: node.clone(),
            address: hello.address.clone(),
            is_voter,
            links: Vec::new(),
            status: None,
            metadata_too_long: false,
            owed: Owed::default(),
        });
        peer.links.push(conn);
        let is_first = peer.links.len() == 1;
        self.peer_at.insert(hello.address.clone(), node.id.clone());
        let Some(link) = self.links.get_mut(&conn) else { return };
        link.phase = Phase::Established { peer: node.id.clone(), first, version, status_said: 0, heard: false };
        self.established += 1;
        if let Some(dialed) = link.dialed.clone() {
            self.seeking.established(&dialed, &node.id, &hello.address, self.now);
        }
        self.refusals.linked(&node.id, &hello.address);
        self.pending.remove(&conn);
        self.timers.clear(&Timer::Handshake(conn));
        self.watch_link(conn);
        if is_first {
            self.event(Event::Linked { node: node.clone(), address: hello.address.clone(), conn });
            self.election.link_up(&hello.address, &node);
            self.owe_resignation(&node.id);
        } else {
            self.peer_relinked(&node.id);
        }
        self.redial = true;
        self.resolve_duplicates(&node.id);
        self.wake(conn);
    }

    fn is_seed(&self, address: &Address) -> bool {
        self.config.seeds().contains(address)
    }

    /// Closes every connection to a peer.
    pub(crate) fn drop_peer(&mut self, id: &crate::id::NodeId, reason: CloseReason) {
        let links = self.peers.get(id).map(|peer| peer.links.clone()).unwrap_or_default();
        for conn in links {
            self.end(conn, End::Ours(reason));
        }
    }
}
