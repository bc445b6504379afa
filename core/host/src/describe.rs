//! Events as lines for a person.

use formation_core::{Event, Node, Severity};

/// One line for a person about an event of the node `own`, or `None` for an event that only matters in a log. It is the `Display` of the
/// event, except that the line on a master says whether that is `own`. Its words may change with any version.
///
/// ```
/// use formation_core::{Event, Incarnation, Node, NodeId, Term};
/// use formation_host::describe;
///
/// let own = Node { id: NodeId::new("node-a")?, incarnation: Incarnation(1) };
/// let event = Event::MasterElected { term: Term(3), master: own.clone(), address: "10.0.0.1:7000".parse()? };
/// assert_eq!(describe(&own, &event).unwrap(), "is the MASTER of term 3");
/// assert_eq!(event.to_string(), "has the master node-a at 10.0.0.1:7000, of term 3");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn describe(own: &Node, event: &Event) -> Option<String> {
    match event {
        Event::MasterElected { term, master, .. } if master == own => Some(format!("is the MASTER of term {term}")),
        Event::MasterElected { term, master, .. } => Some(format!("follows {}, master of term {term}", master.id)),
        Event::MasterLost { term, master, reason } if master == own => {
            Some(format!("is no longer the master of term {term}: {reason}"))
        }
        other => match other.severity() {
            Severity::Detail => None,
            Severity::Progress | Severity::Problem => Some(other.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use formation_core::{ConnId, Incarnation, LossReason, NodeId, Term};

    use super::*;

    #[test]
    fn a_line_says_whether_the_master_is_this_node() {
        let [own, other] = ["a", "b"].map(|id| Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(1) });
        let lost = |master: &Node| {
            let event = Event::MasterLost { term: Term(3), master: master.clone(), reason: LossReason::NewerTerm };
            describe(&own, &event).unwrap()
        };
        assert_eq!(lost(&own), "is no longer the master of term 3: there is a newer term");
        assert_eq!(lost(&other), "lost master b of term 3: there is a newer term");
        let address = "b:1".parse().unwrap();
        let linked = Event::Linked { node: other, address, conn: ConnId(1), peer_addr: None };
        assert_eq!(describe(&own, &linked), None, "only the log has it");
    }
}
