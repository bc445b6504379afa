//! Where the parts of a write come from.

use bytes::Bytes;

use crate::{
    election::Election,
    env::Env,
    id::{Address, NodeId},
    membership::Membership,
    own_status::OwnStatus,
    peers::{Content, Peer},
    wire::frame::SharedFrame,
    wire::message::{Message, VoteRequest},
};

/// What writes are made of, beside what the peer table has itself.
pub(super) struct Sources<'a> {
    pub(super) env: &'a Env,
    pub(super) own_status: &'a OwnStatus,
    pub(super) election: &'a Election,
    pub(super) membership: &'a mut Membership,
}

impl Content for Sources<'_> {
    fn status(&self) -> (u64, &SharedFrame) {
        self.own_status.frame()
    }

    fn vote_request(&self, voter: &Address) -> Option<VoteRequest> {
        self.election.request_for(voter)
    }

    fn electorate(&self) -> Message {
        Message::Electorate(self.election.electorate().clone())
    }

    fn heartbeat(&self) -> Option<(u64, SharedFrame)> {
        self.membership.heartbeat()
    }

    fn next_update(&mut self, peer: &Peer, version: u16, room: usize) -> Option<Bytes> {
        // A solo master sends its views only to nodes that take them (E8).
        if self.election.is_solo() && !peer.takes_views_of(&self.env.me) {
            return None;
        }
        self.membership.next_update(&peer.node().id, version, room)
    }

    fn heartbeat_sent(&mut self, id: &NodeId, number: u64) {
        self.membership.heartbeat_sent(id, number);
    }
}
