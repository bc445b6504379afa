//! The members of a view, by their ids. Two views share what is equal in them.

use alloc::{sync::Arc, vec::Vec};
use core::{
    borrow::Borrow,
    fmt,
    hash::{Hash, Hasher},
    iter::FusedIterator,
    slice,
};

use crate::{
    id::NodeId,
    membership::view::{Change, Member},
};

/// A chunk is made of no more members.
const CHUNK: usize = 32;

/// A chunk with more members is divided.
const LONGEST: usize = 2 * CHUNK;

type Chunk = Arc<[Member]>;

/// A sorted list of members, at most one of each id. A change copies only the chunk that it is in.
#[derive(Clone, Default)]
pub(super) struct Roster {
    /// In the order of the ids. None is empty.
    chunks: Arc<Vec<Chunk>>,
    len: usize,
}

impl Roster {
    /// Of several members with one id, the last one counts.
    pub(super) fn new(members: impl IntoIterator<Item = Member>) -> Self {
        let mut members: Vec<Member> = members.into_iter().collect();
        if !members.is_sorted_by(|a, b| a.node.id < b.node.id) {
            members.reverse();
            members.sort_by(|a, b| a.node.id.cmp(&b.node.id));
            members.dedup_by(|a, b| a.node.id == b.node.id);
        }
        let len = members.len();
        Self { chunks: Arc::new(chunks_of(members)), len }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get<Q: Ord + ?Sized>(&self, id: &Q) -> Option<&Member>
    where
        NodeId: Borrow<Q>,
    {
        let chunk = self.chunks.get(self.chunk_of(id))?;
        let at = chunk.binary_search_by(|member| Borrow::<Q>::borrow(&member.node.id).cmp(id)).ok()?;
        chunk.get(at)
    }

    pub(super) fn contains(&self, id: &NodeId) -> bool {
        self.get(id).is_some()
    }

    /// The place of the chunk that the id is in, or would be in.
    fn chunk_of<Q: Ord + ?Sized>(&self, id: &Q) -> usize
    where
        NodeId: Borrow<Q>,
    {
        let begins_before =
            |chunk: &Chunk| chunk.first().is_some_and(|first| Borrow::<Q>::borrow(&first.node.id) <= id);
        self.chunks.partition_point(begins_before).saturating_sub(1)
    }

    pub(super) fn iter(&self) -> Members<'_> {
        Members { chunks: self.chunks.iter(), front: [].iter(), back: [].iter(), left: self.len }
    }

    /// Makes these changes, of which no two have the same id.
    pub(super) fn apply(&mut self, changes: &[Change]) {
        let mut changes: Vec<&Change> = changes.iter().collect();
        changes.sort_by(|a, b| a.id().cmp(b.id()));
        // From the last chunk to the first one: dividing a chunk moves only those behind it, which have been changed already.
        while let Some(last) = changes.last() {
            let at = self.chunk_of(last.id());
            let known = self.chunks.get(at).cloned().unwrap_or_default();
            let begins = known.first().map(|first| &first.node.id).filter(|_| at > 0);
            let from = begins.map_or(0, |begins| changes.partition_point(|change| change.id() < begins));
            let merged = merge(&known, &changes[from..]);
            changes.truncate(from);
            self.len = self.len + merged.len() - known.len();
            let chunks = Arc::make_mut(&mut self.chunks);
            let range = at..(at + 1).min(chunks.len());
            match merged.len() {
                1..=LONGEST if !range.is_empty() => chunks[at] = merged.into(),
                _ => drop(chunks.splice(range, chunks_of(merged))),
            }
        }
        // Removals leave short chunks behind. It takes many of them until all chunks are made again.
        if self.chunks.len() > 2 + self.len / (CHUNK / 4) {
            *self = Self::new(self.iter().cloned());
        }
    }
}

/// The members of a chunk with these changes, which are in the order of the ids.
fn merge(known: &[Member], changes: &[&Change]) -> Vec<Member> {
    let mut merged = Vec::with_capacity(known.len() + changes.len());
    let mut known = known.iter().peekable();
    for change in changes {
        while let Some(member) = known.next_if(|member| member.node.id < *change.id()) {
            merged.push(member.clone());
        }
        known.next_if(|member| member.node.id == *change.id());
        merged.extend(change.member().cloned());
    }
    merged.extend(known.cloned());
    merged
}

fn chunks_of(members: Vec<Member>) -> Vec<Chunk> {
    let count = members.len().div_ceil(CHUNK);
    let mut members = members.into_iter();
    (0..count).map(|_| members.by_ref().take(CHUNK).collect()).collect()
}

/// How the members are divided does not matter.
impl PartialEq for Roster {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && (Arc::ptr_eq(&self.chunks, &other.chunks) || self.iter().eq(other.iter()))
    }
}

impl Eq for Roster {}

impl Hash for Roster {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len.hash(state);
        self.iter().for_each(|member| member.hash(state));
    }
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|member| (&member.node.id, member))).finish()
    }
}

/// The members of a view, in the order of their ids. [`MembersView::iter`](crate::MembersView::iter) returns it.
#[derive(Clone)]
pub struct Members<'a> {
    /// The chunks that neither end has reached.
    chunks: slice::Iter<'a, Chunk>,
    front: slice::Iter<'a, Member>,
    back: slice::Iter<'a, Member>,
    left: usize,
}

/// The members that are still to come.
impl fmt::Debug for Members<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a Member;

    fn next(&mut self) -> Option<&'a Member> {
        loop {
            if let Some(member) = self.front.next() {
                self.left -= 1;
                return Some(member);
            }
            match self.chunks.next() {
                Some(chunk) => self.front = chunk.iter(),
                None => {
                    let member = self.back.next()?;
                    self.left -= 1;
                    return Some(member);
                }
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl DoubleEndedIterator for Members<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(member) = self.back.next_back() {
                self.left -= 1;
                return Some(member);
            }
            match self.chunks.next_back() {
                Some(chunk) => self.back = chunk.iter(),
                None => {
                    let member = self.front.next_back()?;
                    self.left -= 1;
                    return Some(member);
                }
            }
        }
    }
}

impl ExactSizeIterator for Members<'_> {}

impl FusedIterator for Members<'_> {}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
