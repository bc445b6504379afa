//! The promises of the public types: those that may grow are `#[non_exhaustive]`, and what a service may show can be serialized.

use crate::{
    api::{self, Api, Kind, LIBRARIES},
    assert_listed,
};

/// Public types whose fields or variants are complete, each group with its reason.
const COMPLETE: [(&str, &str); 3] = [
    (
        "a message never changes: new facts need a new message and a new protocol version",
        "Message ProtocolRange Hello Rejected Holder StatusReport Role JoinResponse MembersUpdate VoteRequest Vote Voting Release \
         Heartbeat HeartbeatAck Resign Proof Voucher",
    ),
    (
        "a value is what its parts are, and services write it down",
        "ElectorateVersion Incarnation Node Term ViewId ConnId DialId StreamId ElectorateDigest ViewDigest",
    ),
    (
        "who matches it has to handle everything: code that passes over a new variant would be wrong, and must not compile",
        "Output Origin Change Severity RecvError Request",
    ),
];

/// Public types that cannot be serialized, each group with its reason.
const NOT_SERIALIZED: [(&str, &str); 3] = [
    (
        "an error is shown as its text",
        "ConfigError IdError IncomingError MetadataError Misuse OpenError ResumeError CommandError LeaveError Part RecvError ReplayError \
         SnapshotError SourceError StartError Stopped StoreError TlsError VotersError",
    ),
    (
        "it is a part of a running program",
        "Formation Members Clock ClusterHandle Credentials Environment Events Guard Handoff Incoming LeadershipChange LeadershipWatch Lease \
         MemoryStore NameServers Opening Recorder Replay Source Store StreamPeer Streams Tls TlsConfig Watch",
    ),
    ("it is a secret", "ClusterKey"),
];

/// In a message of the wire, an attribute would only make the tests longer.
#[test]
fn every_public_type_that_may_grow_is_non_exhaustive() {
    let api = api::of(&LIBRARIES);
    let types: Vec<_> = api.items.iter().filter(|it| it.kind == Kind::Data).collect();
    assert!(types.len() > 100 && types.iter().any(|it| it.name == "Timing" && it.is_open), "{types:#?}");
    let exhaustive = types.iter().filter(|it| it.is_open && !it.has("non_exhaustive"));
    let exhaustive = exhaustive.map(|it| it.name.clone()).collect();
    assert_listed(&exhaustive, &COMPLETE, "make these #[non_exhaustive]");
}

#[test]
fn what_a_service_may_show_can_be_serialized() {
    let api = api::of(&["core/src", "core/host/src"]);
    let missing = api.items.iter().filter(|it| it.kind == Kind::Data && !api.has_trait(it, "Serialize"));
    let missing = missing.map(|it| it.name.clone()).collect();
    assert_listed(&missing, &NOT_SERIALIZED, "derive Serialize");
}

#[test]
fn a_type_is_read_with_its_attributes_and_fields() {
    let source = "#[derive(Debug)]\n#[non_exhaustive]\npub struct A {\n    /// Text.\n    pub a: u8,\n}\n\n#[derive(\n    Debug,\n)]\npub \
                  struct B(u8);\npub struct C(pub u8);\npub struct D {\n    d: u8,\n}\nimpl D {\n    pub fn d() {}\n}\npub enum E {\n}\n\
                  #[doc(hidden)]\npub struct F;\nimpl Debug for C {}\n";
    let mut api = Api::default();
    api.read("here", source).unwrap();
    let types = api.items.iter().filter(|it| it.kind == Kind::Data);
    let read = |it: &api::Item| (it.name.clone(), it.is_open, it.has("non_exhaustive"), api.has_trait(it, "Debug"));
    let read: Vec<_> = types.map(read).collect();
    let expected = [("A", true, true, true), ("B", false, false, true), ("C", true, false, true)];
    let expected = expected.into_iter().chain([("D", false, false, false), ("E", true, false, false)]);
    assert!(read.iter().map(|(name, a, b, c)| (name.as_str(), *a, *b, *c)).eq(expected), "{read:?}");
}
