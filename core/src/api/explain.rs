//! Why a node is not doing more: what an operator asks when there is no master.

use alloc::{collections::BTreeSet, string::String, vec::Vec};
use core::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    electorate::{ElectorateVersion, List},
    error::{CloseReason, DialProblem, RejectReason},
    status::Phase,
};
use crate::{
    id::{Address, Node, NodeId, Term, ViewId},
    membership::view::MemberState,
    wire::message::Role,
};

/// How many peers without a master a text names.
const SHOWN: usize = 8;

/// What a node is doing, and why it is not doing more. [`Formation::explain`](crate::Formation::explain) returns it. Its `Display` is
/// for people, one fact per line.
///
/// ```
/// use formation_core::{Explanation, NoMaster, NoMasterReason};
///
/// fn advice(explanation: &Explanation) -> String {
///     match &explanation.no_master {
///         None => "all is well".to_owned(),
///         Some(NoMaster { reason: NoMasterReason::TooFewVoters, unreachable, .. }) => {
///             let problems = unreachable.iter().filter_map(|(address, problem)| Some((address, problem.as_ref()?)));
///             problems.map(|(address, problem)| format!("look at {address}: {problem}. ")).collect()
///         }
///         Some(why) => why.to_string(),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The node.
    pub node: Node,
    /// Its address.
    pub address: Address,
    /// What it is doing.
    pub phase: Phase,
    /// The newest term that it knows.
    pub term: Term,
    /// Its master, which may be the node itself, and the master's address.
    pub master: Option<(Node, Address)>,
    /// Why it has no master, if it has none and has not stopped.
    pub no_master: Option<NoMaster>,
    /// Every voter, in the order of the addresses.
    pub voters: Vec<VoterReport>,
    /// How many voters elect a master.
    pub quorum: usize,
    /// Which electorate these voters are (E10).
    pub electorate: ElectorateVersion,
    /// The voters that the cluster is changing to, until it has them.
    pub target: Option<BTreeSet<Address>>,
    /// On a master: what the change waits for.
    pub waits_for: Option<Waiting>,
    /// On a master that keeps a number of voters by itself: what it sees.
    pub autopilot: Option<AutopilotReport>,
    /// The node to which a promise binds this voter, and for how long (E5).
    pub promise: Option<(Node, Duration)>,
    /// What is known of its storage.
    pub storage: Storage,
    /// The linked peers that say that they have no master, with their addresses, if this node has one. For a moment, a node that has just
    /// joined is one of them, too.
    pub without_master: Vec<(Node, Address)>,
    /// The view that it holds.
    pub view_id: ViewId,
    /// On a master: its members without itself, in the order of the ids.
    pub members: Vec<MemberReport>,
}

/// The view of a master that keeps a number of voters by itself ([`Autopilot`](crate::Autopilot)).
///
/// ```
/// use formation_core::{AutopilotReport, Explanation};
///
/// fn needs_machines(master: &Explanation) -> bool {
///     matches!(&master.autopilot, Some(AutopilotReport { away, spares: 0, .. }) if !away.is_empty())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AutopilotReport {
    /// How many voters it keeps.
    pub voters: usize,
    /// How long a voter has been away when it is replaced.
    pub replace_after: Duration,
    /// The voters that had no link when the master has looked last, and for how long. It looks every `down_after`.
    pub away: Vec<(Address, Duration)>,
    /// How many members could become voters.
    pub spares: usize,
}

/// `keeps 3 voters; members that could become one: 2; away: b:1 for 20s (replaced after 300s)`
impl fmt::Display for AutopilotReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { voters, replace_after, away, spares } = self;
        write!(f, "keeps {voters} voters; members that could become one: {spares}")?;
        for (ix, (address, time)) in away.iter().enumerate() {
            let separator = if ix == 0 { "; away: " } else { ", " };
            write!(f, "{separator}{address} for {time:?}")?;
        }
        match away.is_empty() {
            true => Ok(()),
            false => write!(f, " (replaced after {replace_after:?})"),
        }
    }
}

/// What a change of the voters waits for (PROTOCOL.md, E10).
///
/// ```
/// use formation_core::{Explanation, Waiting};
///
/// fn advice(explanation: &Explanation) -> String {
///     match &explanation.waits_for {
///         Some(Waiting::Members(missing)) => format!("start {} new voters with a state directory", missing.len()),
///         Some(waits_for) => format!("it waits for {waits_for}"),
///         None => "nothing is waited for".to_owned(),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Waiting {
    /// The storage of the master has failed, or is not done yet.
    Storage,
    /// Too few voters have confirmed the present electorate. These have not.
    Voters(BTreeSet<Address>),
    /// These nodes are to become voters, and are no active members that store their votes.
    Members(BTreeSet<Address>),
    /// After the next step, too few voters would be active and confirm the lease of the master. These are not active.
    Quorum(BTreeSet<Address>),
    /// The master is to be removed. It has handed over, and is the master again.
    NextMaster,
}

/// `the members a:1, b:1: each has to be active and to store its votes`
impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage => f.write_str("the storage of the master"),
            Self::Voters(missing) => write!(f, "the voters {} to confirm the present electorate", List(missing)),
            Self::Members(missing) => {
                write!(f, "the members {}: each has to be active and to store its votes", List(missing))
            }
            Self::NextMaster => f.write_str("another master, which removes this one"),
            Self::Quorum(away) => match away.is_empty() {
                true => f.write_str("enough voters to confirm the lease of the master"),
                false => write!(f, "enough active voters for the next step: {} is away", List(away)),
            },
        }
    }
}

/// Why a node has no master.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NoMaster {
    /// The first thing that is missing.
    pub reason: NoMasterReason,
    /// The node's own address, if it is none of the seeds. The node is no voter then, whatever it was meant to be.
    pub not_a_voter: Option<Address>,
    /// How many voters are linked, this node included if it is one.
    pub reachable: usize,
    /// How many voters there are.
    pub voters: usize,
    /// How many of them elect a master.
    pub quorum: usize,
    /// The voters that are not linked, and what was found at their addresses.
    pub unreachable: Vec<(Address, Option<Problem>)>,
}

/// The first thing that a node lacks to have a master, in the order in which it is needed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NoMasterReason {
    /// The node leaves.
    Leaving,
    /// It asks for votes, and has these so far, its own included.
    Candidate {
        /// How many voters have granted their vote.
        votes: usize,
    },
    /// Others follow this master, which the node does not reach.
    MasterUnreachable {
        /// The master.
        master: Node,
        /// Its address.
        address: Address,
    },
    /// A linked master has not made this node a member.
    NotAdmitted {
        /// The master.
        master: Node,
        /// Why, if the master has said so.
        reason: Option<RejectReason>,
    },
    /// Voters with another seed list have a master. This node neither becomes a candidate nor votes beside it (E9).
    Held {
        /// The seeds at which these voters are.
        by: BTreeSet<Address>,
        /// Their master.
        master: Node,
    },
    /// Fewer than a quorum of voters are linked.
    TooFewVoters,
    /// It may only join a cluster, and never had a master (D7).
    MayOnlyJoin,
    /// Its storage does not work, so it cannot vote (E4).
    Storage,
    /// Its storage does not make a vote durable at the moment, so it cannot vote until it does (E4).
    StorageDelayed,
    /// It asks for a lease that no quorum confirms (E5).
    LeaseTooLong,
    /// It has just started, and waits for what it may have promised before (E1).
    InGrace {
        /// The voters that have not shown that they are free.
        waits_for: BTreeSet<Address>,
    },
    /// A promise to another voter binds it (E5).
    Promised {
        /// The other voter.
        to: Node,
    },
    /// Fewer than a quorum of linked voters can vote now.
    VotersAbstain {
        /// The voters that cannot vote now.
        voters: BTreeSet<Address>,
    },
    /// Its turn to become a candidate has not come (E2).
    AwaitsTurn,
    /// It is no voter, and the linked voters have not elected a master.
    VotersHaveNone,
}

/// What was found at an address the last time that this node tried to reach it.
///
/// ```
/// use formation_core::{DialProblem, Problem, VoterReport};
///
/// // The voters that should be started.
/// fn not_started(voters: &[VoterReport]) -> impl Iterator<Item = &VoterReport> {
///     voters.iter().filter(|voter| voter.problem == Some(Problem::NotReached(DialProblem::Refused)))
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Problem {
    /// There was no connection.
    NotReached(DialProblem),
    /// The connection has ended, for this reason.
    Closed(CloseReason),
    /// The other end has closed the connection without a reason, or the network has ended it.
    Ended,
    /// A node with another address, or this node itself, is there.
    AnotherNode,
}

/// What a node knows of a seed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VoterReport {
    /// The seed.
    pub address: Address,
    /// The node that is linked there, or this node itself.
    pub node: Option<Node>,
    /// What it is doing, as its newest status says.
    pub role: Option<Role>,
    /// It could not grant a vote now.
    pub abstains: bool,
    /// What was found at the address the last time, if no node is linked.
    pub problem: Option<Problem>,
    /// When the address is dialed again.
    pub dialed_again_in: Option<Duration>,
}

/// What is known of a node's storage.
///
/// ```
/// use formation_core::{Explanation, Storage};
///
/// fn has_a_bad_disk(node: &Explanation) -> bool {
///     matches!(node.storage, Storage::Delayed | Storage::Failed)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Storage {
    /// Everything that had to be durable is durable.
    Idle,
    /// A state is being made durable.
    Writing,
    /// A state is being made durable, and this takes too long. The node does not vote until it is done (E4).
    Delayed,
    /// It has failed. The node does not vote until it is started again (E4).
    Failed,
}

/// What a master knows of a member.
///
/// ```
/// use formation_core::{Explanation, MemberReport};
///
/// // The members that a master has no link to.
/// fn without_link(master: &Explanation) -> impl Iterator<Item = &MemberReport> {
///     master.members.iter().filter(|member| !member.linked)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemberReport {
    /// The member.
    pub id: NodeId,
    /// Its state in the view.
    pub state: MemberState,
    /// It is linked.
    pub linked: bool,
    /// The view that it has acknowledged last.
    pub view_id: Option<ViewId>,
    /// When it becomes suspect, or is removed, unless it acknowledges a heartbeat.
    pub judged_in: Option<Duration>,
    /// How long after its sending it has acknowledged a heartbeat, the last time that this was measured. It includes the time for which
    /// the heartbeat waited for the last write to the member. A heartbeat that is acknowledged later than a lease is not measured.
    pub round_trip: Option<Duration>,
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Idle => "idle",
            Self::Writing => "a write is under way",
            Self::Delayed => "a write is delayed; this node does not vote until it is done",
            Self::Failed => "failed; this node does not vote",
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReached(problem) => problem.fmt(f),
            Self::Closed(reason) => reason.fmt(f),
            Self::Ended => f.write_str("it has closed the connection"),
            Self::AnotherNode => f.write_str("another node is there"),
        }
    }
}

/// Addresses in one line.
fn list<'a>(addresses: impl IntoIterator<Item = &'a Address>) -> String {
    let mut out = String::new();
    for address in addresses {
        let separator = if out.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = fmt::write(&mut out, format_args!("{separator}{address}"));
    }
    out
}

impl NoMaster {
    /// Whether this node has met other nodes at the addresses of the seeds, and not one other voter.
    fn met_others_only(&self) -> bool {
        let own = usize::from(self.not_a_voter.is_none());
        self.reachable == own && self.unreachable.iter().any(|(_, found)| *found == Some(Problem::AnotherNode))
    }
}

impl fmt::Display for NoMaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, not_a_voter, reachable, voters, quorum, unreachable } = self;
        match reason {
            NoMasterReason::Leaving => write!(f, "this node leaves"),
            NoMasterReason::Candidate { votes } => write!(f, "this node asks for votes, and has {votes} of {quorum}"),
            NoMasterReason::MasterUnreachable { master, address } => {
                write!(f, "others follow {master} at {address}, which this node does not reach")
            }
            NoMasterReason::NotAdmitted { master, reason: None } => {
                write!(f, "the master {master} has not answered yet")
            }
            NoMasterReason::NotAdmitted { master, reason: Some(reason) } => {
                write!(f, "the master {master} does not make this node a member: {reason}")
            }
            NoMasterReason::Held { by, master } => {
                write!(f, "held: {} has another list of seeds, and the master {master}", list(by))
            }
            NoMasterReason::TooFewVoters => write!(f, "{reachable} of {voters} voters reachable, need {quorum}"),
            NoMasterReason::MayOnlyJoin => {
                write!(f, "this node may only join a cluster, and no voter that may form one is master")
            }
            NoMasterReason::Storage => write!(f, "the storage of this node does not work, so it cannot vote"),
            NoMasterReason::StorageDelayed => write!(
                f,
                "the storage of this node does not store a vote at the moment, so it cannot vote until it does"
            ),
            NoMasterReason::LeaseTooLong => {
                write!(f, "this node asks for a lease longer than the bootstrap_wait of too many voters")
            }
            NoMasterReason::InGrace { waits_for } => {
                write!(f, "this node has just started, and has to wait for {}", list(waits_for))
            }
            NoMasterReason::Promised { to } => write!(f, "this node has promised its vote to {to}"),
            NoMasterReason::VotersAbstain { voters } => {
                write!(f, "too few voters can vote now: not {}", list(voters))
            }
            NoMasterReason::AwaitsTurn => write!(f, "an election is about to begin"),
            NoMasterReason::VotersHaveNone => write!(f, "the voters have not elected a master"),
        }?;
        if let Some(address) = not_a_voter {
            write!(
                f,
                "; this node is no voter: its address {address} is none of the seeds (if it is to vote, spell both alike)"
            )?;
        }
        if self.met_others_only() {
            let voter = if not_a_voter.is_some() { "voter" } else { "other voter" };
            write!(
                f,
                "; no {voter} was met, but other nodes are at the seeds: give each voter its seed as its address"
            )?;
        }
        for (address, problem) in unreachable {
            match problem {
                Some(problem) => write!(f, "; {address}: {problem}")?,
                None => write!(f, "; {address}: not reached yet")?,
            }
        }
        Ok(())
    }
}

/// `10.0.0.2:7000: node-b#7, follower`
impl fmt::Display for VoterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, node, role, abstains, problem, dialed_again_in } = self;
        write!(f, "{address}: ")?;
        match node {
            Some(node) => write!(f, "{node}")?,
            None => write!(f, "not linked")?,
        }
        if let Some(role) = role {
            write!(f, ", {role}")?;
        }
        if *abstains {
            write!(f, ", cannot vote now")?;
        }
        if let Some(problem) = problem {
            write!(f, "; {problem}")?;
        }
        if let Some(wait) = dialed_again_in {
            write!(f, "; dialed again in {wait:?}")?;
        }
        Ok(())
    }
}

/// `node-b: active, linked, has view 3.12, judged in 2.5s`
impl fmt::Display for MemberReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, state, linked, view_id, judged_in, round_trip } = self;
        let link = if *linked { "linked" } else { "not linked" };
        write!(f, "{id}: {state}, {link}")?;
        match view_id {
            Some(held) => write!(f, ", has view {held}")?,
            None => write!(f, ", has acknowledged no view")?,
        }
        if let Some(left) = judged_in {
            write!(f, ", judged in {left:?}")?;
        }
        if let Some(time) = round_trip {
            write!(f, ", round trip {time:?}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, address, phase, term, view_id, quorum, .. } = self;
        writeln!(f, "{node} at {address}: {phase}, term {term}, view {view_id}")?;
        match (&self.master, &self.no_master) {
            (Some((master, at)), _) => writeln!(f, "master: {master} at {at}")?,
            (None, Some(why)) => writeln!(f, "no master: {why}")?,
            (None, None) => writeln!(f, "no master")?,
        }
        if let Some((to, left)) = &self.promise {
            writeln!(f, "promised to {to} for {left:?}")?;
        }
        match self.storage {
            Storage::Idle => {}
            storage @ (Storage::Writing | Storage::Delayed | Storage::Failed) => writeln!(f, "storage: {storage}")?,
        }
        writeln!(f, "voters, of which {quorum} elect a master:")?;
        for voter in &self.voters {
            writeln!(f, "  {voter}")?;
        }
        match (&self.target, &self.waits_for) {
            (Some(target), Some(waits_for)) => writeln!(f, "changing to {}: waits for {waits_for}", List(target))?,
            (Some(target), None) => writeln!(f, "changing to {}", List(target))?,
            (None, _) => {}
        }
        if let Some(autopilot) = &self.autopilot {
            writeln!(f, "autopilot: {autopilot}")?;
        }
        for (peer, at) in self.without_master.iter().take(SHOWN) {
            writeln!(f, "  linked, without a master: {peer} at {at}")?;
        }
        if let Some(more) = self.without_master.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            writeln!(f, "  linked, without a master: {more} more")?;
        }
        for member in &self.members {
            writeln!(f, "  member {member}")?;
        }
        Ok(())
    }
}
