//! The promises of the public types: those that may grow are `#[non_exhaustive]`, and what a service may show can be serialized.

use std::collections::BTreeSet;

use crate::examples::{SOURCES, sources, words};

/// Public types whose fields or variants are complete, each group with its reason.
const COMPLETE: [(&str, &str); 3] = [
    (
        "a message never changes: new facts need a new message and a new protocol version",
        "Message ProtocolRange Hello Rejected Holder StatusReport Role JoinResponse MembersUpdate VoteRequest Vote Voting Release \
         Heartbeat HeartbeatAck Resign Proof Voucher",
    ),
    (
        "a value is what its parts are, and services write it down",
        "Incarnation Node Term ViewId ConnId DialId ElectorateDigest ViewDigest",
    ),
    (
        "who matches it has to handle everything: code that passes over a new variant would be wrong, and must not compile",
        "Output Origin Change Severity RecvError",
    ),
];

/// Public types that cannot be serialized, each group with its reason.
const NOT_SERIALIZED: [(&str, &str); 3] = [
    (
        "an error is shown as its text",
        "ConfigError IdError MetadataError Misuse ResumeError CommandError LeaveError Part RecvError StartError Stopped StoreError \
         TlsError",
    ),
    (
        "it is a part of a running program",
        "Formation Members Clock ClusterHandle Credentials Environment Events Guard LeadershipChange LeadershipWatch Lease \
         MemoryStore Opening Store Tls TlsConfig Watch",
    ),
    ("it is a secret", "ClusterKey"),
];

/// A public structure or enum, as its source declares it.
#[derive(Debug, Default)]
struct Type {
    name: String,
    attributes: String,
    /// Users can make one, or match all of it, unless it is `#[non_exhaustive]`.
    is_open: bool,
}

impl Type {
    fn has(&self, attribute: &str) -> bool {
        words(&self.attributes).any(|word| word == attribute)
    }
}

/// The public types of a source, without those that are hidden from users.
fn types(source: &str) -> Vec<Type> {
    let (mut types, mut attributes): (Vec<Type>, _) = (Vec::new(), String::new());
    // In a structure with fields, which are named in the lines after its own.
    let mut is_inside = false;
    let mut is_attribute = false;
    for line in source.lines().take_while(|line| *line != "#[cfg(test)]") {
        if is_attribute || line.starts_with("#[") {
            attributes.push_str(line);
            is_attribute = !line.ends_with(']');
            continue;
        }
        if let (true, Some(open)) = (is_inside && line.starts_with("    pub "), types.last_mut()) {
            open.is_open = true;
        }
        is_inside &= line != "}";
        if line.starts_with("//") {
            continue;
        }
        let attributes = std::mem::take(&mut attributes);
        let Some((kind @ ("struct" | "enum"), rest)) = line.strip_prefix("pub ").and_then(|item| item.split_once(' '))
        else {
            continue;
        };
        is_inside = kind == "struct" && line.ends_with('{');
        let is_open = kind == "enum" || rest.contains("(pub ");
        let name = words(rest).next().unwrap();
        types.push(Type { name, attributes, is_open });
    }
    types.retain(|it| !it.has("hidden"));
    types
}

fn listed(list: &[(&str, &str)]) -> BTreeSet<String> {
    list.iter().flat_map(|(_, names)| words(names)).filter(|name| !name.is_empty()).collect()
}

fn assert_listed(found: &BTreeSet<String>, list: &[(&str, &str)], remedy: &str) {
    let listed = listed(list);
    let new: Vec<_> = found.difference(&listed).collect();
    assert!(new.is_empty(), "{remedy}, or give a reason here: {new:?}");
    let old: Vec<_> = listed.difference(found).collect();
    assert!(old.is_empty(), "these need no exception: {old:?}");
}

/// In a message of the wire, an attribute would only make the tests longer.
#[test]
fn every_public_type_that_may_grow_is_non_exhaustive() {
    let all: Vec<Type> = sources(&SOURCES).iter().flat_map(|source| types(source)).collect();
    assert!(all.len() > 100 && all.iter().any(|it| it.name == "Timing" && it.is_open), "{all:#?}");
    let exhaustive = all.iter().filter(|it| it.is_open && !it.has("non_exhaustive"));
    let exhaustive = exhaustive.map(|it| it.name.clone()).collect();
    assert_listed(&exhaustive, &COMPLETE, "make these #[non_exhaustive]");
}

#[test]
fn what_a_service_may_show_can_be_serialized() {
    let sources = sources(&["core/src", "core/host/src"]);
    let all = sources.iter().flat_map(|source| types(source));
    let by_hand = |it: &Type| sources.iter().any(|source| source.contains(&format!("Serialize for {} ", it.name)));
    let missing = all.filter(|it| !it.has("Serialize") && !by_hand(it)).map(|it| it.name).collect();
    assert_listed(&missing, &NOT_SERIALIZED, "derive Serialize");
}

#[test]
fn a_type_is_read_with_its_attributes_and_fields() {
    let source = "#[derive(Debug)]\n#[non_exhaustive]\npub struct A {\n    /// Text.\n    pub a: u8,\n}\n\n#[derive(\n    Debug,\n)]\npub \
                  struct B(u8);\npub struct C(pub u8);\npub struct D {\n    d: u8,\n}\nimpl D {\n    pub fn d() {}\n}\npub enum E {\n}\n";
    let read = |it: Type| (it.name.clone(), it.is_open, it.has("non_exhaustive"), it.has("Debug"));
    let read: Vec<_> = types(source).into_iter().map(read).collect();
    let expected = [("A", true, true, true), ("B", false, false, true), ("C", true, false, false)];
    let expected = expected.into_iter().chain([("D", false, false, false), ("E", true, false, false)]);
    assert!(read.iter().map(|(name, a, b, c)| (name.as_str(), *a, *b, *c)).eq(expected), "{read:?}");
}
