//! A command that runs only while its node is the master.
//!
//! A watchdog process starts the command and ends it, see [`watchdog`]. The node only tells the watchdog when the lease ends, so the
//! command does not outlive the lease of a node that is stopped, killed, or late.

mod watchdog;

use std::{
    env,
    error::Error,
    ffi::OsString,
    future::pending,
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    time::Duration,
};

use formation_core::LossReason;
use formation_host::{ClusterHandle, LeadershipChange, Lease};
use futures_lite::future::or;

use crate::{run::Adapter, supervisor};
pub(crate) use watchdog::{become_command, watch};

/// The hidden subcommand that becomes the watchdog.
pub(crate) const WATCHDOG: &str = "exec-watchdog";

/// The hidden subcommand that becomes the command.
pub(crate) const CHILD: &str = "exec-child";

/// How often the lease, the watchdog and the command are looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The exit code of a command that could not be started, as in a shell.
pub(crate) const NOT_STARTED: u8 = 126;
/// The same, because it does not exist.
const NOT_FOUND: u8 = 127;

/// What a node writes to the watchdog: the end of the lease, in microseconds of [`now`], or one of the two values below. The end of
/// the stream has the same meaning as `TELL`.
type Order = u64;

/// Tell the command to end.
const TELL: Order = Order::MAX;

/// Kill the command at once: its lease is void.
const KILL: Order = 0;

/// The time of a clock that all processes of this machine share, and that also runs while the machine is suspended, if there is one.
fn now() -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    #[cfg(any(target_os = "linux", target_os = "android"))]
    let time = clock_gettime(ClockId::Boottime);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let time = clock_gettime(ClockId::Monotonic);
    Duration::try_from(time).unwrap_or_default()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(TELL - 1)
}

/// The command, and how long before the end of the lease it is told to end.
#[derive(Debug)]
pub(crate) struct Exec {
    command: Vec<OsString>,
    stop_before: Duration,
}

impl Exec {
    /// Takes `exec --while-master … -- COMMAND` apart. `None`: it is another subcommand, or asks for the help.
    pub(crate) fn take(flags: &mut Vec<OsString>) -> Option<Result<Self, &'static str>> {
        if flags.get(1).is_none_or(|name| name != "exec") {
            return None;
        }
        flags.remove(1);
        let own = flags.iter().position(|flag| flag == "--").unwrap_or(flags.len());
        let mut command = flags.split_off(own).into_iter().skip(1).peekable();
        if flags.iter().any(|flag| ["--help", "-h", "--version", "-V"].iter().any(|asks| flag == asks)) {
            flags.retain(|flag| flag != "--while-master");
            return None;
        }
        if command.peek().is_none() {
            return Some(Err("exec needs a command behind --"));
        }
        let Some(condition) = flags.iter().position(|flag| flag == "--while-master") else {
            return Some(Err("exec needs --while-master: there is no other condition"));
        };
        flags.remove(condition);
        Some(Ok(Self { command: command.collect(), stop_before: Duration::ZERO }))
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
            let mut running =
                Running::start(self, node, &lease).map_err(|error| format!("cannot start a process: {error}"))?;
            if let Some(status) = running.supervise::<A>(node, &lease).await? {
                return Ok(code_of(status));
            }
        }
    }
}

/// As a shell reports it: 128 and the signal, for a process that a signal has ended.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?)).and_then(|code| u8::try_from(code).ok());
    code.unwrap_or(u8::MAX)
}

/// This program.
fn own_path() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { env::current_exe() }
}

/// The watchdog of a command. When this is dropped, it kills the command.
struct Running {
    watchdog: Child,
    orders: UnixStream,
    is_told: bool,
}

impl Running {
    fn start(exec: &Exec, node: &ClusterHandle, lease: &Lease) -> io::Result<Self> {
        let (orders, its_end) = UnixStream::pair()?;
        // A watchdog that does not read must not block the node.
        orders.set_nonblocking(true)?;
        let mut watchdog = Command::new(own_path()?);
        for name in supervisor::VARIABLES {
            watchdog.env_remove(name);
        }
        let watchdog = watchdog
            .arg(WATCHDOG)
            .arg(micros(exec.stop_before).to_string())
            .args(&exec.command)
            .env("FORMATION_TERM", lease.term().to_string())
            .env("FORMATION_NODE", node.node().id.as_str())
            .env("FORMATION_INCARNATION", node.node().incarnation.to_string())
            .env("FORMATION_CLUSTER", node.config().cluster().as_str())
            .stdin(OwnedFd::from(its_end))
            // So that what stops the group of the node does not stop the watchdog, such as Ctrl-Z.
            .process_group(0)
            .spawn()?;
        let mut running = Self { watchdog, orders, is_told: false };
        running.extend(lease);
        Ok(running)
    }

    /// Waits until the command has ended. `None`: because it was told to.
    async fn supervise<A: Adapter>(
        &mut self,
        node: &ClusterHandle,
        lease: &Lease,
    ) -> Result<Option<ExitStatus>, Box<dyn Error>> {
        let mut watch = node.watch_leadership();
        loop {
            if let Some(status) = self.watchdog.try_wait()? {
                if status.code().is_none() {
                    return Err(
                        format!("the watchdog of the command was killed ({status}); look for the command").into()
                    );
                }
                // The watchdog writes one byte when it tells the command.
                let was_told = matches!(self.orders.read(&mut [0]), Ok(1));
                return Ok((!was_told).then_some(status));
            }
            if !self.is_told && !lease.is_valid() {
                self.is_told = true;
                self.order(TELL);
            }
            let changed = async { Some(watch.changed().await) };
            let look = async {
                A::pause(LOOK).await;
                None
            };
            match or(changed, look).await {
                Some(Ok(LeadershipChange::Gained(new) | LeadershipChange::Renewed(new)))
                    if new.term() == lease.term() =>
                {
                    self.extend(&new);
                }
                // The other master acts already (E8).
                Some(Ok(LeadershipChange::Lost { reason: LossReason::GaveWay, .. })) => self.order(KILL),
                Some(Ok(_)) | None => {}
                // The node has stopped.
                Some(Err(_)) => {
                    self.order(KILL);
                    A::pause(LOOK).await;
                }
            }
        }
    }

    fn extend(&mut self, lease: &Lease) {
        // In this order: a pause between the two makes the end earlier.
        let now = now();
        let left = lease.remaining();
        if !left.is_zero() {
            self.order(micros(now + left));
        }
    }

    fn order(&mut self, order: Order) {
        // An order that does not fit in leaves the watchdog with an earlier end. `supervise` notices if the watchdog has ended.
        let _ = self.orders.write(&order.to_le_bytes());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.order(KILL);
    }
}
