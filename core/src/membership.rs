//! The view that this node holds, and how a follower comes by it (PROTOCOL.md, "Members and views").

use alloc::vec::Vec;

use crate::{
    id::Epoch,
    message::MembersUpdate,
    roster::Roster,
    view::{Change, Member, MembersView},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Membership {
    pub(crate) view: MembersView,
    /// Only on a master.
    pub(crate) roster: Option<Roster>,
    assembly: Option<Assembly>,
    member_limit: usize,
}

/// The pages of a snapshot that have come so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Assembly {
    epoch: Epoch,
    next: u32,
    members: Vec<Member>,
}

impl Membership {
    pub(crate) fn new(member_limit: usize) -> Self {
        Self { view: MembersView::default(), roster: None, assembly: None, member_limit }
    }

    /// Takes an update of the present master, if it is newer and fits what is held; otherwise the next acknowledgement
    /// tells the master what is held, and it sends the right thing. `None` when the view is what it was.
    pub(crate) fn update(&mut self, update: MembersUpdate) -> Option<Vec<Change>> {
        match update {
            MembersUpdate::Delta { base, epoch, changes } => {
                let fits = base == self.view.epoch() && epoch > base;
                if !fits || self.view.len() + changes.len() > self.member_limit.saturating_mul(2) {
                    return None;
                }
                self.view.apply(epoch, &changes);
                Some(changes)
            }
            MembersUpdate::Page { epoch, index, last, members } => {
                let mut assembly = match self.assembly.take() {
                    Some(assembly) if assembly.epoch == epoch && assembly.next == index => assembly,
                    _ if index == 0 && epoch > self.view.epoch() => Assembly { epoch, next: 0, members: Vec::new() },
                    _ => return None,
                };
                if assembly.members.len() + members.len() > self.member_limit {
                    return None;
                }
                assembly.members.extend(members);
                assembly.next = index.saturating_add(1);
                if !last {
                    self.assembly = Some(assembly);
                    return None;
                }
                if epoch <= self.view.epoch() {
                    return None;
                }
                let next = MembersView::new(epoch, assembly.members);
                let changes = self.view.changes_to(&next);
                self.view = next;
                Some(changes)
            }
        }
    }

    /// Another master: the pages of the last one are worth nothing.
    pub(crate) fn forget_pages(&mut self) {
        self.assembly = None;
    }
}
