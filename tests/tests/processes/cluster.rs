//! The machines with their nodes, and the history of their output.

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
    machine::{Machine, OutputLine},
    record::{Record, What},
    router::{Router, address},
};

const PORT: u16 = 7_000;
/// The value of `--times` for all nodes.
const TIMES: &str = "lan";

/// The number of machines, the number of machines with voters, and whether the nodes use TLS and a cluster key.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) machines: usize,
    pub(crate) voters: usize,
    pub(crate) secured: bool,
}

pub(crate) struct Cluster {
    pub(crate) machines: Vec<Machine>,
    pub(crate) voters: usize,
    /// The command-line flags of the node of each machine.
    flags: Vec<Vec<String>>,
    pub(crate) router: Router,
    pub(crate) history: History,
    programs: Vec<PathBuf>,
    sender: Sender<OutputLine>,
    receiver: Receiver<OutputLine>,
    /// The processes that have ended after their command to leave, by machine and run.
    ended: BTreeSet<(usize, usize)>,
}

/// The address of a node.
fn listen(machine: usize) -> String {
    format!("{}:{PORT}", address(machine))
}

/// The flags of a node, without those for TLS and the key.
fn flags(machine: &Machine, voters: usize) -> Vec<String> {
    let number = machine.number;
    let mut flags: Vec<String> = ["--json", "--cluster", "processes", "--times", TIMES].map(String::from).into();
    flags.extend((0..voters).flat_map(|voter| ["--seed".into(), listen(voter)]));
    if voters == 1 {
        flags.push("--single".into());
    }
    flags.extend(["--id".into(), format!("node-{number}"), "--listen".into(), listen(number)]);
    if number < voters {
        flags.extend(["--state-dir".into(), machine.state_dir().display().to_string()]);
    }
    flags
}

/// Gives every node a certificate and the cluster key.
fn secure(machines: &[Machine], log_dir: &Path, flags: &mut [Vec<String>]) {
    let authority = Authority::new("the cluster's");
    for (machine, flags) in machines.iter().zip(flags) {
        let (certificate, key) = authority.issue(&address(machine.number), |_| {});
        for (flag, path, content) in [
            ("--tls-authority", log_dir.join("authority"), authority.pem()),
            ("--key-file", log_dir.join("cluster-key"), "a key that all nodes of the test hold".into()),
            ("--tls-certificate", machine.path("certificate"), certificate),
            ("--tls-key", machine.path("key"), key),
        ] {
            fs::write(&path, content).expect("a file can be written");
            flags.extend([flag.into(), path.display().to_string()]);
        }
    }
}

/// The time on the clocks of all nodes.
pub(crate) fn now() -> u64 {
    Clock::start().now().as_micros()
}

pub(crate) fn timing() -> Timing {
    Timing::lan()
}

/// G5: the time in which a quorum of connected voters has a master. The old lease has to expire for all of them, even
/// the last voter gets its turn, and a failed candidate waits for up to two leases. Four failures in a row do not
/// happen in practice.
pub(crate) fn time_until_led(voters: usize) -> Duration {
    let Timing { lease, stagger, election_timeout, .. } = timing();
    lease + stagger * u32::try_from(voters).expect("the number of voters is small") + 4 * (election_timeout + 2 * lease)
}

/// G5: the time in which all nodes hold one view after the faults have ended. Dead connections are closed, an open dial
/// ends, and the address is dialed again. Voters that have just started wait for the others. Then they elect a master,
/// and two heartbeats later all nodes hold its view.
pub(crate) fn time_until_whole(voters: usize) -> Duration {
    let Timing { down_after, handshake_timeout, dial_backoff_max, bootstrap_wait, heartbeat_interval, .. } = timing();
    let linked = down_after + handshake_timeout + dial_backoff_max * 3 / 2;
    linked + bootstrap_wait + time_until_led(voters) + 2 * heartbeat_interval
}

impl Cluster {
    /// Creates the machines. Their nodes do not run yet.
    pub(crate) fn new(size: Size, programs: &[PathBuf], log_dir: &Path, rng: Rng) -> Self {
        let Size { machines, voters, secured } = size;
        let router = Router::start(machines, rng).expect("interfaces can be made");
        let machines: Vec<_> = (0..machines).map(|number| Machine::new(number, log_dir)).collect();
        let mut flags: Vec<_> = machines.iter().map(|machine| flags(machine, voters)).collect();
        if secured {
            secure(&machines, log_dir, &mut flags);
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

    /// Waits until a node that was commanded to leave has ended.
    pub(crate) fn wait_for_leave(&mut self, number: usize, limit: Duration) -> Result<(), String> {
        let run = self.machines[number].current_run();
        self.wait_until(limit, &format!("machine {number} has left"), |cluster| {
            cluster.ended.contains(&(number, run)).then_some(())
        })?;
        match self.machines[number].wait() {
            Some(status) if !status.success() => {
                Err(format!("machine {number} was commanded to leave, but ended with {status}"))
            }
            _ => Ok(()),
        }
    }

    /// The nodes of some machines. `None` if one of them has not reported its node yet.
    fn nodes(&self, machines: impl Iterator<Item = usize>) -> Option<Vec<&Node>> {
        machines.map(|number| self.machines[number].node()).collect()
    }

    /// The machine whose node is the master of all of these machines.
    pub(crate) fn leader(&self, machines: &[usize]) -> Option<usize> {
        let nodes = self.nodes(machines.iter().copied())?;
        let master = self.history.leader(&nodes, now())?;
        machines.iter().copied().find(|number| self.machines[*number].node() == Some(master))
    }

    /// Whether all machines are one cluster.
    pub(crate) fn is_whole(&self) -> bool {
        self.nodes(0..self.machines.len()).is_some_and(|nodes| self.history.agree(&nodes, now()))
    }

    /// Handles the output of the nodes for this time.
    pub(crate) fn run_for(&mut self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        while self.receive_one(end)? {}
        Ok(())
    }

    /// Handles the output of the nodes until `look` finds something. Returns it, and how long this took.
    pub(crate) fn wait_until<T>(
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
            if !self.receive_one(end)? {
                return Err(format!("G5: still not true after {limit:?}: {what}"));
            }
        }
    }

    /// Handles one line. Returns false when the time is up.
    fn receive_one(&mut self, end: Instant) -> Result<bool, String> {
        match self.receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(output) => self.take(output).map(|()| true),
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => unreachable!("the cluster has a sender"),
        }
    }

    fn take(&mut self, OutputLine { machine: number, run, line }: OutputLine) -> Result<(), String> {
        let machine = &mut self.machines[number];
        let is_current = machine.has_process() && machine.current_run() == run;
        let Some(line) = line else {
            if is_current && !machine.was_terminated() {
                let status = machine.wait();
                return Err(format!("the process of machine {number} ended unexpectedly: {status:?}"));
            }
            self.ended.insert((number, run));
            return Ok(());
        };
        let record: Record = match serde_json::from_str(&line) {
            Ok(record) => record,
            // The line was cut off by a kill.
            Err(_) if !is_current => return Ok(()),
            Err(error) => return Err(format!("machine {number} prints {line}: {error}")),
        };
        if is_current && matches!(record.what, What::Started {}) {
            machine.set_node(&record.node);
        }
        self.history.take(&record)
    }
}
