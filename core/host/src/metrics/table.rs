//! The names of all metrics. Exporters, the dashboard and the alerts take them from here.

use serde::Serialize;

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum MetricKind {
    /// It only grows, from 0 at the start of the node.
    Counter,
    /// It goes up and down.
    Gauge,
    /// A distribution of times, in seconds.
    Histogram,
}

/// A metric of a node, as [`METRICS`] lists it. All names keep to the conventions of Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct Metric {
    /// The name, with its unit.
    pub name: &'static str,
    /// Its kind.
    pub kind: MetricKind,
    /// A sentence for people.
    pub help: &'static str,
    /// The label that tells its samples apart, beside `cluster` and `node`, which all have.
    pub label: Option<&'static str>,
}

/// All metrics of a node. [`ClusterHandle::metrics`](crate::ClusterHandle::metrics) returns their samples.
///
/// ```
/// use formation_host::{METRICS, MetricKind};
///
/// let mut counters = METRICS.iter().filter(|metric| metric.kind == MetricKind::Counter);
/// assert!(counters.all(|metric| metric.name.ends_with("_total")));
/// ```
pub const METRICS: &[Metric] = ALL;

macro_rules! table {
    ($($kind:ident $constant:ident $name:literal $([$label:literal])? $help:literal;)*) => {
        $(pub(crate) const $constant: Metric = Metric {
            name: $name,
            kind: MetricKind::$kind,
            help: $help,
            label: table!(@label $($label)?),
        };)*

        /// All of them, in this order.
        const ALL: &[Metric] = &[$($constant),*];
    };
    (@label) => { None };
    (@label $label:literal) => { Some($label) };
}

table! {
    Gauge INFO "formation_info" "This node, with its incarnation and its address as labels. The value is always 1.";
    Gauge IS_MASTER "formation_is_master" "Whether this node is the master and has a valid lease.";
    Gauge HAS_MASTER "formation_has_master" "Whether this node has a master, or is the master.";
    Gauge IS_VOTER "formation_is_voter" "Whether the address of this node is that of a voter.";
    Gauge CAN_VOTE "formation_can_vote" "Whether this node takes part in elections.";
    Gauge LEASE_REMAINING "formation_lease_remaining_seconds" "The rest of the lease of this node; 0 if it has none.";
    Gauge WITHOUT_MASTER "formation_without_master_seconds" "How long this node has had no master; 0 if it has one.";
    Gauge PHASE "formation_phase" ["phase"] "What this node is doing: 1 for that, and 0 for everything else.";
    Gauge TERM "formation_term" "The newest term that this node knows.";
    Gauge MASTER_TERM "formation_master_term" "The term of the master of this node; 0 without one.";
    Gauge VIEW_TERM "formation_view_term" "The term of the master that wrote the view of this node.";
    Gauge VIEW_VERSION "formation_view_version" "The number of the view of this node within its term.";
    Gauge MEMBERS "formation_members" ["state"] "Members in the view of this node, by their state.";
    Gauge QUORUM "formation_quorum" "How many voters elect a master.";
    Gauge VOTERS "formation_voters" "How many voters there are.";
    Gauge ELECTORATE_CHANGING "formation_electorate_changing" "Whether the voters are being changed.";
    Gauge CONNECTIONS "formation_connections" ["state"] "Connections: established ones, and accepted ones that are not established.";
    Gauge PARTIAL_BYTES "formation_partial_bytes" "Bytes of unfinished frames.";
    Gauge VOTERS_LINKED "formation_voters_linked" "Voters that this node is linked to, itself included. Not sent to the facade.";
    Gauge PEERS_WITHOUT_MASTER "formation_peers_without_master" "Linked peers without a master, while this node has one. Not sent to the facade.";
    Gauge STORAGE "formation_storage" ["state"] "The storage of the votes: 1 for its state.";
    Counter SENT_BYTES "formation_sent_bytes_total" "Bytes sent.";
    Counter RECEIVED_BYTES "formation_received_bytes_total" "Bytes received.";
    Counter RECEIVED_FRAMES "formation_received_frames_total" "Frames received.";
    Counter CANDIDACIES "formation_candidacies_total" "How often this node has asked for votes.";
    Counter ELECTIONS "formation_elections_total" "How often this node got a master, was elected, or learned of a new term of its master.";
    Counter LOSSES "formation_master_losses_total" ["reason"] "How often this node lost its master, or its own mastership. lease_expired: its own lease lapsed.";
    Counter VIEWS "formation_views_total" "How many views this node has taken or written.";
    Counter MEMBER_CHANGES "formation_member_changes_total" ["change"] "Changes of members in the views of this node. active: new, or changed, or it answers again. down: removed, because it has not answered its master.";
    Counter DIALS "formation_dials_total" ["result"] "Dials that have ended.";
    Counter CLOSED "formation_closed_connections_total" ["reason"] "Connections that have ended. ended: by the other end, or by the network.";
    Counter REJECTED "formation_rejected_connections_total" ["reason"] "Connections that this node closed because it rejected the peer.";
    Counter REJECTED_BY_PEER "formation_rejected_by_peer_connections_total" ["reason"] "Connections that ended because the peer rejected this node.";
    Counter SUPPRESSED "formation_suppressed_events_total" "Events about unproven peers that were not reported.";
    Counter SKIPPED "formation_skipped_events_total" "Events that a slow subscriber has lost.";
    Histogram WITHOUT_MASTER_TIMES "formation_without_master_duration_seconds" "How long this node had no master, each time that it got one.";
    Histogram ROUND_TRIPS "formation_heartbeat_round_trip_seconds" "How long after its sending a member has acknowledged a heartbeat of this master.";
    Histogram PERSISTS "formation_persist_duration_seconds" "How long it took to make a vote durable.";
}
