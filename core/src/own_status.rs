//! What this node reports about itself on every link.

use bytes::Bytes;

use crate::{
    api::electorate::ElectorateVersion,
    election::Election,
    env::Env,
    id::{Term, ViewId},
    time::Timestamp,
    timers::{Timer, Timers},
    wire::frame::SharedFrame,
    wire::message::{Message, Role, StatusReport},
};

/// What this node reports about itself on every link.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct OwnStatus {
    report: StatusReport,
    /// The report, encoded once for all links.
    frame: SharedFrame,
    /// This node's metadata now. The report has it after the next [`refresh`](Self::refresh) at or after `metadata_at`.
    metadata: Bytes,
    /// New metadata alone is no reason for a report before this time (V8).
    metadata_at: Timestamp,
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
            electorate: ElectorateVersion::default(),
            metadata: metadata.clone(),
        };
        Self { report, frame: SharedFrame::default(), metadata, metadata_at: Timestamp::ZERO }
    }

    pub(crate) fn set_metadata(&mut self, metadata: Bytes) {
        self.metadata = metadata;
    }

    pub(crate) fn reported_metadata(&self) -> &Bytes {
        &self.report.metadata
    }

    /// The newest report, and its number.
    pub(crate) fn frame(&self) -> (u64, &SharedFrame) {
        (self.report.number, &self.frame)
    }

    /// When metadata is due that waits to be reported.
    pub(crate) fn metadata_due(&self) -> Option<Timestamp> {
        (self.report.metadata != self.metadata).then_some(self.metadata_at)
    }

    /// Brings the report up to date. Returns true if it has changed. A new view alone is not a change. New metadata alone is one at
    /// most once per heartbeat interval, if there is anybody to report it to.
    pub(crate) fn refresh(&mut self, env: &Env, election: &Election, (view_id, links): (ViewId, usize)) -> bool {
        let (term, role, abstains) = (election.term(), election.role(), election.abstains());
        let (promise, electorate, known) = (election.promised_to(), election.electorate().version, &self.report);
        let is_same = known.term == term
            && known.role == role
            && known.abstains == abstains
            && known.promise.as_ref() == promise
            && known.electorate == electorate
            && (known.metadata == self.metadata || env.now < self.metadata_at);
        if is_same {
            return false;
        }
        if known.metadata != self.metadata && links > 0 {
            self.metadata_at = env.now + env.timing().heartbeat_interval;
        }
        self.report = StatusReport {
            number: known.number + 1,
            term,
            role,
            abstains,
            promise: promise.cloned(),
            view_id,
            electorate,
            metadata: self.metadata.clone(),
        };
        self.frame = SharedFrame::new(&Message::Status(self.report.clone()));
        true
    }

    /// Checks what holds between two inputs.
    ///
    /// # Panics
    /// When something does not hold.
    pub(crate) fn check(&self, election: &Election, timers: &Timers) {
        assert_eq!(self.report.term, election.term(), "the report has the present term");
        assert_eq!(self.report.role, election.role(), "the report has the present role");
        assert_eq!(self.report.abstains, election.abstains(), "the report has the present abstention");
        assert_eq!(self.report.promise.as_ref(), election.promised_to(), "the report has the present promise");
        let is_present = self.report.electorate == election.electorate().version;
        assert!(is_present, "the report has the present electorate");
        let is_due = self.metadata_due().is_none() || timers.is_set(&Timer::Metadata);
        assert!(is_due, "metadata that is not reported has a deadline");
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
        let me = Node { id: config.id().clone(), incarnation: Incarnation(1) };
        let env = Env::new(config, me, Timestamp::ZERO);
        assert!(own.refresh(&env, &election, (ViewId::default(), 0)));
        (own, election)
    }

    fn another_node() -> Node {
        Node { id: crate::NodeId::new("x").unwrap(), incarnation: Incarnation(1) }
    }

    const VIOLATIONS: [Violation<(OwnStatus, Election)>; 6] = [
        (reported, |(own, _)| own.report.term = Term(9), "the report has the present term"),
        (reported, |(own, _)| own.report.role = Role::Leaving, "the report has the present role"),
        (reported, |(own, _)| own.report.abstains = !own.report.abstains, "the report has the present abstention"),
        (reported, |(own, _)| own.report.promise = Some(another_node()), "the report has the present promise"),
        (reported, |(own, _)| own.report.electorate.number = 9, "the report has the present electorate"),
        (
            reported,
            |(own, _)| own.set_metadata(Bytes::from_static(b"x")),
            "metadata that is not reported has a deadline",
        ),
    ];

    #[test]
    fn every_invariant_of_the_own_status_notices_its_violation() {
        expect_violations(&VIOLATIONS, |(own, election)| own.check(election, &Timers::default()));
        expect_all_listed(include_str!("own_status.rs"), &VIOLATIONS);
    }
}
