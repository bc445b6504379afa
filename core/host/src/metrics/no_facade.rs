//! Without the feature `metrics`, the counts of a node go nowhere else.

use formation_core::Config;

use super::Metric;

#[derive(Debug)]
pub(crate) struct Facade;

impl Facade {
    pub(crate) fn new(_: &Config) -> Self {
        Self
    }

    pub(crate) fn count(&mut self, _: &Metric, _: &str, _: u64) {}

    pub(crate) fn count_is(&mut self, _: &Metric, _: u64) {}

    pub(crate) fn gauge(&mut self, _: &Metric, _: &str, _: f64) {}

    pub(crate) fn record(&mut self, _: &Metric, _: f64) {}
}
