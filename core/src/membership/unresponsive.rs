//! Nodes that become members and acknowledge nothing (PROTOCOL.md, V11).
//!
//! A path that drops large packets lets a node report that it joins, and keeps everything else from it. Without a rule, it would be
//! made a member and removed again and again, and all members would receive each of these changes.

use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::{api::config::Config, id::Node, time::Timestamp};

/// The first wait, as a multiple of `down_after`. Each further one is twice as long.
const FIRST_WAIT: u32 = 10;

/// How often the wait doubles at most.
const DOUBLINGS: u32 = 6;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Unresponsive {
    /// How often each run of a node was removed without having acknowledged anything, and until when it waits.
    removals: BTreeMap<Node, (u32, Timestamp)>,
    down_after: Duration,
    limit: usize,
}

impl Unresponsive {
    pub(super) fn new(config: &Config) -> Self {
        Self { removals: BTreeMap::new(), down_after: config.timing().down_after, limit: config.limits().members }
    }

    /// A member was removed as down. The first time counts as an accident.
    pub(super) fn removed(&mut self, node: &Node, has_acked: bool, now: Timestamp) {
        if has_acked {
            self.removals.remove(node);
            return;
        }
        if self.removals.len() >= self.limit && !self.removals.contains_key(node) {
            // The one that waits least is forgotten.
            let next = self.removals.iter().min_by_key(|(_, (_, until))| *until).map(|(node, _)| node.clone());
            if let Some(next) = next {
                self.removals.remove(&next);
            }
        }
        let (count, until) = self.removals.entry(node.clone()).or_insert((0, Timestamp::ZERO));
        if let Some(doublings) = count.checked_sub(1) {
            *until = now + self.down_after.saturating_mul(FIRST_WAIT << doublings.min(DOUBLINGS));
        }
        *count = count.saturating_add(1);
    }

    /// Whether the node has to wait before it becomes a member again.
    pub(super) fn must_wait(&self, node: &Node, now: Timestamp) -> bool {
        self.removals.get(node).is_some_and(|(_, until)| *until > now)
    }

    /// Whether the wait of a node has ended since the last call.
    pub(super) fn take_due(&mut self, now: Timestamp) -> bool {
        let mut is_due = false;
        for (_, until) in self.removals.values_mut().filter(|(_, until)| *until != Timestamp::ZERO && *until <= now) {
            *until = Timestamp::ZERO;
            is_due = true;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Incarnation, NodeId};

    fn at(seconds: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_secs(seconds)
    }

    fn node(id: &str) -> Node {
        Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(1) }
    }

    #[test]
    fn v11_the_wait_begins_with_the_second_time_and_doubles() {
        let config = Config::single("test", "m", "m:1").build().unwrap();
        let mut unresponsive = Unresponsive::new(&config);
        let wait = config.timing().down_after * FIRST_WAIT;
        let z = node("z");
        unresponsive.removed(&z, false, at(10));
        assert!(!unresponsive.must_wait(&z, at(10)), "once is an accident");
        unresponsive.removed(&z, false, at(20));
        assert!(unresponsive.must_wait(&z, at(20)) && !unresponsive.must_wait(&node("y"), at(20)));
        assert!(!unresponsive.take_due(at(19) + wait) && unresponsive.take_due(at(20) + wait));
        assert!(!unresponsive.must_wait(&z, at(20) + wait));
        unresponsive.removed(&z, false, at(100));
        assert!(unresponsive.must_wait(&z, at(100) + wait), "the next wait is twice as long");
        unresponsive.removed(&z, true, at(300));
        unresponsive.removed(&z, false, at(400));
        assert!(!unresponsive.must_wait(&z, at(400)), "it has acknowledged in between");
    }

    #[test]
    fn g7_no_more_nodes_are_remembered_than_the_limit() {
        let config = Config::single("test", "m", "m:1").build().unwrap();
        let mut unresponsive = Unresponsive { limit: 3, ..Unresponsive::new(&config) };
        for turn in 0..20 {
            unresponsive.removed(&node(&alloc::format!("z{turn}")), false, at(1));
            assert!(unresponsive.removals.len() <= 3);
        }
    }

    #[test]
    fn v11_many_other_nodes_do_not_end_a_wait() {
        let config = Config::single("test", "m", "m:1").build().unwrap();
        let mut unresponsive = Unresponsive { limit: 3, ..Unresponsive::new(&config) };
        let z = node("z");
        (0..2).for_each(|_| unresponsive.removed(&z, false, at(1)));
        for turn in 0..20 {
            unresponsive.removed(&node(&alloc::format!("y{turn}")), false, at(1));
        }
        assert!(unresponsive.must_wait(&z, at(1)));
    }
}
