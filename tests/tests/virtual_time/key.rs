//! The cluster key: who does not prove that it holds it is told nothing, and changes nothing (PROTOCOL, "The cluster key").

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod rotation;
mod secrecy;

use std::time::Duration;

use bytes::Bytes;
use formation_core::{
    CloseReason, Config, ConnId, Event, Incarnation, Phase, RejectReason, StopReason,
    message::{Message, Proof, Rejected},
};
use formation_tests::{Net, Peer, Rig, Settings, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);
const KEY: &[u8] = b"correct horse battery staple";
const OTHER: &[u8] = b"another key of enough bytes";

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

/// The voter `n1`, who holds the key.
fn member() -> Peer {
    Peer::of(&config(), "n1", "h1:1").holding(KEY)
}

/// Somebody who does not, though it says so: what it announces is nothing that others could not announce, too.
fn forger(id: &str, address: &str) -> Peer {
    Peer::of(&config(), id, address).holding(KEY)
}

fn rejected(reason: RejectReason) -> Bytes {
    Message::Rejected(Rejected { reason, holder: None }).to_frame()
}

/// The hello among what was said, and the proof if there is one.
fn words(said: &[Message]) -> (Message, Option<Message>) {
    match said {
        [hello @ Message::Hello(_)] => (hello.clone(), None),
        [hello @ Message::Hello(_), proof @ Message::Proof(_)] => (hello.clone(), Some(proof.clone())),
        other => panic!("more or less than a hello and a proof: {other:?}"),
    }
}

/// The peer dials; what the node answers.
fn greet(rig: &mut Rig, peer: &mut Peer) -> (ConnId, Message, Option<Message>) {
    let conn = rig.accept();
    rig.receive(conn, peer.hello());
    let (hello, proof) = words(&rig.messages(conn));
    (conn, hello, proof)
}

/// The peer dials, and proves itself.
fn link(rig: &mut Rig, peer: &mut Peer) -> ConnId {
    let (conn, hello, _) = greet(rig, peer);
    rig.receive(conn, peer.proof_dialing(&hello).to_frame());
    conn
}

/// The node dials, and the peer answers with its hello. Comes back with the node's.
fn answer(rig: &mut Rig, peer: &mut Peer) -> (ConnId, Message) {
    let conn = rig.answer(peer.address.as_str());
    let (hello, proof) = words(&rig.messages(conn));
    assert_eq!(proof, None, "who dials proves itself second");
    rig.receive(conn, peer.hello());
    assert_eq!(rig.messages(conn), [], "and only to one that has proven itself");
    (conn, hello)
}

/// The connection was refused, its peer is told so, and that is all that has happened.
#[track_caller]
fn refused(rig: &mut Rig, conn: ConnId, reason: RejectReason, what: &str) {
    assert_eq!(rig.closed(conn), Some(CloseReason::Rejected(reason)), "{what}");
    assert_eq!(rig.messages(conn), [Message::Rejected(Rejected { reason, holder: None })], "{what}");
    unharmed(rig, what);
}

/// Nobody was taken in, and the node goes on.
#[track_caller]
fn unharmed(rig: &Rig, what: &str) {
    let harm = |event: &&Event| matches!(event, Event::Linked { .. } | Event::Stopped { .. } | Event::SelfDial { .. });
    assert_eq!(rig.events().find(harm), None, "{what}");
    assert_eq!(rig.formation.status().phase, Phase::Joining, "{what}");
}

fn flipped(message: &Message, bit: usize) -> Bytes {
    let &Message::Proof(Proof { mut mac }) = message else { panic!("{message:?} is no proof") };
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
        net.expect(net.master() == Some(0), "G6: the lowest id");
        let paired = |net: &mut Net| (0..n).all(|a| (a + 1..n).all(|b| net.between(a, b).len() == 1));
        let done = net.run_until(SECOND, paired);
        net.expect(done, "not exactly one connection between two voters");
        net.run_for(2 * SECOND);
        net.expect(net.converged(), "what was agreed did not last");
        let unlinked = |event: &Event| matches!(event, Event::Unlinked { .. });
        net.expect((0..n).all(|ix| !net.saw(ix, unlinked)), "two connections became none");
    });
}

/// A vote is asked for half a round trip later, and again on the connection that is kept.
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
    let (conn, hello, proof) = greet(&mut rig, &mut peer);
    assert_eq!(proof, Some(node_proof_accepting(&peer, &hello)), "PROTOCOL says what it is made of");
    assert_eq!(rig.formation.status().pending_connections, 1, "it counts as pending until the proof");
    rig.receive(conn, peer.proof_dialing(&hello).to_frame());
    assert!(matches!(rig.messages(conn)[..], [Message::Status(_), ..]));
    assert_eq!((rig.formation.status().links, rig.formation.status().pending_connections), (1, 0));

    let mut rig = Rig::new(config());
    let mut peer = member();
    let (conn, hello) = answer(&mut rig, &mut peer);
    rig.receive(conn, peer.proof_accepting(&hello).to_frame());
    match &rig.messages(conn)[..] {
        [proof, Message::Status(_), ..] => assert_eq!(*proof, node_proof_dialing(&peer, &hello)),
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.formation.status().links, 1);
}

fn in_its_place(peer: &Peer, node: &Message) -> Peer {
    let mut peer = peer.clone();
    peer.last_hello = node.to_frame();
    peer
}

/// What the node says, computed by who holds the same key.
fn node_proof_accepting(peer: &Peer, node: &Message) -> Message {
    in_its_place(peer, node).proof_accepting(&Message::decode(&peer.last_hello[4..]).unwrap())
}

fn node_proof_dialing(peer: &Peer, node: &Message) -> Message {
    in_its_place(peer, node).proof_dialing(&Message::decode(&peer.last_hello[4..]).unwrap())
}

/// With the key a status would be believed, a request answered, and a superseded node would stop.
#[test]
fn h7_only_hello_proof_and_rejected_count_before_the_proof() {
    let mut liar = Peer::of(&config(), "n1", "h1:1");
    let claims = [
        liar.master(7),
        liar.joining(),
        Peer::accepted(7),
        Peer::page(formation_core::ViewId::default(), vec![liar.member()]),
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
            let conn = if dialed { answer(&mut rig, &mut peer).0 } else { greet(&mut rig, &mut peer).0 };
            rig.receive(conn, claim.clone());
            let what = format!("claim {at} on a connection that was dialed: {dialed}");
            assert_eq!(rig.closed(conn), Some(CloseReason::UnexpectedMessage), "{what}");
            unharmed(&rig, &what);
            assert_eq!(rig.messages(conn), [], "{what}");
        }
    }
    // Before the hello, too; where a proof is as out of place as anything.
    for claim in [liar.master(7), Message::Proof(Proof { mac: [0; 32] }).to_frame(), rejected(RejectReason::Superseded)]
    {
        for dialed in [true, false] {
            let mut rig = Rig::new(config());
            let conn = if dialed { rig.answer("h1:1") } else { rig.accept() };
            rig.receive(conn, claim.clone());
            assert_eq!(rig.closed(conn), Some(CloseReason::UnexpectedMessage));
            unharmed(&rig, "before the hello");
        }
    }
}

/// Those that are judged before the proof may be said before it, and lead to a retry at most.
#[test]
fn h10_a_rejection_about_the_cluster_needs_no_proof() {
    use RejectReason::{BadProof, ElectorateMismatch, KeyMismatch, NoCommonProtocol, WrongCluster};
    for reason in [BadProof, ElectorateMismatch, KeyMismatch, NoCommonProtocol, WrongCluster] {
        for greeted in [true, false] {
            let mut rig = Rig::new(config());
            let conn = if greeted { answer(&mut rig, &mut forger("n1", "h1:1")).0 } else { rig.answer("h1:1") };
            rig.receive(conn, rejected(reason));
            assert_eq!(rig.closed(conn), Some(CloseReason::RejectedByPeer(reason)));
            assert!(
                rig.events()
                    .any(|event| matches!(event, Event::RejectedByPeer { reason: told, .. } if *told == reason))
            );
            unharmed(&rig, "a refusal");
        }
    }
}

#[test]
fn h8_a_proof_with_any_bit_flipped_is_rejected() {
    let mut rig = Rig::new(config());
    let mut peer = member();
    let (conn, hello, _) = greet(&mut rig, &mut peer);
    let right = peer.proof_dialing(&hello);
    for bit in 0..256 {
        let mut rig = rig.clone();
        rig.receive(conn, flipped(&right, bit));
        refused(&mut rig, conn, RejectReason::BadProof, &format!("bit {bit}"));
    }
    let mut rig = Rig::new(config());
    let (conn, hello) = answer(&mut rig, &mut peer);
    let right = peer.proof_accepting(&hello);
    for bit in 0..256 {
        let mut rig = rig.clone();
        rig.receive(conn, flipped(&right, bit));
        refused(&mut rig, conn, RejectReason::BadProof, &format!("bit {bit} on a dialed connection"));
    }
}

/// The proof covers every byte of both hellos: a changed one is another's proof.
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
        let said = rig.messages(conn);
        // Many a flipped bit is refused for what it says.
        let [answer @ Message::Hello(_), Message::Proof(_)] = &said[..] else { continue };
        tried += 1;
        rig.receive(conn, peer.proof_dialing(answer).to_frame());
        refused(&mut rig, conn, RejectReason::BadProof, &format!("bit {bit} of the hello"));
    }
    assert!(tried > 128, "all bits of the nonce at least, not {tried}");
}

/// All that a member has said on one connection, said again on the next: the node's nonce is another.
#[test]
fn h8_a_replayed_proof_is_rejected() {
    let mut rig = Rig::new(config());
    let mut peer = member();
    let (conn, hello, _) = greet(&mut rig, &mut peer);
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
        unharmed(&rig, "a replayed connection");
    }
    // And of one that the node has dialed.
    let (conn, hello) = answer(&mut rig, &mut peer);
    let proof = peer.proof_accepting(&hello).to_frame();
    rig.give(formation_core::Input::Closed { conn });
    rig.advance(SECOND);
    let conn = rig.answer("h1:1");
    rig.messages(conn);
    rig.receive(conn, [peer.last_hello.clone(), proof].concat());
    refused(&mut rig, conn, RejectReason::BadProof, "a replayed answer");
}

/// The node's own proof, and its own hello, sent back to it.
#[test]
fn h8_a_reflected_proof_is_rejected() {
    let mut rig = Rig::new(config());
    let mut peer = forger("n1", "h1:1");
    let (conn, _, proof) = greet(&mut rig, &mut peer);
    rig.receive(conn, proof.unwrap().to_frame());
    refused(&mut rig, conn, RejectReason::BadProof, "its own proof");

    // To a connection that the node has dialed, from one that it has accepted.
    let dialed = rig.answer("h1:1");
    let (hello, _) = words(&rig.messages(dialed));
    let (_, answered, proof) = greet(&mut rig, &mut forger("n1", "h1:1"));
    rig.receive(dialed, [answered.to_frame(), proof.unwrap().to_frame()].concat());
    refused(&mut rig, dialed, RejectReason::BadProof, "its own answer to another");

    let dialed = rig.answer("h2:1");
    let (own, _) = words(&rig.messages(dialed));
    assert_ne!(own, hello, "a nonce of its own");
    rig.receive(dialed, own.to_frame());
    unharmed(&rig, "its own hello: whether it has met itself is not clear before the proof");
    rig.receive(dialed, Message::Proof(Proof { mac: [7; 32] }).to_frame());
    refused(&mut rig, dialed, RejectReason::BadProof, "its own hello");
}

/// What a forged hello could bring about: the node stops, since a newer run of it has come; a member loses its place to a
/// newer run, or its address to another; the node takes an address for its own. And that all of it does happen with the key.
#[test]
fn h6_h7_a_forged_hello_stops_and_replaces_nobody() {
    let own = |rig: &Rig| rig.formation.node().incarnation;
    let cases: [(&str, &str, &str, u64); 4] = [
        ("a newer run of the node", "n0", "h0:1", 1 << 41),
        ("the node itself", "n0", "h0:1", 10),
        ("a newer run of a member", "n1", "h1:1", 1 << 41),
        ("another at a member's address", "thief", "h1:1", 1),
    ];
    for (what, id, address, incarnation) in cases {
        for proven in [false, true] {
            let mut rig = Rig::new(config());
            let member = link(&mut rig, &mut member());
            assert_eq!(own(&rig), Incarnation(10));
            rig.messages(member);
            let before = rig.outputs.len();
            let mut claimant = forger(id, address);
            claimant.node.incarnation = Incarnation(incarnation);
            let (conn, hello, _) = greet(&mut rig, &mut claimant);
            let harm = |rig: &Rig| {
                let told = rig.outputs[before..].iter().any(|output| {
                    use formation_core::Output::Event as Told;
                    matches!(output, Told(Event::Stopped { .. } | Event::Unlinked { .. } | Event::Linked { .. }))
                });
                told || rig.closed(member).is_some() || rig.formation.status().links != 1
            };
            assert!(!harm(&rig), "{what}: the hello alone");
            let right = claimant.proof_dialing(&hello);
            rig.receive(conn, if proven { right.to_frame() } else { flipped(&right, 0) });
            if proven {
                // Of the last two kinds one is taken in, and one is refused for what it says.
                let expected = match what {
                    "another at a member's address" => Some(CloseReason::Rejected(RejectReason::AddressInUse)),
                    "the node itself" => Some(CloseReason::SelfDial),
                    "a newer run of the node" => Some(CloseReason::Superseded),
                    _ => None,
                };
                assert_eq!(rig.closed(conn), expected, "{what}, proven");
                let stops = matches!(rig.formation.status().phase, Phase::Stopped);
                assert_eq!(stops, what == "a newer run of the node");
                assert_eq!(harm(&rig), what.contains("newer run"), "{what}, proven");
            } else {
                assert_eq!(rig.closed(conn), Some(CloseReason::Rejected(RejectReason::BadProof)), "{what}");
                assert!(!harm(&rig), "{what}: with a false proof");
            }
        }
    }
}

/// An older run is refused by the node that it dials, or that dials it: and stops, since it can believe it.
#[test]
fn h10_only_a_proven_rejection_stops_a_node_as_superseded() {
    let stopped =
        |rig: &Rig| rig.events().any(|event| matches!(event, Event::Stopped { reason: StopReason::Superseded }));
    let mut rig = Rig::new(config());
    let mut peer = member();
    let (conn, hello) = answer(&mut rig, &mut peer);
    let mut without = rig.clone();
    without.receive(conn, rejected(RejectReason::Superseded));
    assert!(!stopped(&without));
    rig.receive(conn, [peer.proof_accepting(&hello).to_frame(), rejected(RejectReason::Superseded)].concat());
    assert!(stopped(&rig));

    let mut rig = Rig::new(config());
    let (conn, hello, _) = greet(&mut rig, &mut peer);
    rig.receive(conn, [peer.proof_dialing(&hello).to_frame(), rejected(RejectReason::Superseded)].concat());
    assert!(stopped(&rig));
}

/// Otherwise it would not be believed.
#[test]
fn h10_a_node_proves_itself_before_it_rejects_an_identity() {
    let mut rig = Rig::new(config());
    let mut older = member();
    link(&mut rig, &mut older);
    older.node.incarnation = Incarnation(1);
    let second = rig.answer("h2:1");
    let (hello, _) = words(&rig.messages(second));
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
        ("one without a key", &config(), Peer::of(&config(), "n1", "h1:1")),
        ("one with another key", &config(), Peer::of(&config(), "n1", "h1:1").holding(OTHER)),
        ("one with a key, to a node without", &unkeyed, member()),
        ("two others", &config(), Peer::of(&config(), "n1", "h1:1").holding(OTHER).holding(b"a third one of enough")),
    ];
    for (what, config, peer) in cases {
        let mut rig = Rig::new(config.clone());
        let conn = rig.accept();
        rig.receive(conn, peer.clone().hello());
        refused(&mut rig, conn, RejectReason::KeyMismatch, what);
        let conn = rig.answer("h1:1");
        rig.messages(conn);
        rig.receive(conn, peer.clone().hello());
        refused(&mut rig, conn, RejectReason::KeyMismatch, what);
    }
    // With an empty announcement, or half of an id, there is none in common either.
    for extensions in [&[1, 0][..], &[1, 4, 9, 9, 9, 9], &[7, 1, 0, 1, 0], &[1, 200, 1], &[1]] {
        let mut rig = Rig::new(config());
        let conn = rig.accept();
        let Ok(Message::Hello(mut hello)) = Message::decode(&Peer::of(&config(), "n1", "h1:1").hello()[4..]) else {
            panic!("a peer's hello")
        };
        hello.extensions = Bytes::copy_from_slice(extensions);
        rig.receive(conn, Message::Hello(hello).to_frame());
        refused(&mut rig, conn, RejectReason::KeyMismatch, &format!("{extensions:?}"));
    }
}

/// One with a key among those without, and the other way round: it stays outside, says so, and forms nothing by itself.
#[test]
fn h10_a_node_without_the_key_stays_outside_and_reports_it() {
    for keys in [&[][..], &[OTHER]] {
        for_each_seed(5, |seed| {
            let mut net = net(seed, 3);
            net.add(keyed(3, 3, keys));
            net.start_all();
            let formed = net.run_until(2 * SECOND, |net| net.agree(&[0, 1, 2]));
            net.expect(formed, "the others form without it");
            net.run_for(3 * SECOND);
            net.expect(net.agree(&[0, 1, 2]), "and stay");
            let told = |event: &Event| matches!(event, Event::RejectedByPeer { reason: RejectReason::KeyMismatch, .. });
            net.expect(net.count(3, Duration::ZERO, told) == 3, "once for each seed");
            net.expect(net.status(3).phase == Phase::Joining, "it is on its own");
        });
    }
}

#[test]
fn h7_a_peer_without_a_proof_is_closed_at_handshake_timeout() {
    let wait = config().timing().handshake_timeout;
    for dialed in [true, false] {
        let mut rig = Rig::new(config());
        let mut peer = member();
        let conn = if dialed { answer(&mut rig, &mut peer).0 } else { rig.accept() };
        rig.advance(wait - ms(1));
        if !dialed {
            rig.receive(conn, peer.hello());
        }
        assert_eq!(rig.closed(conn), None);
        rig.advance(ms(1));
        assert_eq!(rig.closed(conn), Some(CloseReason::HandshakeTimeout), "a hello does not buy more time");
    }
}

/// G7: before the proof a peer gets no more room than any stranger.
#[test]
fn g7_h7_a_frame_before_the_proof_has_the_short_limit() {
    let limits = config().limits().clone();
    for (length, closed) in
        [(limits.frame_before_handshake, None), (limits.frame_before_handshake + 1, Some(CloseReason::FrameTooLong))]
    {
        let mut rig = Rig::new(config());
        let (conn, ..) = greet(&mut rig, &mut member());
        rig.receive(conn, Bytes::copy_from_slice(&(length as u32).to_be_bytes()));
        assert_eq!(rig.closed(conn), closed, "{length}");
    }
}

/// An address that leads back to the node itself, where the dialing end is the first to know.
#[test]
fn i8_a_node_with_a_key_reports_a_self_dial_once() {
    let config = Net::builder(0, 3).contacts(["alias:1"]).key(KEY).build().unwrap();
    let mut net = Net::new(1, Settings::default());
    let ix = net.add(config);
    net.name("alias:1", formation_tests::Target::Node(ix));
    net.start(ix);
    net.run_for(5 * SECOND);
    let met = |event: &Event| matches!(event, Event::SelfDial { address, own } if address.as_str() == "alias:1" && own.as_str() == "h0:1");
    net.expect(net.count(ix, Duration::ZERO, met) == 1, "it is said once");
    let closes = &net.host(ix).closes;
    net.expect(closes.len() == 4, "both ends, at once and after down_after");
    net.expect(closes.iter().all(|(_, reason)| *reason == CloseReason::SelfDial), "by name");
}

/// A node whose id is taken is refused only once it has proven itself, again and again: that is one piece of news.
#[test]
fn h10_a_proven_node_reports_its_rejection_once() {
    let mut net = net(7, 3);
    net.start_all();
    net.converge(SECOND);
    let twin = Config::builder("test", "n1", "twin:1").seeds((0..3).map(Net::address)).key(KEY).build().unwrap();
    let twin = net.add(twin);
    net.start(twin);
    net.run_for(10 * SECOND);
    // It refuses the third by itself, whose id it has.
    for seed in [0, 2] {
        let told = |event: &Event| {
            let by = |address: &formation_core::Address| address.as_str() == Net::address(seed);
            matches!(event, Event::RejectedByPeer { address, reason: RejectReason::IdInUse, .. } if by(address))
        };
        net.expect(net.count(twin, Duration::ZERO, told) == 1, &format!("told once by node {seed}"));
    }
    net.expect(net.agree(&[0, 1, 2]), "and harms nobody");
}
