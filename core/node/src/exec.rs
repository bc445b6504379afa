//! A command that runs only while its node is the master.

use std::{
    env,
    error::Error,
    ffi::{OsStr, OsString},
    future::pending,
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitCode, ExitStatus},
    time::Duration,
};

use formation_host::{ClusterHandle, Lease};
use rustix::process::{Pid, Signal, getppid, kill_process_group};

use crate::run::Adapter;

/// The hidden subcommand that becomes the command.
pub(crate) const CHILD: &str = "exec-child";

/// How often the lease and the command are looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The exit code of a command that could not be started, as in a shell.
pub(crate) const NOT_STARTED: u8 = 127;

/// The command, and how long before the end of the lease it is told to end.
#[derive(Debug)]
pub(crate) struct Exec {
    command: Vec<OsString>,
    stop_before: Duration,
}

impl Exec {
    /// Takes `exec --while-master … -- COMMAND` apart. `None`: it is another subcommand.
    pub(crate) fn take(flags: &mut Vec<OsString>) -> Option<Result<Self, &'static str>> {
        if flags.get(1).is_none_or(|name| name != "exec") {
            return None;
        }
        flags.remove(1);
        let Some(end) = flags.iter().position(|flag| flag == "--") else {
            return Some(Err("exec needs a command behind --"));
        };
        let command = flags.split_off(end)[1..].to_vec();
        let Some(condition) = flags.iter().position(|flag| flag == "--while-master") else {
            return Some(Err("exec needs --while-master: there is no other condition"));
        };
        flags.remove(condition);
        if command.is_empty() {
            return Some(Err("exec needs a command behind --"));
        }
        Some(Ok(Self { command, stop_before: Duration::ZERO }))
    }

    pub(crate) fn stopping_before(self, stop_before: Duration) -> Self {
        Self { stop_before, ..self }
    }

    /// Runs the command whenever this node is the master, until it ends by itself, and returns its exit code.
    pub(crate) async fn run<A: Adapter>(&self, node: &ClusterHandle) -> Result<u8, Box<dyn Error>> {
        loop {
            let Ok(lease) = node.wait_until_master().await else { return pending().await };
            // A node that is about to leave or to resign waits for the command, until the end of the lease at most.
            let Some(_guard) =
                (lease.remaining() > self.stop_before).then(|| lease.guard(Duration::ZERO).ok()).flatten()
            else {
                A::pause(LOOK).await;
                continue;
            };
            let mut running = Running::start(&self.command, node, &lease)
                .map_err(|error| format!("cannot start {}: {error}", self.command[0].display()))?;
            if let Some(status) = running.supervise::<A>(node, &lease, self.stop_before).await? {
                return Ok(code_of(status));
            }
        }
    }
}

/// As a shell reports it: 128 and the signal, for a command that a signal has ended.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?)).and_then(|code| u8::try_from(code).ok());
    code.unwrap_or(u8::MAX)
}

/// The command, and all processes of its group. They are killed when this is dropped.
struct Running {
    child: Child,
    group: Pid,
}

impl Running {
    fn start(command: &[OsString], node: &ClusterHandle, lease: &Lease) -> io::Result<Self> {
        let own = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { env::current_exe()? };
        let child = Command::new(own)
            .arg(CHILD)
            .arg(std::process::id().to_string())
            .args(command)
            .env("FORMATION_TERM", lease.term().to_string())
            .env("FORMATION_NODE", node.node().id.as_str())
            .env("FORMATION_INCARNATION", node.node().incarnation.to_string())
            .env("FORMATION_CLUSTER", node.config().cluster().as_str())
            // So that a signal reaches what the command has started, too, and none of the terminal reaches it.
            .process_group(0)
            .spawn()?;
        Ok(Self { group: Pid::from_child(&child), child })
    }

    /// Waits until the command has ended. `None`: because it was told to, before the end of the lease.
    async fn supervise<A: Adapter>(
        &mut self,
        node: &ClusterHandle,
        lease: &Lease,
        stop_before: Duration,
    ) -> io::Result<Option<ExitStatus>> {
        let (mut end, mut is_told) = (node.now(), false);
        loop {
            let left = lease.remaining();
            // When the node leaves or resigns, nothing is left at once. The command has what was left before.
            if !left.is_zero() {
                end = node.now() + left;
            }
            if let Some(status) = self.child.try_wait()? {
                return Ok((!is_told).then_some(status));
            }
            if node.now() >= end {
                self.kill()?;
                return Ok(None);
            }
            if left <= stop_before && !is_told {
                is_told = true;
                self.signal(Signal::TERM);
            }
            A::pause(LOOK.min(end.since(node.now()))).await;
        }
    }

    fn signal(&self, signal: Signal) {
        // It fails if all of them have ended.
        let _ = kill_process_group(self.group, signal);
    }

    fn kill(&mut self) -> io::Result<()> {
        self.signal(Signal::KILL);
        self.child.wait().map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Becomes the command that the arguments name, which the system kills if the node program is killed.
pub(crate) fn become_command(arguments: &[OsString]) -> ExitCode {
    let [parent, program, rest @ ..] = arguments else { return NOT_STARTED.into() };
    if let Err(error) = end_with_parent(parent) {
        eprintln!("error: {error}");
        return NOT_STARTED.into();
    }
    let error = Command::new(program).args(rest).exec();
    eprintln!("error: cannot run {}: {error}", program.display());
    NOT_STARTED.into()
}

#[cfg(target_os = "linux")]
fn end_with_parent(parent: &OsStr) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have been killed before that.
    let is_there = getppid().is_some_and(|pid| parent.to_str() == Some(&pid.to_string()));
    if is_there { Ok(()) } else { Err(io::Error::other("the node has ended")) }
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent(parent: &OsStr) -> io::Result<()> {
    let is_there = getppid().is_some_and(|pid| parent.to_str() == Some(&pid.to_string()));
    if is_there { Ok(()) } else { Err(io::Error::other("the node has ended")) }
}
