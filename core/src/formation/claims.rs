//! Identities that peers claim and have to prove (PROTOCOL.md, H11).

use bytes::Bytes;

use super::{Formation, effects::End};
use crate::{
    api::error::{CloseReason, RejectReason},
    env::never,
    id::{Address, ConnId, Node},
    peers::{Claim, Peer, PeerKey, handshake::Standing},
    timers::Timer,
    wire::message::{Hello, Holder, Voucher},
};

/// How many connections may claim one identity at a time.
const MAX_CLAIMS: usize = 2;

/// How many links there may be to one peer.
const MAX_LINKS: usize = 3;

impl Formation {
    /// The peer has to prove that it is the node that it claims to be (H11).
    pub(super) fn claimed(&mut self, conn: ConnId, hello: Hello, first: Bytes, before_rejection: Bytes) {
        let node = hello.node();
        self.discovery.check_address(&self.env, &self.peers, conn, (&hello.address, &node));
        if let Some(holder) = self.peers.contested(&hello) {
            let (key, held) = (holder.key(), (holder.address(), holder.node()));
            if self.discovery.check_address(&self.env, &self.peers, conn, held) {
                self.peers.doubt(&self.env, key);
            }
        }
        // Only a dial of the address itself shows who is there.
        if let Some(dialed) = self.peers.dialed(conn).cloned() {
            self.discovery.led_to(&self.env, &dialed, &hello.id, &hello.address);
            return match self.peers.with_node(&node) {
                Some(peer) if *peer.address() == hello.address => self.end(conn, End::Closed(CloseReason::Duplicate)),
                Some(_) | None => self.reject(conn, hello, (RejectReason::Unproven, None), before_rejection),
            };
        }
        let mut same = self.peers.claims_of(&hello.id, &hello.address);
        if same.len() >= MAX_CLAIMS {
            same.push(conn);
            if let Some(surplus) = self.peers.surplus_claim(&same) {
                self.end(surplus, End::Closed(CloseReason::Duplicate));
                if surplus == conn {
                    return;
                }
            }
        }
        let (address, nonce) = (hello.address.clone(), hello.nonce);
        self.peers.claim(&self.env, conn, Claim::new(hello, first));
        self.vouch((&node, &address), nonce);
    }

    /// The peer has another connection to this node: each link that this node has dialed to it carries a voucher for that one.
    pub(super) fn vouch(&mut self, (node, address): (&Node, &Address), nonce: [u8; 16]) {
        if self.peers.vouch(&self.env, (node, address), nonce)
            && let Some(key) = self.peers.with_node(node).map(Peer::key)
        {
            // The peer may have ignored what was sent before the voucher.
            self.relinked(key);
        }
    }

    /// A peer that claims an identity has sent what may prove it.
    pub(super) fn voucher_received(&mut self, conn: ConnId, voucher: Voucher) {
        let Some(claim) = self.peers.claim_on(conn) else {
            return never!("a voucher counts for a claim");
        };
        match self.peers.is_vouched(&claim.node(), &claim.hello.address, voucher.nonce) {
            true => self.judge_claim(conn, true),
            false => self.wrong_voucher(conn),
        }
    }

    /// A peer has sent what may prove its link, if that is not proven yet.
    pub(super) fn vouched(&mut self, conn: ConnId, key: PeerKey, voucher: Voucher) {
        let Some(peer) = self.peers.peer(key) else { return never!("a link names a peer") };
        let (node, address) = (peer.node().clone(), peer.address().clone());
        if peer.is_verified() {
            return;
        }
        if !self.peers.is_vouched(&node, &address, voucher.nonce) {
            return self.wrong_voucher(conn);
        }
        self.peers.verify(key);
        self.judge_claims(&node, &address);
    }

    fn wrong_voucher(&mut self, conn: ConnId) {
        if !self.peers.count_wrong_voucher(&self.env, conn) {
            self.end(conn, End::Closed(CloseReason::UnexpectedMessage));
        }
    }

    /// Judges a claim again. It stays a claim if it is not proven.
    fn judge_claim(&mut self, conn: ConnId, is_vouched: bool) {
        let Some(claim) = self.peers.claim_on(conn) else { return };
        let (hello, answer) = claim.parts();
        match self.judge_node(conn, &hello, is_vouched) {
            Ok(Standing::Accepted) => self.establish(conn, hello, answer, is_vouched),
            Ok(Standing::Unproven) => {}
            Err(rejection) => self.reject_hello(conn, hello, rejection, answer),
        }
    }

    /// A node is linked. Whoever else claims its id or its address is rejected.
    pub(super) fn judge_claims(&mut self, node: &Node, address: &Address) {
        for conn in self.peers.claims_of(&node.id, address) {
            let claim = self.peers.claim_on(conn);
            // The same node still has to show that it is the same.
            if claim.is_some_and(|claim| claim.node() != *node || claim.hello.address != *address) {
                self.judge_claim(conn, false);
            }
        }
    }

    /// The time for a handshake is over.
    pub(super) fn handshake_timed_out(&mut self, conn: ConnId) {
        let Some(connection) = self.peers.connection(conn) else { return };
        match connection.claim() {
            None => {
                let reason = connection.timeout_reason();
                if connection.proving().is_some() {
                    self.peers.distrust(&self.env, conn);
                }
                self.end(conn, End::Closed(reason));
            }
            Some(claim) => {
                let (hello, answer) = claim.parts();
                self.reject(conn, hello, (RejectReason::Unproven, None), answer);
                let at = self.env.now + self.env.timing().handshake_timeout;
                self.sink.set_timer(Timer::Handshake(conn), at);
            }
        }
    }

    /// No newer run of this node is at its own address: whoever claims to be one is not.
    pub(super) fn refute_claims(&mut self) {
        let own = Holder { node: self.env.me.clone(), address: self.env.config.address().clone() };
        for conn in self.peers.claims_of(&own.node.id, &own.address) {
            let claim = self.peers.claim_on(conn);
            if let Some((hello, answer)) = claim.map(Claim::parts) {
                self.reject(conn, hello, (RejectReason::IdInUse, Some(own.clone())), answer);
            }
        }
    }

    /// A node that has lost its ends of its links may have some more here, until they are silent. No node needs many.
    pub(super) fn limit_links(&mut self, key: PeerKey) {
        let links = self.peers.links(key);
        for conn in links.iter().take(links.len().saturating_sub(MAX_LINKS)) {
            self.end(*conn, End::Closed(CloseReason::Duplicate));
        }
    }
}
