//! Counts of what happened in a run. A test that passes although nothing happened proves nothing.

use std::collections::BTreeMap;

use formation_core::{
    Change, CloseReason, Event, LossReason, MemberState, RejectReason, RemovalReason, StopReason, Term,
    message::{JoinResponse, MembersUpdate, Message, Role},
};

use crate::NodeIx;

/// Counts how often each thing happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<&'static str, u64>,
    /// The first candidate of each of the latest terms.
    candidates: BTreeMap<Term, NodeIx>,
}

impl Tally {
    /// Counts one occurrence.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// The number of occurrences.
    pub fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }

    /// Adds the counts of another tally.
    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    /// One line per counted thing, with its count.
    pub fn table(&self) -> String {
        self.counts.iter().map(|(what, count)| format!("{count:>9}  {what}\n")).collect()
    }

    /// The entries of `wanted` that never happened.
    pub fn missing<'a>(&self, wanted: &[&'a str]) -> Vec<&'a str> {
        wanted.iter().filter(|what| self.of(what) == 0).copied().collect()
    }

    pub(crate) fn message_sent(&mut self, ix: NodeIx, message: &Message) {
        let what = match message {
            Message::VoteRequest(request) => {
                let first = *self.candidates.entry(request.term).or_insert(ix);
                while self.candidates.len() > 8 {
                    self.candidates.pop_first();
                }
                if first == ix { "vote requested" } else { "term contested" }
            }
            Message::Vote(vote) if vote.granted => "vote granted",
            Message::Vote(_) => "vote refused",
            Message::Release(_) => "candidacy released",
            Message::Resign(_) => "resignation sent",
            Message::LeaveAck => "leave confirmed",
            Message::MembersUpdate(MembersUpdate::Delta { .. }) => "delta sent",
            Message::MembersUpdate(MembersUpdate::Page { .. }) => "snapshot page sent",
            Message::JoinResponse(JoinResponse::Accepted { .. }) => "node admitted",
            Message::HeartbeatAck(ack) if !ack.confirms => "heartbeat not confirmed",
            Message::Rejected(rejected) => match rejected.reason {
                RejectReason::IdInUse => "id in use",
                RejectReason::IdInView => "id in view",
                RejectReason::AddressInUse => "address in use",
                RejectReason::Superseded => "older run rejected",
                RejectReason::BadProof => "proof rejected",
                RejectReason::KeyMismatch => "no key in common",
                _ => "peer rejected",
            },
            Message::Status(status) if matches!(status.role, Role::Solo { .. }) => "status of a solo master",
            Message::Status(status) if status.abstains => "status of an abstaining voter",
            Message::Status(status) if status.promise.is_some() => "status of a bound voter",
            Message::Ping => "ping",
            Message::Proof(_) => "proof sent",
            _ => return,
        };
        self.count(what);
    }

    pub(crate) fn event(&mut self, event: &Event) {
        let what = match event {
            Event::MasterElected { .. } => "master found",
            Event::MasterLost { reason, .. } => match reason {
                LossReason::Silent => "master silent",
                LossReason::Ended => "master ended its mastership",
                LossReason::LeaseExpired => "lease expired",
                LossReason::NewerTerm => "master met a newer term",
                LossReason::Resigned => "master resigned",
                LossReason::GaveWay => "solo master gave way",
                _ => "master lost",
            },
            Event::MasterUnreachable { .. } => "master unreachable",
            Event::PeersWithoutMaster { .. } => "peers without a master",
            Event::BetterMaster { .. } => "better master reported",
            Event::Merged { .. } => "merged",
            Event::SelfDial { .. } => "node dialed itself",
            Event::Stopped { reason: StopReason::Left } => "node left",
            Event::Stopped { .. } => "node superseded",
            Event::ViewChanged { view_id, changes } => {
                for change in changes.iter() {
                    if view_id.version == 1 && matches!(change, Change::Remove { reason: RemovalReason::Left, .. }) {
                        self.count("leaving member not carried over");
                    }
                    self.count(match change {
                        Change::Upsert(member) if member.state == MemberState::Suspect => "member suspect",
                        Change::Upsert(_) => "member active",
                        Change::Remove { reason: RemovalReason::Down, .. } => "member down",
                        Change::Remove { reason: RemovalReason::Unknown, .. } => "member removed for an unknown reason",
                        Change::Remove { .. } => "member left",
                    });
                }
                return;
            }
            _ => return,
        };
        self.count(what);
    }

    pub(crate) fn connection_closed(&mut self, reason: CloseReason) {
        let what = match reason {
            CloseReason::Duplicate => "duplicate closed",
            CloseReason::Silent => "silent link closed",
            CloseReason::HandshakeTimeout => "handshake timed out",
            CloseReason::TooManyPending => "limit of pending connections reached",
            CloseReason::TooManyConnections => "limit of connections reached",
            CloseReason::Superseded => "link of an older run closed",
            _ => return,
        };
        self.count(what);
    }
}
