//! E10: voters that change, around the election.

use super::super::super::{ElectorateStep, Roster};
use super::*;
use crate::api::electorate::ElectorateVersion;

/// What has happened to the electorate so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in super::super) struct Seen {
    /// A master has written other voters.
    pub(in super::super) changed: bool,
    /// Two masters have written other voters.
    pub(in super::super) by: Vec<usize>,
    /// An electorate with other voters was replaced by one of a newer term that does not have them.
    pub(in super::super) rolled_back: bool,
    /// A vote was refused because of the electorate of its candidate.
    pub(in super::super) refused: bool,
    /// A master has reached a target that another one was asked for.
    pub(in super::super) finished_by_another: bool,
    /// A master that was no voter any more has resigned.
    pub(in super::super) removed_itself: bool,
}

/// Every linked node is an active member, and stores its votes.
struct Linked<'a>(&'a Voter);

impl Roster for Linked<'_> {
    fn is_active(&self, address: &Address) -> bool {
        self.0.links.get(place(address)).is_some_and(Option::is_some)
    }

    fn is_durable(&self, address: &Address) -> bool {
        self.is_active(address)
    }
}

impl World {
    /// The next step of a master. Returns whether there was one.
    pub(super) fn change_voters(&mut self, ix: usize) -> bool {
        match self.voters[ix].election.next_electorate_step(&Linked(&self.voters[ix])) {
            ElectorateStep::None | ElectorateStep::Wait(_) => false,
            ElectorateStep::Write(electorate) => {
                if electorate.voters != self.voters[ix].election.electorate().voters {
                    self.seen.changed = true;
                    self.seen.finished_by_another |= electorate.target.is_none() && !self.seen.by.contains(&ix);
                    if !self.seen.by.contains(&ix) {
                        self.seen.by.push(ix);
                    }
                }
                self.voters[ix].election.write_electorate(electorate)
            }
            ElectorateStep::HandOver => {
                self.seen.removed_itself = true;
                self.voters[ix].election.hand_over();
                true
            }
        }
    }

    /// The node acts by another electorate now.
    pub(super) fn electorate_changed(&mut self, ix: usize) -> Option<(usize, Frame)> {
        let places = self.voters.len();
        let nodes: Vec<Node> = self.voters.iter().map(|voter| voter.election.me.clone()).collect();
        let voter = &mut *self.voters[ix];
        let lost = voter.acted_by.as_ref().is_some_and(|before| {
            let now = voter.election.electorate();
            before.version.term < now.version.term
                && before.target.is_some()
                && before.voters != now.voters
                && now.voters.len() == self.first
        });
        self.seen.rolled_back |= lost;
        voter.acted_by = Some(voter.election.electorate().clone());
        for other in (0..places).filter(|other| voter.links[*other].is_some()) {
            let status = voter.statuses[other].clone();
            voter.election.voter_is_linked(&name(other), &nodes[other], (None, status.as_ref()));
        }
        if voter.election.is_master() {
            voter.last_heartbeat = None;
            return None;
        }
        let (master, heartbeat) = voter.election.newest_heartbeat()?;
        let to = index(&master.id);
        let address = name(to);
        Some((to, Frame::Ack(self.acknowledge(ix, &nodes[to], &address, heartbeat))))
    }

    pub(super) fn acknowledge(
        &mut self,
        ix: usize,
        from: &Node,
        address: &Address,
        heartbeat: Heartbeat,
    ) -> HeartbeatAck {
        let election = &mut self.voters[ix].election;
        let (_, confirms) = election.heartbeat(from, address, heartbeat);
        let (term, electorate) = (election.term(), election.electorate().version);
        HeartbeatAck { term, number: heartbeat.number, view_id: Default::default(), confirms, electorate }
    }

    pub(super) fn note_status(&mut self, from: usize, to: usize, status: &StatusReport) {
        if self.voters_change {
            self.voters[to].statuses[from] = Some(status.clone());
        }
    }

    /// The electorate, for those whose newest status shows an older one.
    pub(super) fn offers(&mut self, ix: usize) -> Vec<(usize, Frame)> {
        let voter = &self.voters[ix];
        let electorate = voter.election.electorate();
        if electorate.version == ElectorateVersion::default()
            || !(voter.election.is_voter || voter.election.is_master())
        {
            return Vec::new();
        }
        let is_older = |status: &StatusReport| status.electorate < electorate.version;
        let older: Vec<usize> = (0..self.voters.len())
            .filter(|to| voter.links[*to].is_some() && voter.statuses[*to].as_ref().is_some_and(is_older))
            .collect();
        let frame = Frame::Electorate(electorate.clone());
        let version = electorate.version;
        for to in &older {
            // It is sent once for each status.
            if let Some(status) = &mut self.voters[ix].statuses[*to] {
                status.electorate = version;
            }
        }
        older.into_iter().map(|to| (to, frame.clone())).collect()
    }

    /// Whether the receiver handles the frame: only voters take part in elections, by the electorate that the receiver holds.
    pub(super) fn is_believed(&self, from: usize, to: usize, frame: &Frame) -> bool {
        let receiver = &self.voters[to].election;
        let is_voter = receiver.electorate().voters.contains(&name(from));
        match frame {
            Frame::Down | Frame::Hello(_) | Frame::Ack(_) | Frame::Electorate(_) => true,
            Frame::Status(status) => match status.role {
                Role::Joining | Role::Follower { .. } | Role::Leaving => true,
                Role::Candidate | Role::Master | Role::Solo { .. } => is_voter,
            },
            Frame::Request(_) => is_voter && receiver.is_voter,
            Frame::Vote(_) | Frame::Release(_) | Frame::Resign(_) | Frame::Heartbeat(_) => is_voter,
        }
    }

    /// All nodes are linked, and the first `first` of them have elected the one with the lowest id.
    pub(in super::super) fn formed_with_members(places: usize, first: usize) -> Self {
        let mut world = Self { voters_change: true, ..Self::begun_with((places, first), None, &timing()) };
        world.run_until_quiet();
        world
    }
}
