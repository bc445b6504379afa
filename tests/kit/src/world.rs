//! The nodes of a network, their processes and their storage.

use std::{
    cell::{Ref, RefCell},
    fmt::Write as _,
    ops::RangeInclusive,
    process::ExitCode,
    rc::Rc,
    time::Duration,
};

use formation_core::{Address, Config, ConfigBuilder, Incarnation};
use formation_host::{ClusterHandle, MemoryStore};
use futures_lite::future;

use crate::{
    journal::Journal,
    node::TestNode,
    panics::Panic,
    runtime::{Local, Processes, TestRuntime},
    sim::engine::Rng,
    transport::Wire,
    wires::{Host, HostRun, Wires},
};

/// The port of all nodes. Each is a host of its own.
const PORT: u16 = 7000;
/// How often a wait looks again. It is the unit of virtual time, too.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// How long a node may take to explain itself.
const EXPLAINS: Duration = Duration::from_secs(1);

pub(crate) type Configure = Rc<dyn Fn(&str, ConfigBuilder) -> ConfigBuilder>;
pub(crate) type Service = Rc<dyn Fn(TestNode) -> Local<ExitCode>>;

/// What a test sets before it runs.
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) latency: RangeInclusive<Duration>,
    pub(crate) patience: Duration,
    pub(crate) limit: Duration,
    pub(crate) voters: Option<usize>,
    pub(crate) configure: Configure,
}

/// Everything that a network consists of.
#[doc(hidden)]
pub struct World<R: TestRuntime> {
    pub(crate) settings: RefCell<Settings>,
    pub(crate) wires: Wires,
    pub(crate) journal: Journal,
    pub(crate) processes: R::Processes,
    nodes: RefCell<Vec<Slot>>,
    service: RefCell<Option<Service>>,
}

/// A node, whether or not its process runs.
pub(crate) struct Slot {
    pub(crate) host: Host,
    pub(crate) address: Address,
    store: MemoryStore,
    /// How often it was started.
    runs: u64,
    pub(crate) state: Process,
    /// The last run that has started.
    last: Option<ClusterHandle>,
    pub(crate) is_paused: bool,
}

/// The process of a node.
#[derive(Clone)]
pub(crate) enum Process {
    Starting,
    Running(ClusterHandle),
    /// It was killed, or the service has returned.
    Ended(&'static str),
}

impl Slot {
    /// Its last run.
    pub(crate) fn run(&self) -> HostRun {
        HostRun { host: self.host.clone(), number: self.runs }
    }

    pub(crate) fn running(&self) -> Option<&ClusterHandle> {
        match &self.state {
            Process::Running(handle) => Some(handle),
            Process::Starting | Process::Ended(_) => None,
        }
    }
}

/// The ids of nodes, in their order: `node-a` to `node-z`, and then `node-za` and so on.
fn id(mut number: usize) -> String {
    let mut id = "node-".to_owned();
    while number >= 26 {
        id.push('z');
        number -= 26;
    }
    id.push(char::from(b'a' + number as u8));
    id
}

impl<R: TestRuntime> World<R> {
    pub(crate) fn new(seed: u64) -> Self {
        let processes = R::processes();
        let time = R::time(&processes).0;
        let settings = Settings {
            seed,
            latency: Duration::from_millis(1)..=Duration::from_millis(3),
            patience: R::PATIENCE,
            limit: R::LIMIT,
            voters: None,
            configure: Rc::new(|_, builder| builder),
        };
        Self {
            settings: RefCell::new(settings),
            wires: Wires::new(seed, time),
            journal: Journal::default(),
            processes,
            nodes: RefCell::default(),
            service: RefCell::default(),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.wires.now()
    }

    pub(crate) async fn sleep(&self, time: Duration) {
        self.wires.sleep(time).await;
    }

    pub(crate) fn nodes(&self) -> Ref<'_, Vec<Slot>> {
        self.nodes.borrow()
    }

    /// The number of a node.
    ///
    /// # Panics
    /// There is no such node.
    pub(crate) fn number(&self, id: &str) -> usize {
        let nodes = self.nodes();
        nodes.iter().position(|slot| *slot.host == *id).unwrap_or_else(|| {
            let ids: Vec<_> = nodes.iter().map(|slot| &*slot.host).collect();
            panic!("there is no node `{id}`; there are: {}", ids.join(", "))
        })
    }

    pub(crate) fn host(&self, id: &str) -> Host {
        let number = self.number(id);
        self.nodes()[number].host.clone()
    }

    /// Adds the nodes and starts their processes.
    ///
    /// # Panics
    /// The network has nodes already.
    pub(crate) fn populate(self: &Rc<Self>, count: usize, service: Service) {
        assert!(self.nodes().is_empty(), "a network has one cluster; start a new network for another one");
        self.wires.set_latency(self.settings.borrow().latency.clone());
        for number in 0..count {
            let host = Host::from(id(number));
            let address = Address::new(format!("{host}:{PORT}")).expect("it is a name and a port");
            self.wires.add(&host);
            let state = Process::Ended("it was not started");
            let (store, runs, last) = (MemoryStore::new(), 0, None);
            self.nodes.borrow_mut().push(Slot { host, address, store, runs, state, last, is_paused: false });
        }
        *self.service.borrow_mut() = Some(service);
        (0..count).for_each(|number| self.start(number));
    }

    /// Starts the process of a node that has none.
    pub(crate) fn start(self: &Rc<Self>, number: usize) {
        let mut nodes = self.nodes.borrow_mut();
        let slot = &mut nodes[number];
        let Process::Ended(_) = slot.state else { return };
        slot.state = Process::Starting;
        slot.runs += 1;
        let before = slot.last.take();
        slot.is_paused = false;
        self.wires.boot(&slot.run());
        drop(nodes);
        self.processes.start(number, Box::pin(self.clone().process(number, before)));
    }

    /// Ends the process of a node from outside.
    pub(crate) fn stop(&self, number: usize, reason: &'static str) {
        let mut nodes = self.nodes.borrow_mut();
        let slot = &mut nodes[number];
        if let Process::Ended(_) = slot.state {
            return;
        }
        slot.state = Process::Ended(reason);
        slot.is_paused = false;
        let host = slot.host.clone();
        drop(nodes);
        self.journal.note(self.now(), format_args!("{host}: {reason}"));
        self.journal.forget(&host);
        self.processes.stop(number);
    }

    /// The disk of a node without a process is replaced by an empty one.
    pub(crate) fn forget(&self, number: usize) {
        let mut nodes = self.nodes.borrow_mut();
        let slot = &mut nodes[number];
        assert!(matches!(slot.state, Process::Ended(_)), "{} runs: kill it before it forgets", slot.host);
        slot.store = MemoryStore::new();
        self.journal.note(self.now(), format_args!("{}: its storage is empty now", slot.host));
    }

    pub(crate) fn set_paused(&self, number: usize, is_paused: bool) -> bool {
        let slot = &mut self.nodes.borrow_mut()[number];
        std::mem::replace(&mut slot.is_paused, is_paused) != is_paused
    }

    /// The process of a node, from its start to its end.
    async fn process(self: Rc<Self>, number: usize, before: Option<ClusterHandle>) {
        if let Some(before) = before {
            // Its storage has to be free.
            before.stopped().await;
        }
        let owner = self.begin(number);
        let (handle, run) = (ClusterHandle::clone(&owner), self.nodes()[number].run());
        let node = TestNode::new(run, handle.clone(), self.wires.clone(), self.journal.clone());
        self.started(number, handle);
        let service = self.service.borrow().clone().expect("it was set before the first start");
        let exit = service(node).await;
        drop(owner);
        self.ended(number, exit);
    }

    fn started(&self, number: usize, handle: ClusterHandle) {
        let slot = &mut self.nodes.borrow_mut()[number];
        (slot.state, slot.last) = (Process::Running(handle.clone()), Some(handle));
    }

    /// Starts a node.
    ///
    /// # Panics
    /// The node does not start.
    fn begin(&self, number: usize) -> R::Owner {
        let (nodes, settings) = (self.nodes(), self.settings.borrow());
        let slot = &nodes[number];
        let Slot { host, address, store, runs, .. } = slot;
        let voters = settings.voters.unwrap_or(nodes.len());
        let seeds = nodes.iter().take(voters).map(|slot| &slot.address);
        let builder = Config::builder("test", host, address).seeds(seeds).timing(R::TIMING);
        let builder = if nodes.len() == 1 { builder.single() } else { builder };
        let builder = (settings.configure)(host, builder);
        let config = builder.build().unwrap_or_else(|error| panic!("the configuration of {host}: {error}"));
        let seed = Rng::numbered(settings.seed ^ *runs, number as u64).draw();
        let environment = R::environment(&self.processes).incarnation(Incarnation(*runs)).rng_seed(seed);
        let environment = environment.store(store.clone());
        let wire = Wire::new(slot.run(), self.wires.clone(), config.address());
        let wire = wire.unwrap_or_else(|error| panic!("{host} cannot listen at {}: {error}", config.address()));
        R::start(config, wire, &environment).unwrap_or_else(|error| panic!("{host} does not start: {error}"))
    }

    /// The service has returned.
    fn ended(&self, number: usize, exit: ExitCode) {
        let slot = &mut self.nodes.borrow_mut()[number];
        (slot.state, slot.is_paused) = (Process::Ended("its service has returned"), false);
        self.wires.end_processes(&slot.host);
        self.journal.forget(&slot.host);
        if exit == ExitCode::SUCCESS {
            self.journal.note(self.now(), format_args!("{}: its service has returned", slot.host));
        } else {
            self.journal.breaks(self.now(), format_args!("the service of {} has failed", slot.host));
        }
    }

    /// A task of a node has panicked, and the runtime has caught that.
    pub(crate) fn panicked(&self, number: usize, panic: &Panic) {
        self.journal.breaks(self.now(), format_args!("a task of {}: {panic}", self.nodes()[number].host));
    }

    /// Looks at all nodes: what has changed, and whether two are master at once.
    pub(crate) fn look(&self) {
        let nodes = self.nodes();
        let running = nodes.iter().filter_map(|slot| Some((&slot.host, slot.running()?)));
        self.journal.look(self.now(), running);
    }

    /// # Panics
    /// Something has happened that must not happen, or the run takes too long.
    pub(crate) fn check(&self) {
        let limit = self.settings.borrow().limit;
        assert!(self.now() <= limit, "the test has not ended within {limit:?}; it waits for something in vain");
        if let Some(broken) = self.journal.broken() {
            panic!("{broken}");
        }
    }

    pub(crate) fn history(&self) -> String {
        let lines = self.journal.lines();
        lines.iter().fold("what has happened:".to_owned(), |text, line| text + "\n" + line)
    }

    /// Waits until `ready` finds what it looks for.
    ///
    /// # Panics
    /// It does not, for as long as the test has patience.
    pub(crate) async fn wait<T>(&self, what: &str, mut ready: impl FnMut(&Self) -> Option<T>) -> T {
        self.wait_for(what, async || ready(self)).await
    }

    /// As `wait`, for what has to be asked for.
    ///
    /// # Panics
    /// As `wait`.
    pub(crate) async fn wait_for<T>(&self, what: &str, mut find: impl AsyncFnMut() -> Option<T>) -> T {
        let patience = self.settings.borrow().patience;
        let limit = self.now() + patience;
        loop {
            self.look();
            self.check();
            if let Some(found) = find().await {
                return found;
            }
            if self.now() >= limit {
                let said = self.explain().await;
                panic!("waited in vain for {patience:?}: {what}\n{said}");
            }
            self.sleep(TICK).await;
        }
    }

    /// What each node says about itself.
    pub(crate) async fn explain(&self) -> String {
        let nodes: Vec<_> =
            self.nodes().iter().map(|slot| (slot.host.clone(), slot.state.clone(), slot.is_paused)).collect();
        let mut said = String::new();
        for (host, state, is_paused) in nodes {
            let words = match (state, is_paused) {
                (Process::Starting, _) => format!("{host} starts\n"),
                (Process::Ended(why), _) => format!("{host} does not run: {why}\n"),
                (Process::Running(_), true) => format!("{host} is paused\n"),
                (Process::Running(handle), false) => {
                    let asked = async {
                        handle.explain().await.map_or_else(|stopped| stopped.to_string(), |it| it.to_string())
                    };
                    let late = async {
                        self.sleep(EXPLAINS).await;
                        format!("it does not answer; {}\n", handle.status().phase)
                    };
                    format!("{host}: {}", future::or(asked, late).await)
                }
            };
            // Writing to a string cannot fail.
            let _ = writeln!(said, "{}", words.trim_end());
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_the_order_of_their_numbers() {
        let ids: Vec<_> = (0..64).map(id).collect();
        assert!(ids.is_sorted());
        assert_eq!(
            (ids[0].as_str(), ids[25].as_str(), ids[26].as_str(), ids[52].as_str()),
            ("node-a", "node-z", "node-za", "node-zza")
        );
    }
}
