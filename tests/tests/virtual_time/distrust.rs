//! Connections that cannot be secured: PROTOCOL, "Below this protocol", on one node whose host says so.

use std::time::Duration;

use formation_core::{Address, CloseReason, ConnId, Distrust, Event, Flaw, Input, Misuse, Output, Timestamp};
use formation_tests::{Bench, Net, Peer};

const EXPIRED: Distrust = Distrust { by_peer: false, flaw: Flaw::Expired };

fn distrusted(bench: &mut Bench, conn: ConnId) {
    bench.give(Input::Distrusted { conn, distrust: EXPIRED });
}

/// What is said of the connection's end, and that the host is not told to close what has ended.
fn told(bench: &Bench, conn: ConnId) -> Vec<&Event> {
    let closes = |output: &Output| matches!(output, Output::Close { conn: closed, .. } if *closed == conn);
    assert!(!bench.outputs.iter().any(closes), "the host has closed it");
    bench.events().filter(|event| matches!(event, Event::ConnClosed { .. } | Event::Unlinked { .. })).collect()
}

#[test]
fn a_dialed_connection_that_cannot_be_secured_is_told_with_its_address() {
    let mut bench = Bench::new(Net::config(0, 2));
    let conn = bench.answer("h1:1");
    distrusted(&mut bench, conn);
    let dialed = Some(Address::new("h1:1").unwrap());
    assert_eq!(told(&bench, conn), [&Event::ConnClosed { conn, dialed, reason: CloseReason::Distrusted(EXPIRED) }]);
    assert_eq!(bench.formation.status().pending_links, 0);
}

/// Only a person can mend it.
#[test]
fn an_address_that_is_not_trusted_is_retried_with_the_longest_backoff() {
    let waits = |distrust: bool| {
        let mut bench = Bench::new(Net::config(0, 2));
        let conn = bench.answer("h1:1");
        bench.give(if distrust { Input::Distrusted { conn, distrust: EXPIRED } } else { Input::Closed { conn } });
        let began = bench.now;
        while bench.dialing().is_empty() {
            bench.advance(Duration::from_millis(1));
        }
        bench.now.since(began)
    };
    let longest = Net::config(0, 2).timing().dial_backoff_max;
    assert!(waits(true) >= longest / 2, "{:?} is less than half of {longest:?}", waits(true));
    assert!(waits(false) < longest / 2, "one that just ends is retried soon");
}

#[test]
fn an_accepted_connection_that_cannot_be_secured_is_told_and_counts_no_more() {
    let mut bench = Bench::new(Net::config(0, 2));
    let conn = bench.accept();
    assert_eq!(bench.formation.status().pending_links, 1);
    distrusted(&mut bench, conn);
    let reason = CloseReason::Distrusted(EXPIRED);
    assert_eq!(told(&bench, conn), [&Event::ConnClosed { conn, dialed: None, reason }]);
    assert_eq!(bench.formation.status().pending_links, 0);
}

/// As when a peer says only later that it does not trust this node.
#[test]
fn a_link_that_is_not_trusted_any_more_ends_with_that_reason() {
    let mut bench = Bench::new(Net::config(0, 2));
    let mut peer = Peer::of(&Net::config(0, 2), "n1", "h1:1");
    let conn = bench.sought_by(&mut peer);
    assert_eq!(bench.formation.status().links, 1);
    let distrust = Distrust { by_peer: true, flaw: Flaw::UnknownIssuer };
    bench.give(Input::Distrusted { conn, distrust });
    let reason = Some(CloseReason::Distrusted(distrust));
    assert_eq!(told(&bench, conn), [&Event::Unlinked { node: peer.node, reason }]);
    assert_eq!(bench.formation.status().links, 0);
}

#[test]
fn of_a_connection_that_has_ended_it_is_ignored_and_of_an_unknown_one_misuse() {
    let mut bench = Bench::new(Net::config(0, 2));
    let conn = bench.accept();
    bench.give(Input::Closed { conn });
    let before = bench.formation.clone();
    distrusted(&mut bench, conn);
    assert_eq!(bench.formation, before);
    let unknown = ConnId(conn.0 + 1);
    let input = Input::Distrusted { conn: unknown, distrust: EXPIRED };
    assert_eq!(bench.formation.handle_input(Timestamp::ZERO, input), Err(Misuse::UnknownConn(unknown)));
    assert_eq!(bench.formation, before);
}

#[test]
fn a_distrust_says_who_does_not_trust_whom_and_why() {
    let by_peer = Distrust { by_peer: true, flaw: Flaw::WrongName };
    assert_eq!(
        by_peer.to_string(),
        "the peer does not trust this node: its certificate is not for the name that was dialed"
    );
    assert_eq!(
        EXPIRED.to_string(),
        "this node does not trust the peer: its certificate has expired; or this clock is wrong"
    );
}
