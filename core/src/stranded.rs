//! Reporting that linked peers stay without a master although this voter follows one.

use alloc::{collections::BTreeSet, vec::Vec};
use core::time::Duration;

use crate::{
    api::event::Event,
    election::Election,
    env::{Env, Sink},
    id::{Address, Node},
    peers::PeerTable,
    reported::Reported,
    timers::Timer,
    wire::message::Role,
};

/// Which linked peers lacked a master when this voter last looked, and when that was last reported. The peers are linked, so there are
/// not more of them than links.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Stranded {
    follows: Option<Node>,
    seen: BTreeSet<Node>,
    reported: Reported<()>,
}

impl Stranded {
    /// Only voters are believed about masters, so only they report this. A solo master may be one of several (E8).
    pub(crate) fn update(&mut self, env: &Env, sink: &mut Sink, election: &Election, is_running: bool) {
        let follows = election.master().map(|(master, _)| master).filter(|master| **master != env.me);
        let follows = follows.filter(|_| is_running && env.votes() && !election.follows_solo());
        if follows == self.follows.as_ref() {
            return;
        }
        let follows = follows.cloned();
        match follows.is_some() {
            true => sink.set_timer(Timer::Stranded, env.now + Self::patience(env)),
            false => sink.clear_timer(&Timer::Stranded),
        }
        *self = Self { follows, ..Self::default() };
    }

    /// A peer that lacked a master the last time, too, does not get to it.
    pub(crate) fn look(&mut self, env: &Env, sink: &mut Sink, election: &Election, peers: &PeerTable) {
        let Some((master, address)) = election.master() else { return };
        sink.set_timer(Timer::Stranded, env.now + Self::patience(env));
        let lacking = without_master(peers);
        let mut lasting = lacking.iter().filter(|(node, _)| self.seen.contains(node));
        if let Some((peer, peer_address)) = lasting.next()
            && self.reported.is_due(env.now, &(), PartialEq::eq)
        {
            sink.event(Event::PeersWithoutMaster {
                master: master.clone(),
                address: address.clone(),
                peer: peer.clone(),
                peer_address: peer_address.clone(),
                peers: 1 + lasting.count(),
            });
        }
        self.seen = lacking.into_iter().map(|(node, _)| node).collect();
    }

    /// A node joins within a fraction of this.
    fn patience(env: &Env) -> Duration {
        env.timing().bootstrap_wait.max(env.timing().down_after) + env.timing().lease
    }
}

/// The linked peers that have no master.
pub(crate) fn without_master(peers: &PeerTable) -> Vec<(Node, Address)> {
    let lacking = peers.iter().filter(|peer| match peer.status().map(|status| &status.role) {
        Some(Role::Joining) => true,
        None | Some(Role::Candidate | Role::Follower { .. } | Role::Master | Role::Leaving | Role::Solo { .. }) => {
            false
        }
    });
    lacking.map(|peer| (peer.node().clone(), peer.address().clone())).collect()
}
