//! G8: bad bytes in any phase close only their own connection, with a named reason. The cluster does not notice.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use formation_core::{
    CloseReason, Command, Config, Event, Incarnation, RejectReason, Term, ViewId,
    message::{Message, ProtocolRange, Release, Resign, Role, Vote},
};
use formation_tests::{Crash, Net, NodeIx, Peer, Rng, Settings, WireId, for_each_seed};
use quickcheck::{Gen, QuickCheck, TestResult};

const SECOND: Duration = Duration::from_secs(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The phase of a connection when the bad bytes arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The peer has connected, and has sent nothing.
    Open,
    /// The node has dialed the peer, and the peer has sent nothing.
    Dialed,
    /// The node has accepted the peer's `Hello`.
    HelloSent,
    /// The peer is a member.
    Member,
}

const STAGES: [Stage; 4] = [Stage::Open, Stage::Dialed, Stage::HelloSent, Stage::Member];

/// Three voters with a master, and the number of peers that the test has played so far.
struct Target {
    net: Net,
    masters: Vec<(NodeIx, Term)>,
    since: Duration,
    peers: usize,
}

impl Target {
    fn new(seed: u64) -> Self {
        let mut net = Net::of_voters(seed, 3, Settings::default());
        net.start_all();
        net.converge(SECOND);
        net.run_for(SECOND);
        let (masters, since) = (net.masters(), net.now());
        Self { net, masters, since, peers: 0 }
    }

    fn config(&self) -> Config {
        self.net.host(0).config.clone()
    }

    /// A connection of the test in that phase, and the peer that the test plays. A joining node is the one that dials.
    fn reach(&mut self, ix: NodeIx, stage: Stage) -> (WireId, Peer) {
        self.peers += 1;
        let address = format!("bad{}:1", self.peers);
        let mut peer = Peer::of(&self.config(), &format!("bad{}", self.peers), &address);
        let ix = if stage == Stage::Member { self.masters[0].0 } else { ix };
        if stage == Stage::Dialed {
            self.net.name(&address, formation_tests::Target::Test);
            let config =
                Config::builder("test", format!("joining{}", self.net.len()), format!("j{}:1", self.net.len()));
            let new = self.net.add(config.seeds((0..3).map(Net::address)).build().unwrap());
            self.net.start(new);
            self.net.command(new, Command::AddContacts(vec![peer.address.clone()]));
            self.net.run_for(ms(20));
            let wire = self.net.accepted().pop().expect("the contact is dialed");
            return (wire, peer);
        }
        let wire = self.net.dial(ix);
        if stage != Stage::Open {
            let hello = peer.hello();
            self.net.send(wire, hello);
        }
        if stage == Stage::Member {
            let joining = peer.joining();
            self.net.send(wire, joining);
        }
        self.net.run_for(ms(20));
        let received = self.net.messages(wire);
        let was_admitted = received.iter().any(|message| matches!(message, Message::JoinResponse(_)));
        assert_eq!(was_admitted, stage == Stage::Member, "{received:?}");
        assert_eq!(received.iter().any(|message| matches!(message, Message::Hello(_))), stage != Stage::Open);
        (wire, peer)
    }

    /// The connection closes for this reason, and no other node notices.
    fn closes(&mut self, wire: WireId, reason: CloseReason, what: &str) {
        self.net.run_for(ms(50));
        assert_eq!(self.net.closed(wire), Some(reason), "{what}");
        self.check_unharmed(what);
    }

    fn check_unharmed(&mut self, what: &str) {
        assert_eq!(self.net.masters(), self.masters, "{what}");
        let harm = |event: &Event| match event {
            Event::MasterLost { .. } | Event::Stopped { .. } | Event::MasterElected { .. } => true,
            Event::Unlinked { node, .. } => node.id.as_str().starts_with('n'),
            _ => false,
        };
        for ix in 0..3 {
            assert_eq!(self.net.count(ix, self.since, harm), 0, "{what}: node {ix} was affected");
        }
    }
}

fn frame(body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u32(body.len() as u32);
    out.put_slice(body);
    out.freeze()
}

#[test]
fn g8_h1_invalid_frames_close_their_connection_in_any_phase() {
    let ping = Message::Ping.to_frame();
    let mut trailing = BytesMut::from(&ping[4..]);
    trailing.put_u8(0);
    let request = Peer::vote_request(1, SECOND);
    let cases = [
        ("an empty frame", frame(&[]), CloseReason::EmptyFrame),
        ("an unknown variant", frame(&[200]), CloseReason::Malformed),
        ("a variant of five bytes", frame(&[0xff; 5]), CloseReason::Malformed),
        ("bytes after the message", frame(&trailing), CloseReason::Malformed),
        ("a truncated message", frame(&request[4..request.len() - 1]), CloseReason::Malformed),
        ("a length of 4 GiB", Bytes::from_static(&[0xff; 4]), CloseReason::FrameTooLong),
        ("an HTTP request", Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"), CloseReason::SpeaksHttp),
        (
            "an answer of an HTTP server",
            Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            CloseReason::SpeaksHttp,
        ),
        ("a TLS handshake", Bytes::from_static(&[22, 3, 1, 2, 0, 1]), CloseReason::SpeaksTls),
        ("a TLS alert", Bytes::from_static(&[21, 3, 3, 0, 2, 2, 70]), CloseReason::SpeaksTls),
        ("a valid frame, then an empty one", [&ping[..], &[0; 4]].concat().into(), CloseReason::EmptyFrame),
    ];
    let mut target = Target::new(1);
    for stage in STAGES {
        for (what, bytes, reason) in &cases {
            let early = matches!(stage, Stage::Open | Stage::Dialed);
            // Before the handshake, the valid frame is already unexpected.
            let valid_first = what.starts_with("a valid frame");
            let reason = match *reason {
                _ if early && valid_first => CloseReason::UnexpectedMessage,
                // Only the first bytes show another protocol.
                CloseReason::SpeaksHttp | CloseReason::SpeaksTls if !early => CloseReason::FrameTooLong,
                reason => reason,
            };
            let (wire, _) = target.reach(1, stage);
            target.net.send(wire, bytes.clone());
            target.closes(wire, reason, &format!("{what} when {stage:?}"));
        }
    }
}

/// The length is checked before any byte of the body arrives.
#[test]
fn g7_g8_h1_a_frame_over_the_limit_is_closed_by_its_length() {
    let mut target = Target::new(2);
    let limits = target.config().limits().clone();
    for stage in STAGES {
        let early = matches!(stage, Stage::Open | Stage::Dialed);
        let limit = if early { limits.frame_before_handshake } else { limits.max_frame };
        let (wire, _) = target.reach(1, stage);
        target.net.send(wire, Bytes::copy_from_slice(&(limit as u32 + 1).to_be_bytes()));
        target.closes(wire, CloseReason::FrameTooLong, &format!("{stage:?}"));
        let (wire, _) = target.reach(1, stage);
        target.net.send(wire, Bytes::copy_from_slice(&(limit as u32).to_be_bytes()));
        target.net.run_for(ms(50));
        assert_eq!(target.net.closed(wire), None, "{stage:?}: the limit itself is allowed");
        target.net.close(wire);
        target.net.run_for(ms(50));
        target.check_unharmed("a frame that is cut off by the end of its connection");
    }
}

#[test]
fn d5_silence_after_a_truncated_frame_ends_by_a_time_limit() {
    for stage in STAGES {
        let mut target = Target::new(3);
        let (wire, mut peer) = target.reach(1, stage);
        let hello = peer.hello();
        target.net.send(wire, hello.slice(..hello.len() / 2));
        let times = target.config().timing().clone();
        let early = matches!(stage, Stage::Open | Stage::Dialed);
        target.net.run_for(if early { times.handshake_timeout } else { times.down_after });
        let reason = if early { CloseReason::HandshakeTimeout } else { CloseReason::Silent };
        target.net.run_for(ms(100));
        // A silent member is removed. A link that is not needed may be closed earlier.
        let closed = target.net.closed(wire);
        assert!(closed == Some(reason) || (!early && closed == Some(CloseReason::NotNeeded)), "{stage:?}: {closed:?}");
        target.check_unharmed("silence");
    }
}

/// A `Hello` with one wrong field.
struct Wrong {
    what: &'static str,
    reason: CloseReason,
    change: fn(&mut Peer),
}

#[test]
fn h6_a_wrong_hello_is_rejected_with_the_matching_reason() {
    use RejectReason::{AddressInUse, ElectorateMismatch, IdInUse, NoCommonProtocol, Superseded, WrongCluster};
    let rejected = CloseReason::Rejected;
    let cases = [
        Wrong { what: "magic", reason: CloseReason::WrongMagic, change: |peer| peer.magic = *b"HTTP" },
        Wrong {
            what: "cluster",
            reason: rejected(WrongCluster),
            change: |peer| peer.cluster = formation_core::ClusterName::new("other").unwrap(),
        },
        Wrong {
            what: "a newer protocol",
            reason: rejected(NoCommonProtocol),
            change: |peer| peer.protocol = ProtocolRange { min: 2, max: 9 },
        },
        Wrong {
            what: "an older protocol",
            reason: rejected(NoCommonProtocol),
            change: |peer| peer.protocol = ProtocolRange { min: 0, max: 0 },
        },
        Wrong {
            what: "a reversed protocol range",
            reason: rejected(NoCommonProtocol),
            change: |peer| peer.protocol = ProtocolRange { min: 9, max: 0 },
        },
        Wrong {
            what: "seed list",
            reason: rejected(ElectorateMismatch),
            change: |peer| peer.electorate = Net::config(0, 5).electorate(),
        },
        Wrong {
            what: "the node's own id",
            reason: rejected(IdInUse),
            change: |peer| peer.node.id = "n1".parse().unwrap(),
        },
        Wrong {
            what: "the id of another node",
            reason: rejected(IdInUse),
            change: |peer| peer.node.id = "n2".parse().unwrap(),
        },
        Wrong {
            what: "the node's own address",
            reason: rejected(AddressInUse),
            change: |peer| peer.address = "h1:1".parse().unwrap(),
        },
        Wrong {
            what: "an older incarnation of another node",
            reason: rejected(Superseded),
            change: |peer| {
                peer.node.id = "n2".parse().unwrap();
                peer.address = "h2:1".parse().unwrap();
                peer.node.incarnation = Incarnation(0);
            },
        },
    ];
    let mut target = Target::new(4);
    for Wrong { what, reason, change } in cases {
        let (wire, mut peer) = target.reach(1, Stage::Open);
        change(&mut peer);
        let hello = peer.hello();
        target.net.send(wire, hello);
        // The status after the wrong `Hello` must be ignored.
        let joining = peer.joining();
        target.net.send(wire, joining);
        target.closes(wire, reason, what);
        let received = target.net.messages(wire);
        match reason {
            CloseReason::Rejected(why) => {
                assert!(matches!(&received[..], [Message::Rejected(r)] if r.reason == why), "{what}: {received:?}");
            }
            _ => assert!(received.is_empty(), "{what}: a peer with another protocol gets no answer: {received:?}"),
        }
        assert!(target.net.ended(wire), "{what}");
    }
}

/// A second `Hello`, and messages that only voters may send, from a node that is not a voter.
#[test]
fn g8_h3_messages_out_of_place_close_their_connection() {
    let view_id = ViewId { term: Term(9), version: 1 };
    let vote = Message::Vote(Vote { term: Term(1), number: 1, granted: true }).to_frame();
    let mut target = Target::new(5);
    for stage in [Stage::HelloSent, Stage::Member] {
        let (wire, mut peer) = target.reach(1, stage);
        let hello = peer.hello();
        target.net.send(wire, hello);
        target.closes(wire, CloseReason::UnexpectedMessage, &format!("a second hello when {stage:?}"));
        for (what, bytes) in [
            ("a vote request", Peer::vote_request(9, SECOND)),
            ("a vote", vote.clone()),
            ("a release", Message::Release(Release { term: Term(9) }).to_frame()),
            ("a resignation", Message::Resign(Resign { term: Term(1) }).to_frame()),
            ("the status of a master", peer.master(9)),
        ] {
            let (wire, _) = target.reach(1, stage);
            target.net.send(wire, bytes);
            target.closes(wire, CloseReason::UnexpectedMessage, &format!("{what} when {stage:?}"));
        }
    }
    // A view from a node that is not the master changes nothing, whether or not the connection closes.
    let (wire, peer) = target.reach(1, Stage::HelloSent);
    target.net.send(wire, [Peer::accepted(9), Peer::page(view_id, vec![peer.member()])].concat());
    target.net.run_for(ms(50));
    target.check_unharmed("a view of a node that is not the master");
}

/// Random bytes in every phase: from pure noise to a valid stream with some flipped bits.
#[test]
fn g8_random_bytes_harm_nobody_in_any_phase() {
    for_each_seed(20, |seed| {
        let mut target = Target::new(seed);
        for stage in STAGES {
            for _ in 0..4 {
                let ix = target.net.rng.below(3);
                let (wire, mut peer) = target.reach(ix, stage);
                let random_bytes = random_bytes(&mut target.net.rng, &mut peer);
                target.net.send(wire, random_bytes);
                target.net.run_for(ms(20));
                target.net.close(wire);
            }
        }
        target.net.run_for(SECOND);
        target.check_unharmed("random bytes");
    });
}

/// A node takes over a newer term from any linked peer (E7). A term without room for higher terms must not end all
/// elections.
#[test]
fn g8_a_term_near_the_maximum_does_not_end_elections() {
    for term in [u64::MAX, u64::MAX - 1, u64::MAX / 2, (1 << 62) + 1, 1 << 62, (1 << 62) - 1] {
        for view_id in [ViewId::default(), ViewId { term: Term(term), version: 1 }] {
            let mut target = Target::new(6);
            let (wire, mut peer) = target.reach(1, Stage::Member);
            let false_status = peer.status(term, Role::Joining, view_id);
            target.net.send(wire, false_status);
            target.net.run_for(ms(100));
            target.net.close(wire);
            target.net.converge(10 * SECOND);
            let master = target.net.master().unwrap();
            target.net.crash(master, Crash::Process);
            target.net.run_for(SECOND);
            target.net.converge(10 * SECOND);
        }
    }
}

fn random_bytes(rng: &mut Rng, peer: &mut Peer) -> Bytes {
    let len = 1 + rng.below(3_000);
    let mut bytes = match rng.below(3) {
        0 => return rng.bytes(len).into(),
        1 => {
            // A correct length with a random body.
            let body = rng.bytes(1 + len % 600);
            return frame(&body);
        }
        // No status, because a status with a flipped bit may be a well-formed status with a false term.
        _ => [peer.hello(), Message::Ping.to_frame(), Peer::vote_request(3, SECOND)].concat(),
    };
    for _ in 0..1 + rng.below(6) {
        let at = rng.below(bytes.len());
        bytes[at] ^= 1 << rng.below(8);
    }
    bytes.into()
}

/// Only the messages, without a cluster: decoding never panics, and a decoded message encodes to bytes that mean the
/// same.
#[test]
fn g8_arbitrary_bodies_never_panic_and_decode_consistently() {
    fn property(body: Vec<u8>) -> TestResult {
        match Message::decode(&body) {
            Ok(message) => {
                let again = message.to_frame();
                // A varint may be longer than necessary, with the same meaning.
                TestResult::from_bool(again.len() <= body.len() + 4 && Message::decode(&again[4..]) == Ok(message))
            }
            Err(reason) => TestResult::from_bool(reason == CloseReason::Malformed),
        }
    }
    QuickCheck::new()
        .rng(Gen::from_size_and_seed(100, 1))
        .tests(20_000)
        .quickcheck(property as fn(Vec<u8>) -> TestResult);
}
