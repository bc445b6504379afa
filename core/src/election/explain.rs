//! Why a voter is not doing more in the election.

use alloc::collections::BTreeSet;
use core::time::Duration;

use super::{Election, Persistence, Voter};
use crate::{
    api::explain::{NoMasterReason, Storage},
    id::{Address, Node},
};

impl Election {
    /// What is known of the storage (E4).
    pub(crate) fn storage(&self) -> Storage {
        let Persistence { failed, delayed, in_flight, .. } = &self.persistence;
        match (failed, delayed, in_flight) {
            (true, _, _) => Storage::Failed,
            (false, true, _) => Storage::Delayed,
            (false, false, Some(_)) => Storage::Writing,
            (false, false, None) => Storage::Idle,
        }
    }

    /// The node to which a promise binds this voter, and for how long.
    pub(crate) fn promise(&self) -> Option<(Node, Duration)> {
        self.live_promise().map(|promise| (promise.to.clone(), promise.until.since(self.now)))
    }

    /// The first thing that keeps this node from becoming a candidate, provided that enough voters are linked.
    pub(crate) fn why_no_candidate(&self) -> NoMasterReason {
        if !self.is_voter {
            return NoMasterReason::VotersHaveNone;
        }
        match self.storage() {
            Storage::Failed => return NoMasterReason::Storage,
            Storage::Delayed => return NoMasterReason::StorageDelayed,
            Storage::Writing | Storage::Idle => {}
        }
        if !self.may_form() {
            return NoMasterReason::MayOnlyJoin;
        }
        if !self.can_win() {
            return NoMasterReason::LeaseTooLong;
        }
        if self.in_grace_towards(&self.me) {
            return NoMasterReason::InGrace { waits_for: self.addresses(|voter| voter.causes_grace_towards(&self.me)) };
        }
        if let Some(promise) = self.live_promise().filter(|promise| promise.to != self.me) {
            return NoMasterReason::Promised { to: promise.to.clone() };
        }
        self.too_few_vote().unwrap_or(NoMasterReason::AwaitsTurn)
    }

    /// Why this candidate is not elected. `None` if it is no candidate.
    pub(crate) fn why_no_votes(&self) -> Option<NoMasterReason> {
        let votes = self.state.candidacy()?.granted.len() + 1;
        Some(self.too_few_vote().unwrap_or(NoMasterReason::Candidate { votes }))
    }

    /// Enough voters are linked, and too few of them can vote now. Where all voters are linked, this keeps nobody from being a candidate
    /// (E2).
    fn too_few_vote(&self) -> Option<NoMasterReason> {
        let enough = |is_meant: fn(&Voter) -> bool| {
            self.others.values().filter(|voter| is_meant(voter)).count() + 1 >= self.quorum
        };
        (enough(Voter::is_linked) && !enough(Voter::may_elect)).then(|| NoMasterReason::VotersAbstain {
            voters: self.addresses(|voter| voter.is_linked() && !voter.may_elect()),
        })
    }

    fn addresses(&self, is_meant: impl Fn(&Voter) -> bool) -> BTreeSet<Address> {
        self.others.iter().filter(|(_, voter)| is_meant(voter)).map(|(address, _)| address.clone()).collect()
    }
}
