//! Who a peer says it is, where the rules of chunking (G4) and of identity meet: found by reading, kept as tests.

use std::time::Duration;

use bytes::Bytes;
use formation_core::{
    Address, CloseReason, Config, ConnId, Epoch, Event, Incarnation, Input, RejectReason, StopReason, Term,
    message::{Holder, Message, ProtocolRange, Rejected},
};
use formation_tests::{Bench, Crash, Cut, Net, Peer, Settings};

const SECOND: Duration = Duration::from_secs(1);

fn config() -> Config {
    Config::builder("test", "n0", "h0:1").seeds(["h0:1", "h1:1", "h2:1"]).build().expect("a valid configuration")
}

/// A voter whose id had been taken while it was not linked was told that it is superseded, and stopped.
#[test]
fn a_thief_of_an_unlinked_voters_id_gives_way_to_the_voter() {
    let mut bench = Bench::new(config());
    let mut thief = Peer::of(&config(), "n1", "thief:9");
    thief.node.incarnation = Incarnation(u64::MAX);
    let mut owner = Peer::of(&config(), "n1", "h1:1");
    let stolen = bench.greeted_by(&mut thief);
    let own = bench.greeted_by(&mut owner);
    assert_eq!(bench.closed(stolen), Some(CloseReason::Refused(RejectReason::IdInUse)));
    assert_eq!(bench.closed(own), None);
    assert!(!bench.messages(own).iter().any(|message| matches!(message, Message::Rejected(_))));
    let again = bench.greeted_by(&mut thief);
    assert_eq!(bench.closed(again), Some(CloseReason::Refused(RejectReason::IdInUse)));
    assert_eq!(bench.closed(own), None);
}

/// A node that follows `h1:1`, the master of term 7.
fn follower() -> (Bench, ConnId, Peer) {
    let mut bench = Bench::new(config());
    let mut master = Peer::of(&config(), "n1", "h1:1");
    let conn = bench.greeted_by(&mut master);
    let said = master.master(7);
    bench.receive(conn, said);
    (bench, conn, master)
}

/// G3: such a view stood in the way of every later one.
#[test]
fn g3_a_view_of_a_term_beyond_the_masters_own_closes_its_link() {
    for (term, taken) in [(7, true), (8, false), (1_000, false)] {
        let (mut bench, conn, master) = follower();
        bench.receive(conn, Peer::page(Epoch { term: Term(term), version: 3 }, vec![master.member()]));
        assert_eq!(bench.closed(conn), (!taken).then_some(CloseReason::UnexpectedMessage), "term {term}");
        assert_eq!(bench.formation.view().len(), usize::from(taken), "term {term}");
    }
}

/// G4, on pairs of frames that a formation of honest nodes does not say in one breath.
#[test]
fn g4_two_frames_in_one_chunk_or_two_leave_the_same_state() {
    let rejected = Message::Rejected(Rejected { reason: RejectReason::Superseded, holder: None }).to_frame();
    let firsts = [Peer::accepted(7), rejected, Message::Leave.to_frame(), Message::Ping.to_frame()];
    for first in firsts {
        let run = |chunks: Vec<Bytes>| {
            let mut bench = Bench::new(config());
            bench.advance(Duration::from_millis(3_500));
            let mut master = Peer::of(&config(), "n1", "h1:1");
            let conn = bench.greeted_by(&mut master);
            for chunk in chunks {
                bench.receive(conn, chunk);
            }
            (bench.formation, bench.outputs)
        };
        let ping = Message::Ping.to_frame();
        let whole = run(vec![[first.clone(), ping.clone()].concat().into()]);
        let cut = run(vec![first, ping]);
        assert_eq!(whole.1, cut.1);
        assert_eq!(whole.0, cut.0);
    }
}

/// An address that is refused again and again is one piece of news.
#[test]
fn a_dialed_node_of_another_cluster_is_reported_once() {
    let mut bench = Bench::new(config());
    let other = Config::builder("other", "x", "h1:1").seeds(["h0:1", "h1:1", "h2:1"]).build().unwrap();
    let mut stranger = Peer::of(&other, "x", "h1:1");
    for _ in 0..3 {
        while !bench.dialing().iter().any(|address| address.as_str() == "h1:1") {
            bench.advance(Duration::from_millis(100));
        }
        let conn = bench.answer("h1:1");
        let hello = stranger.hello();
        bench.receive(conn, hello);
        assert_eq!(bench.closed(conn), Some(CloseReason::Refused(RejectReason::WrongCluster)));
    }
    let refused = bench.events().filter(|event| matches!(event, Event::Refused { .. })).count();
    assert_eq!(refused, 1);
}

/// How many refusals the node tells of, once each of these has come.
fn told_of(bench: &mut Bench, peers: &[&Peer]) -> usize {
    for peer in peers {
        let conn = bench.greeted_by(&mut Peer::clone(peer));
        assert!(matches!(bench.closed(conn), Some(CloseReason::Refused(_))), "{peer:?} is let in");
    }
    bench.events().filter(|event| matches!(event, Event::Refused { .. })).count()
}

#[test]
fn a_refused_peer_is_told_once_until_it_was_taken_in_or_its_refusal_has_changed() {
    let other = Config::builder("other", "x", "x:1").seeds(["h0:1", "h1:1", "h2:1"]).build().unwrap();
    let [mut x, y, moved] = [("x", "x:1"), ("y", "y:1"), ("x", "x:2")].map(|(id, at)| Peer::of(&other, id, at));
    let mut bench = Bench::new(config());
    assert_eq!(told_of(&mut bench, &[&x, &x, &x]), 1);
    assert_eq!(told_of(&mut bench, &[&y, &x, &y]), 2, "each peer by itself");
    assert_eq!(told_of(&mut bench, &[&moved, &x, &moved]), 3, "and each address");
    let mut old = x.clone();
    old.protocol = ProtocolRange { min: 9, max: 9 };
    assert_eq!(told_of(&mut bench, &[&old, &x, &old]), 4, "another reason");
    x.node.incarnation.0 += 1;
    assert_eq!(told_of(&mut bench, &[&x, &x]), 5, "another run");
    let mut mended = Peer::of(&config(), "x", "x:1");
    mended.node = x.node.clone();
    let conn = bench.greeted_by(&mut mended);
    bench.give(Input::Closed { conn });
    assert_eq!(told_of(&mut bench, &[&x, &x]), 6, "it was taken in meanwhile");
    assert_eq!(told_of(&mut bench, &[&moved, &y]), 6, "and only it");
}

#[test]
fn a_refused_peer_is_told_again_when_somebody_else_has_what_it_claims() {
    let mut bench = Bench::new(config());
    let claimant = Peer::of(&config(), "x", "x:2");
    for run in 1..=3 {
        let mut holder = Peer::of(&config(), "x", "x:1");
        holder.node.incarnation.0 += run;
        bench.greeted_by(&mut holder);
        assert_eq!(told_of(&mut bench, &[&claimant, &claimant]), run as usize);
    }
}

/// Whoever dials whom.
#[test]
fn a_refused_peer_that_was_dialed_is_not_told_again_when_it_dials() {
    let mut bench = Bench::new(config());
    let other = Config::builder("other", "x", "h1:1").seeds(["h0:1", "h1:1", "h2:1"]).build().unwrap();
    let mut stranger = Peer::of(&other, "x", "h1:1");
    let conn = bench.answer("h1:1");
    let hello = stranger.hello();
    bench.receive(conn, hello);
    assert_eq!(told_of(&mut bench, &[&stranger, &stranger]), 1);
}

/// Simulator seed 374: while a voter is away, somebody at another address is taken in under its id, and the master goes
/// too. The others' last view must not keep the voter out, or nobody can elect any more.
#[test]
fn a_voter_whose_id_was_taken_while_it_was_away_is_needed_for_the_next_master() {
    let mut net = Net::of_voters(374, 3, Settings::default());
    net.start_all();
    net.converge(SECOND);
    net.isolate(0, Cut::Lose);
    net.run_for(6 * SECOND);
    net.start_twin(0);
    net.run_for(SECOND);
    net.expect(net.agree(&[1, 2, 3]), "the twin is a member");
    let (twin, master) = (3, net.master().unwrap());
    net.crash(twin, Crash::Machine);
    net.crash(master, Crash::Process);
    net.heal_all();
    let living = net.living();
    let agreed = net.run_until(12 * SECOND, |net| net.agree(&living));
    net.expect(agreed, "the id of a dead node keeps its owner out");
}

/// A node that is told again and again that its id is in use gives up; not one that had a master in between.
#[test]
fn a_refusal_for_an_id_counts_from_the_last_master_on() {
    let refuse = |bench: &mut Bench| {
        let conn = loop {
            if !bench.dialing().iter().any(|address| address.as_str() == "h2:1") {
                bench.advance(Duration::from_millis(100));
                continue;
            }
            let conn = bench.answer("h2:1");
            if bench.closed(conn) != Some(CloseReason::DialGivenUp) {
                break conn;
            }
        };
        let holder = Peer::of(&config(), "n0", "x:9");
        let holder = Some(Holder { node: holder.node, address: Address::new("x:9").unwrap() });
        bench.receive(conn, Message::Rejected(Rejected { reason: RejectReason::IdInUse, holder }).to_frame());
        bench.events().any(|event| matches!(event, Event::Stopped { reason: StopReason::IdInUse }))
    };
    for (followed, refused_between, stops) in [(false, true, true), (true, true, false), (false, false, false)] {
        let mut bench = Bench::new(config());
        assert!(!refuse(&mut bench));
        bench.advance(4 * SECOND);
        if followed {
            let mut master = Peer::of(&config(), "n1", "h1:1");
            let conn = bench.greeted_by(&mut master);
            let said = master.master(7);
            bench.receive(conn, said);
            assert!(bench.formation.status().master.is_some());
            bench.advance(SECOND);
            assert_eq!(bench.formation.status().master, None);
        }
        if refused_between {
            assert!(!refuse(&mut bench));
        }
        bench.advance(4 * SECOND);
        assert_eq!(refuse(&mut bench), stops, "followed {followed}, refused between {refused_between}");
    }
}
