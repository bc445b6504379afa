//! The kit on tokio, in virtual time.

use std::{
    cell::RefCell,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use ::tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::{Builder, Handle, Runtime as TokioRuntime},
    time::{advance, sleep},
};
use formation_core::{Config, Timestamp, Timing};
use formation_host::{Environment, StartError};
use futures_lite::future;

use crate::{
    panics::{Panic, watched},
    runtime::{Local, NetworkTime, Processes, TestRuntime},
    sim::engine::Rng,
    transport::Wire,
    wires::{TestStream, Time},
    world::{self, TICK, World},
};

/// A network on tokio.
pub type Network = crate::Network<Tokio>;
/// A cluster on tokio.
pub type TestCluster = crate::TestCluster<Tokio>;

/// The runtime tokio, as a parameter of the types of this package.
#[derive(Debug)]
pub struct Tokio;

/// The processes of all nodes, each with a runtime of its own: whatever it has started ends with the runtime, and stands still while
/// the runtime does not run.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Runtimes {
    /// The time of all runtimes, in microseconds.
    now: Arc<AtomicU64>,
    slots: RefCell<Vec<Slot>>,
}

#[derive(Default)]
struct Slot {
    /// What the test wants of the process. It is done between two turns: a runtime cannot be dropped within another one.
    stop: bool,
    start: Option<Local<()>>,
    process: Option<Process>,
    /// Since when the process is stopped by a signal.
    paused: Option<u64>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("runs", &self.process.is_some()).finish_non_exhaustive()
    }
}

struct Process {
    /// `None` only while it is dropped.
    runtime: Option<TokioRuntime>,
    main: Option<Local<()>>,
    /// How far the clock of the runtime is behind.
    missed: Duration,
}

impl Process {
    fn new(main: Local<()>) -> Self {
        Self { runtime: Some(paused_runtime()), main: Some(main), missed: Duration::ZERO }
    }

    /// Runs everything that is due, and one tick further. `false`: the process has ended.
    fn turn(&mut self) -> bool {
        let (Some(main), Some(runtime)) = (&mut self.main, &self.runtime) else { return false };
        let missed = std::mem::take(&mut self.missed);
        let turn = async {
            if !missed.is_zero() {
                // The time has passed. A timer that was due since then finds that when it runs.
                advance(missed).await;
            }
            let done = async {
                main.as_mut().await;
                true
            };
            // First the tick: once it is over, the clock of this runtime is ahead of the others.
            future::or(ticked(false), done).await
        };
        !runtime.block_on(turn)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        let entered = runtime.enter();
        self.main = None;
        drop(entered);
        // A thread of the service that is blocked does not keep the test.
        runtime.shutdown_background();
    }
}

async fn ticked<T>(value: T) -> T {
    sleep(TICK).await;
    value
}

fn paused_runtime() -> TokioRuntime {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().expect("the system has what a runtime needs")
}

impl Runtimes {
    fn slot<T>(&self, node: usize, change: impl FnOnce(&mut Slot) -> T) -> T {
        let mut slots = self.slots.borrow_mut();
        if slots.len() <= node {
            slots.resize_with(node + 1, Slot::default);
        }
        change(&mut slots[node])
    }

    /// Gives each process a turn. Returns the nodes with a panic in a task: the runtime catches those.
    fn turns(&self, rng: &mut Rng) -> Vec<(usize, Panic)> {
        let mut panics = Vec::new();
        let mut order: Vec<_> = (0..self.slots.borrow().len()).collect();
        rng.shuffle(&mut order);
        for node in order {
            let (ended, process) = self.slot(node, |slot| {
                let ended = if std::mem::take(&mut slot.stop) { slot.process.take() } else { None };
                if let Some(main) = slot.start.take() {
                    slot.process = Some(Process::new(main));
                }
                let runs = slot.paused.is_none();
                (ended, if runs { slot.process.take() } else { None })
            });
            drop(ended);
            // The process may ask for other processes.
            let Some(mut process) = process else { continue };
            let (lives, panic) = watched(|| process.turn());
            panics.extend(panic.map(|panic| (node, panic)));
            if lives {
                self.slot(node, |slot| slot.process = Some(process));
            }
        }
        panics
    }

    /// Lets the clock of all processes go on.
    fn tick(&self) {
        self.now.fetch_add(TICK.as_micros() as u64, Ordering::Relaxed);
    }

    fn pause(&self, node: usize) {
        let now = self.now.load(Ordering::Relaxed);
        self.slot(node, |slot| slot.paused = Some(now));
    }

    fn resume(&self, node: usize) {
        let now = self.now.load(Ordering::Relaxed);
        self.slot(node, |slot| {
            let since = slot.paused.take().map_or(Duration::ZERO, |since| Duration::from_micros(now - since));
            if let Some(process) = &mut slot.process {
                process.missed += since;
            }
        });
    }
}

impl Processes for Runtimes {
    fn start(&self, node: usize, main: Local<()>) {
        self.slot(node, |slot| (slot.start, slot.paused) = (Some(main), None));
    }

    fn stop(&self, node: usize) {
        let start = self.slot(node, |slot| {
            (slot.stop, slot.paused) = (true, None);
            slot.start.take()
        });
        drop(start);
    }

    fn clear(&self) {
        let slots = self.slots.take();
        drop(slots);
    }
}

impl TestRuntime for Tokio {
    type Runtime = formation_tokio::Tokio;
    type Owner = formation_tokio::Cluster;
    type Processes = Runtimes;
    const TIMING: Timing = Timing::lan();
    const PATIENCE: Duration = Duration::from_secs(120);
    const LIMIT: Duration = Duration::from_secs(3600);

    fn processes() -> Runtimes {
        Runtimes::default()
    }

    fn time(processes: &Runtimes) -> NetworkTime {
        let now = processes.now.clone();
        let now = Arc::new(move || Duration::from_micros(now.load(Ordering::Relaxed)));
        NetworkTime(Time { now, sleep: |time| Box::pin(sleep(time)) })
    }

    fn environment(processes: &Runtimes) -> Environment {
        let now = processes.now.clone();
        Environment::system().clock(move || Timestamp::from_micros(now.load(Ordering::Relaxed)))
    }

    fn start(config: Config, wire: Wire, environment: &Environment) -> Result<formation_tokio::Cluster, StartError> {
        formation_tokio::Cluster::start_with(config, wire, environment)
    }

    fn run<T>(world: &Rc<World<Self>>, test: impl Future<Output = T>) -> T {
        assert!(
            Handle::try_current().is_err(),
            "call `run` in a plain #[test], not in a #[tokio::test]: it brings the runtimes of the test and of the nodes"
        );
        let mut rng = Rng::numbered(world.settings.borrow().seed, 0);
        let outside = paused_runtime();
        // The test is dropped in its runtime, too.
        let _entered = outside.enter();
        let mut test = pin!(test);
        loop {
            let done = async { Some(test.as_mut().await) };
            if let Some(done) = outside.block_on(future::or(ticked(None), done)) {
                return done;
            }
            for (node, panic) in world.processes.turns(&mut rng) {
                world.panicked(node, &panic);
            }
            // Before and after the clock moves: a lease may end at the next tick.
            world.look();
            world.processes.tick();
            world.look();
            world.check();
        }
    }
}

/// Only in virtual time.
impl TestCluster {
    /// Stops the process of a node, like `SIGSTOP`, until [`resume`](Self::resume): no task of it runs, and its clock goes on. Its
    /// connections stay open, and what arrives waits.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use formation_testing::tokio::Network;
    /// Network::new(1).run(async |network| {
    ///     let cluster = network.cluster(3).await;
    ///     let first = cluster.assert_one_master();
    ///     cluster.pause(&first.node.id);
    ///     let next = cluster.wait_for_new_master(first.term).await;
    ///     cluster.resume(&first.node.id);
    ///     cluster.wait_for_members(3).await;
    ///     assert_eq!(cluster.assert_one_master(), next);
    /// });
    /// ```
    ///
    /// When it goes on, `run_while_master` drops its work before it polls it again, because the lease has ended. So a late write is one
    /// that the work has sent before: in a store of the test, the write is a task of its own.
    ///
    /// Smol has no such fault: its timers and threads belong to the whole process.
    ///
    /// # Panics
    /// The node does not run.
    pub fn pause(&self, id: impl AsRef<str>) {
        let node = self.world().number(id.as_ref());
        if let world::Process::Ended(why) = &self.world().nodes()[node].state {
            panic!("{} does not run: {why}", id.as_ref());
        }
        if self.world().set_paused(node, true) {
            self.note(format_args!("{}: is paused", id.as_ref()));
            self.world().processes.pause(node);
        }
    }

    /// Lets a paused process go on. On a node that is not paused, this does nothing.
    pub fn resume(&self, id: impl AsRef<str>) {
        let node = self.world().number(id.as_ref());
        if self.world().set_paused(node, false) {
            self.note(format_args!("{}: goes on", id.as_ref()));
            self.world().processes.resume(node);
        }
    }
}

impl AsyncRead for TestStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let length = ready!(self.poll_bytes(cx, buffer.initialize_unfilled()))?;
        buffer.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TestStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.poll_send(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}
