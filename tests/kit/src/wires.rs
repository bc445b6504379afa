//! The network in memory: which hosts there are, who reaches whom, and how long bytes take. It needs no runtime but a clock and a timer.

mod pipe;
mod stream;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt, io,
    ops::RangeInclusive,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use formation_core::Address;

use self::pipe::Pipe;
pub use self::stream::TestStream;
use crate::sim::engine::Rng;

/// How long a dial waits until it tries again to reach a host that does not answer.
const DIALED_AGAIN: Duration = Duration::from_millis(50);
/// How many connections wait at a listener. Further ones are refused.
const BACKLOG: usize = 128;
/// The name of a host: the id of its node.
pub(crate) type Host = Arc<str>;
/// One run of the processes of a host.
#[derive(Clone, Debug)]
pub(crate) struct HostRun {
    pub(crate) host: Host,
    /// Its number among the runs of the host, from 1.
    pub(crate) number: u64,
}

/// A wait, in the runtime that polls it.
pub(crate) type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The time of a network, counted from its beginning.
#[derive(Clone)]
pub(crate) struct Time {
    pub(crate) now: Arc<dyn Fn() -> Duration + Send + Sync>,
    pub(crate) sleep: fn(Duration) -> Sleep,
}

/// A network. Clones are the same network.
#[derive(Clone)]
pub(crate) struct Wires(Arc<Inner>);

struct Inner {
    time: Time,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seed: u64,
    latency: Option<RangeInclusive<Duration>>,
    hosts: BTreeMap<Host, Machine>,
    /// The first host does not reach the second.
    cuts: BTreeSet<(Host, Host)>,
    listeners: BTreeMap<Address, Listening>,
    /// One for each direction of each connection. A pipe is removed when both of its ends are dropped.
    pipes: BTreeMap<u64, Pipe>,
    newest: u64,
    dials: u64,
    listens: u64,
}

/// A host of the network.
#[derive(Default)]
struct Machine {
    /// It answers nothing, not even that nobody listens.
    is_silent: bool,
    delay: Duration,
    /// The run whose processes live.
    run: Option<u64>,
}

struct Listening {
    /// A later listener at the same address has another number.
    number: u64,
    waiting: VecDeque<TestStream>,
    wakers: Vec<Waker>,
}

/// Those who accept learn that nothing comes any more. Like a stream, it is not dropped under the lock.
impl Drop for Listening {
    fn drop(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

/// What a dial finds.
enum Found {
    Nobody,
    Refused,
    Silence,
    Listener,
}

impl State {
    fn is_cut(&self, from: &Host, to: &Host) -> bool {
        self.cuts.contains(&(from.clone(), to.clone()))
    }

    /// How much longer bytes between two hosts take than the latency.
    fn delay(&self, one: &Host, other: &Host) -> Duration {
        delay(&self.hosts, one, other)
    }

    fn is_silent(&self, host: &Host) -> bool {
        self.hosts.get(host).is_some_and(|machine| machine.is_silent)
    }

    fn latency(&self) -> RangeInclusive<Duration> {
        self.latency.clone().unwrap_or(Duration::ZERO..=Duration::ZERO)
    }

    /// # Errors
    /// The run is over.
    fn lives(&self, run: &HostRun) -> io::Result<()> {
        let living = self.hosts.get(&run.host).and_then(|machine| machine.run);
        if living == Some(run.number) { Ok(()) } else { Err(io::ErrorKind::NotConnected.into()) }
    }

    /// The host listens nowhere any more. The result is dropped without the lock: to drop a stream takes it.
    fn stop_listening(&mut self, host: &Host) -> Vec<Listening> {
        let ended: Vec<_> = self.listeners.keys().filter(|address| address.host() == &**host).cloned().collect();
        ended.iter().filter_map(|address| self.listeners.remove(address)).collect()
    }

    fn find(&self, from: &Host, address: &Address) -> Found {
        let Some((to, machine)) = self.hosts.get_key_value(address.host()) else { return Found::Nobody };
        if machine.is_silent || self.is_cut(from, to) || self.is_cut(to, from) {
            return Found::Silence;
        }
        match self.listeners.get(address) {
            Some(listening) if listening.waiting.len() < BACKLOG => Found::Listener,
            Some(_) | None => Found::Refused,
        }
    }

    fn apply_delays(&mut self) {
        for pipe in self.pipes.values_mut() {
            pipe.delay = delay(&self.hosts, &pipe.from, &pipe.to);
        }
    }
}

fn delay(hosts: &BTreeMap<Host, Machine>, one: &Host, other: &Host) -> Duration {
    [one, other].into_iter().filter_map(|host| hosts.get(host)).map(|machine| machine.delay).sum()
}

impl Wires {
    pub(crate) fn new(seed: u64, time: Time) -> Self {
        Self(Arc::new(Inner { time, state: Mutex::new(State { seed, ..State::default() }) }))
    }

    pub(crate) fn now(&self) -> Duration {
        (self.0.time.now)()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn sleep(&self, time: Duration) {
        (self.0.time.sleep)(time).await;
    }

    pub(crate) fn set_latency(&self, latency: RangeInclusive<Duration>) {
        self.lock().latency = Some(latency);
    }

    /// A host on which nothing runs yet.
    pub(crate) fn add(&self, host: &Host) {
        self.lock().hosts.entry(host.clone()).or_default();
    }

    /// A run of the host begins. After a loss of power it knows nothing of the connections from before.
    pub(crate) fn boot(&self, HostRun { host, number }: &HostRun) {
        let mut state = self.lock();
        let machine = state.hosts.entry(host.clone()).or_default();
        machine.run = Some(*number);
        if std::mem::take(&mut machine.is_silent) {
            state.pipes.values_mut().filter(|pipe| pipe.joins(host)).for_each(Pipe::reset);
        }
    }

    /// All processes of the host have ended. Its system ends their connections, and bytes under way still arrive.
    pub(crate) fn end_processes(&self, host: &Host) {
        let now = self.now();
        let mut state = self.lock();
        state.hosts.entry(host.clone()).or_default().run = None;
        let listening = state.stop_listening(host);
        state.pipes.values_mut().filter(|pipe| pipe.joins(host)).for_each(|pipe| pipe.end_at(host, now));
        drop(state);
        drop(listening);
    }

    /// The host has no power: nothing comes from it any more, not even the ends of its connections.
    pub(crate) fn silence(&self, host: &Host) {
        let mut state = self.lock();
        let machine = state.hosts.entry(host.clone()).or_default();
        (machine.is_silent, machine.run) = (true, None);
        let listening = state.stop_listening(host);
        state.pipes.values_mut().filter(|pipe| pipe.joins(host)).for_each(|pipe| pipe.silence(host));
        drop(state);
        drop(listening);
    }

    /// All connections of the host break, and lose the bytes under way.
    pub(crate) fn break_connections(&self, host: &Host) {
        let mut state = self.lock();
        state.pipes.values_mut().filter(|pipe| pipe.joins(host)).for_each(Pipe::reset);
    }

    /// Nothing arrives in this direction until [`heal`](Self::heal).
    pub(crate) fn cut(&self, from: &Host, to: &Host) {
        self.lock().cuts.insert((from.clone(), to.clone()));
    }

    /// All bytes from and to the host take longer by this time.
    pub(crate) fn slow(&self, host: &Host, delay: Duration) {
        let mut state = self.lock();
        state.hosts.entry(host.clone()).or_default().delay = delay;
        state.apply_delays();
    }

    /// Ends all cuts and delays.
    pub(crate) fn heal(&self) {
        let mut state = self.lock();
        state.cuts.clear();
        state.hosts.values_mut().for_each(|machine| machine.delay = Duration::ZERO);
        state.apply_delays();
        state.pipes.values_mut().for_each(Pipe::wake);
    }

    /// Accepts connections to the address from now on.
    pub(crate) fn listen(&self, run: &HostRun, address: Address) -> io::Result<TestListener> {
        let mut state = self.lock();
        state.lives(run)?;
        if state.listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.listens += 1;
        let number = state.listens;
        let listening = Listening { number, waiting: VecDeque::new(), wakers: Vec::new() };
        state.listeners.insert(address.clone(), listening);
        drop(state);
        Ok(TestListener { wires: self.clone(), address, number })
    }

    /// Connects a host to a listener. It waits while there is no answer.
    pub(crate) async fn connect(&self, from: &HostRun, address: &Address) -> io::Result<TestStream> {
        loop {
            let (found, wait) = self.dial(from, address)?;
            match found {
                Found::Nobody => return Err(io::Error::new(io::ErrorKind::NotFound, "there is no such host")),
                Found::Silence => (self.0.time.sleep)(DIALED_AGAIN).await,
                Found::Refused => {
                    (self.0.time.sleep)(wait).await;
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                Found::Listener => {
                    (self.0.time.sleep)(wait).await;
                    if let Some(stream) = self.open(from, address)? {
                        return Ok(stream);
                    }
                }
            }
        }
    }

    /// What is at the address, and how long it takes to know that.
    fn dial(&self, from: &HostRun, address: &Address) -> io::Result<(Found, Duration)> {
        let mut state = self.lock();
        state.lives(from)?;
        let from = &from.host;
        state.dials += 1;
        let mut rng = Rng::numbered(state.seed, u64::MAX - state.dials);
        let to = Host::from(address.host());
        let wait = rng.in_range(&state.latency()) + rng.in_range(&state.latency()) + 2 * state.delay(from, &to);
        Ok((state.find(from, address), wait))
    }

    /// `None`: the listener is not reached any more.
    fn open(&self, from: &HostRun, address: &Address) -> io::Result<Option<TestStream>> {
        let mut state = self.lock();
        state.lives(from)?;
        let from = &from.host;
        match state.find(from, address) {
            Found::Listener => {}
            Found::Nobody | Found::Refused | Found::Silence => return Ok(None),
        }
        let to = Host::from(address.host());
        let (there, back) = (state.newest + 1, state.newest + 2);
        state.newest = back;
        for (pipe, from, to) in [(there, from, &to), (back, &to, from)] {
            let (rng, latency, delay) = (Rng::numbered(state.seed, pipe), state.latency(), state.delay(from, to));
            state.pipes.insert(pipe, Pipe::new(from.clone(), to.clone(), rng, latency, delay));
        }
        if let Some(listening) = state.listeners.get_mut(address) {
            listening.waiting.push_back(TestStream::new(self.clone(), there, back, from.clone()));
            let wakers = std::mem::take(&mut listening.wakers);
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
        }
        Ok(Some(TestStream::new(self.clone(), back, there, to)))
    }
}

impl fmt::Debug for Wires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wires").field("now", &self.now()).finish_non_exhaustive()
    }
}

/// Takes the connections to one address. Dropping it ends that.
#[derive(Debug)]
pub struct TestListener {
    wires: Wires,
    address: Address,
    number: u64,
}

impl TestListener {
    /// The address at which others connect.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for the next connection. Cancel safe: no connection is lost. Several tasks may wait.
    ///
    /// # Errors
    /// The process of the listener has ended.
    pub async fn accept(&self) -> io::Result<TestStream> {
        std::future::poll_fn(|cx| {
            let mut state = self.wires.lock();
            let listening = state.listeners.get_mut(&self.address);
            let Some(listening) = listening.filter(|listening| listening.number == self.number) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            match listening.waiting.pop_front() {
                Some(stream) => Poll::Ready(Ok(stream)),
                None => {
                    if !listening.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                        listening.wakers.push(cx.waker().clone());
                    }
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Drop for TestListener {
    fn drop(&mut self) {
        let mut state = self.wires.lock();
        let is_own = state.listeners.get(&self.address).is_some_and(|listening| listening.number == self.number);
        let listening = if is_own { state.listeners.remove(&self.address) } else { None };
        drop(state);
        // Not earlier: to drop a stream takes the lock.
        drop(listening);
    }
}
