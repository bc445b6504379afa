//! One deadline for each concern, in one table.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::{
    id::{ConnId, DialId},
    time::Timestamp,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum Timer {
    /// The next heartbeat of a master.
    Heartbeat,
    /// An address may be dialed again.
    Redial,
    /// This node has had no master for a while.
    NoMaster,
    /// This voter follows a master, and looks whether linked peers stay without one.
    Stranded,
    /// A voter that is preferred to this master has been stable for long enough (L8).
    BetterMaster,
    /// A change of the voters has waited for a while (E10).
    VotersWait,
    /// A master looks whether there are as many voters as it keeps (E10).
    Autopilot,
    /// A leaving node stops waiting.
    Leave,
    /// New metadata may be reported.
    Metadata,
    /// Members may be suspect, or down. One timer for all of them: each acknowledgement moves a member's deadline.
    Members,
    /// A burst of changes is over, and the members get them before the next heartbeat (V8).
    Burst,
    /// A dial has taken too long.
    Dial(DialId),
    /// The dial of a stream has taken too long.
    StreamDial(DialId),
    /// A handshake has taken too long.
    Handshake(ConnId),
    /// A link has carried nothing from this node.
    Ping(ConnId),
    /// A link has carried nothing from the peer.
    Silence(ConnId),
}

/// The subject of a timer.
enum Subject {
    /// This node as a whole.
    Node,
    Connection(ConnId),
    Dial(DialId),
    Stream,
}

impl Timer {
    fn subject(&self) -> Subject {
        match self {
            Self::Heartbeat
            | Self::Redial
            | Self::NoMaster
            | Self::Stranded
            | Self::BetterMaster
            | Self::VotersWait
            | Self::Autopilot
            | Self::Leave
            | Self::Metadata
            | Self::Members
            | Self::Burst => Subject::Node,
            Self::Dial(dial) => Subject::Dial(*dial),
            Self::StreamDial(_) => Subject::Stream,
            Self::Handshake(conn) | Self::Ping(conn) | Self::Silence(conn) => Subject::Connection(*conn),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Timers {
    at: BTreeMap<Timer, Timestamp>,
    order: BTreeSet<(Timestamp, Timer)>,
}

impl Timers {
    /// Sets the timer. A timer that is set already moves.
    pub(crate) fn set(&mut self, timer: Timer, at: Timestamp) {
        self.clear(&timer);
        self.order.insert((at, timer));
        self.at.insert(timer, at);
    }

    /// Sets the timer, unless it is set to an earlier time.
    pub(crate) fn bring_forward(&mut self, timer: Timer, at: Timestamp) {
        if self.at.get(&timer).is_none_or(|known| at < *known) {
            self.set(timer, at);
        }
    }

    pub(crate) fn clear(&mut self, timer: &Timer) {
        if let Some((timer, at)) = self.at.remove_entry(timer) {
            self.order.remove(&(at, timer));
        }
    }

    pub(crate) fn is_set(&self, timer: &Timer) -> bool {
        self.at.contains_key(timer)
    }

    /// The connections that timers are set for.
    pub(crate) fn conns(&self) -> impl Iterator<Item = ConnId> {
        self.at.keys().filter_map(|timer| match timer.subject() {
            Subject::Connection(conn) => Some(conn),
            Subject::Node | Subject::Dial(_) | Subject::Stream => None,
        })
    }

    /// The dials that timers are set for.
    pub(crate) fn dials(&self) -> impl Iterator<Item = DialId> {
        self.at.keys().filter_map(|timer| match timer.subject() {
            Subject::Dial(dial) => Some(dial),
            Subject::Node | Subject::Connection(_) | Subject::Stream => None,
        })
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes one timer that is due.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<Timer> {
        if self.next_deadline()? > now {
            return None;
        }
        let (_, timer) = self.order.pop_first()?;
        self.at.remove(&timer);
        Some(timer)
    }

    /// Checks what holds between two inputs.
    ///
    /// # Panics
    /// When something does not hold.
    pub(crate) fn check(&self) {
        let is_in_order = |(timer, at): (&Timer, &Timestamp)| self.order.contains(&(*at, *timer));
        assert!(self.at.iter().all(is_in_order), "each timer has its place in the order");
        assert_eq!(self.at.len(), self.order.len(), "each place in the order is that of a timer");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::violations::{Violation, expect_all_listed, expect_violations};

    fn one_timer() -> Timers {
        let mut timers = Timers::default();
        timers.set(Timer::Leave, Timestamp::ZERO);
        timers
    }

    const VIOLATIONS: [Violation<Timers>; 2] = [
        (one_timer, |timers| timers.order.clear(), "each timer has its place in the order"),
        (one_timer, |timers| timers.at.clear(), "each place in the order is that of a timer"),
    ];

    #[test]
    fn every_invariant_of_the_timers_notices_its_violation() {
        expect_violations(&VIOLATIONS, Timers::check);
        expect_all_listed(include_str!("timers.rs"), &VIOLATIONS);
    }

    #[test]
    fn timers_fire_in_order_and_once() {
        let at = Timestamp::from_micros;
        let mut timers = Timers::default();
        timers.set(Timer::Redial, at(5));
        timers.set(Timer::Heartbeat, at(9));
        timers.set(Timer::Redial, at(7));
        timers.set(Timer::Leave, at(1));
        timers.clear(&Timer::Leave);
        timers.bring_forward(Timer::Heartbeat, at(12));
        timers.bring_forward(Timer::Redial, at(6));
        timers.bring_forward(Timer::Redial, at(7));
        assert_eq!(timers.next_deadline(), Some(at(6)));
        assert_eq!(timers.pop_due(at(5)), None);
        assert_eq!(timers.pop_due(at(9)), Some(Timer::Redial));
        assert_eq!(timers.pop_due(at(9)), Some(Timer::Heartbeat));
        assert_eq!(timers, Timers::default());
    }
}
