//! Who the node under test is, and how far it has come.

use std::time::Duration;

use formation_core::{
    Bootstrap, Config, ConnId, Detector, DurableState, HardState, Incarnation, Limits, Origin, PhiAccrual, Start, Term,
    Timing, message::ProtocolRange,
};

use super::{
    embedder::Embedder,
    payload::{Entry, Part, Say, Someone},
    transcript::Secret,
};
use crate::Net;

/// The place of the node under test among those of the simulator: one of three voters, and neither the first nor the last.
/// Names are the simulator's, so that what was said there can be said here.
pub(super) const OWN: usize = 1;

/// Few bytes of unfinished frames: not two of the longest.
pub(super) const TIGHT: usize = 8192;

/// More bytes of unfinished frames than all connections can come to.
pub(super) const ROOMY: usize = 1 << 20;

/// What the node under test is when things begin to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One of three voters, just started.
    Voter,
    /// No voter.
    Other,
    /// It has voted and been a member before, and must not form a cluster.
    Restarted,
    /// Its own only seed.
    Single,
    /// A voter that follows another, and is in its view.
    Follows,
    /// A voter whom another has elected.
    Leads,
    /// A voter that must not form a cluster, and has never been a member.
    Joins,
    /// A voter that has voted for another, and may form a cluster.
    Resumed,
}

/// The node under test, and how it is configured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    /// How far it has come.
    pub(super) place: Place,
    /// The cluster keys that it holds.
    pub(super) keys: &'static [Secret],
    /// Whether it goes on without a quorum.
    pub(super) solo: bool,
    /// Whether it judges members by φ.
    pub(super) phi: bool,
    /// Whether it speaks the next protocol, too.
    pub(super) next: bool,
}

/// The configuration of most scenes.
pub(super) fn config() -> Config {
    Scene::of(0).config()
}

impl Scene {
    const PLACES: [Place; 8] = [
        Place::Voter,
        Place::Other,
        Place::Restarted,
        Place::Single,
        Place::Follows,
        Place::Leads,
        Place::Joins,
        Place::Resumed,
    ];

    /// Each number is another one, and the first are those without anything special.
    pub(super) fn of(choice: u8) -> Self {
        let keys: [&[Secret]; 4] = [&[], &[Secret::Current], &[Secret::Next, Secret::Current], &[Secret::Next]];
        let [solo, phi, next] = [32, 64, 128].map(|bit| choice & bit != 0);
        let place = Self::PLACES[usize::from(choice % 8)];
        Self { place, keys: keys[usize::from(choice / 8 % 4)], solo, phi, next }
    }

    pub(super) fn config(self) -> Config {
        self.with_room(TIGHT)
    }

    /// Where so many bytes of unfinished frames may be held. All limits are within a fuzzer's reach.
    pub(super) fn with_room(self, partial_bytes: usize) -> Config {
        let limits = Limits {
            frame_before_handshake: 1024,
            max_frame: 8192,
            send: 4096,
            pending_connections: 8,
            connections: 10,
            partial_bytes,
            members: 3,
            metadata: 2_000,
            change_log: 4,
            updates_at_once: 1,
            contacts: 4,
            pinned_views: 1,
        };
        let builder = match self.place {
            Place::Voter | Place::Follows | Place::Leads | Place::Resumed => Net::builder(OWN, 3),
            Place::Other => Net::builder(3, 3).contacts([Net::address(4)]),
            Place::Restarted | Place::Joins => Net::builder(OWN, 3).bootstrap(Bootstrap::JoinOnly),
            Place::Single => Net::builder(0, 1),
        };
        let mut builder = self.keys.iter().fold(builder, |builder, secret| builder.key(secret.key()));
        if self.solo {
            builder = builder.solo_after(Timing::lan().bootstrap_wait);
        }
        if self.phi {
            builder = builder.detector(Detector::PhiAccrual(PhiAccrual { window: 10, ..PhiAccrual::default() }));
        }
        let max = if self.next { 2 } else { 1 };
        builder.protocol(ProtocolRange { min: 1, max }).limits(limits).build().expect("a valid configuration")
    }

    pub(super) fn start(self) -> Start {
        let config = self.config();
        let hard_state = match self.place {
            Place::Restarted => HardState { term: Term(3), voted_for: None, joined: true },
            Place::Resumed => {
                let other = Someone { who: 1, elsewhere: None, incarnation: 1 };
                HardState { term: Term(3), voted_for: Some(other.node()), joined: true }
            }
            _ => HardState::default(),
        };
        let before = Start { hard_state, ..Start::new(Incarnation(4), 0) };
        Start::resume(&config, DurableState::of(&config, &before), Incarnation(5), 1).expect("it is its own")
    }

    pub(super) fn prepare(self, embedder: &mut Embedder) {
        match self.place {
            Place::Follows => self.follow(embedder),
            Place::Leads => self.lead(embedder),
            Place::Voter | Place::Other | Place::Restarted | Place::Single | Place::Joins | Place::Resumed => {}
        }
    }

    /// Another voter connects, is the master, and counts this node among its members.
    fn follow(self, embedder: &mut Embedder) {
        let conn = embedder.open(Origin::Accepted);
        let members = [(0, 1), (2, 5)].map(|(who, incarnation)| Someone { who, elsewhere: None, incarnation });
        let members = members.map(|member| Entry(member, false, 0)).to_vec();
        let page = Say::Page { view_id: (1, 1), index: 0, last: true, members };
        self.greet(embedder, conn, 0);
        for say in [status(Part::Master, 1), Say::Admitted(1), page] {
            embedder.say(conn, &say);
        }
        embedder.settle();
    }

    /// Another voter connects, and grants its vote once this node has asked for it.
    fn lead(self, embedder: &mut Embedder) {
        let conn = embedder.open(Origin::Accepted);
        self.greet(embedder, conn, 1);
        embedder.say(conn, &status(Part::Joining, 0));
        // Until a little after `bootstrap_wait`.
        for _ in 0..16 {
            embedder.settle();
            embedder.pass(Duration::from_millis(200));
            embedder.say(conn, &Say::Ping);
        }
        embedder.settle();
        embedder.say(conn, &Say::Vote(1, 1, true));
        embedder.settle();
    }

    /// Another node says who it is, and proves that it holds a key where that is asked.
    pub(super) fn greet(self, embedder: &mut Embedder, conn: ConnId, who: u8) {
        let someone = Someone { who, elsewhere: None, incarnation: 1 };
        match self.keys {
            [] => embedder.say(conn, &Say::Hello(someone)),
            [secret, ..] => {
                embedder.say(conn, &Say::Keyed(someone, vec![*secret]));
                embedder.say(conn, &Say::Proof(*secret));
            }
        }
    }
}

fn status(role: Part, term: u8) -> Say {
    Say::Status { number: 1, term, role, held: false, promise: None, view_id: (term, term), metadata: 0 }
}

#[cfg(test)]
mod tests {
    use formation_core::Phase;

    use super::*;

    #[test]
    fn each_scene_begins_where_it_says() {
        for choice in 0..=255 {
            let scene = Scene::of(choice);
            let embedder = Embedder::new(scene);
            let phase = match scene.place {
                Place::Single => Phase::Candidate,
                Place::Follows => Phase::Follower,
                Place::Leads => Phase::Master,
                _ => Phase::Joining,
            };
            assert_eq!(embedder.node().status().phase, phase, "{scene:?}");
            let members = match scene.place {
                Place::Follows | Place::Leads => 2,
                _ => 0,
            };
            assert_eq!(embedder.node().view().len(), members, "{scene:?}");
        }
    }
}
