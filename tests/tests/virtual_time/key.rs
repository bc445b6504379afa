//! The cluster key (PROTOCOL, "The cluster key"): a peer without a proof gets no information and has no effect.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod rotation;
mod secrecy;

use std::time::Duration;

use bytes::Bytes;
use formation_core::{
    CloseReason, Config, ConnId, Event, Incarnation, Phase, RejectReason,
    message::{Message, Proof, Rejected},
};
use formation_tests::{Net, Peer, Rig, Settings, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);
const KEY: &[u8] = b"correct horse battery staple";
const OTHER: &[u8] = b"another key of enough bytes";
const THIRD: &[u8] = b"a third one of enough";

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Node `n0` of three voters that hold the key.
fn config() -> Config {
    keyed(0, 3, &[KEY])
}

fn keyed(ix: usize, n: usize, keys: &[&[u8]]) -> Config {
    keys.iter().fold(Net::builder(ix, n), |builder, key| builder.key(*key)).build().unwrap()
}

fn net(seed: u64, n: usize) -> Net {
    let mut net = Net::new(seed, Settings::default());
    for ix in 0..n {
        net.add(keyed(ix, n, &[KEY]));
    }
    net
}

/// The voter `n1`, which holds the key.
fn member() -> Peer {
    Peer::of(&config(), "n1", "h1:1").holding(KEY)
}

/// A peer that names the key, but is used without a correct proof. Anybody can copy the key id from a `Hello`.
fn forger(id: &str, address: &str) -> Peer {
    Peer::of(&config(), id, address).holding(KEY)
}

fn rejected(reason: RejectReason) -> Bytes {
    Message::Rejected(Rejected { reason, holder: None }).to_frame()
}

/// The `Hello` of the node, and its proof if there is one.
fn hello_and_proof(received: &[Message]) -> (Message, Option<Message>) {
    match received {
        [hello @ Message::Hello(_)] => (hello.clone(), None),
        [hello @ Message::Hello(_), proof @ Message::Proof(_)] => (hello.clone(), Some(proof.clone())),
        other => panic!("not a Hello, with or without a proof: {other:?}"),
    }
}

/// The peer dials and sends its `Hello`. Returns the answer of the node.
fn exchange_hellos(rig: &mut Rig, peer: &mut Peer) -> (ConnId, Message, Option<Message>) {
    let conn = rig.accept();
    rig.receive(conn, peer.hello());
    let (hello, proof) = hello_and_proof(&rig.messages(conn));
    (conn, hello, proof)
}

/// The peer dials, and proves itself.
fn link_with_proof(rig: &mut Rig, peer: &mut Peer) -> ConnId {
    let (conn, hello, _) = exchange_hellos(rig, peer);
    rig.receive(conn, peer.proof_dialing(&hello).to_frame());
    conn
}

/// The node dials, and the peer answers with its `Hello`. Returns the `Hello` of the node.
fn dial_answered(rig: &mut Rig, peer: &mut Peer) -> (ConnId, Message) {
    let conn = rig.answer(peer.address.as_str());
    let (hello, proof) = hello_and_proof(&rig.messages(conn));
    assert_eq!(proof, None, "the dialing node proves itself second");
    rig.receive(conn, peer.hello());
    assert_eq!(rig.messages(conn), [], "the dialing node proves itself only to a proven peer");
    (conn, hello)
}

/// Checks that the node has rejected the peer, has sent the reason, and has done nothing else.
#[track_caller]
fn check_rejected(rig: &mut Rig, conn: ConnId, reason: RejectReason, what: &str) {
    assert_eq!(rig.closed(conn), Some(CloseReason::Rejected(reason)), "{what}");
    assert_eq!(rig.messages(conn), [Message::Rejected(Rejected { reason, holder: None })], "{what}");
    check_unharmed(rig, what);
}

/// Checks that the node has accepted no peer and is still joining.
#[track_caller]
fn check_unharmed(rig: &Rig, what: &str) {
    let harm = |event: &&Event| matches!(event, Event::Linked { .. } | Event::Stopped { .. } | Event::SelfDial { .. });
    assert_eq!(rig.events().find(harm), None, "{what}");
    assert_eq!(rig.formation.status().phase, Phase::Joining, "{what}");
}

fn flipped(message: &Message, bit: usize) -> Bytes {
    let &Message::Proof(Proof { mut mac }) = message else { panic!("{message:?} is not a proof") };
    mac[bit / 8] ^= 1 << (bit % 8);
    Message::Proof(Proof { mac }).to_frame()
}

#[test]
fn nodes_with_the_key_form_a_cluster() {
    for_each_seed(40, |seed| {
        let n = [2, 3, 5][seed as usize % 3];
        let mut net = net(seed, n);
        net.start_all();
        net.converge(SECOND);
        net.expect(net.master() == Some(0), "G6: the master is not the lowest id");
        let paired = |net: &mut Net| (0..n).all(|a| (a + 1..n).all(|b| net.between(a, b).len() == 1));
        let done = net.run_until(SECOND, paired);
        net.expect(done, "not exactly one connection between two voters");
        net.run_for(2 * SECOND);
        net.expect(net.converged(), "the agreement did not last");
        let unlinked = |event: &Event| matches!(event, Event::Unlinked { .. });
        net.expect((0..n).all(|ix| !net.saw(ix, unlinked)), "two connections became none");
    });
}

/// The vote request leaves half a round trip later, and once more on the connection that is kept.
#[test]
fn forming_with_a_key_takes_one_more_round_trip() {
    let time = |stage, n| {
        let mut net = Net::of_voters(0, n, Settings::calm());
        (0..n).for_each(|ix| net.set_keys(ix, stage));
        net.start_all();
        net.converge(SECOND);
        net.now()
    };
    for n in 2..6 {
        assert_eq!(time(Some(0), n), time(None, n) + ms(1), "{n} voters");
    }
}

#[test]
fn h5_proofs_travel_with_the_hello_or_before_the_status() {
    let mut rig = Rig::new(config());
    let mut peer = member();
    let (conn, hello, proof) = exchange_hellos(&mut rig, &mut peer);
    assert_eq!(proof, Some(node_proof_accepting(&peer, &hello)), "the proof is computed as in PROTOCOL");
    assert_eq!(rig.formation.status().pending_connections, 1, "the connection is pending until the proof");
    rig.receive(conn, peer.proof_dialing(&hello).to_frame());
    assert!(matches!(rig.messages(conn)[..], [Message::Status(_), ..]));
    assert_eq!((rig.formation.status().links, rig.formation.status().pending_connections), (1, 0));

    let mut rig = Rig::new(config());
    let mut peer = member();
    let (conn, hello) = dial_answered(&mut rig, &mut peer);
    rig.receive(conn, peer.proof_accepting(&hello).to_frame());
    match &rig.messages(conn)[..] {
        [proof, Message::Status(_), ..] => assert_eq!(*proof, node_proof_dialing(&peer, &hello)),
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.formation.status().links, 1);
}

fn as_node(peer: &Peer, node: &Message) -> Peer {
    let mut peer = peer.clone();
    peer.last_hello = node.to_frame();
    peer
}

/// The proof that the node has to send, computed with the same key.
fn node_proof_accepting(peer: &Peer, node: &Message) -> Message {
    as_node(peer, node).proof_accepting(&Message::decode(&peer.last_hello[4..]).unwrap())
}

fn node_proof_dialing(peer: &Peer, node: &Message) -> Message {
    as_node(peer, node).proof_dialing(&Message::decode(&peer.last_hello[4..]).unwrap())
}

/// From a proven peer, the node would accept the status, answer the request, and stop when it is superseded.
#[test]
fn h7_only_hello_proof_and_rejected_count_before_the_proof() {
    let mut unproven = Peer::of(&config(), "n1", "h1:1");
    let claims = [
        unproven.master(7),
        unproven.joining(),
        Peer::accepted(7),
        Peer::page(formation_core::ViewId::default(), vec![unproven.member()]),
        Peer::vote_request(7, SECOND),
        Message::Ping.to_frame(),
        Message::LeaveAck.to_frame(),
        rejected(RejectReason::Superseded),
        rejected(RejectReason::IdInUse),
        rejected(RejectReason::AddressInUse),
        rejected(RejectReason::ClusterFull),
        rejected(RejectReason::MetadataTooLong),
        member().hello(),
    ];
    for (at, claim) in claims.iter().enumerate() {
        for dialed in [true, false] {
            let mut rig = Rig::new(config());
            let mut peer = forger("n1", "h1:1");
            let conn =
                if dialed { dial_answered(&mut rig, &mut peer).0 } else { exchange_hellos(&mut rig, &mut peer).0 };
            rig.receive(conn, claim.clone());
            let what = format!("claim {at} on a connection that was dialed: {dialed}");
            assert_eq!(rig.closed(conn), Some(CloseReason::UnexpectedMessage), "{what}");
            check_unharmed(&rig, &what);
            assert_eq!(rig.messages(conn), [], "{what}");
        }
    }
    // The same before the `Hello`, when even a proof is unexpected.
    for claim in
        [unproven.master(7), Message::Proof(Proof { mac: [0; 32] }).to_frame(), rejected(RejectReason::Superseded)]
    {
        for dialed in [true, false] {
            let mut rig = Rig::new(config());
            let conn = if dialed { rig.answer("h1:1") } else { rig.accept() };
            rig.receive(conn, claim.clone());
            assert_eq!(rig.closed(conn), Some(CloseReason::UnexpectedMessage));
            check_unharmed(&rig, "before the Hello");
        }
    }
}

/// These reasons are decided before the proof, so they may be sent before it. They only lead to a retry.
#[test]
fn h10_a_rejection_about_the_cluster_needs_no_proof() {
    use RejectReason::{BadProof, ElectorateMismatch, KeyMismatch, NoCommonProtocol, WrongCluster};
    for reason in [BadProof, ElectorateMismatch, KeyMismatch, NoCommonProtocol, WrongCluster] {
        for hello_sent in [true, false] {
            let mut rig = Rig::new(config());
            let conn =
                if hello_sent { dial_answered(&mut rig, &mut forger("n1", "h1:1")).0 } else { rig.answer("h1:1") };
            rig.receive(conn, rejected(reason));
            assert_eq!(rig.closed(conn), Some(CloseReason::RejectedByPeer(reason)));
            assert!(
                rig.events().any(|event| matches!(event, Event::RejectedByPeer { reason: why, .. } if *why == reason))
            );
            check_unharmed(&rig, "a rejection");
        }
    }
}

/// There is no dialed address that `RejectedByPeer` could name.
#[test]
fn h10_a_rejection_by_a_dialing_peer_is_reported() {
    let mut rig = Rig::new(config());
    let (conn, _, _) = exchange_hellos(&mut rig, &mut forger("n1", "h1:1"));
    rig.receive(conn, rejected(RejectReason::BadProof));
    let reason = CloseReason::RejectedByPeer(RejectReason::BadProof);
    let closed: Vec<_> = rig.events().collect();
    assert_eq!(closed, [&Event::ConnClosed { conn, dialed: None, peer_addr: None, reason }]);
}

#[test]
fn h8_a_proof_with_any_bit_flipped_is_rejected() {
    let mut rig = Rig::new(config());
    let mut peer = member();
    let (conn, hello, _) = exchange_hellos(&mut rig, &mut peer);
    let right = peer.proof_dialing(&hello);
    for bit in 0..256 {
        let mut rig = rig.clone();
        rig.receive(conn, flipped(&right, bit));
        check_rejected(&mut rig, conn, RejectReason::BadProof, &format!("bit {bit}"));
    }
    let mut rig = Rig::new(config());
    let (conn, hello) = dial_answered(&mut rig, &mut peer);
    let right = peer.proof_accepting(&hello);
    for bit in 0..256 {
        let mut rig = rig.clone();
        rig.receive(conn, flipped(&right, bit));
        check_rejected(&mut rig, conn, RejectReason::BadProof, &format!("bit {bit} on a dialed connection"));
    }
}

/// The proof covers every byte of both `Hello`s, so a changed `Hello` needs another proof.
#[test]
fn h8_a_proof_over_a_hello_with_a_flipped_bit_is_rejected() {
    let (mut tried, mut peer) = (0, member());
    let mut rig = Rig::new(config());
    let whole = peer.hello();
    for bit in 0..8 * (whole.len() - 4) {
        let mut hello = whole.to_vec();
        hello[4 + bit / 8] ^= 1 << (bit % 8);
        let conn = rig.accept();
        rig.receive(conn, hello);
        let received = rig.messages(conn);
        // With many flipped bits, the node already rejects the `Hello` itself.
        let [dial_answered @ Message::Hello(_), Message::Proof(_)] = &received[..] else { continue };
        tried += 1;
        rig.receive(conn, peer.proof_dialing(dial_answered).to_frame());
        check_rejected(&mut rig, conn, RejectReason::BadProof, &format!("bit {bit} of the hello"));
    }
    assert!(tried > 128, "only {tried} bits were tried, which is less than the nonce alone has");
}

/// A peer repeats on the next connection everything that a member sent on the last one. The node's nonce differs.
#[test]
fn h8_a_replayed_proof_is_rejected() {
    let mut rig = Rig::new(config());
    let mut peer = member();
    let (conn, hello, _) = exchange_hellos(&mut rig, &mut peer);
    let proof = peer.proof_dialing(&hello);
    rig.clone().receive(conn, proof.to_frame());
    rig.give(formation_core::Input::Closed { conn });
    for _ in 0..20 {
        let conn = rig.accept();
        rig.receive(conn, [peer.last_hello.clone(), proof.to_frame()].concat());
        assert!(matches!(
            rig.messages(conn)[..],
            [.., Message::Rejected(Rejected { reason: RejectReason::BadProof, holder: None })]
        ));
        assert_eq!(rig.closed(conn), Some(CloseReason::Rejected(RejectReason::BadProof)));
        check_unharmed(&rig, "a replayed connection");
    }
    // The same on a connection that the node has dialed.
    let (conn, hello) = dial_answered(&mut rig, &mut peer);
    let proof = peer.proof_accepting(&hello).to_frame();
    rig.give(formation_core::Input::Closed { conn });
    rig.advance(SECOND);
    let conn = rig.answer("h1:1");
    rig.messages(conn);
    rig.receive(conn, [peer.last_hello.clone(), proof].concat());
    check_rejected(&mut rig, conn, RejectReason::BadProof, "a replayed answer");
}

/// The node's own proof and its own `Hello`, sent back to it.
#[test]
fn h8_a_reflected_proof_is_rejected() {
    let mut rig = Rig::new(config());
    let mut peer = forger("n1", "h1:1");
    let (conn, _, proof) = exchange_hellos(&mut rig, &mut peer);
    rig.receive(conn, proof.unwrap().to_frame());
    check_rejected(&mut rig, conn, RejectReason::BadProof, "its own proof");

    // Its answer on an accepted connection, sent back on a connection that it has dialed.
    let dialed = rig.answer("h1:1");
    let (hello, _) = hello_and_proof(&rig.messages(dialed));
    let (_, answered, proof) = exchange_hellos(&mut rig, &mut forger("n1", "h1:1"));
    rig.receive(dialed, [answered.to_frame(), proof.unwrap().to_frame()].concat());
    check_rejected(&mut rig, dialed, RejectReason::BadProof, "its own answer to another peer");

    let dialed = rig.answer("h2:1");
    let (own, _) = hello_and_proof(&rig.messages(dialed));
    assert_ne!(own, hello, "each Hello has its own nonce");
    rig.receive(dialed, own.to_frame());
    check_unharmed(&rig, "its own Hello, which shows a self-dial only after the proof");
    rig.receive(dialed, Message::Proof(Proof { mac: [7; 32] }).to_frame());
    check_rejected(&mut rig, dialed, RejectReason::BadProof, "its own Hello");
}

/// What a forged `Hello` could cause: the node stops because of a newer run of itself; a member is replaced by a newer
/// run, or loses its address to another node; the node takes an address for its own. With a correct proof, all of this
/// happens.
#[test]
fn h6_h7_a_forged_hello_stops_and_replaces_nobody() {
    let own = |rig: &Rig| rig.formation.node().incarnation;
    let cases: [(&str, &str, &str, u64); 4] = [
        ("a newer run of the node", "n0", "h0:1", 1 << 41),
        ("the node itself", "n0", "h0:1", 10),
        ("a newer run of a member", "n1", "h1:1", 1 << 41),
        ("another node at a member's address", "thief", "h1:1", 1),
    ];
    for (what, id, address, incarnation) in cases {
        for proven in [false, true] {
            let mut rig = Rig::new(config());
            let member = link_with_proof(&mut rig, &mut member());
            assert_eq!(own(&rig), Incarnation(10));
            rig.messages(member);
            let before = rig.outputs.len();
            let mut claimant = forger(id, address);
            claimant.node.incarnation = Incarnation(incarnation);
            let (conn, hello, _) = exchange_hellos(&mut rig, &mut claimant);
            let harm = |rig: &Rig| {
                let reported = rig.outputs[before..].iter().any(|output| {
                    use formation_core::Output::Event as Reported;
                    matches!(output, Reported(Event::Stopped { .. } | Event::Unlinked { .. } | Event::Linked { .. }))
                });
                reported || rig.closed(member).is_some() || rig.formation.status().links != 1
            };
            assert!(!harm(&rig), "{what}: only the Hello");
            let right = claimant.proof_dialing(&hello);
            rig.receive(conn, if proven { right.to_frame() } else { flipped(&right, 0) });
            if proven {
                // With a proof, each claim has its usual effect.
                let expected = match what {
                    "another node at a member's address" => Some(CloseReason::Rejected(RejectReason::AddressInUse)),
                    "the node itself" => Some(CloseReason::SelfDial),
                    _ => None,
                };
                assert_eq!(rig.closed(conn), expected, "{what}, proven");
                assert!(
                    !matches!(rig.formation.status().phase, Phase::Stopped),
                    "{what}: only its own dial shows that"
                );
                assert_eq!(harm(&rig), what == "a newer run of a member", "{what}, proven");
            } else {
                assert_eq!(rig.closed(conn), Some(CloseReason::Rejected(RejectReason::BadProof)), "{what}");
                assert!(!harm(&rig), "{what}: with a wrong proof");
            }
        }
    }
}

/// An older run is rejected by a node that it dials or that dials it. It dials its own address then, because the rejection is proven.
#[test]
fn h10_only_a_proven_rejection_makes_a_node_check_itself() {
    let checks = |rig: &Rig| rig.dialing().iter().any(|address| address.as_str() == "h0:1");
    let mut rig = Rig::new(config());
    let mut peer = member();
    let (conn, hello) = dial_answered(&mut rig, &mut peer);
    let mut without = rig.clone();
    without.receive(conn, rejected(RejectReason::Superseded));
    assert!(!checks(&without));
    rig.receive(conn, [peer.proof_accepting(&hello).to_frame(), rejected(RejectReason::Superseded)].concat());
    assert!(checks(&rig));

    let mut rig = Rig::new(config());
    let (conn, hello, _) = exchange_hellos(&mut rig, &mut peer);
    rig.receive(conn, [peer.proof_dialing(&hello).to_frame(), rejected(RejectReason::Superseded)].concat());
    assert!(checks(&rig));
}

/// Otherwise the peer would ignore the rejection.
#[test]
fn h10_a_node_proves_itself_before_it_rejects_an_identity() {
    let mut rig = Rig::new(config());
    let mut older = member();
    link_with_proof(&mut rig, &mut older);
    older.node.incarnation = Incarnation(1);
    let second = rig.answer("h2:1");
    let (hello, _) = hello_and_proof(&rig.messages(second));
    rig.receive(second, older.hello());
    assert_eq!(rig.messages(second), []);
    rig.receive(second, older.proof_accepting(&hello).to_frame());
    let expected = [
        node_proof_dialing(&older, &hello),
        Message::Rejected(Rejected { reason: RejectReason::Superseded, holder: None }),
    ];
    assert_eq!(rig.messages(second), expected);
    assert_eq!(rig.closed(second), Some(CloseReason::Rejected(RejectReason::Superseded)));
}

#[test]
fn h6_nodes_without_a_common_key_reject_each_other_at_once() {
    let unkeyed = Net::config(0, 3);
    let cases: [(&str, &Config, Peer); 4] = [
        ("a peer without a key", &config(), Peer::of(&config(), "n1", "h1:1")),
        ("a peer with another key", &config(), Peer::of(&config(), "n1", "h1:1").holding(OTHER)),
        ("a peer with a key, and a node without", &unkeyed, member()),
        ("a peer with two other keys", &config(), Peer::of(&config(), "n1", "h1:1").holding(OTHER).holding(THIRD)),
    ];
    for (what, config, peer) in cases {
        let mut rig = Rig::new(config.clone());
        let conn = rig.accept();
        rig.receive(conn, peer.clone().hello());
        check_rejected(&mut rig, conn, RejectReason::KeyMismatch, what);
        let conn = rig.answer("h1:1");
        rig.messages(conn);
        rig.receive(conn, peer.clone().hello());
        check_rejected(&mut rig, conn, RejectReason::KeyMismatch, what);
    }
    // An empty list of keys, half of an id, or an invalid extension is not a common key either.
    for extensions in [&[1, 0][..], &[1, 4, 9, 9, 9, 9], &[7, 1, 0, 1, 0], &[1, 200, 1], &[1]] {
        let mut rig = Rig::new(config());
        let conn = rig.accept();
        let Ok(Message::Hello(mut hello)) = Message::decode(&Peer::of(&config(), "n1", "h1:1").hello()[4..]) else {
            panic!("not a Hello")
        };
        hello.extensions = Bytes::copy_from_slice(extensions);
        rig.receive(conn, Message::Hello(hello).to_frame());
        check_rejected(&mut rig, conn, RejectReason::KeyMismatch, &format!("{extensions:?}"));
    }
}

/// A node without the key, or with another key, stays outside, reports it, and does not form a cluster by itself.
#[test]
fn h10_a_node_without_the_key_stays_outside_and_reports_it() {
    for keys in [&[][..], &[OTHER]] {
        for_each_seed(5, |seed| {
            let mut net = net(seed, 3);
            net.add(keyed(3, 3, keys));
            net.start_all();
            let formed = net.run_until(2 * SECOND, |net| net.agree(&[0, 1, 2]));
            net.expect(formed, "the others did not form a cluster");
            net.run_for(3 * SECOND);
            net.expect(net.agree(&[0, 1, 2]), "the cluster did not last");
            let reported =
                |event: &Event| matches!(event, Event::RejectedByPeer { reason: RejectReason::KeyMismatch, .. });
            net.expect(net.count(3, Duration::ZERO, reported) == 3, "not one report for each seed");
            net.expect(net.status(3).phase == Phase::Joining, "the node is not joining");
        });
    }
}

#[test]
fn h7_a_peer_without_a_proof_is_closed_at_handshake_timeout() {
    let wait = config().timing().handshake_timeout;
    for dialed in [true, false] {
        let mut rig = Rig::new(config());
        let mut peer = member();
        let conn = if dialed { dial_answered(&mut rig, &mut peer).0 } else { rig.accept() };
        rig.advance(wait - ms(1));
        if !dialed {
            rig.receive(conn, peer.hello());
        }
        assert_eq!(rig.closed(conn), None);
        rig.advance(ms(1));
        assert_eq!(rig.closed(conn), Some(CloseReason::HandshakeTimeout), "a Hello does not extend the time limit");
    }
}

/// Before the proof, a peer has the same limits as any unauthenticated peer.
#[test]
fn g7_h7_a_frame_before_the_proof_has_the_short_limit() {
    let limits = config().limits().clone();
    for (length, closed) in
        [(limits.frame_before_handshake, None), (limits.frame_before_handshake + 1, Some(CloseReason::FrameTooLong))]
    {
        let mut rig = Rig::new(config());
        let (conn, ..) = exchange_hellos(&mut rig, &mut member());
        rig.receive(conn, Bytes::copy_from_slice(&(length as u32).to_be_bytes()));
        assert_eq!(rig.closed(conn), closed, "{length}");
    }
}

/// An address leads back to the node itself. With a key, the dialing end is the first to notice.
#[test]
fn i8_a_node_with_a_key_reports_a_self_dial_once() {
    let config = Net::builder(0, 3).contacts(["alias:1"]).key(KEY).build().unwrap();
    let mut net = Net::new(1, Settings::default());
    let ix = net.add(config);
    net.name("alias:1", formation_tests::Target::Node(ix));
    net.start(ix);
    net.run_for(5 * SECOND);
    let met = |event: &Event| matches!(event, Event::SelfDial { address, own } if address.as_str() == "alias:1" && own.as_str() == "h0:1");
    net.expect(net.count(ix, Duration::ZERO, met) == 1, "SelfDial was not reported once");
    let closes = &net.host(ix).closes;
    net.expect(closes.len() == 4, "not both ends were closed, at once and again after down_after");
    net.expect(closes.iter().all(|(_, reason)| *reason == CloseReason::SelfDial), "a close has another reason");
}

/// A node with the id of another is rejected after its proof, again and again. It reports this once.
#[test]
fn h10_a_proven_node_reports_its_rejection_once() {
    let mut net = net(7, 3);
    net.start_all();
    net.converge(SECOND);
    let twin = Config::builder("test", "n1", "twin:1").seeds((0..3).map(Net::address)).key(KEY).build().unwrap();
    let twin = net.add(twin);
    net.start(twin);
    // Soon after that it stops (I5).
    net.run_for(5 * SECOND);
    // The node rejects the voter with its own id itself.
    for seed in [0, 2] {
        let reported = |event: &Event| {
            let by = |address: &formation_core::Address| address.as_str() == Net::address(seed);
            matches!(event, Event::RejectedByPeer { address, reason: RejectReason::IdInUse, .. } if by(address))
        };
        net.expect(
            net.count(twin, Duration::ZERO, reported) == 1,
            &format!("the rejection by node {seed} was not reported once"),
        );
    }
    net.expect(net.agree(&[0, 1, 2]), "the cluster was affected");
}
