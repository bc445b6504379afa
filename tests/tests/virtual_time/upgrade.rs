//! Two protocol versions side by side. The second is for tests only: it has two messages more, which are said in place of the
//! first one's `Ping` and `Heartbeat`. The latter goes to many, and is encoded once for each version. That nobody is told what it cannot read, the simulator checks with every word.

use std::time::Duration;

use formation_core::{
    CloseReason, Config, Event, RejectReason, Term,
    message::{Heartbeat, Message, ProtocolRange},
};
use formation_tests::{Crash, Net, Peer, Rig, Settings, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);
const NEXT: &str = "word of the next protocol";
const NEXT_TO_MANY: &str = "word of the next protocol to many";

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
            // What a former run leaves behind: a first word that comes behind that of the next one, and a dial that nobody goes on with.
            Event::PeerRejected { node, reason: RejectReason::Superseded, .. } => node.id != restarted,
            Event::ConnClosed { reason: CloseReason::HandshakeTimeout, .. } => false,
            Event::PeerRejected { .. } | Event::RejectedByPeer { .. } | Event::ConnClosed { .. } => true,
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
        net.expect(net.tally.of(NEXT) + net.tally.of(NEXT_TO_MANY) == 0, "somebody speaks a version that nobody does");
        upgrade(&mut net, 1, 2);
        let before = [NEXT, NEXT_TO_MANY].map(|word| net.tally.of(word));
        net.run_for(SECOND);
        let after = [NEXT, NEXT_TO_MANY].map(|word| net.tally.of(word));
        net.expect(after[0] > before[0] && after[1] > before[1], "all speak the next version, and nobody does");
        upgrade(&mut net, 2, 2);
        upgrade(&mut net, 1, 2);
        upgrade(&mut net, 1, 1);
        let before = [NEXT, NEXT_TO_MANY].map(|word| net.tally.of(word));
        net.run_for(SECOND);
        let after = [NEXT, NEXT_TO_MANY].map(|word| net.tally.of(word));
        net.expect(after == before, "somebody still speaks the next version");
    });
}

/// Each has the words of its own version, in whatever order they joined and whoever is told first.
#[test]
fn what_a_master_says_to_many_is_said_to_each_in_the_version_of_its_link() {
    for newest in [1, 2] {
        let config = Config::single("test", "m", "m:1").protocol(ProtocolRange { min: 1, max: newest });
        let config = config.build().expect("versions that there are");
        let mut rig = Rig::new(config.clone());
        let speakers = [1, 2, 2, 1, 2].into_iter().enumerate().map(|(ix, max)| {
            let mut peer = Peer::of(&config, &format!("p{ix}"), &format!("p{ix}:1"));
            peer.protocol = ProtocolRange { min: 1, max };
            (rig.joined_by(&mut peer), max.min(newest))
        });
        let links: Vec<_> = speakers.collect();
        for _ in 0..3 {
            links.iter().for_each(|(conn, _)| drop(rig.messages(*conn)));
            rig.advance(config.timing().heartbeat_interval);
            let mut said = Vec::new();
            for (conn, version) in &links {
                let beats = rig.messages(*conn).into_iter().filter_map(|message| match message {
                    Message::Heartbeat(heartbeat) => Some((1, heartbeat)),
                    Message::Beat { version, heartbeat } => Some((version, heartbeat)),
                    _ => None,
                });
                said.extend(beats.map(|(worded, heartbeat)| (*version, worded, heartbeat)));
            }
            assert_eq!(said.len(), links.len());
            assert!(said.iter().all(|(version, worded, _)| version == worded), "{said:?}");
            assert!(said.iter().all(|(.., heartbeat)| *heartbeat == said[0].2), "and it is the same: {said:?}");
        }
    }
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
    let told = |event: &Event| matches!(event, Event::RejectedByPeer { reason: RejectReason::NoCommonProtocol, .. });
    net.expect(net.saw(2, told), "it is not told why");
    net.expect(net.status(2).master.is_none(), "it is inside");
}

#[test]
fn a_word_of_a_version_that_was_not_agreed_on_is_no_message() {
    for (max, many) in [(1, false), (1, true), (2, false), (2, true)] {
        let protocol = ProtocolRange { min: 1, max };
        let config = Net::builder(0, 3).protocol(protocol).build().expect("versions that there are");
        let mut rig = Rig::new(config.clone());
        // It speaks the first version only.
        let mut peer = Peer::of(&config, "n1", "h1:1");
        let conn = rig.accept();
        let hello = peer.hello();
        rig.receive(conn, hello);
        rig.receive(conn, Message::Ping.to_frame());
        assert_eq!(rig.closed(conn), None);
        let heartbeat = Heartbeat { term: Term(1), number: 1, lease: SECOND };
        let word =
            [Message::Probe { number: 1 }, Message::Beat { version: 2, heartbeat }][usize::from(many)].to_frame();
        rig.receive(conn, word);
        assert_eq!(rig.closed(conn), Some(CloseReason::Malformed));
    }
}
