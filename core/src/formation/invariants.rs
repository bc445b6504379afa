//! The invariants of a node between two inputs, in every part and between the parts.

use alloc::{format, string::String};

use super::Formation;
use crate::{peers::Peer, time::Timestamp, timers::Timer, wire::message::Role};

impl Formation {
    /// Checks the invariants of every part, and those between parts.
    ///
    /// # Panics
    /// When something does not hold.
    pub(super) fn check_invariants(&self) {
        const SMALL: usize = 128;
        let size = self.peers.len() + self.membership.view().len();
        // The checks go through everything: a large node is checked once in so many frames.
        if size > SMALL && !self.peers.counters().frames_received.is_multiple_of(256) {
            return;
        }
        let timers = self.sink.timers();
        timers.check();
        self.election.check_invariants();
        let (newest_status, _) = self.own_status.frame();
        self.peers.check(timers, newest_status, self.election.is_master());
        self.rejections.check();
        self.streams.check(&self.env, |dial| timers.is_set(&Timer::StreamDial(dial)));
        self.membership.check(&self.env, &self.election, &self.peers, timers);
        if self.lifecycle.is_stopped() {
            assert_eq!(self.peers.len(), 0, "a node that has stopped has no connection");
            assert_eq!(timers.next_deadline(), None, "a node that has stopped has no timer");
            return;
        }
        self.election.check_node(|address| self.peers.at(address).map(Peer::node));
        self.preference.check(&self.election, timers);
        self.patience.check(timers);
        self.autopilot.check(timers);
        let voters = &self.election.electorate().voters;
        assert_eq!(*self.env.voters, *voters, "E10: every part knows the voters of the election");
        let is_right = |peer: &Peer| peer.is_voter() == voters.contains(peer.address());
        assert!(self.peers.iter().all(is_right), "E10: a peer is a voter iff the election has it");
        self.own_status.check(&self.election, timers);
        self.discovery.check(&self.peers, &self.election, timers);
        let is_leaving = self.lifecycle.awaits_ack().is_some();
        assert_eq!(self.election.role() == Role::Leaving, is_leaving, "a leaving node takes no part in elections");
        assert_eq!(timers.is_set(&Timer::Leave), is_leaving, "the leave timer is set exactly while this node leaves");
        self.check_conclusions();
    }

    /// No part of a frame, no flush and no time before the next deadline needs conclusions, because nothing is left to be concluded.
    fn check_conclusions(&self) {
        let mut later = self.clone();
        let due = self.next_deadline().map_or(u64::MAX, Timestamp::as_micros);
        later.env.now = Timestamp::from_micros(due - 1).max(self.env.now);
        later.conclude();
        later.env.now = self.env.now;
        later.election.pass_time(self.env.now);
        // How long the last mastership has lasted is judged whenever time passes.
        later.preference.clone_from(&self.preference);
        assert!(later == *self, "nothing follows before the next deadline: {}", difference(self, &later));
    }
}

/// The lines that differ, up to where the number of lines does.
fn difference(before: &Formation, after: &Formation) -> String {
    let [before, after] = [before, after].map(|formation| format!("{formation:#?}"));
    let pairs = before.lines().zip(after.lines()).filter(|(a, b)| a != b);
    pairs.take(12).map(|(a, b)| format!("\n{} -> {}", a.trim(), b.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::Follows, *};
    use crate::{
        api::config::Config,
        api::input::{Command, Input, Origin, Remote, Start},
        api::output::Output,
        env::Env,
        id::Node,
        id::{ConnId, Incarnation},
        violations::{Violation, expect_all_listed, expect_violations},
        wire::message::Message,
        wire::voting::Voting,
    };

    /// A node with one connection, which it has accepted.
    fn running() -> Formation {
        let config = Config::builder("test", "a", "a:1").seeds(["a:1", "b:1"]).build().unwrap();
        let mut formation = Formation::new(config, Start::new(Incarnation(1), 1), Timestamp::ZERO);
        let opened = Input::Opened { conn: ConnId(1), origin: Origin::Accepted, remote: Remote::default() };
        formation.handle_input(Timestamp::ZERO, opened).unwrap();
        formation
    }

    /// The same node, which has dialed the voter b and is linked to it.
    fn linked() -> Formation {
        let mut formation = running();
        let dial = core::iter::from_fn(|| formation.poll_output()).find_map(|output| match output {
            Output::Dial { dial, .. } => Some(dial),
            _ => None,
        });
        let opened =
            Input::Opened { conn: ConnId(2), origin: Origin::Dialed(dial.unwrap()), remote: Remote::default() };
        formation.handle_input(Timestamp::ZERO, opened).unwrap();
        let config = Config::builder("test", "b", "b:1").seeds(["a:1", "b:1"]).build().unwrap();
        let me = Node { id: config.id().clone(), incarnation: Incarnation(1) };
        let env = Env::new(config, me, Timestamp::ZERO);
        let chunk = Message::Hello(env.own_hello([7; 16], &Voting::of(&env.config))).to_frame();
        formation.handle_input(Timestamp::ZERO, Input::Received { conn: ConnId(2), chunk }).unwrap();
        assert_eq!(formation.peers.established(), 1);
        formation
    }

    fn stopped() -> Formation {
        let mut formation = running();
        formation.handle_input(Timestamp::ZERO, Input::Command(Command::Leave)).unwrap();
        assert!(formation.lifecycle.is_stopped());
        formation
    }

    const VIOLATIONS: [Violation<Formation>; 7] = [
        (running, |f| f.lifecycle.stop(), "a node that has stopped has no connection"),
        (stopped, |f| f.sink.set_timer(Timer::Leave, Timestamp::ZERO), "a node that has stopped has no timer"),
        (running, |f| f.lifecycle.leave(), "a leaving node takes no part in elections"),
        (
            running,
            |f| f.sink.set_timer(Timer::Leave, Timestamp::ZERO),
            "the leave timer is set exactly while this node leaves",
        ),
        (running, |f| f.env.voters = Default::default(), "E10: every part knows the voters of the election"),
        (
            linked,
            |f| drop(f.peers.set_voters(&Env { voters: Default::default(), ..f.env.clone() })),
            "E10: a peer is a voter iff the election has it",
        ),
        (running, |f| f.election_due = None, "nothing follows before the next deadline"),
    ];

    #[test]
    fn every_invariant_of_the_lifecycle_notices_its_violation() {
        expect_violations(&VIOLATIONS, Formation::check_invariants);
        expect_all_listed(include_str!("invariants.rs"), &VIOLATIONS);
    }

    #[test]
    fn a_part_of_a_frame_draws_no_conclusions() {
        let mut formation = running();
        let frame = Message::Ping.to_frame();
        // Conclusions would set it again.
        formation.election_due = None;
        let parts = [frame.slice(..1), frame.slice(1..4), frame.slice(4..)];
        let drawn = parts.map(|chunk| {
            assert_eq!(formation.handle(Input::Received { conn: ConnId(1), chunk }), Follows::Nothing);
            formation.election_due.is_some()
        });
        assert_eq!(drawn, [false, false, true]);
    }
}
