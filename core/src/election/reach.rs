//! Rule E7: how far a node goes towards a term that one voter has named, and when a node that is no voter goes back.
//!
//! A term grows by one with each candidacy, so honest voters are close to each other. One voter that lies must neither use up the
//! terms nor lead one honest node so far ahead that the others never follow.

use super::{Effect, Election, voter::LastReport};
use crate::{id::Term, time::Timestamp};

/// A term that is ahead by no more than this is taken over at once. Thousands of lost candidacies do not lead there.
const NEAR: u64 = 1 << 10;

/// The longest step. At one step in each lease, the terms last for more than a hundred years of attack.
const STEP: u64 = 1 << 32;

impl Election {
    fn ahead(&self, Term(term): Term) -> u64 {
        let Term(own) = self.hard.term;
        term.saturating_sub(own)
    }

    /// Whether the term is so close that honest elections may lead there.
    pub(super) fn is_near(&self, term: Term) -> bool {
        self.ahead(term) <= NEAR
    }

    /// Whether this node may take over the term now, in one step.
    pub(super) fn is_within_reach(&self, term: Term) -> bool {
        self.is_near(term) || (self.ahead(term) <= STEP && self.jump_at <= self.now)
    }

    /// How far this node goes towards the term now. A term that is far ahead is reached in steps, one in each lease.
    pub(super) fn within_reach(&mut self, term: Term) -> Term {
        if self.is_near(term) {
            return term;
        }
        if self.jump_at > self.now {
            return self.hard.term;
        }
        self.jump_at = self.now + self.timing.lease;
        let Term(own) = self.hard.term;
        Term(own + self.ahead(term).min(STEP))
    }

    /// Whether the term of a voter's status matters later.
    pub(super) fn keeps_term(&self, term: Term) -> bool {
        !self.is_voter || !self.is_near(term)
    }

    /// The newest status of each linked voter, and its term where that was kept.
    fn reports(&self) -> impl Iterator<Item = (&LastReport, Term)> {
        let linked = self.others.values().filter(|voter| voter.is_linked());
        linked.filter_map(|voter| voter.last_report.as_ref()).filter_map(|report| Some((report, report.term?)))
    }

    /// The highest term that was far ahead when it was reported, and that this voter has not reached.
    fn far_term(&self) -> Option<Term> {
        let may_follow = self.is_voter && !self.is_solo() && !self.follows_solo();
        let counts = |(report, term): &(&LastReport, Term)| !report.role.is_candidate() && self.ahead(*term) > 0;
        self.reports().filter(counts).map(|(_, term)| term).max().filter(|_| may_follow)
    }

    /// When this node takes the next step towards a term that is far ahead.
    pub(super) fn climbs_at(&self) -> Option<Timestamp> {
        self.far_term().map(|_| self.jump_at)
    }

    pub(super) fn climb(&mut self) {
        if let Some(term) = self.far_term().filter(|_| self.jump_at <= self.now) {
            self.learn(term);
        }
    }

    /// The term that this node has to go back to, if that lasts: the highest term of a quorum of linked voters that are all behind,
    /// and have a master. Beside a solo master (E8) there is no quorum; then it is the highest term of all linked voters.
    fn term_of_quorum(&self) -> Option<Term> {
        // E10: a former voter may still be bound.
        let is_voter = self.is_voter || (self.hard.electorate.is_some() && self.stays_voter(&self.address));
        if is_voter || self.following.is_some() || self.live_promise().is_some() {
            return None;
        }
        let behind = || self.reports().filter(|(_, term)| *term < self.hard.term);
        let is_quorum = behind().count() >= self.quorum && behind().any(|(report, _)| report.role.is_master());
        let linked = self.others.values().filter(|voter| voter.is_linked()).count();
        let is_solo =
            self.solo.is_enabled() && behind().count() == linked && behind().any(|(report, _)| report.role.is_solo());
        behind().map(|(_, term)| term).max().filter(|_| is_quorum || is_solo)
    }

    /// When this node goes back to the term of a quorum.
    pub(super) fn goes_back_at(&self) -> Option<Timestamp> {
        // A link that is alive is not slower than this, so what its voter has reported is its present state.
        self.ahead_since.map(|since| since + 2 * self.timing.down_after)
    }

    /// A node that is no voter does not vote, so its term protects only its view. Where the voters have begun again with lower terms,
    /// it follows them.
    pub(super) fn go_back(&mut self) {
        let Some(to) = self.term_of_quorum() else {
            self.ahead_since = None;
            return;
        };
        self.ahead_since.get_or_insert(self.now);
        if self.goes_back_at().is_some_and(|at| at <= self.now) {
            let from = self.hard.term;
            self.enter(to, None);
            (self.known_master, self.given_up, self.resigned) = (None, None, None);
            self.ahead_since = None;
            self.persist();
            self.effects.push_back(Effect::WentBack { from, to });
        }
    }
}
