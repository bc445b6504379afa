//! What the service manager is told, as `sd_notify` does it: that the node is ready, what it is doing, that it works, and that it ends.
//!
//! systemd names the socket for this in `NOTIFY_SOCKET` (`Type=notify`), and the period of its watchdog in `WATCHDOG_USEC`
//! (`WatchdogSec=`). Without the first one, nothing is told.

#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::{
    cell::RefCell,
    env,
    ffi::OsStr,
    future::pending,
    io,
    os::unix::{
        ffi::OsStrExt,
        net::{SocketAddr, UnixDatagram},
    },
    process,
    time::{Duration, Instant},
};

use formation_core::Phase;
use formation_host::{ClusterHandle, Snapshot};

use crate::run::Adapter;

/// The variables of the service manager. They are for this process, and not for the command of `exec`.
pub(crate) const VARIABLES: [&str; 3] = [SOCKET, PERIOD, PROCESS];

const SOCKET: &str = "NOTIFY_SOCKET";
const PERIOD: &str = "WATCHDOG_USEC";
const PROCESS: &str = "WATCHDOG_PID";

/// How often the node is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// How long a status is, at most, in characters.
const STATUS: usize = 400;

/// The service manager, if there is one.
pub(crate) struct Supervisor {
    socket: Option<UnixDatagram>,
    /// How often it wants to be told that the node works.
    alive_every: Option<Duration>,
    told: RefCell<Told>,
}

/// What it knows about the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    /// The node was a member once. It stays true.
    is_ready: bool,
    is_stopping: bool,
    status: String,
}

impl Supervisor {
    /// The one that the environment names. What it names wrongly is logged, and left out.
    pub(crate) fn of_the_process() -> Self {
        let socket = env::var_os(SOCKET).and_then(|name| {
            let problem = |error: &io::Error| {
                tracing::warn!(target: "formation", %error, ?name, "{SOCKET} is no socket that can be used; nothing is told to it");
            };
            connect(&name).inspect_err(problem).ok()
        });
        let period = env::var(PERIOD).ok().filter(|_| socket.is_some() && is_own(env::var(PROCESS).ok().as_deref()));
        let alive_every = period.and_then(|period| match period.parse() {
            Ok(micros) if micros > 0 => Some(Duration::from_micros(micros) / 2),
            _ => {
                tracing::warn!(target: "formation", period, "{PERIOD} is no number of microseconds; the watchdog is told nothing");
                None
            }
        });
        Self { socket, alive_every, told: RefCell::default() }
    }

    /// Tells it about the node from now on, and never ends. The node works as long as its driver answers a question and this future
    /// runs.
    ///
    /// Cancel safe: what was not told yet is told by the next [`look`](Self::look).
    pub(crate) async fn follow<A: Adapter, T>(&self, node: &ClusterHandle) -> T {
        if self.socket.is_none() {
            return pending().await;
        }
        let mut alive = Instant::now();
        loop {
            self.look(node).await;
            // The socket may be full. Then the next round is in time.
            if self.alive_every.is_some_and(|every| alive.elapsed() >= every)
                && node.explain().await.is_ok()
                && self.send("WATCHDOG=1\n").is_ok()
            {
                alive = Instant::now();
            }
            A::pause(self.alive_every.map_or(LOOK, |every| LOOK.min(every / 2))).await;
        }
    }

    /// Tells it what has changed. What it does not take is told the next time.
    pub(crate) async fn look(&self, node: &ClusterHandle) {
        if self.socket.is_none() {
            return;
        }
        let snapshot = node.snapshot();
        let is_stopping = matches!(snapshot.status.phase, Phase::Leaving | Phase::Stopped);
        let why = match snapshot.master() {
            None if !is_stopping => node.explain().await.ok().and_then(|it| it.no_master).map(|why| why.to_string()),
            Some(_) | None => None,
        };
        let before = self.told.borrow().clone();
        let now = before.after(node, &snapshot, is_stopping, why);
        if self.send(&before.difference(&now)).is_ok() {
            self.told.replace(now);
        }
    }

    /// Sends lines, if there are any.
    fn send(&self, lines: &str) -> io::Result<()> {
        match &self.socket {
            Some(socket) if !lines.is_empty() => socket.send(lines.as_bytes()).map(drop),
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether the watchdog waits for this process, and not for its parent.
fn is_own(process: Option<&str>) -> bool {
    process.is_none_or(|id| id.parse() == Ok(process::id()))
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A service manager that does not read must not block the node.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Told {
    fn after(&self, node: &ClusterHandle, snapshot: &Snapshot, is_stopping: bool, why: Option<String>) -> Self {
        let (own, phase, members) = (node.node(), snapshot.status.phase, snapshot.view.len());
        let is_member = snapshot.view.get(&own.id).is_some_and(|member| member.node == *own);
        let status = match snapshot.master() {
            _ if is_stopping => format!("this node is {phase}"),
            Some(master) if master.node == *own => format!("{phase} of term {}, members: {members}", master.term),
            Some(master) => format!("follows {}, master of term {}, members: {members}", master.node.id, master.term),
            None => why.map_or("no master".to_owned(), |why| format!("no master: {why}")),
        };
        Self { is_ready: self.is_ready || (is_member && !is_stopping), is_stopping, status: on_one_line(&status) }
    }

    /// The lines that lead from this to `now`.
    fn difference(&self, now: &Self) -> String {
        let mut lines = String::new();
        if now.is_ready && !self.is_ready {
            lines.push_str("READY=1\n");
        }
        if now.is_stopping && !self.is_stopping {
            lines.push_str("STOPPING=1\n");
        }
        if now.status != self.status {
            lines.push_str(&format!("STATUS={}\n", now.status));
        }
        lines
    }
}

/// A peer chooses its id, so the text may have anything in it and be of any length.
fn on_one_line(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { ' ' } else { it }).take(STATUS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(is_ready: bool, is_stopping: bool, status: &str) -> Told {
        Told { is_ready, is_stopping, status: status.to_owned() }
    }

    #[test]
    fn a_supervisor_is_told_what_is_new_only() {
        let joins = told(false, false, "no master");
        let (ready, ends) = (told(true, false, "master"), told(true, true, "leaving"));
        assert_eq!(Told::default().difference(&joins), "STATUS=no master\n");
        assert_eq!(joins.difference(&ready), "READY=1\nSTATUS=master\n");
        assert_eq!(ready.difference(&ready), "");
        assert_eq!(ready.difference(&ends), "STOPPING=1\nSTATUS=leaving\n");
    }

    #[test]
    fn a_status_is_one_line_of_limited_length() {
        assert_eq!(on_one_line("a\nREADY=1\r\u{7f}b"), "a READY=1  b");
        assert_eq!(on_one_line(&"€".repeat(STATUS + 1)), "€".repeat(STATUS));
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_told() {
        assert!(is_own(None) && is_own(Some(&process::id().to_string())));
        assert!(!is_own(Some("1")) && !is_own(Some("nonsense")));
    }

    #[test]
    fn a_name_that_is_no_socket_is_an_error() {
        for name in ["", "no/such/socket", "/no/such/socket", "vsock:2:1234", "@formation no such socket"] {
            assert!(connect(OsStr::new(name)).is_err(), "{name}");
        }
    }
}
