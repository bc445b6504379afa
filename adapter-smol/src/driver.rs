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
    channel::{self, Receiver, Sender},
    future,
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
    Accepted(Opening<S>),
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

enum Next<S> {
    Due,
    Request(Request),
    Signal(Signal<S>),
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
    shared: Arc<Shared>,
    events: broadcast::Sender<Event>,
    stopped: bool,
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
            shared,
            events,
            stopped: false,
        }
    }

    /// Runs until the node has stopped, or the task is cancelled; with it end all the tasks that it has spawned.
    pub(crate) async fn run(mut self) {
        let accepting = smol::spawn(accept(self.transport.clone(), self.to_self.clone(), self.node.clone()));
        self.settle();
        while !self.stopped {
            match self.next().await {
                Next::Due => self.tell(Input::Tick),
                Next::Request(Request { command, reply }) => {
                    // Whoever asked may have stopped waiting.
                    let _ = reply.try_send(self.feed(Input::Command(command)));
                }
                Next::Signal(signal) => self.signal(signal),
            }
        }
        accepting.cancel().await;
        self.dials.clear();
        for closing in self.closing.drain(..) {
            closing.await;
        }
        self.signals.close();
        // Whoever waits for the end may start the node again at once.
        if let Some(storage) = self.storage.take() {
            storage.finish().await;
        }
    }

    async fn next(&mut self) -> Next<T::Stream> {
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
        let take = |cx: &mut Context<'_>| {
            self.turns.take(|source| match source {
                Source::Timers => due.as_mut().poll(cx),
                Source::Requests => request.as_mut().poll(cx),
                Source::Signals => signal.as_mut().poll(cx),
            })
        };
        future::poll_fn(take).await
    }

    fn signal(&mut self, signal: Signal<T::Stream>) {
        match signal {
            Signal::Accepted(opening) => self.open(opening, Origin::Accepted),
            Signal::Dialed(dial, result) => {
                self.dials.remove(&dial);
                match result {
                    Ok(opening) => self.open(opening, Origin::Dialed(dial)),
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
            Signal::Closed(conn, error) if self.conns.remove(&conn).is_some() => {
                let distrust = error.as_ref().and_then(|error| self.transport.distrust(error));
                let error = error.map(tracing::field::display);
                tracing::debug!(node = %self.node, conn = conn.0, error, "the connection has ended");
                self.tell(match distrust {
                    Some(distrust) => Input::Distrusted { conn, distrust },
                    None => Input::Closed { conn },
                });
            }
            Signal::Received(..) | Signal::Flushed(_) | Signal::Closed(..) => {}
        }
    }

    fn open(&mut self, opening: Opening<T::Stream>, origin: Origin) {
        self.opened += 1;
        let conn = ConnId(self.opened);
        tracing::debug!(node = %self.node, conn = conn.0, ?origin, peer = opening.peer(), "a connection is open");
        self.conns.insert(conn, Connection::open(conn, opening, &self.to_self));
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
        self.shared.publish(&self.formation, self.clock.now());
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
            Output::Send { conn, bytes } => {
                if let Some(conn) = self.conns.get(&conn) {
                    conn.send(bytes);
                }
            }
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
        let conn = match event {
            Event::Linked { conn, .. } | Event::ConnClosed { conn, .. } => Some(conn.0),
            _ => None,
        };
        tracing::info!(node = %self.node, conn, term = self.formation.status().term.0, ?event);
    }
}

impl<T: Transport> Drop for Driver<T> {
    /// However the driver ends, nobody waits for it in vain.
    fn drop(&mut self) {
        self.shared.stop();
    }
}

async fn due<S>(deadline: Option<Timestamp>, now: Timestamp) -> Next<S> {
    match deadline {
        Some(deadline) => Timer::after(deadline.since(now)).await,
        None => future::pending().await,
    };
    Next::Due
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use formation_core::{Config, Incarnation, Start};

    use super::*;
    use crate::Tcp;

    /// Its clock counts from the boot, and its timers from the zero of that clock.
    fn late() -> (Driver<Tcp>, Sender<Request>) {
        let config = Config::single("late", "a", "a:1").local().build().unwrap();
        let formation = Formation::new(config, Start::new(Incarnation(1), 1), Timestamp::ZERO);
        let (requests, incoming) = channel::bounded(16);
        let (events, _) = broadcast::broadcast(1);
        let shared = Arc::new(Shared::new(&formation, Timestamp::ZERO));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let transport = Tcp::new(listener.try_into().unwrap());
        (Driver::new(formation, transport, Clock::start(), None, incoming, shared, events), requests)
    }

    #[test]
    fn a_node_that_is_late_for_every_deadline_still_hears_its_host_and_its_peers() {
        let (mut driver, requests) = late();
        let (reply, _answer) = channel::bounded(1);
        requests.try_send(Request { command: Command::Leave, reply }).unwrap();
        driver.to_self.try_send(Signal::Closed(ConnId(1), None)).unwrap();
        let mut took: Vec<Next<_>> = (0..3).map(|_| smol::block_on(driver.next())).collect();
        took.sort_by_key(|next| match next {
            Next::Due => 0,
            Next::Request(_) => 1,
            Next::Signal(_) => 2,
        });
        assert!(matches!(took[..], [Next::Due, Next::Request(_), Next::Signal(_)]), "each waits, and has its turn");
    }
}
