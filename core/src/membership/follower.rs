//! The view that this node holds, and how a follower gets it (PROTOCOL.md, "Members and views").

use alloc::{collections::BTreeSet, vec::Vec};

use crate::{
    api::config::Limits,
    api::event::ViewLimit,
    id::{Node, Term, ViewId},
    membership::view::{Change, Member, MembersView},
    wire::message::MembersUpdate,
};

/// The view that this node holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct HeldView {
    #[cfg_attr(feature = "snapshot", serde(with = "crate::membership::view::stored"))]
    view: MembersView,
    /// The master that wrote it.
    writer: Option<Node>,
    /// The writer was a solo master (E8).
    of_solo: bool,
    /// The view is not the one that the master takes it for, and only a snapshot repairs that.
    diverged: bool,
    assembly: Option<Assembly>,
    /// The members that have reported that they leave. The first view of a new master does not contain them.
    leavers: BTreeSet<Node>,
    /// An update was over a limit since the last one that was taken.
    is_over_limit: bool,
    member_limit: usize,
    metadata_limit: usize,
}

/// What has become of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is a new view, with exactly these differences. It may have the members of the last one.
    Taken(Vec<Change>),
    /// The view is what it was.
    Ignored,
    /// The view is what it was, because the next one is over a limit of this node. It is the first time since a view was taken.
    OverLimit(ViewLimit),
}

/// The pages of a snapshot that have come so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
struct Assembly {
    view_id: ViewId,
    next: u32,
    members: Vec<Member>,
}

impl HeldView {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            view: MembersView::default(),
            writer: None,
            of_solo: false,
            diverged: false,
            assembly: None,
            leavers: BTreeSet::new(),
            is_over_limit: false,
            member_limit: limits.members,
            metadata_limit: limits.metadata,
        }
    }

    /// The view that this node reports to hold.
    pub(super) fn id(&self) -> ViewId {
        if self.diverged { ViewId::default() } else { self.view.id() }
    }

    pub(super) fn view(&self) -> &MembersView {
        &self.view
    }

    /// The master that wrote the view.
    pub(super) fn writer(&self) -> Option<&Node> {
        self.writer.as_ref()
    }

    /// Whether the writer was a solo master (E8).
    pub(super) fn is_of_solo(&self) -> bool {
        self.of_solo
    }

    pub(super) fn leavers(&self) -> &BTreeSet<Node> {
        &self.leavers
    }

    /// Makes these changes, which lead to the view of this id. Returns what differs then.
    pub(super) fn apply(&mut self, view_id: ViewId, changes: &[Change]) -> Vec<Change> {
        self.view.apply(view_id, changes.to_vec())
    }

    /// The view is now one of this master's.
    pub(super) fn written_by(&mut self, (master, is_solo): (&Node, bool)) {
        self.writer = Some(master.clone());
        self.of_solo = is_solo;
        self.diverged = false;
        self.is_over_limit = false;
    }

    /// This member has reported that it leaves.
    pub(super) fn note_leaver(&mut self, node: &Node) {
        if self.view.get(&node.id).is_some_and(|member| member.node == *node) {
            self.leavers.insert(node.clone());
        }
    }

    /// The leavers, to be left out of the first view of this node's own.
    pub(super) fn take_leavers(&mut self) -> BTreeSet<Node> {
        core::mem::take(&mut self.leavers)
    }

    /// Forgets the leavers that are not members any more.
    pub(super) fn forget_leavers(&mut self) {
        let Self { view, leavers, .. } = self;
        leavers.retain(|node| view.get(&node.id).is_some_and(|member| member.node == *node));
    }

    /// Takes an update of the present master, which may be a solo master, if it is newer and applies to what is held. Otherwise the
    /// next acknowledgement reports to the master which view is held, and the master sends an update that applies.
    pub(super) fn update(&mut self, by: (&Node, bool), update: MembersUpdate) -> Outcome {
        match self.take(by, update) {
            Ok(Some(changes)) => Outcome::Taken(changes),
            Ok(None) => Outcome::Ignored,
            Err(limit) => {
                self.assembly = None;
                match core::mem::replace(&mut self.is_over_limit, true) {
                    true => Outcome::Ignored,
                    false => Outcome::OverLimit(limit),
                }
            }
        }
    }

    fn take(&mut self, by: (&Node, bool), update: MembersUpdate) -> Result<Option<Vec<Change>>, ViewLimit> {
        match update {
            MembersUpdate::Delta { base, base_digest, view_id, changes } => {
                let applies = base == self.id() || (base_digest.is_none() && self.is_within(by, base, view_id));
                let fits = applies && view_id > self.view.id();
                if fits && !self.diverged && base_digest.is_some_and(|digest| digest != self.view.digest()) {
                    self.diverged = true;
                    return Ok(None);
                }
                if !fits {
                    return Ok(None);
                }
                self.check_metadata(changes.iter().filter_map(Change::member))?;
                // A delta from nothing: what is held does not count.
                let mut next = if self.diverged { MembersView::default() } else { self.view.clone() };
                let differing = next.apply(view_id, changes);
                self.check_members(next.len())?;
                if self.diverged {
                    return Ok(Some(self.replace(by, next)));
                }
                self.view = next;
                self.written_by(by);
                Ok(Some(differing))
            }
            MembersUpdate::Page { view_id, index, last, members } => {
                let begun = self.assembly.take();
                if view_id <= self.view.id() {
                    return Ok(None);
                }
                let begun = begun.filter(|assembly| assembly.view_id == view_id && assembly.next == index);
                let mut all = match begun {
                    Some(assembly) => assembly.members,
                    None if index == 0 => Vec::new(),
                    None => return Ok(None),
                };
                self.check_members(all.len() + members.len())?;
                self.check_metadata(members.iter())?;
                match all.is_empty() {
                    true => all = members,
                    false => all.extend(members),
                }
                if !last {
                    self.assembly = Some(Assembly { view_id, next: index.saturating_add(1), members: all });
                    return Ok(None);
                }
                Ok(Some(self.replace(by, MembersView::new(view_id, all))))
            }
        }
    }

    /// Whether this master wrote the held view, in the term of both ids, at or behind `from` and before `to`. A delta has all that has
    /// changed since its base, so it leads from any such view to the last one.
    fn is_within(&self, (master, _): (&Node, bool), from: ViewId, to: ViewId) -> bool {
        let held = self.id();
        from.term == to.term && (from..to).contains(&held) && self.writer() == Some(master)
    }

    fn check_members(&self, count: usize) -> Result<(), ViewLimit> {
        if count > self.member_limit { Err(ViewLimit::Members) } else { Ok(()) }
    }

    /// An entry within the limit fits in a `Send`: this node may be the next master, and has to send it on.
    fn check_metadata<'a>(&self, mut members: impl Iterator<Item = &'a Member>) -> Result<(), ViewLimit> {
        let is_over = members.any(|member| member.metadata.len() > self.metadata_limit);
        if is_over { Err(ViewLimit::Metadata) } else { Ok(()) }
    }

    fn replace(&mut self, by: (&Node, bool), next: MembersView) -> Vec<Change> {
        let changes = self.view.changes_to(&next, &self.leavers);
        self.view = next;
        self.written_by(by);
        changes
    }

    /// Terms begin again with this one. Any view of the next master is newer then.
    pub(super) fn begin_again(&mut self, term: Term) {
        if self.view.id().term < term {
            return;
        }
        self.view.apply(ViewId::default(), Vec::new());
        self.assembly = None;
        self.diverged = true;
    }

    /// There is another master: the pages of the last one do not count.
    pub(super) fn forget_pages(&mut self) {
        self.assembly = None;
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec};

    use bytes::Bytes;

    use super::*;
    use crate::{
        id::{Address, Incarnation, NodeId, Term, ViewDigest},
        membership::view::{MemberState, RemovalReason},
    };

    const LIMIT: usize = 3;

    fn node(id: &str) -> Node {
        Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(1) }
    }

    fn member(id: &str) -> Member {
        let address = Address::new(format!("{id}:1")).unwrap();
        Member { node: node(id), address, state: MemberState::Active, metadata: Bytes::new() }
    }

    fn view_id(version: u64) -> ViewId {
        ViewId { term: Term(1), version }
    }

    fn added(ids: &[&str]) -> Vec<Change> {
        ids.iter().map(|id| Change::Upsert(member(id))).collect()
    }

    fn gone(id: &str) -> Change {
        Change::Remove { id: NodeId::new(id).unwrap(), reason: RemovalReason::Unknown }
    }

    fn digest(ids: &[&str]) -> Option<ViewDigest> {
        Some(MembersView::new(ViewId::default(), ids.iter().map(|id| member(id))).digest())
    }

    /// A follower of the master m.
    struct Follower(HeldView);

    impl Follower {
        fn new() -> Self {
            Self(HeldView::new(&Limits { members: LIMIT, metadata: 9, ..Limits::default() }))
        }

        /// Holds a view of these members that m wrote.
        fn holding(version: u64, ids: &[&str]) -> Self {
            let mut follower = Self::new();
            assert_eq!(follower.page(version, 0, true, ids), Some(added(ids)));
            follower
        }

        fn page(&mut self, version: u64, index: u32, last: bool, ids: &[&str]) -> Option<Vec<Change>> {
            let members = ids.iter().map(|id| member(id)).collect();
            let update = MembersUpdate::Page { view_id: view_id(version), index, last, members };
            self.taken(update)
        }

        fn taken(&mut self, update: MembersUpdate) -> Option<Vec<Change>> {
            match self.0.update((&node("m"), false), update) {
                Outcome::Taken(changes) => Some(changes),
                Outcome::Ignored | Outcome::OverLimit(_) => None,
            }
        }

        fn delta(
            &mut self,
            (base, base_digest): (ViewId, Option<ViewDigest>),
            to: u64,
            changes: Vec<Change>,
        ) -> Option<Vec<Change>> {
            let view_id = view_id(to);
            self.taken(MembersUpdate::Delta { base, base_digest, view_id, changes })
        }

        fn ids(&self) -> Vec<&str> {
            self.0.view.iter().map(|member| member.node.id.as_str()).collect()
        }
    }

    #[test]
    fn v6_a_follower_reports_the_view_that_it_holds() {
        assert_eq!(Follower::new().0.id(), ViewId::default());
        let follower = Follower::holding(4, &["a", "b"]);
        assert_eq!((follower.0.id(), follower.ids()), (view_id(4), vec!["a", "b"]));
        assert_eq!(follower.0.writer, Some(node("m")));
    }

    #[test]
    fn v6_a_delta_applies_to_its_base_and_leads_forward() {
        for (base, to, taken) in
            [(4, 5, true), (4, 9, true), (3, 5, true), (5, 6, false), (4, 4, false), (3, 4, false), (4, 3, false)]
        {
            let mut follower = Follower::holding(4, &["a", "b"]);
            let changes = [added(&["c"]), vec![gone("a")]].concat();
            let taken_changes = follower.delta((view_id(base), None), to, changes.clone());
            assert_eq!(taken_changes, taken.then_some(changes), "from {base} to {to}");
            let expected = if taken { (view_id(to), vec!["b", "c"]) } else { (view_id(4), vec!["a", "b"]) };
            assert_eq!((follower.0.id(), follower.ids()), expected, "from {base} to {to}");
        }
    }

    /// Only of the master that wrote it, and in its term: another master may have written other views under these ids (V9).
    #[test]
    fn v6_a_delta_on_an_earlier_view_applies_to_a_later_one() {
        let delta = |base, view_id| MembersUpdate::Delta { base, base_digest: None, view_id, changes: added(&["c"]) };
        let later = |version| ViewId { term: Term(2), version };
        for (by, update, taken) in [
            ("m", delta(view_id(2), view_id(5)), true),
            ("n", delta(view_id(2), view_id(5)), false),
            ("m", delta(view_id(2), later(5)), false),
            ("n", delta(view_id(4), view_id(5)), true),
        ] {
            let mut follower = Follower::holding(4, &["a", "b"]);
            let outcome = follower.0.update((&node(by), false), update.clone());
            assert_eq!(outcome != Outcome::Ignored, taken, "{by}: {update:?}");
        }
    }

    /// A master merges the changes of several views into one delta.
    #[test]
    fn a_delta_reports_only_what_differs_from_the_held_view() {
        let mut follower = Follower::holding(4, &["a"]);
        let changes = [added(&["a", "c", "d"]), vec![gone("x"), gone("d")]].concat();
        assert_eq!(follower.delta((view_id(4), None), 5, changes), Some(added(&["c"])));
        let changes = [vec![gone("a")], added(&["a", "c"])].concat();
        assert_eq!(follower.delta((view_id(5), None), 6, changes), Some(vec![]));
        assert_eq!((follower.0.id(), follower.ids()), (view_id(6), vec!["a", "c"]));
    }

    #[test]
    fn v6_a_delta_to_a_view_over_the_member_limit_is_not_taken() {
        let (x, y) = (added(&["x"]), added(&["y"]));
        for (held, changes, taken) in [
            (&["a"][..], added(&["b", "c"]), true),
            (&["a"], added(&["b", "c", "d"]), false),
            (&["a", "b", "c"], x.clone(), false),
            (&["a", "b", "c"], [x.clone(), vec![gone("a")]].concat(), true),
            (&["a", "b", "c"], [x.clone(), y.clone(), vec![gone("a")]].concat(), false),
            // A change that is undone does not count, and a repeated one counts once.
            (&["a", "b", "c"], [x.clone(), y, vec![gone("y"), gone("x")]].concat(), true),
            (&["a", "b", "c"], [added(&["a"]), added(&["b"]), added(&["a"])].concat(), true),
            (&["a", "b", "c"], vec![gone("z"); 9], true),
            (&["a", "b", "c"], [vec![gone("z")], x].concat(), false),
        ] {
            let mut follower = Follower::holding(4, held);
            let taken_changes = follower.delta((view_id(4), None), 5, changes.clone());
            assert_eq!(taken_changes.is_some(), taken, "{changes:?} on {held:?}");
            assert!(follower.ids().len() <= LIMIT, "{changes:?} on {held:?}");
        }
    }

    #[test]
    fn v6_a_delta_from_nothing_is_counted_without_the_held_view() {
        let diverged = || {
            let mut follower = Follower::holding(4, &["a", "b"]);
            assert_eq!(follower.delta((view_id(4), digest(&["a"])), 5, vec![]), None);
            follower
        };
        assert!(diverged().delta((ViewId::default(), None), 6, added(&["c", "d", "e"])).is_some());
        assert_eq!(diverged().delta((ViewId::default(), None), 6, added(&["c", "d", "e", "f"])), None);
    }

    #[test]
    fn v9_a_delta_on_a_view_of_the_same_members_is_taken() {
        let mut follower = Follower::holding(4, &["a"]);
        assert_eq!(follower.delta((view_id(4), digest(&["a"])), 5, added(&["b"])), Some(added(&["b"])));
        assert_eq!(follower.ids(), ["a", "b"]);
    }

    #[test]
    fn v9_a_delta_on_a_view_of_other_members_shows_a_divergence() {
        let mut follower = Follower::holding(4, &["a", "b"]);
        assert_eq!(follower.delta((view_id(4), digest(&["a"])), 5, added(&["c"])), None);
        assert_eq!((follower.0.id(), follower.ids()), (ViewId::default(), vec!["a", "b"]));
        assert_eq!(
            follower.delta((view_id(4), digest(&["a"])), 6, added(&["c"])),
            None,
            "the delta is based on another view"
        );
        // A delta from nothing replaces the view.
        let all = added(&["b", "c"]);
        let taken_changes = follower.delta((ViewId::default(), None), 7, all);
        assert_eq!(taken_changes, Some([vec![gone("a")], added(&["c"])].concat()));
        assert_eq!((follower.0.id(), follower.ids()), (view_id(7), vec!["b", "c"]));
        let next = follower.delta((view_id(7), digest(&["b", "c"])), 8, added(&["d"]));
        assert_eq!(next, Some(added(&["d"])), "now it is the same view");
    }

    #[test]
    fn v9_a_delta_on_another_view_shows_no_divergence() {
        let mut follower = Follower::holding(4, &["a"]);
        assert_eq!(follower.delta((view_id(3), digest(&["x"])), 5, added(&["c"])), None);
        assert_eq!(follower.0.id(), view_id(4));
    }

    #[test]
    fn v7_pages_become_a_view_with_the_last_one() {
        let mut follower = Follower::holding(4, &["a", "b"]);
        assert_eq!(follower.page(5, 0, false, &["b"]), None);
        assert_eq!(follower.page(5, 1, false, &["c"]), None);
        assert_eq!((follower.0.id(), follower.ids()), (view_id(4), vec!["a", "b"]));
        assert_eq!(follower.page(5, 2, true, &["d"]), Some([vec![gone("a")], added(&["c", "d"])].concat()));
        assert_eq!((follower.0.id(), follower.ids()), (view_id(5), vec!["b", "c", "d"]));
    }

    #[test]
    fn v7_a_page_out_of_order_ends_its_series() {
        for (version, index) in [(5, 0), (5, 2), (6, 1), (4, 1)] {
            let mut follower = Follower::new();
            assert_eq!(follower.page(5, 0, false, &["a"]), None);
            let other = follower.page(version, index, false, &["b"]);
            assert_eq!(other, None, "{version}, {index}");
            let taken_changes = follower.page(5, 1, true, &["c"]);
            // A series that was begun again goes on.
            let expected = (index == 0).then(|| added(&["b", "c"]));
            assert_eq!(taken_changes, expected, "behind page {index} of {version}");
        }
        assert_eq!(Follower::new().page(5, 1, true, &["a"]), None, "no series was begun");
    }

    #[test]
    fn v6_a_snapshot_is_taken_if_it_is_newer_when_complete() {
        for version in [3, 4] {
            let mut follower = Follower::holding(4, &["a"]);
            assert_eq!(follower.page(version, 0, true, &["b"]), None);
            assert_eq!(follower.ids(), ["a"]);
        }
        let mut follower = Follower::holding(4, &["a"]);
        assert_eq!(follower.page(5, 0, false, &["b"]), None);
        assert!(follower.delta((view_id(4), None), 5, added(&["c"])).is_some());
        assert_eq!(follower.page(5, 1, true, &["d"]), None);
        assert_eq!(follower.ids(), ["a", "c"]);
    }

    #[test]
    fn g7_a_snapshot_over_the_member_limit_is_not_taken() {
        for (second, taken) in [(&["b", "c"][..], true), (&["b", "c", "d"], false)] {
            let mut follower = Follower::new();
            assert_eq!(follower.page(5, 0, false, &["a"]), None);
            assert_eq!(follower.page(5, 1, true, second).is_some(), taken, "{second:?}");
        }
        assert_eq!(Follower::new().page(5, 0, true, &["a", "b", "c", "d"]), None);
    }

    #[test]
    fn v6_metadata_over_the_limit_is_not_taken_and_reported_once() {
        let large = |len| Member { metadata: alloc::vec![7; len].into(), ..member("b") };
        let page = |version, member| MembersUpdate::Page {
            view_id: view_id(version),
            index: 0,
            last: true,
            members: vec![member],
        };
        let delta = |base, version, member| MembersUpdate::Delta {
            base: view_id(base),
            base_digest: None,
            view_id: view_id(version),
            changes: vec![Change::Upsert(member)],
        };
        let over = Outcome::OverLimit(ViewLimit::Metadata);
        let mut held = Follower::holding(4, &["a"]).0;
        assert_eq!(held.update((&node("m"), false), delta(4, 5, large(10))), over);
        assert_eq!(held.update((&node("m"), false), page(5, large(10))), Outcome::Ignored, "it is reported already");
        assert!(matches!(held.update((&node("m"), false), delta(4, 5, large(9))), Outcome::Taken(_)));
        assert_eq!(held.update((&node("m"), false), page(6, large(10))), over, "a view was taken in between");
        assert_eq!(held.id(), view_id(5));
    }

    #[test]
    fn v6_the_pages_of_another_master_are_dropped() {
        let mut follower = Follower::new();
        assert_eq!(follower.page(5, 0, false, &["a"]), None);
        follower.0.forget_pages();
        assert_eq!(follower.page(5, 1, true, &["b"]), None);
        assert_eq!(follower.ids(), [""; 0]);
    }
}
