//! Leaving of one's own accord (PROTOCOL.md, "Leaving").

use crate::{formation::Formation, id::ConnId, interface::StopReason, link::Peer, message::Resign, timer::Timer};

impl Formation {
    pub(crate) fn leave(&mut self) {
        if self.leaving {
            return;
        }
        self.leaving = true;
        let master = self.election.master().map(|(master, _)| master.id.clone());
        let resigned = self.election.leave();
        while let Some(effect) = self.election.next_effect() {
            self.effect(effect);
        }
        self.timers.set(Timer::Leave, self.now + self.config.timing().down_after);
        match (resigned, master.and_then(|master| self.peers.get_mut(&master))) {
            (Some(term), _) => {
                self.resigning = Some(term);
                for peer in self.peers.values_mut().filter(|peer| peer.is_voter) {
                    peer.owed.resign = Some(Resign { term });
                    self.awake.extend(peer.links.iter().copied());
                }
            }
            (None, Some(master)) => {
                master.owed.leave = true;
                self.awake.extend(master.links.iter().copied());
            }
            (None, None) => {}
        }
    }

    /// A master that resigned has left once that is written; a member once it is not in the view any more.
    pub(crate) fn finish_leaving(&mut self) {
        if !self.leaving || self.is_stopped() {
            return;
        }
        let follows = self.election.master().is_some();
        // What a voter is still owed waits behind what is in flight.
        let in_flight = |conn: &ConnId| self.links.get(conn).is_some_and(|link| link.in_flight);
        let busy = |peer: &Peer| peer.is_voter && peer.links.iter().any(in_flight);
        if !follows && !self.peers.values().any(busy) {
            self.stop(StopReason::Left);
        }
    }
}
