//! Resolving names on threads of their own.
//!
//! The resolver of the system blocks its thread, for as long as its name servers are silent. A lookup that was given up still
//! runs. So lookups run neither on the threads that store votes nor on threads for which the end of a runtime waits, and an
//! address that is dialed again joins the lookup that is under way.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    error::Error,
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use async_channel::{self as channel, Sender};
use formation_core::{Address, DialProblem};

/// How many lookups run at a time.
const THREADS: usize = 8;
/// How many of them may be of names whose last lookup took long. The others are for names that have not shown this yet.
const SLOW_THREADS: usize = THREADS / 2;
/// How long a lookup takes whose name counts as slow.
const SLOW: Duration = Duration::from_secs(1);
/// How many slow names are remembered. All of them are forgotten after that.
const SLOW_NAMES: usize = 4096;
/// How long a thread waits for another lookup before it ends.
const IDLE: Duration = Duration::from_secs(1);

type Found = io::Result<Vec<SocketAddr>>;
type Lookup = dyn Fn(&str) -> Found + Send + Sync;

/// The IP addresses and the port of an address. A name is resolved by the system, on one of a few threads that all nodes of the
/// process share. Nothing waits for a lookup whose future was dropped.
///
/// # Errors
/// The name does not resolve at this moment.
pub async fn resolve(address: &Address) -> io::Result<Vec<SocketAddr>> {
    static SYSTEM: OnceLock<Resolver> = OnceLock::new();
    if let Ok(literal) = address.as_str().parse() {
        return Ok(vec![literal]);
    }
    let lookup = |name: &str| name.to_socket_addrs().map(Iterator::collect);
    let found = SYSTEM.get_or_init(|| Resolver::new(lookup)).resolve(address.as_str()).await;
    found.map_err(|error| io::Error::new(error.kind(), Unresolved(error)))
}

/// A name does not resolve. The kind of the system's error does not show that.
#[derive(Debug)]
struct Unresolved(io::Error);

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name does not resolve: {}", self.0)
    }
}

impl Error for Unresolved {}

/// What the core has to know of the error of a dial.
pub(crate) fn dial_problem(error: &io::Error) -> DialProblem {
    match error.kind() {
        _ if error.get_ref().is_some_and(|inner| inner.is::<Unresolved>()) => DialProblem::Unresolved,
        io::ErrorKind::NotFound => DialProblem::Unresolved,
        io::ErrorKind::ConnectionRefused => DialProblem::Refused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => DialProblem::Unreachable,
        io::ErrorKind::TimedOut => DialProblem::TimedOut,
        _ => DialProblem::Other,
    }
}

#[derive(Clone)]
struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    lookup: Box<Lookup>,
    state: Mutex<State>,
    /// There is a name in the queue.
    queued: Condvar,
}

#[derive(Default)]
struct State {
    /// The names that are being looked up or wait for it, with the dials that wait for them.
    lookups: BTreeMap<Arc<str>, Vec<Sender<Found>>>,
    /// The names that no thread has begun with.
    queue: VecDeque<Arc<str>>,
    /// The names whose last lookup took long.
    slow: BTreeSet<Arc<str>>,
    threads: usize,
    idle: usize,
    running_slow: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next name that a thread may begin with. Names for which nobody waits any more are dropped.
    fn next(&mut self) -> Option<(Arc<str>, bool)> {
        let Self { lookups, queue, slow, running_slow, .. } = self;
        queue.retain(|name| {
            let is_wanted = lookups.get(name).is_some_and(|waiting| waiting.iter().any(|dial| !dial.is_closed()));
            if !is_wanted {
                lookups.remove(name);
            }
            is_wanted
        });
        let may_begin = |name: &Arc<str>| !slow.contains(name) || *running_slow < SLOW_THREADS;
        let name = queue.iter().position(may_begin).and_then(|at| queue.remove(at))?;
        let is_slow = slow.contains(&name);
        *running_slow += usize::from(is_slow);
        Some((name, is_slow))
    }

    fn finished(&mut self, name: &Arc<str>, was_slow: bool, took: Duration) -> Vec<Sender<Found>> {
        self.running_slow -= usize::from(was_slow);
        if took < SLOW {
            self.slow.remove(name);
        } else {
            if self.slow.len() >= SLOW_NAMES {
                self.slow.clear();
            }
            self.slow.insert(name.clone());
        }
        self.lookups.remove(name).unwrap_or_default()
    }
}

impl Resolver {
    fn new(lookup: impl Fn(&str) -> Found + Send + Sync + 'static) -> Self {
        let shared = Shared { lookup: Box::new(lookup), state: Mutex::default(), queued: Condvar::new() };
        Self { shared: Arc::new(shared) }
    }

    async fn resolve(&self, name: &str) -> Found {
        let (dial, found) = channel::bounded(1);
        self.request(name, dial);
        // The sender is dropped if no thread can be started.
        found.recv().await.unwrap_or_else(|_| Err(io::Error::other("no thread can be started to resolve the name")))
    }

    /// Joins the lookup of this name, or queues one.
    fn request(&self, name: &str, dial: Sender<Found>) {
        let mut state = self.shared.lock();
        if let Some(waiting) = state.lookups.get_mut(name) {
            waiting.retain(|other| !other.is_closed());
            waiting.push(dial);
            return;
        }
        let name: Arc<str> = name.into();
        state.lookups.insert(name.clone(), vec![dial]);
        state.queue.push_back(name);
        // An idle thread that was notified before may still count as idle.
        if state.idle >= state.queue.len() || state.threads == THREADS {
            drop(state);
            return self.shared.queued.notify_one();
        }
        state.threads += 1;
        drop(state);
        let resolver = self.clone();
        if thread::Builder::new().name("formation-names".into()).spawn(move || resolver.run()).is_err() {
            let mut state = self.shared.lock();
            state.threads -= 1;
            if state.threads == 0 {
                state.queue.clear();
                state.lookups.clear();
            }
        }
    }

    /// One thread: looks up one name after the other, and ends when there has been none for a while.
    fn run(&self) {
        let mut state = self.shared.lock();
        loop {
            if let Some((name, was_slow)) = state.next() {
                drop(state);
                let started = Instant::now();
                let found = catch_unwind(AssertUnwindSafe(|| (self.shared.lookup)(&name)))
                    .unwrap_or_else(|_| Err(io::Error::other("the resolver panicked")));
                let took = started.elapsed();
                let waiting = self.shared.lock().finished(&name, was_slow, took);
                answer(&waiting, &found);
                state = self.shared.lock();
                continue;
            }
            state.idle += 1;
            let (woken, timeout) = self.shared.queued.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

/// Answers every dial that waits for a name. Errors cannot be cloned.
fn answer(waiting: &[Sender<Found>], found: &Found) {
    for dial in waiting {
        let found = match found {
            Ok(found) => Ok(found.clone()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        // It fails if the dial was given up.
        let _ = dial.try_send(found);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        pin::pin,
        sync::mpsc::{self, Receiver, SyncSender},
    };

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

    /// A resolver whose lookups of names with `silent` never end. It reports each lookup that begins.
    fn resolver() -> (Resolver, Receiver<String>) {
        let (begun, begins): (SyncSender<String>, _) = mpsc::sync_channel(100);
        let lookup = move |name: &str| {
            begun.send(name.to_owned()).unwrap();
            if name.contains("silent") {
                loop {
                    thread::park();
                }
            }
            if name.contains("panics") {
                panic!("a bug");
            }
            if name.contains("unknown") { Err(io::ErrorKind::NotFound.into()) } else { Ok(vec![HERE]) }
        };
        (Resolver::new(lookup), begins)
    }

    #[test]
    fn a_name_has_one_lookup_under_way_however_often_it_is_dialed() {
        let (resolver, begins) = resolver();
        let (dial, found) = channel::bounded(1);
        resolver.request("silent:1", dial);
        assert_eq!(begins.recv().unwrap(), "silent:1");
        drop(found);
        for _ in 0..100 {
            assert!(block_on(poll_once(pin!(resolver.resolve("silent:1")))).is_none());
        }
        assert_eq!(block_on(resolver.resolve("a:1")).unwrap(), [HERE]);
        assert_eq!(begins.recv().unwrap(), "a:1");
        let state = resolver.shared.lock();
        assert!(
            state.lookups.len() == 1 && state.lookups["silent:1"].len() <= 1,
            "dials that were given up are forgotten"
        );
        drop(state);
        assert!(begins.try_recv().is_err());
    }

    #[test]
    fn a_dial_joins_the_lookup_that_is_under_way() {
        let (go, wait) = mpsc::sync_channel::<()>(0);
        let wait = Mutex::new(wait);
        let resolver = Resolver::new(move |_| {
            wait.lock().unwrap().recv().unwrap();
            Ok(vec![HERE])
        });
        block_on(async {
            let (mut first, mut second) = (pin!(resolver.resolve("a:1")), pin!(resolver.resolve("a:1")));
            assert!(poll_once(&mut first).await.is_none() && poll_once(&mut second).await.is_none());
            go.send(()).unwrap();
            assert_eq!((first.await.unwrap(), second.await.unwrap()), (vec![HERE], vec![HERE]));
        });
    }

    #[test]
    fn silent_names_take_a_few_threads_and_abandoned_ones_none() {
        let (resolver, begins) = resolver();
        let (dial, found) = channel::bounded(100);
        for number in 0..100 {
            resolver.request(&format!("silent-{number}:1"), dial.clone());
        }
        (0..THREADS).for_each(|_| assert!(begins.recv().unwrap().starts_with("silent-")));
        assert_eq!(resolver.shared.lock().threads, THREADS);
        drop(found);
        // The next thread that is free begins with a dial that still waits.
        let mut state = resolver.shared.lock();
        let (dial, _found) = channel::bounded(1);
        state.lookups.insert("wanted:1".into(), vec![dial]);
        state.queue.push_back("wanted:1".into());
        assert_eq!(state.next(), Some(("wanted:1".into(), false)));
        assert_eq!((state.queue.len(), state.lookups.len()), (0, THREADS + 1));
    }

    #[test]
    fn slow_names_leave_threads_for_the_others() {
        let mut state = State::default();
        let (dial, _found) = channel::bounded(1);
        let names: Vec<Arc<str>> = (0..=SLOW_THREADS).map(|number| format!("slow-{number}:1").into()).collect();
        for name in &names {
            state.finished(name, false, SLOW);
            state.lookups.insert(name.clone(), vec![dial.clone()]);
            state.queue.push_back(name.clone());
        }
        state.lookups.insert("fast:1".into(), vec![dial]);
        state.queue.push_back("fast:1".into());
        for name in &names[..SLOW_THREADS] {
            assert_eq!(state.next(), Some((name.clone(), true)));
        }
        assert_eq!(state.next(), Some(("fast:1".into(), false)));
        assert_eq!(state.next(), None);
        state.finished(&names[0], true, Duration::ZERO);
        assert_eq!(state.next(), Some((names[SLOW_THREADS].clone(), true)));
        assert!(!state.slow.contains(&names[0]), "it has answered in time");
    }

    #[test]
    fn a_name_that_does_not_resolve_is_an_error_for_each_dial() {
        let (resolver, _begins) = resolver();
        assert_eq!(block_on(resolver.resolve("unknown:1")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(block_on(resolver.resolve("panics:1")).unwrap_err().to_string().contains("panicked"));
        assert_eq!(block_on(resolver.resolve("a:1")).unwrap(), [HERE]);
    }

    #[test]
    fn threads_without_work_end() {
        let (resolver, _begins) = resolver();
        block_on(resolver.resolve("a:1")).unwrap();
        let weak = Arc::downgrade(&resolver.shared);
        drop(resolver);
        while weak.strong_count() > 0 {
            thread::yield_now();
        }
    }

    #[test]
    fn an_ip_address_needs_no_lookup() {
        let address = Address::new("127.0.0.1:1").unwrap();
        assert_eq!(block_on(poll_once(resolve(&address))).unwrap().unwrap(), [HERE]);
    }
}
