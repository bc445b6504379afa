//! The machines with their nodes, and what they have said.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::{Duration, Instant},
};

use formation_core::{Node, Timing};
use formation_host::Clock;
use formation_tests::Rng;

use crate::{
    authority::Authority,
    history::History,
    machine::{Machine, Said},
    record::{Record, What},
    router::{Router, address},
};

const PORT: u16 = 7_000;
/// The times that the nodes are told by `--times`.
const TIMES: &str = "lan";

/// How many machines there are, how many of them have voters, and whether they speak TLS and hold a cluster key.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) machines: usize,
    pub(crate) voters: usize,
    pub(crate) secured: bool,
}

pub(crate) struct Cluster {
    pub(crate) machines: Vec<Machine>,
    pub(crate) voters: usize,
    /// What the node of each machine is told.
    flags: Vec<Vec<String>>,
    pub(crate) router: Router,
    pub(crate) history: History,
    programs: Vec<PathBuf>,
    sender: Sender<Said>,
    receiver: Receiver<Said>,
    /// Processes that have ended by themselves, as they were told to.
    ended: BTreeSet<(usize, usize)>,
}

/// Where a node listens.
fn listen(machine: usize) -> String {
    format!("{}:{PORT}", address(machine))
}

/// What a node is told, but for what secures its connections.
fn flags(machine: &Machine, voters: usize) -> Vec<String> {
    let number = machine.number;
    let mut flags: Vec<String> = ["--json", "--cluster", "processes", "--times", TIMES].map(String::from).into();
    flags.extend((0..voters).flat_map(|voter| ["--seed".into(), listen(voter)]));
    flags.extend(["--id".into(), format!("node-{number}"), "--listen".into(), listen(number)]);
    if number < voters {
        flags.extend(["--state-dir".into(), machine.state_dir().display().to_string()]);
    }
    flags
}

/// Gives every node a certificate and the cluster key.
fn secure(machines: &[Machine], home: &Path, flags: &mut [Vec<String>]) {
    let authority = Authority::new("the cluster's");
    for (machine, flags) in machines.iter().zip(flags) {
        let (certificate, key) = authority.issue(&address(machine.number), |_| {});
        for (flag, path, content) in [
            ("--tls-authority", home.join("authority"), authority.pem()),
            ("--key-file", home.join("cluster-key"), "a key that everybody of the suite knows".into()),
            ("--tls-certificate", machine.path("certificate"), certificate),
            ("--tls-key", machine.path("key"), key),
        ] {
            fs::write(&path, content).expect("there is room for a file");
            flags.extend([flag.into(), path.display().to_string()]);
        }
    }
}

/// The time of all nodes' clocks.
pub(crate) fn now() -> u64 {
    Clock::start().now().as_micros()
}

pub(crate) fn timing() -> Timing {
    Timing::lan()
}

/// G5: by when nodes of which enough reach each other have a master. Its lease has to end for all, the last in the line has
/// its turn, and a candidacy that fails waits for up to two leases; that four fail in turn is out of the question.
pub(crate) fn until_led(voters: usize) -> Duration {
    let Timing { lease, stagger, election_timeout, .. } = timing();
    lease + stagger * u32::try_from(voters).expect("few voters") + 4 * (election_timeout + 2 * lease)
}

/// G5: by when all nodes hold one view, once all is well. Connections that are dead are found so, a dial that is under way ends, and the
/// address is dialed again; who has just started waits for the others; then there is a master, and two heartbeats later the view.
pub(crate) fn until_whole(voters: usize) -> Duration {
    let Timing { down_after, handshake_timeout, dial_backoff_max, bootstrap_wait, heartbeat_interval, .. } = timing();
    let linked = down_after + handshake_timeout + dial_backoff_max * 3 / 2;
    linked + bootstrap_wait + until_led(voters) + 2 * heartbeat_interval
}

impl Cluster {
    /// Machines whose nodes do not run yet.
    pub(crate) fn new(size: Size, programs: &[PathBuf], home: &Path, rng: Rng) -> Self {
        let Size { machines, voters, secured } = size;
        let router = Router::start(machines, rng).expect("interfaces can be made");
        let machines: Vec<_> = (0..machines).map(|number| Machine::new(number, home)).collect();
        let mut flags: Vec<_> = machines.iter().map(|machine| flags(machine, voters)).collect();
        if secured {
            secure(&machines, home, &mut flags);
        }
        let (sender, receiver) = channel();
        Self {
            machines,
            voters,
            flags,
            router,
            history: History::default(),
            programs: programs.into(),
            sender,
            receiver,
            ended: BTreeSet::new(),
        }
    }

    /// Starts the node of a machine.
    pub(crate) fn start(&mut self, number: usize) {
        let program = &self.programs[number % self.programs.len()];
        self.machines[number].start(program, &self.flags[number], &self.sender);
    }

    /// Lets a node leave that was told to.
    pub(crate) fn gone(&mut self, number: usize, limit: Duration) -> Result<(), String> {
        let run = self.machines[number].current_run();
        self.until(limit, &format!("machine {number} has left"), |cluster| {
            cluster.ended.contains(&(number, run)).then_some(())
        })?;
        match self.machines[number].wait() {
            Some(status) if !status.success() => {
                Err(format!("machine {number} was told to leave, and ended with {status}"))
            }
            _ => Ok(()),
        }
    }

    /// The nodes of some machines, unless one of them has not said who it is.
    fn nodes(&self, machines: impl Iterator<Item = usize>) -> Option<Vec<&Node>> {
        machines.map(|number| self.machines[number].node()).collect()
    }

    /// The machine of the master that all of these machines follow.
    pub(crate) fn leader(&self, machines: &[usize]) -> Option<usize> {
        let nodes = self.nodes(machines.iter().copied())?;
        let master = self.history.leader(&nodes, now())?;
        machines.iter().copied().find(|number| self.machines[*number].node() == Some(master))
    }

    /// All machines are one cluster.
    pub(crate) fn is_whole(&self) -> bool {
        self.nodes(0..self.machines.len()).is_some_and(|nodes| self.history.agree(&nodes, now()))
    }

    /// Takes what the nodes say for so long.
    pub(crate) fn pass(&mut self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        while self.take_one(end)? {}
        Ok(())
    }

    /// Takes what the nodes say until there is something, and says how long that took.
    pub(crate) fn until<T>(
        &mut self,
        limit: Duration,
        what: &str,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<(T, Duration), String> {
        let (start, end) = (Instant::now(), Instant::now() + limit);
        loop {
            if let Some(found) = look(self) {
                return Ok((found, start.elapsed()));
            }
            if !self.take_one(end)? {
                return Err(format!("G5: it is not so after {limit:?} that {what}"));
            }
        }
    }

    /// Takes one line, or says that the time is up.
    fn take_one(&mut self, end: Instant) -> Result<bool, String> {
        match self.receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(said) => self.take(said).map(|()| true),
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => unreachable!("the cluster has a sender"),
        }
    }

    fn take(&mut self, Said { machine: number, run, line }: Said) -> Result<(), String> {
        let machine = &mut self.machines[number];
        let is_current = machine.has_process() && machine.current_run() == run;
        let Some(line) = line else {
            if is_current && !machine.was_told_to_leave() {
                let status = machine.wait();
                return Err(format!("the process of machine {number} ended by itself: {status:?}"));
            }
            self.ended.insert((number, run));
            return Ok(());
        };
        let record: Record = match serde_json::from_str(&line) {
            Ok(record) => record,
            // Cut off by a kill.
            Err(_) if !is_current => return Ok(()),
            Err(error) => return Err(format!("machine {number} says {line}: {error}")),
        };
        if is_current && matches!(record.what, What::Started {}) {
            machine.is_node(&record.node);
        }
        self.history.take(&record)
    }
}
