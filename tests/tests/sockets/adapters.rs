//! Both adapters behind one trait.

use std::{io, net::TcpListener, time::Duration};

use bytes::Bytes;
use formation_core::{Address, Config, Event, Explanation, Leadership, MembersView, Node, Status, Term, Timestamp};
use formation_tokio::{
    ClusterHandle, Credentials, Environment, IncomingError, LeaveError, OpenError, StartError, StreamEnd, Transport,
    Unfinished,
};

/// Far longer than any test takes. It only ends a test that would hang.
const LIMIT: Duration = Duration::from_secs(300);

/// A node's master and its term.
pub(crate) type Mastership = (Node, Term);

/// A running node. Dropping it is a crash.
pub(crate) trait Adapter: Sized + Send + Sync + 'static {
    /// The number of events that wait for a slow subscriber.
    const EVENT_BUFFER: usize;
    type Events;
    type Watch;
    type Secured: Transport;
    /// A stream between services.
    type Stream: Send + 'static;
    type Incoming: Send + 'static;

    /// The number of tasks of the runtime, if the runtime counts them.
    fn tasks() -> usize;

    fn try_start(config: Config, listener: TcpListener) -> Result<Self, StartError>;

    fn start(config: Config, listener: TcpListener) -> Self {
        Self::try_start(config, listener).unwrap()
    }

    /// Starts a node in another environment than the system's.
    fn start_in(config: Config, listener: TcpListener, environment: &Environment) -> Self;

    /// TLS on TCP.
    fn secured(listener: TcpListener, credentials: Credentials) -> Self::Secured;
    /// Starts a node on TLS.
    fn start_secured(config: Config, listener: TcpListener, credentials: Credentials) -> Self;

    /// A handle that does not own the node.
    fn handle(&self) -> ClusterHandle;
    fn node(&self) -> &Node;
    fn view(&self) -> MembersView;
    fn watch(&self) -> Self::Watch;
    fn leadership(&self) -> Option<Leadership>;
    fn status(&self) -> Status;
    fn suppressed_events(&self) -> u64;
    fn now(&self) -> Timestamp;
    /// All events from now on. The first call gets all events since the start.
    fn events(&self) -> Self::Events;
    /// The next event, or the number of lost events. `None` once the node has ended and all events are read.
    async fn next_or_skipped(events: &mut Self::Events) -> Option<Result<Event, u64>>;

    /// The next event. `None` once the node has ended and all events are read.
    async fn next(events: &mut Self::Events) -> Option<Event> {
        Self::next_or_skipped(events).await.map(|event| event.expect("no event was missed"))
    }

    /// The current view, which counts as seen from now on.
    fn current(watch: &mut Self::Watch) -> MembersView;
    /// A view that was not seen yet. `None` if there will be no more views.
    async fn changed(watch: &mut Self::Watch) -> Option<MembersView>;
    async fn wait_for_master(&self) -> Mastership;
    async fn wait_for_members(&self, count: usize) -> MembersView;

    /// Waits for a view that meets the condition.
    async fn wait_for_view(&self, accept: impl Fn(&MembersView) -> bool) -> MembersView {
        let mut watch = self.watch();
        let mut view = Self::current(&mut watch);
        while !accept(&view) {
            view = Self::changed(&mut watch).await.expect("the node runs");
        }
        view
    }

    // Each of these returns the text of its error.
    async fn try_set_metadata(&self, metadata: Bytes) -> Result<(), String>;
    async fn try_add_contacts(&self, contacts: Vec<Address>) -> Result<(), String>;
    async fn try_leave(&self) -> Result<(), String>;
    async fn leave_within(&self, limit: Duration) -> Result<(), LeaveError>;
    async fn shutdown(&self);
    async fn shutdown_within(&self, limit: Duration) -> Result<(), Unfinished>;
    async fn explain(&self) -> Result<Explanation, String>;

    async fn set_metadata(&self, metadata: Bytes) {
        self.try_set_metadata(metadata).await.unwrap();
    }

    fn open(&self, to: &Node, name: &str) -> impl Future<Output = Result<Self::Stream, OpenError>> + Send;
    async fn incoming(&self, name: &str) -> Result<Self::Incoming, IncomingError>;
    /// The next stream. `None` once the node has stopped.
    fn accept(incoming: &mut Self::Incoming) -> impl Future<Output = Option<Self::Stream>> + Send;
    fn peer(stream: &Self::Stream) -> Node;
    fn ended(stream: &Self::Stream) -> impl Future<Output = StreamEnd> + Send;
    fn read(stream: &mut Self::Stream, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;
    fn write(stream: &mut Self::Stream, bytes: &[u8]) -> impl Future<Output = io::Result<()>> + Send;
    /// Closes this end.
    fn close(stream: &mut Self::Stream) -> impl Future<Output = io::Result<()>> + Send;

    async fn leave(self) {
        self.try_leave().await.unwrap();
    }
}

/// Implements the trait. The adapters have the same interface, but no common trait.
macro_rules! adapter {
    ($name:ident, $crate_name:ident, $close:ident, $listener:expr, $tasks:expr) => {
        pub(crate) struct $name($crate_name::Cluster);

        impl Adapter for $name {
            const EVENT_BUFFER: usize = $crate_name::EVENT_BUFFER;
            type Events = $crate_name::Events;
            type Watch = $crate_name::Watch;
            type Secured = $crate_name::Tls<$crate_name::Tcp>;
            type Stream = $crate_name::PeerStream;
            type Incoming = $crate_name::Incoming<$crate_name::PeerStream>;

            fn tasks() -> usize {
                $tasks
            }

            fn try_start(config: Config, listener: TcpListener) -> Result<Self, StartError> {
                listener.set_nonblocking(true).unwrap();
                let listener = $listener(listener).unwrap();
                $crate_name::Cluster::start(config, listener).map(Self)
            }

            fn start_in(config: Config, listener: TcpListener, environment: &Environment) -> Self {
                listener.set_nonblocking(true).unwrap();
                let tcp = $crate_name::Tcp::new($listener(listener).unwrap());
                Self($crate_name::Cluster::start_with(config, tcp, environment).unwrap())
            }

            fn secured(listener: TcpListener, credentials: Credentials) -> Self::Secured {
                listener.set_nonblocking(true).unwrap();
                $crate_name::Tls::new($crate_name::Tcp::new($listener(listener).unwrap()), credentials)
            }

            fn start_secured(config: Config, listener: TcpListener, credentials: Credentials) -> Self {
                let transport = Self::secured(listener, credentials);
                Self($crate_name::Cluster::start_on(config, transport).unwrap())
            }

            fn handle(&self) -> ClusterHandle {
                self.0.clone()
            }

            fn node(&self) -> &Node {
                self.0.node()
            }

            fn view(&self) -> MembersView {
                self.0.view()
            }

            fn watch(&self) -> Self::Watch {
                self.0.watch()
            }

            fn leadership(&self) -> Option<Leadership> {
                self.0.leadership()
            }

            fn status(&self) -> Status {
                self.0.status()
            }

            fn suppressed_events(&self) -> u64 {
                self.0.suppressed_events()
            }

            fn now(&self) -> Timestamp {
                self.0.now()
            }

            fn events(&self) -> Self::Events {
                self.0.events()
            }

            async fn next_or_skipped(events: &mut Self::Events) -> Option<Result<Event, u64>> {
                match events.recv().await {
                    Ok(event) => Some(Ok(event)),
                    Err($crate_name::RecvError::Skipped(count)) => Some(Err(count)),
                    Err($crate_name::RecvError::Stopped) => None,
                }
            }

            fn current(watch: &mut Self::Watch) -> MembersView {
                watch.current()
            }

            async fn changed(watch: &mut Self::Watch) -> Option<MembersView> {
                watch.changed().await.ok()
            }

            async fn wait_for_master(&self) -> Mastership {
                let master = self.0.wait_for_master().await.unwrap();
                (master.node, master.term)
            }

            async fn wait_for_members(&self, count: usize) -> MembersView {
                self.0.wait_for_members(count).await.unwrap()
            }

            async fn try_set_metadata(&self, metadata: Bytes) -> Result<(), String> {
                self.0.set_metadata(metadata).await.map_err(|error| error.to_string())
            }

            async fn try_add_contacts(&self, contacts: Vec<Address>) -> Result<(), String> {
                self.0.add_contacts(contacts).await.map_err(|error| error.to_string())
            }

            async fn try_leave(&self) -> Result<(), String> {
                self.0.leave().await.map_err(|error| error.to_string())
            }

            async fn leave_within(&self, limit: Duration) -> Result<(), LeaveError> {
                self.0.leave_within(limit).await
            }

            async fn shutdown(&self) {
                self.0.shutdown().await;
            }

            async fn shutdown_within(&self, limit: Duration) -> Result<(), Unfinished> {
                self.0.shutdown_within(limit).await
            }

            async fn explain(&self) -> Result<Explanation, String> {
                self.0.explain().await.map_err(|error| error.to_string())
            }

            async fn open(&self, to: &Node, name: &str) -> Result<Self::Stream, OpenError> {
                self.0.open(to, name).await
            }

            async fn incoming(&self, name: &str) -> Result<Self::Incoming, IncomingError> {
                self.0.incoming(name).await
            }

            async fn accept(incoming: &mut Self::Incoming) -> Option<Self::Stream> {
                incoming.accept().await.ok()
            }

            fn peer(stream: &Self::Stream) -> Node {
                stream.peer().clone()
            }

            fn ended(stream: &Self::Stream) -> impl Future<Output = StreamEnd> + Send {
                stream.ended()
            }

            async fn read(stream: &mut Self::Stream, buffer: &mut [u8]) -> io::Result<usize> {
                stream.read(buffer).await
            }

            async fn write(stream: &mut Self::Stream, bytes: &[u8]) -> io::Result<()> {
                stream.write_all(bytes).await?;
                stream.flush().await
            }

            async fn close(stream: &mut Self::Stream) -> io::Result<()> {
                stream.$close().await
            }
        }
    };
}

mod on_tokio {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    adapter!(
        Tokio,
        formation_tokio,
        shutdown,
        tokio::net::TcpListener::from_std,
        tokio::runtime::Handle::current().metrics().num_alive_tasks()
    );
}

mod on_smol {
    use super::*;
    use smol::io::{AsyncReadExt, AsyncWriteExt};

    adapter!(Smol, formation_smol, close, smol::net::TcpListener::try_from, 0);
}

pub(crate) use self::{on_smol::Smol, on_tokio::Tokio};

/// Runs a test on tokio. This includes tests of smol, whose nodes run on smol's own threads: a handle works on any
/// runtime.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // A thread that waits for a disk ends soon after it. A service may have as few of them.
    let builder = builder.worker_threads(2).max_blocking_threads(4);
    let runtime = builder.thread_keep_alive(Duration::from_millis(1)).enable_all().build().unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(LIMIT, test).await });
    assert!(ended.is_ok(), "the test takes longer than {LIMIT:?}");
}
