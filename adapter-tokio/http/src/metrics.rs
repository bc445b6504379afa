//! The metrics of a node, in the text format of Prometheus.

use std::fmt::Write;

use formation_host::{Metric, MetricKind, MetricValue, Sample};

/// The samples, which are in the order of their metrics, as a text.
pub(crate) fn text(samples: &[Sample]) -> String {
    let mut text = Text::default();
    let mut last = None;
    for Sample { metric, labels, value, .. } in samples {
        if last.replace(metric.name) != Some(metric.name) {
            text.head(metric);
        }
        match value {
            MetricValue::Number(number) => text.sample(metric.name, labels, None, *number),
            MetricValue::Histogram(times) => {
                let bucket = format!("{}_bucket", metric.name);
                let buckets = times.buckets().map(|(end, count)| (end.to_string(), count));
                for (end, count) in buckets.chain([("+Inf".to_owned(), times.count())]) {
                    text.sample(&bucket, labels, Some(("le", end)), count as f64);
                }
                text.sample(&format!("{}_sum", metric.name), labels, None, times.sum());
                text.sample(&format!("{}_count", metric.name), labels, None, times.count() as f64);
            }
            // There is no other kind of values yet.
            _ => {}
        }
    }
    text.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, metric: &Metric) {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Histogram => "histogram",
            _ => "gauge",
        };
        let Metric { name, help, .. } = metric;
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(
        &mut self,
        name: &str,
        labels: &[(&'static str, String)],
        further: Option<(&'static str, String)>,
        value: f64,
    ) {
        let labels = labels.iter().chain(&further).map(|(label, text)| format!("{label}=\"{}\"", escaped(text)));
        let labels: Vec<_> = labels.collect();
        let _ = writeln!(self.0, "{name}{{{}}} {value}", labels.join(","));
    }
}

/// The text of a label, as the format wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_label_is_escaped() {
        let mut text = Text::default();
        text.sample("a", &[("c", "\"d\\\n".to_owned())], Some(("le", "1".to_owned())), 0.5);
        assert_eq!(text.0, "a{c=\"\\\"d\\\\\\n\",le=\"1\"} 0.5\n");
    }
}
