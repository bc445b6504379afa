//! The changes of a view as a text for people, of a bounded length.

use std::{collections::BTreeMap, fmt};

use formation_core::{Change, Incarnation, MemberState, MembersView, NodeId, RemovalReason, ViewId};

use super::First;

/// How many members are named for one kind of change.
const NAMED: usize = 8;

/// The members of the view that was logged last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    view: MembersView,
    /// How the members that have changed since then were logged; `None`: they are removed. One input can lead to several views, of which
    /// the core has only the last one.
    since: BTreeMap<NodeId, Option<(Incarnation, MemberState)>>,
}

impl Members {
    /// These changes are logged, which have led to the view of this id. `present` is the view of the core.
    pub(crate) fn apply(&mut self, view_id: ViewId, changes: &[Change], present: &MembersView) {
        if present.id() == view_id {
            return self.catch_up(present);
        }
        let after = |change: &Change| match change {
            Change::Upsert(member) => Some((member.node.incarnation, member.state)),
            Change::Remove { .. } => None,
        };
        self.since.extend(changes.iter().map(|change| (change.id().clone(), after(change))));
    }

    /// All changes up to the view of the core are logged.
    pub(crate) fn catch_up(&mut self, present: &MembersView) {
        if self.view.id() != present.id() {
            self.view = present.clone();
        }
        self.since.clear();
    }

    fn get(&self, id: &NodeId) -> Option<(Incarnation, MemberState)> {
        let of_view = || self.view.get(id).map(|member| (member.node.incarnation, member.state));
        self.since.get(id).copied().unwrap_or_else(of_view)
    }
}

/// How a member has changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Joined,
    /// A newer run of the same node.
    Restarted,
    Suspect,
    Active,
    /// Its metadata or its address.
    Updated,
    Removed(RemovalReason),
}

impl Kind {
    fn of(change: &Change, before: &Members) -> Self {
        let member = match change {
            Change::Remove { reason, .. } => return Self::Removed(*reason),
            Change::Upsert(member) => member,
        };
        match before.get(change.id()) {
            None => Self::Joined,
            Some((incarnation, _)) if incarnation != member.node.incarnation => Self::Restarted,
            Some((_, state)) if state == member.state => Self::Updated,
            Some(_) if member.state.is_active() => Self::Active,
            Some(_) => Self::Suspect,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joined => f.write_str("joined"),
            Self::Restarted => f.write_str("restarted"),
            Self::Suspect => f.write_str("suspect"),
            Self::Active => f.write_str("active again"),
            Self::Updated => f.write_str("updated"),
            Self::Removed(RemovalReason::Left) => f.write_str("left"),
            Self::Removed(reason) => write!(f, "removed, {reason}"),
        }
    }
}

/// The changes, relative to the view before them: `joined: a, b; removed, silent for down_after: c`.
pub(super) struct Summary<'a>(pub(super) &'a [Change], pub(super) &'a Members);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(changes, before) = self;
        let mut kinds: Vec<(Kind, Vec<&Change>)> = Vec::new();
        for change in *changes {
            let kind = Kind::of(change, before);
            match kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, same)) => same.push(change),
                None => kinds.push((kind, vec![change])),
            }
        }
        for (number, (kind, changes)) in kinds.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(f, "{separator}{kind}: {}", First(NAMED, changes.iter().map(|change| change.id())))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use formation_core::{Address, Member, Node};

    use super::*;

    fn member(id: &str) -> Member {
        let node = Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(1) };
        Member::new(node, Address::new(format!("{id}:1")).unwrap())
    }

    fn removed(id: &str, reason: RemovalReason) -> Change {
        Change::Remove { id: NodeId::new(id).unwrap(), reason }
    }

    #[test]
    fn changes_are_named_by_what_has_happened() {
        let own = member("a");
        let mut before = Members::default();
        before.apply(
            ViewId { version: 1, ..ViewId::default() },
            &[Change::Upsert(own.clone())],
            &MembersView::default(),
        );
        let suspect = own.clone().with_state(MemberState::Suspect);
        let newer = Node { incarnation: Incarnation(2), ..own.node.clone() };
        let told = |changes: &[Change]| Summary(changes, &before).to_string();
        assert_eq!(told(&[member("b"), member("c")].map(Change::Upsert)), "joined: b, c");
        assert_eq!(told(&[Change::Upsert(suspect)]), "suspect: a");
        assert_eq!(told(&[Change::Upsert(Member::new(newer, own.address.clone()))]), "restarted: a");
        assert_eq!(told(&[Change::Upsert(own.with_metadata(vec![7]))]), "updated: a");
        let removals = [
            ("b", RemovalReason::Left),
            ("c", RemovalReason::Down),
            ("d", RemovalReason::Unknown),
            ("e", RemovalReason::Left),
        ];
        let removals = removals.map(|(id, reason)| removed(id, reason));
        assert_eq!(told(&removals), "left: b, e; removed, silent for down_after: c; removed, reason unknown: d");
    }

    #[test]
    fn a_summary_names_a_few_members_and_counts_the_others() {
        let changes: Vec<_> = (0..100).map(|number| Change::Upsert(member(&format!("n{number}")))).collect();
        let told = |count: usize| Summary(&changes[..count], &Members::default()).to_string();
        assert_eq!(told(8), "joined: n0, n1, n2, n3, n4, n5, n6, n7");
        assert_eq!(told(100), "joined: n0, n1, n2, n3, n4, n5, n6, n7 and 92 more");
    }
}
