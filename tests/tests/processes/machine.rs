//! A machine with a network interface, a small disk, and one node process.

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

/// The size of a disk.
const DISK: &str = "size=64k";
/// Deletes the table. The first statement creates it if it does not exist, because a missing table cannot be deleted.
const UNFILTERED: &str = "table inet fault; delete table inet fault";

pub(crate) struct Machine {
    pub(crate) number: usize,
    log_dir: PathBuf,
    process: Option<Process>,
    /// The number of processes so far.
    runs: usize,
}

struct Process {
    child: Child,
    node: Option<Node>,
    was_terminated: bool,
}

/// Removes the machine, because the next cluster uses the same names. Its logs stay.
impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
        run(&["umount", &self.disk().display().to_string()]);
        run(&["ip", "netns", "delete", &self.namespace()]);
    }
}

/// A line that a process has printed. `None` means that the process has ended.
pub(crate) struct OutputLine {
    pub(crate) machine: usize,
    pub(crate) run: usize,
    pub(crate) line: Option<String>,
}

impl Machine {
    /// Creates the machine with its disk, and connects it to the network.
    pub(crate) fn new(number: usize, log_dir: &Path) -> Self {
        let log_dir = log_dir.join(format!("{number}"));
        fs::create_dir_all(log_dir.join("disk")).expect("a directory can be created");
        let machine = Self { number, log_dir, process: None, runs: 0 };
        let (namespace, wire) = (machine.namespace(), router::interface(number));
        run(&["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", &machine.disk().display().to_string()]);
        run(&["ip", "netns", "add", &namespace]);
        run(&["ip", "link", "set", &wire, "netns", &namespace]);
        run(&["ip", "-n", &namespace, "addr", "add", &format!("{}/24", router::address(number)), "dev", &wire]);
        run(&["ip", "-n", &namespace, "link", "set", "lo", "up"]);
        run(&["ip", "-n", &namespace, "link", "set", &wire, "up"]);
        machine
    }

    fn namespace(&self) -> String {
        format!("machine{}", self.number)
    }

    fn disk(&self) -> PathBuf {
        self.log_dir.join("disk")
    }

    /// A file of the machine outside its disk.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.log_dir.join(name)
    }

    /// The state directory of its node.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.disk().join("state")
    }

    /// The node of its process, once the process has reported it.
    pub(crate) fn node(&self) -> Option<&Node> {
        self.process.as_ref()?.node.as_ref()
    }

    pub(crate) fn has_process(&self) -> bool {
        self.process.is_some()
    }

    /// The number of its current process.
    pub(crate) fn current_run(&self) -> usize {
        self.runs
    }

    pub(crate) fn set_node(&mut self, node: &Node) {
        if let Some(process) = &mut self.process {
            process.node = Some(node.clone());
        }
    }

    /// Starts the program of a node with these arguments. Its output is logged and sent to `sender`.
    pub(crate) fn start(&mut self, program: &Path, args: &[String], sender: &Sender<OutputLine>) {
        assert!(self.process.is_none(), "machine {} already runs a node", self.number);
        self.runs += 1;
        let log = |name: &str| {
            File::options().create(true).append(true).open(self.log_dir.join(name)).expect("a log can be written")
        };
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.namespace()])
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
            // A kill may cut off the last line.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = writeln!(lines, "{line}");
                let _ = sender.send(OutputLine { machine, run, line: Some(line) });
            }
            let _ = sender.send(OutputLine { machine, run, line: None });
        });
        self.process = Some(Process { child, node: None, was_terminated: false });
    }

    /// Sends SIGKILL, and waits for the end of the process.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Waits for the end of its process, if there is one.
    pub(crate) fn wait(&mut self) -> Option<ExitStatus> {
        let mut process = self.process.take()?;
        Some(process.child.wait().expect("a child can be waited for"))
    }

    /// Sends SIGSTOP.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Sends SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends SIGTERM, which makes the node leave.
    pub(crate) fn terminate(&mut self) {
        self.signal(Signal::TERM);
        if let Some(process) = &mut self.process {
            process.was_terminated = true;
        }
    }

    pub(crate) fn was_terminated(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.was_terminated)
    }

    fn signal(&self, signal: Signal) {
        let Some(process) = &self.process else { return };
        let id = i32::try_from(process.child.id()).ok().and_then(Pid::from_raw).expect("a process has an id");
        // The process may already have ended.
        let _ = kill_process(id, signal);
    }

    /// Fills the disk completely.
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

    /// Drops this percentage of the incoming packets.
    pub(crate) fn drop_incoming(&self, percent: usize) {
        self.filter(&format!("numgen random mod 100 < {percent} drop"));
    }

    /// Resets every connection that is used, including new ones.
    pub(crate) fn reset(&self) {
        self.filter("meta l4proto tcp reject with tcp reset");
    }

    fn filter(&self, rule: &str) {
        let wire = router::interface(self.number);
        let chain = format!("chain input {{ type filter hook input priority 0; iifname {wire} {rule}; }};");
        self.nft(&format!("{UNFILTERED}; table inet fault {{ {chain} }}"));
    }

    fn nft(&self, script: &str) {
        run(&["ip", "netns", "exec", &self.namespace(), "nft", script]);
    }

    /// Limits the rate of outgoing packets.
    pub(crate) fn limit_rate(&self, kbit: usize) {
        let (wire, rate) = (router::interface(self.number), format!("{kbit}kbit"));
        let limit_rate = ["root", "tbf", "rate", &rate, "burst", "4kb", "latency", "200ms"];
        run(&[&["tc", "-n", &self.namespace(), "qdisc", "replace", "dev", &wire][..], &limit_rate].concat());
    }

    /// Removes all faults from the interface.
    pub(crate) fn reset_wire(&self) {
        self.nft(UNFILTERED);
        let wire = router::interface(self.number);
        run(&["tc", "-n", &self.namespace(), "qdisc", "replace", "dev", &wire, "root", "pfifo", "limit", "1000"]);
    }
}
