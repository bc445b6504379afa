//! The replicas of a recipe, as processes.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, PipeWriter, Write, pipe},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use formation_tests::send_signal;
use tempfile::TempDir;

/// Far longer than any test takes. It only ends a test that would hang.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The voters.
pub(crate) const VOTERS: [&str; 3] = ["a", "b", "c"];

/// A line that a replica has printed.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// The replica.
    pub(crate) id: String,
    /// The rest of the line.
    pub(crate) text: String,
}

impl Line {
    /// The words of the rest.
    pub(crate) fn words(&self) -> Vec<&str> {
        self.text.split(' ').collect()
    }

    /// The term, if the line ends with one: `runs in term 3`.
    pub(crate) fn term(&self) -> Option<u64> {
        self.text.rsplit_once("in term ").and_then(|(_, term)| term.parse().ok())
    }
}

/// The replicas of one recipe. They end with the test.
pub(crate) struct Replicas {
    program: &'static str,
    dir: TempDir,
    seeds: Vec<String>,
    running: BTreeMap<String, Child>,
    /// All replicas print to the same pipe, so the order of their lines is the order in which they were printed.
    output: PipeWriter,
    lines: Receiver<Line>,
    seen: Vec<Line>,
}

impl Drop for Replicas {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Replicas {
    /// No replica of the recipe, whose program is at this path.
    pub(crate) fn new(program: &'static str) -> Self {
        let (output, writer) = pipe().unwrap();
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let (id, text) = line.split_once(' ').unwrap_or((&line, ""));
                if sender.send(Line { id: id.into(), text: text.into() }).is_err() {
                    return;
                }
            }
        });
        let (dir, seeds) = (tempfile::tempdir().unwrap(), VOTERS.map(|_| free_address()).into());
        Self { program, dir, seeds, running: BTreeMap::new(), output: writer, lines, seen: Vec::new() }
    }

    /// A path in the directory of the test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a replica with these flags beside those that all recipes have.
    pub(crate) fn start(&mut self, id: &str, flags: &[&str]) {
        let voter = VOTERS.iter().position(|voter| *voter == id);
        let address = voter.map_or_else(free_address, |voter| self.seeds[voter].clone());
        let mut command = Command::new(self.program);
        command.args(["--id", id, "--address", &address, "--state-dir"]).arg(self.path(id)).args(flags);
        command.args(self.seeds.iter().flat_map(|seed| ["--seed", seed]));
        let child = command.stdin(Stdio::null()).stdout(self.output.try_clone().unwrap()).spawn().unwrap();
        assert!(self.running.insert(id.into(), child).is_none(), "{id} runs already");
    }

    /// Waits until the replicas print what is looked for. `what` says it.
    pub(crate) fn wait_for<T>(&mut self, what: &str, mut find: impl FnMut(&Line) -> Option<T>) -> T {
        let end = Instant::now() + LIMIT;
        loop {
            let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) else {
                let seen: Vec<_> = self.seen.iter().rev().take(50).rev().collect();
                panic!("{what} is missing; these are the last lines: {seen:#?}");
            };
            self.seen.push(line.clone());
            if let Some(found) = find(&line) {
                return found;
            }
        }
    }

    /// Waits for the next line that begins with these words.
    pub(crate) fn wait_for_words(&mut self, words: &str) -> Line {
        self.wait_for(words, |line| line.text.starts_with(words).then(|| line.clone()))
    }

    /// Reads all lines that are printed already.
    pub(crate) fn catch_up(&mut self) {
        writeln!(self.output, "test mark").unwrap();
        self.wait_for("the own mark", |line| (line.id == "test").then_some(()));
        self.seen.pop();
    }

    /// All lines so far.
    pub(crate) fn seen(&self) -> &[Line] {
        &self.seen
    }

    /// Ends a replica at once.
    pub(crate) fn kill(&mut self, id: &str) {
        let mut child = self.running.remove(id).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal, such as `TERM`. After `STOP`, the replica stands still.
    pub(crate) fn signal(&self, id: &str, name: &str) {
        send_signal(self.running[id].id(), name);
    }

    /// Waits for the end of a replica that was told to end.
    pub(crate) fn wait_for_end(&mut self, id: &str) -> ExitStatus {
        // It stays among those that end with the test until it has ended.
        let child = self.running.get_mut(id).unwrap();
        let status = poll("the end of the replica", || child.try_wait().unwrap());
        self.running.remove(id);
        status
    }
}

/// Looks again and again, until it finds something. `what` says it.
pub(crate) fn poll<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} is missing");
        thread::yield_now();
    }
}

/// Locks a store of the recipes. Their changes wait until the file is closed.
pub(crate) fn lock(store: &Path) -> File {
    let lock = File::create(store.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    lock
}

/// A free address. A voter needs its port in advance, because it is a seed.
pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
