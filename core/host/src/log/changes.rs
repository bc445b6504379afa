//! The changes of a view as a text for people, of a bounded length.

use std::fmt;

use formation_core::{Change, MemberState, MembersView, RemovalReason};

use super::First;

/// How many members are named for one kind of change.
const NAMED: usize = 8;

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
    fn of(change: &Change, before: &MembersView) -> Self {
        let member = match change {
            Change::Remove { reason, .. } => return Self::Removed(*reason),
            Change::Upsert(member) => member,
        };
        match before.get(change.id()) {
            None => Self::Joined,
            Some(known) if known.node != member.node => Self::Restarted,
            Some(known) if known.state == member.state => Self::Updated,
            Some(_) => match member.state {
                MemberState::Active => Self::Active,
                MemberState::Suspect => Self::Suspect,
            },
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
pub(super) struct Summary<'a>(pub(super) &'a [Change], pub(super) &'a MembersView);

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
    use formation_core::{
        Address, Config, Formation, Incarnation, Input, Member, Node, NodeId, Output, Start, Timestamp,
    };

    use super::*;

    fn member(id: &str) -> Member {
        let node = Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(1) };
        Member {
            node,
            address: Address::new(format!("{id}:1")).unwrap(),
            state: MemberState::Active,
            metadata: Default::default(),
        }
    }

    fn removed(id: &str, reason: RemovalReason) -> Change {
        Change::Remove { id: NodeId::new(id).unwrap(), reason }
    }

    /// A view whose only member is the node `a` itself.
    fn view_of_a() -> MembersView {
        let config = Config::single("test", "a", "a:1").build().unwrap();
        let mut node = Formation::new(config, Start::new(Incarnation(1), 1), Timestamp::ZERO);
        node.handle_input(Timestamp::ZERO, Input::Tick).unwrap();
        while let Some(output) = node.poll_output() {
            if let Output::Persist { seq, .. } = output {
                node.handle_input(Timestamp::ZERO, Input::Persisted { seq }).unwrap();
            }
        }
        node.view().clone()
    }

    #[test]
    fn changes_are_named_by_what_has_happened() {
        let before = view_of_a();
        assert_eq!(before.len(), 1);
        let own = before.iter().next().unwrap().clone();
        let suspect = Member { state: MemberState::Suspect, ..own.clone() };
        let newer = Node { incarnation: Incarnation(2), ..own.node.clone() };
        let told = |changes: &[Change]| Summary(changes, &before).to_string();
        assert_eq!(told(&[member("b"), member("c")].map(Change::Upsert)), "joined: b, c");
        assert_eq!(told(&[Change::Upsert(suspect)]), "suspect: a");
        assert_eq!(told(&[Change::Upsert(Member { node: newer, ..own.clone() })]), "restarted: a");
        assert_eq!(told(&[Change::Upsert(Member { metadata: vec![7].into(), ..own })]), "updated: a");
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
        let told = |count: usize| Summary(&changes[..count], &MembersView::default()).to_string();
        assert_eq!(told(8), "joined: n0, n1, n2, n3, n4, n5, n6, n7");
        assert_eq!(told(100), "joined: n0, n1, n2, n3, n4, n5, n6, n7 and 92 more");
    }
}
