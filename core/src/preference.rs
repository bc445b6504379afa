//! Rule L8: reporting that a linked voter with a higher priority could be the master instead of this one.

use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::{
    api::event::Event,
    election::Election,
    env::{Env, Sink, never},
    id::Node,
    membership::Membership,
    time::Timestamp,
    timers::{Timer, Timers},
};

/// For so many times `down_after` a voter has to be a sound member before it is reported.
const STABLE: u32 = 10;
/// The shortest wait between two reports, in times of `down_after`.
const AGAIN: u32 = 100;
/// The wait doubles at most so often.
const DOUBLINGS: u32 = 6;

/// Which voters could take the mastership over from this master, and what has become of the last report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Preference {
    /// The preferred voters that are sound members of this master, and since when. There are not more of them than voters.
    sound: BTreeMap<Node, Timestamp>,
    /// When the next report is due. The timer is set exactly then.
    due: Option<Timestamp>,
    /// How many reports there were since the last one that has led to a lasting mastership.
    reports: u32,
    /// No report before this time.
    not_before: Timestamp,
    /// The voter that was reported last, and since when this node has followed it. `None` once its mastership has lasted.
    reported: Option<(Node, Option<Timestamp>)>,
}

impl Preference {
    pub(crate) fn update(
        &mut self,
        env: &Env,
        sink: &mut Sink,
        (election, membership): (&Election, &Membership),
        is_running: bool,
    ) {
        self.pass_time(env, election);
        let mut better = election.better_masters();
        better.retain(|_| is_running);
        let is_sound = |node: &Node| {
            better.iter().any(|voter| voter.node == node && voter.follows) && membership.is_sound_member(node)
        };
        self.sound.retain(|node, _| is_sound(node));
        for voter in better.iter().filter(|voter| is_sound(voter.node)) {
            self.sound.entry(voter.node.clone()).or_insert(env.now);
        }
        // The first one of the order of turns would be the next master, sound or not.
        let first = better.first().and_then(|first| self.sound.get(first.node));
        let due = first.map(|since| (*since + STABLE * env.timing().down_after).max(self.not_before));
        if due != self.due {
            self.due = due;
            match due {
                Some(at) => sink.set_timer(Timer::BetterMaster, at),
                None => sink.clear_timer(&Timer::BetterMaster),
            }
        }
    }

    /// The mastership of the voter that was reported last has lasted once it is as long as the wait for the next report.
    pub(crate) fn pass_time(&mut self, env: &Env, election: &Election) {
        let Some((node, since)) = &mut self.reported else { return };
        if election.master().is_none_or(|(master, _)| master != node) {
            *since = None;
        } else if env.now.since(*since.get_or_insert(env.now)) >= Self::wait(env, self.reports) {
            (self.reports, self.reported) = (0, None);
        }
    }

    /// The timer is due.
    pub(crate) fn report(&mut self, env: &Env, sink: &mut Sink, election: &Election) {
        self.due = None;
        let better = election.better_masters();
        let Some(first) = better.first() else { return never!("the timer is set only while there is a better master") };
        self.reports = self.reports.saturating_add(1);
        self.not_before = env.now + Self::wait(env, self.reports);
        self.reported = Some((first.node.clone(), None));
        sink.event(Event::BetterMaster { node: first.node.clone(), address: first.address.clone() });
    }

    /// How long after a report there is none, if it was the last of so many.
    fn wait(env: &Env, reports: u32) -> Duration {
        let doublings = reports.saturating_sub(1).min(DOUBLINGS);
        env.timing().down_after.saturating_mul(AGAIN << doublings)
    }

    /// Checks what holds between two inputs.
    ///
    /// # Panics
    /// When something does not hold.
    pub(crate) fn check(&self, election: &Election, timers: &Timers) {
        assert_eq!(timers.is_set(&Timer::BetterMaster), self.due.is_some(), "L8: the timer is set iff a report is due");
        let is_better = |node: &Node| election.better_masters().iter().any(|voter| voter.node == node);
        assert!(self.sound.keys().all(is_better), "L8: only preferred voters are watched");
        assert!(self.due.is_none() || !self.sound.is_empty(), "L8: only a sound member is reported");
    }
}
