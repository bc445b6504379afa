//! Attacks of a peer that takes more than its share: of dials, connections and buffered bytes. T1 is an outsider, T2 a member that is
//! no voter.

use std::{
    collections::{BTreeSet, VecDeque},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use formation_core::{CloseReason, Config, ConnId, Incarnation, Input, Limits, Remote, message::Message};
use formation_tests::{Peer, Rig};

use super::hostile_attacks::{ack, ip, part, single};

const INTERVAL: Duration = Duration::from_millis(200);

/// An address in another network than the attacker's.
fn other_ip() -> IpAddr {
    Ipv4Addr::new(198, 51, 100, 7).into()
}

fn connects(rig: &mut Rig, ip: IpAddr, peer: &mut Peer) -> ConnId {
    let conn = rig.accept_from(Remote::at((ip, 1)));
    let frames = [peer.hello(), peer.joining()].concat();
    rig.receive(conn, frames);
    conn
}

fn peer(rig: &Rig, id: &str, address: &str) -> Peer {
    Peer::of(rig.formation.config(), id, address)
}

/// Acknowledges the heartbeats that have come.
fn acknowledge(rig: &mut Rig, conn: ConnId) {
    for message in rig.messages(conn) {
        if let Message::Heartbeat(heartbeat) = message {
            rig.receive(conn, ack(heartbeat.term.0, heartbeat.number, true));
        }
    }
}

/// A peer that is linked claims its own identity once more, again and again. Its address is that of somebody else.
#[test]
fn t2_h11_claims_do_not_flood_an_address_with_dials() {
    let mut rig = single(Limits::default());
    let mut peer = peer(&rig, "x", "victim:80");
    let link = connects(&mut rig, ip(), &mut peer);
    let mut dials = 0;
    for _ in 0..200 {
        let claim = connects(&mut rig, ip(), &mut peer);
        while rig.dialing().iter().any(|address| address.as_str() == "victim:80") {
            dials += 1;
            rig.fail_dial("victim:80");
        }
        if rig.closed(claim).is_none() {
            rig.give(Input::Closed { conn: claim });
        }
        rig.advance(INTERVAL / 4);
        acknowledge(&mut rig, link);
    }
    assert_eq!(rig.closed(link), None);
    // One in each dial_backoff_max, and some at the beginning.
    assert!((3..=20).contains(&dials), "{dials} dials of one address in 10 s");
}

/// 70 addresses are dialed because of claims from one network, and none of these dials ends.
fn dialing_for_one_network() -> Rig {
    let mut rig = single(Limits::new().with_pending_connections(200));
    for ix in 0..70 {
        let mut peer = peer(&rig, &format!("x{ix}"), &format!("x:{}", ix + 1));
        connects(&mut rig, ip(), &mut peer);
        connects(&mut rig, ip(), &mut peer);
    }
    rig
}

fn is_dialed(rig: &Rig, address: &str) -> bool {
    rig.dialing().iter().any(|dialed| dialed.as_str() == address)
}

#[test]
fn t2_h11_claims_of_one_network_leave_room_for_others() {
    let mut rig = dialing_for_one_network();
    let mut member = peer(&rig, "y", "y:1");
    connects(&mut rig, other_ip(), &mut member);
    connects(&mut rig, other_ip(), &mut member);
    rig.advance(INTERVAL);
    assert!(is_dialed(&rig, "y:1"), "the claim of the member is not checked");
}

#[test]
fn t2_i1_claims_do_not_keep_a_node_from_its_own_address() {
    let mut rig = dialing_for_one_network();
    let mut newer = peer(&rig, "m", "m:1");
    newer.node.incarnation = Incarnation(u64::MAX);
    connects(&mut rig, ip(), &mut newer);
    rig.advance(INTERVAL);
    assert!(is_dialed(&rig, "m:1"), "the node does not look whether there is a newer run of it");
}

/// A claim that finds no room is checked once there is some.
#[test]
fn h11_a_claim_waits_for_room() {
    let mut rig = dialing_for_one_network();
    let all =
        |rig: &Rig| rig.dialing().iter().filter(|a| a.as_str().starts_with("x:")).cloned().collect::<BTreeSet<_>>();
    let before = all(&rig);
    assert!((8..=32).contains(&before.len()), "{} addresses are checked for one network", before.len());
    before.iter().for_each(|address| rig.fail_dial(address.as_str()));
    let mut member = peer(&rig, "y", "y:1");
    connects(&mut rig, ip(), &mut member);
    for _ in 0..40 {
        connects(&mut rig, ip(), &mut member);
        rig.advance(INTERVAL);
        if is_dialed(&rig, "y:1") {
            return;
        }
    }
    panic!("the claim is not checked");
}

/// A dial of a voter takes long, and somebody claims its address all the time.
#[test]
fn t1_claims_do_not_cut_a_slow_dial_short() {
    let config = Config::builder("test", "n0", "h0:1").seeds(["h0:1", "h1:1"]).build().unwrap();
    let mut rig = Rig::new(config);
    let mut begun = VecDeque::new();
    for _ in 0..100 {
        let mut liar = peer(&rig, "liar", "h1:1");
        let claim = connects(&mut rig, ip(), &mut liar);
        rig.advance(INTERVAL / 2);
        if rig.closed(claim).is_none() {
            rig.give(Input::Closed { conn: claim });
        }
        let count = rig.dialing().len();
        begun.resize(count.max(begun.len()), rig.now);
        // Each dial takes 1.5 s.
        if begun.front().is_some_and(|at| rig.now.since(*at) >= 15 * INTERVAL / 2) {
            begun.pop_front();
            let conn = rig.answer("h1:1");
            if rig.closed(conn).is_none() {
                return;
            }
        }
    }
    panic!("every dial was given up before it could succeed");
}

/// Claims to the address of a voter that is not there hold the places that are kept for it.
#[test]
fn t1_h11_claims_to_a_voter_leave_it_a_place() {
    let limits = Limits::new().with_connections(12).with_pending_connections(4);
    let seeds = ["h0:1", "h1:1", "h2:1"];
    let config = Config::builder("test", "n0", "h0:1").seeds(seeds).limits(limits).build().unwrap();
    let mut rig = Rig::new(config);
    for ix in 0..30 {
        let mut other = peer(&rig, &format!("x{ix}"), &format!("x{ix}:1"));
        connects(&mut rig, ip(), &mut other);
    }
    for seed in ["h1:1", "h2:1"] {
        for id in ["liar", "n"] {
            let mut liar = peer(&rig, id, seed);
            connects(&mut rig, ip(), &mut liar);
        }
    }
    for (id, address) in [("n1", "h1:1"), ("n2", "h2:1")] {
        let conn = rig.answer(address);
        let mut voter = peer(&rig, id, address);
        let frames = voter.hello();
        rig.receive(conn, frames);
        assert_eq!(rig.closed(conn), None, "no place for the dial of {address}");
    }
}

/// All voters are linked. There is a place for one more connection, so that a voter that returns can replace its link.
#[test]
fn g7_a_place_is_kept_when_every_voter_is_linked() {
    let mut rig = single(Limits::new().with_connections(4));
    let conns: Vec<_> = (0..6)
        .map(|ix| {
            let mut other = peer(&rig, &format!("x{ix}"), &format!("x{ix}:1"));
            connects(&mut rig, ip(), &mut other)
        })
        .collect();
    let open = conns.iter().filter(|conn| rig.closed(**conn).is_none()).count();
    assert_eq!((open, rig.formation.status().links), (3, 3));
}

/// The source that holds most of the bytes closes first, however many connections it spreads them over.
#[test]
fn g7_partial_bytes_count_by_source() {
    let mut rig = single(Limits::new().with_partial_bytes(140_000));
    let mut links = Vec::new();
    for (id, ip) in [("x", ip()), ("y", ip()), ("z", ip()), ("a", other_ip())] {
        let mut peer = peer(&rig, id, &format!("{id}:1"));
        links.push(connects(&mut rig, ip, &mut peer));
    }
    for (conn, len) in links.iter().copied().zip([30_000, 32_000, 31_000, 50_000]) {
        rig.receive(conn, part(len));
    }
    let closed: Vec<_> = links.iter().map(|conn| rig.closed(*conn)).collect();
    assert_eq!(closed, [None, Some(CloseReason::TooManyPartialBytes), None, None]);
}

/// Who has not proven anything goes before a link, and a voter goes last.
#[test]
fn g7_partial_bytes_of_voters_stay_longest() {
    let limits = Limits::new().with_partial_bytes(140_000);
    let config = Config::builder("test", "n0", "h0:1").seeds(["h0:1", "h1:1"]).limits(limits).build().unwrap();
    let mut rig = Rig::new(config);
    let voter = rig.answer("h1:1");
    let mut n1 = peer(&rig, "n1", "h1:1");
    let hello = n1.hello();
    rig.receive(voter, hello);
    let mut member = peer(&rig, "x", "x:1");
    let link = connects(&mut rig, ip(), &mut member);
    let claim = connects(&mut rig, ip(), &mut member);
    for conn in [voter, link] {
        rig.receive(conn, part(69_000));
    }
    rig.receive(claim, part(3_000));
    let closed = |rig: &Rig| [voter, link, claim].map(|conn| rig.closed(conn));
    assert_eq!(closed(&rig), [None, None, Some(CloseReason::TooManyPartialBytes)]);
    let mut other = peer(&rig, "y", "y:1");
    let other = connects(&mut rig, other_ip(), &mut other);
    rig.receive(other, part(3_000));
    assert_eq!(closed(&rig)[..2], [None, Some(CloseReason::TooManyPartialBytes)]);
    assert_eq!(rig.closed(other), None);
}
