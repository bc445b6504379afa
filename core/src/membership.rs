//! The view that this node holds, and on a master everything about its members (PROTOCOL.md, "Members and views").
//!
//! - `follower`: the view that is held, and the updates of a master.
//! - `master`: admission, updates, suspicion and removal on a master.
//! - `tracker`: what a master keeps about each member, and what each member still lacks.
//! - `pace`: how often a node changes its entry.
//! - `unresponsive`: who became a member and acknowledged nothing.
//! - `arrivals`: how regularly a member acknowledges, for the φ accrual detector.
//! - `roster`: the members of a view, in chunks that views share.
//! - `view`: the member list.

mod arrivals;
mod follower;
#[cfg(test)]
mod invariants;
mod master;
mod pace;
mod pages;
mod roster;
mod suspicions;
mod tracker;
mod unresponsive;
pub(crate) mod view;

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use self::{
    follower::{HeldView, Outcome},
    master::Mastering,
};
pub(crate) use self::{master::Judged, tracker::MemberKey};
use crate::{
    api::config::Limits,
    api::event::Event,
    election::Election,
    env::{Env, Sink, never},
    id::{Node, NodeId, Term, ViewId},
    membership::view::{Change, Member, MembersView},
    peers::{Peer, PeerTable},
    timers::{Timer, Timers},
    wire::frame::SharedFrame,
    wire::message::MembersUpdate,
};

/// A burst of changes is over when nothing has changed for this part of a heartbeat interval.
const QUIET: u32 = 64;

/// The view that this node holds, and on a master everything about its members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Membership {
    held: HeldView,
    /// Exactly on a master.
    mastering: Option<Mastering>,
    /// There was a new view since [`take_announced`](Self::take_announced).
    announced: bool,
    /// How long after their sending the heartbeats were acknowledged of which the present input has the acknowledgements.
    round_trips: Vec<Duration>,
}

/// What the membership reads, and what it changes beside itself.
pub(crate) struct Context<'a> {
    pub(crate) env: &'a Env,
    pub(crate) election: &'a Election,
    pub(crate) peers: &'a mut PeerTable,
    pub(crate) sink: &'a mut Sink,
}

/// What has become of an update.
pub(crate) enum Update {
    /// The view is what it was.
    Ignored,
    Taken,
    /// It was taken in place of a view that another, solo master wrote (E8).
    TakenFromAnotherSide {
        from: ViewId,
        to: ViewId,
        /// The new master was an active member of the view before: it may only have succeeded the solo master.
        succeeds: bool,
    },
}

impl Membership {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { held: HeldView::new(limits), mastering: None, announced: false, round_trips: Vec::new() }
    }

    pub(crate) fn view(&self) -> &MembersView {
        self.held.view()
    }

    /// The next input is about to be handled.
    pub(crate) fn begin_input(&mut self) {
        self.round_trips.clear();
    }

    /// How long after their sending the heartbeats were acknowledged of which the last input had the acknowledgements.
    pub(crate) fn round_trips(&self) -> &[Duration] {
        &self.round_trips
    }

    /// The view that this node reports to hold: none, when only a snapshot can repair it.
    pub(crate) fn held_id(&self) -> ViewId {
        self.held.id()
    }

    /// Terms and view ids begin again with this term.
    pub(crate) fn begin_again(&mut self, term: Term) {
        self.held.begin_again(term);
    }

    /// There is another master: the pages of the last one do not count.
    pub(crate) fn forget_pages(&mut self) {
        self.held.forget_pages();
    }

    /// A peer leaves that this node is not the master of. This node may be the next master, and write the next view.
    pub(crate) fn note_leaver(&mut self, peer: &Peer) {
        self.held.note_leaver(peer.node());
    }

    /// How many active members a solo master has, apart from those that follow another master by now (E8).
    pub(crate) fn count_active(&self, peers: &PeerTable, me: &Node) -> usize {
        let is_elsewhere = |id: &NodeId| peers.with_id(id).is_some_and(|peer| peer.is_elsewhere(me));
        let counts = |member: &&Member| member.state.is_active() && !is_elsewhere(&member.node.id);
        self.held.view().iter().filter(counts).count()
    }

    /// Takes an update of the present master.
    pub(crate) fn take_update(&mut self, context: &mut Context<'_>, master: &Node, update: MembersUpdate) -> Update {
        let (from, was_solo) = (self.held.view().id(), self.held.is_of_solo());
        // After a restart, a master is still the master of the same side.
        let is_another = self.held.writer().is_some_and(|writer| writer.id != master.id);
        let is_active = |member: &Member| member.node == *master && member.state.is_active();
        let succeeds = self.held.view().get(&master.id).is_some_and(is_active);
        let by = (master, context.election.follows_solo());
        let changes = match self.held.update(by, update) {
            Outcome::Taken(changes) => changes,
            Outcome::Ignored => return Update::Ignored,
            Outcome::OverLimit(limit) => {
                context.sink.event(Event::ViewTooLarge { master: master.clone(), limit });
                return Update::Ignored;
            }
        };
        self.announce(context, changes);
        match was_solo && is_another {
            true => Update::TakenFromAnotherSide { from, to: self.held.view().id(), succeeds },
            false => Update::Taken,
        }
    }

    /// Whether there was a new view since the last call.
    pub(crate) fn take_announced(&mut self) -> bool {
        core::mem::take(&mut self.announced)
    }

    /// There is a view of a new id. It is reported if its members differ from those of the last one.
    fn announce(&mut self, context: &mut Context<'_>, changes: Vec<Change>) {
        self.held.forget_leavers();
        self.announced = true;
        if !changes.is_empty() {
            context.sink.event(Event::ViewChanged { view_id: self.held.view().id(), changes: changes.into() });
        }
        let Some(mastering) = &self.mastering else { return };
        if mastering.tracker.is_due(self.held.view()) {
            context.peers.wake_links_of(mastering.tracker.members());
        } else if !mastering.burst_ended && mastering.tracker.has_burst(self.held.view()) {
            context.sink.set_timer(Timer::Burst, context.env.now + context.env.timing().heartbeat_interval / QUIET);
        }
    }

    /// Checks what holds between two inputs.
    ///
    /// # Panics
    /// When something does not hold.
    pub(crate) fn check(&self, env: &Env, election: &Election, peers: &PeerTable, timers: &Timers) {
        assert_eq!(self.mastering.is_some(), election.is_master(), "members are tracked exactly on a master");
        assert!(!self.announced, "every new view is handled");
        let is_member = |node: &Node| self.held.view().get(&node.id).is_some_and(|member| member.node == *node);
        assert!(self.held.leavers().iter().all(is_member), "leavers are members: {:?}", self.held.leavers());
        match &self.mastering {
            Some(mastering) => {
                assert_eq!(self.held.id(), self.held.view().id(), "a master holds its own view");
                assert_eq!(self.held.writer(), Some(&env.me), "a master has written the view that it holds");
                assert_eq!(self.held.id().term, election.term(), "a master's view is of its term");
                mastering.check(self.held.view(), env, peers, timers);
            }
            None => {
                assert!(!timers.is_set(&Timer::Members), "only a master judges members");
                assert!(!timers.is_set(&Timer::Burst), "only a master waits for the end of a burst");
                assert!(!timers.is_set(&Timer::Heartbeat), "only a master sends heartbeats");
            }
        }
    }
}

/// What is sent to members.
impl Membership {
    /// The newest heartbeat of this master, and its number.
    pub(crate) fn heartbeat(&self) -> Option<(u64, SharedFrame)> {
        self.mastering.as_ref()?.heartbeat.clone()
    }

    /// The next update that the member lacks, if it fits in `room` bytes.
    pub(crate) fn next_update(&mut self, id: &NodeId, version: u16, room: usize) -> Option<Bytes> {
        let mastering = self.mastering.as_mut()?;
        mastering.tracker.next_update(self.held.view(), id, (version, room))
    }

    /// A heartbeat of this number goes to the member.
    pub(crate) fn heartbeat_sent(&mut self, id: &NodeId, number: u64) {
        let Some(mastering) = &mut self.mastering else { return never!("only a master sends heartbeats") };
        mastering.tracker.heartbeat_sent(id, number);
    }
}
