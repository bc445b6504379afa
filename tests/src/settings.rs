//! The settings of a simulated network and of the checks.

use crate::NetSettings;

/// The settings of a [`Net`](crate::Net).
#[derive(Clone, Debug)]
pub struct Settings {
    /// The settings of the network and its hosts.
    pub network: NetSettings,
    /// Record every input and output of every node.
    pub record: bool,
    /// Record the first bytes on each connection, so that an intruder can replay them.
    pub eavesdrop: bool,
    /// Check that one term has one master, and one view id one member list. Off when voters lose their votes (G1).
    pub votes_last: bool,
    /// Check that no two nodes have a lease at the same time. Off when two quorums may share a hostile voter alone (G2).
    pub leases_never_overlap: bool,
    /// A hostile voter may be a master and write views. One view id then stands for one member list only among the nodes
    /// that have it from an honest master.
    pub views_of_others: bool,
    /// Compare views member by member, and follow the reported changes. Off when there are many members.
    pub compare_views: bool,
}

impl Default for Settings {
    fn default() -> Self {
        NetSettings::default().into()
    }
}

impl From<NetSettings> for Settings {
    /// All checks, and no records.
    fn from(network: NetSettings) -> Self {
        Self {
            network,
            record: false,
            eavesdrop: false,
            votes_last: true,
            leases_never_overlap: true,
            views_of_others: false,
            compare_views: true,
        }
    }
}

impl Settings {
    /// Every delay is the same and short, no bytes are cut, and the clocks agree.
    pub fn calm() -> Self {
        NetSettings::calm().into()
    }
}
