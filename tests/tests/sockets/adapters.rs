//! The two adapters behind one trait.

use std::{net::TcpListener, time::Duration};

use bytes::Bytes;
use formation_core::{Config, Event, MembersView, Node, Term};
use formation_tokio::{Credentials, StartError};

/// Far more than any test takes: it only makes a test fail that would hang.
const LIMIT: Duration = Duration::from_secs(60);

/// A node's master and its term.
pub(crate) type Mastership = (Node, Term);

/// A running node. Dropping it is a crash.
pub(crate) trait Adapter: Sized {
    type Events;

    fn try_start(config: Config, listener: TcpListener) -> Result<Self, StartError>;

    fn start(config: Config, listener: TcpListener) -> Self {
        Self::try_start(config, listener).unwrap()
    }

    /// On TLS.
    fn start_secured(config: Config, listener: TcpListener, credentials: Credentials) -> Self;

    fn node(&self) -> &Node;
    fn view(&self) -> MembersView;
    /// Those that come from now on, except that the first call gets all since the start.
    fn events(&self) -> Self::Events;
    /// The next event; `None` once the node is gone and all is read.
    async fn next(events: &mut Self::Events) -> Option<Event>;
    async fn wait_for_master(&self) -> Mastership;
    async fn wait_for_members(&self, count: usize) -> MembersView;
    /// Waits for a view that is as it should be.
    async fn wait_for_view(&self, accept: impl Fn(&MembersView) -> bool) -> MembersView;
    async fn set_metadata(&self, metadata: Bytes);
    async fn leave(self);
}

/// The adapters have the same interface, and share no trait for it.
macro_rules! adapter {
    ($name:ident, $crate_name:ident, $listener:expr) => {
        pub(crate) struct $name($crate_name::Cluster);

        impl Adapter for $name {
            type Events = $crate_name::Events;

            fn try_start(config: Config, listener: TcpListener) -> Result<Self, StartError> {
                listener.set_nonblocking(true).unwrap();
                let listener = $listener(listener).unwrap();
                $crate_name::Cluster::start(config, listener).map(Self)
            }

            fn start_secured(config: Config, listener: TcpListener, credentials: Credentials) -> Self {
                listener.set_nonblocking(true).unwrap();
                let transport = $crate_name::Tcp::new($listener(listener).unwrap());
                let transport = $crate_name::Tls::new(transport, credentials);
                Self($crate_name::Cluster::start_on(config, transport).unwrap())
            }

            fn node(&self) -> &Node {
                self.0.node()
            }

            fn view(&self) -> MembersView {
                self.0.view()
            }

            fn events(&self) -> Self::Events {
                self.0.events()
            }

            async fn next(events: &mut Self::Events) -> Option<Event> {
                events.next().await.map(|event| event.expect("no event was missed"))
            }

            async fn wait_for_master(&self) -> Mastership {
                let master = self.0.wait_for_master().await.unwrap();
                (master.node, master.term)
            }

            async fn wait_for_members(&self, count: usize) -> MembersView {
                self.0.wait_for_members(count).await.unwrap()
            }

            async fn wait_for_view(&self, accept: impl Fn(&MembersView) -> bool) -> MembersView {
                let mut watch = self.0.watch();
                let mut view = watch.current();
                while !accept(&view) {
                    view = watch.changed().await.unwrap();
                }
                view
            }

            async fn set_metadata(&self, metadata: Bytes) {
                self.0.set_metadata(metadata).await.unwrap();
            }

            async fn leave(self) {
                self.0.leave().await.unwrap();
            }
        }
    };
}

adapter!(Tokio, formation_tokio, tokio::net::TcpListener::from_std);
adapter!(Smol, formation_smol, smol::net::TcpListener::try_from);

/// Runs a test on tokio, also that of a node which runs on smol's own threads: a handle can be awaited anywhere.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(LIMIT, test).await });
    assert!(ended.is_ok(), "it takes longer than {LIMIT:?}");
}
