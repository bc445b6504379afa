//! Who the node under test is, and how far it has come.

use std::time::Duration;

use formation_core::{Bootstrap, Config, HardState, Incarnation, Limits, Origin, Start, Term};

use super::{
    host::Host,
    say::{Entry, Part, Say, Someone},
};
use crate::Net;

/// The place of the node under test among those of the simulator: one of three voters, and neither the first nor the last.
/// Names are the simulator's, so that what was said there can be said here.
pub(super) const OWN: usize = 1;

/// The cluster key, where there is one.
pub(super) const KEY: &[u8; 23] = b"the key of this cluster";

/// Few bytes of unfinished frames: not two of the longest.
pub(super) const TIGHT: usize = 8192;

/// More bytes of unfinished frames than all connections can come to.
pub(super) const ROOMY: usize = 1 << 20;

/// What the node under test is when things begin to happen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scene {
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
    /// One of three voters that hold a cluster key, just started.
    Keyed,
}

/// The configuration of most scenes.
pub(super) fn config() -> Config {
    Scene::Voter.config()
}

impl Scene {
    pub(super) fn of(choice: u8) -> Self {
        let all = [Self::Voter, Self::Other, Self::Restarted, Self::Single, Self::Follows, Self::Leads];
        all[usize::from(choice) % all.len()]
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
            pending_links: 8,
            links: 10,
            partial_bytes,
            members: 3,
            metadata: 16,
            change_log: 4,
            contacts: 4,
            pinned_epochs: 1,
        };
        let builder = match self {
            Self::Voter | Self::Follows | Self::Leads => Net::builder(OWN, 3),
            Self::Other => Net::builder(3, 3).contacts([Net::address(4)]),
            Self::Keyed => Net::builder(OWN, 3).key(KEY),
            Self::Restarted => Net::builder(OWN, 3).bootstrap(Bootstrap::JoinOnly),
            Self::Single => Net::builder(0, 1),
        };
        builder.limits(limits).build().expect("a valid configuration")
    }

    pub(super) fn start(self) -> Start {
        let hard_state = match self {
            Self::Restarted => HardState { term: Term(3), voted_for: None, joined: true },
            _ => HardState::default(),
        };
        Start { incarnation: Incarnation(5), rng_seed: 1, hard_state }
    }

    pub(super) fn prepare(self, host: &mut Host) {
        match self {
            Self::Follows => follow(host),
            Self::Leads => lead(host),
            Self::Voter | Self::Other | Self::Restarted | Self::Single | Self::Keyed => {}
        }
    }
}

fn says(who: u8, role: Part, term: u8) -> [Say; 2] {
    let status = Say::Status { number: 1, term, role, held: false, promise: None, epoch: (term, term), metadata: 0 };
    [Say::Hello(Someone { who, elsewhere: None, incarnation: 1 }), status]
}

/// Another voter connects, is the master, and counts this node among its members.
fn follow(host: &mut Host) {
    let conn = host.open(Origin::Accepted);
    let members = [(0, 1), (2, 5)].map(|(who, incarnation)| Someone { who, elsewhere: None, incarnation });
    let members = members.map(|member| Entry(member, false, 0)).to_vec();
    let page = Say::Page { epoch: (1, 1), index: 0, last: true, members };
    for say in says(0, Part::Master, 1).into_iter().chain([Say::Admitted(1), page]) {
        host.receive(conn, say.bytes());
    }
    host.settle();
}

/// Another voter connects, and grants its vote once this node has asked for it.
fn lead(host: &mut Host) {
    let conn = host.open(Origin::Accepted);
    for say in says(1, Part::Seeking, 0) {
        host.receive(conn, say.bytes());
    }
    // Until a little after `bootstrap_wait`.
    for _ in 0..16 {
        host.settle();
        host.pass(Duration::from_millis(200));
        host.receive(conn, Say::Ping.bytes());
    }
    host.settle();
    host.receive(conn, Say::Vote(1, 1, true).bytes());
    host.settle();
}

#[cfg(test)]
mod tests {
    use formation_core::Phase;

    use super::*;

    #[test]
    fn each_scene_begins_where_it_says() {
        let phases: Vec<_> = (0..6).map(|choice| Host::new(Scene::of(choice)).node().status().phase).collect();
        let seeking = Phase::Seeking;
        assert_eq!(phases, [seeking, seeking, seeking, Phase::Standing, Phase::Following, Phase::Master]);
        assert_eq!(Host::new(Scene::Follows).node().view().len(), 2);
    }
}
