//! The change log of a master's view, and for each member what it holds (PROTOCOL.md, "Members and views").

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use core::time::Duration;

use crate::{
    api::config::{Config, Detector},
    env::never,
    id::{Node, NodeId, Term, ViewDigest, ViewId},
    membership::arrivals::Arrivals,
    membership::follower::HeldView,
    membership::suspicions::Suspicions,
    membership::view::{Change, Member, MemberState, MembersView, RemovalReason},
    time::Timestamp,
    wire::frame::SharedFrame,
};

/// A reader of a snapshot that has taken no page for so many heartbeats has stalled.
const STALLED: u64 = 3;

/// The changes that wait for a heartbeat are a burst where there are so many, and one for so many members.
const BURST: u64 = 8;

/// Room that a page or a delta leaves in a `Send` for the heartbeat beside it and for its own head.
pub(super) const HEAD_ROOM: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Tracker {
    suspect_after: Duration,
    down_after: Duration,
    detector: Detector,
    page_limit: usize,
    log_limit: usize,
    pin_limit: usize,
    at_once_limit: usize,
    tracked: BTreeMap<NodeId, Tracked>,
    /// The inverse of `tracked` by key.
    ids: BTreeMap<MemberKey, NodeId>,
    newest_key: MemberKey,
    /// The digest of the view that the first step of the log is based on, unless that is no view.
    base_digest: Option<ViewDigest>,
    /// Oldest first, each entry's base the view id of the one before.
    log: VecDeque<Step>,
    suspicions: Suspicions,
    /// Every member has to receive this view, or a newer one, without waiting for the next heartbeat.
    due: ViewId,
    /// How many updates have become due since the last heartbeat.
    updates_since_heartbeat: usize,
    pinned: BTreeMap<ViewId, Pinned>,
    /// A snapshot could not be pinned since the last heartbeat.
    lacks_pin: bool,
    /// How many heartbeats there were.
    rounds: u64,
    /// Deltas that were encoded since the last heartbeat, by their base. Most members lack the same delta.
    deltas: BTreeMap<ViewId, Delta>,
}

/// A member's name inside a master, for as long as the member is tracked: a number, since ids are long to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct MemberKey(u64);

/// A member other than the master itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
struct Tracked {
    key: MemberKey,
    suspect_at: Timestamp,
    down_at: Timestamp,
    /// When its acknowledgements have arrived, if the detector learns from that.
    arrivals: Arrivals,
    linked: bool,
    /// It got a new allowance when it reported that it joins, and has acknowledged nothing since.
    is_renewed: bool,
    /// Its link may have changed since its last answer, and it has got more time for that.
    is_excused: bool,
    /// The first and the newest heartbeat that were sent to it since it became a member.
    beats: Option<(u64, u64)>,
    /// The newest of these that it has acknowledged.
    acked_beat: Option<u64>,
    /// How long after its sending a heartbeat was acknowledged, the last time that this was measured.
    round_trip: Option<Duration>,
    /// The view that it holds once it has read everything that was sent; `None` if it needs a snapshot.
    holds: Option<ViewId>,
    /// The view that it holds by its last acknowledgement.
    acked: Option<ViewId>,
    /// The view in which it became a member. It receives this one, or a newer one, without waiting for the next heartbeat.
    admitted: ViewId,
    /// The next page of the snapshot that it is being sent.
    series: Option<(ViewId, usize)>,
    /// The round in which it has taken the page before that.
    read_in: u64,
    /// The first heartbeat sent after the last update, and the view that its acknowledgement should name.
    check: Option<(u64, ViewId)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
struct Step {
    base: ViewId,
    view_id: ViewId,
    changes: Vec<Change>,
}

/// A delta, encoded once for all members that need it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
struct Delta {
    to: ViewId,
    frame: SharedFrame,
    /// It is as long as a write allows. Others follow it.
    is_full: bool,
}

/// A snapshot, encoded once for all members that read it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
struct Pinned {
    pages: Vec<SharedFrame>,
    readers: usize,
    /// The round in which the last one has begun to read it.
    begun_in: u64,
}

/// What an acknowledgement shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ack {
    /// The member was suspect, and is active again.
    Revived,
    /// Nothing new.
    Expected,
    /// It does not show that the member receives anything now: it names a heartbeat that was not sent to this member, or none that
    /// is newer than what it has acknowledged before.
    Old,
}

impl Tracker {
    pub(crate) fn new(config: &Config) -> Self {
        let (timing, limits) = (config.timing(), config.limits());
        Self {
            suspect_after: timing.suspect_after,
            down_after: timing.down_after,
            detector: config.detector().clone(),
            page_limit: limits.send.saturating_sub(HEAD_ROOM),
            log_limit: limits.change_log,
            pin_limit: limits.pinned_views,
            at_once_limit: limits.updates_at_once,
            tracked: BTreeMap::new(),
            ids: BTreeMap::new(),
            newest_key: MemberKey(0),
            base_digest: None,
            log: VecDeque::new(),
            suspicions: Suspicions::new(limits.suspicions, timing.heartbeat_interval),
            due: ViewId::default(),
            updates_since_heartbeat: 0,
            pinned: BTreeMap::new(),
            lacks_pin: false,
            rounds: 0,
            deltas: BTreeMap::new(),
        }
    }

    /// Writes the first view of a term: the members that were known, as far as they are linked active, the others suspect.
    pub(crate) fn begin(
        &mut self,
        held: &mut HeldView,
        term: Term,
        me: Member,
        gone: impl Fn(&Node) -> bool,
        linked: impl Fn(&Node) -> bool,
        now: Timestamp,
    ) -> Vec<Change> {
        let view = held.view();
        self.base_digest = (view.id() != ViewId::default()).then(|| view.digest());
        let mut changes = Vec::new();
        for member in view.iter().filter(|member| member.node.id != me.node.id) {
            if gone(&member.node) {
                changes.push(Change::Remove { id: member.node.id.clone(), reason: RemovalReason::Left });
                continue;
            }
            let is_linked = linked(&member.node);
            let key = self.key_for(&member.node.id);
            let holds = Some(view.id());
            let tracked = Tracked { linked: is_linked, holds, ..self.fresh(key, now) };
            self.tracked.insert(member.node.id.clone(), tracked);
            let state = if is_linked { MemberState::Active } else { MemberState::Suspect };
            if member.state != state {
                changes.push(Change::Upsert(Member { state, ..member.clone() }));
            }
        }
        if view.get(&me.node.id) != Some(&me) {
            changes.push(Change::Upsert(me));
        }
        changes.sort_unstable_by(|a, b| a.id().cmp(b.id()));
        self.step(held, ViewId { term, version: 1 }, changes)
    }

    pub(crate) fn tracks(&self, id: &NodeId) -> bool {
        self.tracked.contains_key(id)
    }

    fn key_of(&self, id: &NodeId) -> Option<MemberKey> {
        self.tracked.get(id).map(|tracked| tracked.key)
    }

    pub(crate) fn id_of(&self, key: MemberKey) -> Option<&NodeId> {
        self.ids.get(&key)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &NodeId> {
        self.tracked.keys()
    }

    /// The state that a linked node gets with its report; `known` is its entry. It becomes active. A member that has acknowledged
    /// nothing since an earlier report keeps its state: perhaps it can send, and not receive (V11).
    pub(crate) fn state_of(&self, node: &Node, known: Option<&Member>) -> MemberState {
        let known = known.filter(|known| known.node == *node);
        let says_it_again = self.tracked.get(&node.id).is_some_and(|tracked| tracked.linked && tracked.is_renewed);
        known.filter(|_| says_it_again).map_or(MemberState::Active, |known| known.state)
    }

    /// Makes a linked node a member, or writes its new entry. A new member is sent a snapshot.
    pub(crate) fn admit(&mut self, held: &mut HeldView, member: Member, now: Timestamp) -> Vec<Change> {
        let key = self.key_for(&member.node.id);
        let fresh = self.fresh(key, now);
        let known = held.view().get(&member.node.id).is_some_and(|known| known.node == member.node);
        let tracked = match self.tracked.remove(&member.node.id) {
            Some(before) if known && before.linked && before.is_renewed => before,
            Some(before) if known && before.linked => {
                Tracked { suspect_at: fresh.suspect_at, down_at: fresh.down_at, is_renewed: true, ..before }
            }
            before => {
                self.unpin(before.and_then(|before| before.series));
                fresh
            }
        };
        self.tracked.insert(member.node.id.clone(), tracked);
        if held.view().get(&member.node.id) == Some(&member) {
            return Vec::new();
        }
        let id = member.node.id.clone();
        let changes = self.write(held, member);
        if let Some(tracked) = self.tracked.get_mut(&id).filter(|tracked| tracked.holds.is_none()) {
            tracked.admitted = held.view().id();
        }
        changes
    }

    /// Writes a member as it is now.
    pub(crate) fn write(&mut self, held: &mut HeldView, member: Member) -> Vec<Change> {
        self.change(held, Change::Upsert(member))
    }

    pub(crate) fn remove(&mut self, held: &mut HeldView, id: &NodeId, reason: RemovalReason) -> Vec<Change> {
        match self.tracked.remove(id) {
            None => Vec::new(),
            Some(tracked) => {
                self.ids.remove(&tracked.key);
                self.unpin(tracked.series);
                self.change(held, Change::Remove { id: id.clone(), reason })
            }
        }
    }

    /// The member has no link any more. It is suspect immediately, and what was in transit counts as lost.
    pub(crate) fn link_down(&mut self, held: &mut HeldView, id: &NodeId) -> Vec<Change> {
        let Some(tracked) = self.tracked.get_mut(id) else { return Vec::new() };
        tracked.linked = false;
        tracked.arrivals = Arrivals::default();
        tracked.holds = None;
        tracked.acked = None;
        tracked.check = None;
        let series = tracked.series.take();
        self.unpin(series);
        self.set_state(held, id, MemberState::Suspect)
    }

    /// The link on which this node sends may have changed. Updates that the member has not acknowledged are sent again. An answer may
    /// have been lost with the old link: the member gets `suspect_after` again, once until it answers, and is down no later (V3).
    pub(crate) fn relinked(&mut self, id: &NodeId, now: Timestamp) {
        if let Some(tracked) = self.tracked.get_mut(id) {
            if !core::mem::replace(&mut tracked.is_excused, true) {
                tracked.suspect_at = tracked.suspect_at.max(now + self.suspect_after).min(tracked.down_at);
            }
            tracked.check = None;
            tracked.holds = tracked.acked;
            if let Some((view_id, _)) = tracked.series {
                tracked.series = Some((view_id, 0));
            }
        }
    }

    /// The member follows another master now. Nobody knows which view it holds, and no snapshot is completed.
    pub(crate) fn has_gone_over(&mut self, id: &NodeId) {
        let Some(tracked) = self.tracked.get_mut(id) else { return };
        tracked.holds = None;
        tracked.acked = None;
        tracked.check = None;
        let series = tracked.series.take();
        self.unpin(series);
    }

    pub(crate) fn ack(&mut self, view: &MembersView, id: &NodeId, number: u64, view_id: ViewId, now: Timestamp) -> Ack {
        let Some(tracked) = self.tracked.get_mut(id) else { return Ack::Old };
        let was_sent = tracked.beats.is_some_and(|(first, newest)| (first..=newest).contains(&number));
        if !was_sent || tracked.acked_beat >= Some(number) {
            return Ack::Old;
        }
        (tracked.acked_beat, tracked.is_renewed, tracked.is_excused) = (Some(number), false, false);
        let mut patience = self.suspect_after;
        if let Detector::PhiAccrual(settings) = &self.detector {
            tracked.arrivals.arrived(now, settings.window);
            patience = tracked.arrivals.allowance(settings).unwrap_or(patience).min(self.down_after);
        }
        tracked.suspect_at = now + patience;
        tracked.down_at = now + self.down_after;
        tracked.acked = Some(view_id);
        if let Some((_, expected)) = tracked.check.take_if(|(sent, _)| number >= *sent)
            && expected != view_id
            && tracked.series.is_none()
        {
            tracked.holds = Some(view_id);
        }
        match view.get(id).map(|member| member.state) {
            Some(MemberState::Suspect) => Ack::Revived,
            Some(MemberState::Active) => Ack::Expected,
            None => never!("a member that is tracked is in the view", Ack::Expected),
        }
    }

    /// The member has acknowledged a heartbeat so long after it was sent.
    pub(crate) fn took(&mut self, id: &NodeId, round_trip: Duration) {
        if let Some(tracked) = self.tracked.get_mut(id) {
            tracked.round_trip = Some(round_trip);
        }
    }

    /// Whether members get the present view before the next heartbeat (V8).
    pub(crate) fn is_due(&self, view: &MembersView) -> bool {
        self.due == view.id()
    }

    /// Whether the changes that wait for the next heartbeat are a burst: so many that an update for each member before it costs few
    /// updates for each change (V8).
    pub(crate) fn has_burst(&self, view: &MembersView) -> bool {
        let waiting = view.id().version.saturating_sub(self.due.version);
        self.due.term == view.id().term && waiting >= BURST.max(self.tracked.len() as u64 / BURST)
    }

    /// The members get the present view before the next heartbeat.
    pub(crate) fn end_burst(&mut self, view: &MembersView) {
        self.due = view.id();
        self.deltas.clear();
    }

    /// A heartbeat goes to every member, together with the updates that have waited for it.
    pub(crate) fn begin_round(&mut self, view: &MembersView) {
        (self.due, self.updates_since_heartbeat) = (view.id(), 0);
        self.deltas.clear();
        self.unpin_unused();
        self.rounds += 1;
        if core::mem::take(&mut self.lacks_pin) {
            self.unpin_stalled();
        }
    }

    /// A heartbeat of this number goes to the node, which may have been removed since it was due.
    pub(crate) fn heartbeat_sent(&mut self, id: &NodeId, number: u64) {
        let Some(tracked) = self.tracked.get_mut(id) else { return };
        let (first, _) = tracked.beats.unwrap_or((number, number));
        tracked.beats = Some((first, number));
        if tracked.check.is_none()
            && let Some(holds) = tracked.holds
        {
            tracked.check = Some((number, holds));
        }
    }

    pub(crate) fn set_state(&mut self, held: &mut HeldView, id: &NodeId, state: MemberState) -> Vec<Change> {
        match held.view().get(id) {
            Some(member) if member.state != state => {
                let member = Member { state, ..member.clone() };
                self.write(held, member)
            }
            Some(_) => Vec::new(),
            None => never!("a member that is judged is in the view", Vec::new()),
        }
    }

    /// The view that the member has acknowledged last, whether it is linked, and its last round trip.
    pub(crate) fn known(&self, id: &NodeId) -> Option<(Option<ViewId>, bool, Option<Duration>)> {
        self.tracked.get(id).map(|tracked| (tracked.acked, tracked.linked, tracked.round_trip))
    }

    /// When the member is to be judged next: first as suspect, then as down.
    pub(crate) fn deadline(&self, view: &MembersView, id: &NodeId) -> Option<Timestamp> {
        let tracked = self.tracked.get(id)?;
        match view.get(id).map(|member| member.state) {
            Some(MemberState::Active) => Some(self.suspect_at(tracked)),
            Some(MemberState::Suspect) => Some(tracked.down_at),
            None => never!("a member that is tracked is in the view", None),
        }
    }

    /// When the member becomes suspect. It waits while too many others have just become so, but not longer than until it is down.
    fn suspect_at(&self, tracked: &Tracked) -> Timestamp {
        tracked.suspect_at.max(self.suspicions.next_at()).min(tracked.down_at)
    }

    /// The member has been silent for so long that it becomes suspect.
    pub(crate) fn suspect(&mut self, held: &mut HeldView, id: &NodeId, now: Timestamp) -> Vec<Change> {
        self.suspicions.add(now);
        self.set_state(held, id, MemberState::Suspect)
    }

    /// Whether the member has acknowledged a heartbeat since it became one.
    pub(crate) fn has_acked(&self, id: &NodeId) -> bool {
        self.tracked.get(id).is_some_and(|tracked| tracked.acked_beat.is_some())
    }

    pub(crate) fn is_down(&self, id: &NodeId, now: Timestamp) -> bool {
        self.tracked.get(id).is_some_and(|tracked| tracked.down_at <= now)
    }

    /// After a pause of this node's own, every member gets a full new allowance.
    pub(crate) fn reset_allowances(&mut self, now: Timestamp) {
        for tracked in self.tracked.values_mut() {
            tracked.suspect_at = now + self.suspect_after;
            tracked.down_at = now + self.down_after;
            tracked.arrivals.interrupted();
        }
    }

    /// Checks what holds between two inputs.
    ///
    /// # Panics
    /// When something does not hold.
    pub(super) fn check(&self, view: &MembersView, is_peer: impl Fn(&Node) -> bool) {
        assert!(self.log.len() <= self.log_limit, "the log of changes is within its limit");
        assert!(self.pinned.len() <= self.pin_limit, "the pinned views are within their limit");
        self.suspicions.check();
        let follows = |(step, next): (&Step, &Step)| step.view_id == next.base;
        assert!(self.log.iter().zip(self.log.iter().skip(1)).all(follows), "each step of the log follows the last");
        assert_eq!(self.log.back().map(|step| step.view_id), Some(view.id()), "the log leads to the present view");
        assert_eq!(self.ids.len(), self.tracked.len(), "each key is that of a member");
        let is_inverse = |(id, tracked): (&NodeId, &Tracked)| self.ids.get(&tracked.key) == Some(id);
        assert!(self.tracked.iter().all(is_inverse), "keys name members, and these know their keys");
        let is_linked = |id: &NodeId| view.get(id).is_some_and(|member| is_peer(&member.node));
        let links = |(id, tracked): (&NodeId, &Tracked)| !tracked.linked || is_linked(id);
        assert!(self.tracked.iter().all(links), "a member is linked only while it is a peer");
        for (view_id, pinned) in &self.pinned {
            let reads = |tracked: &&Tracked| tracked.series.is_some_and(|(series, _)| series == *view_id);
            assert_eq!(pinned.readers, self.tracked.values().filter(reads).count(), "readers of {view_id}");
        }
        let is_pinned = |(view_id, page): (ViewId, usize)| {
            self.pinned.get(&view_id).is_some_and(|pinned| page < pinned.pages.len())
        };
        assert!(
            self.tracked.values().filter_map(|tracked| tracked.series).all(is_pinned),
            "a series that is read is pinned"
        );
    }

    /// The key of a member that is tracked already, or a new one.
    fn key_for(&mut self, id: &NodeId) -> MemberKey {
        if let Some(key) = self.key_of(id) {
            return key;
        }
        self.newest_key.0 += 1;
        self.ids.insert(self.newest_key, id.clone());
        self.newest_key
    }

    fn fresh(&self, key: MemberKey, now: Timestamp) -> Tracked {
        let (suspect_at, down_at) = (now + self.suspect_after, now + self.down_after);
        let arrivals = Arrivals::default();
        Tracked {
            key,
            suspect_at,
            down_at,
            arrivals,
            linked: true,
            is_renewed: true,
            is_excused: false,
            beats: None,
            acked_beat: None,
            round_trip: None,
            holds: None,
            acked: None,
            admitted: ViewId::default(),
            series: None,
            read_in: 0,
            check: None,
        }
    }

    fn change(&mut self, held: &mut HeldView, change: Change) -> Vec<Change> {
        let view_id = held.view().id();
        self.step(held, ViewId { version: view_id.version + 1, ..view_id }, Vec::from([change]))
    }

    fn step(&mut self, held: &mut HeldView, view_id: ViewId, changes: Vec<Change>) -> Vec<Change> {
        let base = held.view().id();
        let differing = held.apply(view_id, &changes);
        self.log.push_back(Step { base, view_id, changes });
        while self.log.len() > self.log_limit {
            self.log.pop_front();
        }
        // V8: when n nodes join at once, sending each join to every member would cost O(n²) messages.
        if self.updates_since_heartbeat + self.tracked.len() <= self.at_once_limit {
            self.updates_since_heartbeat += self.tracked.len();
            self.due = view_id;
        }
        differing
    }
}

#[path = "tracker_due.rs"]
mod due;
#[path = "tracker_sending.rs"]
mod sending;

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
