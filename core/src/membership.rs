//! The view that this node holds, and how a follower comes by it (PROTOCOL.md, "Members and views").

use alloc::vec::Vec;

use crate::{
    id::{Epoch, Node},
    message::MembersUpdate,
    roster::Roster,
    view::{Change, Member, MembersView},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Membership {
    pub(crate) view: MembersView,
    /// The master that wrote it.
    pub(crate) writer: Option<Node>,
    /// That was a solo master (E8).
    pub(crate) solo: bool,
    /// The view is not what the master takes it for, and only a snapshot mends that.
    misfit: bool,
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
        Self {
            view: MembersView::default(),
            writer: None,
            solo: false,
            misfit: false,
            roster: None,
            assembly: None,
            member_limit,
        }
    }

    /// What this node tells others that it holds.
    pub(crate) fn held(&self) -> Epoch {
        if self.misfit { Epoch::default() } else { self.view.epoch() }
    }

    /// The view is now one of this master's.
    pub(crate) fn written_by(&mut self, master: &Node) {
        self.writer = Some(master.clone());
        self.misfit = false;
    }

    /// Takes an update of the present master, if it is newer and fits what is held; otherwise the next acknowledgement
    /// tells the master what is held, and it sends the right thing. `None` when the view is what it was.
    pub(crate) fn update(&mut self, master: &Node, update: MembersUpdate) -> Option<Vec<Change>> {
        match update {
            MembersUpdate::Delta { base, base_by, epoch, changes } => {
                if base == self.view.epoch() && base_by.is_some() && base_by != self.writer {
                    self.misfit = true;
                }
                let fits = base == self.held() && epoch > self.view.epoch();
                if !fits || self.view.len() + changes.len() > self.member_limit.saturating_mul(2) {
                    return None;
                }
                if !self.misfit {
                    self.view.apply(epoch, &changes);
                    self.written_by(master);
                    return Some(changes);
                }
                // From nothing, then: what is held counts for nothing.
                let mut next = MembersView::default();
                next.apply(epoch, &changes);
                Some(self.replace(master, next))
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
                Some(self.replace(master, MembersView::new(epoch, assembly.members)))
            }
        }
    }

    fn replace(&mut self, master: &Node, next: MembersView) -> Vec<Change> {
        let changes = self.view.changes_to(&next);
        self.view = next;
        self.written_by(master);
        changes
    }

    /// Another master: the pages of the last one are worth nothing.
    pub(crate) fn forget_pages(&mut self) {
        self.assembly = None;
    }
}
