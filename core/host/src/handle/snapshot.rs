//! All that a handle shows, at one moment.

use formation_core::{Electorate, Explanation, Leadership, MembersView, Status, Timestamp};
use serde::Serialize;

use super::{ClusterHandle, Master};
use crate::{
    discovery::SourceReport,
    metrics::{self, Sample},
};

/// A node at one moment. [`ClusterHandle::snapshot`] returns it.
///
/// The getters of the handle, one after the other, may show two different moments: a master from before an election, and the status from
/// after it. In a snapshot, all parts fit together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The moment, on the [clock of the node](ClusterHandle::now).
    pub at: Timestamp,
    /// The phase, the term, the master and the counters.
    pub status: Status,
    /// The members.
    pub view: MembersView,
    /// The voters.
    pub electorate: Electorate,
    /// The mastership of this node, if its lease is valid at this moment. It is there to be shown. To act on the mastership, use
    /// [`ClusterHandle::lease`] or [`ClusterHandle::run_while_master`], whose lease is renewed and ends with the mastership.
    pub leadership: Option<Leadership>,
    /// Since when the node has no master, if it has none.
    pub without_master_since: Option<Timestamp>,
    /// How many events were not reported.
    pub suppressed_events: u64,
    /// The number of the newest event, as in [`PastEvent`](crate::PastEvent). 0: there was none.
    pub newest_event: u64,
}

impl Snapshot {
    /// The master that the node follows, or the node itself.
    ///
    /// ```no_run
    /// # fn example(cluster: &formation_host::ClusterHandle) {
    /// let snapshot = cluster.snapshot();
    /// if let Some(master) = snapshot.master() {
    ///     println!("{master}, in view {} with {} members", snapshot.view.id(), snapshot.view.len());
    /// }
    /// # }
    /// ```
    pub fn master(&self) -> Option<Master> {
        Master::of(&self.status)
    }
}

impl ClusterHandle {
    /// The node at this moment, all of it at once. After the node has stopped, the view is the last one.
    ///
    /// ```no_run
    /// # fn example(cluster: &formation_host::ClusterHandle) {
    /// use formation_host::Snapshot;
    ///
    /// let Snapshot { at, leadership, status, .. } = cluster.snapshot();
    /// match leadership {
    ///     Some(lease) => println!("the master for {:?}", lease.valid_until.since(at)),
    ///     None => println!("{}", status.phase),
    /// }
    /// # }
    /// ```
    pub fn snapshot(&self) -> Snapshot {
        let state = self.0.shared.lock();
        let at = self.now();
        Snapshot {
            at,
            status: state.status.clone(),
            view: state.view.clone(),
            electorate: state.electorate.clone(),
            leadership: state.leadership.filter(|leadership| at < leadership.valid_until),
            without_master_since: state.without_master_since,
            suppressed_events: state.suppressed,
            newest_event: state.history.newest(),
        }
    }

    /// The sources of addresses that this node asks, and what they have found, in the order of [`discover`](Self::discover).
    ///
    /// ```no_run
    /// # fn example(cluster: &formation_host::ClusterHandle) {
    /// for source in cluster.sources() {
    ///     println!("{source}");
    /// }
    /// # }
    /// ```
    pub fn sources(&self) -> Vec<SourceReport> {
        self.0.shared.lock().sources.clone()
    }

    /// The [metrics](crate::METRICS) of this node at this moment, in the order of that list, for an exporter of your own. An
    /// [explanation](Self::explain) adds what only that knows: the voters that are linked, and the storage.
    ///
    /// The feature `metrics` sends them to the [`metrics`](https://docs.rs/metrics) facade as they happen.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) {
    /// use formation_host::{Metric, MetricValue, Sample};
    ///
    /// let explanation = cluster.explain().await.ok();
    /// for Sample { metric: Metric { name, .. }, labels, value, .. } in cluster.metrics(explanation.as_ref()) {
    ///     match value {
    ///         MetricValue::Number(number) => println!("{name} {labels:?} is {number}"),
    ///         MetricValue::Histogram(times) => println!("{name}: {} in {} s", times.count(), times.sum()),
    ///         _ => {}
    ///     }
    /// }
    /// # }
    /// ```
    pub fn metrics(&self, explanation: Option<&Explanation>) -> Vec<Sample> {
        let state = self.0.shared.lock();
        metrics::samples(&state, &self.0.config, &self.0.node, self.now(), explanation)
    }
}
