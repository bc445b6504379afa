//! Reporting that the voters that were asked for are not all voters yet, and why (PROTOCOL.md, E10).

use alloc::collections::BTreeSet;

use crate::{
    api::event::Event,
    api::explain::Waiting,
    env::{Env, Sink},
    id::Address,
    reported::Reported,
    timers::{Timer, Timers},
};

/// Since when a change of the voters waits, and what was reported about that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Patience {
    is_waiting: bool,
    reported: Reported<(BTreeSet<Address>, Waiting)>,
    /// The members that are to become voters and were dialed since the last time that the timer was due, to see whether they are at their
    /// addresses. There are not more of them than voters.
    checked: BTreeSet<Address>,
}

impl Patience {
    pub(crate) fn update(&mut self, env: &Env, sink: &mut Sink, is_waiting: bool) {
        if is_waiting == self.is_waiting {
            return;
        }
        self.is_waiting = is_waiting;
        match is_waiting {
            true => sink.set_timer(Timer::VotersWait, env.now + env.timing().down_after),
            false => {
                self.checked.clear();
                sink.clear_timer(&Timer::VotersWait);
            }
        }
    }

    /// Whether the node at this address is to be dialed now.
    pub(crate) fn may_check(&mut self, address: &Address) -> bool {
        self.checked.insert(address.clone())
    }

    /// The timer is due. Reports the reason, if it is new, or was reported long ago.
    pub(crate) fn report(&mut self, env: &Env, sink: &mut Sink, why: (BTreeSet<Address>, Waiting)) {
        sink.set_timer(Timer::VotersWait, env.now + env.timing().down_after);
        self.checked.clear();
        if self.reported.is_due(env.now, &why, PartialEq::eq) {
            let (target, waits_for) = why;
            sink.event(Event::VotersWait { target, waits_for });
        }
    }

    /// Checks what holds between two inputs.
    ///
    /// # Panics
    /// When something does not hold.
    pub(crate) fn check(&self, timers: &Timers) {
        assert_eq!(timers.is_set(&Timer::VotersWait), self.is_waiting, "E10: the timer is set iff a change waits");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::violations::{Violation, expect_all_listed, expect_violations};

    const VIOLATIONS: [Violation<Patience>; 1] =
        [(Patience::default, |patience| patience.is_waiting = true, "E10: the timer is set iff a change waits")];

    #[test]
    fn every_invariant_of_the_patience_notices_its_violation() {
        expect_violations(&VIOLATIONS, |patience| patience.check(&Timers::default()));
        expect_all_listed(include_str!("patience.rs"), &VIOLATIONS);
    }
}
