//! A machine with a network interface, a small disk, and the process of one node.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::Sender,
    thread,
};

use formation_core::Node;
use rustix::process::{Pid, Signal, kill_process};

use crate::{router, sandbox::run};

/// Bytes of a disk.
const DISK: &str = "size=64k";
/// No table, whether there was one or not: it is made first, for one that is not there cannot be deleted.
const UNFILTERED: &str = "table inet fault; delete table inet fault";

pub(crate) struct Machine {
    pub(crate) number: usize,
    home: PathBuf,
    process: Option<Process>,
    /// How many processes it has had.
    runs: usize,
}

struct Process {
    child: Child,
    node: Option<Node>,
    leaves: bool,
}

/// The next cluster has machines of the same names. What it has said stays.
impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
        run(&["umount", &self.disk().display().to_string()]);
        run(&["ip", "netns", "delete", &self.space()]);
    }
}

/// Something that a process has said, or that it is no more.
pub(crate) struct Said {
    pub(crate) machine: usize,
    pub(crate) run: usize,
    pub(crate) line: Option<String>,
}

impl Machine {
    /// Connects it, and gives it a disk.
    pub(crate) fn new(number: usize, home: &Path) -> Self {
        let home = home.join(format!("{number}"));
        fs::create_dir_all(home.join("disk")).expect("there is room for a machine");
        let machine = Self { number, home, process: None, runs: 0 };
        let (space, wire) = (machine.space(), router::interface(number));
        run(&["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", &machine.disk().display().to_string()]);
        run(&["ip", "netns", "add", &space]);
        run(&["ip", "link", "set", &wire, "netns", &space]);
        run(&["ip", "-n", &space, "addr", "add", &format!("{}/24", router::address(number)), "dev", &wire]);
        run(&["ip", "-n", &space, "link", "set", "lo", "up"]);
        run(&["ip", "-n", &space, "link", "set", &wire, "up"]);
        machine
    }

    fn space(&self) -> String {
        format!("machine{}", self.number)
    }

    fn disk(&self) -> PathBuf {
        self.home.join("disk")
    }

    /// A file of its own, beside its disk.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// Where its votes are kept.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.disk().join("state")
    }

    /// The node of its process, once that has said who it is.
    pub(crate) fn node(&self) -> Option<&Node> {
        self.process.as_ref()?.node.as_ref()
    }

    pub(crate) fn has_process(&self) -> bool {
        self.process.is_some()
    }

    /// The number of the process that it has now.
    pub(crate) fn current_run(&self) -> usize {
        self.runs
    }

    pub(crate) fn is_node(&mut self, node: &Node) {
        if let Some(process) = &mut self.process {
            process.node = Some(node.clone());
        }
    }

    /// Starts the program of a node with these arguments. All that it prints is kept, and sent on.
    pub(crate) fn start(&mut self, program: &Path, args: &[String], sender: &Sender<Said>) {
        assert!(self.process.is_none(), "machine {} runs a node", self.number);
        self.runs += 1;
        let log = |name: &str| {
            File::options().create(true).append(true).open(self.home.join(name)).expect("a log can be kept")
        };
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.space()])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log("errors"))
            .spawn()
            .expect("a node can be started");
        let (machine, run, mut lines) = (self.number, self.runs, log("lines"));
        let output = child.stdout.take().expect("its output is a pipe");
        let sender = sender.clone();
        thread::spawn(move || {
            // A line may be cut in two by a kill.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = writeln!(lines, "{line}");
                let _ = sender.send(Said { machine, run, line: Some(line) });
            }
            let _ = sender.send(Said { machine, run, line: None });
        });
        self.process = Some(Process { child, node: None, leaves: false });
    }

    /// `kill -9`. Then it is no more.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Waits for the end of its process, which has to come.
    pub(crate) fn wait(&mut self) -> Option<ExitStatus> {
        let mut process = self.process.take()?;
        Some(process.child.wait().expect("a child can be waited for"))
    }

    /// SIGSTOP.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM: it is to leave.
    pub(crate) fn terminate(&mut self) {
        self.signal(Signal::TERM);
        if let Some(process) = &mut self.process {
            process.leaves = true;
        }
    }

    pub(crate) fn was_told_to_leave(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.leaves)
    }

    fn signal(&self, signal: Signal) {
        let Some(process) = &self.process else { return };
        let id = i32::try_from(process.child.id()).ok().and_then(Pid::from_raw).expect("a process has an id");
        // It may have ended by itself.
        let _ = kill_process(id, signal);
    }

    /// Leaves no room on its disk.
    pub(crate) fn fill_disk(&self) {
        let mut file = File::create(self.filler()).expect("a file can be made");
        while file.write_all(&[0; 512]).is_ok() {}
    }

    pub(crate) fn free_disk(&self) {
        let _ = fs::remove_file(self.filler());
    }

    fn filler(&self) -> PathBuf {
        self.disk().join("filler")
    }

    /// Loses so many of a hundred packets that come in.
    pub(crate) fn lose(&self, percent: usize) {
        self.filter(&format!("numgen random mod 100 < {percent} drop"));
    }

    /// Resets every connection that somebody uses, and opens none.
    pub(crate) fn reset(&self) {
        self.filter("meta l4proto tcp reject with tcp reset");
    }

    fn filter(&self, rule: &str) {
        let wire = router::interface(self.number);
        let chain = format!("chain input {{ type filter hook input priority 0; iifname {wire} {rule}; }};");
        self.nft(&format!("{UNFILTERED}; table inet fault {{ {chain} }}"));
    }

    fn nft(&self, script: &str) {
        run(&["ip", "netns", "exec", &self.space(), "nft", script]);
    }

    /// Sends no more than so many kilobits in a second.
    pub(crate) fn limit(&self, kbit: usize) {
        let (wire, rate) = (router::interface(self.number), format!("{kbit}kbit"));
        let limit = ["root", "tbf", "rate", &rate, "burst", "4kb", "latency", "200ms"];
        run(&[&["tc", "-n", &self.space(), "qdisc", "replace", "dev", &wire][..], &limit].concat());
    }

    /// A wire as it should be.
    pub(crate) fn mend_wire(&self) {
        self.nft(UNFILTERED);
        let wire = router::interface(self.number);
        run(&["tc", "-n", &self.space(), "qdisc", "replace", "dev", &wire, "root", "pfifo", "limit", "1000"]);
    }
}
