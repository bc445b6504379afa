//! How many connections fit into what the process may open.

use formation_core::{Config, ConfigBuilder};

/// The reserve for everything that is not a connection of a running node: its files, its listener, the dials to claimed addresses (two
/// attempts for each of 64, H11), connections that are still closing, and the files and sockets of the application.
const RESERVE: u64 = 320;

/// The share of all files that the streams of the services may be: one of so many.
const STREAMS: u64 = 8;

/// A limit of connections that was lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lowered {
    /// The limit in the configuration.
    pub(crate) configured: usize,
    /// The limit of this run.
    pub(crate) connections: usize,
    /// How many files the process may have open.
    pub(crate) open_files: u64,
}

/// Lowers the limits of connections and of streams to what the process may open. Otherwise a peer with many connections could use up
/// what a vote, a dial or the application needs.
pub(crate) fn fit(config: Config, open_files: Option<u64>) -> (Config, Option<Lowered>) {
    let Some(open_files) = open_files else { return (config, None) };
    let streams = streams(&config, open_files);
    let lowered = lowered(&config, open_files, streams);
    let limits = config.limits().clone().with_streams(streams);
    let limits = match &lowered {
        Some(lowered) => limits.with_connections(lowered.connections),
        None => limits,
    };
    match ConfigBuilder::from(config.clone()).limits(limits).build() {
        Ok(fitting) => (fitting, lowered),
        // The limit is not below its minimum, and nothing else has changed.
        Err(_) => (config, None),
    }
}

/// How many streams there may be.
fn streams(config: &Config, open_files: u64) -> usize {
    config.limits().streams.min(usize::try_from(open_files / STREAMS).unwrap_or(usize::MAX))
}

fn lowered(config: &Config, open_files: u64, streams: usize) -> Option<Lowered> {
    let configured = config.limits().connections;
    // Half of it, if the reserve is more than that.
    let fitting =
        usize::try_from(open_files - RESERVE.min(open_files / 2)).unwrap_or(usize::MAX).saturating_sub(streams);
    // The limit has to be larger than the number of seeds.
    let connections = fitting.max(config.seeds().len() + 1);
    (connections < configured).then_some(Lowered { configured, connections, open_files })
}

/// How many files the process may have open; `None` if the system does not tell, or has no limit.
#[cfg(unix)]
pub(crate) fn open_files() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

#[cfg(not(unix))]
pub(crate) fn open_files() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use formation_core::Limits;

    use super::*;

    fn fitted(configured: usize, open_files: u64) -> usize {
        let limits = Limits::new().with_connections(configured);
        let config =
            Config::builder("test", "a", "a:1").seeds(["a:1", "b:1"]).key("sixteen bytes at least").limits(limits);
        let config = config.build().unwrap();
        let (fitting, lowered) = fit(config.clone(), Some(open_files));
        let connections = fitting.limits().connections;
        let expected = Lowered { configured, connections, open_files };
        assert_eq!(lowered, (connections < configured).then_some(expected));
        // Nothing else has changed.
        let streams = usize::try_from(open_files / STREAMS).unwrap().min(config.limits().streams);
        assert_eq!(fitting.limits().streams, streams);
        let limits = config.limits().clone();
        assert_eq!(ConfigBuilder::from(fitting).limits(limits).build(), Ok(config));
        connections
    }

    #[test]
    fn connections_are_lowered_to_what_may_be_opened() {
        assert_eq!(fitted(16_384, 1_024), 576);
        assert_eq!(fitted(16_384, 65_536), 16_384);
        assert_eq!(fitted(576, 1_024), 576);
        assert_eq!(fitted(16_384, 256), 96);
        assert_eq!(fitted(16_384, 4), 3);
    }

    #[test]
    fn without_a_known_limit_nothing_changes() {
        let config = Config::single("test", "a", "a:1").build().unwrap();
        assert_eq!(fit(config.clone(), None), (config, None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_limit_of_the_system_is_read() {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        assert_eq!(open_files(), line.split_whitespace().nth(3).unwrap().parse().ok());
    }
}
