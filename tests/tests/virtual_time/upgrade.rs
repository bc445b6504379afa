//! Two protocol versions side by side (H4). The second one is for tests only, and has the same messages as the first.
//! The simulator checks for every message that its receiver can decode it.

use std::time::Duration;

use formation_core::{CloseReason, Event, RejectReason, message::ProtocolRange};
use formation_tests::{Crash, Net, Peer, Rig, Settings, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);

/// Restarts one node after the other with these versions. The others stay linked.
fn upgrade(net: &mut Net, min: u16, max: u16) {
    for ix in 0..net.len() {
        let (since, restarted) = (net.now() + Duration::from_millis(1), net.host(ix).config.id().clone());
        net.crash(ix, Crash::Process);
        net.set_protocol(ix, min, max);
        net.start(ix);
        net.converge(10 * SECOND);
        let is_fault = |event: &Event| match event {
            Event::Unlinked { node, .. } => node.id != restarted,
            // Effects of the earlier run: its `Hello` may arrive after that of the next run, and its dial may be left
            // open.
            Event::PeerRejected { node, reason: RejectReason::Superseded, .. } => node.id != restarted,
            Event::ConnClosed { reason: CloseReason::HandshakeTimeout, .. } => false,
            Event::PeerRejected { .. } | Event::RejectedByPeer { .. } | Event::ConnClosed { .. } => true,
            _ => false,
        };
        let others = (0..net.len()).filter(|other| *other != ix);
        let faults: usize = others.map(|other| net.count(other, since, is_fault)).sum();
        net.expect(faults == 0, &format!("the upgrade of node {ix} affects other nodes"));
    }
}

#[test]
fn h4_a_cluster_is_upgraded_node_by_node_and_back() {
    for_each_seed(10, |seed| {
        let n = 3 + seed as usize % 3;
        let mut net = Net::of_voters(seed, n, Settings::default());
        net.start_all();
        net.converge(5 * SECOND);
        net.run_for(SECOND);
        upgrade(&mut net, 1, 2);
        upgrade(&mut net, 2, 2);
        upgrade(&mut net, 1, 2);
        upgrade(&mut net, 1, 1);
    });
}

#[test]
fn h4_a_node_without_a_common_version_is_rejected_by_name() {
    let mut net = Net::of_voters(1, 3, Settings::default());
    for ix in 0..2 {
        net.set_protocol(ix, 2, 2);
    }
    net.start_all();
    net.run_for(10 * SECOND);
    net.expect(net.agree(&[0, 1]), "the others have formed no cluster");
    let reported =
        |event: &Event| matches!(event, Event::RejectedByPeer { reason: RejectReason::NoCommonProtocol, .. });
    net.expect(net.saw(2, reported), "the node does not report NoCommonProtocol");
    net.expect(net.status(2).master.is_none(), "the node is in the cluster");
}

#[test]
fn h4_nodes_with_a_version_in_common_are_linked() {
    for (own, theirs, is_linked) in [
        ((1, 2), (2, 2), true),
        ((1, 2), (1, 1), true),
        ((2, 2), (2, 9), true),
        ((2, 2), (1, 1), false),
        ((1, 1), (2, 9), false),
    ] {
        let range = |(min, max)| ProtocolRange { min, max };
        let config = Net::builder(0, 3).protocol(range(own)).build().expect("versions that exist");
        let mut rig = Rig::new(config.clone());
        let mut peer = Peer::of(&config, "n1", "h1:1");
        peer.protocol = range(theirs);
        let conn = rig.accept();
        let hello = peer.hello();
        rig.receive(conn, hello);
        assert_eq!(rig.formation.status().links == 1, is_linked, "{own:?} and {theirs:?}");
    }
}
