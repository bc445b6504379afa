//! The last events of a node, with numbers: for those who come later, and for those who have lost their place.

use std::{collections::VecDeque, fmt, sync::Arc};

use formation_core::{Event, Severity, Timestamp};
use serde::{Deserialize, Serialize};

/// How many events of the past a node keeps for [`ClusterHandle::past_events`](crate::ClusterHandle::past_events). After that the oldest
/// goes for each new one.
pub const EVENT_HISTORY: usize = 256;

/// How many of them may be about peers that have proven nothing, so that such peers do not push out everything else.
const UNPROVEN: usize = 64;

/// How many of them may be details, of which a large cluster has many at each change of the master.
const DETAILS: usize = 64;

/// An event of the past. [`ClusterHandle::past_events`](crate::ClusterHandle::past_events) returns it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PastEvent {
    /// Its number among the events of this run of the node, from 1.
    pub number: u64,
    /// When it was reported, on the [clock of the node](crate::ClusterHandle::now).
    pub at: Timestamp,
    /// What has happened.
    pub event: Event,
}

/// `12 at 3.5s: can store its votes again`
impl fmt::Display for PastEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.number, self.at, self.event)
    }
}

/// The last events, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    events: VecDeque<Kept>,
    /// How many of them are of each kind.
    kept: [usize; 3],
    /// How many events there have been.
    count: u64,
}

/// An event, which the subscribers share.
#[derive(Debug)]
struct Kept {
    number: u64,
    at: Timestamp,
    event: Arc<Event>,
    kind: Kind,
}

/// A kind of events that has a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unproven,
    Detail,
    Other,
}

impl Kind {
    fn limit(self) -> usize {
        match self {
            Self::Unproven => UNPROVEN,
            Self::Detail => DETAILS,
            Self::Other => EVENT_HISTORY,
        }
    }
}

impl History {
    pub(crate) fn push(&mut self, at: Timestamp, event: Arc<Event>, is_unproven: bool) {
        let kind = match event.severity() {
            _ if is_unproven => Kind::Unproven,
            Severity::Detail => Kind::Detail,
            Severity::Progress | Severity::Problem => Kind::Other,
        };
        let gone = if self.kept[kind as usize] >= kind.limit() {
            let oldest = self.events.iter().position(|kept| kept.kind == kind);
            oldest.and_then(|oldest| self.events.remove(oldest))
        } else if self.events.len() >= EVENT_HISTORY {
            self.events.pop_front()
        } else {
            None
        };
        if let Some(gone) = gone {
            self.kept[gone.kind as usize] -= 1;
        }
        self.count += 1;
        self.kept[kind as usize] += 1;
        self.events.push_back(Kept { number: self.count, at, event, kind });
    }

    /// The kept events after this number.
    pub(crate) fn after(&self, number: u64) -> Vec<PastEvent> {
        let first = self.events.partition_point(|kept| kept.number <= number);
        let past = |kept: &Kept| PastEvent { number: kept.number, at: kept.at, event: Event::clone(&kept.event) };
        self.events.range(first..).map(past).collect()
    }
}

#[cfg(test)]
mod tests {
    use formation_core::{Incarnation, Node, NodeId};

    use super::*;

    fn numbers(history: &History, after: u64) -> Vec<u64> {
        history.after(after).iter().map(|event| event.number).collect()
    }

    #[test]
    fn the_last_events_are_kept_with_their_numbers() {
        let mut history = History::default();
        assert!(numbers(&history, 0).is_empty());
        for _ in 0..EVENT_HISTORY + 3 {
            history.push(Timestamp::ZERO, Event::PersistDelayed.into(), false);
        }
        let last = EVENT_HISTORY as u64 + 3;
        assert_eq!(numbers(&history, 0), (4..=last).collect::<Vec<_>>());
        assert_eq!(numbers(&history, last - 2), [last - 1, last]);
        assert!(numbers(&history, last + 7).is_empty());
    }

    #[test]
    fn details_do_not_push_out_the_other_events() {
        let mut history = History::default();
        history.push(Timestamp::ZERO, Event::PersistFailed.into(), false);
        let node = Node { id: NodeId::new("b").unwrap(), incarnation: Incarnation(1) };
        let detail = Event::Unlinked { node, reason: None, peer_addr: None };
        assert_eq!(detail.severity(), Severity::Detail);
        for _ in 0..10 * EVENT_HISTORY {
            history.push(Timestamp::ZERO, detail.clone().into(), false);
        }
        assert_eq!((history.after(0).len(), history.after(0)[0].number), (1 + DETAILS, 1));
    }

    #[test]
    fn unproven_peers_do_not_push_out_the_other_events() {
        let mut history = History::default();
        history.push(Timestamp::ZERO, Event::PersistFailed.into(), false);
        for _ in 0..10 * EVENT_HISTORY {
            history.push(Timestamp::ZERO, Event::PersistDelayed.into(), true);
        }
        let kept = history.after(0);
        assert_eq!((kept.len(), kept[0].number), (1 + UNPROVEN, 1));
        assert_eq!(kept.last().unwrap().number, 1 + 10 * EVENT_HISTORY as u64);
    }
}
