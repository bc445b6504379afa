//! Two protocol versions side by side. The second is for tests only: it has one message more, which is said in place of the
//! first one's `Ping`. That nobody is told what it cannot read, the simulator checks with every word.

use std::time::Duration;

use formation_core::{
    CloseReason, Event, RejectReason,
    message::{Message, ProtocolRange},
};
use formation_tests::{Bench, Crash, Net, Peer, Settings, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);
const NEXT: &str = "word of the next protocol";

/// One node after the other is started again with these versions; the others stay together.
fn upgrade(net: &mut Net, min: u16, max: u16) {
    for ix in 0..net.len() {
        let (since, restarted) = (net.now() + Duration::from_millis(1), net.host(ix).config.id().clone());
        net.crash(ix, Crash::Process);
        net.set_protocol(ix, min, max);
        net.start(ix);
        net.converge(10 * SECOND);
        let parted = |event: &Event| match event {
            Event::Unlinked { node, .. } => node.id != restarted,
            Event::Refused { .. } | Event::Rejected { .. } | Event::ConnClosed { .. } => true,
            _ => false,
        };
        let others = (0..net.len()).filter(|other| *other != ix);
        let parted: usize = others.map(|other| net.count(other, since, parted)).sum();
        net.expect(parted == 0, &format!("the upgrade of node {ix} parts others"));
    }
}

#[test]
fn a_cluster_upgraded_node_by_node_keeps_working_and_so_it_does_on_the_way_back() {
    for_each_seed(10, |seed| {
        let n = 3 + seed as usize % 3;
        let mut net = Net::of_voters(seed, n, Settings::default());
        net.start_all();
        net.converge(5 * SECOND);
        net.run_for(SECOND);
        net.expect(net.tally.of(NEXT) == 0, "somebody speaks a version that nobody does");
        upgrade(&mut net, 1, 2);
        let before = net.tally.of(NEXT);
        net.run_for(SECOND);
        net.expect(net.tally.of(NEXT) > before, "all speak the next version, and nobody does");
        upgrade(&mut net, 2, 2);
        upgrade(&mut net, 1, 2);
        upgrade(&mut net, 1, 1);
        let before = net.tally.of(NEXT);
        net.run_for(SECOND);
        net.expect(net.tally.of(NEXT) == before, "somebody still speaks the next version");
    });
}

#[test]
fn a_node_left_behind_by_two_versions_is_refused_by_name_and_stays_outside() {
    let mut net = Net::of_voters(1, 3, Settings::default());
    for ix in 0..2 {
        net.set_protocol(ix, 2, 2);
    }
    net.start_all();
    net.run_for(10 * SECOND);
    net.expect(net.agree(&[0, 1]), "the others are no cluster");
    let told = |event: &Event| matches!(event, Event::Rejected { reason: RejectReason::NoCommonProtocol, .. });
    net.expect(net.saw(2, told), "it is not told why");
    net.expect(net.status(2).master.is_none(), "it is inside");
}

#[test]
fn a_word_of_a_version_that_was_not_agreed_on_is_no_message() {
    for max in [1, 2] {
        let protocol = ProtocolRange { min: 1, max };
        let config = Net::builder(0, 3).protocol(protocol).build().expect("versions that there are");
        let mut bench = Bench::new(config.clone());
        // It speaks the first version only.
        let mut peer = Peer::of(&config, "n1", "h1:1");
        let conn = bench.accept();
        let hello = peer.hello();
        bench.receive(conn, hello);
        bench.receive(conn, Message::Ping.to_frame());
        assert_eq!(bench.closed(conn), None);
        bench.receive(conn, Message::Probe { number: 1 }.to_frame());
        assert_eq!(bench.closed(conn), Some(CloseReason::Malformed));
    }
}
