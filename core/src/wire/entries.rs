//! The entries of a view as they are on the wire. A view has many, so their names are read as bytes and checked once, as names, and
//! written without a check. The format is that of the derived implementations: a text is written as its bytes are.

use alloc::vec::Vec;
use core::{fmt, marker::PhantomData};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    id::{Incarnation, Node, NodeId},
    membership::view::{Change, Member, MemberState, RemovalReason},
};

/// No list takes more memory than this in advance, whatever its length claims.
const MOST: usize = 1 << 20;

struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self.0)
    }
}

/// A member to be written.
#[derive(Serialize)]
pub(crate) struct MemberOut<'a> {
    id: Raw<'a>,
    incarnation: Incarnation,
    address: Raw<'a>,
    state: MemberState,
    metadata: Raw<'a>,
}

impl<'a> MemberOut<'a> {
    pub(crate) fn of(member: &'a Member) -> Self {
        Self {
            id: Raw(member.node.id.as_bytes()),
            incarnation: member.node.incarnation,
            address: Raw(member.address.as_bytes()),
            state: member.state,
            metadata: Raw(&member.metadata),
        }
    }
}

#[derive(Serialize)]
enum ChangeOut<'a> {
    Upsert(MemberOut<'a>),
    Remove { id: Raw<'a>, reason: RemovalReason },
}

impl<'a> ChangeOut<'a> {
    fn of(change: &'a Change) -> Self {
        match change {
            Change::Upsert(member) => Self::Upsert(MemberOut::of(member)),
            Change::Remove { id, reason } => Self::Remove { id: Raw(id.as_bytes()), reason: *reason },
        }
    }
}

/// A member that is read.
#[derive(Deserialize)]
struct MemberIn<'a> {
    id: &'a [u8],
    incarnation: Incarnation,
    address: &'a [u8],
    state: MemberState,
    metadata: &'a [u8],
}

#[derive(Deserialize)]
enum ChangeIn<'a> {
    Upsert(#[serde(borrow)] MemberIn<'a>),
    Remove { id: &'a [u8], reason: RemovalReason },
}

/// An entry of a list that is read.
trait Entry {
    type Entry;

    fn checked<E: de::Error>(self) -> Result<Self::Entry, E>;
}

impl Entry for MemberIn<'_> {
    type Entry = Member;

    fn checked<E: de::Error>(self) -> Result<Member, E> {
        let (id, address) = NodeId::with_address_from_wire(self.id, self.address)?;
        let node = Node { id, incarnation: self.incarnation };
        let metadata = if self.metadata.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(self.metadata) };
        Ok(Member { node, address, state: self.state, metadata })
    }
}

impl Entry for ChangeIn<'_> {
    type Entry = Change;

    fn checked<E: de::Error>(self) -> Result<Change, E> {
        Ok(match self {
            Self::Upsert(member) => Change::Upsert(member.checked()?),
            Self::Remove { id, reason } => Change::Remove { id: NodeId::from_wire(id)?, reason },
        })
    }
}

/// Reads a list.
struct List<T>(PhantomData<T>);

impl<'de, T: Entry + Deserialize<'de>> de::Visitor<'de> for List<T> {
    type Value = Vec<T::Entry>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the entries of a view")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T::Entry>, A::Error> {
        let claimed = list.size_hint().unwrap_or_default();
        let mut entries = Vec::with_capacity(claimed.min(MOST / size_of::<T::Entry>()));
        while let Some(entry) = list.next_element::<T>()? {
            entries.push(entry.checked()?);
        }
        Ok(entries)
    }
}

/// A list of members, for `#[serde(with)]`.
pub(super) mod members {
    use super::{
        Deserialize, Deserializer, List, Member, MemberIn, MemberOut, PhantomData, Serialize, Serializer, Vec,
    };

    pub(crate) fn serialize<S: Serializer>(members: &[Member], to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { members.serialize(to) } else { to.collect_seq(members.iter().map(MemberOut::of)) }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Member>, D::Error> {
        if from.is_human_readable() {
            return Vec::deserialize(from);
        }
        from.deserialize_seq(List::<MemberIn<'de>>(PhantomData))
    }
}

/// A list of changes, for `#[serde(with)]`.
pub(super) mod changes {
    use super::{
        Change, ChangeIn, ChangeOut, Deserialize, Deserializer, List, PhantomData, Serialize, Serializer, Vec,
    };

    pub(crate) fn serialize<S: Serializer>(changes: &[Change], to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { changes.serialize(to) } else { to.collect_seq(changes.iter().map(ChangeOut::of)) }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Change>, D::Error> {
        if from.is_human_readable() {
            return Vec::deserialize(from);
        }
        from.deserialize_seq(List::<ChangeIn<'de>>(PhantomData))
    }
}

/// Members to be written that somebody else has.
pub(crate) struct MembersOut<'a>(pub(crate) &'a [&'a Member]);

impl Serialize for MembersOut<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(|member| MemberOut::of(member)))
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::String, vec};

    use super::*;
    use crate::{
        id::{Address, ViewId},
        wire::message::{MembersUpdate, Message},
    };

    fn members() -> Vec<Member> {
        let ids = ["a", "node-ä", "6f1c2a34-9b7d-4e21-8f05-0123456789ab", &"x".repeat(64)].map(String::from);
        let addresses = ["h:1", "10.0.0.1:7000", "[2001:db8::1]:65535", &alloc::format!("{}:1", "h".repeat(257))];
        let address = addresses.map(|address| Address::new(address).unwrap());
        let member = |(id, address): (&String, &Address)| {
            let node = Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(u64::MAX) };
            let state = if id.len() > 10 { MemberState::Suspect } else { MemberState::Active };
            Member { node, address: address.clone(), state, metadata: vec![7; id.len() - 1].into() }
        };
        ids.iter().flat_map(|id| address.iter().map(move |address| (id, address))).map(member).collect()
    }

    fn changes() -> Vec<Change> {
        let members = members();
        let removed = |member: &Member| {
            let reasons = [RemovalReason::Left, RemovalReason::Down, RemovalReason::Unknown];
            reasons.map(|reason| Change::Remove { id: member.node.id.clone(), reason })
        };
        let removed: Vec<Change> = members.iter().flat_map(removed).collect();
        members.into_iter().map(Change::Upsert).chain(removed).collect()
    }

    fn page(members: Vec<Member>) -> MembersUpdate {
        MembersUpdate::Page { view_id: ViewId::default(), index: 300, last: true, members }
    }

    fn delta(changes: Vec<Change>) -> MembersUpdate {
        MembersUpdate::Delta { base: ViewId::default(), base_digest: None, view_id: ViewId::default(), changes }
    }

    /// The output of the derived implementations, behind a message with an empty list.
    fn derived(empty: MembersUpdate, list: &impl Serialize) -> Vec<u8> {
        let mut expected = postcard::to_allocvec(&Message::MembersUpdate(empty)).unwrap();
        assert_eq!(expected.pop(), Some(0), "the length of the list is the last byte");
        expected.extend(postcard::to_allocvec(list).unwrap());
        expected
    }

    #[test]
    fn entries_have_the_format_of_their_types() {
        for (update, expected) in [
            (page(members()), derived(page(vec![]), &members())),
            (delta(changes()), derived(delta(vec![]), &changes())),
        ] {
            let message = Message::MembersUpdate(update);
            assert_eq!(postcard::to_allocvec(&message).unwrap(), expected);
            assert_eq!(Message::decode(&expected), Ok(message.clone()));
            let text = serde_json::to_string(&message).unwrap();
            assert_eq!(serde_json::from_str::<Message>(&text).unwrap(), message);
        }
        let (all, mut frame) = (members(), bytes::BytesMut::new());
        Message::encode_page((ViewId::default(), 300, true), &all.iter().collect::<Vec<_>>(), &mut frame);
        assert_eq!(frame.freeze(), Message::MembersUpdate(page(all)).to_frame());
    }

    #[test]
    fn a_name_in_another_spelling_is_no_entry() {
        let good = members().remove(0);
        for (id, address, is_good) in [
            (&b"a"[..], &b"h:1"[..], true),
            (b"b", b"10.0.0.1:1", true),
            (b"", b"h:1", false),
            (b" a", b"h:1", false),
            (b"a\xff", b"h:1", false),
            (b"a\n", b"h:1", false),
            (&[b'x'; 65], b"h:1", false),
            (b"a", b"", false),
            (b"a", b"H:1", false),
            (b"a", b"h:01", false),
            (b"a", b"h\xff:1", false),
            (b"a", b"[0:0::1]:1", false),
            (b"a", b"10.0.0.01:1", false),
        ] {
            let entry = MemberOut { id: Raw(id), address: Raw(address), ..MemberOut::of(&good) };
            let member = derived(page(vec![]), &vec![&entry]);
            let change = derived(delta(vec![]), &vec![ChangeOut::Upsert(entry)]);
            let removal = derived(delta(vec![]), &vec![ChangeOut::Remove { id: Raw(id), reason: RemovalReason::Left }]);
            let [member, change, removal] = [member, change, removal].map(|bytes| Message::decode(&bytes).is_ok());
            let is_good_id = is_good || (address != b"h:1" && id == b"a");
            assert_eq!((member, change, removal), (is_good, is_good, is_good_id), "{id:?} {address:?}");
        }
    }

    /// A length that the bytes cannot have costs no memory.
    #[test]
    fn a_list_that_claims_to_be_long_is_an_error() {
        let mut claimed = derived(page(vec![]), &members());
        let length = postcard::to_allocvec(&u64::MAX).unwrap();
        let list = postcard::to_allocvec(&members()).unwrap().len();
        claimed.splice(claimed.len() - list..claimed.len() - list + 1, length);
        assert!(Message::decode(&claimed).is_err());
    }
}
