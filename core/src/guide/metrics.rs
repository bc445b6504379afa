//! Watching a cluster: its metrics, and what to do about each alert.
//!
//! # Where they come from
//!
//! - The package `formation-http` serves them at `/metrics`, in the text format of Prometheus. It needs nothing else.
//! - The feature `metrics` of the adapters sends them to the facade of the crate [`metrics`](https://docs.rs/metrics), so that any exporter
//!   works. Install the recorder before the node starts: a node that has started without one sends nothing. Gauges are sent when the view,
//!   the voters, the master or the phase change, and otherwise at most every 100 ms. An explanation costs time, so what only that knows is not sent.
//! - `ClusterHandle::metrics` returns them, for an exporter of your own.
//!
//! All three use one list, `METRICS`. Each sample has the labels `cluster` and `node`. Each node knows only itself: watch all of them.
//!
//! Where Prometheus gives its targets labels of the same names, as is usual in Kubernetes, it renames those of Formation to
//! `exported_cluster` and `exported_node`, and no alert means what it says. Let the job keep them:
//!
//! ```yaml
//! scrape_configs:
//!   - job_name: formation
//!     honor_labels: true
//!     static_configs:
//!       - targets: ["node-a:8000", "node-b:8000", "node-c:8000"]
//! ```
//!
//! An alert about a node needs the node's metrics: where no node can be read, watch `up{job="formation"}`.
//!
//! A dashboard for Grafana and alerts for Prometheus are beside the source of `formation-http`, in `grafana/`.
//!
//! # Metrics
//!
//! | metric | kind | label | meaning |
//! | --- | --- | --- | --- |
//! | `formation_info` | gauge |  | This node, with its incarnation and its address as labels. The value is always 1. |
//! | `formation_is_master` | gauge |  | Whether this node is the master and has a valid lease. |
//! | `formation_has_master` | gauge |  | Whether this node has a master, or is the master. |
//! | `formation_is_voter` | gauge |  | Whether the address of this node is that of a voter. |
//! | `formation_can_vote` | gauge |  | Whether this node takes part in elections. |
//! | `formation_lease_remaining_seconds` | gauge |  | The rest of the lease of this node; 0 if it has none. |
//! | `formation_without_master_seconds` | gauge |  | How long this node has had no master; 0 if it has one. |
//! | `formation_phase` | gauge | `phase` | What this node is doing: 1 for that, and 0 for everything else. |
//! | `formation_term` | gauge |  | The newest term that this node knows. |
//! | `formation_master_term` | gauge |  | The term of the master of this node; 0 without one. |
//! | `formation_view_term` | gauge |  | The term of the master that wrote the view of this node. |
//! | `formation_view_version` | gauge |  | The number of the view of this node within its term. |
//! | `formation_members` | gauge | `state` | Members in the view of this node, by their state. |
//! | `formation_quorum` | gauge |  | How many voters elect a master. |
//! | `formation_voters` | gauge |  | How many voters there are. |
//! | `formation_electorate_changing` | gauge |  | Whether the voters are being changed. |
//! | `formation_connections` | gauge | `state` | Connections: established ones, and accepted ones that are not established. |
//! | `formation_partial_bytes` | gauge |  | Bytes of unfinished frames. |
//! | `formation_voters_linked` | gauge |  | Voters that this node is linked to, itself included. Not sent to the facade. |
//! | `formation_peers_without_master` | gauge |  | Linked peers without a master, while this node has one. Not sent to the facade. |
//! | `formation_storage` | gauge | `state` | The storage of the votes: 1 for its state. |
//! | `formation_sent_bytes_total` | counter |  | Bytes sent. |
//! | `formation_received_bytes_total` | counter |  | Bytes received. |
//! | `formation_received_frames_total` | counter |  | Frames received. |
//! | `formation_candidacies_total` | counter |  | How often this node has asked for votes. |
//! | `formation_elections_total` | counter |  | How often this node got a master, was elected, or learned of a new term of its master. |
//! | `formation_master_losses_total` | counter | `reason` | How often this node lost its master, or its own mastership. lease_expired: its own lease lapsed. |
//! | `formation_views_total` | counter |  | How many views this node has taken or written. |
//! | `formation_member_changes_total` | counter | `change` | Changes of members in the views of this node. active: new, or changed, or it answers again. down: removed, because it has not answered its master. |
//! | `formation_dials_total` | counter | `result` | Dials that have ended. |
//! | `formation_closed_connections_total` | counter | `reason` | Connections that have ended. ended: by the other end, or by the network. |
//! | `formation_rejected_connections_total` | counter | `reason` | Connections that this node closed because it rejected the peer. |
//! | `formation_rejected_by_peer_connections_total` | counter | `reason` | Connections that ended because the peer rejected this node. |
//! | `formation_suppressed_events_total` | counter |  | Events about unproven peers that were not reported. |
//! | `formation_skipped_events_total` | counter |  | Events that a slow subscriber has lost. |
//! | `formation_without_master_duration_seconds` | histogram |  | How long this node had no master, each time that it got one. |
//! | `formation_heartbeat_round_trip_seconds` | histogram |  | How long after its sending a member has acknowledged a heartbeat of this master. |
//! | `formation_persist_duration_seconds` | histogram |  | How long it took to make a vote durable. |
//!
//! The labels `reason` are the variants of [`LossReason`](crate::LossReason), [`CloseReason`](crate::CloseReason) and
//! [`RejectReason`](crate::RejectReason) in small letters (`lease_expired`), which [operating a cluster](super::operating) explains. A
//! counter of connections has a sample for a reason once there was one.
//!
//! # Alerts
//!
//! An alert says what users notice, or will notice if nobody does something. Change the times to fit your service.
//!
//! ## FormationNoMaster
//!
//! No node of the cluster is the master.
//!
//! Ask any voter why: its page, or `explain`, has the reason as a sentence, and [why there is no master](super::no_master) says what to
//! do about each. Are all nodes watched? The alert counts only those.
//!
//! ## FormationGone
//!
//! Prometheus gets metrics from no node of the cluster, and got some ten minutes ago. The alert ends after ten minutes, as the
//! series are forgotten.
//!
//! Do the nodes run? Does Prometheus reach them (its own alert on `up`)? After the end of a cluster, let the alert pass.
//!
//! ## FormationTwoMasters
//!
//! Two nodes say at the same time that they have a valid lease. With a quorum (the default) this never lasts: each scrape has a moment
//! of its own, and a failover may lie between two.
//!
//! Do you use `solo_after`? Then both sides of a partition have a master, as configured (E8): repair the network. Otherwise look for
//! two clusters with one name whose seeds differ, and for clocks that run at different rates (`max_clock_drift_percent`).
//!
//! ## FormationNodeWithoutMaster
//!
//! The cluster has a master, and this node does not get to it.
//!
//! Its own `explain` says why. Mostly the address that the master advertises cannot be reached from there, or the master rejects the
//! node: see the [rejections](super::operating).
//!
//! ## FormationVotersMissing
//!
//! A voter is down, or its storage has failed, or it may only join.
//!
//! Bring it back. The cluster goes on while a quorum is left, and has lost its reserve. After a change of the seeds: is an old node
//! watched?
//!
//! ## FormationMasterFlaps
//!
//! Masters lose their lease again and again. `lease_expired` says that no quorum has confirmed it in time.
//!
//! Look at the round trips of heartbeats, at the load of the voters (suspended, swapping, throttled) and at the network between them.
//! If all of that is in order, `lease` is too short for this network: use `Timing::wan`.
//!
//! ## FormationMembersDown
//!
//! A member did not acknowledge the heartbeats of its master for `down_after`, and was removed. It has not left in order.
//!
//! The events of the master name the member. Look at its machine and its network. A node that still runs joins again by itself.
//!
//! ## FormationMembersSuspect
//!
//! Members did not acknowledge the heartbeats of their master for `suspect_after`, at least four times in ten minutes.
//!
//! The events of the master name the members. Look at their machines and their network; the page of the master shows the delay of each
//! member.
//!
//! ## FormationStorageFails
//!
//! The disk of a voter does not store its votes. The voter does not vote (E4).
//!
//! `delayed`: the disk is full or does not answer, and the node tries again. `failed`: repair the disk, and restart the node. The log
//! has the error.
//!
//! ## FormationNodesRejected
//!
//! Other nodes reject this node, for the reason in the label.
//!
//! See the [rejections](super::operating): most of them only a person can repair.
//!
//! ## FormationSlowHeartbeats
//!
//! One in 100 acknowledgements comes later than 100 ms. With [`Timing::wan`](crate::Timing::wan), raise the limit of the alert.
//!
//! Look at the load of the master and of the members, and at the network. A round trip that gets near to the `lease` costs the
//! mastership.
//!
//! ## FormationEventsLost
//!
//! The service reads `events()` too slowly, and has lost the oldest.
//!
//! Do no slow work in the loop that reads events, or look at the view instead.
