//! What is left of nodes that have stopped: nothing.

use std::{fs, path::Path};

use ::tokio::{net::TcpStream, task::yield_now};
use formation_tests::number;

use crate::{
    adapters::Adapter,
    support::{agreed_view, form, listen, voter},
};

/// How many nodes of each adapter start and stop.
const CYCLES: &str = "FORMATION_CYCLES";
const CYCLES_BY_DEFAULT: u64 = 1_000;
const NODES: usize = 3;

with_each_adapter!(; alone: stopped_nodes_leave_no_files_threads_or_tasks);

/// What this process has.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    files: Vec<String>,
    threads: Vec<String>,
    tasks: usize,
}

impl Held {
    fn now<A: Adapter>() -> Self {
        // One socket is like another.
        let kind = |file: &Path| Some(fs::read_link(file).ok()?.to_str()?.split('[').next()?.to_owned());
        // Those in which smol waits for disks belong to all of its users, and stay.
        let name =
            |thread: &Path| fs::read_to_string(thread.join("comm")).ok().filter(|name| !name.starts_with("blocking-"));
        Self { files: each("/proc/self/fd", kind), threads: each("/proc/self/task", name), tasks: A::tasks() }
    }

    /// A thread has its parent's name at first, so they are counted.
    fn is_as(&self, before: &Self) -> bool {
        (&self.files, self.threads.len(), self.tasks) == (&before.files, before.threads.len(), before.tasks)
    }

    fn sockets(&self) -> usize {
        self.files.iter().filter(|file| file.starts_with("socket:")).count()
    }

    /// Executors drop what was cancelled, and end threads that waited for disks, a moment later.
    async fn once<A: Adapter>(accept: impl Fn(&Self) -> bool) -> Self {
        let mut last = None;
        loop {
            let held = Self::now::<A>();
            if accept(&held) {
                return held;
            }
            if last.as_ref() != Some(&held) {
                println!("not yet: {held:?}");
            }
            last = Some(held);
            yield_now().await;
        }
    }
}

/// What there is to say of each entry of a directory, but for those that have just gone.
fn each(dir: &str, say: impl Fn(&Path) -> Option<String>) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut said: Vec<_> = entries.filter_map(|entry| say(&entry.unwrap().path())).collect();
    said.sort();
    said
}

async fn stopped_nodes_leave_no_files_threads_or_tasks<A: Adapter>() {
    let cycles = number(CYCLES).unwrap_or(CYCLES_BY_DEFAULT);
    let own = Held::now::<A>();
    // What the runtime starts with the first node stays; it is no socket, and no task that counts.
    drop(form::<A>(NODES).await);
    let before = Held::once::<A>(|held| (held.sockets(), held.tasks) == (own.sockets(), own.tasks)).await;
    for round in 0..cycles.div_ceil(NODES as u64) {
        match round % 4 {
            0 => drop(form::<A>(NODES).await),
            1 => leave(form::<A>(NODES).await.0).await,
            2 => at_once::<A>().await,
            _ => with_disks_and_a_stranger::<A>().await,
        }
    }
    Held::once::<A>(|held| held.is_as(&before)).await;
}

/// One after the other, the master first.
async fn leave<A: Adapter>(nodes: Vec<A>) {
    for node in nodes {
        node.leave().await;
    }
}

/// Stopped while they look for each other.
async fn at_once<A: Adapter>() {
    let (listeners, seeds): (Vec<_>, Vec<_>) = (0..NODES).map(|_| listen()).unzip();
    for (number, listener) in listeners.into_iter().enumerate() {
        drop(A::start(voter(number, &seeds).build().unwrap(), listener));
    }
}

/// One leaves, and the others crash, with a connection on which nobody says anything.
async fn with_disks_and_a_stranger<A: Adapter>() {
    let dir = tempfile::tempdir().unwrap();
    let (listeners, seeds): (Vec<_>, Vec<_>) = (0..NODES).map(|_| listen()).unzip();
    let start = |(number, listener): (usize, _)| {
        let dir = dir.path().join(number.to_string());
        A::start(voter(number, &seeds).local().state_dir(dir.to_str().unwrap()).build().unwrap(), listener)
    };
    let mut nodes: Vec<A> = listeners.into_iter().enumerate().map(start).collect();
    let _stranger = TcpStream::connect(&seeds[1]).await.unwrap();
    agreed_view(&nodes, NODES).await;
    nodes.remove(0).leave().await;
}
