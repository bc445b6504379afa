//! Changing the key of a running cluster, one node after the other.

use super::*;

/// A cluster of voters at the first stage of a rolling change.
fn before_the_change(seed: u64, n: usize) -> Net {
    let mut net = Net::of_voters(seed, n, Settings::default());
    (0..n).for_each(|ix| net.set_keys(ix, Some(0)));
    net.start_all();
    net.converge(SECOND);
    net
}

/// The rolling change of PROTOCOL: every node gets the new key beside the old one, and then every node drops the old
/// one. The nodes restart one after the other. Meanwhile the others stay linked to each other, and no node is rejected.
#[test]
fn a_rolling_change_of_key_never_splits_the_cluster() {
    for_each_seed(20, |seed| {
        let n = 3 + seed as usize % 3;
        let mut net = before_the_change(seed, n);
        for step in 0..2 * n {
            let (since, restarted) = (net.now(), net.host(step % n).config.id().clone());
            net.change_next_key();
            net.converge(8 * SECOND);
            net.run_for(SECOND);
            net.expect(
                net.living().len() == n && net.converged(),
                "the cluster is not whole in the middle of the change",
            );
            let split = |event: &Event| match event {
                Event::Unlinked { node, .. } => node.id != restarted,
                Event::PeerRejected { .. } | Event::RejectedByPeer { .. } | Event::Stopped { .. } => true,
                _ => false,
            };
            let others = (0..n).filter(|ix| *ix != step % n);
            net.expect(
                others.map(|ix| net.count(ix, since, split)).sum::<usize>() == 0,
                "two other nodes lost their link, or a node was rejected",
            );
        }
        net.expect((0..n).all(|ix| net.key_stage(ix) == Some(2)), "two steps per node did not complete the change");
        // The old key does not open the cluster any more.
        let mut late = Peer::of(&net.host(0).config, "late", "late:1").holding(&formation_tests::key(0));
        let wire = net.dial(0);
        let hello = late.hello();
        net.send(wire, hello);
        net.run_for(ms(50));
        net.expect(
            net.closed(wire) == Some(CloseReason::Rejected(RejectReason::KeyMismatch)),
            "the old key still works",
        );
    });
}

/// Proves that the test above can fail: without the step with both keys, a changed node stays outside.
#[test]
fn a_change_of_key_in_one_step_splits_the_cluster() {
    let mut net = before_the_change(1, 3);
    net.set_keys(0, Some(2));
    net.crash(0, formation_tests::Crash::Process);
    net.start(0);
    let together = net.run_until(8 * SECOND, |net| net.converged());
    assert!(!together, "a key that no other node holds works");
    assert_eq!(net.status(0).phase, Phase::Joining);
}
