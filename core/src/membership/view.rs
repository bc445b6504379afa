//! The view: the list of members (PROTOCOL.md, section 6).

use alloc::{collections::BTreeSet, vec::Vec};
use core::{borrow::Borrow, cmp::Ordering, fmt};

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned, ser::SerializeStruct};
use sha2::{Digest, Sha256};

use crate::{
    id::{Address, Node, NodeId, ViewDigest, ViewId},
    membership::roster::Roster,
    metadata::{self, MetadataError, Tags, readable},
    wire::entries::MemberOut,
};

pub use crate::membership::roster::Members;

/// One member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Member {
    /// The node.
    pub node: Node,
    /// The address at which other nodes dial it.
    pub address: Address,
    /// Whether it answers the master.
    pub state: MemberState,
    /// The metadata that the node has set. Formation does not interpret it. In formats for people, such as JSON, it is a text if it
    /// is UTF-8, and a list of bytes otherwise.
    #[serde(with = "readable")]
    pub metadata: Bytes,
}

impl Member {
    /// The metadata as a value that the node has set with [`ConfigBuilder::metadata_as`](crate::ConfigBuilder::metadata_as) or
    /// `set_metadata_as`. The type has to be the same, or its fields and variants in the same order. A member may have been set up by
    /// another version of the service, so an error is no reason to give up.
    ///
    /// ```
    /// use formation_core::Member;
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Worker {
    ///     rack: u16,
    /// }
    ///
    /// fn rack_of(member: &Member) -> Option<u16> {
    ///     member.metadata_as::<Worker>().ok().map(|worker| worker.rack)
    /// }
    /// ```
    ///
    /// # Errors
    /// [`MetadataError::Decode`] if the metadata is not a value of the type.
    pub fn metadata_as<T: DeserializeOwned>(&self) -> Result<T, MetadataError> {
        metadata::decode(&self.metadata)
    }

    /// The metadata as [`Tags`].
    ///
    /// ```
    /// fn zone_of(member: &formation_core::Member) -> Option<String> {
    ///     member.tags().ok()?.get("zone").map(str::to_owned)
    /// }
    /// ```
    ///
    /// # Errors
    /// [`MetadataError`] if the metadata is something else.
    pub fn tags(&self) -> Result<Tags, MetadataError> {
        Tags::from_bytes(&self.metadata)
    }

    /// An upper bound of the size on the wire, in bytes.
    pub(crate) fn wire_size(&self) -> usize {
        self.node.id.as_bytes().len() + self.address.as_bytes().len() + self.metadata.len() + 20
    }
}

/// Whether a member answers the master (PROTOCOL.md, V3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MemberState {
    /// It answers.
    Active,
    /// It has been silent for [`suspect_after`](crate::Timing::suspect_after), or its link has closed. It becomes active
    /// again when it answers, and is removed after [`down_after`](crate::Timing::down_after).
    Suspect,
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Suspect => "suspect",
        })
    }
}

impl MemberState {
    /// Whether the member answers.
    ///
    /// ```
    /// use formation_core::MemberState;
    ///
    /// assert!(MemberState::Active.is_active() && !MemberState::Suspect.is_active());
    /// ```
    pub fn is_active(self) -> bool {
        match self {
            Self::Active => true,
            Self::Suspect => false,
        }
    }
}

/// One change of a view.
///
/// ```
/// use formation_core::{Change, RemovalReason};
///
/// fn show(change: &Change) {
///     match change {
///         Change::Upsert(member) => println!("{} is {}", member.node, member.state),
///         Change::Remove { id, reason: RemovalReason::Left } => println!("{id} has said goodbye"),
///         Change::Remove { id, reason } => println!("{id} may still run: {reason}"),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Change {
    /// The member is new, or has changed.
    Upsert(Member),
    /// The member was removed.
    Remove {
        /// The id of the member.
        id: NodeId,
        /// The reason.
        reason: RemovalReason,
    },
}

impl Change {
    /// The id of the member that has changed.
    pub fn id(&self) -> &NodeId {
        match self {
            Self::Upsert(member) => &member.node.id,
            Self::Remove { id, .. } => id,
        }
    }

    /// The member that is new, or has changed.
    pub(crate) fn member(&self) -> Option<&Member> {
        match self {
            Self::Upsert(member) => Some(member),
            Self::Remove { .. } => None,
        }
    }

    /// An upper bound of the size on the wire, in bytes.
    pub(crate) fn wire_size(&self) -> usize {
        match self {
            Self::Upsert(member) => 1 + member.wire_size(),
            Self::Remove { id, .. } => 4 + id.as_bytes().len(),
        }
    }
}

/// Why a member was removed. A member that a newer run of its node replaces is not removed: a [`Change::Upsert`] carries the new
/// incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum RemovalReason {
    /// It has reported that it leaves. This is known.
    #[error("left")]
    Left,
    /// The master has received no acknowledgement of it for [`down_after`](crate::Timing::down_after). This is the master's guess: the
    /// node may have ended, or only be slow or cut off, and may still run.
    #[error("silent for down_after")]
    Down,
    /// This node does not know the reason (L6): the member is missing from a snapshot, and has not reported to this node that it
    /// leaves. The master knew it, and may be gone. So the node may still run.
    #[error("reason unknown")]
    Unknown,
}

/// A view: the members of the cluster at one view id. It never changes. Cloning it is cheap.
///
/// ```
/// use formation_core::{MembersView, ViewId};
///
/// let view = MembersView::default();
/// assert!(view.is_empty() && view.id() == ViewId::default(), "it is empty before the first one");
/// let active = view.iter().filter(|member| member.state.is_active()).count();
/// println!("{active} of {} members answer, in view {}", view.len(), view.id());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MembersView {
    view_id: ViewId,
    members: Roster,
}

impl MembersView {
    /// The id of this view. It is `ViewId::default()` until the node has been a member.
    pub fn id(&self) -> ViewId {
        self.view_id
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no member. This is so before the first view.
    pub fn is_empty(&self) -> bool {
        self.members.len() == 0
    }

    /// The member with this id, a [`NodeId`] or its text.
    ///
    /// ```
    /// use formation_core::{MembersView, NodeId};
    ///
    /// let view = MembersView::default();
    /// assert_eq!(view.get("node-a"), None);
    /// assert_eq!(view.get(&NodeId::new("node-a")?), None);
    /// # Ok::<(), formation_core::IdError>(())
    /// ```
    pub fn get<Q: Ord + ?Sized>(&self, id: &Q) -> Option<&Member>
    where
        NodeId: Borrow<Q>,
    {
        self.members.get(id)
    }

    /// The members, in the order of their ids.
    pub fn iter(&self) -> Members<'_> {
        self.members.iter()
    }

    /// The members that have this [tag](Tags), in the order of their ids. A member whose metadata is not tags has none.
    ///
    /// ```
    /// # let view = formation_core::MembersView::default();
    /// for worker in view.with_tag("role", "worker") {
    ///     println!("{} at {}", worker.node.id, worker.address);
    /// }
    /// ```
    pub fn with_tag(&self, key: &str, value: &str) -> impl Iterator<Item = &Member> {
        self.iter().filter(move |member| metadata::has_tag(&member.metadata, key, value))
    }

    /// The digest of the members. Two views with the same digest have the same members.
    ///
    /// # Panics
    /// If a member cannot be encoded. No value of its type causes this.
    ///
    /// ```
    /// use formation_core::{MembersView, ViewDigest};
    ///
    /// // Whether two nodes have the same members.
    /// fn same(view: &MembersView, of_another_node: ViewDigest) -> bool {
    ///     view.digest() == of_another_node
    /// }
    /// ```
    pub fn digest(&self) -> ViewDigest {
        let mut digest = Hasher(Sha256::new());
        for member in self.iter() {
            digest = postcard::serialize_with_flavor(&MemberOut::of(member), digest)
                .expect("a member of plain data always encodes");
        }
        let digest: [u8; 32] = digest.0.finalize().into();
        ViewDigest(core::array::from_fn(|at| digest[at]))
    }

    pub(crate) fn new(view_id: ViewId, members: impl IntoIterator<Item = Member>) -> Self {
        Self { view_id, members: Roster::new(members) }
    }

    /// Turns this view into the view `view_id`. Returns exactly what differs then: a master merges the changes of several views, so
    /// a change may have been undone, or may remove a member that came and went in between.
    pub(crate) fn apply(&mut self, view_id: ViewId, changes: Vec<Change>) -> Vec<Change> {
        self.view_id = view_id;
        self.members.apply(changes)
    }

    /// The changes that turn this view into `next`. A member that is missing there has left if it is one of the `leavers`.
    /// Otherwise nobody has told why (PROTOCOL.md, L6).
    pub(crate) fn changes_to(&self, next: &Self, leavers: &BTreeSet<Node>) -> Vec<Change> {
        let (mut changes, mut new) = (Vec::new(), Vec::new());
        let missing = |member: &Member| {
            let reason = if leavers.contains(&member.node) { RemovalReason::Left } else { RemovalReason::Unknown };
            Change::Remove { id: member.node.id.clone(), reason }
        };
        let mut known = self.iter().peekable();
        for member in next {
            let is_known = loop {
                match known.peek().map(|known| known.node.id.cmp(&member.node.id)) {
                    Some(Ordering::Less) => changes.extend(known.next().map(missing)),
                    Some(Ordering::Equal) => break known.next() == Some(member),
                    Some(Ordering::Greater) | None => break false,
                }
            };
            if !is_known {
                new.push(Change::Upsert(member.clone()));
            }
        }
        changes.extend(known.map(missing));
        changes.append(&mut new);
        changes
    }
}

/// The short form for people: the id of the view, and how many members it has. `3.12 (5 members, 1 suspect)`
impl fmt::Display for MembersView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.len() == 1 { "" } else { "s" };
        write!(f, "{} ({} member{plural}", self.view_id, self.len())?;
        match self.iter().filter(|member| !member.state.is_active()).count() {
            0 => f.write_str(")"),
            suspect => write!(f, ", {suspect} suspect)"),
        }
    }
}

/// A structure of `view_id` and `members`, which is a list in the order of the ids.
impl Serialize for MembersView {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let members: Vec<&Member> = self.iter().collect();
        let mut view = to.serialize_struct("MembersView", 2)?;
        view.serialize_field("view_id", &self.view_id)?;
        view.serialize_field("members", &members)?;
        view.end()
    }
}

impl<'a> IntoIterator for &'a MembersView {
    type Item = &'a Member;
    type IntoIter = Members<'a>;

    fn into_iter(self) -> Members<'a> {
        self.iter()
    }
}

/// Hashes what is encoded.
struct Hasher(Sha256);

impl postcard::ser_flavors::Flavor for Hasher {
    type Output = Self;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.update([byte]);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.update(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Self> {
        Ok(self)
    }
}

/// A view in a snapshot of its node.
#[cfg(feature = "snapshot")]
pub(super) mod stored {
    use alloc::vec::Vec;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Member, MembersView, Roster};

    pub(in crate::membership) fn serialize<S: Serializer>(view: &MembersView, to: S) -> Result<S::Ok, S::Error> {
        (view.view_id, view.iter().collect::<Vec<_>>()).serialize(to)
    }

    pub(in crate::membership) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<MembersView, D::Error> {
        let (view_id, members) = <(_, Vec<Member>)>::deserialize(from)?;
        Ok(MembersView { view_id, members: Roster::new(members) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::Incarnation, rng::Rng};

    #[test]
    fn v9_the_digest_covers_every_field_and_not_the_view_id() {
        let member = |id: &str| Member {
            node: Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(1) },
            address: Address::new(alloc::format!("{id}:1")).unwrap(),
            state: MemberState::Active,
            metadata: Bytes::new(),
        };
        let digest = |members: Vec<Member>| MembersView::new(ViewId::default(), members).digest();
        let (a, b) = (member("a"), member("b"));
        let known = digest(alloc::vec![a.clone(), b.clone()]);
        assert_eq!(known, digest(alloc::vec![b.clone(), a.clone()]));
        let later = ViewId { version: 7, ..ViewId::default() };
        assert_eq!(known, MembersView::new(later, [a.clone(), b.clone()]).digest());
        let newer = Node { incarnation: Incarnation(2), ..b.node.clone() };
        for other in [
            Member { node: newer, ..b.clone() },
            Member { address: a.address.clone(), ..b.clone() },
            Member { state: MemberState::Suspect, ..b.clone() },
            Member { metadata: Bytes::from_static(b"x"), ..b },
            member("c"),
        ] {
            assert_ne!(known, digest(alloc::vec![a.clone(), other]));
        }
        assert_ne!(known, digest(alloc::vec![a]));
        // It must never change: nodes compare it.
        assert_eq!(alloc::format!("{known:?}"), "718e944f77113c157e18b545994e2ddb");
    }

    #[test]
    fn the_changes_to_a_view_lead_to_it_and_removals_come_first() {
        let mut rng = Rng::new(1);
        let mut view = || {
            let ids = (0..100).filter(|_| rng.up_to(2) == 0).collect::<Vec<_>>();
            let member = |ix: u64| Member {
                node: Node {
                    id: NodeId::new(alloc::format!("n{ix:02}")).unwrap(),
                    incarnation: Incarnation(rng.up_to(1)),
                },
                address: Address::new("h:1").unwrap(),
                state: MemberState::Active,
                metadata: Bytes::new(),
            };
            MembersView::new(ViewId::default(), ids.into_iter().map(member))
        };
        for _ in 0..50 {
            let (mut known, next) = (view(), view());
            let leavers: BTreeSet<Node> = known.iter().take(20).map(|member| member.node.clone()).collect();
            let removed = known.iter().filter(|member| next.get(&member.node.id).is_none());
            let reason = |member: &Member| match leavers.contains(&member.node) {
                true => RemovalReason::Left,
                false => RemovalReason::Unknown,
            };
            let removed = removed.map(|member| Change::Remove { id: member.node.id.clone(), reason: reason(member) });
            let new = next.iter().filter(|member| known.get(&member.node.id) != Some(member));
            let expected: Vec<Change> = removed.chain(new.cloned().map(Change::Upsert)).collect();
            let changes = known.changes_to(&next, &leavers);
            assert_eq!(changes, expected);
            assert_eq!(known.apply(next.id(), changes.clone()), changes);
            assert_eq!(known, next);
        }
    }

    #[test]
    fn members_are_found_by_their_tags() {
        let member = |id: &str, metadata: &'static [u8]| Member {
            node: Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(1) },
            address: Address::new("h:1").unwrap(),
            state: MemberState::Active,
            metadata: Bytes::from_static(metadata),
        };
        let view = MembersView::new(
            ViewId::default(),
            [
                member("a", b"role=worker\nzone=eu"),
                member("b", b""),
                member("c", b"role=workers"),
                member("d", b"zone=eu\nrole=worker"),
                member("e", b"role=worker\nx"),
                member("f", b"x=role=worker"),
                member("g", b"role=worker\xff"),
            ],
        );
        let found = |key, value| view.with_tag(key, value).map(|member| member.node.id.as_str()).collect::<Vec<_>>();
        assert_eq!(found("role", "worker"), ["a", "d"]);
        assert_eq!(found("zone", "eu"), ["a", "d"]);
        assert_eq!(found("role", "workers"), ["c"]);
        assert!(found("role", "").is_empty() && found("zone", "us").is_empty());
    }

    /// A page or a delta must never be longer than computed. If it is much shorter, it takes more sends than necessary.
    #[test]
    fn the_computed_size_of_a_change_is_a_close_upper_bound() {
        for (id, address, metadata) in [(1, 3, 0), (5, 9, 127), (64, 259, 512)] {
            let id = NodeId::new("x".repeat(id)).unwrap();
            let address = Address::new(alloc::format!("{}:1", "h".repeat(address - 2))).unwrap();
            for incarnation in [1, u64::MAX].map(Incarnation) {
                let node = Node { id: id.clone(), incarnation };
                let metadata = Bytes::from(alloc::vec![7; metadata]);
                let member = Member { node, address: address.clone(), state: MemberState::Suspect, metadata };
                let removed = Change::Remove { id: id.clone(), reason: RemovalReason::Down };
                for (size, computed) in [
                    (postcard::to_allocvec(&member).unwrap().len(), member.wire_size()),
                    (postcard::to_allocvec(&removed).unwrap().len(), removed.wire_size()),
                    {
                        let change = Change::Upsert(member);
                        (postcard::to_allocvec(&change).unwrap().len(), change.wire_size())
                    },
                ] {
                    assert!((size..size + 16).contains(&computed), "{computed} were computed for {size} bytes");
                }
            }
        }
    }
}
