//! The streams of the services: what is served, what is dialed, and how many there are (PROTOCOL.md, section 9).

use alloc::collections::{BTreeMap, BTreeSet};

use crate::{
    api::error::Misuse,
    env::Env,
    id::{ConnId, DialId, Node, NodeId, StreamId, StreamName},
    membership::view::MembersView,
    peers::Budget,
};

/// A stream that this node opens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Opening {
    pub(crate) stream: StreamId,
    pub(crate) to: Node,
    pub(crate) name: StreamName,
}

/// What this node knows of streams. The connections that become streams are in the peer table until they are handed off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Streams {
    /// The names under which this node takes streams.
    served: BTreeSet<StreamName>,
    /// The newest stream that this node was to open.
    newest: Option<StreamId>,
    /// The streams whose address is being dialed.
    dials: BTreeMap<DialId, Opening>,
    /// The connections that were handed off and whose service has not dropped them, with the member at the other end.
    open: BTreeMap<ConnId, NodeId>,
    /// What each member may open. It is kept for those that have opened a stream and are in the view.
    budgets: BTreeMap<NodeId, Budget>,
}

impl Streams {
    pub(crate) fn serve(&mut self, names: BTreeSet<StreamName>) {
        self.served = names;
    }

    pub(crate) fn serves(&self, name: &StreamName) -> bool {
        self.served.contains(name)
    }

    /// The newest stream that this node was to open.
    pub(crate) fn newest(&self) -> Option<StreamId> {
        self.newest
    }

    /// Whether the dial is one for a stream.
    pub(crate) fn is_dialing(&self, dial: DialId) -> bool {
        self.dials.contains_key(&dial)
    }

    pub(crate) fn dial(&mut self, dial: DialId, opening: Opening) {
        self.newest = Some(opening.stream);
        self.dials.insert(dial, opening);
    }

    pub(crate) fn take_dial(&mut self, dial: DialId) -> Option<Opening> {
        self.dials.remove(&dial)
    }

    pub(crate) fn take_any_dial(&mut self) -> Option<Opening> {
        self.dials.pop_first().map(|(_, opening)| opening)
    }

    pub(crate) fn hand_off(&mut self, conn: ConnId, peer: NodeId) {
        self.open.insert(conn, peer);
    }

    /// Whether the connection was handed off, and its service has not dropped it.
    pub(crate) fn is_open(&self, conn: ConnId) -> bool {
        self.open.contains_key(&conn)
    }

    /// The service has dropped the stream.
    pub(crate) fn ended(&mut self, conn: ConnId) {
        self.open.remove(&conn);
    }

    /// The node has stopped.
    pub(crate) fn stop(&mut self) {
        self.served.clear();
        self.budgets.clear();
    }

    /// The limit that one more stream with this member would exceed. `in_handshake`: the members of the streams that are not handed off
    /// yet.
    pub(crate) fn excess<'a>(
        &'a self,
        env: &Env,
        with: &NodeId,
        in_handshake: impl Iterator<Item = &'a NodeId>,
    ) -> Option<Misuse> {
        let limits = env.limits();
        let dialed = self.dials.values().map(|opening| &opening.to.id);
        let (mut all, mut same) = (0, 0);
        for id in self.open.values().chain(dialed).chain(in_handshake) {
            all += 1;
            same += usize::from(id == with);
        }
        if all >= limits.streams {
            return Some(Misuse::TooManyStreams { with: None, limit: limits.streams });
        }
        let limit = limits.streams_per_member;
        (same >= limit).then(|| Misuse::TooManyStreams { with: Some(with.clone()), limit })
    }

    /// The member opens one more stream to this node. Returns false if it opens them too fast.
    pub(crate) fn spend(&mut self, env: &Env, member: &NodeId, view: &MembersView) -> bool {
        if self.budgets.len() > view.len() {
            self.budgets.retain(|id, _| view.get(id).is_some());
        }
        let budget = self.budgets.entry(member.clone()).or_insert_with(|| Budget::new(env.now));
        budget.spend(env, env.limits().stream_openings)
    }

    /// Checks what holds between two inputs. `has_deadline`: whether the dial has one.
    ///
    /// # Panics
    /// When something does not hold.
    pub(crate) fn check(&self, env: &Env, has_deadline: impl Fn(DialId) -> bool) {
        assert!(self.dials.keys().all(|dial| has_deadline(*dial)), "each dial of a stream has a deadline");
        let limits = env.limits();
        assert!(self.served.len() <= limits.stream_names, "no more names are served than allowed");
        assert!(self.open.len() + self.dials.len() <= limits.streams, "there are no more streams than allowed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Config, Incarnation, Limits, Timestamp,
        violations::{Violation, expect_all_listed, expect_violations},
    };

    fn node(id: &str) -> Node {
        Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(1) }
    }

    fn env() -> Env {
        let limits = Limits::new().with_streams(1).with_stream_names(0);
        let config = Config::builder("test", "a", "a:1").seeds(["a:1", "b:1"]).limits(limits).build().unwrap();
        Env::new(config, node("a"), Timestamp::ZERO)
    }

    fn name() -> StreamName {
        StreamName::new("kv").unwrap()
    }

    fn dialing() -> Streams {
        let mut streams = Streams::default();
        streams.dial(DialId(1), Opening { stream: StreamId(1), to: node("b"), name: name() });
        streams
    }

    const VIOLATIONS: [Violation<Streams>; 3] = [
        (
            dialing,
            |s| s.dial(DialId(2), Opening { stream: StreamId(2), to: node("b"), name: name() }),
            "each dial of a stream has a deadline",
        ),
        (dialing, |s| s.serve([name()].into()), "no more names are served than allowed"),
        (dialing, |s| s.hand_off(ConnId(1), node("b").id), "there are no more streams than allowed"),
    ];

    #[test]
    fn every_invariant_of_the_streams_notices_its_violation() {
        expect_violations(&VIOLATIONS, |s| s.check(&env(), |dial| dial == DialId(1)));
        expect_all_listed(include_str!("streams.rs"), &VIOLATIONS);
    }
}
