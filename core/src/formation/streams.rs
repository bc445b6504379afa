//! From the command, or from an accepted connection, to a stream of the services (PROTOCOL.md, section 9).

use alloc::collections::BTreeSet;

use bytes::Bytes;

use super::{Formation, effects::End};
use crate::{
    api::error::{CloseReason, DialProblem, Misuse, RejectReason},
    api::input::{Origin, Remote},
    api::output::Output,
    api::stream::StreamFailure,
    env::never,
    id::{ConnId, DialId, Node, StreamId, StreamName},
    membership::view::Member,
    peers::{HandedOff, handshake::Rejection},
    streams::Opening,
    timers::Timer,
    wire::message::{Hello, PROTOCOL, Rejected},
};

impl Formation {
    /// Whether the embedder may open this stream now.
    pub(super) fn check_open_stream(&self, stream: StreamId, to: &Node) -> Result<(), Misuse> {
        if let Some(newest) = self.streams.newest().filter(|newest| stream <= *newest) {
            return Err(Misuse::ReusedStream { stream, newest });
        }
        if self.other_member(to).is_none() {
            return Err(Misuse::NotAMember(to.clone()));
        }
        self.streams.excess(&self.env, &to.id, self.peers.stream_peers()).map_or(Ok(()), Err)
    }

    /// Whether the embedder may take streams of these names.
    pub(super) fn check_serve_streams(&self, names: &BTreeSet<StreamName>) -> Result<(), Misuse> {
        let (count, limit) = (names.len(), self.env.limits().stream_names);
        if count > limit { Err(Misuse::TooManyStreamNames { count, limit }) } else { Ok(()) }
    }

    /// The member that is exactly this run of another node.
    fn other_member(&self, node: &Node) -> Option<&Member> {
        self.membership.view().get(&node.id).filter(|member| member.node == *node && *node != self.env.me)
    }

    /// S1: a stream has a connection of its own.
    pub(super) fn open_stream(&mut self, stream: StreamId, to: Node, name: StreamName) {
        let Some(addr) = self.other_member(&to).map(|member| member.address.clone()) else {
            return self.sink.output(Output::StreamFailed { stream, failure: StreamFailure::AnotherNode });
        };
        let (dial, timeout) = (self.discovery.next_dial(), self.env.timing().handshake_timeout);
        self.sink.set_timer(Timer::StreamDial(dial), self.env.now + timeout);
        self.streams.dial(dial, Opening { stream, to, name });
        self.sink.output(Output::Dial { dial, addr, timeout });
    }

    /// The address of the member was not reached.
    pub(super) fn stream_not_reached(&mut self, dial: DialId, problem: DialProblem) {
        self.sink.clear_timer(&Timer::StreamDial(dial));
        if let Some(Opening { stream, .. }) = self.streams.take_dial(dial) {
            self.sink.output(Output::StreamFailed { stream, failure: StreamFailure::NotReached(problem) });
        }
    }

    /// The address of the member was reached.
    pub(super) fn stream_opened(&mut self, conn: ConnId, dial: DialId, remote: Remote) {
        self.sink.clear_timer(&Timer::StreamDial(dial));
        let Some(Opening { stream, to, name }) = self.streams.take_dial(dial) else {
            return never!("the dial is one of a stream");
        };
        let Some(dialed) = self.other_member(&to).map(|member| member.address.clone()) else {
            // The member was removed meanwhile.
            let reason = CloseReason::NotNeeded;
            self.sink.output(Output::Close { conn, reason });
            return self.sink.output(Output::StreamFailed { stream, failure: StreamFailure::AnotherNode });
        };
        let voting = self.election.voting();
        let opened = (Origin::Dialed(dial), dialed, remote);
        self.peers.open_stream(&self.env, &mut self.sink, conn, opened, (voting, stream, to, name));
    }

    /// Who has answered on the connection that was dialed for a stream. S3: only the member itself is meant. `first`: this node's proof of
    /// the cluster key.
    pub(super) fn judge_stream_peer(&mut self, conn: ConnId, judged: Result<(Hello, Bytes), Rejection>) {
        let is_member = |hello: &Hello| {
            let is_meant = self.peers.stream_of(conn).is_some_and(|of| of.peer == hello.node());
            is_meant && self.peers.dialed(conn) == Some(&hello.address)
        };
        let reason = match judged {
            Ok((hello, first)) if is_member(&hello) => return self.peers.await_acceptance(conn, first),
            Ok(_) | Err(Rejection::SelfDial | Rejection::ThisRunIsOlder) => {
                if let Some(stream) = self.peers.take_opening(conn) {
                    self.sink.output(Output::StreamFailed { stream, failure: StreamFailure::AnotherNode });
                }
                CloseReason::Rejected(RejectReason::NotAMember)
            }
            Err(Rejection::Reject(reason, _)) => CloseReason::Rejected(reason),
            Err(Rejection::Close(reason)) => reason,
        };
        self.end(conn, End::Closed(reason));
    }

    /// A peer opens a stream. It has proven the cluster key, if there is one. `first` goes before the acceptance.
    pub(super) fn admit_stream(&mut self, conn: ConnId, hello: Hello, name: StreamName, first: Bytes) {
        match self.judge_stream(conn, &hello, &name) {
            Ok(()) => self.peers.accept_stream(conn, (hello.node(), name), first),
            Err(reason) => {
                let version = hello.protocol.common(self.env.config.protocol()).unwrap_or(PROTOCOL.min);
                // A node that this one has not answered yet learns the reason alone.
                self.peers.reject(conn, Rejected { reason, holder: None }, version, Bytes::new());
            }
        }
    }

    /// Runs the checks of S4 to S6, in this order.
    fn judge_stream(&mut self, conn: ConnId, hello: &Hello, name: &StreamName) -> Result<(), RejectReason> {
        let node = hello.node();
        if self.other_member(&node).is_none_or(|member| member.address != hello.address) {
            return Err(RejectReason::NotAMember);
        }
        let is_certified = self.peers.connection(conn).is_some_and(|connection| connection.proves(&hello.address));
        match self.peers.has_link_of(hello) {
            Some(true) | None => {}
            Some(false) if is_certified => {}
            Some(false) => return Err(RejectReason::Unproven),
        }
        if !self.streams.serves(name) {
            return Err(RejectReason::UnknownStream);
        }
        let excess = self.streams.excess(&self.env, &node.id, self.peers.stream_peers());
        if excess.is_some() || !self.streams.spend(&self.env, &node.id, self.membership.view()) {
            return Err(RejectReason::TooManyStreams);
        }
        Ok(())
    }

    /// A connection that was dialed for a stream is over, before it was handed off. `reason`: why this node has closed it.
    pub(super) fn stream_ended(&mut self, opening: Option<StreamId>, reason: Option<CloseReason>) {
        let failure = match reason {
            None => StreamFailure::Ended,
            Some(CloseReason::RejectedByPeer(reason)) => StreamFailure::Rejected(reason),
            Some(reason) => StreamFailure::Closed(reason),
        };
        if let Some(stream) = opening {
            self.sink.output(Output::StreamFailed { stream, failure });
        }
    }

    /// The node stops: no dial of a stream leads anywhere.
    pub(super) fn fail_dials(&mut self, reason: CloseReason) {
        while let Some(Opening { stream, .. }) = self.streams.take_any_dial() {
            self.sink.output(Output::StreamFailed { stream, failure: StreamFailure::Closed(reason) });
        }
        self.streams.stop();
    }

    /// S7: gives the connections away that are streams now. Everything that was sent on them is flushed. Returns
    /// whether there was any.
    pub(super) fn hand_off(&mut self) -> bool {
        let mut has_any = false;
        while let Some((conn, handed)) = self.peers.hand_off(&mut self.sink) {
            let HandedOff { stream, peer, name, unread } = handed;
            self.streams.hand_off(conn, peer.id.clone());
            self.sink.output(Output::Handoff { conn, stream, peer, name, unread });
            has_any = true;
        }
        has_any
    }
}

#[cfg(test)]
mod tests;
