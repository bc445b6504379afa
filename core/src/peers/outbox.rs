//! What the next write to a peer carries (PROTOCOL.md, "One send in flight").

use crate::wire::message::{HeartbeatAck, JoinResponse, Message, Release, Resign, Vote, VoteRequest};

/// A message to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Post {
    /// The request of the present candidacy, if the peer's answer is still open when it is sent.
    VoteRequest,
    Vote(Vote),
    Release(Release),
    Resign(Resign),
    LeaveAck,
    Join(JoinResponse),
    HeartbeatAck(HeartbeatAck),
    /// The electorate that this node holds (E10).
    Electorate,
    /// The newest heartbeat of this master.
    Heartbeat,
}

/// The messages that wait for the next write to a peer. A newer one of a kind replaces the older one, so nothing queues.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Outbox {
    vote_request: bool,
    vote: Option<Vote>,
    release: Option<Release>,
    resign: Option<Resign>,
    leave_ack: bool,
    join: Option<JoinResponse>,
    ack: Option<HeartbeatAck>,
    electorate: bool,
    heartbeat: bool,
}

impl Outbox {
    pub(super) fn put(&mut self, post: Post) {
        match post {
            Post::VoteRequest => self.vote_request = true,
            Post::Vote(vote) => self.vote = Some(vote),
            Post::Release(release) => self.release = Some(release),
            Post::Resign(resign) => self.resign = Some(resign),
            Post::LeaveAck => self.leave_ack = true,
            Post::Join(response) => self.join = Some(response),
            Post::HeartbeatAck(ack) => self.ack = Some(ack),
            Post::Electorate => self.electorate = true,
            Post::Heartbeat => self.heartbeat = true,
        }
    }

    /// The node is no master any more: neither a heartbeat nor an answer to a join is due.
    pub(super) fn end_mastership(&mut self) {
        self.heartbeat = false;
        self.join = None;
    }

    /// Whether a message waits that only a master sends.
    pub(super) fn is_from_a_master(&self) -> bool {
        self.heartbeat || self.join.is_some()
    }

    /// Takes what is sent before the updates of the view, in order. `request`: what a vote request is now.
    pub(super) fn take_messages(&mut self, request: Option<VoteRequest>, mut write: impl FnMut(Message)) {
        let wants_vote = core::mem::take(&mut self.vote_request);
        // A list of them would be moved around for nothing: nearly always all of this is empty.
        if let Some(release) = self.release.take() {
            write(Message::Release(release));
        }
        if let Some(request) = request.filter(|_| wants_vote) {
            write(Message::VoteRequest(request));
        }
        if let Some(vote) = self.vote.take() {
            write(Message::Vote(vote));
        }
        if let Some(resign) = self.resign.take() {
            write(Message::Resign(resign));
        }
        if core::mem::take(&mut self.leave_ack) {
            write(Message::LeaveAck);
        }
        if let Some(ack) = self.ack.take() {
            write(Message::HeartbeatAck(ack));
        }
        if let Some(response) = self.join.take() {
            write(Message::JoinResponse(response));
        }
    }

    pub(super) fn take_electorate(&mut self) -> bool {
        core::mem::take(&mut self.electorate)
    }

    pub(super) fn take_heartbeat(&mut self) -> bool {
        core::mem::take(&mut self.heartbeat)
    }
}
