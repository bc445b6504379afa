//! Discovery: where a node finds further addresses to dial, while it runs.
//!
//! - `source`: the sources that come with this package.
//! - `text`: the text form of a source, and lists of addresses in files and variables.
//! - `blocking`: work that blocks, on a thread of its own.
//! - `srv` (feature `dns-srv`): SRV records of the name servers.
//! - `asking`: the task that asks one source again and again.
//! - `found`: what all sources have found, within the limits.

mod asking;
mod blocking;
mod found;
mod source;
#[cfg(feature = "dns-srv")]
mod srv;
mod text;

use std::{collections::BTreeSet, fmt, io, pin::Pin, time::Duration};

use formation_core::Address;

pub use self::found::SourceReport;
pub use self::source::Source;
#[cfg(feature = "dns-srv")]
pub use self::srv::NameServers;
pub use self::text::SourceError;
pub(crate) use self::{
    asking::{Answer, ask},
    found::{Found, Outcome},
};

/// The most sources of a node.
///
/// ```no_run
/// # async fn example(cluster: &formation_host::ClusterHandle) {
/// use formation_host::{CommandError, MAX_SOURCES, Source};
///
/// for number in 0..=MAX_SOURCES {
///     if let Err(CommandError::TooManySources) = cluster.discover(Source::env("ORDERS_NODES")).await {
///         println!("this is one too many: {number}");
///     }
/// }
/// # }
/// ```
pub const MAX_SOURCES: usize = 8;

/// A source of addresses at which other nodes of the cluster may be: a stream of sets, each of which replaces the one before.
///
/// [`ClusterHandle::discover`](crate::ClusterHandle::discover) asks it as long as the node runs. What it finds are contacts: the node
/// dials them while it has no master. They never become voters, which are the configured seeds. [`Source`] has the usual ones. For a
/// registry of your own, implement this trait:
///
/// ```
/// use std::{collections::BTreeSet, io, time::Duration};
///
/// use formation_core::Address;
/// use formation_host::{ClusterHandle, CommandError, Discovery};
///
/// struct Registry;
///
/// impl Registry {
///     async fn instances(&mut self) -> io::Result<Vec<String>> {
///         // Ask it with the client that you have.
///         Ok(vec!["10.0.0.9:7000".to_owned()])
///     }
/// }
///
/// impl Discovery for Registry {
///     fn name(&self) -> String {
///         "the registry".to_owned()
///     }
///
///     async fn find(&mut self) -> io::Result<BTreeSet<Address>> {
///         let instances = self.instances().await?;
///         instances.iter().map(|address| Address::new(address).map_err(io::Error::other)).collect()
///     }
///
///     fn refresh(&self) -> Duration {
///         Duration::from_secs(10)
///     }
/// }
///
/// async fn find_nodes(cluster: &ClusterHandle) -> Result<(), CommandError> {
///     cluster.discover(Registry).await
/// }
/// ```
pub trait Discovery: Send + 'static {
    /// The name of the source in the log.
    fn name(&self) -> String;

    /// Finds the addresses of this moment. They replace those of the last time.
    ///
    /// It may take any time: nothing waits for it, and it is not called again before it has ended. It may also wait until something has
    /// changed. It must not block its thread. It need not be cancel safe: the future is dropped only when the node ends.
    ///
    /// # Errors
    /// The problem, and what to do. The node logs it once, keeps the addresses of the last time, and asks again soon.
    fn find(&mut self) -> impl Future<Output = io::Result<BTreeSet<Address>>> + Send;

    /// How long the node waits until it asks again: from 1 second to 1 hour, whatever this returns. After an error it waits for 5 seconds
    /// at most.
    fn refresh(&self) -> Duration;
}

type Finding<'a> = Pin<Box<dyn Future<Output = io::Result<BTreeSet<Address>>> + Send + 'a>>;

/// Any [`Discovery`].
pub(crate) trait AnyDiscovery: Send {
    fn name(&self) -> String;
    fn find(&mut self) -> Finding<'_>;
    fn refresh(&self) -> Duration;
}

impl<D: Discovery> AnyDiscovery for D {
    fn name(&self) -> String {
        Discovery::name(self)
    }

    fn find(&mut self) -> Finding<'_> {
        Box::pin(Discovery::find(self))
    }

    fn refresh(&self) -> Duration {
        Discovery::refresh(self)
    }
}

impl fmt::Debug for dyn AnyDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}
