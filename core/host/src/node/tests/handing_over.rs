//! L8: a master hands over to a better one once the application has ended its work.

use formation_core::{Node as Peer, NodeId};

use super::*;

fn better_master() -> Event {
    let node = Peer { id: NodeId::new("b").unwrap(), incarnation: Incarnation(1) };
    Event::BetterMaster { node, address: Address::new("b:1").unwrap() }
}

#[test]
fn a_better_master_waits_for_the_guards_of_the_application() {
    let config = Config::single("test", "a", "a:1").local().lease_margin(Duration::ZERO).build().unwrap();
    let (mut node, ends) = node(config, Clock::start().now());
    let now = node.clock.now();
    node.driver.handle_own(now, Input::Tick);
    let lease = ends.handle.lease().expect("it is the master");
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

#[test]
fn a_report_of_a_better_master_counts_once() {
    let (mut node, _ends) = node(single(), Clock::start().now());
    node.driver.event(node.clock.now(), better_master());
    node.hand_over();
    assert!(node.handover.is_none(), "it is no master, so nothing waits");
    assert!(!node.driver.take_better_master());
}
