//! Identities and rejections, and cases in which chunking (G4) and identity meet.

use std::time::Duration;

use bytes::Bytes;
use formation_core::{
    Address, CloseReason, Config, ConnId, Event, Incarnation, Input, RejectReason, StopReason, Term, ViewId,
    message::{Holder, Message, ProtocolRange, Rejected},
};
use formation_tests::{Crash, Cut, Net, Peer, Rig, Settings};

const SECOND: Duration = Duration::from_secs(1);

fn config() -> Config {
    Config::builder("test", "n0", "h0:1").seeds(["h0:1", "h1:1", "h2:1"]).build().expect("a valid configuration")
}

/// A former bug: a voter whose id had been claimed while it was not linked was rejected as superseded, and stopped.
#[test]
fn i4_a_claimant_of_a_voters_id_gives_way_to_the_voter() {
    let mut rig = Rig::new(config());
    let mut claimant = Peer::of(&config(), "n1", "claimant:9");
    claimant.node.incarnation = Incarnation(u64::MAX);
    let mut owner = Peer::of(&config(), "n1", "h1:1");
    let first = rig.hello_from(&mut claimant);
    let own = rig.hello_from(&mut owner);
    assert_eq!(rig.closed(first), Some(CloseReason::Rejected(RejectReason::IdInUse)));
    assert_eq!(rig.closed(own), None);
    assert!(!rig.messages(own).iter().any(|message| matches!(message, Message::Rejected(_))));
    let again = rig.hello_from(&mut claimant);
    assert_eq!(rig.closed(again), Some(CloseReason::Rejected(RejectReason::IdInUse)));
    assert_eq!(rig.closed(own), None);
}

/// A node that follows `h1:1`, the master of term 7.
fn follower() -> (Rig, ConnId, Peer) {
    let mut rig = Rig::new(config());
    let mut master = Peer::of(&config(), "n1", "h1:1");
    let conn = rig.hello_from(&mut master);
    let status = master.master(7);
    rig.receive(conn, status);
    (rig, conn, master)
}

/// A former bug: no later view could replace such a view.
#[test]
fn g3_v6_a_view_beyond_the_term_of_the_master_closes_its_link() {
    for (term, taken) in [(7, true), (8, false), (1_000, false)] {
        let (mut rig, conn, master) = follower();
        rig.receive(conn, Peer::page(ViewId { term: Term(term), version: 3 }, vec![master.member()]));
        assert_eq!(rig.closed(conn), (!taken).then_some(CloseReason::UnexpectedMessage), "term {term}");
        assert_eq!(rig.formation.view().len(), usize::from(taken), "term {term}");
    }
}

/// Pairs of frames that correct nodes never send in one write.
#[test]
fn g4_two_frames_in_one_chunk_or_two_leave_the_same_state() {
    let rejected = Message::Rejected(Rejected { reason: RejectReason::Superseded, holder: None }).to_frame();
    let firsts = [Peer::accepted(7), rejected, Message::LeaveAck.to_frame(), Message::Ping.to_frame()];
    for first in firsts {
        let run = |chunks: Vec<Bytes>| {
            let mut rig = Rig::new(config());
            rig.advance(Duration::from_millis(3_500));
            let mut master = Peer::of(&config(), "n1", "h1:1");
            let conn = rig.hello_from(&mut master);
            for chunk in chunks {
                rig.receive(conn, chunk);
            }
            (rig.formation, rig.outputs)
        };
        let ping = Message::Ping.to_frame();
        let whole = run(vec![[first.clone(), ping.clone()].concat().into()]);
        let cut = run(vec![first, ping]);
        assert_eq!(whole.1, cut.1);
        assert_eq!(whole.0, cut.0);
    }
}

/// Repeated rejections of one address are reported once.
#[test]
fn h10_a_dialed_node_of_another_cluster_is_reported_once() {
    let mut rig = Rig::new(config());
    let other = Config::builder("other", "x", "h1:1").seeds(["h0:1", "h1:1", "h2:1"]).build().unwrap();
    let mut other = Peer::of(&other, "x", "h1:1");
    for _ in 0..3 {
        while !rig.dialing().iter().any(|address| address.as_str() == "h1:1") {
            rig.advance(Duration::from_millis(100));
        }
        let conn = rig.answer("h1:1");
        let hello = other.hello();
        rig.receive(conn, hello);
        assert_eq!(rig.closed(conn), Some(CloseReason::Rejected(RejectReason::WrongCluster)));
    }
    let rejections = rig.events().filter(|event| matches!(event, Event::PeerRejected { .. })).count();
    assert_eq!(rejections, 1);
}

/// Lets each of these peers connect, and returns the number of reported rejections.
fn count_rejections(rig: &mut Rig, peers: &[&Peer]) -> usize {
    for peer in peers {
        let conn = rig.hello_from(&mut Peer::clone(peer));
        assert!(matches!(rig.closed(conn), Some(CloseReason::Rejected(_))), "{peer:?} is accepted");
    }
    rig.events().filter(|event| matches!(event, Event::PeerRejected { .. })).count()
}

#[test]
fn h10_a_rejection_is_reported_once_until_something_changes() {
    let other = Config::builder("other", "x", "x:1").seeds(["h0:1", "h1:1", "h2:1"]).build().unwrap();
    let [mut x, y, moved] = [("x", "x:1"), ("y", "y:1"), ("x", "x:2")].map(|(id, at)| Peer::of(&other, id, at));
    let mut rig = Rig::new(config());
    assert_eq!(count_rejections(&mut rig, &[&x, &x, &x]), 1);
    assert_eq!(count_rejections(&mut rig, &[&y, &x, &y]), 2, "each peer on its own");
    assert_eq!(count_rejections(&mut rig, &[&moved, &x, &moved]), 3, "each address on its own");
    let mut old = x.clone();
    old.protocol = ProtocolRange { min: 9, max: 9 };
    assert_eq!(count_rejections(&mut rig, &[&old, &x, &old]), 4, "another reason is reported");
    x.node.incarnation.0 += 1;
    assert_eq!(count_rejections(&mut rig, &[&x, &x]), 5, "another run is reported");
    let mut repaired = Peer::of(&config(), "x", "x:1");
    repaired.node = x.node.clone();
    let conn = rig.hello_from(&mut repaired);
    rig.give(Input::Closed { conn });
    assert_eq!(count_rejections(&mut rig, &[&x, &x]), 6, "reported again after the node was accepted");
    assert_eq!(count_rejections(&mut rig, &[&moved, &y]), 6, "only for the accepted node");
}

#[test]
fn h10_i7_a_rejection_with_a_new_holder_is_reported_again() {
    let mut rig = Rig::new(config());
    let claimant = Peer::of(&config(), "x", "x:2");
    for run in 1..=2 {
        let mut holder = Peer::of(&config(), "x", "x:1");
        holder.node.incarnation.0 += run;
        // The node dials whoever claims what is linked already.
        let claims = [(); 2].map(|()| rig.hello_from(&mut holder));
        rig.advance(SECOND / 2);
        let conn = rig.answer("x:1");
        let hello = holder.hello();
        rig.receive(conn, hello);
        for conn in claims {
            rig.give(Input::Closed { conn });
        }
        assert_eq!(count_rejections(&mut rig, &[&claimant, &claimant]), run as usize);
    }
}

/// It does not matter which side dials.
#[test]
fn h10_a_rejection_is_reported_once_whichever_side_dials() {
    let mut rig = Rig::new(config());
    let other = Config::builder("other", "x", "h1:1").seeds(["h0:1", "h1:1", "h2:1"]).build().unwrap();
    let mut other = Peer::of(&other, "x", "h1:1");
    let conn = rig.answer("h1:1");
    let hello = other.hello();
    rig.receive(conn, hello);
    assert_eq!(count_rejections(&mut rig, &[&other, &other]), 1);
}

/// Simulator seed 374: while a voter is away, a node at another address joins with its id, and then the master is lost
/// too. The last view of the others must not keep the voter out, because its vote is needed.
#[test]
fn i4_a_voter_whose_id_was_taken_can_rejoin_and_vote() {
    let mut net = Net::of_voters(374, 3, Settings::default());
    net.start_all();
    net.converge(SECOND);
    net.isolate(0, Cut::Lose);
    net.run_for(6 * SECOND);
    net.start_twin(0);
    net.run_for(SECOND);
    net.expect(net.agree(&[1, 2, 3]), "the twin is not a member");
    let (twin, master) = (3, net.master().unwrap());
    net.crash(twin, Crash::Machine);
    net.crash(master, Crash::Process);
    net.heal_all();
    let living = net.living();
    let agreed = net.run_until(12 * SECOND, |net| net.agree(&living));
    net.expect(agreed, "the view entry of a dead node keeps the voter out");
}

/// A node whose id is rejected repeatedly stops, but not if it had a master in between.
#[test]
fn i5_id_rejections_count_from_the_last_master_on() {
    let rejection_by = |rig: &mut Rig, voter: &str| {
        let conn = loop {
            if !rig.dialing().iter().any(|address| address.as_str() == voter) {
                rig.advance(Duration::from_millis(100));
                continue;
            }
            let conn = rig.answer(voter);
            if rig.closed(conn) != Some(CloseReason::DialGivenUp) {
                break conn;
            }
        };
        let holder = Peer::of(&config(), "n0", "x:9");
        let holder = Some(Holder { node: holder.node, address: Address::new("x:9").unwrap() });
        rig.receive(conn, Message::Rejected(Rejected { reason: RejectReason::IdInUse, holder }).to_frame());
    };
    let receive_id_rejection = |rig: &mut Rig| {
        rejection_by(rig, "h2:1");
        let has_stopped =
            |rig: &Rig| rig.events().any(|event| matches!(event, Event::Stopped { reason: StopReason::IdInUse }));
        assert!(!has_stopped(rig), "one voter alone");
        rejection_by(rig, "h1:1");
        has_stopped(rig)
    };
    for (followed, rejected_between, stops) in [(false, true, true), (true, true, false), (false, false, false)] {
        let mut rig = Rig::new(config());
        assert!(!receive_id_rejection(&mut rig));
        rig.advance(4 * SECOND);
        if followed {
            let mut master = Peer::of(&config(), "n1", "h1:1");
            let conn = rig.hello_from(&mut master);
            let status = master.master(7);
            rig.receive(conn, status);
            assert!(rig.formation.status().master.is_some());
            rig.advance(SECOND);
            assert_eq!(rig.formation.status().master, None);
        }
        if rejected_between {
            assert!(!receive_id_rejection(&mut rig));
        }
        rig.advance(4 * SECOND);
        assert_eq!(receive_id_rejection(&mut rig), stops, "followed {followed}, rejected between {rejected_between}");
    }
}
