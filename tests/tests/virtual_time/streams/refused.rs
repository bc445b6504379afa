//! Which streams are refused, and how (S4, S5).

use formation_core::{
    CloseReason, ClusterKey, Command, Config, ConnId, DialProblem, Input, Misuse, NodeId, Output, RejectReason,
    StreamFailure, StreamId, StreamName,
    message::{Message, Rejected},
};
use formation_tests::{Peer, Rig};

use super::{kv, open};

fn config() -> Config {
    Config::single("test", "m", "m:1").build().unwrap()
}

/// The master `m`, which takes streams, and the member `a` with its link.
pub(super) fn with_a_member() -> (Rig, Peer, ConnId) {
    let mut rig = master(config());
    let mut peer = Peer::of(&config(), "a", "a:1");
    let link = rig.joined_by(&mut peer);
    assert!(rig.formation.view().get(&peer.node.id).is_some());
    (rig, peer, link)
}

pub(super) fn master(config: Config) -> Rig {
    let mut rig = Rig::new(config);
    rig.advance(std::time::Duration::from_millis(1));
    rig.command(Command::ServeStreams([kv()].into()));
    rig
}

/// The reason for which the node refuses the stream of this `Hello`. `None` if it hands the connection off.
pub(super) fn refusal(rig: &mut Rig, hello: bytes::Bytes) -> Option<RejectReason> {
    let conn = rig.accept_from(formation_core::Remote::default());
    rig.receive(conn, hello);
    if rig.outputs.iter().any(|output| matches!(output, Output::Handoff { conn: of, .. } if *of == conn)) {
        assert!(matches!(rig.messages(conn)[..], [Message::Hello(_), Message::StreamAccepted]));
        return None;
    }
    match &rig.messages(conn)[..] {
        [Message::Rejected(Rejected { reason, holder: None })] => {
            assert_eq!(rig.closed(conn), Some(CloseReason::Rejected(*reason)));
            Some(*reason)
        }
        other => panic!("{other:?}, {:?}", rig.closed(conn)),
    }
}

#[test]
fn s4_only_the_run_in_the_view_opens_a_stream() {
    let (mut rig, peer, link) = with_a_member();
    let nonce = rig.nonce(link);
    let mut other = |change: fn(&mut Peer)| {
        let mut other = peer.clone();
        change(&mut other);
        let hello = other.stream_hello(b"kv", nonce);
        refusal(&mut rig, hello)
    };
    assert_eq!(other(|_| {}), None);
    assert_eq!(other(|peer| peer.node.id = NodeId::new("b").unwrap()), Some(RejectReason::NotAMember));
    assert_eq!(other(|peer| peer.node.incarnation.0 += 1), Some(RejectReason::NotAMember));
    assert_eq!(other(|peer| peer.node.incarnation.0 -= 1), Some(RejectReason::NotAMember));
    assert_eq!(other(|peer| peer.address = "b:1".parse().unwrap()), Some(RejectReason::NotAMember));
    let me = rig.formation.node().clone();
    let mut echo = Peer::of(&config(), "m", "m:1");
    echo.node = me;
    assert_eq!(refusal(&mut rig, echo.stream_hello(b"kv", nonce)), Some(RejectReason::NotAMember));
}

#[test]
fn t2_s4_nobody_opens_a_stream_as_a_linked_member() {
    let (mut rig, mut peer, link) = with_a_member();
    let mut own = Peer::of(&config(), "b", "b:1");
    let own_link = rig.joined_by(&mut own);
    // The attacker knows everything but the nonce on the link of the member. It may have one of its own.
    for nonce in [None, Some([0; 16]), rig.nonce(own_link)] {
        let hello = peer.stream_hello(b"kv", nonce);
        assert_eq!(refusal(&mut rig, hello), Some(RejectReason::Unproven), "{nonce:?}");
    }
    let hello = peer.stream_hello(b"kv", rig.nonce(link));
    assert_eq!(refusal(&mut rig, hello), None);
    assert_eq!((rig.closed(link), rig.closed(own_link)), (None, None), "no link is disturbed");
}

/// The tag belongs to one `Hello`: with another nonce it is worth nothing.
#[test]
fn t2_s4_a_copied_tag_is_worth_nothing() {
    let (mut rig, mut peer, link) = with_a_member();
    let hello = peer.stream_hello(b"kv", rig.nonce(link));
    let Ok(Message::Hello(copied)) = Message::decode(&hello[4..]) else { panic!("a hello") };
    peer.extensions = copied.extensions;
    let again = peer.hello();
    assert_eq!(refusal(&mut rig, again), Some(RejectReason::Unproven));
}

#[test]
fn s4_a_member_without_a_link_is_taken_by_the_view() {
    let (mut rig, mut peer, link) = with_a_member();
    rig.give(Input::Closed { conn: link });
    assert!(rig.formation.view().get(&peer.node.id).is_some(), "the member stays for a while");
    let hello = peer.stream_hello(b"kv", None);
    assert_eq!(refusal(&mut rig, hello), None);
}

#[test]
fn s5_a_name_that_nobody_serves_is_refused() {
    let (mut rig, mut peer, link) = with_a_member();
    let nonce = rig.nonce(link);
    let hello = peer.stream_hello(b"kw", nonce);
    assert_eq!(refusal(&mut rig, hello), Some(RejectReason::UnknownStream));
    rig.command(Command::ServeStreams([StreamName::new("kw").unwrap()].into()));
    let hello = peer.stream_hello(b"kv", nonce);
    assert_eq!(refusal(&mut rig, hello), Some(RejectReason::UnknownStream));
    let hello = peer.stream_hello(b"kw", nonce);
    assert_eq!(refusal(&mut rig, hello), None);
}

#[test]
fn s5_a_name_that_is_not_valid_closes_the_connection() {
    let (mut rig, mut peer, _) = with_a_member();
    for name in [&b""[..], b" ", &[0xff], &[b'x'; 65]] {
        let conn = rig.accept();
        let hello = peer.stream_hello(name, None);
        rig.receive(conn, hello);
        assert_eq!(rig.closed(conn), Some(CloseReason::Malformed), "{name:?}");
    }
}

#[test]
fn s2_h7_nothing_about_a_stream_comes_before_the_proof() {
    let key = *b"sixteen bytes at least";
    let config = Config::single("test", "m", "m:1").key(ClusterKey::new(key)).build().unwrap();
    let mut rig = master(config.clone());
    let mut stranger = Peer::of(&config, "x", "x:1").holding(&key);
    for proves in [false, true] {
        let conn = rig.accept();
        let hello = stranger.stream_hello(b"nobody serves it", None);
        rig.receive(conn, hello);
        let sent = rig.messages(conn);
        assert!(matches!(sent[..], [Message::Hello(_), Message::Proof(_)]), "{sent:?}");
        let proof = stranger.proof_dialing(&sent[0]);
        let wrong = formation_core::message::Proof { mac: [0; 32] };
        rig.receive(conn, if proves { proof } else { Message::Proof(wrong) }.to_frame());
        let reason = if proves { RejectReason::NotAMember } else { RejectReason::BadProof };
        assert_eq!(rig.closed(conn), Some(CloseReason::Rejected(reason)));
    }
}

/// What becomes of a stream to the member `a` when this is what its address answers.
fn answered(answer: impl FnOnce(&mut Peer) -> Vec<bytes::Bytes>) -> Option<StreamFailure> {
    let (mut rig, mut peer, link) = with_a_member();
    rig.command(open(1, peer.node.clone()));
    let conn = rig.answer("a:1");
    for bytes in answer(&mut peer) {
        rig.receive(conn, bytes);
    }
    assert_eq!(rig.closed(link), None, "the link is not disturbed");
    rig.outputs.iter().find_map(|output| match output {
        Output::StreamFailed { stream: StreamId(1), failure } => Some(*failure),
        _ => None,
    })
}

#[test]
fn s3_a_stream_leads_to_the_member_itself_or_nowhere() {
    let accepted = || Message::StreamAccepted.to_frame();
    assert_eq!(answered(|peer| vec![peer.hello(), accepted()]), None);
    let another = Some(StreamFailure::AnotherNode);
    let hello_of = |change: fn(&mut Peer)| {
        move |peer: &mut Peer| {
            change(peer);
            vec![peer.hello(), Message::StreamAccepted.to_frame()]
        }
    };
    assert_eq!(answered(hello_of(|peer| peer.node.incarnation.0 += 1)), another);
    assert_eq!(answered(hello_of(|peer| peer.node.id = NodeId::new("b").unwrap())), another);
    assert_eq!(answered(hello_of(|peer| peer.address = "b:1".parse().unwrap())), another);
    let closed = |reason| Some(StreamFailure::Closed(reason));
    let unexpected = closed(CloseReason::UnexpectedMessage);
    assert_eq!(answered(|_| vec![accepted()]), unexpected, "nobody has said who it is");
    // A node that knows no streams takes the connection for a link.
    assert_eq!(answered(|peer| vec![peer.hello(), peer.joining()]), unexpected);
    assert_eq!(answered(|_| vec![bytes::Bytes::from_static(b"HTTP/1.1")]), closed(CloseReason::SpeaksHttp));
    let rejected = |reason| vec![Message::Rejected(Rejected { reason, holder: None }).to_frame()];
    let unknown = RejectReason::UnknownStream;
    assert_eq!(answered(|_| rejected(unknown)), Some(StreamFailure::Rejected(unknown)));
    // Nobody stops this node by the answer to a stream.
    let superseded = RejectReason::Superseded;
    assert_eq!(answered(|_| rejected(superseded)), Some(StreamFailure::Rejected(superseded)));
    let cluster = RejectReason::WrongCluster;
    let other_cluster = answered(hello_of(|peer| peer.cluster = "other".parse().unwrap()));
    assert_eq!(other_cluster, closed(CloseReason::Rejected(cluster)));
}

#[test]
fn a_dial_that_fails_is_the_reason_of_the_stream() {
    let (mut rig, peer, _) = with_a_member();
    rig.command(open(1, peer.node.clone()));
    rig.fail_dial("a:1");
    rig.command(open(2, peer.node));
    let conn = rig.answer("a:1");
    rig.give(Input::Closed { conn });
    let failures: Vec<_> = rig
        .outputs
        .iter()
        .filter_map(|output| match output {
            Output::StreamFailed { stream, failure } => Some((*stream, *failure)),
            _ => None,
        })
        .collect();
    let refused = StreamFailure::NotReached(DialProblem::Refused);
    assert_eq!(failures, [(StreamId(1), refused), (StreamId(2), StreamFailure::Ended)]);
}

#[test]
fn misuse_of_streams_names_what_is_wrong() {
    let (mut rig, peer, link) = with_a_member();
    let me = rig.formation.node().clone();
    let mut older = peer.node.clone();
    older.incarnation.0 -= 1;
    let give = |rig: &mut Rig, input| {
        let before = rig.formation.clone();
        let result = rig.formation.handle_input(rig.now, input);
        assert!(result.is_ok() || rig.formation == before, "misuse changes nothing");
        result
    };
    for to in [me, older] {
        let misuse = give(&mut rig, Input::Command(open(1, to.clone())));
        assert_eq!(misuse, Err(Misuse::NotAMember(to)));
    }
    rig.command(open(5, peer.node.clone()));
    let misuse = give(&mut rig, Input::Command(open(5, peer.node.clone())));
    assert_eq!(misuse, Err(Misuse::ReusedStream { stream: StreamId(5), newest: StreamId(5) }));
    assert_eq!(give(&mut rig, Input::StreamEnded { conn: ConnId(99) }), Err(Misuse::UnknownConn(ConnId(99))));
    // It is no stream: nothing changes.
    assert_eq!(give(&mut rig, Input::StreamEnded { conn: link }), Ok(()));
    let mut peer = peer;
    let conn = rig.accept();
    let hello = peer.stream_hello(b"kv", rig.nonce(link));
    rig.receive(conn, hello);
    let received = Input::Received { conn, chunk: bytes::Bytes::from_static(b"x") };
    assert_eq!(give(&mut rig, received), Err(Misuse::HandedOff(conn)));
    assert_eq!(give(&mut rig, Input::Closed { conn }), Ok(()));
}
