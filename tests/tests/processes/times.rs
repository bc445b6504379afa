//! A table of measured durations.

use std::{collections::BTreeMap, fmt, time::Duration};

/// Durations by name.
#[derive(Default)]
pub(crate) struct Times(BTreeMap<String, Vec<Duration>>);

impl Times {
    pub(crate) fn add(&mut self, what: impl Into<String>, time: Duration) {
        self.0.entry(what.into()).or_default().push(time);
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        self.0.get(what).map_or(0, Vec::len)
    }
}

/// The percentile of sorted durations, by the nearest rank.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted[rank.saturating_sub(1)]
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {:52} | times |    min | median |    p99 |    max |", "seconds")?;
        write!(f, "| {:-<52} | ----: | -----: | -----: | -----: | -----: |", "")?;
        for (what, times) in &self.0 {
            let mut sorted = times.clone();
            sorted.sort();
            write!(f, "\n| {what:52} | {:5} |", sorted.len())?;
            for percent in [0, 50, 99, 100] {
                write!(f, " {:6.3} |", percentile(&sorted, percent).as_secs_f64())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Times, percentile};

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let times: Vec<_> = (1..=200).map(Duration::from_secs).collect();
        for (percent, secs) in [(0, 1), (50, 100), (99, 198), (100, 200)] {
            assert_eq!(percentile(&times, percent), Duration::from_secs(secs), "{percent}");
        }
        assert_eq!(percentile(&times[..1], 99), Duration::from_secs(1));
    }

    #[test]
    fn a_table_has_a_row_for_each_kind() {
        let mut times = Times::default();
        times.add("failover", Duration::from_millis(1_500));
        times.add("failover", Duration::from_millis(500));
        let table = times.to_string();
        assert!(table.ends_with("|     2 |  0.500 |  0.500 |  1.500 |  1.500 |"), "{table}");
        assert_eq!(times.count("failover"), 2);
    }
}
