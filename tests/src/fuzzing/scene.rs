//! The node under test: its configuration, and its state when a script starts.

use std::time::Duration;

use formation_core::{
    Bootstrap, Config, ConnId, Detector, DurableState, Incarnation, Limits, Origin, PhiAccrual, Start, Term, Timing,
    message::ProtocolRange,
};

use super::{
    embedder::Embedder,
    payload::{Identity, MemberEntry, Payload, PeerRole},
    transcript::Secret,
};
use crate::Net;

/// The index of the node under test: one of three voters, neither the first nor the last. Names and addresses are those
/// of the simulator, so that messages from simulated runs are valid here.
pub(super) const OWN: usize = 1;

/// A low limit for the bytes of unfinished frames: less than two frames of the longest kind.
pub(super) const TIGHT: usize = 8192;

/// A limit for the bytes of unfinished frames that all connections together cannot reach.
pub(super) const ROOMY: usize = 1 << 20;

/// The state of the node under test when a script starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One of three voters that has just started.
    Voter,
    /// A node that is not a voter.
    NonVoter,
    /// A join-only voter that has voted and has been a member in an earlier run.
    Restarted,
    /// The only voter of its cluster.
    Single,
    /// A voter that follows another node and is in its view.
    Follower,
    /// A voter that another voter has elected.
    Master,
    /// A join-only voter that has never been a member.
    JoinOnly,
    /// A voter that has voted for another node in an earlier run.
    Resumed,
}

/// The node under test, and how it is configured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    /// Its state at the start.
    pub(super) place: Place,
    /// The cluster keys that it holds.
    pub(super) keys: &'static [Secret],
    /// Whether it continues without a quorum.
    pub(super) solo: bool,
    /// Whether it uses the φ accrual detector.
    pub(super) phi: bool,
    /// Whether it also supports the next protocol version.
    pub(super) next: bool,
}

/// The configuration of most scenes.
pub(super) fn config() -> Config {
    Scene::of(0).config()
}

impl Scene {
    const PLACES: [Place; 8] = [
        Place::Voter,
        Place::NonVoter,
        Place::Restarted,
        Place::Single,
        Place::Follower,
        Place::Master,
        Place::JoinOnly,
        Place::Resumed,
    ];

    /// The scene with this number. The first numbers are the scenes without special configuration.
    pub(super) fn of(choice: u8) -> Self {
        let keys: [&[Secret]; 4] = [&[], &[Secret::Current], &[Secret::Next, Secret::Current], &[Secret::Next]];
        let [solo, phi, next] = [32, 64, 128].map(|bit| choice & bit != 0);
        let place = Self::PLACES[usize::from(choice % 8)];
        Self { place, keys: keys[usize::from(choice / 8 % 4)], solo, phi, next }
    }

    pub(super) fn config(self) -> Config {
        self.with_room(TIGHT)
    }

    /// The configuration with this limit for the bytes of unfinished frames and of writes in flight. A fuzzer can reach all other limits.
    pub(super) fn with_room(self, partial_bytes: usize) -> Config {
        let limits = Limits::new()
            .with_frame_before_handshake(1024)
            .with_max_frame(8192)
            .with_send(4096)
            .with_pending_connections(8)
            .with_connections(10)
            .with_partial_bytes(partial_bytes)
            // It depends on the chunks as well: they decide what is flushed by then.
            .with_unsent_bytes(partial_bytes)
            .with_messages(256)
            .with_members(3)
            .with_metadata(2_000)
            .with_change_log(4)
            .with_updates_at_once(1)
            .with_suspicions(1)
            .with_contacts(4)
            .with_discovered(4)
            .with_pinned_views(1)
            .with_streams(3)
            .with_streams_per_member(2)
            .with_stream_openings(4)
            .with_stream_names(2);
        let builder = match self.place {
            Place::Voter | Place::Follower | Place::Master | Place::Resumed => Net::builder(OWN, 3),
            Place::NonVoter => Net::builder(3, 3).contacts([Net::address(4)]),
            Place::Restarted | Place::JoinOnly => Net::builder(OWN, 3).bootstrap(Bootstrap::JoinOnly),
            Place::Single => Net::builder(0, 1),
        };
        let mut builder = self.keys.iter().fold(builder, |builder, secret| builder.key(secret.key()));
        if self.solo {
            builder = builder.solo_after(Timing::lan().bootstrap_wait);
        }
        if self.phi {
            builder = builder.detector(Detector::PhiAccrual(PhiAccrual::new().with_window(10)));
        }
        let max = if self.next { 2 } else { 1 };
        builder.protocol(ProtocolRange { min: 1, max }).limits(limits).build().expect("a valid configuration")
    }

    pub(super) fn start(self) -> Start {
        let config = self.config();
        let mut before = Start::new(Incarnation(4), 0);
        if let Place::Restarted | Place::Resumed = self.place {
            (before.hard_state.term, before.hard_state.joined) = (Term(3), true);
        }
        if let Place::Resumed = self.place {
            before.hard_state.voted_for = Some(Identity { who: 1, elsewhere: None, incarnation: 1 }.node());
        }
        Start::resume(&config, DurableState::of(&config, &before), Incarnation(5), 1)
            .expect("the state is the node's own")
    }

    pub(super) fn prepare(self, embedder: &mut Embedder) {
        match self.place {
            Place::Follower => self.become_follower(embedder),
            Place::Master => self.become_master(embedder),
            Place::Voter | Place::NonVoter | Place::Restarted | Place::Single | Place::JoinOnly | Place::Resumed => {}
        }
    }

    /// Another voter connects. It is the master, and this node is a member.
    fn become_follower(self, embedder: &mut Embedder) {
        let conn = embedder.open(Origin::Accepted);
        let members = [(0, 1), (2, 5)].map(|(who, incarnation)| Identity { who, elsewhere: None, incarnation });
        let members = members.map(|member| MemberEntry(member, false, 0)).to_vec();
        let page = Payload::Page { view_id: (1, 1), index: 0, last: true, members };
        self.establish(embedder, conn, 0);
        for payload in [status(PeerRole::Master, 1), Payload::JoinAccepted(1), page] {
            embedder.receive_payload(conn, &payload);
        }
        embedder.settle();
    }

    /// Another voter connects, and grants its vote when this node asks for it.
    fn become_master(self, embedder: &mut Embedder) {
        let conn = embedder.open(Origin::Accepted);
        self.establish(embedder, conn, 1);
        embedder.receive_payload(conn, &status(PeerRole::Joining, 0));
        // This takes a little longer than `bootstrap_wait`.
        for _ in 0..16 {
            embedder.settle();
            embedder.advance(Duration::from_millis(200));
            embedder.receive_payload(conn, &Payload::Ping);
        }
        embedder.settle();
        embedder.receive_payload(conn, &Payload::Vote(1, 1, true));
        embedder.settle();
    }

    /// Another node sends its `Hello` and, if there is a key, its proof.
    pub(super) fn establish(self, embedder: &mut Embedder, conn: ConnId, who: u8) {
        let someone = Identity { who, elsewhere: None, incarnation: 1 };
        match self.keys {
            [] => embedder.receive_payload(conn, &Payload::Hello(someone)),
            [secret, ..] => {
                embedder.receive_payload(conn, &Payload::HelloWithKeys(someone, vec![*secret]));
                embedder.receive_payload(conn, &Payload::Proof(*secret));
            }
        }
    }
}

fn status(role: PeerRole, term: u8) -> Payload {
    Payload::Status { number: 1, term, role, abstains: false, promise: None, view_id: (term, term), metadata: 0 }
}

#[cfg(test)]
mod tests {
    use formation_core::Phase;

    use super::*;

    #[test]
    fn each_scene_starts_in_its_phase() {
        for choice in 0..=255 {
            let scene = Scene::of(choice);
            let embedder = Embedder::new(scene);
            let phase = match scene.place {
                Place::Single => Phase::Candidate,
                Place::Follower => Phase::Follower,
                Place::Master => Phase::Master,
                _ => Phase::Joining,
            };
            assert_eq!(embedder.node().status().phase, phase, "{scene:?}");
            let members = match scene.place {
                Place::Follower | Place::Master => 2,
                _ => 0,
            };
            assert_eq!(embedder.node().view().len(), members, "{scene:?}");
        }
    }
}
