//! The last events of a node, with numbers: for those who come later, and for those who have lost their place.

use std::{collections::VecDeque, fmt, sync::Arc};

use formation_core::{Change, Event, Limits, Severity, Timestamp};
use serde::{Deserialize, Serialize};

/// How many of the events may be about peers that have proven nothing, so that such peers do not push out everything else.
const UNPROVEN: usize = 64;

/// How many of them may be details, of which a large cluster has many at each change of the master.
const DETAILS: usize = 64;

/// About what an event takes beside its lists: its own size, and ids and addresses that are longer than usual.
const EVENT_BYTES: usize = size_of::<Event>() + 256;

/// About what an entry of a list takes, apart from metadata.
const ENTRY_BYTES: usize = 256;

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
#[derive(Debug)]
pub(crate) struct History {
    /// How many there may be, and how many bytes they may take.
    limits: (usize, usize),
    events: VecDeque<Kept>,
    /// How many of them are of each kind.
    kept: [usize; 3],
    /// About how many bytes they take.
    bytes: usize,
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
    bytes: usize,
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
            Self::Other => usize::MAX,
        }
    }
}

impl History {
    pub(crate) fn new(limits: &Limits) -> Self {
        let limits = (limits.event_history, limits.event_history_bytes);
        Self { limits, events: VecDeque::new(), kept: [0; 3], bytes: 0, count: 0 }
    }

    pub(crate) fn push(&mut self, at: Timestamp, event: Arc<Event>, is_unproven: bool) {
        let kind = match event.severity() {
            _ if is_unproven => Kind::Unproven,
            Severity::Detail => Kind::Detail,
            Severity::Progress | Severity::Problem => Kind::Other,
        };
        let (most, most_bytes) = self.limits;
        let bytes = bytes_of(&event);
        if self.kept[kind as usize] >= kind.limit() {
            let oldest = self.events.iter().position(|kept| kept.kind == kind);
            self.remove(oldest.unwrap_or_default());
        }
        let is_full = |it: &Self| it.events.len() >= most || it.bytes.saturating_add(bytes) > most_bytes;
        while !self.events.is_empty() && is_full(self) {
            self.remove(0);
        }
        self.count += 1;
        self.kept[kind as usize] += 1;
        self.bytes += bytes;
        self.events.push_back(Kept { number: self.count, at, event, kind, bytes });
    }

    fn remove(&mut self, index: usize) {
        if let Some(gone) = self.events.remove(index) {
            self.kept[gone.kind as usize] -= 1;
            self.bytes -= gone.bytes;
        }
    }

    /// The number of the newest event. 0: there was none.
    pub(crate) fn newest(&self) -> u64 {
        self.count
    }

    /// The kept events after this number.
    pub(crate) fn after(&self, number: u64) -> Vec<PastEvent> {
        let first = self.events.partition_point(|kept| kept.number <= number);
        let past = |kept: &Kept| PastEvent { number: kept.number, at: kept.at, event: Event::clone(&kept.event) };
        self.events.range(first..).map(past).collect()
    }
}

/// About how many bytes an event takes. Only two kinds of events have lists.
fn bytes_of(event: &Event) -> usize {
    let more = match event {
        Event::ViewChanged { changes, .. } => changes.iter().map(|change| ENTRY_BYTES + metadata_of(change)).sum(),
        Event::NoMaster { why, .. } => why.unreachable.len() * ENTRY_BYTES,
        _ => 0,
    };
    EVENT_BYTES + more
}

fn metadata_of(change: &Change) -> usize {
    match change {
        Change::Upsert(member) => member.metadata.len(),
        Change::Remove { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use formation_core::{Address, Incarnation, Member, Node, NodeId, ViewId};

    use super::*;

    fn numbers(history: &History, after: u64) -> Vec<u64> {
        history.after(after).iter().map(|event| event.number).collect()
    }

    fn history() -> History {
        History::new(&Limits::new())
    }

    #[test]
    fn the_last_events_are_kept_with_their_numbers() {
        let mut history = History::new(&Limits::new().with_event_history(100));
        assert!(numbers(&history, 0).is_empty());
        for _ in 0..103 {
            history.push(Timestamp::ZERO, Event::PersistDelayed.into(), false);
        }
        assert_eq!(numbers(&history, 0), (4..=103).collect::<Vec<_>>());
        assert_eq!(numbers(&history, 101), [102, 103]);
        assert!(numbers(&history, 110).is_empty());
    }

    /// A change of a large view, whose size is that of its members.
    fn view(members: usize, metadata: usize) -> Arc<Event> {
        let member = |number: usize| {
            let node = Node { id: NodeId::new(format!("n{number}")).unwrap(), incarnation: Incarnation(1) };
            let address = Address::new("a:1").unwrap();
            Change::Upsert(Member::new(node, address).with_metadata(vec![0; metadata]))
        };
        Event::ViewChanged { view_id: ViewId::default(), changes: (0..members).map(member).collect() }.into()
    }

    #[test]
    fn large_events_push_out_more_than_one_and_never_themselves() {
        let limit = 100_000;
        let mut history = History::new(&Limits::new().with_event_history_bytes(limit));
        for _ in 0..1_000 {
            history.push(Timestamp::ZERO, Event::PersistDelayed.into(), false);
        }
        let small = history.after(0).len();
        assert_eq!((small, history.bytes <= limit), (limit / EVENT_BYTES, true));
        history.push(Timestamp::ZERO, view(20, 500), false);
        assert!(history.bytes <= limit && history.after(0).len() < small - 20, "{}", history.after(0).len());
        history.push(Timestamp::ZERO, view(200, 500), false);
        assert_eq!(numbers(&history, 0), [1_002], "the newest is kept in any case");
        history.push(Timestamp::ZERO, Event::PersistDelayed.into(), false);
        assert_eq!((numbers(&history, 0), history.bytes), (vec![1_003], EVENT_BYTES));
    }

    #[test]
    fn details_do_not_push_out_the_other_events() {
        let mut history = history();
        history.push(Timestamp::ZERO, Event::PersistFailed.into(), false);
        let node = Node { id: NodeId::new("b").unwrap(), incarnation: Incarnation(1) };
        let detail = Event::Unlinked { node, reason: None, peer_addr: None };
        assert_eq!(detail.severity(), Severity::Detail);
        for _ in 0..1_000 {
            history.push(Timestamp::ZERO, detail.clone().into(), false);
        }
        assert_eq!((history.after(0).len(), history.after(0)[0].number), (1 + DETAILS, 1));
    }

    #[test]
    fn unproven_peers_do_not_push_out_the_other_events() {
        let mut history = history();
        history.push(Timestamp::ZERO, Event::PersistFailed.into(), false);
        for _ in 0..1_000 {
            history.push(Timestamp::ZERO, Event::PersistDelayed.into(), true);
        }
        let kept = history.after(0);
        assert_eq!((kept.len(), kept[0].number), (1 + UNPROVEN, 1));
        assert_eq!((kept.last().unwrap().number, history.newest()), (1_001, 1_001));
    }
}
