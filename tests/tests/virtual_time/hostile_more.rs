//! More attacks of one peer on a cluster, each by name: vouchers that go to the wrong node, and words of unproven links.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use formation_core::{
    Address, Change, CloseReason, Config, Event, Remote, ViewId,
    message::{Message, Role, Voucher},
};
use formation_tests::{Crash, Cut, Net, NetSettings, Peer, Rig, Target, WireId};

use super::hostile_attacks::{check_unharmed, claims, connect, formed, ip, state};

const SECOND: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(200);

fn vouchers(messages: impl IntoIterator<Item = Message>) -> Vec<[u8; 16]> {
    let nonce = |message| match message {
        Message::Voucher(Voucher { nonce }) => Some(nonce),
        _ => None,
    };
    messages.into_iter().filter_map(nonce).collect()
}

/// The voter a has just started. z has the id and the run of the voter b, but its own address.
fn with_a_copy_of_b() -> (Rig, Peer, Peer) {
    let rig = Rig::new(Config::builder("test", "a", "a:1").seeds(["a:1", "b:1", "c:1"]).build().unwrap());
    let config = rig.formation.config();
    let (voter, copy) = (Peer::of(config, "b", "b:1"), Peer::of(config, "b", "z:1"));
    (rig, voter, copy)
}

/// A connection of a peer without a certificate, with its `Hello`.
fn greets(rig: &mut Rig, peer: &mut Peer) -> formation_core::ConnId {
    let conn = rig.accept_from(Remote::default());
    let hello = peer.hello();
    rig.receive(conn, hello);
    conn
}

/// Whoever has the nonce of a `Hello` that b has sent to a's address can prove to b that it is a.
#[test]
fn t2_no_voucher_for_a_voter_goes_to_a_copy_of_its_id() {
    for voter_is_first in [false, true] {
        let (mut rig, mut voter, mut copy) = with_a_copy_of_b();
        // The nonce of its next hello is that of no hello of the copy.
        (0..10).for_each(|_| drop(voter.hello()));
        if voter_is_first {
            greets(&mut rig, &mut voter);
        }
        greets(&mut rig, &mut copy);
        greets(&mut rig, &mut copy);
        let conn = rig.answer("z:1");
        let hello = copy.hello();
        rig.receive(conn, hello);
        if !voter_is_first {
            greets(&mut rig, &mut voter);
        }
        let sent = vouchers(rig.messages(conn));
        assert!(!sent.contains(&[11; 16]), "voter first: {voter_is_first}");
    }
}

/// All voters start together, 50 ms from each other. The peer is near them. It has the id of n0 for n1, gets the nonce of n0 from
/// n1, and is n1 for n0.
#[test]
fn t2_a_peer_at_the_start_of_all_voters_is_none_of_them() {
    let far = Duration::from_millis(50);
    let mut net = Net::of_voters(1, 3, NetSettings { test_ip: Some(ip()), latency: (far, far), ..NetSettings::calm() });
    net.name("z:1", Target::Test);
    net.start_all();
    // The dials of the voters are under way. Those of the peer take a millisecond.
    net.settings.latency = NetSettings::calm().latency;
    let mut copy = claims(&net, 0, net.node(0).incarnation);
    copy.address = Address::new("z:1").unwrap();
    let joining = copy.joining();
    let mut wires: Vec<_> = (0..2).map(|_| connect(&mut net, 1, &mut copy, std::slice::from_ref(&joining))).collect();
    let mut dialed = Vec::new();
    let mut nonces = Vec::new();
    for _ in 0..250 {
        net.run_for(Duration::from_millis(1));
        for wire in net.accepted() {
            let hello = copy.hello();
            net.send(wire, hello);
            dialed.push(wire);
        }
        nonces.extend(dialed.iter().flat_map(|wire| vouchers(net.messages(*wire))).collect::<Vec<_>>());
        for nonce in std::mem::take(&mut nonces) {
            let mut as_n1 = claims(&net, 1, net.node(1).incarnation);
            as_n1.skip_to_status(u64::MAX);
            let leaving = as_n1.status(0, Role::Leaving, ViewId::default());
            wires.push(connect(&mut net, 0, &mut as_n1, &[Message::Voucher(Voucher { nonce }).to_frame(), leaving]));
        }
    }
    let whole = net.run_until(10 * SECOND, |net| {
        wires.iter().for_each(|wire| net.send(*wire, Message::Ping.to_frame()));
        net.run_for(INTERVAL);
        net.converged()
    });
    net.expect(whole, "a voter is kept out by a peer that is taken for it");
}

/// A member has no link to the followers. A peer with its identity reports there that it leaves.
#[test]
fn t2_a_copy_does_not_say_for_a_member_that_it_leaves() {
    let mut net = formed();
    let master = net.master().unwrap();
    let wires: Vec<WireId> = (0..3)
        .filter(|to| *to != master)
        .map(|to| {
            let mut copy = claims(&net, 3, net.node(3).incarnation);
            let leaving = copy.status(1, Role::Leaving, ViewId::default());
            connect(&mut net, to, &mut copy, &[leaving])
        })
        .collect();
    net.run_for(SECOND);
    // The peer is gone long before the next election.
    wires.into_iter().for_each(|wire| net.close(wire));
    net.run_for(10 * SECOND);
    let since = net.now();
    net.crash(master, Crash::Process);
    net.run_for(10 * SECOND);
    let id = net.node(3).id;
    let removed = |event: &Event| match event {
        Event::ViewChanged { changes, .. } => {
            changes.iter().any(|change| matches!(change, Change::Remove { id: gone, .. } if *gone == id))
        }
        _ => false,
    };
    let count: usize = net.living().into_iter().map(|ix| net.count(ix, since, removed)).sum();
    assert_eq!(count, 0, "a member that lives is removed because a copy of it has said that it leaves");
}

/// Each claim makes one voter send a voucher to another one, which allows only so many messages.
#[test]
fn t2_claims_do_not_make_a_voter_flood_another_one() {
    let mut net = formed();
    let (before, since) = (state(&net), net.now());
    for step in 0..6_000_u32 {
        let to = (step % 2) as usize;
        let mut copy = claims(&net, to + 1, net.node(to + 1).incarnation);
        (0..step / 2 % 250).for_each(|_| drop(copy.hello()));
        connect(&mut net, to, &mut copy, &[]);
        net.run_for(Duration::from_micros(200));
    }
    check_unharmed(&mut net, &before, since);
}

/// Copies of a plain member wait at all other nodes. The master crashes, and the member cannot reach the next one for a time.
#[test]
fn t2_a_copy_of_a_member_is_not_admitted_for_it() {
    for role in [Role::Joining, Role::Leaving] {
        let mut net = formed();
        let master = net.master().unwrap();
        let copied = net.node(3);
        let run = formation_core::Incarnation(copied.incarnation.0 + 5);
        let wires: Vec<WireId> = (0..3)
            .filter(|to| *to != master)
            .map(|to| {
                let mut copy = claims(&net, 3, run);
                let status = copy.status(1, role.clone(), ViewId::default());
                connect(&mut net, to, &mut copy, &[status])
            })
            .collect();
        net.run_for(SECOND);
        let since = net.now();
        net.crash(master, Crash::Process);
        net.isolate(3, Cut::Lose);
        let alive = |net: &mut Net| {
            wires.iter().for_each(|wire| net.send(*wire, Message::Ping.to_frame()));
            net.run_for(INTERVAL);
            net.master().is_some_and(|next| next != master)
        };
        assert!(net.run_until(10 * SECOND, alive), "there is a next master");
        let admitted = |event: &Event| match event {
            Event::ViewChanged { changes, .. } => changes.iter().any(|change| match change {
                Change::Upsert(member) => member.node.id == copied.id && member.node != copied,
                Change::Remove { id, .. } => *id == copied.id,
            }),
            _ => false,
        };
        net.run_for(INTERVAL);
        let count: usize = net.living().into_iter().map(|ix| net.count(ix, since, admitted)).sum();
        assert_eq!(count, 0, "a copy that is {role:?} takes the place of a member that lives");
    }
}

/// Both a claim and a link that is not proven. Each voucher costs this node a look at its connections.
#[test]
fn t2_h11_too_many_wrong_vouchers_close_a_connection() {
    let (mut rig, mut voter, _) = with_a_copy_of_b();
    let mut plain = Peer::of(rig.formation.config(), "z", "z:1");
    let interval = rig.formation.config().timing().heartbeat_interval;
    let [claim, link] = [&mut voter, &mut plain].map(|peer| greets(&mut rig, peer));
    assert_eq!(rig.formation.status().links, 1, "the voter has to prove who it is");
    for conn in [claim, link] {
        for nonce in 0..16 {
            assert_eq!(rig.closed(conn), None, "the wrong voucher {nonce}");
            if nonce == 8 {
                rig.advance(interval);
            }
            rig.receive(conn, Message::Voucher(Voucher { nonce: [nonce; 16] }).to_frame());
        }
        assert_eq!(rig.closed(conn), None);
        rig.receive(conn, Message::Voucher(Voucher { nonce: [0; 16] }).to_frame());
        assert_eq!(rig.closed(conn), Some(CloseReason::UnexpectedMessage));
    }
}

/// Nothing of it counts before the peer has proven who it is. On a link, the master that sends updates limits them.
#[test]
fn t2_g7_updates_on_a_claim_are_limited_as_other_messages() {
    let update = Peer::page(ViewId::default(), Vec::new());
    for message in [update, Message::Ping.to_frame()] {
        let (mut rig, mut voter, _) = with_a_copy_of_b();
        let limit = rig.formation.config().limits().messages;
        let conn = greets(&mut rig, &mut voter);
        // The `Hello` is one of them.
        (1..limit).for_each(|_| rig.receive(conn, message.clone()));
        assert_eq!(rig.closed(conn), None);
        rig.receive(conn, message);
        assert_eq!(rig.closed(conn), Some(CloseReason::TooManyMessages));
    }
}

/// The link of a plain member to the master is not proven. Each false claim makes the member send a voucher on it.
#[test]
fn t2_h11_false_claims_at_a_member_close_no_link_of_it() {
    let mut net = formed();
    let master = net.master().unwrap();
    let (before, since) = (state(&net), net.now());
    for step in 0..100 {
        let mut copy = claims(&net, master, net.node(master).incarnation);
        (0..step).for_each(|_| drop(copy.hello()));
        connect(&mut net, 3, &mut copy, &[]);
        net.run_for(INTERVAL / 8);
    }
    check_unharmed(&mut net, &before, since);
}
