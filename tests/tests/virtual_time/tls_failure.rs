//! Connections that cannot be secured (PROTOCOL, "Below this protocol"). One node on the test rig.

use std::time::Duration;

use formation_core::{Address, CloseReason, ConnId, Event, Input, Misuse, Output, Timestamp, TlsFailure, TlsProblem};
use formation_tests::{Net, Peer, Rig};

const EXPIRED: TlsFailure = TlsFailure::new(false, TlsProblem::Expired);

fn tls_failed(rig: &mut Rig, conn: ConnId) {
    rig.give(Input::TlsFailed { conn, failure: EXPIRED });
}

/// The events about the end of the connection. Also checks that the node does not close a connection that has ended.
fn reported(rig: &Rig, conn: ConnId) -> Vec<&Event> {
    let closes = |output: &Output| matches!(output, Output::Close { conn: closed, .. } if *closed == conn);
    assert!(!rig.outputs.iter().any(closes), "the node closes a connection that has ended");
    rig.events().filter(|event| matches!(event, Event::ConnClosed { .. } | Event::Unlinked { .. })).collect()
}

#[test]
fn h9_a_tls_failure_of_a_dial_is_reported_with_the_address() {
    let mut rig = Rig::new(Net::config(0, 2));
    let conn = rig.answer("h1:1");
    tls_failed(&mut rig, conn);
    let dialed = Some(Address::new("h1:1").unwrap());
    assert_eq!(
        reported(&rig, conn),
        [&Event::ConnClosed { conn, dialed, peer_addr: None, reason: CloseReason::TlsFailed(EXPIRED) }]
    );
    assert_eq!(rig.formation.status().pending_connections, 0);
}

/// Only a person can repair it.
#[test]
fn d6_h9_an_untrusted_address_waits_for_the_longest_backoff() {
    let wait_before_retry = |failure: bool| {
        let mut rig = Rig::new(Net::config(0, 2));
        let conn = rig.answer("h1:1");
        rig.give(if failure { Input::TlsFailed { conn, failure: EXPIRED } } else { Input::Closed { conn } });
        let began = rig.now;
        while rig.dialing().is_empty() {
            rig.advance(Duration::from_millis(1));
        }
        rig.now.since(began)
    };
    let longest = Net::config(0, 2).timing().dial_backoff_max;
    assert!(wait_before_retry(true) >= longest / 2, "{:?} is less than half of {longest:?}", wait_before_retry(true));
    assert!(wait_before_retry(false) < longest / 2, "an address whose connection only ends is retried soon");
}

#[test]
fn h9_a_tls_failure_of_an_accepted_connection_is_reported() {
    let mut rig = Rig::new(Net::config(0, 2));
    let conn = rig.accept();
    assert_eq!(rig.formation.status().pending_connections, 1);
    tls_failed(&mut rig, conn);
    let reason = CloseReason::TlsFailed(EXPIRED);
    assert_eq!(reported(&rig, conn), [&Event::ConnClosed { conn, dialed: None, peer_addr: None, reason }]);
    assert_eq!(rig.formation.status().pending_connections, 0);
}

/// A peer may report later that it does not trust this node.
#[test]
fn h9_a_tls_failure_ends_a_link_with_that_reason() {
    let mut rig = Rig::new(Net::config(0, 2));
    let mut peer = Peer::of(&Net::config(0, 2), "n1", "h1:1");
    let conn = rig.joined_by(&mut peer);
    assert_eq!(rig.formation.status().links, 1);
    let failure = TlsFailure::new(true, TlsProblem::UnknownIssuer);
    rig.give(Input::TlsFailed { conn, failure });
    let reason = Some(CloseReason::TlsFailed(failure));
    assert_eq!(reported(&rig, conn), [&Event::Unlinked { node: peer.node, reason, peer_addr: None }]);
    assert_eq!(rig.formation.status().links, 0);
}

/// Of a connection that has already ended, it is ignored.
#[test]
fn a_tls_failure_of_an_unknown_connection_is_misuse() {
    let mut rig = Rig::new(Net::config(0, 2));
    let conn = rig.accept();
    rig.give(Input::Closed { conn });
    let before = rig.formation.clone();
    tls_failed(&mut rig, conn);
    assert_eq!(rig.formation, before);
    let unknown = ConnId(conn.0 + 1);
    let input = Input::TlsFailed { conn: unknown, failure: EXPIRED };
    assert_eq!(rig.formation.handle_input(Timestamp::ZERO, input), Err(Misuse::UnknownConn(unknown)));
    assert_eq!(rig.formation, before);
}

#[test]
fn a_tls_failure_names_who_does_not_trust_whom_and_why() {
    let by_peer = TlsFailure::new(true, TlsProblem::WrongName);
    assert_eq!(
        by_peer.to_string(),
        "the peer does not trust this node: its certificate is not for the name that was dialed"
    );
    assert_eq!(
        EXPIRED.to_string(),
        "this node does not trust the peer: its certificate has expired, or the clock is wrong"
    );
}
