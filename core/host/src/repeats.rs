//! Connections that fail again and again: reported once per source and reason, and counted after that.

use std::{collections::BTreeMap, fmt, mem, net::IpAddr, time::Duration};

use formation_core::{Address, CloseReason, Event, Timestamp};

/// How often the count is logged. A failure that has not been repeated for as long is forgotten, and
/// reported again.
const PERIOD: Duration = Duration::from_secs(60);
/// How many sources and reasons are remembered. Beyond it, only the limit on all sources together holds.
const REMEMBERED: usize = 1024;

/// Where a connection that has failed comes from or leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// A peer that connects from here.
    Ip(IpAddr),
    /// The address that was dialed.
    Dialed(Address),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Dialed(address) => address.fmt(f),
        }
    }
}

/// A failure that is reported once: its source and its reason.
pub(crate) type Failure = (Source, CloseReason);

#[derive(Debug)]
struct Repeated {
    ends: Timestamp,
    count: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Repeats {
    known: BTreeMap<Failure, Repeated>,
    /// The first end of a period, or an earlier time.
    due: Timestamp,
}

impl Repeats {
    /// The failure that the event reports, if its source is known.
    pub(crate) fn of(event: &Event) -> Option<Failure> {
        match event {
            Event::ConnClosed { dialed: Some(address), reason, .. } => Some((Source::Dialed(address.clone()), *reason)),
            Event::ConnClosed { dialed: None, peer_addr: Some(addr), reason, .. } => {
                Some((Source::Ip(addr.ip()), *reason))
            }
            _ => None,
        }
    }

    /// Whether this was reported already. It is then counted.
    pub(crate) fn count(&mut self, failure: &Failure) -> bool {
        let known = self.known.get_mut(failure);
        known.map(|repeated| repeated.count += 1).is_some()
    }

    /// This was reported now.
    pub(crate) fn reported(&mut self, now: Timestamp, failure: Failure) {
        if self.known.len() < REMEMBERED {
            let ends = now + PERIOD;
            self.due = if self.known.is_empty() { ends } else { self.due.min(ends) };
            self.known.insert(failure, Repeated { ends, count: 0 });
        }
    }

    /// A peer is linked: what has failed before at its address is news when it fails again. Returns what was repeated there. Another
    /// peer may share its IP address, so failures of those that connect from there stay as they are.
    pub(crate) fn linked(&mut self, event: &Event) -> Vec<(Failure, u64)> {
        let mut counts = Vec::new();
        if let Event::Linked { address, .. } = event {
            self.known.retain(|failure, repeated| {
                let stays = match &failure.0 {
                    Source::Dialed(dialed) => dialed != address,
                    Source::Ip(_) => true,
                };
                if !stays && repeated.count > 0 {
                    counts.push((failure.clone(), repeated.count));
                }
                stays
            });
        }
        counts
    }

    /// Returns what was repeated in the periods that have ended, and how often.
    pub(crate) fn ended(&mut self, now: Timestamp) -> Vec<(Failure, u64)> {
        let mut counts = Vec::new();
        if self.known.is_empty() || now < self.due {
            return counts;
        }
        self.known.retain(|failure, repeated| {
            if repeated.ends > now {
                return true;
            }
            repeated.ends = now + PERIOD;
            let count = mem::take(&mut repeated.count);
            if count > 0 {
                counts.push((failure.clone(), count));
            }
            count > 0
        });
        self.due = self.known.values().map(|repeated| repeated.ends).min().unwrap_or_default();
        counts
    }

    /// Ends every period.
    pub(crate) fn end(&mut self) -> Vec<(Failure, u64)> {
        let known = mem::take(&mut self.known);
        known
            .into_iter()
            .filter(|(_, repeated)| repeated.count > 0)
            .map(|(of, repeated)| (of, repeated.count))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use formation_core::{ConnId, Incarnation, Node, NodeId};

    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_secs(secs)
    }

    fn failure(last: u8, reason: CloseReason) -> Failure {
        let peer_addr = Some(([10, 0, 0, last], 40_000).into());
        Repeats::of(&Event::ConnClosed { conn: ConnId(1), dialed: None, peer_addr, reason }).unwrap()
    }

    /// Whether it is reported.
    fn fails(repeats: &mut Repeats, now: Timestamp, failure: &Failure) -> bool {
        let is_news = !repeats.count(failure);
        if is_news {
            repeats.reported(now, failure.clone());
        }
        is_news
    }

    #[test]
    fn a_failure_is_reported_once_and_counted_every_minute() {
        let mut repeats = Repeats::default();
        let [first, second] = [1, 2].map(|last| failure(last, CloseReason::WrongMagic));
        let other = failure(1, CloseReason::EmptyFrame);
        assert!([&first, &second, &other].into_iter().all(|failure| fails(&mut repeats, at(0), failure)));
        for minute in 0..3 {
            assert!((0..40).all(|_| !fails(&mut repeats, at(60 * minute + 1), &first)));
            assert_eq!(repeats.ended(at(60 * minute + 59)), []);
            assert_eq!(repeats.ended(at(60 * minute + 60)), [(first.clone(), 40)]);
        }
        assert!(fails(&mut repeats, at(200), &second), "it was forgotten after a quiet minute");
    }

    fn linked(repeats: &mut Repeats, address: &Address) -> Vec<(Failure, u64)> {
        let node = Node { id: NodeId::new("b").unwrap(), incarnation: Incarnation(1) };
        let peer_addr = Some(([10, 0, 0, 1], 50_000).into());
        repeats.linked(&Event::Linked { node, address: address.clone(), conn: ConnId(2), peer_addr })
    }

    #[test]
    fn a_link_makes_failures_at_its_address_news_again() {
        let mut repeats = Repeats::default();
        let [address, other] = ["b:1", "c:1"].map(|address| Address::new(address).unwrap());
        let [dialed, other] =
            [&address, &other].map(|address| (Source::Dialed(address.clone()), CloseReason::HandshakeTimeout));
        for failure in [&dialed, &other] {
            assert_eq!([0; 3].map(|secs| fails(&mut repeats, at(secs), failure)), [true, false, false]);
        }
        assert_eq!(linked(&mut repeats, &address), [(dialed.clone(), 2)], "the count is not lost");
        assert_eq!([&dialed, &other].map(|failure| fails(&mut repeats, at(1), failure)), [true, false]);
    }

    /// Both are behind one address translator, say.
    #[test]
    fn a_link_does_not_vouch_for_others_at_its_ip_address() {
        let mut repeats = Repeats::default();
        let bad = failure(1, CloseReason::WrongMagic);
        let healthy = Address::new("b:1").unwrap();
        let reported = (0..10).filter(|secs| {
            let is_news = fails(&mut repeats, at(*secs), &bad);
            linked(&mut repeats, &healthy);
            is_news
        });
        assert_eq!(reported.count(), 1);
        assert_eq!(repeats.ended(at(60)), [(bad, 9)]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut repeats = Repeats::default();
        for number in 0..10_000_u32 {
            let failure = (Source::Ip(std::net::Ipv4Addr::from(number).into()), CloseReason::WrongMagic);
            fails(&mut repeats, at(0), &failure);
        }
        assert_eq!(repeats.known.len(), REMEMBERED);
        assert_eq!(repeats.ended(at(60)), []);
        assert!(repeats.known.is_empty());
    }

    #[test]
    fn what_was_repeated_is_not_lost_at_the_end() {
        let mut repeats = Repeats::default();
        let failure = failure(1, CloseReason::WrongMagic);
        assert_eq!([0; 3].map(|secs| fails(&mut repeats, at(secs), &failure)), [true, false, false]);
        assert_eq!(repeats.end(), [(failure, 2)]);
        assert_eq!(repeats.end(), []);
    }
}
