//! What E8 means for views: how many members a solo master counts, and who says that it has changed sides
//! (PROTOCOL.md, "Electing one master").

use crate::{
    formation::Formation,
    id::Node,
    interface::Event,
    link::Peer,
    message::{MembersUpdate, Role},
    view::{Member, MemberState},
};

impl Peer {
    /// Whether it belongs to another side than a solo master that is linked to it: both would count it.
    pub(crate) fn is_elsewhere(&self, solo: &Node) -> bool {
        match self.status.as_ref().map(|status| &status.role) {
            Some(Role::Follower { master, .. }) => master != solo,
            Some(Role::Master | Role::Solo { .. }) => true,
            _ => false,
        }
    }

    /// Whether it takes the views of this solo master, as far as is known: to who has another master they may be of a newer
    /// term than any that it knows of.
    pub(crate) fn takes_views_of(&self, solo: &Node) -> bool {
        self.status.is_some() && !self.is_elsewhere(solo)
    }
}

impl Formation {
    /// What a solo master says that it has: those that answer it, but for whom follows another by now.
    pub(crate) fn count_members(&mut self) {
        if !self.election.is_solo() {
            return;
        }
        let elsewhere =
            |member: &Member| self.peers.get(&member.node.id).is_some_and(|peer| peer.is_elsewhere(&self.me));
        let counts = |member: &&Member| member.state == MemberState::Active && !elsewhere(member);
        let members = self.membership.view.iter().filter(counts).count();
        self.election.set_members(u32::try_from(members).unwrap_or(u32::MAX));
    }

    /// An update of the present master. A view of a solo one that gives way to the view of another: two clusters have become
    /// one, unless the other was a member of it, and only came after it.
    pub(crate) fn take_update(&mut self, master: &Node, update: MembersUpdate) {
        let (from, solo) = (self.membership.view.id(), self.membership.solo);
        // Started again, it is still the master of this side.
        let another = self.membership.writer.as_ref().is_some_and(|writer| writer.id != master.id);
        let active = |member: &Member| member.node == *master && member.state == MemberState::Active;
        let succeeds = self.membership.view.get(&master.id).is_some_and(active);
        let Some(changes) = self.membership.update(master, update, &self.gone) else { return };
        self.membership.solo = self.election.follows_solo();
        self.announce_view(changes);
        let gave_way = self.election.take_gave_way();
        if solo && another && (gave_way || !succeeds) {
            let to = self.membership.view.id();
            self.event(Event::Merged { from, to });
        }
    }
}
