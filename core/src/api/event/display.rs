//! Events as texts for people.

use alloc::vec::Vec;
use core::fmt;

use super::{Event, Severity};
use crate::{
    api::electorate::List,
    id::NodeId,
    membership::view::{Change, RemovalReason},
    wire::message::Holder,
};

/// A part of a text that may be missing, behind what leads to it.
struct IfAny<T>(&'static str, Option<T>);

impl<T: fmt::Display> fmt::Display for IfAny<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(before, Some(part)) => write!(f, "{before}{part}"),
            Self(_, None) => Ok(()),
        }
    }
}

/// The node that is named in a rejection.
struct HeldBy<'a>(&'a Option<Holder>);

impl fmt::Display for HeldBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(holder) => write!(f, " ({holder})"),
            None => Ok(()),
        }
    }
}

/// One line for people. Its subject is the node that reports the event, and is left out: `has no link to 10.0.0.2:7000: …`. If somebody
/// has to do something, the line says what. Its words may change with any version.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linked { node, address, conn, peer_addr } => {
                write!(
                    f,
                    "is linked to {} at {address} by connection {conn}{}",
                    node.id,
                    IfAny(", whose other end is ", *peer_addr)
                )
            }
            Self::Unlinked { node, reason, peer_addr } => {
                let (from, why) = (IfAny(" at ", *peer_addr), IfAny(": ", *reason));
                write!(f, "has no link to {}{from} any more{why}", node.id)
            }
            Self::ConnClosed { dialed, peer_addr, reason, .. } => match (dialed, peer_addr) {
                (Some(address), _) => write!(f, "has no link to {address}: {reason}"),
                (None, addr) => {
                    write!(f, "has no link to a peer that connected{}: {reason}", IfAny(" from ", *addr))
                }
            },
            Self::ElectorateChanged { electorate } => write!(f, "has new voters: {electorate}"),
            Self::VotersWait { target, waits_for } => {
                write!(f, "has not changed the voters to {} yet: it waits for {waits_for}", List(target))
            }
            Self::VotersChosen { voters, away } => {
                write!(f, "changes the voters to {}, by itself", List(voters))?;
                match away.is_empty() {
                    true => Ok(()),
                    false => write!(f, ": {} is away for long", List(away)),
                }
            }
            Self::VotersLacking { living, wanted, in_memory: Some(address), .. } => {
                write!(f, "has {living} of {wanted} voters, and cannot change them: {address} does not store its votes")
            }
            Self::VotersLacking { living, wanted, .. } => {
                write!(f, "has {living} of {wanted} voters, and not enough members can become voters")
            }
            Self::MasterElected { term, master, address } => {
                write!(f, "has the master {} at {address}, of term {term}", master.id)
            }
            Self::MasterLost { term, master, reason } => {
                write!(f, "lost master {} of term {term}: {reason}", master.id)
            }
            Self::TermWentBack { from, to } => {
                write!(f, "went back from term {from} to term {to} of the voters; fencing tokens begin again")
            }
            Self::MasterUnreachable { master, address } => write!(
                f,
                "cannot reach master {} at {address}, which others follow; check the network between the two",
                master.id
            ),
            Self::PeersWithoutMaster { master, address, peer, peers, .. } => write!(
                f,
                "has {peers} linked nodes, such as {}, that do not get to master {} at {address}; check that they can reach this address",
                peer.id, master.id
            ),
            Self::ViewChanged { view_id, changes } => write!(f, "view {view_id}: {}", Changes(changes)),
            Self::RejectedByPeer { address, reason, holder, .. } => {
                write!(f, "was rejected by {address}: {reason}{}", HeldBy(holder))
            }
            Self::PeerRejected { node, address, reason, holder, cluster, peer_addr } => {
                let from = IfAny(", which connects from ", *peer_addr);
                let cluster = IfAny(", its cluster is ", cluster.as_ref());
                write!(f, "rejected {} at {address}{from}: {reason}{}{cluster}", node.id, HeldBy(holder))
            }
            Self::SelfDial { address, own } => {
                write!(f, "{address} leads to this node itself, which is {own}; if it is a seed, spell it like that")
            }
            Self::Merged { from, to } => write!(
                f,
                "has changed sides: its last view without a quorum is {from}, its first one with the new master is {to}"
            ),
            Self::NoMaster { since, why } => write!(f, "has had no master for {since:.0?}: {why}"),
            Self::LeaseTooLong { candidate, lease, voter, bootstrap_wait } => write!(
                f,
                "{} has a lease of {lease:?}, which {} does not confirm, because its bootstrap_wait is only {bootstrap_wait:?}; \
                 give both the same times",
                candidate.id, voter.id
            ),
            Self::SoloMasterIgnored { node, address } => write!(
                f,
                "does not follow {} at {address}, which is a master without a quorum; \
                 configure solo_after on all nodes or on none",
                node.id
            ),
            Self::ViewTooLarge { master, limit } => write!(
                f,
                "does not take the view of {}, which exceeds {limit} of this node; give all nodes the same limits",
                master.id
            ),
            Self::BetterMaster { node, address } => {
                write!(f, "hands over to {} at {address}, which has a higher priority", node.id)
            }
            Self::PersistDelayed => f.write_str("cannot store a vote at the moment, and does not vote until it can"),
            Self::PersistRecovered => f.write_str("can store its votes again"),
            Self::PersistFailed => {
                f.write_str("cannot store its votes, and does not vote any more; repair its storage and restart it")
            }
            Self::Stopped { reason } => write!(f, "stopped: {reason}"),
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Detail => "detail",
            Self::Progress => "progress",
            Self::Problem => "problem",
        })
    }
}

/// What has become of a member.
fn outcome(change: &Change) -> &'static str {
    match change {
        Change::Upsert(member) if member.state.is_active() => "active",
        Change::Upsert(_) => "suspect",
        Change::Remove { reason: RemovalReason::Left, .. } => "left",
        Change::Remove { reason: RemovalReason::Down, .. } => "down",
        Change::Remove { reason: RemovalReason::Unknown, .. } => "removed, perhaps left or down",
    }
}

/// `node-b: active`
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id(), outcome(self))
    }
}

/// The changed members, grouped by what has become of them.
struct Changes<'a>(&'a [Change]);

impl fmt::Display for Changes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups: Vec<(&str, Vec<&NodeId>)> = Vec::new();
        for change in self.0 {
            let group = outcome(change);
            match groups.iter_mut().find(|(name, _)| *name == group) {
                Some((_, ids)) => ids.push(change.id()),
                None => groups.push((group, Vec::from([change.id()]))),
            }
        }
        for (at, (name, ids)) in groups.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "; " })?;
            f.write_str(name)?;
            for (at, id) in ids.iter().enumerate() {
                write!(f, "{}{id}", if at == 0 { " " } else { ", " })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, sync::Arc};

    use super::*;
    use crate::{
        api::event::{StopReason, ViewLimit},
        id::{Address, ConnId, Incarnation, Node, ViewId},
        membership::view::Member,
    };

    fn node(id: &str) -> Node {
        Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(1) }
    }

    fn address(text: &str) -> Address {
        Address::new(text).unwrap()
    }

    /// The node program hides the log lines that say the same.
    #[test]
    fn a_line_about_a_problem_says_what_to_do() {
        let (master, at) = (node("a"), address("b:1"));
        for (event, remedy) in [
            (Event::MasterUnreachable { master: master.clone(), address: at.clone() }, "check the network"),
            (Event::SelfDial { address: at.clone(), own: at.clone() }, "spell it"),
            (Event::SoloMasterIgnored { node: master.clone(), address: at }, "on all nodes or on none"),
            (Event::ViewTooLarge { master, limit: ViewLimit::Metadata }, "the same limits"),
            (Event::PersistFailed, "repair its storage and restart it"),
        ] {
            let line = event.to_string();
            assert!(line.contains(remedy), "{line}");
        }
    }

    #[test]
    fn missing_parts_of_a_line_leave_no_trace() {
        let (peer, at) = (node("b"), address("b:1"));
        let addr = Some(([10, 0, 0, 2], 41_000).into());
        let linked = |peer_addr| Event::Linked { node: peer.clone(), address: at.clone(), conn: ConnId(4), peer_addr };
        assert_eq!(linked(None).to_string(), "is linked to b at b:1 by connection 4");
        let with_end = "is linked to b at b:1 by connection 4, whose other end is 10.0.0.2:41000";
        assert_eq!(linked(addr).to_string(), with_end);
        let unlinked = Event::Unlinked { node: peer.clone(), reason: None, peer_addr: None };
        assert_eq!(unlinked.to_string(), "has no link to b any more");
        let stopped = Event::Stopped { reason: StopReason::Left };
        assert_eq!(stopped.to_string(), "stopped: it has left the cluster");
    }

    #[test]
    fn changes_are_grouped_by_what_has_become_of_a_member() {
        let removed = |id: &str, reason| Change::Remove { id: NodeId::new(id).unwrap(), reason };
        let joined = |id: &str| Change::Upsert(Member::new(node(id), address("b:1")));
        let changes = [
            removed("d", RemovalReason::Left),
            joined("b"),
            removed("e", RemovalReason::Left),
            removed("f", RemovalReason::Unknown),
        ];
        assert_eq!(changes[1].to_string(), "b: active");
        let event = Event::ViewChanged { view_id: ViewId::default(), changes: Arc::from(changes) };
        assert_eq!(event.to_string(), "view 0.0: left d, e; active b; removed, perhaps left or down f");
    }
}
