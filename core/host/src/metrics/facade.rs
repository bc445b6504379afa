//! The counts of a node, sent to the facade of the crate `metrics` as they happen.

use std::{collections::BTreeMap, fmt};

use formation_core::Config;
use metrics::{Counter, Gauge, Histogram, Label, Unit};

use super::{METRICS, Metric, MetricKind};

/// A metric, and the value of its own label.
type Key = (&'static str, String);

/// The handles of one node. A handle belongs to the recorder that was installed when it was used first.
pub(crate) struct Facade {
    own: [Label; 2],
    counters: BTreeMap<Key, Counter>,
    /// The last values of the counters that are not counted here.
    counted: BTreeMap<&'static str, u64>,
    gauges: BTreeMap<Key, Gauge>,
    histograms: BTreeMap<Key, Histogram>,
}

impl Facade {
    pub(crate) fn new(config: &Config) -> Self {
        for metric in METRICS {
            describe(metric);
        }
        let (cluster, node) = (config.cluster().to_string(), config.id().to_string());
        Self {
            own: [Label::new("cluster", cluster), Label::new("node", node)],
            counters: BTreeMap::new(),
            counted: BTreeMap::new(),
            gauges: BTreeMap::new(),
            histograms: BTreeMap::new(),
        }
    }

    /// The labels of a sample. The label of a metric has the values of one enum, so there are only so many handles.
    fn labels(own: &[Label; 2], metric: &Metric, label: &str) -> Vec<Label> {
        let named = metric.label.map(|name| Label::new(name, label.to_owned()));
        own.iter().cloned().chain(named).collect()
    }

    fn counter(&mut self, metric: &Metric, label: &str) -> &Counter {
        let new = || metrics::counter!(metric.name, Self::labels(&self.own, metric, label));
        self.counters.entry((metric.name, label.to_owned())).or_insert_with(new)
    }

    pub(crate) fn count(&mut self, metric: &Metric, label: &str, by: u64) {
        self.counter(metric, label).increment(by);
    }

    /// It has been counted up to this. An earlier run of the node in this process may have counted, too, so only what is new is sent.
    pub(crate) fn count_is(&mut self, metric: &Metric, value: u64) {
        let before = self.counted.insert(metric.name, value).unwrap_or_default();
        self.counter(metric, "").increment(value.saturating_sub(before));
    }

    pub(crate) fn gauge(&mut self, metric: &Metric, label: &str, value: f64) {
        let new = || metrics::gauge!(metric.name, Self::labels(&self.own, metric, label));
        self.gauges.entry((metric.name, label.to_owned())).or_insert_with(new).set(value);
    }

    pub(crate) fn record(&mut self, metric: &Metric, value: f64) {
        let new = || metrics::histogram!(metric.name, Self::labels(&self.own, metric, ""));
        self.histograms.entry((metric.name, String::new())).or_insert_with(new).record(value);
    }
}

impl fmt::Debug for Facade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facade").field("own", &self.own).finish_non_exhaustive()
    }
}

fn describe(metric: &Metric) {
    let unit = match metric.name {
        name if name.contains("_seconds") => Unit::Seconds,
        name if name.contains("_bytes") => Unit::Bytes,
        _ => Unit::Count,
    };
    match metric.kind {
        MetricKind::Counter => metrics::describe_counter!(metric.name, unit, metric.help),
        MetricKind::Gauge => metrics::describe_gauge!(metric.name, unit, metric.help),
        MetricKind::Histogram => metrics::describe_histogram!(metric.name, unit, metric.help),
    }
}
