//! The next update for a member: a delta, or a page of a snapshot (PROTOCOL.md, V6 and V7).

use alloc::{collections::BTreeMap, vec::Vec};

use bytes::Bytes;

use super::{HEAD_ROOM, MembersView, NodeId, Pinned, STALLED, Tracker, ViewId};
use crate::{
    env::never,
    membership::pages::pages,
    membership::view::Change,
    wire::frame::SharedFrame,
    wire::message::{MembersUpdate, Message},
};

/// A snapshot of a view is encoded anew behind so many changes: the root of the number of its members, divided by this.
const FEW: usize = 16;

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

    /// A delta from `base` towards the present view; `None` when the log does not reach back that far, or a snapshot is shorter.
    fn delta(&mut self, view: &MembersView, base: ViewId) -> Option<(ViewId, SharedFrame)> {
        if let Some(known) = self.deltas.get(&base) {
            return Some(known.clone());
        }
        let from = self.log.partition_point(|step| step.base < base);
        if self.log.get(from)?.base != base {
            return None;
        }
        let mut merged: BTreeMap<&NodeId, &Change> = BTreeMap::new();
        let (mut size, mut view_id) = (0, base);
        for step in self.log.range(from..) {
            let more: usize = step.changes.iter().map(Change::wire_size).sum();
            if size + more + HEAD_ROOM > self.page_limit {
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
        if self.deltas.len() >= self.pin_limit {
            self.deltas.clear();
        }
        self.deltas.insert(base, (view_id, frame.clone()));
        Some((view_id, frame))
    }

    /// Pins a snapshot for one more reader. Deltas follow it where it is not the present view.
    fn pin(&mut self, view: &MembersView, holds: Option<ViewId>) -> Option<ViewId> {
        if !self.pinned.keys().next_back().is_some_and(|newest| self.is_recent(view, *newest) && holds < Some(*newest))
        {
            self.pinned.retain(|_, pinned| pinned.readers > 0);
            if self.pinned.len() < self.pin_limit {
                let pages = pages(view, self.page_limit);
                self.pinned.insert(view.id(), Pinned { pages, readers: 0, begun_in: self.rounds });
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

    /// Whether a reader gets this snapshot, and a delta behind it, in place of a snapshot of the present view. For a view of n members
    /// that have joined one by one, encoding all that was n² members otherwise.
    fn is_recent(&self, view: &MembersView, snapshot: ViewId) -> bool {
        let steps = self.log.len() - self.log.partition_point(|step| step.base < snapshot);
        let most = (view.len() / FEW).isqrt().min(self.log.len().saturating_sub(1));
        snapshot == view.id() || (snapshot.term == view.id().term && steps <= most)
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
