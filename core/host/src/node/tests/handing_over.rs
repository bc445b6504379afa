//! A node that leaves, and L8: a master hands over to a better one once the application has ended its work.

use formation_core::{Node as Peer, NodeId};

use super::*;
use crate::mastership::Lease;

fn better_master() -> Event {
    let node = Peer { id: NodeId::new("b").unwrap(), incarnation: Incarnation(1) };
    Event::BetterMaster { node, address: Address::new("b:1").unwrap() }
}

const MARGIN: Duration = Duration::from_millis(100);

/// The only voter of a cluster, which is the master from this time on.
fn master(timing: Timing, margin: Duration) -> (TestNode, Ends, Lease, Timestamp) {
    let config = Config::single("test", "a", "a:1").timing(timing).lease_margin(margin).build().unwrap();
    let (mut node, ends) = node(config, Clock::start().now());
    let now = node.clock.now();
    node.driver.handle_own(now, Input::Tick);
    let lease = ends.handle.lease().expect("it is the master");
    (node, ends, lease, now)
}

#[test]
fn a_better_master_waits_for_the_guards_of_the_application() {
    let (mut node, ends, lease, now) = master(Timing::local(), Duration::ZERO);
    let guard = lease.guard(Duration::ZERO).unwrap();
    node.driver.event(now, better_master());
    node.hand_over();
    assert!(!lease.is_valid(), "the application begins nothing new");
    assert_eq!(ends.handle.status().phase, Phase::Master, "a step is not cut short");
    drop(guard);
    node.hand_over();
    assert_ne!(ends.handle.status().phase, Phase::Master);
    assert!(node.handover.is_none());
}

/// The poll that has dropped the guard may still have sent something.
#[test]
fn a_handover_waits_for_a_margin_behind_the_last_guard() {
    let (node, _ends, lease, start) = master(Timing::wan(), MARGIN);
    let guard = lease.guard(Duration::ZERO).unwrap();
    let shared = node.driver.shared();
    let mut handover = Handover::begin(&shared, start);
    let mut is_ready = |margins: u32| handover.is_ready(&shared, start + MARGIN * margins);
    assert!(!is_ready(2), "a step is not cut short");
    assert!(shared.lock().may_work(lease.term(), start));
    drop(guard);
    assert!(!shared.lock().may_work(lease.term(), start));
    assert!(!is_ready(3));
    assert!(!is_ready(3));
    assert!(is_ready(4));
}

/// The lease is renewed meanwhile. The handover keeps to the end that it had.
#[test]
fn work_with_a_guard_ends_a_margin_before_the_handover() {
    let (mut node, ends, lease, start) = master(Timing::wan(), MARGIN);
    let _guard = lease.guard(Duration::ZERO).unwrap();
    let shared = node.driver.shared();
    let until = ends.handle.snapshot().leadership.expect("it is the master").valid_until;
    let mut handover = Handover::begin(&shared, start);
    let later = until + Timing::wan().lease / 2;
    node.driver.handle_own(until, Input::Tick);
    assert!(shared.lock().leadership.is_some_and(|leadership| leadership.valid_until > later), "it is renewed");
    let before = Timestamp::from_micros(until.as_micros() - 100_000);
    let term = lease.term();
    assert!(shared.lock().may_work(term, Timestamp::from_micros(before.as_micros() - 1)));
    assert!(!shared.lock().may_work(term, before));
    assert!(handover.is_ready(&shared, until));
}

#[test]
fn a_report_of_a_better_master_counts_once() {
    let (mut node, _ends) = node(single(), Clock::start().now());
    node.driver.event(node.clock.now(), better_master());
    node.hand_over();
    assert!(node.handover.is_none(), "it is no master, so nothing waits");
    assert!(!node.driver.take_better_master());
}

/// A peer that sends faster than the node reads can cause this at any moment.
#[test]
fn a_node_whose_peer_floods_it_can_leave() {
    let leaves = async {
        let (mut node, ends) = node(single(), Clock::start().now());
        let (stream, mut peer) = pipes(64 * 1024);
        node.driver.opened(node.clock.now(), Opening::ready(stream), Origin::Accepted, None);
        // More than one read takes, so the reader waits until the driver has handled the first chunk.
        peer.write_all(&[0; 64 * 1024]).await.unwrap();
        while ends.reports.is_empty() {
            yield_now().await;
        }
        leave(&ends.handle);
        node.run().await;
    };
    smol::block_on(future::or(leaves, too_long("the driver waits for a reader that waits for the driver")));
}
