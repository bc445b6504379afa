//! From an open connection to an established link: who is it, and may it be here (PROTOCOL.md, "The handshake").

use alloc::vec::Vec;
use core::cmp::Ordering;

use bytes::Bytes;

use crate::{
    error::{CloseReason, RejectReason},
    formation::Formation,
    id::{Address, ConnId, Node},
    interface::{Event, Origin, StopReason},
    link::{End, Link, Owed, Peer, Phase},
    message::{Hello, MAGIC, PROTOCOL},
    timer::Timer,
};

enum Refusal {
    Close(CloseReason),
    Reject(RejectReason),
    /// The other end is this node as well.
    SelfDial,
    /// This node is the older incarnation.
    Superseded,
}

impl Formation {
    pub(crate) fn own_hello(&self, nonce: [u8; 16]) -> Hello {
        Hello {
            magic: MAGIC,
            protocol: PROTOCOL,
            cluster: self.config.cluster().clone(),
            electorate: self.config.electorate(),
            id: self.me.id.clone(),
            incarnation: self.me.incarnation,
            address: self.config.address().clone(),
            nonce,
            extensions: Bytes::new(),
        }
    }

    pub(crate) fn greeted(&mut self, conn: ConnId, hello: Hello) {
        let node = Node { id: hello.id.clone(), incarnation: hello.incarnation };
        match self.judge_hello(conn, &hello, &node) {
            Ok(()) => self.establish(conn, hello, node),
            Err(Refusal::Close(reason)) => self.end(conn, End::Ours(reason)),
            Err(Refusal::SelfDial) => self.met_itself(conn, hello.nonce),
            Err(Refusal::Reject(reason)) => {
                if self.refuse(conn, reason) {
                    self.event(Event::Refused { node, address: hello.address, reason });
                }
            }
            Err(Refusal::Superseded) => self.stop(StopReason::Superseded),
        }
    }

    /// This end is the accepted one: the nonce finds the other, and with it the address that leads back.
    fn met_itself(&mut self, conn: ConnId, seen: [u8; 16]) {
        let is_other = |link: &Link| matches!(link.phase, Phase::Opening { nonce, .. } if nonce == seen);
        let dialed = self.links.iter().find(|(_, link)| is_other(link));
        if let Some((other, address)) = dialed.and_then(|(other, link)| Some((*other, link.dialed.clone()?))) {
            if self.seeking.is_self(&address) {
                self.event(Event::SelfDial { address, own: self.config.address().clone() });
            }
            self.end(other, End::Ours(CloseReason::SelfDial));
        }
        self.end(conn, End::Ours(CloseReason::SelfDial));
    }

    /// Says why, then closes. Whether that is news: an address that was dialed is reported once.
    fn refuse(&mut self, conn: ConnId, reason: RejectReason) -> bool {
        let Some(link) = self.links.get_mut(&conn) else { return false };
        link.phase = Phase::Refusing { reason, said: false };
        let dialed = link.dialed.clone();
        self.wake(conn);
        dialed.is_none_or(|address| self.seeking.refused(&address, reason))
    }

    fn judge_hello(&self, conn: ConnId, hello: &Hello, node: &Node) -> Result<(), Refusal> {
        let reject = |reason| Err(Refusal::Reject(reason));
        if hello.magic != MAGIC {
            return Err(Refusal::Close(CloseReason::WrongMagic));
        }
        if hello.protocol.common(PROTOCOL).is_none() {
            return reject(RejectReason::NoCommonProtocol);
        }
        if hello.cluster != *self.config.cluster() {
            return reject(RejectReason::WrongCluster);
        }
        if hello.electorate != self.config.electorate() {
            return reject(RejectReason::ElectorateMismatch);
        }
        let same_address = hello.address == *self.config.address();
        if hello.id == self.me.id {
            return match node.cmp(&self.me) {
                _ if !same_address => reject(RejectReason::IdInUse),
                Ordering::Greater => Err(Refusal::Superseded),
                Ordering::Equal => Err(Refusal::SelfDial),
                Ordering::Less => reject(RejectReason::Superseded),
            };
        }
        if same_address {
            return reject(RejectReason::AddressInUse);
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
                return reject(RejectReason::IdInUse);
            }
        }
        let known = self.peers.get(&hello.id);
        if let Some(known) = known.filter(|known| !gives_way(&known.address)) {
            if known.address != hello.address {
                return reject(RejectReason::IdInUse);
            }
            if known.node > *node {
                return reject(RejectReason::Superseded);
            }
        }
        // An address has at most one connection of our own dials: where it is this one, the holder only claims the address.
        let taken = self.peer_at.get(&hello.address).is_some_and(|holder| *holder != hello.id);
        let reached = self.links.get(&conn).is_some_and(|link| link.dialed.as_ref() == Some(&hello.address));
        if taken && !reached {
            return reject(RejectReason::AddressInUse);
        }
        Ok(())
    }

    fn establish(&mut self, conn: ConnId, hello: Hello, node: Node) {
        // What our own dial reached at an address wins over who only claims it.
        if let Some(holder) = self.peer_at.get(&hello.address).filter(|holder| **holder != node.id).cloned() {
            self.drop_peer(&holder, CloseReason::Refused(RejectReason::AddressInUse));
        }
        if let Some(known) =
            self.peers.get(&node.id).filter(|known| known.node != node || known.address != hello.address)
        {
            let reason = match known.address == hello.address {
                true => CloseReason::Superseded,
                false => CloseReason::Refused(RejectReason::IdInUse),
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
            owed: Owed::default(),
        });
        peer.links.push(conn);
        let is_first = peer.links.len() == 1;
        self.peer_at.insert(hello.address.clone(), node.id.clone());
        let Some(link) = self.links.get_mut(&conn) else { return };
        let hello_owed = match link.phase {
            Phase::Opening { nonce, .. } if link.origin == Origin::Accepted => Some(nonce),
            _ => None,
        };
        link.phase = Phase::Established { peer: node.id.clone(), hello_owed, status_said: 0, heard: false };
        if let Some(dialed) = link.dialed.clone() {
            self.seeking.established(&dialed, &node.id);
        }
        self.pending.remove(&conn);
        self.timers.clear(&Timer::Handshake(conn));
        self.watch_link(conn);
        if is_first {
            self.event(Event::Linked { node: node.clone(), address: hello.address.clone(), conn });
            self.election.link_up(&hello.address, &node);
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
