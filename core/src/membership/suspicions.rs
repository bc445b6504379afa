//! How many members a master suspects at once (PROTOCOL.md, V3).
//!
//! Each suspicion costs one entry of an update to every member, and so does its end. If many members seem to be silent at once, mostly
//! something that they share is slow: a host, the network, or this master. The suspicions would then make it slower still.

use core::time::Duration;

use crate::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Suspicions {
    limit: usize,
    window: Duration,
    /// The present window, and how many members have become suspect in it.
    began: Timestamp,
    count: usize,
}

impl Suspicions {
    pub(super) fn new(limit: usize, window: Duration) -> Self {
        Self { limit, window, began: Timestamp::ZERO, count: 0 }
    }

    /// When a further member may become suspect.
    pub(super) fn next_at(&self) -> Timestamp {
        if self.count < self.limit { Timestamp::ZERO } else { self.began + self.window }
    }

    /// A member becomes suspect. It has waited until `next_at`.
    pub(super) fn add(&mut self, now: Timestamp) {
        if self.began + self.window <= now {
            (self.began, self.count) = (now, 0);
        }
        self.count += 1;
    }

    pub(super) fn check(&self) {
        assert!(self.count <= self.limit, "V3: the suspicions of a heartbeat interval are within their limit");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn v3_the_next_suspicions_wait_for_the_next_window() {
        let mut suspicions = Suspicions::new(2, MS * 10);
        let at = |ms: u32| Timestamp::ZERO + MS * ms;
        for (now, next) in [(25, 0), (26, 35), (35, 0), (44, 45), (80, 0)] {
            assert!(suspicions.next_at() <= at(now));
            suspicions.add(at(now));
            suspicions.check();
            assert_eq!(suspicions.next_at(), at(next), "after one at {now} ms");
        }
    }

    #[test]
    #[should_panic(expected = "V3: the suspicions of a heartbeat interval are within their limit")]
    fn a_suspicion_that_has_not_waited_is_noticed() {
        let mut suspicions = Suspicions::new(1, MS * 10);
        (0..2).for_each(|_| suspicions.add(Timestamp::ZERO + MS * 20));
        suspicions.check();
    }
}
