//! Reporting that this node has no master, and why.

use core::{mem::discriminant, time::Duration};

use crate::{
    api::event::Event,
    api::explain::NoMaster,
    env::{Env, Sink},
    time::Timestamp,
    timers::Timer,
};

/// How often the same reason is reported again.
const AGAIN: Duration = Duration::from_secs(60);

/// Since when this node has had no master, and what it has reported about that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Absence {
    since: Option<Timestamp>,
    reported: Option<(NoMaster, Timestamp)>,
}

impl Absence {
    /// Whether this node should have a master and has none.
    pub(crate) fn update(&mut self, env: &Env, sink: &mut Sink, lacks_master: bool) {
        match (lacks_master, self.since) {
            (true, None) => {
                self.since = Some(env.now);
                // An election takes that long where a voter is down that has just started, or a member that has just died.
                let patience = env.timing().bootstrap_wait.max(env.timing().down_after) + env.timing().lease;
                sink.set_timer(Timer::NoMaster, env.now + patience);
            }
            (false, Some(_)) => {
                *self = Self::default();
                sink.clear_timer(&Timer::NoMaster);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Reports the reason, if it is new, or was reported long ago.
    pub(crate) fn report(&mut self, env: &Env, sink: &mut Sink, why: NoMaster) {
        let Some(since) = self.since else { return };
        sink.set_timer(Timer::NoMaster, env.now + env.timing().down_after);
        let is_known = |(known, at): &(NoMaster, Timestamp)| is_same(known, &why) && env.now.since(*at) < AGAIN;
        if !self.reported.as_ref().is_some_and(is_known) {
            self.reported = Some((why.clone(), env.now));
            sink.event(Event::NoMaster { since: env.now.since(since), why });
        }
    }
}

/// Whether an operator would have to do the same.
fn is_same(a: &NoMaster, b: &NoMaster) -> bool {
    discriminant(&a.reason) == discriminant(&b.reason) && a.unreachable == b.unreachable
}
