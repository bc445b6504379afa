//! The network between the machines: every packet of theirs comes by here, and is late, or lost, as the round has it. To TCP it
//! is a wire.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use formation_tests::Rng;
use tun_rs::{DeviceBuilder, SyncDevice};

/// More than any packet has.
const PACKET: usize = 2_048;
/// What waits beyond this is lost, as in a router.
const QUEUE: usize = 65_536;

/// A wire has two of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Path {
    pub(crate) cut: bool,
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
}

pub(crate) struct Router {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    news: Condvar,
    devices: Vec<SyncDevice>,
}

struct State {
    rng: Rng,
    /// From each machine to each.
    paths: Vec<Vec<Path>>,
    /// When the last packet of a path arrives: none overtakes another.
    last: Vec<Vec<Instant>>,
    queue: BinaryHeap<Reverse<Late>>,
    number: u64,
    /// The machines are gone.
    ended: bool,
}

/// A packet on its way. The derived order is that of arrivals.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Late {
    due: Instant,
    number: u64,
    to: usize,
    packet: Vec<u8>,
}

/// The name of a machine's interface.
pub(crate) fn interface(machine: usize) -> String {
    format!("wire{machine}")
}

/// The last byte of its address.
fn host(machine: usize) -> u8 {
    u8::try_from(machine + 1).expect("there are less than 255 machines")
}

/// Its address.
pub(crate) fn address(machine: usize) -> String {
    format!("10.99.0.{}", host(machine))
}

impl Router {
    /// For so many machines. The interfaces are here at first, and to be put where the machines are.
    pub(crate) fn start(machines: usize, rng: Rng) -> io::Result<Self> {
        let devices = (0..machines)
            .map(|machine| DeviceBuilder::new().name(interface(machine)).build_sync())
            .collect::<Result<_, _>>()?;
        let state = State {
            rng,
            paths: vec![vec![Path::default(); machines]; machines],
            last: vec![vec![Instant::now(); machines]; machines],
            queue: BinaryHeap::new(),
            number: 0,
            ended: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), news: Condvar::new(), devices });
        for machine in 0..machines {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.receive(machine));
        }
        let deliverer = Arc::clone(&shared);
        thread::spawn(move || deliverer.deliver());
        Ok(Self { shared })
    }

    /// Changes the paths; `change` is called for each, with its two ends.
    pub(crate) fn change(&self, mut change: impl FnMut(usize, usize, &mut Path)) {
        let mut state = self.shared.lock();
        for (from, paths) in state.paths.iter_mut().enumerate() {
            for (to, path) in paths.iter_mut().enumerate() {
                change(from, to, path);
            }
        }
    }
}

/// Its threads end with it, once the machines have taken the interfaces away.
impl Drop for Router {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.news.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(&self, from: usize) {
        let mut packet = [0; PACKET];
        loop {
            // An interface that is not up yet has nothing to say, and says so; and so does one that is gone.
            let Ok(length) = self.devices[from].recv(&mut packet) else {
                if self.lock().ended {
                    return;
                }
                thread::yield_now();
                continue;
            };
            // The rest of IPv4 is of no interest, and there is nothing but IPv4.
            let [first, .., last] = packet[..length.min(20)] else { continue };
            let to = usize::from(last).wrapping_sub(1);
            if length >= 20 && first >> 4 == 4 && to < self.devices.len() {
                self.lock().send(from, to, &packet[..length]);
                self.news.notify_one();
            }
        }
    }

    fn deliver(&self) {
        let mut state = self.lock();
        while !state.ended {
            let now = Instant::now();
            let wait = match state.queue.peek() {
                None => None,
                Some(Reverse(late)) if late.due > now => Some(late.due - now),
                Some(_) => {
                    if let Some(Reverse(Late { to, packet, .. })) = state.queue.pop() {
                        drop(state);
                        // A machine without room loses it.
                        let _ = self.devices[to].send(&packet);
                        state = self.lock();
                    }
                    continue;
                }
            };
            state = match wait {
                None => self.news.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(time) => self.news.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

impl State {
    fn send(&mut self, from: usize, to: usize, packet: &[u8]) {
        let Path { cut, delay, jitter } = self.paths[from][to];
        if cut || self.queue.len() >= QUEUE {
            return;
        }
        let arrives = Instant::now() + delay + self.rng.within((Duration::ZERO, jitter));
        let due = arrives.max(self.last[from][to]);
        self.last[from][to] = due;
        self.number += 1;
        self.queue.push(Reverse(Late { due, number: self.number, to, packet: packet.into() }));
    }
}
