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

    /// Makes these changes. Of several with one id, the last one counts. Returns those that make a difference, in their order.
    pub(super) fn apply(&mut self, mut changes: Vec<Change>) -> Vec<Change> {
        let order = order_of(&changes);
        let mut differs = alloc::vec![false; changes.len()];
        let (mut rest, mut edits) = (&order[..], Vec::new());
        // From the last chunk to the first one: dividing a chunk moves only those behind it, which have been changed already.
        while let Some(last) = rest.last() {
            let at = self.chunk_of(changes[*last].id());
            let known = self.chunks.get(at).map_or(&[][..], |chunk| chunk);
            let begins = known.first().map(|first| &first.node.id).filter(|_| at > 0);
            let is_before = |change: &usize| begins.is_some_and(|begins| changes[*change].id() < begins);
            let (before, here) = rest.split_at(rest.iter().rposition(is_before).map_or(0, |before| before + 1));
            rest = before;
            edits.clear();
            find_edits(known, here.iter().map(|change| (*change, &changes[*change])), &mut edits);
            if !edits.is_empty() {
                edits.iter().for_each(|edit| differs[edit.change] = true);
                self.edit(at, &edits, &changes);
            }
        }
        // Removals leave short chunks behind. It takes many of them until all chunks are made again.
        if self.chunks.len() > 2 + self.len / (CHUNK / 4) {
            *self = Self::new(self.iter().cloned());
        }
        let mut differs = differs.into_iter();
        changes.retain(|_| differs.next() == Some(true));
        changes
    }

    /// Makes these changes in the chunk at this place, or in the first one if there is none.
    fn edit(&mut self, at: usize, edits: &[Edit], changes: &[Change]) {
        let chunks = Arc::make_mut(&mut self.chunks);
        if let Some(chunk) = chunks.get_mut(at)
            && edits.iter().all(|edit| edit.is_known && changes[edit.change].member().is_some())
        {
            let members = Arc::make_mut(chunk);
            for edit in edits {
                if let Some(member) = changes[edit.change].member() {
                    members[edit.at] = member.clone();
                }
            }
            return;
        }
        let known = chunks.get(at).map_or(&[][..], |chunk| chunk);
        let mut merged = Vec::with_capacity(known.len() + edits.len());
        let mut from = 0;
        for Edit { at, is_known, change } in edits {
            merged.extend_from_slice(&known[from..*at]);
            merged.extend(changes[*change].member().cloned());
            from = at + usize::from(*is_known);
        }
        merged.extend_from_slice(&known[from..]);
        self.len = self.len + merged.len() - known.len();
        let range = at..(at + 1).min(chunks.len());
        match merged.len() {
            1..=LONGEST if !range.is_empty() => chunks[at] = merged.into(),
            _ => drop(chunks.splice(range, chunks_of(merged))),
        }
    }
}

/// A change that makes a difference to a chunk.
struct Edit {
    /// The place of the member, or the place that it would have.
    at: usize,
    /// The member is there.
    is_known: bool,
    /// The place of the change among the changes.
    change: usize,
}

/// The places of the changes in the order of the ids. Of several changes with one id, it has the last one.
fn order_of(changes: &[Change]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..changes.len()).collect();
    // A master's changes are in this order.
    if !changes.is_sorted_by(|a, b| a.id() < b.id()) {
        order.reverse();
        order.sort_by(|a, b| changes[*a].id().cmp(changes[*b].id()));
        order.dedup_by(|a, b| changes[*a].id() == changes[*b].id());
    }
    order
}

/// Which of these changes make a difference to these members. Both are in the order of the ids.
fn find_edits<'a>(known: &[Member], changes: impl Iterator<Item = (usize, &'a Change)>, edits: &mut Vec<Edit>) {
    let mut from = 0;
    for (change, changed) in changes {
        let found = known[from..].binary_search_by(|member| member.node.id.cmp(changed.id()));
        let (Ok(after) | Err(after)) = found;
        let (at, is_known) = (from + after, found.is_ok());
        if known.get(at).filter(|_| is_known) != changed.member() {
            edits.push(Edit { at, is_known, change });
        }
        from = at + usize::from(is_known);
    }
}

fn chunks_of(mut members: Vec<Member>) -> Vec<Chunk> {
    let count = members.len().div_ceil(CHUNK);
    // From the last one, so that no other member is moved.
    let mut chunks: Vec<Chunk> = (0..count).rev().map(|at| members.drain(at * CHUNK..).collect()).collect();
    chunks.reverse();
    chunks
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
