//! Nodes that have stopped leave no resources behind.

use std::{fs, path::Path};

use ::tokio::{net::TcpStream, task::yield_now};
use formation_tests::number;

use crate::{
    adapters::Adapter,
    support::{agreed_view, form, listen, voter},
};

/// The number of nodes of each adapter that start and stop.
const CYCLES: &str = "FORMATION_CYCLES";
const CYCLES_BY_DEFAULT: u64 = 1_000;
const NODES: usize = 3;

with_each_adapter!(; alone: stopped_nodes_leave_no_files_threads_or_tasks);

/// The resources of this process.
#[derive(Debug, PartialEq, Eq)]
struct Resources {
    files: Vec<String>,
    threads: Vec<String>,
    tasks: usize,
}

impl Resources {
    fn now<A: Adapter>() -> Self {
        // Sockets are not distinguished.
        let kind = |file: &Path| Some(fs::read_link(file).ok()?.to_str()?.split('[').next()?.to_owned());
        // The threads in which smol waits for disks are shared by all users of smol, and stay.
        let name =
            |thread: &Path| fs::read_to_string(thread.join("comm")).ok().filter(|name| !name.starts_with("blocking-"));
        Self { files: list("/proc/self/fd", kind), threads: list("/proc/self/task", name), tasks: A::tasks() }
    }

    /// Compares the number of threads and not their names, because a new thread first has its parent's name.
    fn is_as(&self, before: &Self) -> bool {
        (&self.files, self.threads.len(), self.tasks) == (&before.files, before.threads.len(), before.tasks)
    }

    fn sockets(&self) -> usize {
        self.files.iter().filter(|file| file.starts_with("socket:")).count()
    }

    /// Waits until the resources meet the condition. Executors drop cancelled tasks and end idle threads a moment
    /// later.
    async fn wait_for<A: Adapter>(accept: impl Fn(&Self) -> bool) -> Self {
        let mut last = None;
        loop {
            let resources = Self::now::<A>();
            if accept(&resources) {
                return resources;
            }
            if last.as_ref() != Some(&resources) {
                println!("not yet: {resources:?}");
            }
            last = Some(resources);
            yield_now().await;
        }
    }
}

/// Describes each entry of a directory, except entries that have just disappeared.
fn list(dir: &str, describe: impl Fn(&Path) -> Option<String>) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut all: Vec<_> = entries.filter_map(|entry| describe(&entry.unwrap().path())).collect();
    all.sort();
    all
}

async fn stopped_nodes_leave_no_files_threads_or_tasks<A: Adapter>() {
    let cycles = number(CYCLES).unwrap_or(CYCLES_BY_DEFAULT);
    let initial = Resources::now::<A>();
    // The runtime starts some resources with the first node and keeps them. Sockets and tasks are not among them.
    drop(form::<A>(NODES).await);
    let before = Resources::wait_for::<A>(|resources| {
        (resources.sockets(), resources.tasks) == (initial.sockets(), initial.tasks)
    })
    .await;
    for round in 0..cycles.div_ceil(NODES as u64) {
        match round % 4 {
            0 => drop(form::<A>(NODES).await),
            1 => leave_all(form::<A>(NODES).await.0).await,
            2 => drop_at_once::<A>().await,
            _ => with_disks_and_a_silent_peer::<A>().await,
        }
    }
    Resources::wait_for::<A>(|resources| resources.is_as(&before)).await;
}

/// The nodes leave one after the other, the master first.
async fn leave_all<A: Adapter>(nodes: Vec<A>) {
    for node in nodes {
        node.leave().await;
    }
}

/// The nodes are dropped while they dial each other.
async fn drop_at_once<A: Adapter>() {
    let (listeners, seeds): (Vec<_>, Vec<_>) = (0..NODES).map(|_| listen()).unzip();
    for (number, listener) in listeners.into_iter().enumerate() {
        drop(A::start(voter(number, &seeds).build().unwrap(), listener));
    }
}

/// One node leaves and the others crash, while there is a silent connection.
async fn with_disks_and_a_silent_peer<A: Adapter>() {
    let dir = tempfile::tempdir().unwrap();
    let (listeners, seeds): (Vec<_>, Vec<_>) = (0..NODES).map(|_| listen()).unzip();
    let start = |(number, listener): (usize, _)| {
        let dir = dir.path().join(number.to_string());
        A::start(voter(number, &seeds).local().state_dir(dir).build().unwrap(), listener)
    };
    let mut nodes: Vec<A> = listeners.into_iter().enumerate().map(start).collect();
    let _silent_peer = TcpStream::connect(&seeds[1]).await.unwrap();
    agreed_view(&nodes, NODES).await;
    nodes.remove(0).leave().await;
}
