//! What this node reports about itself on every link.

use bytes::Bytes;

use crate::{
    election::Election,
    id::{Term, ViewId},
    wire::frame::SharedFrame,
    wire::message::{Message, Role, StatusReport},
};

/// What this node reports about itself on every link.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OwnStatus {
    report: StatusReport,
    /// The report, encoded once for all links.
    frame: SharedFrame,
    /// This node's metadata now. The report has it after the next [`refresh`](Self::refresh).
    metadata: Bytes,
}

impl OwnStatus {
    pub(crate) fn new(metadata: Bytes) -> Self {
        // Never sent: a node that has just started abstains, or is a candidate.
        let report = StatusReport {
            number: 0,
            term: Term::default(),
            role: Role::Joining,
            abstains: false,
            promise: None,
            view_id: ViewId::default(),
            metadata: metadata.clone(),
        };
        Self { report, frame: SharedFrame::default(), metadata }
    }

    pub(crate) fn set_metadata(&mut self, metadata: Bytes) {
        self.metadata = metadata;
    }

    pub(crate) fn metadata(&self) -> &Bytes {
        &self.metadata
    }

    /// The newest report, and its number.
    pub(crate) fn frame(&self) -> (u64, &SharedFrame) {
        (self.report.number, &self.frame)
    }

    /// Brings the report up to date. Returns true if it has changed. A new view alone is not a change.
    pub(crate) fn refresh(&mut self, election: &Election, view_id: ViewId) -> bool {
        let (term, role, abstains) = (election.term(), election.role(), election.abstains());
        let (promise, known) = (election.promised_to(), &self.report);
        let is_same = known.term == term
            && known.role == role
            && known.abstains == abstains
            && known.promise.as_ref() == promise
            && known.metadata == self.metadata;
        if is_same {
            return false;
        }
        self.report = StatusReport {
            number: known.number + 1,
            term,
            role,
            abstains,
            promise: promise.cloned(),
            view_id,
            metadata: self.metadata.clone(),
        };
        self.frame = SharedFrame::new(&Message::Status(self.report.clone()));
        true
    }

    /// Checks what holds between two inputs.
    ///
    /// # Panics
    /// When something does not hold.
    pub(crate) fn check(&self, election: &Election) {
        assert_eq!(self.report.term, election.term(), "the report has the present term");
        assert_eq!(self.report.role, election.role(), "the report has the present role");
        assert_eq!(self.report.abstains, election.abstains(), "the report has the present abstention");
        assert_eq!(self.report.promise.as_ref(), election.promised_to(), "the report has the present promise");
        assert_eq!(self.report.metadata, self.metadata, "the report has the present metadata");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::config::Config,
        api::input::Start,
        id::{Incarnation, Node},
        rng::Rng,
        time::Timestamp,
        violations::{Violation, expect_all_listed, expect_violations},
    };

    /// A node that has just started, and its report.
    fn reported() -> (OwnStatus, Election) {
        let config = Config::builder("test", "a", "a:1").seeds(["a:1", "b:1", "c:1"]).build().unwrap();
        let election = Election::new(&config, &Start::new(Incarnation(1), 1), Rng::new(1), Timestamp::ZERO);
        let mut own = OwnStatus::new(Bytes::new());
        assert!(own.refresh(&election, ViewId::default()));
        (own, election)
    }

    fn another_node() -> Node {
        Node { id: crate::NodeId::new("x").unwrap(), incarnation: Incarnation(1) }
    }

    const VIOLATIONS: [Violation<(OwnStatus, Election)>; 5] = [
        (reported, |(own, _)| own.report.term = Term(9), "the report has the present term"),
        (reported, |(own, _)| own.report.role = Role::Leaving, "the report has the present role"),
        (reported, |(own, _)| own.report.abstains = !own.report.abstains, "the report has the present abstention"),
        (reported, |(own, _)| own.report.promise = Some(another_node()), "the report has the present promise"),
        (reported, |(own, _)| own.set_metadata(Bytes::from_static(b"x")), "the report has the present metadata"),
    ];

    #[test]
    fn every_invariant_of_the_own_status_notices_its_violation() {
        expect_violations(&VIOLATIONS, |(own, election)| own.check(election));
        expect_all_listed(include_str!("own_status.rs"), &VIOLATIONS);
    }
}
