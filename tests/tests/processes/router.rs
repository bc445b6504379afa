//! The network between the machines: every packet passes through here, and is delayed or lost as the round demands. For
//! TCP, it looks like a wire.

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

/// A size that no packet exceeds.
const PACKET: usize = 2_048;
/// The maximum number of waiting packets. More packets are lost, as in a router.
const QUEUE: usize = 65_536;

/// One direction of a connection between two machines.
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
    changed: Condvar,
    devices: Vec<SyncDevice>,
}

struct State {
    rng: Rng,
    /// The path from each machine to each other machine.
    paths: Vec<Vec<Path>>,
    /// The arrival time of the last packet on each path, which keeps packets in order.
    last: Vec<Vec<Instant>>,
    queue: BinaryHeap<Reverse<DelayedPacket>>,
    number: u64,
    /// The machines have been removed.
    ended: bool,
}

/// A packet on its way. The derived order is the order of arrival.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct DelayedPacket {
    due: Instant,
    number: u64,
    to: usize,
    packet: Vec<u8>,
}

/// The name of the interface of a machine.
pub(crate) fn interface(machine: usize) -> String {
    format!("wire{machine}")
}

/// The last byte of the address of a machine.
fn host_number(machine: usize) -> u8 {
    u8::try_from(machine + 1).expect("there are less than 255 machines")
}

/// The address of a machine.
pub(crate) fn address(machine: usize) -> String {
    format!("10.99.0.{}", host_number(machine))
}

impl Router {
    /// Starts a router for this many machines. Each machine then has to move its interface into its own namespace.
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
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), devices });
        for machine in 0..machines {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.receive(machine));
        }
        let deliverer = Arc::clone(&shared);
        thread::spawn(move || deliverer.deliver());
        Ok(Self { shared })
    }

    /// Calls `change` for each path, with its two ends.
    pub(crate) fn change(&self, mut change: impl FnMut(usize, usize, &mut Path)) {
        let mut state = self.shared.lock();
        for (from, paths) in state.paths.iter_mut().enumerate() {
            for (to, path) in paths.iter_mut().enumerate() {
                change(from, to, path);
            }
        }
    }
}

/// The threads of the router end with it, once the machines have removed the interfaces.
impl Drop for Router {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(&self, from: usize) {
        let mut packet = [0; PACKET];
        loop {
            // An interface that is not up yet, or that has been removed, returns an error.
            let Ok(length) = self.devices[from].recv(&mut packet) else {
                if self.lock().ended {
                    return;
                }
                thread::yield_now();
                continue;
            };
            // Only the version and the last byte of the destination matter. Anything else than IPv4 is dropped.
            let [first, .., last] = packet[..length.min(20)] else { continue };
            let to = usize::from(last).wrapping_sub(1);
            if length >= 20 && first >> 4 == 4 && to < self.devices.len() {
                self.lock().send(from, to, &packet[..length]);
                self.changed.notify_one();
            }
        }
    }

    fn deliver(&self) {
        let mut state = self.lock();
        while !state.ended {
            let now = Instant::now();
            let wait = match state.queue.peek() {
                None => None,
                Some(Reverse(next)) if next.due > now => Some(next.due - now),
                Some(_) => {
                    if let Some(Reverse(DelayedPacket { to, packet, .. })) = state.queue.pop() {
                        drop(state);
                        // If the interface has no room, the packet is lost.
                        let _ = self.devices[to].send(&packet);
                        state = self.lock();
                    }
                    continue;
                }
            };
            state = match wait {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(time) => self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
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
        self.queue.push(Reverse(DelayedPacket { due, number: self.number, to, packet: packet.into() }));
    }
}
