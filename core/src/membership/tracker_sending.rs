//! The next update for a member: a delta, or a page of a snapshot (PROTOCOL.md, V6 and V7).

use alloc::{collections::BTreeMap, vec::Vec};

use bytes::Bytes;

use super::{Delta, HEAD_ROOM, MembersView, NodeId, Pinned, STALLED, Tracker, ViewId};
use crate::{
    env::never,
    membership::pages::pages,
    membership::view::Change,
    wire::frame::SharedFrame,
    wire::message::{MembersUpdate, Message},
};

/// An update to a view is encoded anew behind so many changes: the root of the number of its members divided by this.
const FEW: usize = 16;

/// A member that lacks at most so many changes gets a delta of just these.
const EXACT: u64 = 4;

/// How many encoded deltas are kept. With one more, all are dropped, and encoded again as they are needed. After a burst of changes there
/// are hardly more bases than powers of two up to the length of the log.
const DELTAS: usize = 32;

impl Tracker {
    /// The next frame that the member lacks, for a link of this version, if it fits in `room` bytes.
    pub(crate) fn next_update(
        &mut self,
        view: &MembersView,
        id: &NodeId,
        (version, room): (u16, usize),
    ) -> Option<Bytes> {
        let tracked = self.tracked.get(id)?;
        let (holds, due) = (tracked.holds, self.due.max(tracked.admitted));
        let (view_id, page) = match tracked.series {
            Some(series) => series,
            // Nothing leads from a view of a later term to the present one. Its ack may be a lie, or it may go back to this term (E7).
            None if holds.is_some_and(|holds| holds > view.id()) => return None,
            None if holds.is_some_and(|holds| holds.term == due.term && holds >= due) => return None,
            None => {
                // A delta that is newer than the link is empty on it: a snapshot takes its place.
                let delta = holds.and_then(|base| self.delta(view, base));
                let delta = delta.map(|(view_id, frame)| (view_id, frame.in_version(version)));
                if let Some((view_id, frame)) = delta.filter(|(_, frame)| !frame.is_empty()) {
                    let frame = Some(frame).filter(|frame| frame.len() <= room)?;
                    self.has_read(id, view_id);
                    return Some(frame);
                }
                let series = (self.pin(view, holds)?, 0);
                self.reads(id, series);
                series
            }
        };
        let pages = self.pinned.get(&view_id).map_or(&[][..], |pinned| &pinned.pages);
        let Some(frame) = pages.get(page) else { return never!("a series that is read is pinned", None) };
        let frame = Some(frame.in_version(version)).filter(|frame| frame.len() <= room)?;
        if page + 1 < pages.len() {
            self.reads(id, (view_id, page + 1));
        } else {
            self.has_read(id, view_id);
            self.unpin(Some((view_id, page)));
        }
        Some(frame)
    }

    /// The member reads this page of the series next.
    fn reads(&mut self, id: &NodeId, series: (ViewId, usize)) {
        let Some(tracked) = self.tracked.get_mut(id) else {
            return never!("a member that is sent an update is tracked");
        };
        (tracked.series, tracked.read_in) = (Some(series), self.rounds);
    }

    /// The member has read everything up to the view of this id.
    fn has_read(&mut self, id: &NodeId, view_id: ViewId) {
        let Some(tracked) = self.tracked.get_mut(id) else {
            return never!("a member that is sent an update is tracked");
        };
        (tracked.series, tracked.holds, tracked.check) = (None, Some(view_id), None);
    }

    /// A delta towards the present view for members that hold this view; `None` when the log does not reach back that far, or a snapshot
    /// is shorter. Another one may follow it.
    fn delta(&mut self, view: &MembersView, holds: ViewId) -> Option<(ViewId, SharedFrame)> {
        if let Some(delta) = self.shared_delta(view, holds) {
            return Some((delta.to, delta.frame.clone()));
        }
        let base = self.base_for(holds)?;
        if base != holds
            && let Some((to, frame)) = self.encode_delta(view, base)
            && to > holds
        {
            return Some((to, frame));
        }
        // Also where the shared one would be too long: cut off before what the member lacks, or longer than a snapshot.
        self.encode_delta(view, holds)
    }

    /// A delta that was encoded for others, and is not much longer than one for members that hold this view.
    fn shared_delta(&self, view: &MembersView, holds: ViewId) -> Option<&Delta> {
        let (base, delta) = self.deltas.range(..=holds).next_back()?;
        let is_of_term = delta.to.term == base.term && base.term == holds.term;
        let lacks = delta.to.version.saturating_sub(holds.version);
        let is_short = || lacks > EXACT && delta.to.version - base.version <= 2 * lacks;
        let serves = *base == holds || (is_of_term && is_short());
        (serves && (delta.is_full || self.is_recent(view, delta.to))).then_some(delta)
    }

    /// The base of a delta for members that hold this view. After a burst of changes they hold nearly as many different views as there are
    /// members: the base is then an earlier view of the term, up to twice as many changes ago.
    fn base_for(&self, holds: ViewId) -> Option<ViewId> {
        let from = self.log.partition_point(|step| step.base < holds);
        if self.log.get(from)?.base != holds {
            return None;
        }
        let steps = self.log.len() - from;
        let shared = self.log.len().saturating_sub(steps.next_power_of_two());
        let base = self.log.get(shared).map(|step| step.base);
        Some(base.filter(|base| steps as u64 > EXACT && base.term == holds.term).unwrap_or(holds))
    }

    fn encode_delta(&mut self, view: &MembersView, base: ViewId) -> Option<(ViewId, SharedFrame)> {
        let from = self.log.partition_point(|step| step.base < base);
        let mut merged: BTreeMap<&NodeId, &Change> = BTreeMap::new();
        let (mut size, mut view_id, mut is_full) = (0, base, false);
        for step in self.log.range(from..) {
            let more: usize = step.changes.iter().map(Change::wire_size).sum();
            if size + more + HEAD_ROOM > self.page_limit {
                is_full = true;
                break;
            }
            size += more;
            view_id = step.view_id;
            merged.extend(step.changes.iter().map(|change| (change.id(), change)));
        }
        // A snapshot has no head for each change. Comparing the number of entries is close enough and needs no encoding.
        if view_id == base || (view_id == view.id() && merged.len() > view.len()) {
            return None;
        }
        let changes = merged.into_values().cloned().collect();
        let base_digest = self.base_digest.filter(|_| base.term < view_id.term);
        let delta = MembersUpdate::Delta { base, base_digest, view_id, changes };
        let frame = SharedFrame::new(&Message::MembersUpdate(delta));
        if self.deltas.len() >= DELTAS {
            self.deltas.clear();
        }
        self.deltas.insert(base, Delta { to: view_id, frame: frame.clone(), is_full });
        Some((view_id, frame))
    }

    /// Pins a snapshot for one more reader. Deltas follow it where it is not the present view.
    fn pin(&mut self, view: &MembersView, holds: Option<ViewId>) -> Option<ViewId> {
        if !self.pinned.keys().next_back().is_some_and(|newest| self.is_recent(view, *newest) && holds < Some(*newest))
        {
            self.pinned.retain(|_, pinned| pinned.readers > 0);
            if self.pinned.len() < self.pin_limit {
                let pages = pages(view, self.page_limit);
                let before = self.pinned.insert(view.id(), Pinned { pages, readers: 0, begun_in: self.rounds });
                debug_assert!(before.is_none(), "a snapshot that is pinned is not encoded again");
            } else {
                self.lacks_pin = true;
            }
        }
        let Some((view_id, pinned)) = self.pinned.iter_mut().next_back() else {
            return never!("at least one snapshot may be pinned", None);
        };
        if holds.is_some_and(|holds| holds >= *view_id) {
            return None;
        }
        (pinned.readers, pinned.begun_in) = (pinned.readers + 1, self.rounds);
        Some(*view_id)
    }

    /// Whether an encoded update to this view is sent, with a delta behind it, in place of one to the present view. For n nodes that join
    /// one by one, n updates of up to n members would be encoded otherwise.
    fn is_recent(&self, view: &MembersView, view_id: ViewId) -> bool {
        let steps = self.log.len() - self.log.partition_point(|step| step.base < view_id);
        let most = (view.len() / FEW).isqrt().min(self.log.len().saturating_sub(1));
        view_id == view.id() || (view_id.term == view.id().term && steps <= most)
    }

    /// Others need a snapshot of a newer view: readers that have stalled keep none, and begin again when they read on.
    pub(super) fn unpin_stalled(&mut self) {
        let mut stalled = Vec::new();
        for tracked in self.tracked.values_mut() {
            if tracked.read_in + STALLED <= self.rounds
                && let Some(series) = tracked.series.take()
            {
                tracked.holds = None;
                stalled.push(series);
            }
        }
        stalled.into_iter().for_each(|series| self.unpin(Some(series)));
    }

    /// A snapshot that nobody has wanted since the last heartbeat is not kept for others.
    pub(super) fn unpin_unused(&mut self) {
        let round = self.rounds;
        self.pinned.retain(|_, pinned| pinned.readers > 0 || pinned.begun_in == round);
    }

    pub(super) fn unpin(&mut self, series: Option<(ViewId, usize)>) {
        let Some((view_id, _)) = series else { return };
        let newest = self.pinned.keys().next_back().copied();
        let Some(pinned) = self.pinned.get_mut(&view_id) else { return never!("a series that is read is pinned") };
        pinned.readers -= 1;
        // The newest one stays for the next joining node.
        if pinned.readers == 0 && newest != Some(view_id) {
            self.pinned.remove(&view_id);
        }
    }
}
