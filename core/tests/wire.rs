//! The bytes of every message. A change to a fixture is a change of the protocol: old and new nodes would misread each
//! other. New variants get new fixtures, and the existing fixtures stay.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use formation_core::{
    Address, Change, CloseReason, ClusterName, Electorate, ElectorateDigest, ElectorateVersion, Incarnation, Member,
    MemberState, Node, NodeId, RejectReason, RemovalReason, Term, ViewDigest, ViewId,
    message::{
        Heartbeat, HeartbeatAck, Hello, Holder, JoinResponse, MAGIC, MembersUpdate, Message, Proof, ProtocolRange,
        Rejected, Release, Resign, Role, StatusReport, Vote, VoteRequest, Voucher,
    },
};

/// Bytes from hex digits. Blanks separate the fields for the reader.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    assert_eq!(digits.len() % 2, 0, "{text}");
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn id(text: &str) -> NodeId {
    NodeId::new(text).expect("a test's id is valid")
}

fn cluster(text: &str) -> ClusterName {
    ClusterName::new(text).expect("a test's cluster name is valid")
}

fn node(name: &str, incarnation: u64) -> Node {
    Node { id: id(name), incarnation: Incarnation(incarnation) }
}

fn address(text: &str) -> Address {
    Address::new(text).expect("a test's address is valid")
}

fn view_id(term: u64, version: u64) -> ViewId {
    ViewId { term: Term(term), version }
}

fn member(id: &str, incarnation: u64, at: &str, state: MemberState, metadata: &'static [u8]) -> Member {
    Member::new(node(id, incarnation), address(at)).with_state(state).with_metadata(metadata)
}

fn hello() -> Hello {
    Hello {
        magic: MAGIC,
        protocol: ProtocolRange { min: 1, max: 300 },
        cluster: cluster("prod"),
        electorate: ElectorateDigest(std::array::from_fn(|n| n as u8)),
        id: id("node-a"),
        incarnation: Incarnation(300),
        address: address("a.example:7000"),
        nonce: std::array::from_fn(|n| 0xf0 + n as u8),
        extensions: Bytes::from_static(&[0xbe, 0xef]),
    }
}

fn status(number: u64, term: u64, role: Role) -> StatusReport {
    StatusReport {
        number,
        term: Term(term),
        role,
        abstains: false,
        promise: None,
        view_id: ViewId::default(),
        metadata: Bytes::new(),
        electorate: Default::default(),
    }
}

/// Every variant, with its body on the wire.
fn electorate_version(term: u64, number: u64) -> ElectorateVersion {
    ElectorateVersion { term: Term(term), number }
}

fn electorate(voters: &[&str], target: Option<&[&str]>) -> Electorate {
    // The public type is built from its own encoding only.
    let lists = (electorate_version(3, 7), voters, target);
    let bytes = postcard::to_allocvec(&lists).expect("plain data always encodes");
    postcard::from_bytes(&bytes).expect("an electorate is read from its lists")
}

fn fixtures() -> Vec<(Message, &'static str)> {
    let lan = Duration::from_millis(200);
    let mut all = vec![
        (
            Message::Hello(hello()),
            "00 46524d4e 01 ac02 04 70726f64 000102030405060708090a0b0c0d0e0f 06 6e6f64652d61 ac02
             0e 612e6578616d706c653a37303030 f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff 02 beef",
        ),
        (
            Message::Status(StatusReport { abstains: true, ..status(1, 0, Role::Joining) }),
            "02 01 00 00 01 00 0000 0000 00",
        ),
        (
            Message::Status(StatusReport {
                promise: Some(node("a", 1)),
                view_id: view_id(4, 7),
                metadata: Bytes::from_static(b"md"),
                ..status(128, 5, Role::Candidate)
            }),
            "02 8001 05 01 00 01 01 61 01 0407 0000 02 6d64",
        ),
        (
            Message::Status(StatusReport {
                promise: Some(node("b", 9)),
                view_id: view_id(5, 3),
                ..status(2, 5, Role::Follower { master: node("b", 9), address: address("h:1") })
            }),
            "02 02 05 02 01 62 09 03 683a31 00 01 01 62 09 0503 0000 00",
        ),
        (Message::Status(status(u64::MAX, 3, Role::Master)), "02 ffffffffffffffffff01 03 03 00 00 0000 0000 00"),
        (Message::Status(status(4, 6, Role::Leaving)), "02 04 06 04 00 00 0000 0000 00"),
        (Message::Status(status(5, 7, Role::Solo { members: 300 })), "02 05 07 05 ac02 00 00 0000 0000 00"),
        (Message::JoinResponse(JoinResponse::Accepted { term: Term(5) }), "03 00 05"),
        (
            Message::JoinResponse(JoinResponse::Rejected { term: Term(5), reason: RejectReason::ClusterFull }),
            "03 01 05 06",
        ),
        (
            Message::MembersUpdate(MembersUpdate::Page {
                view_id: view_id(5, 2),
                index: 0,
                last: false,
                members: vec![
                    member("a", 1, "h:1", MemberState::Active, b""),
                    member("b", 300, "[::1]:80", MemberState::Suspect, b"md"),
                ],
            }),
            "04 00 0502 00 00 02 01 61 01 03 683a31 00 00 01 62 ac02 08 5b3a3a315d3a3830 01 02 6d64",
        ),
        (
            Message::MembersUpdate(MembersUpdate::Page {
                view_id: view_id(5, 2),
                index: 200,
                last: true,
                members: vec![],
            }),
            "04 00 0502 c801 01 00",
        ),
        (
            Message::MembersUpdate(MembersUpdate::Delta {
                base: view_id(4, 9),
                base_digest: Some(ViewDigest([7; 16])),
                view_id: view_id(5, 1),
                changes: vec![],
            }),
            "04 01 0409 01 07070707070707070707070707070707 0501 00",
        ),
        (
            Message::MembersUpdate(MembersUpdate::Delta {
                base: view_id(5, 2),
                base_digest: None,
                view_id: view_id(5, 5),
                changes: vec![
                    Change::Upsert(member("a", 1, "h:1", MemberState::Active, b"")),
                    Change::Remove { id: id("b"), reason: RemovalReason::Left },
                    Change::Remove { id: id("c"), reason: RemovalReason::Down },
                    Change::Remove { id: id("d"), reason: RemovalReason::Unknown },
                ],
            }),
            "04 01 0502 00 0505 04 00 01 61 01 03 683a31 00 00 01 01 62 00 01 01 63 01 01 01 64 02",
        ),
        (
            Message::VoteRequest(VoteRequest {
                term: Term(5),
                number: 7,
                lease: Duration::from_secs(1),
                electorate: Default::default(),
            }),
            "05 05 07 01 00 0000",
        ),
        (Message::Vote(Vote { term: Term(5), number: 7, granted: true }), "06 05 07 01"),
        (Message::Vote(Vote { term: Term(6), number: 7, granted: false }), "06 06 07 00"),
        (Message::Release(Release { term: Term(5) }), "07 05"),
        (Message::Heartbeat(Heartbeat { term: Term(5), number: 300, lease: lan }), "08 05 ac02 00 8084af5f"),
        (
            Message::HeartbeatAck(HeartbeatAck {
                term: Term(5),
                number: 300,
                view_id: view_id(5, 2),
                confirms: true,
                electorate: electorate_version(3, 7),
            }),
            "09 05 ac02 0502 01 0307",
        ),
        (
            Message::HeartbeatAck(HeartbeatAck {
                term: Term(5),
                number: 1,
                view_id: view_id(4, 9),
                confirms: false,
                electorate: Default::default(),
            }),
            "09 05 01 0409 00 0000",
        ),
        (Message::Ping, "0a"),
        (Message::LeaveAck, "0b"),
        (Message::Resign(Resign { term: Term(5) }), "0c 05"),
        (
            Message::Proof(Proof { mac: std::array::from_fn(|n| 0xe0 + n as u8) }),
            "0d e0e1e2e3e4e5e6e7e8e9eaebecedeeef f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
        ),
        (
            Message::Voucher(Voucher { nonce: std::array::from_fn(|n| 0xd0 + n as u8) }),
            "0e d0d1d2d3d4d5d6d7d8d9dadbdcdddedf",
        ),
        (Message::StreamAccepted, "0f"),
        (Message::Electorate(electorate(&["a:1", "b:1"], None)), "10 0307 02 03 613a31 03 623a31 00"),
        (
            Message::Electorate(electorate(&["a:1"], Some(&["a:1", "c:1"]))),
            "10 0307 01 03 613a31 01 02 03 613a31 03 633a31",
        ),
    ];
    let reasons = [
        (RejectReason::WrongCluster, "01 00 00"),
        (RejectReason::NoCommonProtocol, "01 01 00"),
        (RejectReason::ElectorateMismatch, "01 02 00"),
        (RejectReason::Superseded, "01 03 00"),
        (RejectReason::IdInUse, "01 04 00"),
        (RejectReason::AddressInUse, "01 05 00"),
        (RejectReason::ClusterFull, "01 06 00"),
        (RejectReason::MetadataTooLong, "01 07 00"),
        (RejectReason::KeyMismatch, "01 08 00"),
        (RejectReason::BadProof, "01 09 00"),
        (RejectReason::Unproven, "01 0a 00"),
        (RejectReason::Unresponsive, "01 0b 00"),
        (RejectReason::IdInView, "01 0c 00"),
        (RejectReason::NotAMember, "01 0d 00"),
        (RejectReason::UnknownStream, "01 0e 00"),
        (RejectReason::TooManyStreams, "01 0f 00"),
    ];
    all.extend(reasons.map(|(reason, body)| (Message::Rejected(Rejected { reason, holder: None }), body)));
    let holder = Some(Holder { node: node("b", 9), address: address("b:1") });
    let rejected = Rejected { reason: RejectReason::IdInUse, holder };
    all.push((Message::Rejected(rejected.clone()), "01 04 01 01 62 09 03 62 3a 31"));
    let rejected = Rejected { reason: RejectReason::IdInView, ..rejected };
    all.push((Message::Rejected(rejected), "01 0c 01 01 62 09 03 62 3a 31"));
    all
}

/// The index of each variant. There is no wildcard, so a new variant does not compile until it has a fixture.
fn variant(message: &Message) -> usize {
    match message {
        Message::Hello(_) => 0,
        Message::Rejected(_) => 1,
        Message::Status(_) => 2,
        Message::JoinResponse(_) => 3,
        Message::MembersUpdate(_) => 4,
        Message::VoteRequest(_) => 5,
        Message::Vote(_) => 6,
        Message::Release(_) => 7,
        Message::Heartbeat(_) => 8,
        Message::HeartbeatAck(_) => 9,
        Message::Ping => 10,
        Message::LeaveAck => 11,
        Message::Resign(_) => 12,
        Message::Proof(_) => 13,
        Message::Voucher(_) => 14,
        Message::StreamAccepted => 15,
        Message::Electorate(_) => 16,
    }
}

#[test]
fn every_message_encodes_to_its_fixture() {
    let mut together = BytesMut::new();
    let mut expected = Vec::new();
    for (message, body) in fixtures() {
        let body = hex(body);
        assert_eq!(usize::from(body[0]), variant(&message), "{message:?}");
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(body);
        assert_eq!(message.to_frame(), frame, "{message:?}");
        message.encode(&mut together);
        expected.extend(frame);
    }
    assert_eq!(together, expected, "frames are appended one after the other");
}

#[test]
fn every_fixture_decodes_to_its_message() {
    let mut seen = [false; 17];
    for (message, body) in fixtures() {
        seen[variant(&message)] = true;
        assert_eq!(Message::decode(&hex(body)), Ok(message), "{body}");
    }
    assert_eq!(seen, [true; 17], "a variant has no fixture");
}

#[test]
fn h1_a_truncated_or_extended_message_is_malformed() {
    for (message, body) in fixtures() {
        let body = hex(body);
        for end in 0..body.len() {
            assert_eq!(Message::decode(&body[..end]), Err(CloseReason::Malformed), "{message:?} cut at {end}");
        }
        for extra in [0x00, 0x0a, 0xff] {
            let longer = [&body[..], &[extra]].concat();
            assert_eq!(Message::decode(&longer), Err(CloseReason::Malformed), "{message:?} and {extra:02x}");
        }
    }
}

#[track_caller]
fn malformed(bodies: &[&str]) {
    for body in bodies {
        assert_eq!(Message::decode(&hex(body)), Err(CloseReason::Malformed), "{body}");
    }
}

#[test]
fn h1_h4_an_unknown_variant_is_malformed() {
    malformed(&[
        "10",                                           // message
        "ff",                                           // the start of a variant index
        "ffffffff0f",                                   // the largest variant index
        "01 10",                                        // reject reason
        "02 01 00 05 01 00 0000 00",                    // role
        "03 02 05",                                     // join response
        "03 01 05 10",                                  // reject reason in a join response
        "04 02 0502 00 01 00",                          // members update
        "04 00 0502 00 01 01 01 61 01 03 683a31 02 00", // member state
        "04 01 0502 0503 01 02 01 62 00",               // change
        "04 01 0502 0503 01 01 01 62 02",               // removal reason
    ]);
}

#[test]
fn h1_a_field_out_of_range_is_malformed() {
    malformed(&[
        "06 05 07 02",                                 // a bool that is neither 0 nor 1
        "02 01 00 00 01 02 0000 00",                   // an option that is neither 0 nor 1
        "07 ffffffffffffffffff02",                     // a term over 64 bits
        "07 ffffffffffffffffffff01",                   // a term of eleven bytes
        "08 05 01 ffffffffffffffffff01 8094ebdc03",    // a duration that overflows by its nanoseconds
        "04 00 0502 00 01 ffffffffffffffffff01",       // more members than bytes
        "02 01 00 00 01 00 0000 ffffffffffffffffff01", // metadata longer than the frame
        "04 01 0502 0503 01 01 01 ff 00",              // an id that is not UTF-8
        "04 01 0502 0503 01 01 00 00",                 // an empty id
    ]);
    let mut long = hex("04 01 0502 0503 01 01 41");
    long.extend([b'x'; 65]);
    long.push(0);
    assert_eq!(Message::decode(&long), Err(CloseReason::Malformed), "an id of 65 bytes");

    let (before, after) = ("00 46524d4e 01 ac02", "000102030405060708090a0b0c0d0e0f 06 6e6f64652d61 ac02");
    let end = "0e 612e6578616d706c653a37303030 f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff 02 beef";
    assert!(Message::decode(&hex(&format!("{before} 04 70726f64 {after} {end}"))).is_ok());
    malformed(&[&format!("{before} 00 {after} {end}")]); // an empty cluster
}

#[test]
fn an_address_not_in_its_normal_form_is_malformed() {
    let following = |address: &str| format!("02 02 05 02 01 62 09 {address} 00 00 0503 0000 00");
    let listed = |address: &str| format!("04 00 0502 00 01 01 01 61 01 {address} 00 00");
    for place in [following, listed] {
        assert!(Message::decode(&hex(&place("03 683a31"))).is_ok(), "h:1");
        malformed(&[
            &place("03 483a31"),   // H:1
            &place("04 683a3120"), // h:1 and a blank
            &place("04 20683a31"), // a blank and h:1
            &place("01 68"),       // h
            &place("03 683a30"),   // h:0
            &place("00"),          // nothing
        ]);
    }
}

fn longest_name() -> String {
    "n".repeat(64)
}

fn longest_address() -> Address {
    address(&format!("{}:65535", "h".repeat(253)))
}

fn longest_node() -> Node {
    node(&longest_name(), u64::MAX)
}

#[test]
fn h1_the_largest_hello_fits_into_the_first_frame() {
    let largest = |extensions: usize| {
        let hello = Hello {
            protocol: ProtocolRange { min: u16::MAX, max: u16::MAX },
            cluster: cluster(&longest_name()),
            id: longest_node().id,
            incarnation: longest_node().incarnation,
            address: longest_address(),
            extensions: vec![0; extensions].into(),
            ..hello()
        };
        Message::Hello(hello).to_frame().len() - 4
    };
    // The minimum of `frame_before_handshake` in a configuration, and its default.
    assert_eq!((largest(0), largest(194), largest(578)), (445, 640, 1024));
}

#[test]
fn the_largest_status_and_member_fit_beside_their_metadata() {
    let metadata = Bytes::from(vec![7; 64_512]);
    let status = StatusReport {
        promise: Some(longest_node()),
        view_id: view_id(u64::MAX, u64::MAX),
        metadata: metadata.clone(),
        ..status(u64::MAX, u64::MAX, Role::Follower { master: longest_node(), address: longest_address() })
    };
    assert!(Message::Status(status).to_frame().len() <= metadata.len() + 1024);
    let member = Member::new(longest_node(), longest_address()).with_state(MemberState::Suspect);
    let member = member.with_metadata(metadata.clone());
    let far = view_id(u64::MAX, u64::MAX);
    for update in [
        MembersUpdate::Page { view_id: far, index: u32::MAX, last: true, members: vec![member.clone()] },
        MembersUpdate::Delta {
            base: far,
            base_digest: Some(ViewDigest([7; 16])),
            view_id: far,
            changes: vec![Change::Upsert(member)],
        },
    ] {
        assert!(Message::MembersUpdate(update).to_frame().len() <= metadata.len() + 1024);
    }
}
