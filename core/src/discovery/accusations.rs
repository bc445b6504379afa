//! The rejections of this node by voters, and when these are enough to stop it (PROTOCOL.md, I1 and I5).

use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::{id::Address, time::Timestamp};

/// Which voters reject this node for one reason, and since when. One voter may be wrong, or lie. A node stops only when a quorum of
/// voters has rejected it again and again, for so long that the node that has its identity must be alive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Accusations {
    /// When each voter did so first and last, without a pause of `patience` in between.
    by: BTreeMap<Address, (Timestamp, Timestamp)>,
}

impl Accusations {
    /// The voter at this address has rejected this node.
    pub(super) fn add(&mut self, voter: &Address, now: Timestamp, patience: Duration) {
        let (first, last) = self.by.entry(voter.clone()).or_insert((now, now));
        // A rejection long ago and one now do not mean that the node was rejected all the time between.
        if now.since(*last) >= patience {
            *first = now;
        }
        *last = now;
    }

    /// How many voters have rejected this node for `patience`, apart from this one.
    pub(super) fn count(&self, now: Timestamp, patience: Duration, except: Option<&Address>) -> usize {
        let counts = |(voter, (first, last)): &(&Address, &(Timestamp, Timestamp))| {
            now.since(*last) < patience && last.since(*first) >= patience && Some(*voter) != except
        };
        self.by.iter().filter(counts).count()
    }

    pub(super) fn clear(&mut self) {
        self.by.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(6);

    fn accused(times: &[(&str, u64)]) -> Accusations {
        let mut accusations = Accusations::default();
        for (voter, second) in times {
            let voter = Address::new(*voter).expect("a valid address");
            accusations.add(&voter, Timestamp::ZERO + Duration::from_secs(*second), PATIENCE);
        }
        accusations
    }

    fn convicts(times: &[(&str, u64)], voters: usize, at: u64) -> bool {
        accused(times).count(Timestamp::ZERO + Duration::from_secs(at), PATIENCE, None) >= voters
    }

    #[test]
    fn i5_only_a_quorum_that_repeats_itself_counts() {
        let both = [("a:1", 0), ("b:1", 1), ("a:1", 5), ("b:1", 5), ("a:1", 8), ("b:1", 8)];
        assert!(convicts(&both, 2, 8));
        assert!(!convicts(&both, 3, 8), "only two voters");
        assert!(!convicts(&both, 2, 14), "the last rejection is long ago");
        assert!(!convicts(&both[..4], 2, 5), "not for long enough");
        assert!(!convicts(&[("a:1", 0), ("b:1", 0), ("a:1", 7), ("b:1", 7)], 2, 7), "a pause in between");
        assert!(!convicts(&[("a:1", 0), ("a:1", 4), ("a:1", 8)], 2, 8), "one voter alone");
    }
}
