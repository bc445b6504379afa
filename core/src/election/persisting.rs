//! Rule E4: what the embedder has answered to a `Persist`.

use super::Election;

impl Election {
    /// The number of the `Persist` in flight.
    pub(crate) fn persisting(&self) -> Option<u64> {
        self.persistence.in_flight.as_ref().map(|_| self.persistence.seq)
    }

    /// E4: the `Persist` in flight is durable. Returns whether it was delayed.
    pub(crate) fn persisted(&mut self) -> bool {
        let was_delayed = core::mem::take(&mut self.persistence.delayed);
        if let Some(durable) = self.persistence.in_flight.take() {
            self.persistence.durable = durable;
            self.act_by_durable();
        }
        self.persist();
        self.settle();
        was_delayed
    }

    /// E4: the `Persist` in flight takes too long. Until it is durable, this node neither votes nor is a candidate: others would
    /// wait for it. Returns whether this is news.
    pub(crate) fn persist_delayed(&mut self) -> bool {
        let is_news = !core::mem::replace(&mut self.persistence.delayed, true);
        self.give_up_without_vote();
        self.settle();
        is_news
    }

    /// A candidate whose own vote is not durable gives up.
    fn give_up_without_vote(&mut self) {
        if self.state.candidacy().is_some_and(|candidacy| candidacy.requested_at.is_none()) {
            self.give_up();
        }
    }

    /// E4: the `Persist` in flight has failed. Nobody knows what is durable, so no vote that depends on it is ever sent.
    /// From now on this node requests no other `Persist`, never votes and is never a candidate.
    pub(crate) fn persist_failed(&mut self) {
        self.persistence.in_flight = None;
        self.persistence.delayed = false;
        self.persistence.failed = true;
        self.pending_vote = None;
        self.give_up_without_vote();
        self.settle();
    }
}
