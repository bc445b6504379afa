//! Streams between the services of members (PROTOCOL.md, section 9), in the simulator.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod cuts;
mod limits;
mod refused;

use std::time::Duration;

use bytes::Bytes;
use formation_core::{Command, ConnId, Event, Node, RejectReason, StreamFailure, StreamId, StreamName};
use formation_tests::{Crash, Net, Settings, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);

fn kv() -> StreamName {
    StreamName::new("kv").unwrap()
}

fn open(stream: u64, to: Node) -> Command {
    Command::OpenStream { stream: StreamId(stream), to, name: kv() }
}

/// A cluster of voters and other nodes that take streams. Every other cluster has a key.
fn formed(seed: u64, nodes: (usize, usize)) -> Net {
    let mut net = Net::of_voters(seed, nodes.0, Settings::default());
    for ix in nodes.0..nodes.0 + nodes.1 {
        net.add(Net::config(ix, nodes.0));
    }
    for ix in 0..net.len() {
        net.set_keys(ix, seed.is_multiple_of(2).then_some(0));
    }
    net.start_all();
    net.converge(2 * SECOND);
    for ix in 0..net.len() {
        net.command(ix, Command::ServeStreams([kv()].into()));
    }
    net
}

fn node(net: &Net, ix: usize) -> Node {
    net.host(ix).formation.as_ref().unwrap().node().clone()
}

/// The stream that this node has opened, or the one that it has accepted from the peer.
fn end(net: &Net, ix: usize, stream: Option<StreamId>, peer: &Node) -> Option<ConnId> {
    let is_meant = |of: &formation_testing::sim::engine::Stream| of.stream == stream && of.peer == *peer;
    net.host(ix).streams.iter().find(|(_, of)| is_meant(of)).map(|(conn, _)| *conn)
}

/// How many events there were about links and masters.
fn changes(net: &Net) -> usize {
    let is_change = |event: &Event| !matches!(event, Event::ViewChanged { .. });
    (0..net.len()).map(|ix| net.host(ix).events.iter().filter(|(_, event)| is_change(event)).count()).sum()
}

/// Opens a stream between each two nodes, and writes on both ends of each.
#[test]
fn s1_each_member_opens_a_stream_to_each_other_one() {
    for_each_seed(6, |seed| {
        let mut net = formed(seed, (3, 2));
        // Until then, nodes close the links that they do not need any more.
        net.run_for(5 * SECOND);
        let before = changes(&net);
        let pairs: Vec<_> = (0..5).flat_map(|a| (0..5).map(move |b| (a, b))).filter(|(a, b)| a != b).collect();
        for (number, (a, b)) in pairs.iter().enumerate() {
            let to = node(&net, *b);
            net.command(*a, open(1 + number as u64, to));
        }
        for (number, (a, b)) in pairs.iter().enumerate() {
            let stream = Some(StreamId(1 + number as u64));
            let (from, to) = (node(&net, *a), node(&net, *b));
            let ends = |net: &Net| Some((end(net, *a, stream, &to)?, end(net, *b, None, &from)?));
            assert!(net.run_until(SECOND, |net| ends(net).is_some()), "seed {seed}: {a} has no stream with {b}");
            let (ours, theirs) = ends(&net).unwrap();
            net.write(*a, ours, Bytes::from(format!("from {a}")));
            net.write(*b, theirs, Bytes::from(format!("from {b}")));
            let has_read = |net: &Net, ix: usize, conn, text: String| net.host(ix).streams[&conn].read == text;
            let is_done = |net: &mut Net| {
                has_read(net, *b, theirs, format!("from {a}")) && has_read(net, *a, ours, format!("from {b}"))
            };
            assert!(net.run_until(SECOND, is_done), "seed {seed}: {a} and {b}");
        }
        net.run_for(5 * SECOND);
        assert_eq!(changes(&net), before, "seed {seed}: a stream disturbs no link and no master");
    });
}

/// The other end of each stream sees its end, and the streams count no more.
#[test]
fn a_dropped_stream_counts_no_more() {
    let mut net = formed(1, (2, 0));
    let (a, b) = (node(&net, 0), node(&net, 1));
    for stream in 1..=300 {
        net.command(0, open(stream, b.clone()));
        assert!(net.run_until(SECOND, |net| end(net, 0, Some(StreamId(stream)), &b).is_some()));
        assert!(net.run_until(SECOND, |net| end(net, 1, None, &a).is_some()));
        let (ours, theirs) = (end(&net, 0, Some(StreamId(stream)), &b).unwrap(), end(&net, 1, None, &a).unwrap());
        net.drop_stream(0, ours);
        assert!(net.run_until(SECOND, |net| net.host(1).streams[&theirs].ended));
        net.drop_stream(1, theirs);
        // Only so many may be opened within a heartbeat interval.
        net.run_for(Duration::from_millis(10));
    }
}

#[test]
fn a_stream_to_a_dead_member_fails_by_its_reason() {
    let mut net = formed(2, (3, 0));
    let dead = node(&net, 2);
    net.crash(2, Crash::Process);
    net.command(0, open(1, dead.clone()));
    let failed = |net: &Net| net.host(0).failed_streams.clone();
    assert!(net.run_until(SECOND, |net| !failed(net).is_empty()));
    assert!(matches!(failed(&net)[..], [(StreamId(1), StreamFailure::NotReached(_))]), "{:?}", failed(&net));
    // A newer run is at the address, and the view may still have the older one.
    net.start(2);
    net.command(2, Command::ServeStreams([kv()].into()));
    if net.host(0).formation.as_ref().unwrap().view().get(&dead.id).is_some_and(|member| member.node == dead) {
        net.command(0, open(2, dead));
        assert!(net.run_until(SECOND, |net| failed(net).len() == 2));
        let (_, failure) = failed(&net)[1];
        let expected = [StreamFailure::AnotherNode, StreamFailure::Rejected(RejectReason::NotAMember)];
        assert!(expected.contains(&failure), "{failure:?}");
    }
}

/// The machine of the member is gone: nothing answers.
#[test]
fn a_stream_to_a_silent_address_fails_in_time() {
    let mut net = formed(3, (3, 0));
    let dead = node(&net, 2);
    net.crash(2, Crash::Machine);
    net.command(0, open(1, dead));
    net.run_for(2 * SECOND + Duration::from_millis(100));
    assert_eq!(net.host(0).failed_streams.len(), 1, "{:?}", net.host(0).failed_streams);
}

#[test]
fn a_node_that_stops_fails_its_openings() {
    let mut net = formed(5, (3, 0));
    let to = node(&net, 2);
    net.command(0, open(1, to));
    net.command(0, Command::Leave);
    net.run_for(5 * SECOND);
    let host = net.host(0);
    assert_eq!(host.failed_streams.len() + host.streams.len(), 1, "{:?}", host.failed_streams);
}
