//! The one task that owns the [`Formation`]: it feeds it what happens and does what it wants, and waits for no socket.

use std::{
    collections::{HashMap, VecDeque},
    io,
    pin::pin,
    sync::Arc,
    task::Context,
};

use async_broadcast as broadcast;
use bytes::Bytes;
use formation_core::{Command, ConnId, DialId, Event, Formation, Input, Misuse, Origin, Output, Timestamp};
use formation_host::{Clock, Opening, Store};
use smol::{
    Task, Timer,
    channel::{self, Receiver, Sender, TrySendError},
    future,
    lock::{Semaphore, SemaphoreGuardArc},
};

use crate::{
    cluster::Shared,
    connection::{Connection, accept, dial},
    storage::Storage,
    transport::Transport,
    turns::{Source, Turns},
};

/// Chunks, flushes and dials on their way to the driver; who is faster has to wait, and so has its peer.
const SIGNALS: usize = 256;
/// Closed connections that still deliver what was sent last; beyond it the oldest is cut.
const CLOSING: usize = 256;

/// What the other tasks tell the driver.
pub(crate) enum Signal<S> {
    Dialed(DialId, io::Result<Opening<S>>),
    Received(ConnId, Bytes),
    Flushed(ConnId),
    Closed(ConnId, Option<io::Error>),
    Persisted(u64),
    PersistFailed(u64),
}

/// What the host wants, and where it waits for the answer.
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) reply: Sender<Result<(), Misuse>>,
}

/// A connection, and its turn.
pub(crate) type Accepted<S> = (Opening<S>, SemaphoreGuardArc);

enum Next<S> {
    Due,
    Request(Request),
    Signal(Signal<S>),
    Accepted(Accepted<S>),
}

pub(crate) struct Driver<T: Transport> {
    formation: Formation,
    transport: Arc<T>,
    clock: Clock,
    storage: Option<Storage>,
    node: Arc<str>,
    requests: Receiver<Request>,
    signals: Receiver<Signal<T::Stream>>,
    turns: Turns,
    to_self: Sender<Signal<T::Stream>>,
    opened: u64,
    conns: HashMap<ConnId, Connection>,
    dials: HashMap<DialId, Task<()>>,
    closing: VecDeque<Task<()>>,
    events: broadcast::Sender<Event>,
    stopped: bool,
    /// The last to go: whoever hears of the end finds the port free, and asks nothing of this driver any more.
    shared: Ending,
}

/// However the driver ends, nobody waits for it in vain.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl<T: Transport> Driver<T> {
    pub(crate) fn new(
        formation: Formation,
        transport: T,
        clock: Clock,
        store: Option<Store>,
        requests: Receiver<Request>,
        shared: Arc<Shared>,
        events: broadcast::Sender<Event>,
    ) -> Self {
        let (to_self, signals) = channel::bounded(SIGNALS);
        Self {
            node: formation.node().to_string().into(),
            formation,
            transport: Arc::new(transport),
            clock,
            storage: store.map(Storage::new),
            requests,
            signals,
            turns: Turns::new(),
            to_self,
            opened: 0,
            conns: HashMap::new(),
            dials: HashMap::new(),
            closing: VecDeque::new(),
            events,
            stopped: false,
            shared: Ending(shared),
        }
    }

    /// Runs until the node has stopped, or the task is cancelled; with it end all the tasks that it has spawned.
    pub(crate) async fn run(mut self) {
        // A turn ends when what has come on the connection is read, so that of many that connect at once the first are not closed
        // as the oldest that have said nothing, though nobody has listened.
        let unheard = Arc::new(Semaphore::new((self.formation.config().limits().pending_connections / 4).max(1)));
        let (to_accept, accepted) = channel::bounded(1);
        let accepting = smol::spawn(accept(self.transport.clone(), unheard, to_accept, self.node.clone()));
        self.settle();
        while !self.stopped {
            match self.next(&accepted).await {
                Next::Due => self.tell(Input::Tick),
                Next::Request(Request { command, reply }) => {
                    // Whoever asked may have stopped waiting.
                    let _ = reply.try_send(self.feed(Input::Command(command)));
                }
                Next::Signal(signal) => self.signal(signal),
                Next::Accepted((opening, turn)) => {
                    self.hear_out();
                    self.open(opening, Origin::Accepted, Some(turn));
                }
            }
        }
        accepting.cancel().await;
        for (_, dial) in self.dials.drain() {
            dial.cancel().await;
        }
        // Readers must not wait for room in an inbox that nobody empties.
        self.signals.close();
        for closing in self.closing.drain(..) {
            closing.await;
        }
        // Whoever waits for the end may start the node again at once.
        if let Some(storage) = self.storage.take() {
            storage.finish().await;
        }
    }

    async fn next(&mut self, accepted: &Receiver<Accepted<T::Stream>>) -> Next<T::Stream> {
        let mut due = pin!(due(self.formation.next_deadline(), self.clock.now()));
        let mut request = pin!(async {
            match self.requests.recv().await {
                Ok(request) => Next::Request(request),
                Err(_) => future::pending().await,
            }
        });
        let mut signal = pin!(async {
            match self.signals.recv().await {
                Ok(signal) => Next::Signal(signal),
                Err(_) => future::pending().await,
            }
        });
        let mut accepted = pin!(async {
            match accepted.recv().await {
                Ok(accepted) => Next::Accepted(accepted),
                Err(_) => future::pending().await,
            }
        });
        let take = |cx: &mut Context<'_>| {
            self.turns.take(|source| match source {
                Source::Timers => due.as_mut().poll(cx),
                Source::Requests => request.as_mut().poll(cx),
                Source::Signals => signal.as_mut().poll(cx),
                Source::Accepts => accepted.as_mut().poll(cx),
            })
        };
        future::poll_fn(take).await
    }

    /// Takes in what has been read on the connections that are there, before there is one more.
    fn hear_out(&mut self) {
        for _ in 0..self.signals.len() {
            if let Ok(signal) = self.signals.try_recv() {
                self.signal(signal);
            }
        }
    }

    fn signal(&mut self, signal: Signal<T::Stream>) {
        match signal {
            Signal::Dialed(dial, result) => {
                self.dials.remove(&dial);
                match result {
                    Ok(opening) => self.open(opening, Origin::Dialed(dial), None),
                    Err(error) => {
                        tracing::debug!(node = %self.node, dial = dial.0, %error, "the dial failed");
                        self.tell(Input::DialFailed { dial });
                    }
                }
            }
            Signal::Persisted(seq) => self.tell(Input::Persisted { seq }),
            Signal::PersistFailed(seq) => self.tell(Input::PersistFailed { seq }),
            // What was still on its way when the connection ended is of no use to anybody.
            Signal::Received(conn, chunk) if self.conns.contains_key(&conn) => {
                self.tell(Input::Received { conn, chunk });
            }
            Signal::Flushed(conn) if self.conns.contains_key(&conn) => self.tell(Input::Flushed { conn }),
            Signal::Closed(conn, error) if self.conns.contains_key(&conn) => {
                let failure = error.as_ref().and_then(|error| self.transport.tls_failure(error));
                let error = error.map(tracing::field::display);
                tracing::debug!(node = %self.node, conn = conn.0, error, "the connection has ended");
                self.tell(match failure {
                    Some(failure) => Input::TlsFailed { conn, failure },
                    None => Input::Closed { conn },
                });
                // Only now: what was due before may have been sent on it.
                self.conns.remove(&conn);
            }
            Signal::Received(..) | Signal::Flushed(_) | Signal::Closed(..) => {}
        }
    }

    fn open(&mut self, opening: Opening<T::Stream>, origin: Origin, turn: Option<SemaphoreGuardArc>) {
        self.opened += 1;
        let conn = ConnId(self.opened);
        tracing::debug!(node = %self.node, conn = conn.0, ?origin, peer = opening.peer(), "a connection is open");
        self.conns.insert(conn, Connection::open(conn, opening, turn, &self.to_self));
        self.tell(Input::Opened { conn, origin });
    }

    fn tell(&mut self, input: Input) {
        if let Err(misuse) = self.feed(input) {
            tracing::error!(node = %self.node, %misuse, "a fault of this adapter");
        }
    }

    fn feed(&mut self, input: Input) -> Result<(), Misuse> {
        let fed = self.formation.handle_input(self.clock.now(), input);
        self.settle();
        fed
    }

    /// Publishes first: a master that ends its mastership ends it for its own host before it tells another node.
    fn settle(&mut self) {
        self.publish();
        while let Some(output) = self.formation.poll_output() {
            self.perform(output);
        }
    }

    fn publish(&self) {
        self.shared.0.publish(&self.formation, self.clock.now());
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Dial { dial: id, addr, timeout } => {
                let (transport, signals) = (self.transport.clone(), self.to_self.clone());
                let task = smol::spawn(async move {
                    let result = dial(transport, addr, timeout).await;
                    let _ = signals.send(Signal::Dialed(id, result)).await;
                });
                self.dials.insert(id, task);
            }
            Output::Send { conn, bytes } => match self.conns.get(&conn).map(|link| link.send(bytes)) {
                Some(Ok(()) | Err(TrySendError::Closed(_))) => {}
                Some(Err(TrySendError::Full(_))) => tracing::error!(node = %self.node, %conn, "two Sends in flight"),
                None => tracing::error!(node = %self.node, %conn, "a Send for a connection that is not open"),
            },
            Output::Close { conn, reason } => {
                tracing::debug!(node = %self.node, conn = conn.0, %reason, "closed");
                if let Some(conn) = self.conns.remove(&conn) {
                    self.closing.retain(|task| !task.is_finished());
                    self.closing.truncate(CLOSING - 1);
                    self.closing.push_front(conn.close());
                }
            }
            Output::Persist { seq, state } => match &mut self.storage {
                Some(storage) => storage.keep(seq, state, &self.to_self, &self.node),
                // Kept in memory, votes live as long as their node does: there is nothing to wait for.
                None => {
                    if let Err(misuse) = self.formation.handle_input(self.clock.now(), Input::Persisted { seq }) {
                        tracing::error!(node = %self.node, %misuse, "a fault of this adapter");
                    }
                    self.publish();
                }
            },
            Output::Event(event) => {
                self.stopped |= matches!(event, Event::Stopped { .. });
                self.log(&event);
                // Fails only when nobody listens: a full buffer drops its oldest, and its readers learn how many.
                let _ = self.events.try_broadcast(event);
            }
        }
    }

    fn log(&self, event: &Event) {
        let (node, term) = (&self.node, self.formation.status().term);
        match event {
            Event::MasterElected { term, master, address } => {
                tracing::info!(%node, %term, %master, %address, "master elected");
            }
            Event::MasterLost { term, master, reason } => {
                tracing::warn!(%node, %term, %master, ?reason, "master lost");
            }
            Event::ViewChanged { view_id, changes } => {
                tracing::info!(%node, %term, %view_id, changes = changes.len(), "view changed");
            }
            Event::Linked { node: peer, address, conn } => {
                tracing::debug!(%node, %term, %conn, %peer, %address, "linked");
            }
            Event::Stopped { reason } => tracing::info!(%node, %term, ?reason, "stopped"),
            Event::ConnClosed { conn, dialed, reason } => {
                let dialed = dialed.as_ref().map(tracing::field::display);
                tracing::warn!(%node, %term, %conn, dialed, %reason, "connection closed for its fault");
            }
            Event::Unlinked { node: peer, reason } => {
                tracing::debug!(%node, %term, %peer, reason = reason.map(tracing::field::display), "unlinked");
            }
            other => tracing::warn!(%node, %term, event = ?other, "not as it should be"),
        }
    }
}

async fn due<S>(deadline: Option<Timestamp>, now: Timestamp) -> Next<S> {
    match deadline {
        Some(deadline) => Timer::after(deadline.since(now)).await,
        None => future::pending().await,
    };
    Next::Due
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use formation_core::{Config, Incarnation, Start};
    use smol::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::Tcp;

    fn driver(config: Config, now: Timestamp, listener: TcpListener) -> (Driver<Tcp>, Sender<Request>) {
        let formation = Formation::new(config, Start::new(Incarnation(1), 1), now);
        let (requests, incoming) = channel::bounded(16);
        let (events, _) = broadcast::broadcast(1);
        let shared = Arc::new(Shared::new(&formation, now));
        let transport = Tcp::new(listener);
        (Driver::new(formation, transport, Clock::start(), None, incoming, shared, events), requests)
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_node_that_is_late_for_every_deadline_still_hears_its_host_and_its_peers() {
        let config = Config::single("late", "a", "a:1").local().build().unwrap();
        // The clock counts from the boot, and its timers from the zero of that clock.
        let listener = smol::block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (mut driver, requests) = driver(config, Timestamp::ZERO, listener);
        let (reply, _answer) = channel::bounded(1);
        requests.try_send(Request { command: Command::Leave, reply }).unwrap();
        driver.to_self.try_send(Signal::Closed(ConnId(1), None)).unwrap();
        let (_accept, accepted) = channel::bounded(1);
        let mut took: Vec<Next<_>> = (0..3).map(|_| smol::block_on(driver.next(&accepted))).collect();
        took.sort_by_key(|next| match next {
            Next::Due => 0,
            Next::Request(_) => 1,
            Next::Signal(_) => 2,
            Next::Accepted(_) => 3,
        });
        assert!(matches!(took[..], [Next::Due, Next::Request(_), Next::Signal(_)]), "each waits, and has its turn");
    }

    /// All but the driver itself have a way to tell it something, or a socket.
    #[test]
    fn no_task_that_tells_a_driver_anything_outlives_it() {
        let too_long = async {
            Timer::after(Duration::from_secs(20)).await;
            panic!("a task is left");
        };
        let both = async {
            ends(true).await;
            ends(false).await;
        };
        smol::block_on(future::or(both, too_long));
    }

    /// As a peer makes of it that sends faster than this node reads, at any moment.
    #[test]
    fn a_node_whose_inbox_is_full_leaves_all_the_same() {
        let too_long = async {
            Timer::after(Duration::from_secs(20)).await;
            panic!("it waits for a reader that waits for it");
        };
        let leaves = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let config = Config::single("full", "a", address.to_string()).local().build().unwrap();
            let (mut driver, requests) = driver(config, Clock::start().now(), listener.clone());
            let mut peer = TcpStream::connect(address).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            while driver.to_self.try_send(Signal::Flushed(ConnId(7))).is_ok() {}
            driver.open(Opening::ready(stream), Origin::Accepted, None);
            // More than one read takes, as there may be room for one.
            peer.write_all(&[0; 64 * 1024]).await.unwrap();
            let (reply, _answer) = channel::bounded(1);
            requests.send(Request { command: Command::Leave, reply }).await.unwrap();
            driver.run().await;
        };
        smol::block_on(future::or(leaves, too_long));
    }

    async fn ends(by_leaving: bool) {
        let listen = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (own, silent) = (listen().await, listen().await);
        let address = own.local_addr().unwrap();
        let seeds = [address, silent.local_addr().unwrap()].map(|seed| seed.to_string());
        let config = Config::builder("tasks", "a", seeds[0].as_str()).seeds(&seeds).local().build().unwrap();
        let (driver, requests) = driver(config, Clock::start().now(), own);
        let inbox = driver.signals.clone();
        let running = smol::spawn(driver.run());
        let stranger = TcpStream::connect(address).await.unwrap();
        let (mut dialed, _) = silent.accept().await.unwrap();
        dialed.read_exact(&mut [0; 4]).await.unwrap();
        assert!(inbox.sender_count() > 1);
        if by_leaving {
            let (reply, _answer) = channel::bounded(1);
            requests.send(Request { command: Command::Leave, reply }).await.unwrap();
            running.await;
        } else {
            drop(running);
        }
        while inbox.sender_count() > 0 {
            future::yield_now().await;
        }
        drop((dialed, stranger));
    }
}
