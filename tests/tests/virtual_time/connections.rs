//! The connections between two nodes (PROTOCOL, "Two connections" and "Dialing").

use std::{net::SocketAddr, time::Duration};

use formation_core::{
    CloseReason, Command, Config, Event, Input, Output, Phase, Remote, ViewId, message::Message, message::Role,
};
use formation_tests::{Crash, Cut, Net, NetSettings, Peer, Rig, Settings, Target, WireId, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Whether each pair of voters has exactly one connection.
fn paired(net: &Net, n: usize) -> bool {
    (0..n).all(|a| (a + 1..n).all(|b| net.between(a, b).len() == 1))
}

/// Many orders of events at the two ends: latency and jitter range from almost none to longer than a handshake.
#[test]
fn c1_two_nodes_that_dial_each_other_keep_one_connection() {
    for_each_seed(400, |seed| {
        let longest = ms([0, 1, 10, 100][seed as usize % 4]);
        let settings = NetSettings {
            latency: (Duration::ZERO, longest),
            jitter: (Duration::ZERO, longest),
            ..NetSettings::default()
        };
        let mut net = Net::of_voters(seed, 2, settings);
        net.start_all();
        let done = net.run_until(5 * SECOND, |net| net.converged() && paired(net, 2));
        net.expect(done, "no master, or not exactly one connection");
        let kept = net.between(0, 1);
        net.run_for(2 * SECOND);
        net.expect(net.between(0, 1) == kept, "the connection was replaced later");
        net.expect(net.converged(), "the agreement did not last");
        for ix in 0..2 {
            net.expect(net.status(ix).links == 1, "Status::links is not the number of established connections");
            let lost = |event: &Event| matches!(event, Event::MasterLost { .. });
            net.expect(!net.saw(ix, lost), "closing the duplicate cost the master");
        }
    });
}

/// The same, systematically: one node starts up to five latencies later. `every_order.rs` searches all orders for a
/// simultaneous start.
#[test]
fn c2_two_nodes_keep_one_connection_for_any_start_delay() {
    for delay in 0..60 {
        let mut net = Net::of_voters(delay, 2, NetSettings { latency: (ms(3), ms(3)), ..NetSettings::calm() });
        net.start(0);
        net.start_in(1, Duration::from_micros(250 * delay));
        let done = net.run_until(5 * SECOND, |net| net.living().len() == 2 && net.converged() && paired(net, 2));
        net.expect(done, "no master, or not exactly one connection");
        net.run_for(SECOND);
        net.expect(net.converged() && paired(&net, 2), "the agreement did not last");
    }
}

#[test]
fn c1_all_voters_keep_one_connection_to_each_other() {
    for_each_seed(30, |seed| {
        let mut net = Net::of_voters(seed, 5, Settings::default());
        net.start_all();
        let done = net.run_until(5 * SECOND, |net| net.converged() && paired(net, 5));
        net.expect(done, "no master, or not exactly one connection");
    });
}

/// A known failure of other implementations: they treat the end of a replaced connection as the end of the peer.
#[test]
fn c5_the_late_end_of_an_old_connection_keeps_the_new_link() {
    let config = Net::config(0, 2);
    let mut peer = Peer::of(&config, "n1", "h1:1");
    let mut rig = Rig::new(config);
    let old = rig.answer("h1:1");
    let hello = peer.hello();
    let joining = peer.joining();
    rig.receive(old, [hello, joining].concat());
    let new = rig.accept();
    let hello = peer.hello();
    let joining = peer.joining();
    rig.receive(new, [hello, joining].concat());
    let before = rig.formation.clone();
    rig.give(Input::Closed { conn: old });
    let unlinked = rig.events().filter(|event| matches!(event, Event::Unlinked { .. })).count();
    assert_eq!(unlinked, 0, "the peer is still linked through the new connection");
    assert_eq!(rig.formation.status().links, 1);
    assert_eq!(rig.formation.status().phase, before.status().phase);
    rig.messages(new);
    rig.advance(ms(500));
    assert!(!rig.messages(new).is_empty(), "the new link is in use");
    assert_eq!(rig.closed(new), None);
}

/// The time for leaving runs out with the input that opens the connection.
#[test]
fn a_connection_that_opens_as_the_node_stops_is_closed() {
    let mut peer = Peer::of(&Net::config(0, 2), "n0", "h0:1");
    let mut rig = Rig::new(Net::config(1, 2));
    let conn = rig.answer("h0:1");
    rig.receive(conn, [peer.hello(), peer.master(1), Peer::accepted(1)].concat());
    rig.command(Command::Leave);
    assert_eq!(rig.formation.status().phase, Phase::Leaving, "the master has to confirm the leave");
    rig.now = rig.now + 4 * SECOND;
    let late = rig.accept();
    assert_eq!(rig.formation.status().phase, Phase::Stopped);
    assert_eq!(rig.closed(late), Some(CloseReason::Left));
    assert_eq!(rig.formation.status().pending_connections, 0);
}

/// Old connections in a whole cluster end late, at any time, and no node loses its master.
#[test]
fn c5_a_replaced_connection_that_dies_costs_no_master() {
    for_each_seed(40, |seed| {
        let mut net = Net::of_voters(seed, 3, Settings::default());
        net.start_all();
        net.converge(SECOND);
        let master = net.master().unwrap();
        let other = (master + 1) % 3;
        // The links die silently and are replaced after `down_after`. The ends of the old connections arrive at any
        // time.
        net.kill_silently(master, other);
        net.run_for(4 * SECOND);
        net.converge(10 * SECOND);
        let (since, masters) = (net.now(), net.masters());
        net.run_for(10 * SECOND);
        net.expect(net.masters() == masters && net.converged(), "the agreement did not last");
        let lost = |event: &Event| matches!(event, Event::MasterLost { .. } | Event::Unlinked { .. });
        net.expect((0..3).all(|ix| net.count(ix, since, lost) == 0), "a link was lost later");
    });
}

/// No half-open link lives longer than `down_after`.
#[test]
fn d5_a_half_open_link_is_closed_and_replaced() {
    for_each_seed(40, |seed| {
        let mut net = Net::of_voters(seed, 3, Settings::default());
        net.start_all();
        net.converge(SECOND);
        net.run_for(SECOND);
        let master = net.master().unwrap();
        // Between two followers, or between the master and a follower.
        let (a, b) = if seed % 2 == 0 { ((master + 1) % 3, (master + 2) % 3) } else { (master, (master + 1) % 3) };
        let before: Vec<WireId> = net.between(a, b);
        net.kill_silently(a, b);
        let replaced = |net: &mut Net| {
            let links = net.between(a, b);
            links.len() == 1 && !before.contains(&links[0]) && net.converged()
        };
        let done = net.run_until(8 * SECOND, replaced);
        net.expect(done, "the half-open link was not replaced");
        let silent =
            [a, b].iter().any(|ix| net.host(*ix).closes.iter().any(|(_, reason)| *reason == CloseReason::Silent));
        net.expect(silent, "no connection was closed as Silent");
    });
}

/// A known failure of other implementations: they take the first message of the peer as the expected answer.
#[test]
fn h5_a_frame_before_the_handshake_ends_is_never_an_answer() {
    let config = Net::config(1, 3);
    let mut master = Peer::of(&config, "n0", "h0:1");
    let page = Peer::page(ViewId { term: formation_core::Term(1), version: 1 }, vec![master.member()]);
    let claims = [master.master(7), Peer::accepted(7), page, Peer::vote_request(7, SECOND), Message::Ping.to_frame()];
    for claim in claims {
        for dialed in [true, false] {
            let mut rig = Rig::new(config.clone());
            let conn = if dialed { rig.answer("h0:1") } else { rig.accept() };
            let before = rig.formation.status();
            rig.receive(conn, claim.clone());
            assert_eq!(rig.closed(conn), Some(CloseReason::UnexpectedMessage), "{claim:?}");
            let after = rig.formation.status();
            assert_eq!((after.phase, after.term, after.master), (Phase::Joining, before.term, None));
            assert!(rig.formation.view().is_empty());
            assert!(!rig.events().any(|event| matches!(event, Event::MasterElected { .. } | Event::Linked { .. })));
        }
    }
}

/// A newer incarnation replaces the older one, however the links of the older one end.
#[test]
fn i1_a_restarted_node_replaces_its_old_run() {
    for_each_seed(30, |seed| {
        let mut net = Net::of_voters(seed, 3, Settings::default());
        net.start_all();
        net.converge(SECOND);
        let back = net.rng.below(3);
        let old = net.node(back);
        net.crash(back, if seed % 2 == 0 { Crash::Machine } else { Crash::Process });
        net.start(back);
        net.run_until(10 * SECOND, |net| net.converged());
        net.expect(net.converged(), "the restarted node is not a member");
        net.expect(net.node(back) != old, "the restarted node has the same incarnation");
    });
}

/// Of two live incarnations, the older one stops with `Superseded`, and the newer one takes its place.
#[test]
fn i1_the_older_of_two_incarnations_stops() {
    let mut net = Net::of_voters(3, 3, Settings::default());
    net.start_all();
    net.converge(SECOND);
    let twin = net.add(Net::config(2, 3));
    net.start(twin);
    net.redirect(&Net::address(2), Some(Target::Node(twin)));
    net.run_for(5 * SECOND);
    let stopped = |event: &Event| matches!(event, Event::Stopped { reason: formation_core::StopReason::Superseded });
    net.expect(net.saw(2, stopped), "the older one did not stop");
    net.expect(net.agree(&[0, 1, twin]), "the newer one is not a member");
}

/// A silent peer costs only one connection for `handshake_timeout`.
#[test]
fn d1_a_connection_without_hello_ends_at_handshake_timeout() {
    let config = Net::config(0, 3);
    let wait = config.timing().handshake_timeout;
    let mut rig = Rig::new(config);
    let conn = rig.accept();
    rig.advance(wait - ms(1));
    assert_eq!(rig.closed(conn), None);
    rig.advance(ms(1));
    assert_eq!(rig.closed(conn), Some(CloseReason::HandshakeTimeout));
}

/// Bytes that were held back and arrive all at once after the cut do no harm.
#[test]
fn g5_a_healed_cut_brings_all_nodes_back_together() {
    for_each_seed(40, |seed| {
        let mut net = Net::of_voters(seed, 3, Settings::default());
        net.start_all();
        net.converge(SECOND);
        let (a, b) = [(0, 1), (0, 2), (1, 2)][net.rng.below(3)];
        let how = if seed % 2 == 0 { Cut::Hold } else { Cut::Lose };
        net.cut(a, b, how);
        let time = net.rng.within((ms(50), 6 * SECOND));
        net.run_for(time);
        net.heal(a, b);
        net.converge(10 * SECOND);
    });
}

/// The accepting node sends its status right after its `Hello`.
#[test]
fn h5_a_status_follows_the_answering_hello_in_one_write() {
    let config: Config = Net::config(1, 3);
    let mut rig = Rig::new(config.clone());
    let conn = rig.accept();
    assert!(rig.messages(conn).is_empty(), "the accepting node sends second");
    let hello = Peer::of(&config, "n9", "h9:1").hello();
    rig.receive(conn, hello);
    match &rig.messages(conn)[..] {
        [Message::Hello(_), Message::Status(status), ..] => assert_eq!(status.role, Role::Joining),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_counts_received_bytes_and_frames_and_sent_bytes() {
    let config = Net::config(1, 3);
    let mut peer = Peer::of(&config, "n9", "h9:1");
    let mut rig = Rig::new(config);
    let conn = rig.accept();
    let received = [peer.hello(), peer.joining(), Message::Ping.to_frame()].concat();
    for chunk in received.chunks(50) {
        rig.receive(conn, chunk.to_vec());
    }
    let counters = rig.formation.status().counters;
    assert_eq!((counters.bytes_received, counters.frames_received), (received.len() as u64, 3));
    let sent = rig.outputs.iter().map(|output| match output {
        Output::Send { bytes, .. } => bytes.len() as u64,
        _ => 0,
    });
    assert_eq!(counters.bytes_sent, sent.sum::<u64>());
}

/// The node with the higher id sends on the connection that it keeps, the lower one on the newest established
/// connection.
#[test]
fn c3_each_end_of_two_connections_sends_on_one() {
    for (own, other, on_first) in [(1, 0, true), (0, 1, false)] {
        let config = Net::config(own, 3);
        let mut peer = Peer::of(&config, &format!("n{other}"), &Net::address(other));
        let mut rig = Rig::new(config);
        // Dialed by the other node. Only its `Hello` has arrived, so the connection may not be established there yet.
        let first = rig.hello_from(&mut peer);
        let second = rig.answer(&Net::address(other));
        rig.receive(second, [peer.hello(), peer.master(1), Peer::heartbeat(1, 1)].concat());
        assert_eq!((rig.closed(first), rig.closed(second)), (None, None));
        let acked =
            |rig: &mut Rig, conn| rig.messages(conn).iter().any(|message| matches!(message, Message::HeartbeatAck(_)));
        assert_eq!((acked(&mut rig, first), acked(&mut rig, second)), (on_first, !on_first));
    }
}

#[test]
fn events_about_connections_name_the_socket_address() {
    let mut rig = Rig::new(Net::config(0, 1));
    let addr: SocketAddr = ([192, 0, 2, 7], 40_000).into();
    let mut connect = |frames: &dyn Fn(&Rig) -> Vec<u8>| {
        let before = rig.events().count();
        let frames = frames(&rig);
        let conn = rig.accept_from(Remote::at(addr));
        rig.receive(conn, frames);
        let named = rig.events().skip(before).find_map(|event| match event {
            Event::Linked { peer_addr, .. }
            | Event::ConnClosed { peer_addr, .. }
            | Event::PeerRejected { peer_addr, .. } => *peer_addr,
            _ => None,
        });
        assert_eq!(named, Some(addr));
        conn
    };
    connect(&|_| vec![0xff; 8]);
    connect(&|_| Peer::of(&Net::config(0, 2), "other", "o:1").hello().to_vec());
    let linked = connect(&|rig| Peer::of(rig.formation.config(), "p", "p:1").hello().to_vec());
    rig.give(Input::Closed { conn: linked });
    let last = rig.events().last();
    assert!(matches!(last, Some(Event::Unlinked { peer_addr: Some(found), .. }) if *found == addr), "{last:?}");
}

#[test]
fn a_rejected_peer_of_another_cluster_is_named_with_it() {
    let mut rig = Rig::new(Net::config(0, 1));
    let other = Config::builder("other", "p", "p:1").seeds([Net::address(0)]).build().unwrap();
    for (config, named) in [(other, Some("other")), (Net::config(0, 2), None)] {
        let conn = rig.accept();
        let hello = Peer::of(&config, "p", "p:1").hello();
        rig.receive(conn, hello);
        let cluster = rig.events().find_map(|event| match event {
            Event::PeerRejected { cluster, .. } => Some(cluster.as_ref().map(ToString::to_string)),
            _ => None,
        });
        assert_eq!(cluster, Some(named.map(str::to_owned)));
        rig = Rig::new(Net::config(0, 1));
    }
}
