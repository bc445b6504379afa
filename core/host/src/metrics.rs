//! The metrics of a node: what it has counted, and what is to be seen at this moment.

#[cfg(feature = "metrics")]
mod facade;
#[cfg(not(feature = "metrics"))]
#[path = "metrics/no_facade.rs"]
mod facade;
mod samples;
pub(crate) mod table;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use formation_core::{Config, Timestamp};
use serde::Serialize;

use self::facade::Facade;
pub(crate) use self::samples::{REACHED, change, samples, send};
pub use self::{
    samples::{MetricValue, Sample},
    table::{METRICS, Metric, MetricKind},
};

/// The upper ends of the buckets of a histogram, in seconds: from half a heartbeat round trip in a rack to a long outage.
const BUCKETS: [f64; 18] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0,
];

/// How often the gauges are sent to the facade while nothing but times has changed.
const GAUGES_EVERY: Duration = Duration::from_millis(100);

/// A distribution of times. The buckets are the same for all metrics.
///
/// ```
/// fn mean(times: &formation_host::Histogram) -> f64 {
///     times.sum() / times.count().max(1) as f64
/// }
///
/// fn within_a_second(times: &formation_host::Histogram) -> u64 {
///     times.buckets().find(|(end, _)| *end >= 1.0).map_or(0, |(_, count)| count)
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Histogram {
    /// For each bucket, how many times are in it and in no smaller one.
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn record(&mut self, seconds: f64) {
        if let Some(bucket) = BUCKETS.iter().position(|end| seconds <= *end) {
            self.counts[bucket] += 1;
        }
        self.count += 1;
        self.sum += seconds;
    }

    /// The upper end of each bucket in seconds, and how many times are not longer.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let sums = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        BUCKETS.into_iter().zip(sums)
    }

    /// How many times there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum, in seconds.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

/// The counts of a node since its start.
#[derive(Debug)]
pub(crate) struct Tallies {
    /// By the metric and the value of its label. There are as many as the labels have values.
    counters: BTreeMap<(&'static str, String), u64>,
    histograms: BTreeMap<&'static str, Histogram>,
    facade: Facade,
    /// When the gauges were sent last.
    gauges_at: Option<Timestamp>,
}

impl Tallies {
    pub(crate) fn new(config: &Config) -> Self {
        let (counters, histograms) = (BTreeMap::new(), BTreeMap::new());
        let mut tallies = Self { counters, histograms, facade: Facade::new(config), gauges_at: None };
        // A rate needs the 0 before the first one.
        for metric in [table::ELECTIONS, table::VIEWS, table::SKIPPED] {
            tallies.count(&metric, "", 0);
        }
        for reason in samples::LOSSES {
            tallies.count(&table::LOSSES, &snake(reason), 0);
        }
        for change in samples::STATES.map(snake).into_iter().chain(samples::REMOVALS.map(snake)) {
            tallies.count(&table::MEMBER_CHANGES, &change, 0);
        }
        for result in samples::DIALS {
            tallies.count(&table::DIALS, result, 0);
        }
        tallies
    }

    pub(crate) fn count(&mut self, metric: &Metric, label: &str, by: u64) {
        *self.counters.entry((metric.name, label.to_owned())).or_default() += by;
        self.facade.count(metric, label, by);
    }

    pub(crate) fn record(&mut self, metric: &Metric, time: Duration) {
        let seconds = time.as_secs_f64();
        self.histograms.entry(metric.name).or_default().record(seconds);
        self.facade.record(metric, seconds);
    }

    /// Whether the gauges have to be sent: something has changed, or it is time.
    pub(crate) fn gauges_are_due(&mut self, has_changed: bool, now: Timestamp) -> bool {
        let is_due = has_changed || self.gauges_at.is_none_or(|at| now.since(at) >= GAUGES_EVERY);
        if is_due {
            self.gauges_at = Some(now);
        }
        is_due
    }
}

/// The name of a variant, as a label: `wrong_cluster` for `WrongCluster`, without its fields.
pub(crate) fn snake(variant: impl Debug) -> String {
    let mut out = String::new();
    let name = format!("{variant:?}");
    for letter in name.chars().take_while(char::is_ascii_alphanumeric) {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}
