//! A limit on reports that an unauthenticated peer can cause.

use std::{collections::BTreeMap, fmt, time::Duration};

use formation_core::{Address, CloseReason, Event, RejectReason, Timestamp};

/// How many reports of one kind are let through in one period.
const AT_ONCE: u64 = 10;
const PERIOD: Duration = Duration::from_secs(10);

/// A kind of report that peers can cause without having proven anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A connection was closed before it was established: one that was accepted, or one to an address that only a peer has named.
    Closed(CloseReason),
    /// A peer was rejected.
    Rejected(RejectReason),
    /// The node at an address that only a peer has named has rejected this one.
    RejectedBy(RejectReason),
    /// An address that only a peer has named leads to this node itself.
    SelfDial,
    /// No connection could be accepted.
    AcceptFailed,
    /// The transport has panicked while it served a peer.
    TransportPanicked,
}

impl Kind {
    /// `None` if the event is about a peer that this node has a link to or has dialed by itself, or about this node. `is_configured`:
    /// whether an address is a seed or a contact. This node dials any other address only because a peer has named it.
    pub(crate) fn of(event: &Event, is_configured: impl Fn(&Address) -> bool) -> Option<Self> {
        match event {
            Event::ConnClosed { dialed, reason, .. } if !dialed.as_ref().is_some_and(&is_configured) => {
                Some(Self::Closed(*reason))
            }
            Event::PeerRejected { reason, .. } => Some(Self::Rejected(*reason)),
            Event::RejectedByPeer { address, reason, .. } if !is_configured(address) => Some(Self::RejectedBy(*reason)),
            Event::SelfDial { address, .. } if !is_configured(address) => Some(Self::SelfDial),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(reason) => write!(f, "connection closed before it was established: {reason}"),
            Self::Rejected(reason) => write!(f, "this node rejected a peer: {reason}"),
            Self::RejectedBy(reason) => write!(f, "a peer rejected this node: {reason}"),
            Self::SelfDial => f.write_str("an address leads to this node itself"),
            Self::AcceptFailed => f.write_str("cannot accept connections"),
            Self::TransportPanicked => f.write_str("the transport panicked"),
        }
    }
}

/// The reports of one kind in one period.
#[derive(Debug)]
struct Window {
    ends: Timestamp,
    reports: u64,
}

impl Window {
    fn suppressed(&self) -> Option<u64> {
        self.reports.checked_sub(AT_ONCE).filter(|count| *count > 0)
    }
}

/// Lets a few reports of each kind through, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Limiter(BTreeMap<Kind, Window>);

impl Limiter {
    /// Whether to report this. The first report of a kind begins a period.
    pub(crate) fn admits(&mut self, now: Timestamp, kind: Kind) -> bool {
        let window = self.0.entry(kind).or_insert(Window { ends: now + PERIOD, reports: 0 });
        window.reports += 1;
        window.reports <= AT_ONCE
    }

    /// Forgets the periods that have ended, and returns how many reports of each kind were suppressed in them.
    pub(crate) fn ended(&mut self, now: Timestamp) -> Vec<(Kind, u64)> {
        let mut counts = Vec::new();
        self.0.retain(|kind, window| {
            let has_ended = window.ends <= now;
            counts.extend(window.suppressed().filter(|_| has_ended).map(|count| (*kind, count)));
            !has_ended
        });
        counts
    }

    /// Ends every period.
    pub(crate) fn end(&mut self) -> Vec<(Kind, u64)> {
        let windows = std::mem::take(&mut self.0);
        windows.into_iter().filter_map(|(kind, window)| Some((kind, window.suppressed()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use formation_core::ConnId;

    const MAGIC: Kind = Kind::Closed(CloseReason::WrongMagic);
    const FULL: Kind = Kind::Closed(CloseReason::TooManyPending);

    fn at(secs: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn a_few_reports_of_each_kind_pass_and_the_others_are_counted() {
        let mut limiter = Limiter::default();
        let passed = (0..1_000).filter(|_| limiter.admits(at(0), MAGIC)).count();
        assert_eq!(passed as u64, AT_ONCE);
        assert!(limiter.admits(at(9), FULL), "another kind");
        assert!(!limiter.admits(at(9), MAGIC));
        assert_eq!(limiter.ended(at(9)), []);
        assert_eq!(limiter.ended(at(10)), [(MAGIC, 991)]);
        assert!(limiter.admits(at(10), MAGIC), "a new period");
        assert_eq!(limiter.ended(at(60)), [], "nothing was suppressed");
    }

    #[test]
    fn a_dial_for_a_claim_is_limited_as_strangers_are() {
        let address = Address::new("z:1").unwrap();
        let reason = CloseReason::HandshakeTimeout;
        let rejected = RejectReason::WrongCluster;
        let cases = [
            (
                Event::ConnClosed { conn: ConnId(1), dialed: Some(address.clone()), peer_addr: None, reason },
                Kind::Closed(reason),
            ),
            (
                Event::RejectedByPeer { address: address.clone(), reason: rejected, holder: None, peer_addr: None },
                Kind::RejectedBy(rejected),
            ),
            (Event::SelfDial { address: address.clone(), own: address }, Kind::SelfDial),
        ];
        for (event, kind) in cases {
            let of = |is_configured| Kind::of(&event, |_| is_configured);
            assert_eq!([true, false].map(of), [None, Some(kind)], "{event:?}");
        }
        let accepted = Event::ConnClosed { conn: ConnId(1), dialed: None, peer_addr: None, reason };
        assert_eq!(Kind::of(&accepted, |_| true), Some(Kind::Closed(reason)));
    }

    #[test]
    fn what_was_suppressed_is_not_lost_at_the_end() {
        let mut limiter = Limiter::default();
        (0..12).for_each(|_| {
            limiter.admits(at(0), MAGIC);
        });
        assert_eq!(limiter.end(), [(MAGIC, 2)]);
        assert_eq!(limiter.end(), []);
    }
}
