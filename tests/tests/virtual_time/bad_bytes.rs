//! G8: whatever a peer sends, at whatever moment, closes its own connection with the reason that names it, and the
//! cluster does not notice.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use formation_core::{
    CloseReason, Config, Event, Incarnation, RejectReason, Term, ViewId,
    message::{Message, ProtocolRange, Release, Resign, Role, Vote},
};
use formation_tests::{Crash, Net, NodeIx, Peer, Rng, Settings, WireId, for_each_seed};
use quickcheck::{Gen, QuickCheck, TestResult};

const SECOND: Duration = Duration::from_secs(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How far a connection has come when the bad bytes arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The peer has connected, and said nothing.
    Open,
    /// The node itself has dialed.
    Dialed,
    /// The peer's hello is accepted.
    Greeted,
    /// The peer is a member.
    Member,
}

const MOMENTS: [Moment; 4] = [Moment::Open, Moment::Dialed, Moment::Greeted, Moment::Member];

/// Three voters with a master, and whom the test has played so far.
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

    /// A connection of the test at that moment, and who it plays. Who dials is a node that still seeks.
    fn reach(&mut self, ix: NodeIx, moment: Moment) -> (WireId, Peer) {
        self.peers += 1;
        let address = format!("bad{}:1", self.peers);
        let mut peer = Peer::of(&self.config(), &format!("bad{}", self.peers), &address);
        let ix = if moment == Moment::Member { self.masters[0].0 } else { ix };
        if moment == Moment::Dialed {
            self.net.name(&address, formation_tests::Target::Test);
            let config = Config::builder("test", format!("seeker{}", self.net.len()), format!("s{}:1", self.net.len()));
            let new =
                self.net.add(config.seeds((0..3).map(Net::address)).contacts([address.as_str()]).build().unwrap());
            self.net.start(new);
            self.net.run_for(ms(20));
            let wire = self.net.accepted().pop().expect("the contact is dialed");
            return (wire, peer);
        }
        let wire = self.net.dial(ix);
        if moment != Moment::Open {
            let hello = peer.hello();
            self.net.send(wire, hello);
        }
        if moment == Moment::Member {
            let joining = peer.joining();
            self.net.send(wire, joining);
        }
        self.net.run_for(ms(20));
        let said = self.net.messages(wire);
        let joined = said.iter().any(|message| matches!(message, Message::JoinResponse(_)));
        assert_eq!(joined, moment == Moment::Member, "{said:?}");
        assert_eq!(said.iter().any(|message| matches!(message, Message::Hello(_))), moment != Moment::Open);
        (wire, peer)
    }

    /// The connection closes for this reason, and nobody else notices.
    fn closes(&mut self, wire: WireId, reason: CloseReason, what: &str) {
        self.net.run_for(ms(50));
        assert_eq!(self.net.closed(wire), Some(reason), "{what}");
        self.unharmed(what);
    }

    fn unharmed(&mut self, what: &str) {
        assert_eq!(self.net.masters(), self.masters, "{what}");
        let harm = |event: &Event| match event {
            Event::MasterLost { .. } | Event::Stopped { .. } | Event::MasterElected { .. } => true,
            Event::Unlinked { node, .. } => node.id.as_str().starts_with('n'),
            _ => false,
        };
        for ix in 0..3 {
            assert_eq!(self.net.count(ix, self.since, harm), 0, "{what}: node {ix} noticed");
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
        ("bytes behind the message", frame(&trailing), CloseReason::Malformed),
        ("a truncated message", frame(&request[4..request.len() - 1]), CloseReason::Malformed),
        ("a length of 4 GiB", Bytes::from_static(&[0xff; 4]), CloseReason::FrameTooLong),
        ("an HTTP request", Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"), CloseReason::FrameTooLong),
        ("a good frame, then an empty one", [&ping[..], &[0; 4]].concat().into(), CloseReason::EmptyFrame),
    ];
    let mut target = Target::new(1);
    for moment in MOMENTS {
        for (what, bytes, reason) in &cases {
            let early = matches!(moment, Moment::Open | Moment::Dialed);
            // Before the handshake, the good frame is out of place already.
            let good_first = what.starts_with("a good frame");
            let reason = if early && good_first { CloseReason::UnexpectedMessage } else { *reason };
            let (wire, _) = target.reach(1, moment);
            target.net.send(wire, bytes.clone());
            target.closes(wire, reason, &format!("{what} when {moment:?}"));
        }
    }
}

/// G7, G8: the length is judged before a byte of the body has come.
#[test]
fn g7_g8_h1_a_frame_over_the_limit_is_closed_by_its_length() {
    let mut target = Target::new(2);
    let limits = target.config().limits().clone();
    for moment in MOMENTS {
        let early = matches!(moment, Moment::Open | Moment::Dialed);
        let limit = if early { limits.frame_before_handshake } else { limits.max_frame };
        let (wire, _) = target.reach(1, moment);
        target.net.send(wire, Bytes::copy_from_slice(&(limit as u32 + 1).to_be_bytes()));
        target.closes(wire, CloseReason::FrameTooLong, &format!("{moment:?}"));
        let (wire, _) = target.reach(1, moment);
        target.net.send(wire, Bytes::copy_from_slice(&(limit as u32).to_be_bytes()));
        target.net.run_for(ms(50));
        assert_eq!(target.net.closed(wire), None, "{moment:?}: the limit itself is allowed");
        target.net.close(wire);
        target.net.run_for(ms(50));
        target.unharmed("a frame that ends with its connection");
    }
}

#[test]
fn d5_silence_after_a_truncated_frame_ends_by_a_time_limit() {
    for moment in MOMENTS {
        let mut target = Target::new(3);
        let (wire, mut peer) = target.reach(1, moment);
        let hello = peer.hello();
        target.net.send(wire, hello.slice(..hello.len() / 2));
        let times = target.config().timing().clone();
        let early = matches!(moment, Moment::Open | Moment::Dialed);
        target.net.run_for(if early { times.handshake_timeout } else { times.down_after });
        let reason = if early { CloseReason::HandshakeTimeout } else { CloseReason::Silent };
        target.net.run_for(ms(100));
        // A member that says nothing is no member any more; who is not needed may be told so before.
        let closed = target.net.closed(wire);
        assert!(closed == Some(reason) || (!early && closed == Some(CloseReason::NotNeeded)), "{moment:?}: {closed:?}");
        target.unharmed("silence");
    }
}

/// A hello with one thing wrong.
struct Wrong {
    what: &'static str,
    reason: CloseReason,
    spoil: fn(&mut Peer),
}

#[test]
fn h6_a_wrong_hello_is_rejected_with_the_matching_reason() {
    use RejectReason::{AddressInUse, ElectorateMismatch, IdInUse, NoCommonProtocol, Superseded, WrongCluster};
    let refused = CloseReason::Rejected;
    let cases = [
        Wrong { what: "magic", reason: CloseReason::WrongMagic, spoil: |peer| peer.magic = *b"HTTP" },
        Wrong {
            what: "cluster",
            reason: refused(WrongCluster),
            spoil: |peer| peer.cluster = formation_core::ClusterName::new("other").unwrap(),
        },
        Wrong {
            what: "a newer protocol",
            reason: refused(NoCommonProtocol),
            spoil: |peer| peer.protocol = ProtocolRange { min: 2, max: 9 },
        },
        Wrong {
            what: "an older protocol",
            reason: refused(NoCommonProtocol),
            spoil: |peer| peer.protocol = ProtocolRange { min: 0, max: 0 },
        },
        Wrong {
            what: "a protocol range turned round",
            reason: refused(NoCommonProtocol),
            spoil: |peer| peer.protocol = ProtocolRange { min: 9, max: 0 },
        },
        Wrong {
            what: "seed list",
            reason: refused(ElectorateMismatch),
            spoil: |peer| peer.electorate = Net::config(0, 5).electorate(),
        },
        Wrong {
            what: "the node's own id",
            reason: refused(IdInUse),
            spoil: |peer| peer.node.id = "n1".parse().unwrap(),
        },
        Wrong { what: "another's id", reason: refused(IdInUse), spoil: |peer| peer.node.id = "n2".parse().unwrap() },
        Wrong {
            what: "the node's own address",
            reason: refused(AddressInUse),
            spoil: |peer| peer.address = "h1:1".parse().unwrap(),
        },
        Wrong {
            what: "an older incarnation of another",
            reason: refused(Superseded),
            spoil: |peer| {
                peer.node.id = "n2".parse().unwrap();
                peer.address = "h2:1".parse().unwrap();
                peer.node.incarnation = Incarnation(0);
            },
        },
    ];
    let mut target = Target::new(4);
    for Wrong { what, reason, spoil } in cases {
        let (wire, mut peer) = target.reach(1, Moment::Open);
        spoil(&mut peer);
        let hello = peer.hello();
        target.net.send(wire, hello);
        // A permanent problem, and a status right behind it, which must not be looked at.
        let joining = peer.joining();
        target.net.send(wire, joining);
        target.closes(wire, reason, what);
        let said = target.net.messages(wire);
        match reason {
            CloseReason::Rejected(why) => {
                assert!(matches!(&said[..], [Message::Rejected(r)] if r.reason == why), "{what}: {said:?}");
            }
            _ => assert!(said.is_empty(), "{what}: who speaks another protocol is told nothing: {said:?}"),
        }
        assert!(target.net.ended(wire), "{what}");
    }
}

/// A second hello, and what only voters and masters may say, from one that is neither.
#[test]
fn g8_h3_messages_out_of_place_close_their_connection() {
    let view_id = ViewId { term: Term(9), version: 1 };
    let vote = Message::Vote(Vote { term: Term(1), number: 1, granted: true }).to_frame();
    let mut target = Target::new(5);
    for moment in [Moment::Greeted, Moment::Member] {
        let (wire, mut peer) = target.reach(1, moment);
        let hello = peer.hello();
        target.net.send(wire, hello);
        target.closes(wire, CloseReason::UnexpectedMessage, &format!("a second hello when {moment:?}"));
        for (what, bytes) in [
            ("a vote request of a node that is no voter", Peer::vote_request(9, SECOND)),
            ("a vote of a node that is no voter", vote.clone()),
            ("a release of a node that is no voter", Message::Release(Release { term: Term(9) }).to_frame()),
            ("a resignation of a node that is no voter", Message::Resign(Resign { term: Term(1) }).to_frame()),
            ("a mastership of a node that is no voter", peer.master(9)),
        ] {
            let (wire, _) = target.reach(1, moment);
            target.net.send(wire, bytes);
            target.closes(wire, CloseReason::UnexpectedMessage, &format!("{what} when {moment:?}"));
        }
    }
    // A view from one that is not the master changes nothing, whatever becomes of the connection.
    let (wire, peer) = target.reach(1, Moment::Greeted);
    target.net.send(wire, [Peer::accepted(9), Peer::page(view_id, vec![peer.member()])].concat());
    target.net.run_for(ms(50));
    target.unharmed("a view of a node that is not the master");
}

/// Random bytes, from pure noise to a real stream with some bits flipped, at every moment.
#[test]
fn g8_random_bytes_harm_nobody_in_any_phase() {
    for_each_seed(20, |seed| {
        let mut target = Target::new(seed);
        for moment in MOMENTS {
            for _ in 0..4 {
                let ix = target.net.rng.below(3);
                let (wire, mut peer) = target.reach(ix, moment);
                let noise = noise(&mut target.net.rng, &mut peer);
                target.net.send(wire, noise);
                target.net.run_for(ms(20));
                target.net.close(wire);
            }
        }
        target.net.run_for(SECOND);
        target.unharmed("noise");
    });
}

/// A term is taken over (E7) from whoever is linked. One that leaves no room above itself may not end all elections.
#[test]
fn g8_a_term_near_the_maximum_does_not_end_elections() {
    for term in [u64::MAX, u64::MAX - 1, u64::MAX / 2, (1 << 62) + 1, 1 << 62, (1 << 62) - 1] {
        for view_id in [ViewId::default(), ViewId { term: Term(term), version: 1 }] {
            let mut target = Target::new(6);
            let (wire, mut peer) = target.reach(1, Moment::Member);
            let lie = peer.status(term, Role::Joining, view_id);
            target.net.send(wire, lie);
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

fn noise(rng: &mut Rng, peer: &mut Peer) -> Bytes {
    let len = 1 + rng.below(3_000);
    let mut bytes = match rng.below(3) {
        0 => return rng.bytes(len).into(),
        1 => {
            // A fitting length, and nonsense in it.
            let body = rng.bytes(1 + len % 600);
            return frame(&body);
        }
        // No status: one with a flipped bit is a well-formed lie about a term, which is another matter.
        _ => [peer.hello(), Message::Ping.to_frame(), Peer::vote_request(3, SECOND)].concat(),
    };
    for _ in 0..1 + rng.below(6) {
        let at = rng.below(bytes.len());
        bytes[at] ^= 1 << rng.below(8);
    }
    bytes.into()
}

/// The decoder and the messages alone, without a cluster around them: no panic, and what decodes encodes to the same.
#[test]
fn g8_arbitrary_bodies_never_panic_and_decode_consistently() {
    fn property(body: Vec<u8>) -> TestResult {
        match Message::decode(&body) {
            Ok(message) => {
                let again = message.to_frame();
                // A varint can be written longer than needed; what it means is the same.
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
