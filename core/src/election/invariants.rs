//! The invariants of an election. They hold whenever one of its methods has returned, whatever peers have sent.

use super::{Election, rules::is_durable, state::State};
use crate::{
    api::electorate::ElectorateVersion,
    id::{Address, Node, Term},
};

impl Election {
    /// Checks the invariants between two inputs.
    ///
    /// # Panics
    /// When something does not hold.
    pub(crate) fn check_invariants(&self) {
        self.check_persistence();
        self.check_state();
        self.check_candidacy();
        self.check_mastership();
        self.check_master();
        self.check_votes();
        self.check_electorate();
        self.solo.check(|address| self.others.contains_key(address));
    }

    /// Checks what holds once the node has carried out the effects. `peer_at` returns the peer at an address.
    ///
    /// # Panics
    /// When something does not hold.
    pub(crate) fn check_node<'a>(&self, peer_at: impl Fn(&Address) -> Option<&'a Node>) {
        assert!(self.effects.is_empty(), "every effect is carried out: {:?}", self.effects);
        for (address, voter) in &self.others {
            assert_eq!(voter.linked.as_ref(), peer_at(address), "the voter at {address} is linked iff it is a peer");
        }
        let is_linked = |node: &Node| self.others.values().any(|voter| voter.linked.as_ref() == Some(node));
        let deferred = self.deferred.values().find(|(candidate, _)| !is_linked(candidate));
        assert_eq!(deferred, None, "E3: only requests of linked voters are deferred");
    }

    /// E4.
    fn check_persistence(&self) {
        let persistence = &self.persistence;
        let newest = persistence.in_flight.as_ref().unwrap_or(&persistence.durable);
        let is_new = persistence.in_flight.as_ref() != Some(&persistence.durable);
        assert!(is_new, "E4: a Persist in flight changes something");
        // E7: a node that is no voter may go back.
        let is_newer = !self.is_voter || persistence.durable.term <= newest.term;
        assert!(is_newer, "E4: a Persist never lowers the durable term");
        let is_newest = !self.is_voter || newest.term <= self.hard.term;
        assert!(is_newest, "E4: nothing newer than the hard state is made durable");
        assert!(!persistence.delayed || persistence.in_flight.is_some(), "E4: only a Persist in flight is delayed");
        if persistence.failed {
            assert!(persistence.in_flight.is_none(), "E4: after a failed Persist none is in flight");
        } else {
            let is_requested = persistence.in_flight.is_some() || persistence.durable == self.hard;
            assert!(is_requested, "E4: the hard state is durable, or a Persist is in flight");
        }
    }

    fn check_state(&self) {
        assert!(!self.others.contains_key(&self.address), "this node is none of the other voters");
        match &self.state {
            State::Idle | State::Leaving => {}
            State::Candidate(_) | State::Master(_) => {
                assert!(self.is_voter, "only a voter is a candidate or a master");
                assert!(self.following.is_none(), "E2: a candidate or a master follows nobody");
                assert!(self.free_since.is_none(), "E2: a candidate or a master is not free to become a candidate");
                let votes_for_itself = self.hard.voted_for.as_ref() == Some(&self.me);
                assert!(votes_for_itself, "E2: a candidate or a master has voted for itself in its term");
                let earlier = self.given_up.is_none_or(|(term, _)| term < self.hard.term);
                assert!(earlier, "E2: a candidacy is in a newer term than the one that was given up");
            }
        }
        assert!(self.is_voter || self.free_since.is_none(), "E2: only a voter is free to become a candidate");
        let has_passed = self.given_up.is_none_or(|(term, _)| term <= self.hard.term);
        assert!(has_passed, "E2: no term was given up before its time");
    }

    /// E2, E4.
    fn check_candidacy(&self) {
        let Some(candidacy) = self.state.candidacy() else { return };
        let names_a_voter = |address| self.others.contains_key(address);
        assert!(candidacy.granted.iter().all(names_a_voter), "E2: only other voters grant");
        assert!(candidacy.refused.iter().all(names_a_voter), "E2: only other voters refuse");
        assert!(candidacy.number <= self.number, "E2: the requests have a number that was given out");
        assert!(candidacy.deadline > self.now, "E2: a candidacy ends at its deadline");
        let promised = self.live_promise().is_some_and(|promise| promise.to == self.me);
        assert!(promised, "E5: a candidate is bound by its promise to itself");
        let reachable = 1 + self.others.len() - candidacy.refused.len();
        assert!(reachable >= self.quorum, "E2: a candidate that can get no quorum has given up");
        let durable = is_durable(&self.me, self.hard.term, &self.persistence.durable);
        assert_eq!(candidacy.requested_at.is_some(), durable, "E4: a candidate asks once its own vote is durable");
        if candidacy.requested_at.is_some() {
            let has_quorum = candidacy.solo || candidacy.granted.len() + 1 >= self.quorum;
            assert!(!has_quorum, "E2: a candidate with a quorum of votes is master");
        }
        assert!(!candidacy.solo || self.solo.is_enabled(), "E8: a solo candidacy is configured");
    }

    /// E4, E6.
    fn check_mastership(&self) {
        let Some(mastership) = self.state.mastership() else { return };
        let durable = is_durable(&self.me, self.hard.term, &self.persistence.durable);
        assert!(durable, "E4: the vote of a master for itself is durable");
        assert!(self.lease_until(mastership, self.now) > self.now, "E6: the lease of a master is valid");
        let names_a_voter = |address| self.others.contains_key(address);
        let may_confirm = |address| self.electorate.may_become_voter(address) && *address != self.address;
        assert!(mastership.confirmed.keys().all(may_confirm), "E6: only other voters confirm a lease");
        assert!(mastership.installed.iter().all(names_a_voter), "E10: only other voters confirm an electorate");
        assert!(mastership.changed_at <= self.number, "E10: an electorate is no newer than the newest heartbeat");
        assert!(mastership.confirmed.values().all(|at| *at <= self.now), "E6: nothing is confirmed before it was sent");
        let ascending = mastership.sent.iter().is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        assert!(ascending, "E6: heartbeats are numbered in the order in which they were sent");
        let newest = mastership.sent.back().is_none_or(|(number, at)| *number <= self.number && *at <= self.now);
        assert!(newest, "E6: a heartbeat that was sent has a number that was given out");
        assert!(self.deferred.is_empty(), "E3: a master refuses every request at once");
        assert!(!mastership.solo || self.solo.is_enabled(), "E8: a solo mastership is configured");
    }

    /// What this node knows about its master, which may be itself.
    fn check_master(&self) {
        let known = |term: Term, master| self.known_master.as_ref() == Some(&(term, master));
        if let Some(following) = &self.following {
            assert!(following.master.id != self.me.id, "a node does not follow itself");
            assert!(following.term <= self.hard.term, "E7: a master was accepted in a term that this node knows");
            let is_known = known(following.term, following.master.clone());
            assert!(is_known, "the master that is followed is the last one known");
            assert!(!following.solo || self.solo.is_enabled(), "E8: following a solo master is configured");
        }
        let is_known = !self.is_master() || known(self.hard.term, self.me.clone());
        assert!(is_known, "a master is the last one that it knows");
        assert!(self.known_master.is_none() || self.hard.joined, "D7: a node that has had a master has joined");
    }

    /// E10.
    fn check_electorate(&self) {
        let Self { electorate, address, .. } = self;
        assert_eq!(self.quorum, electorate.quorum(), "E10: the quorum is that of the electorate");
        assert_eq!(self.is_voter, electorate.voters.contains(address), "E10: a voter is in the electorate");
        let others = electorate.voters.iter().filter(|voter| *voter != address);
        assert!(self.others.keys().eq(others), "E10: the other voters are those of the electorate");
        let is_right = self.others.iter().all(|(address, voter)| voter.is_surplus == electorate.is_surplus(address));
        assert!(is_right, "E10: a voter that is to be removed is known");
        let durable = self.persistence.durable.electorate.as_ref().map(|durable| durable.version);
        assert_eq!(durable.unwrap_or_default(), electorate.version, "E10: a node acts by a durable electorate");
        let is_of_known_term = self.newest_version().term <= self.hard.term || !self.is_voter;
        assert!(is_of_known_term, "E10: an electorate is of a term that this node knows");
    }

    /// E3, E5.
    fn check_votes(&self) {
        for (id, (candidate, _)) in &self.deferred {
            assert!(candidate.id == *id, "E3: a deferred request is found by the id of its candidate");
        }
        let may_defer = self.can_vote() || self.state.is_leaving();
        assert!(may_defer || self.deferred.is_empty(), "E3: a node that cannot vote defers nothing");
        if let Some((to, vote)) = &self.pending_vote {
            assert!(vote.granted, "E4: only a granted vote waits for its Persist");
            assert!(vote.term == self.hard.term, "E4: the pending vote is of the term of this node");
            assert!(self.hard.voted_for.as_ref() == Some(to), "E3: the pending vote is the vote of its term");
            assert!(!is_durable(to, vote.term, &self.persistence.durable), "E4: a durable vote is sent at once");
            assert!(!self.persistence.failed, "E4: a vote that cannot become durable is dropped");
        }
        if let Some(promise) = &self.promise {
            // E10: a node that is to become a voter promises, too, and a voter that is removed keeps its promise.
            let is_or_was_voter = self.is_voter || self.electorate.version > ElectorateVersion::default();
            assert!(is_or_was_voter, "E5: only a voter promises");
            assert!(promise.term <= self.hard.term, "E5: a promise is of a term that this node knows");
            assert!(promise.until_after_release <= promise.until, "E5: a release never makes a promise longer");
        }
    }
}
