//! The kit on smol, in real time: smol's timers cannot be paused.

use std::{
    any::Any,
    cell::RefCell,
    io,
    panic::{AssertUnwindSafe, resume_unwind},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use ::smol::{
    LocalExecutor, Task, Timer, block_on,
    future::{self, FutureExt},
    io::{AsyncRead, AsyncWrite},
};
use formation_core::{Config, Timing};
use formation_host::{Environment, StartError};

use crate::{
    runtime::{Local, NetworkTime, Processes, TestRuntime},
    transport::Wire,
    wires::{TestStream, Time},
    world::{TICK, World},
};

/// A network on smol.
pub type Network = crate::Network<Smol>;
/// A cluster on smol.
pub type TestCluster = crate::TestCluster<Smol>;

/// The runtime smol, as a parameter of the types of this package.
#[derive(Debug)]
pub struct Smol;

/// The services of all nodes, on the thread of the test. The nodes run on smol's global executor.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Tasks {
    executor: Rc<LocalExecutor<'static>>,
    tasks: RefCell<Vec<Option<Task<()>>>>,
    /// What a service has panicked with.
    panicked: Rc<RefCell<Option<Box<dyn Any + Send>>>>,
}

impl Tasks {
    /// # Panics
    /// A service has panicked.
    fn pass_on_panic(&self) {
        if let Some(panic) = self.panicked.take() {
            resume_unwind(panic);
        }
    }
}

impl Processes for Tasks {
    fn start(&self, node: usize, main: Local<()>) {
        let panicked = self.panicked.clone();
        let task = self.executor.spawn(async move {
            if let Err(panic) = AssertUnwindSafe(main).catch_unwind().await {
                panicked.borrow_mut().get_or_insert(panic);
            }
        });
        let mut tasks = self.tasks.borrow_mut();
        if tasks.len() <= node {
            tasks.resize_with(node + 1, || None);
        }
        tasks[node] = Some(task);
    }

    fn stop(&self, node: usize) {
        let task = self.tasks.borrow_mut().get_mut(node).and_then(Option::take);
        drop(task);
    }

    fn clear(&self) {
        let tasks: Vec<_> = self.tasks.take();
        let executor = &self.executor;
        block_on(executor.run(async {
            for task in tasks.into_iter().flatten() {
                task.cancel().await;
            }
        }));
    }
}

impl TestRuntime for Smol {
    type Runtime = formation_smol::Smol;
    type Owner = formation_smol::Cluster;
    type Processes = Tasks;
    const TIMING: Timing = Timing::local();
    const PATIENCE: Duration = Duration::from_secs(60);
    const LIMIT: Duration = Duration::from_secs(600);

    fn processes() -> Tasks {
        Tasks::default()
    }

    fn time(_: &Tasks) -> NetworkTime {
        let start = Instant::now();
        let sleep = |time| -> crate::wires::Sleep {
            Box::pin(async move {
                Timer::after(time).await;
            })
        };
        NetworkTime(Time { now: Arc::new(move || start.elapsed()), sleep })
    }

    fn environment(_: &Tasks) -> Environment {
        Environment::system()
    }

    fn start(config: Config, wire: Wire, environment: &Environment) -> Result<formation_smol::Cluster, StartError> {
        formation_smol::Cluster::start_with(config, wire, environment)
    }

    fn run<T>(world: &Rc<World<Self>>, test: impl Future<Output = T>) -> T {
        let watching = async {
            loop {
                Timer::after(TICK).await;
                world.processes.pass_on_panic();
                world.look();
                world.check();
            }
        };
        let done = block_on(world.processes.executor.run(future::or(watching, test)));
        // The test may have ended in the turn in which a service panicked.
        world.processes.pass_on_panic();
        done
    }
}

impl AsyncRead for TestStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_bytes(cx, buffer)
    }
}

impl AsyncWrite for TestStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}
