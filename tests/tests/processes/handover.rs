//! A job of the master in real processes. Masters leave, are paused, and are cut off, and the job of one master never runs beside that of
//! the next. The nodes run the example `fenced_job` of both adapters. Its writes go to a store on this machine, which every node reaches also
//! when it is cut off from the others.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use formation_core::{Fence, Term};
use formation_tests::Rng;

use crate::{
    cluster::{now, time_until_led, time_until_whole, timing},
    machine::Machine,
    router::{Router, address},
    sandbox::print_line,
};

const NODES: usize = 3;

/// The end of a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// SIGTERM: it ends its work, resigns and leaves.
    Leaves,
    /// SIGSTOP, and SIGCONT once another node works.
    IsPaused,
    /// No other node reaches it.
    IsCutOff,
}

/// A line that the store has received.
#[derive(Debug)]
enum Received {
    Write { term: Term, from: usize, at: u64, is_stale: bool },
    Members { count: usize, from: usize },
}

/// Serves one connection.
fn serve(connection: UnixStream, fence: &Mutex<Fence>, received: &Sender<Received>) {
    let mut answers = connection.try_clone().expect("a socket");
    // A node that is killed may leave half a line.
    for line in BufReader::new(connection).lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        let [what, number, id] = words[..] else { continue };
        let (number, from) = (number.parse().expect("a number"), id.parse().expect("the number of a machine"));
        let next = match what {
            "write" | "mark" => {
                let term = Term(number);
                // The time belongs to the decision.
                let mut fence = fence.lock().expect("no thread has panicked");
                let is_stale = fence.admit(term).is_err();
                Received::Write { term, from, at: now(), is_stale }
            }
            "members" => Received::Members { count: usize::try_from(number).expect("a small number"), from },
            other => panic!("a node sends {other}"),
        };
        if let Received::Write { is_stale, .. } = next {
            let answer = if is_stale { "stale\n" } else { "ok\n" };
            // It fails if the node has ended.
            let _ = answers.write_all(answer.as_bytes());
        }
        if received.send(next).is_err() {
            return;
        }
    }
}

fn store(path: &Path) -> Receiver<Received> {
    let listener = UnixListener::bind(path).expect("a socket can be made");
    let (sender, receiver) = channel();
    let fence = Arc::new(Mutex::new(Fence::default()));
    thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let (fence, sender) = (fence.clone(), sender.clone());
            thread::spawn(move || serve(connection, &fence, &sender));
        }
    });
    receiver
}

/// The time between the last write of a master and the first one of the next, by the end and the program of the first one.
#[derive(Default)]
struct Gaps(BTreeMap<(End, String), Vec<Duration>>);

impl fmt::Display for Gaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((end, program), gaps) in &self.0 {
            let [least, most] = [gaps.iter().min(), gaps.iter().max()].map(|gap| gap.copied().unwrap_or_default());
            writeln!(
                f,
                "{:3} masters: {end:?} ({program}); from the last write to the next master's: {least:?} to {most:?}",
                gaps.len()
            )?;
        }
        Ok(())
    }
}

struct Nodes {
    machines: Vec<Machine>,
    router: Router,
    programs: Vec<PathBuf>,
    store: PathBuf,
    received: Receiver<Received>,
    /// How many members each node sees.
    members: BTreeMap<usize, usize>,
    /// The newest write: its term, its node, and its time.
    newest: Option<(Term, usize, u64)>,
    /// Writes that came after one of a newer term, and from which node.
    stale: Vec<usize>,
}

impl Nodes {
    fn new(programs: &[PathBuf], log_dir: &Path, rng: &mut Rng) -> Self {
        fs::create_dir_all(log_dir).expect("a directory can be made");
        let router = Router::start(NODES, Rng::new(rng.draw())).expect("interfaces can be made");
        let machines = (0..NODES).map(|number| Machine::new(number, log_dir)).collect();
        let path = log_dir.join("store");
        let received = store(&path);
        Self {
            machines,
            router,
            programs: programs.into(),
            store: path,
            received,
            members: BTreeMap::new(),
            newest: None,
            stale: Vec::new(),
        }
    }

    fn program(&self, number: usize) -> &Path {
        &self.programs[number % self.programs.len()]
    }

    fn start(&mut self, number: usize) {
        let listen = |number| format!("{}:7000", address(number));
        let mut args = vec![number.to_string(), listen(number), self.store.display().to_string()];
        args.extend((0..NODES).map(listen));
        // The job prints nothing that matters here.
        let (sender, _) = channel();
        self.members.remove(&number);
        let program = self.program(number).to_owned();
        self.machines[number].start(&program, &args, &sender);
    }

    /// Handles what arrives until `look` finds something.
    fn wait_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, String> {
        let end = Instant::now() + limit;
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            match self.received.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Received::Members { count, from }) => drop(self.members.insert(from, count)),
                Ok(Received::Write { from, is_stale: true, .. }) => self.stale.push(from),
                Ok(Received::Write { term, from, at, is_stale: false }) => self.newest = Some((term, from, at)),
                Err(_) => return Err(format!("still not true after {limit:?}: {what}")),
            }
        }
    }

    fn wait_until_whole(&mut self) -> Result<(), String> {
        self.wait_until("all nodes are members, and one of them works", time_until_whole(NODES), |nodes| {
            let is_whole = nodes.members.len() == NODES && nodes.members.values().all(|count| *count == NODES);
            (is_whole && nodes.newest.is_some()).then_some(())
        })
    }

    /// The newest master, with the name of its program.
    fn master(&self) -> (Term, usize, String) {
        let (term, master, _) = self.newest.expect("a master has written");
        let program = self.program(master).file_name().expect("a program");
        (term, master, program.to_string_lossy().into_owned())
    }

    /// Ends the master in this way. Returns the time between its last write and the next master's first one.
    fn end_a_master(&mut self, end: End) -> Result<Duration, String> {
        let (term, master, _) = self.master();
        let is = |number: usize| number == master;
        let stale_before = self.stale.len();
        match end {
            End::Leaves => self.machines[master].terminate(),
            End::IsPaused => self.machines[master].stop(),
            End::IsCutOff => self.router.change(|from, to, path| path.cut |= is(from) != is(to)),
        }
        let mut last = 0;
        let limit = timing().bootstrap_wait + time_until_led(NODES);
        let next = self.wait_until(&format!("another node works, as {master} {end:?}"), limit, |nodes| {
            let (newest, _, at) = nodes.newest?;
            if newest == term {
                last = at;
            }
            (newest > term).then_some(at)
        })?;
        match end {
            End::Leaves => {
                let status = self.machines[master].wait();
                if status.is_none_or(|status| !status.success()) {
                    return Err(format!("node {master} does not leave, but ends with {status:?}"));
                }
                self.start(master);
            }
            End::IsPaused => self.machines[master].resume(),
            End::IsCutOff => self.router.change(|_, _, path| path.cut = false),
        }
        // The number that it saw last may be right again already.
        self.members.remove(&master);
        self.wait_until("the node is a member again", time_until_whole(NODES), |nodes| {
            nodes.members.contains_key(&master).then_some(())
        })?;
        self.wait_until_whole()?;
        // A process may be paused between its last look at its lease and its write. Only the fence helps then.
        let stale = &self.stale[stale_before..];
        let most = usize::from(end == End::IsPaused);
        if stale.len() > most || stale.iter().any(|from| *from != master) {
            return Err(format!("the work of two masters overlaps: late writes of {stale:?}, as {master} {end:?}"));
        }
        Ok(Duration::from_micros(next.saturating_sub(last)))
    }
}

/// Ends so many masters, one after the other.
pub(crate) fn run(programs: &[PathBuf], rounds: u64, seed: u64, log_dir: &Path) -> Result<(), String> {
    // Removes the logs of an earlier run.
    let _ = fs::remove_dir_all(log_dir);
    let mut rng = Rng::new(seed);
    let mut nodes = Nodes::new(programs, log_dir, &mut rng);
    (0..NODES).for_each(|number| nodes.start(number));
    nodes.wait_until_whole()?;
    let mut gaps = Gaps::default();
    for round in 0..rounds {
        let (_, _, program) = nodes.master();
        // The end that masters of this program have had the fewest times.
        let count = |end: &End| gaps.0.get(&(*end, program.clone())).map_or(0, Vec::len);
        let end = [End::Leaves, End::IsPaused, End::IsCutOff].into_iter().min_by_key(count).expect("there are three");
        let gap = nodes.end_a_master(end).map_err(|problem| format!("round {round}: {problem}"))?;
        gaps.0.entry((end, program)).or_default().push(gap);
    }
    print_line(&format!("{rounds} masters ended, seed {seed}; {} late writes were refused\n{gaps}", nodes.stale.len()));
    Ok(())
}
