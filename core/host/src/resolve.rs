//! Resolving names on threads of their own.
//!
//! The resolver of the system blocks its thread, for as long as its name servers are silent. A lookup that was given up still
//! runs. So lookups run neither on the threads that store votes nor on threads for which the end of a runtime waits, and an
//! address that is dialed again joins the lookup that is under way. A lookup that takes long makes room for the next one. Peers can
//! name any address, so seeds and contacts have threads of their own.

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

/// How many lookups run at a time that have not taken long yet.
const FAST_LOOKUPS: usize = 8;
/// How many lookups have to take long until none begins any more whose name is known to be slow.
const SLOW_LOOKUPS: usize = 4;
/// How many threads there are in all, while many lookups take long.
const THREADS: usize = 24;
/// How long a lookup takes that counts as slow.
const SLOW: Duration = Duration::from_secs(1);
/// How many slow names are remembered. All of them are forgotten after that.
const SLOW_NAMES: usize = 4096;
/// How long a thread waits for another lookup before it ends.
const IDLE: Duration = Duration::from_secs(1);

type Found = io::Result<Vec<SocketAddr>>;
type Lookup = dyn Fn(&str) -> Found + Send + Sync;

/// The IP addresses and the port of an address. A name is resolved by the system, on one of a few threads that all nodes of the
/// process share.
///
/// Cancel safe: nothing waits for a lookup whose future was dropped.
///
/// # Errors
/// The name does not resolve at this moment.
pub async fn resolve(address: &Address) -> io::Result<Vec<SocketAddr>> {
    if let Ok(literal) = address.as_str().parse() {
        return Ok(vec![literal]);
    }
    let found = Resolvers::of_the_process().of(address).resolve(address.as_str()).await;
    found.map_err(|error| io::Error::new(error.kind(), Unresolved(error)))
}

/// While it lives, the address counts as a seed or a contact.
#[derive(Debug)]
pub(crate) struct Configured<'a>(Address, &'a Names);

/// How many dials of seeds and contacts lead to each address at the moment.
type Names = Mutex<BTreeMap<Address, usize>>;

/// Makes it known that an address is dialed which is a seed or a contact. No claim of a peer delays its lookup.
pub(crate) fn configured(address: &Address) -> Configured<'static> {
    Resolvers::of_the_process().configured(address)
}

impl Drop for Configured<'_> {
    fn drop(&mut self) {
        let mut names = lock(self.1);
        if let Some(count) = names.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                names.remove(&self.0);
            }
        }
    }
}

/// Nothing panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The resolver of seeds and contacts, and the one of other addresses, which peers have named.
struct Resolvers {
    configured: Names,
    first: Resolver,
    others: Resolver,
}

impl Resolvers {
    fn of_the_process() -> &'static Self {
        static SYSTEM: OnceLock<Resolvers> = OnceLock::new();
        SYSTEM.get_or_init(|| Self::new(|name| name.to_socket_addrs().map(Iterator::collect)))
    }

    fn new(lookup: impl Fn(&str) -> Found + Clone + Send + Sync + 'static) -> Self {
        let (first, others) = (Resolver::new(lookup.clone(), SLOW), Resolver::new(lookup, SLOW));
        Self { configured: Names::default(), first, others }
    }

    fn configured(&self, address: &Address) -> Configured<'_> {
        *lock(&self.configured).entry(address.clone()).or_default() += 1;
        Configured(address.clone(), &self.configured)
    }

    fn of(&self, address: &Address) -> &Resolver {
        if lock(&self.configured).contains_key(address) { &self.first } else { &self.others }
    }
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

struct State {
    /// How long a lookup takes that counts as slow.
    slow_after: Duration,
    /// The names that are being looked up or wait for it, with the dials that wait for them.
    lookups: BTreeMap<Arc<str>, Vec<Sender<Found>>>,
    /// The names that no thread has begun with.
    queue: VecDeque<Arc<str>>,
    /// The lookups that have not taken long yet, and when they have begun.
    fast: BTreeMap<Arc<str>, Instant>,
    /// The lookups that take long, or whose name is known for it.
    slow: BTreeMap<Arc<str>, Instant>,
    /// The names whose last lookup took long.
    slow_names: BTreeSet<Arc<str>>,
    threads: usize,
    idle: usize,
}

impl State {
    fn new(slow_after: Duration) -> Self {
        Self {
            slow_after,
            lookups: BTreeMap::new(),
            queue: VecDeque::new(),
            fast: BTreeMap::new(),
            slow: BTreeMap::new(),
            slow_names: BTreeSet::new(),
            threads: 0,
            idle: 0,
        }
    }

    /// The next name that a thread may begin with.
    fn next(&mut self, now: Instant) -> Option<Arc<str>> {
        self.note_slow(now);
        self.forget_given_up();
        let Self { queue, fast, slow, slow_names, .. } = self;
        let may_begin = |name: &Arc<str>| match slow_names.contains(name) {
            true => slow.len() < SLOW_LOOKUPS,
            false => fast.len() < FAST_LOOKUPS,
        };
        let name = queue.iter().position(may_begin).and_then(|at| queue.remove(at))?;
        let running = if slow_names.contains(&name) { slow } else { fast };
        running.insert(name.clone(), now);
        Some(name)
    }

    /// A lookup counts as slow as soon as it takes long. It may never end.
    fn note_slow(&mut self, now: Instant) {
        let Self { slow_after, fast, slow, slow_names, .. } = self;
        fast.retain(|name, begun| {
            let is_fast = now.duration_since(*begun) < *slow_after;
            if !is_fast {
                remember(slow_names, name);
                slow.insert(name.clone(), *begun);
            }
            is_fast
        });
    }

    /// How long a thread waits for a name to begin with: until the next lookup counts as slow, if names wait for that.
    fn patience(&self, now: Instant) -> Duration {
        let left = |begun: &Instant| self.slow_after.saturating_sub(now.duration_since(*begun));
        let next = self.fast.values().map(left).min();
        next.filter(|_| !self.queue.is_empty()).map_or(IDLE, |next| next.min(IDLE))
    }

    /// Drops the names in the queue for which nobody waits any more.
    fn forget_given_up(&mut self) {
        let Self { queue, lookups, .. } = self;
        queue.retain(|name| {
            let is_awaited = lookups.get(name).is_some_and(|waiting| waiting.iter().any(|dial| !dial.is_closed()));
            if !is_awaited {
                lookups.remove(name);
            }
            is_awaited
        });
    }

    fn finished(&mut self, name: &Arc<str>, now: Instant) -> Vec<Sender<Found>> {
        let begun = self.fast.remove(name).or_else(|| self.slow.remove(name));
        if begun.is_some_and(|begun| now.duration_since(begun) >= self.slow_after) {
            remember(&mut self.slow_names, name);
        } else {
            self.slow_names.remove(name);
        }
        self.lookups.remove(name).unwrap_or_default()
    }
}

fn remember(slow_names: &mut BTreeSet<Arc<str>>, name: &Arc<str>) {
    if slow_names.len() >= SLOW_NAMES {
        slow_names.clear();
    }
    slow_names.insert(name.clone());
}

impl Resolver {
    fn new(lookup: impl Fn(&str) -> Found + Send + Sync + 'static, slow_after: Duration) -> Self {
        let state = Mutex::new(State::new(slow_after));
        Self { shared: Arc::new(Shared { lookup: Box::new(lookup), state, queued: Condvar::new() }) }
    }

    async fn resolve(&self, name: &str) -> Found {
        let (dial, found) = channel::bounded(1);
        self.request(name, dial);
        // The sender is dropped if no thread can be started.
        found.recv().await.unwrap_or_else(|_| Err(io::Error::other("no thread can be started to resolve the name")))
    }

    /// Joins the lookup of this name, or queues one.
    fn request(&self, name: &str, dial: Sender<Found>) {
        let mut state = lock(&self.shared.state);
        if let Some(waiting) = state.lookups.get_mut(name) {
            waiting.retain(|other| !other.is_closed());
            waiting.push(dial);
            return;
        }
        // While every thread hangs, no thread does it.
        state.forget_given_up();
        let name: Arc<str> = name.into();
        state.lookups.insert(name.clone(), vec![dial]);
        state.queue.push_back(name);
        self.attend(state);
    }

    /// Sees to it that a thread waits for the names in the queue, if there may be another one.
    fn attend(&self, mut state: MutexGuard<'_, State>) {
        if state.queue.is_empty() {
            return;
        }
        if state.idle > 0 || state.threads == THREADS {
            drop(state);
            return self.shared.queued.notify_one();
        }
        state.threads += 1;
        drop(state);
        let resolver = self.clone();
        if thread::Builder::new().name("formation-names".into()).spawn(move || resolver.run()).is_err() {
            let mut state = lock(&self.shared.state);
            state.threads -= 1;
            if state.threads == 0 {
                state.queue.clear();
                state.lookups.clear();
            }
        }
    }

    /// One thread: looks up one name after the other, and ends when there has been none for a while.
    fn run(&self) {
        let mut state = lock(&self.shared.state);
        loop {
            if let Some(name) = state.next(Instant::now()) {
                // This thread may never come back.
                self.attend(state);
                let found = catch_unwind(AssertUnwindSafe(|| (self.shared.lookup)(&name)))
                    .unwrap_or_else(|_| Err(io::Error::other("the resolver panicked")));
                let waiting = lock(&self.shared.state).finished(&name, Instant::now());
                answer(&waiting, &found);
                state = lock(&self.shared.state);
                continue;
            }
            state.idle += 1;
            let patience = state.patience(Instant::now());
            let woken = self.shared.queued.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
            let timed_out = woken.1.timed_out();
            state = woken.0;
            state.idle -= 1;
            if timed_out && state.queue.is_empty() {
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
        let (lookup, begins) = lookup();
        (Resolver::new(lookup, SLOW), begins)
    }

    fn lookup() -> (impl Fn(&str) -> Found + Clone + Send + Sync + 'static, Receiver<String>) {
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
        (lookup, begins)
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
        let state = lock(&resolver.shared.state);
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
        let lookup = move |_: &str| {
            wait.lock().unwrap().recv().unwrap();
            Ok(vec![HERE])
        };
        let resolver = Resolver::new(lookup, SLOW);
        block_on(async {
            let (mut first, mut second) = (pin!(resolver.resolve("a:1")), pin!(resolver.resolve("a:1")));
            assert!(poll_once(&mut first).await.is_none() && poll_once(&mut second).await.is_none());
            go.send(()).unwrap();
            assert_eq!((first.await.unwrap(), second.await.unwrap()), (vec![HERE], vec![HERE]));
        });
    }

    fn queue(state: &mut State, name: &str, dial: &Sender<Found>) -> Arc<str> {
        let name: Arc<str> = name.into();
        state.lookups.insert(name.clone(), vec![dial.clone()]);
        state.queue.push_back(name.clone());
        name
    }

    #[test]
    fn silent_names_take_a_few_threads_and_abandoned_ones_none() {
        let (lookup, begins) = lookup();
        let resolver = Resolver::new(lookup, Duration::from_millis(1));
        let (dial, found) = channel::bounded(100);
        for number in 0..100 {
            resolver.request(&format!("silent-{number}:1"), dial.clone());
        }
        (0..THREADS).for_each(|_| assert!(begins.recv().unwrap().starts_with("silent-")));
        assert_eq!(lock(&resolver.shared.state).threads, THREADS);
        drop(found);
        // The next thread that is free begins with a dial that still waits.
        let mut state = lock(&resolver.shared.state);
        let (dial, _found) = channel::bounded(1);
        let wanted = queue(&mut state, "wanted:1", &dial);
        let later = Instant::now() + SLOW;
        assert_eq!(state.next(later), Some(wanted));
        assert_eq!((state.queue.len(), state.lookups.len()), (0, THREADS + 1));
    }

    /// Their first lookups: nobody knows yet that they are slow.
    #[test]
    fn silent_names_do_not_hold_up_a_name_that_resolves() {
        let (lookup, _begins) = lookup();
        let resolver = Resolver::new(lookup, Duration::from_millis(1));
        let (dial, _found) = channel::bounded(100);
        for number in 0..=FAST_LOOKUPS {
            resolver.request(&format!("silent-{number}:1"), dial.clone());
        }
        assert_eq!(block_on(resolver.resolve("seed:1")).unwrap(), [HERE]);
    }

    /// Peers can claim as many as they like.
    #[test]
    fn claimed_names_do_not_hold_up_a_seed() {
        let (lookup, _begins) = lookup();
        let resolvers = Resolvers::new(lookup);
        let address = |name: &str| Address::new(name).unwrap();
        let (dial, _found) = channel::bounded(100);
        for number in 0..100 {
            let claimed = address(&format!("silent-{number}:1"));
            resolvers.of(&claimed).request(claimed.as_str(), dial.clone());
        }
        let seed = address("seed:1");
        let configured = [resolvers.configured(&seed), resolvers.configured(&seed)];
        assert_eq!(block_on(resolvers.of(&seed).resolve(seed.as_str())).unwrap(), [HERE]);
        let is_first = || std::ptr::eq(resolvers.of(&seed), &resolvers.first);
        let [one, two] = configured;
        drop(one);
        assert!(is_first());
        drop(two);
        assert!(!is_first());
        assert!(lock(&resolvers.configured).is_empty());
    }

    #[test]
    fn a_running_lookup_counts_as_slow_at_once() {
        let mut state = State::new(SLOW);
        let (dial, _found) = channel::bounded(1);
        let begun = Instant::now();
        let names: Vec<_> = (0..FAST_LOOKUPS).map(|number| queue(&mut state, &format!("{number}:1"), &dial)).collect();
        for name in &names {
            assert_eq!(state.next(begun), Some(name.clone()));
        }
        let waiting = queue(&mut state, "waiting:1", &dial);
        assert_eq!((state.next(begun), state.patience(begun)), (None, SLOW));
        let slow = begun + SLOW;
        assert_eq!((state.patience(slow), state.next(slow)), (Duration::ZERO, Some(waiting.clone())));
        state.finished(&waiting, slow);
        // They are known as slow from now on, whether they end or not.
        state.finished(&names[0], slow);
        queue(&mut state, &names[0], &dial);
        assert_eq!(state.next(slow), None, "others that are slow still run");
        assert_eq!(state.patience(slow), IDLE);
    }

    #[test]
    fn slow_names_leave_threads_for_the_others() {
        let mut state = State::new(SLOW);
        let (dial, _found) = channel::bounded(1);
        let begun = Instant::now();
        let slow = begun + SLOW;
        let names: Vec<Arc<str>> = (0..=SLOW_LOOKUPS).map(|number| format!("slow-{number}:1").into()).collect();
        for name in &names {
            queue(&mut state, name, &dial);
            assert_eq!(state.next(begun), Some(name.clone()));
            state.finished(name, slow);
        }
        for name in &names {
            queue(&mut state, name, &dial);
        }
        let fast = queue(&mut state, "fast:1", &dial);
        for name in &names[..SLOW_LOOKUPS] {
            assert_eq!(state.next(slow), Some(name.clone()));
        }
        assert_eq!(state.next(slow), Some(fast));
        assert_eq!(state.next(slow), None);
        state.finished(&names[0], slow);
        assert_eq!(state.next(slow), Some(names[SLOW_LOOKUPS].clone()));
        assert!(!state.slow_names.contains(&names[0]), "it has answered in time");
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
