//! The flags for sources of further addresses.

use std::time::Duration;

use clap::Args;
use formation_host::{MAX_SOURCES, Source};

use super::{Fallible, overrides::shown};

/// How often a source may be asked.
const EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

#[derive(Args, Clone, Debug)]
pub(super) struct DiscoveryFlags {
    /// Where to look for further addresses, while there is no master; repeatable. static:ADDRESS,ADDRESS is these addresses,
    /// dns:NAME:PORT all IP addresses of a name, srv:NAME the targets of its SRV records, k8s:SERVICE.NAMESPACE:PORT the pods of a
    /// headless service (PORT is a name or a number), file:PATH a file with an address on each line, and env:NAME a variable with a
    /// list. They do not become voters: those are the seeds
    #[arg(long, value_name = "SOURCE")]
    discover: Vec<Source>,
    /// How often to look there, from 1s to 1h; without it, name servers are asked every 10s, and files are read every 2s
    #[arg(long, value_name = "TIME")]
    discover_every: Option<humantime::Duration>,
}

impl DiscoveryFlags {
    /// The sources, each with the time between two questions.
    pub(super) fn sources(&self) -> Fallible<Vec<Source>> {
        let count = self.discover.len();
        if count > MAX_SOURCES {
            return Err(format!("there are {count} sources of --discover, but at most {MAX_SOURCES} may be").into());
        }
        let Some(every) = self.discover_every.map(Duration::from) else { return Ok(self.discover.clone()) };
        let (least, most) = EVERY;
        if count == 0 {
            return Err("--discover-every has no effect without --discover; give both".into());
        }
        if every < least || every > most {
            let (every, least, most) = (shown(every), shown(least), shown(most));
            return Err(format!("--discover-every is {every}, but has to be from {least} to {most}").into());
        }
        Ok(self.discover.iter().map(|source| source.clone().every(every)).collect())
    }
}
