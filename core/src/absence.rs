//! Reporting that this node has no master, and why.

use crate::{
    api::event::Event,
    api::explain::{NoMaster, NoMasterReason},
    env::{Env, Sink},
    id::{Incarnation, Node},
    reported::Reported,
    time::Timestamp,
    timers::Timer,
};

/// Since when this node has had no master, and what it has reported about that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Absence {
    since: Option<Timestamp>,
    reported: Reported<NoMaster>,
}

impl Absence {
    /// Whether this node should have a master and has none.
    pub(crate) fn update(&mut self, env: &Env, sink: &mut Sink, lacks_master: bool) {
        match (lacks_master, self.since) {
            (true, None) => {
                self.since = Some(env.now);
                // An election takes that long where a voter is down that has just started, or a member that has just died.
                let patience = env.timing().bootstrap_wait.max(env.timing().down_after) + env.timing().lease;
                sink.set_timer(Timer::NoMaster, env.now + patience);
            }
            (false, Some(_)) => {
                *self = Self::default();
                sink.clear_timer(&Timer::NoMaster);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Reports the reason, if it is new, or was reported long ago.
    pub(crate) fn report(&mut self, env: &Env, sink: &mut Sink, why: NoMaster) {
        let Some(since) = self.since else { return };
        sink.set_timer(Timer::NoMaster, env.now + env.timing().down_after);
        if self.reported.is_due(env.now, &why, is_same) {
            sink.event(Event::NoMaster { since: env.now.since(since), why });
        }
    }
}

/// Whether an operator would have to look at the same things.
fn is_same(a: &NoMaster, b: &NoMaster) -> bool {
    lasting(&a.reason) == lasting(&b.reason) && a.unreachable == b.unreachable
}

/// The reason without what changes by itself while the cause stays: how far an election has come, and the runs of a node.
fn lasting(reason: &NoMasterReason) -> NoMasterReason {
    let any_run = |node: &Node| Node { incarnation: Incarnation(0), ..node.clone() };
    match reason {
        NoMasterReason::Candidate { .. } | NoMasterReason::AwaitsTurn => NoMasterReason::AwaitsTurn,
        NoMasterReason::MasterUnreachable { master, address } => {
            NoMasterReason::MasterUnreachable { master: any_run(master), address: address.clone() }
        }
        NoMasterReason::NotAdmitted { master, reason } => {
            NoMasterReason::NotAdmitted { master: any_run(master), reason: *reason }
        }
        NoMasterReason::Held { by, master } => NoMasterReason::Held { by: by.clone(), master: any_run(master) },
        NoMasterReason::Promised { to } => NoMasterReason::Promised { to: any_run(to) },
        NoMasterReason::Leaving
        | NoMasterReason::TooFewVoters
        | NoMasterReason::MayOnlyJoin
        | NoMasterReason::Storage
        | NoMasterReason::StorageDelayed
        | NoMasterReason::LeaseTooLong
        | NoMasterReason::InGrace { .. }
        | NoMasterReason::VotersAbstain { .. }
        | NoMasterReason::VotersHaveNone => reason.clone(),
    }
}
