//! The watchdog: a process between a node and its command. It knows the end of the lease, and ends the command in time, whatever
//! happens to the node.
//!
//! It does nothing but wait for orders with a time limit, and look at the command. It is in a process group of its own, and the command
//! in another one, which is signalled as a whole.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, ErrorKind, Read, Write, stderr},
    os::{
        fd::AsFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc::{SyncSender, sync_channel},
    thread::{self, JoinHandle, sleep},
    time::{Duration, SystemTime},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, getppid, kill_process_group},
};

use super::{CHILD, KILL, LOOK, NOT_FOUND, NOT_STARTED, TELL, code_of, micros, now, own_path};

/// How many lines wait for a slow reader. Further lines are dropped.
const LINES: usize = 64;

/// How long the watchdog waits at its end until its lines are read.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Runs the command of the arguments under orders from the standard input, and returns its exit code.
pub(crate) fn watch(arguments: &[OsString]) -> ExitCode {
    let log = match Log::start() {
        Ok(log) => log,
        Err(error) => {
            eprintln!("error: cannot start a thread: {error}");
            return NOT_STARTED.into();
        }
    };
    let code = Watchdog::new(arguments).and_then(|watchdog| watchdog.run(&arguments[1..], &log));
    let code = code.unwrap_or_else(|error| {
        log.line(&format!("error: the command does not run: {error}"));
        NOT_STARTED
    });
    log.finish();
    code.into()
}

struct Watchdog {
    orders: UnixStream,
    stop_before: u64,
    /// The end of the lease, in microseconds. Once the command is told, it only moves to an earlier time.
    end: u64,
    /// The command has to be told at once: the node says so, or is gone.
    must_tell: bool,
    is_gone: bool,
    /// The lease is not valid until its end.
    is_void: bool,
    is_told: bool,
}

impl Watchdog {
    fn new(arguments: &[OsString]) -> io::Result<Self> {
        let stop_before = arguments.first().and_then(|argument| argument.to_str()?.parse().ok());
        let stop_before = stop_before.ok_or_else(|| io::Error::other("this subcommand is for the node program"))?;
        let orders = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        orders.set_read_timeout(Some(LOOK))?;
        Ok(Self { orders, stop_before, end: 0, must_tell: false, is_gone: false, is_void: false, is_told: false })
    }

    fn run(mut self, command: &[OsString], log: &Log) -> io::Result<u8> {
        while self.end == 0 && !self.must_tell {
            self.listen();
        }
        if self.is_due() {
            self.is_told = true;
            self.report_told();
            return Ok(0);
        }
        let mut group = Group::start(command)?;
        let term = env::var("FORMATION_TERM").unwrap_or_default();
        log.line(&format!("the command has started: process {}, term {term}", group.child.id()));
        let mut is_killed = false;
        loop {
            if let Some(status) = group.child.try_wait()? {
                log.line(&format!("the command has ended: {status}"));
                return Ok(code_of(status));
            }
            self.listen();
            if self.is_due() && !self.is_told {
                self.is_told = true;
                self.report_told();
                group.signal(Signal::TERM, log);
                let left = Duration::from_micros(self.end.saturating_sub(micros(now())));
                let reason =
                    if self.is_gone { "the node is gone" } else { "this node may not act as the master for long" };
                log.line(&format!("the command is told to end (SIGTERM), with {left:?} left: {reason}"));
            }
            if self.is_told && micros(now()) >= self.end {
                group.signal(Signal::KILL, log);
                if !is_killed {
                    is_killed = true;
                    let reason = if self.is_void { "the node gives its lease up" } else { "the lease ends" };
                    log.line(&format!("the command has to be killed (SIGKILL): {reason}"));
                }
            }
        }
    }

    /// Whether the command has to be told to end.
    fn is_due(&self) -> bool {
        self.must_tell || micros(now()).saturating_add(self.stop_before) >= self.end
    }

    /// Waits for an order, not for long.
    fn listen(&mut self) {
        if self.is_gone {
            return sleep(LOOK);
        }
        let mut order = [0; 8];
        match self.orders.read(&mut order) {
            Ok(8) => match u64::from_le_bytes(order) {
                TELL => self.must_tell = true,
                KILL => (self.end, self.must_tell, self.is_void) = (0, true, true),
                end if self.is_told || self.must_tell => self.end = self.end.min(end),
                end => self.end = end,
            },
            Err(error)
                if [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted].contains(&error.kind()) => {}
            // The node has been killed. Its lease runs until the end that it has written last: nobody else begins before that.
            Ok(_) | Err(_) => (self.is_gone, self.must_tell) = (true, true),
        }
    }

    /// Tells the node that the command does not end by itself.
    fn report_told(&mut self) {
        // It fails if the node is gone.
        let _ = self.orders.write(&[1]);
    }
}

/// The command, and all processes of its group. They are killed when this is dropped.
struct Group {
    child: Child,
    id: Pid,
    /// The last signal was not permitted, and that was said.
    is_refused: bool,
}

impl Group {
    fn start(command: &[OsString]) -> io::Result<Self> {
        let child = Command::new(own_path()?)
            .arg(CHILD)
            .arg(std::process::id().to_string())
            .args(command)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { id: Pid::from_child(&child), child, is_refused: false })
    }

    fn signal(&mut self, signal: Signal, log: &Log) {
        match kill_process_group(self.id, signal) {
            // All of them have ended.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) if !self.is_refused => {
                self.is_refused = true;
                log.line(&format!(
                    "error: cannot end the command: {error}; end it by hand, and run the node as root or as the user that \
                     the command runs as"
                ));
            }
            Err(_) => {}
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(self.id, Signal::KILL);
    }
}

/// Prints on a thread of its own, so that a slow reader never delays a signal.
struct Log {
    node: String,
    lines: SyncSender<String>,
    printer: JoinHandle<()>,
}

impl Log {
    fn start() -> io::Result<Self> {
        let (lines, to_print) = sync_channel::<String>(LINES);
        let printer = thread::Builder::new().spawn(move || {
            for line in to_print {
                // It fails if nobody reads it.
                let _ = writeln!(stderr(), "{line}");
            }
        })?;
        Ok(Self { node: env::var("FORMATION_NODE").unwrap_or_default(), lines, printer })
    }

    fn line(&self, text: &str) {
        let wall = humantime::format_rfc3339_millis(SystemTime::now());
        let _ = self.lines.try_send(format!("{wall} {} {text}", self.node));
    }

    /// Waits for the last line, but not for ever.
    fn finish(self) {
        drop(self.lines);
        let end = now() + LAST_LINES;
        while !self.printer.is_finished() && now() < end {
            sleep(LOOK);
        }
    }
}

/// Becomes the command that the arguments name, which Linux kills if the watchdog is killed.
pub(crate) fn become_command(arguments: &[OsString]) -> ExitCode {
    let [parent, program, rest @ ..] = arguments else { return NOT_STARTED.into() };
    if let Err(error) = end_with_parent(parent) {
        eprintln!("error: {error}");
        return NOT_STARTED.into();
    }
    let error = Command::new(program).args(rest).exec();
    eprintln!("error: cannot run {}: {error}", program.display());
    if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_STARTED }.into()
}

fn end_with_parent(parent: &OsStr) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have been killed before that.
    let is_there = getppid().is_some_and(|pid| parent.to_str() == Some(&pid.as_raw_nonzero().to_string()));
    if is_there { Ok(()) } else { Err(io::Error::other("the watchdog has ended")) }
}
