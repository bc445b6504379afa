//! Events as lines for a person.

use formation_core::{Change, Event, Node, RemovalReason, Severity, message::Holder};

/// One line for a person about an event of the node `own`, or `None` for an event that only matters in a log. If somebody has to do
/// something, the line says what. Its words may change with any version.
///
/// ```
/// use formation_core::{Event, Incarnation, Node, NodeId, Term};
/// use formation_host::describe;
///
/// let own = Node { id: NodeId::new("node-a")?, incarnation: Incarnation(1) };
/// let event = Event::MasterElected { term: Term(3), master: own.clone(), address: "10.0.0.1:7000".parse()? };
/// assert_eq!(describe(&own, &event).unwrap(), "is the MASTER of term 3");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn describe(own: &Node, event: &Event) -> Option<String> {
    let line = match event {
        Event::MasterElected { term, master, .. } if master == own => format!("is the MASTER of term {term}"),
        Event::MasterElected { term, master, .. } => format!("follows {}, master of term {term}", master.id),
        Event::MasterLost { term, master, reason } if master == own => {
            format!("is no longer the master of term {term}: {reason}")
        }
        Event::MasterLost { term, master, reason } => {
            format!("lost master {} of term {term}: {reason}", master.id)
        }
        Event::TermWentBack { from, to } => {
            format!("went back from term {from} to term {to} of the voters; fencing tokens begin again")
        }
        Event::NoMaster { since, why } => format!("has had no master for {since:.0?}: {why}"),
        Event::LeaseTooLong { candidate, lease, voter, bootstrap_wait } => format!(
            "{} has a lease of {lease:?}, which {} does not confirm, because its bootstrap_wait is only {bootstrap_wait:?}; \
             give both the same times",
            candidate.id, voter.id
        ),
        Event::MasterUnreachable { master, address } => format!(
            "cannot reach master {} at {address}, which others follow; check the network between the two",
            master.id
        ),
        Event::PeersWithoutMaster { master, address, peer, peers, .. } => format!(
            "has {peers} linked nodes, such as {}, that do not get to master {} at {address}; check that they can reach this address",
            peer.id, master.id
        ),
        Event::ViewChanged { view_id, changes } => format!("view {view_id}: {}", describe_changes(changes)),
        Event::RejectedByPeer { address, reason, holder, .. } => {
            format!("was rejected by {address}: {reason}{}", held_by(holder))
        }
        Event::PeerRejected { node, address, reason, holder, cluster, peer_addr } => {
            let cluster = cluster.as_ref().map(|name| format!(", its cluster is {name}")).unwrap_or_default();
            let from = peer_addr.map(|addr| format!(", which connects from {addr}")).unwrap_or_default();
            format!("rejected {} at {address}{from}: {reason}{}{cluster}", node.id, held_by(holder))
        }
        Event::ConnClosed { dialed, peer_addr, reason, .. } => {
            let accepted = || {
                peer_addr
                    .map_or("a peer that connected".to_owned(), |addr| format!("a peer that connected from {addr}"))
            };
            let peer = dialed.as_ref().map_or_else(accepted, |address| address.to_string());
            format!("has no link to {peer}: {reason}")
        }
        Event::SelfDial { address, own } => {
            format!("{address} leads to this node itself, which is {own}; if it is a seed, spell it like that")
        }
        Event::Merged { from, to } => {
            format!(
                "has changed sides: its last view without a quorum is {from}, its first one with the new master is {to}"
            )
        }
        Event::SoloMasterIgnored { node, address } => {
            format!(
                "does not follow {} at {address}, which is a master without a quorum; \
                 configure solo_after on all nodes or on none",
                node.id
            )
        }
        Event::ViewTooLarge { master, limit } => {
            format!(
                "does not take the view of {}, which exceeds {limit} of this node; give all nodes the same limits",
                master.id
            )
        }
        Event::BetterMaster { node, address } => {
            format!("hands over to {} at {address}, which has a higher priority", node.id)
        }
        Event::PersistDelayed => "cannot store a vote at the moment, and does not vote until it can".into(),
        Event::PersistRecovered => "can store its votes again".into(),
        Event::PersistFailed => {
            "cannot store its votes, and does not vote any more; repair its storage and restart it".into()
        }
        Event::Stopped { reason } => format!("stopped: {reason}"),
        other => match other.severity() {
            Severity::Detail => return None,
            Severity::Progress | Severity::Problem => format!("{other:?}"),
        },
    };
    Some(line)
}

fn held_by(holder: &Option<Holder>) -> String {
    holder.as_ref().map(|holder| format!(" ({} at {})", holder.node.id, holder.address)).unwrap_or_default()
}

/// The changed members, grouped by what has become of them.
fn describe_changes(changes: &[Change]) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for change in changes {
        let (group, id) = match change {
            Change::Upsert(member) if member.state.is_active() => ("active", &member.node.id),
            Change::Upsert(member) => ("suspect", &member.node.id),
            Change::Remove { id, reason: RemovalReason::Left } => ("left", id),
            Change::Remove { id, reason: RemovalReason::Down } => ("down", id),
            Change::Remove { id, reason: RemovalReason::Unknown } => ("removed, perhaps left or down", id),
            Change::Remove { id, .. } => ("removed", id),
        };
        match groups.iter_mut().find(|(name, _)| *name == group) {
            Some((_, ids)) => ids.push(id.as_str()),
            None => groups.push((group, vec![id.as_str()])),
        }
    }
    let groups: Vec<_> = groups.iter().map(|(name, ids)| format!("{name} {}", ids.join(", "))).collect();
    groups.join("; ")
}

#[cfg(test)]
mod tests {
    use formation_core::{Address, Incarnation, NodeId, ViewLimit};

    use super::*;

    /// The program hides the log lines that say the same.
    #[test]
    fn a_sentence_on_a_problem_says_what_to_do() {
        let own = Node { id: NodeId::new("a").unwrap(), incarnation: Incarnation(1) };
        let (node, address) = (own.clone(), Address::new("b:1").unwrap());
        for (event, remedy) in [
            (Event::MasterUnreachable { master: node.clone(), address: address.clone() }, "check the network"),
            (Event::SelfDial { address: address.clone(), own: address.clone() }, "spell it"),
            (Event::SoloMasterIgnored { node: node.clone(), address }, "on all nodes or on none"),
            (Event::ViewTooLarge { master: node, limit: ViewLimit::Metadata }, "the same limits"),
            (Event::PersistFailed, "repair its storage and restart it"),
        ] {
            let sentence = describe(&own, &event).unwrap();
            assert!(sentence.contains(remedy), "{sentence}");
        }
    }
}
