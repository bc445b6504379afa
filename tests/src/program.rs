//! Tests of a node program from outside: its output, its reaction to signals, and its exit code.

mod commands;
mod recording;
mod supervised;
mod voters;

use std::{
    fs,
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use crate::{send_signal, shim};

/// Far longer than any test takes. It only ends a test that would hang.
const LIMIT: Duration = Duration::from_secs(60);

/// Instantiates the tests for the program with this binary name, in the package of that binary.
#[macro_export]
macro_rules! program_tests {
    ($binary:literal) => {
        const PROGRAM: $crate::Program = $crate::Program {
            path: env!(concat!("CARGO_BIN_EXE_", $binary)),
            scratch: concat!(env!("CARGO_TARGET_TMPDIR"), "/", $binary),
        };

        #[test]
        fn sigterm_makes_a_master_leave_and_exit_with_0() {
            PROGRAM.leaves_on_sigterm();
        }

        #[test]
        fn a_taken_port_makes_it_exit_with_1() {
            PROGRAM.fails_on_a_taken_port();
        }

        #[test]
        fn wrong_flags_make_it_exit_with_2() {
            PROGRAM.rejects_wrong_flags();
        }

        #[test]
        fn the_version_and_the_lines_name_program_and_time() {
            PROGRAM.prints_for_people();
        }

        #[test]
        fn rust_log_selects_the_lines_of_the_node() {
            PROGRAM.logs_what_rust_log_selects();
        }

        #[test]
        fn a_second_signal_stops_an_unread_node_with_5() {
            PROGRAM.obeys_signals_while_unread();
        }

        #[cfg(target_os = "linux")]
        #[test]
        fn a_second_signal_stops_a_node_with_a_hung_disk() {
            PROGRAM.obeys_signals_while_the_disk_hangs();
        }

        #[test]
        fn a_node_that_leaves_in_time_exits_with_0() {
            PROGRAM.leaves_within_its_limit();
        }

        #[test]
        fn a_node_that_does_not_leave_in_time_exits_with_5() {
            PROGRAM.does_not_leave_within_its_limit();
        }

        #[test]
        fn a_closed_output_makes_it_exit_with_6() {
            PROGRAM.leaves_when_its_output_is_closed();
        }

        #[test]
        fn e10_voters_are_replaced_over_http() {
            PROGRAM.replaces_its_voters();
        }

        #[test]
        fn subcommands_ask_a_node_over_http() {
            PROGRAM.answers_over_http();
        }

        #[test]
        fn a_supervisor_is_told_of_the_node_from_start_to_end() {
            PROGRAM.tells_its_supervisor();
        }

        #[test]
        fn a_supervisor_hears_of_a_working_node_in_time() {
            PROGRAM.tells_its_supervisor_that_it_works();
        }

        #[test]
        fn a_wrong_supervisor_is_named_and_left_out() {
            PROGRAM.names_a_wrong_supervisor();
        }

        #[test]
        fn a_recorded_node_is_replayed() {
            PROGRAM.replays_what_it_has_recorded();
        }

        #[test]
        fn a_command_ends_before_its_node_leaves() {
            PROGRAM.ends_its_command_before_it_leaves();
        }

        #[test]
        fn a_node_leaves_with_the_exit_code_of_its_command() {
            PROGRAM.leaves_when_its_command_has_ended();
        }

        #[test]
        fn a_killed_node_takes_its_command_with_it() {
            PROGRAM.takes_its_command_with_it_when_it_is_killed();
        }

        #[cfg(target_os = "linux")]
        #[test]
        fn a_killed_watchdog_takes_the_command_with_it() {
            PROGRAM.takes_its_command_with_it_when_all_is_killed();
        }

        #[cfg(target_os = "linux")]
        #[test]
        fn a_stopped_node_has_no_running_command() {
            PROGRAM.ends_its_command_while_it_is_stopped();
        }

        #[test]
        fn a_renewed_lease_does_not_save_a_told_command() {
            PROGRAM.ends_a_told_command_although_the_lease_is_renewed();
        }

        #[test]
        fn a_command_runs_on_while_a_certificate_is_read() {
            PROGRAM.runs_its_command_while_a_certificate_cannot_be_read();
        }

        #[test]
        fn changed_certificates_are_read_again_without_a_signal() {
            PROGRAM.reads_changed_certificates();
        }

        #[test]
        fn a_solo_master_that_gives_way_kills_its_command() {
            PROGRAM.kills_its_command_when_it_gives_way();
        }

        #[test]
        fn wrong_flags_of_a_command_say_what_to_do() {
            PROGRAM.explains_how_to_run_a_command();
        }

        #[test]
        fn a_command_ends_when_the_lease_is_not_renewed() {
            PROGRAM.ends_its_command_when_the_lease_is_not_renewed();
        }
    };
}

/// A node program, and a directory for its files.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The executable.
    pub path: &'static str,
    /// A directory that no other program uses.
    pub scratch: &'static str,
}

impl Program {
    /// A master reports its lease, its leaving, and that it has left.
    pub fn leaves_on_sigterm(self) {
        let state_dir = self.fresh_dir("leaves");
        let address = free_address();
        let mut node = Process::start(self.command(&address).arg("--state-dir").arg(&state_dir).stdout(Stdio::piped()));
        let mut lines = node.lines();
        assert!(lines.any(|line| line.contains(r#""lease":{"term":1,"#)), "the node does not become master");
        node.terminate();
        let rest: Vec<String> = lines.collect();
        assert_eq!(node.exit_code(), Some(0));
        for line in [r#""leaving":null"#, r#""Stopped":{"reason":"Left"}"#] {
            assert!(rest.iter().any(|printed| printed.contains(line)), "{line} is missing in {rest:#?}");
        }
    }

    /// Another program already listens at the address.
    pub fn fails_on_a_taken_port(self) {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = taken.local_addr().expect("it is bound").to_string();
        let mut node = Process::start(self.command(&address).stdout(Stdio::null()).stderr(Stdio::piped()));
        let error = node.errors();
        assert_eq!(node.exit_code(), Some(1));
        assert!(error.contains(&address), "{error}");
    }

    /// The flags cannot be parsed.
    pub fn rejects_wrong_flags(self) {
        let mut node = Process::start(Command::new(self.path).arg("--nonsense").stderr(Stdio::piped()));
        let error = node.errors();
        assert_eq!(node.exit_code(), Some(2));
        assert!(error.contains("--nonsense"), "{error}");
    }

    /// The version has the name of the binary, and each line without `--json` the time, in RFC 3339, and the node.
    pub fn prints_for_people(self) {
        let version = Command::new(self.path).arg("--version").output().expect("the program starts").stdout;
        let name = Path::new(self.path).file_name().expect("a file").to_str().expect("a text");
        assert!(String::from_utf8(version).expect("a text").starts_with(&format!("{name} ")));
        let mut command = Command::new(self.path);
        command.args([
            "--cluster",
            "programs",
            "--id",
            "a",
            "--listen",
            &free_address(),
            "--single",
            "--times",
            "local",
        ]);
        let mut node = Process::start(command.stdout(Stdio::piped()));
        let mut lines = node.lines();
        let line = lines.find(|line| line.contains("is the MASTER of term 1")).expect("the node becomes master");
        node.terminate();
        let (time, rest) = line.split_once(' ').expect("the time and more");
        assert!(time.len() == "2026-01-01T00:00:00.000Z".len() && time.ends_with('Z'), "{line}");
        assert!(rest.starts_with("a "), "{line}");
        assert!(lines.any(|line| line.ends_with("stopped: it has left the cluster")), "nothing says that it has left");
    }

    /// The example for `RUST_LOG` in the help, word for word.
    pub fn logs_what_rust_log_selects(self) {
        let help = Command::new(self.path).arg("--help").output().expect("the program starts").stdout;
        let help = String::from_utf8(help).expect("a text");
        let (_, example) = help.split_once("RUST_LOG=").expect("the help names RUST_LOG");
        let example = example.split_whitespace().next().expect("an example");
        let mut command = self.command(&free_address());
        let mut node = Process::start(command.env("RUST_LOG", example).stdout(Stdio::piped()).stderr(Stdio::piped()));
        assert!(node.lines().any(|line| line.contains(r#""lease":{"term":1,"#)), "the node does not become master");
        node.terminate();
        let log = node.errors();
        assert!(log.contains("master elected"), "RUST_LOG={example} selects nothing of the node:\n{log}");
    }

    /// The output is full from the start. The node still runs and leaves, and then waits for the reader of its lines.
    pub fn obeys_signals_while_unread(self) {
        let (_reader, full) = full_output();
        let seed = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let seed_address = seed.local_addr().expect("it is bound").to_string();
        let address = free_address();
        let mut node = Process::start(self.command(&address).args(["--seed", &seed_address]).stdout(full));
        // The dial of the seed shows that the node runs.
        let (accepted, dialed) = channel();
        thread::spawn(move || accepted.send(seed.accept()));
        let (mut connection, _) = dialed.recv_timeout(LIMIT).expect("the node dials").expect("its seed accepts");
        node.terminate();
        // The node closes the connection when it has left, possibly with a reset.
        let _ = connection.read_to_end(&mut Vec::new());
        while TcpStream::connect(&address).is_ok() {
            thread::yield_now();
        }
        node.terminate();
        assert_eq!(node.exit_code(), Some(5));
    }

    /// The disk stores the start and hangs with the first vote. The node reports it, stops, and waits for its disk.
    pub fn obeys_signals_while_the_disk_hangs(self) {
        const HANGS: &str = r#"
            #include <dlfcn.h>
            #include <unistd.h>

            int fsync(int file) {
                static int calls;
                static int (*real)(int);
                if (!real) real = dlsym(RTLD_NEXT, "fsync");
                if (__atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) > 2) for (;;) pause();
                return real(file);
            }
        "#;
        let dir = self.fresh_dir("hangs");
        let state_dir = dir.join("state");
        fs::create_dir(&state_dir).expect("the directory is writable");
        let mut command = self.command(&free_address());
        command.arg("--state-dir").arg(&state_dir).env("LD_PRELOAD", shim::compile(HANGS, &dir));
        let mut node = self.leaves_while_its_disk_hangs(&mut command);
        node.terminate();
        assert_eq!(node.exit_code(), Some(5));
        // With a limit, it does not wait for the second signal.
        fs::remove_dir_all(&state_dir).and_then(|()| fs::create_dir(&state_dir)).expect("the directory is writable");
        let mut node = self.leaves_while_its_disk_hangs(command.args(["--leave-within", "100ms"]));
        assert_eq!(node.exit_code(), Some(0));
    }

    fn leaves_while_its_disk_hangs(self, command: &mut Command) -> Process {
        let mut node = Process::start(command.stdout(Stdio::piped()));
        let mut lines = node.lines();
        assert!(lines.any(|line| line.contains("PersistDelayed")), "nothing says that the disk hangs");
        node.terminate();
        assert!(lines.any(|line| line.contains(r#""Stopped":{"reason":"Left"}"#)), "the node does not leave");
        node
    }

    /// The master answers.
    pub fn leaves_within_its_limit(self) {
        let (_master, mut member, _lines) = self.master_and_member("60s");
        member.terminate();
        let errors = member.errors();
        assert!(!errors.contains("time limit"), "{errors}");
        assert_eq!(member.exit_code(), Some(0));
    }

    /// The master is stopped. Without the limit, the node would wait for it as long as for a master that has failed.
    pub fn does_not_leave_within_its_limit(self) {
        let (master, mut member, _lines) = self.master_and_member("100ms");
        send_signal(master.child.id(), "STOP");
        member.terminate();
        let errors = member.errors();
        assert!(errors.contains("the node had not left"), "{errors}");
        assert_eq!(member.exit_code(), Some(5));
    }

    /// A master, and a member that is no voter, has this limit for leaving, and goes on to print as long as its lines are read.
    fn master_and_member(self, leave_within: &str) -> (Process, Process, impl Iterator<Item = String>) {
        let (seed, address) = (free_address(), free_address());
        let master = Process::start(self.command(&seed).stdout(Stdio::null()));
        let mut member = Command::new(self.path);
        member.args(["--json", "--cluster", "programs", "--id", "b", "--listen", &address, "--seed", &seed]);
        member.args(["--leave-within", leave_within]);
        let mut member = Process::start(member.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let mut lines = member.lines();
        assert!(lines.any(|line| line.contains("ViewChanged")), "the node does not become a member");
        (master, member, lines)
    }

    /// Nothing reads the output.
    pub fn leaves_when_its_output_is_closed(self) {
        let (reader, writer) = UnixStream::pair().expect("a pair of sockets");
        drop(reader);
        let mut node = Process::start(self.command(&free_address()).stdout(OwnedFd::from(writer)));
        assert_eq!(node.exit_code(), Some(6));
    }

    /// The command for a voter at this address that prints JSON.
    fn command(self, address: &str) -> Command {
        let mut command = Command::new(self.path);
        command.args(["--json", "--cluster", "programs", "--id", "a", "--listen", address, "--single"]);
        command
    }

    fn fresh_dir(self, name: &str) -> PathBuf {
        let dir = Path::new(self.scratch).join(name);
        // An earlier run of the test may have left the directory.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("the target directory is writable");
        dir
    }
}

/// A process that ends with the test. After `LIMIT`, it is killed: its output ends, and its exit code is `None`.
struct Process {
    child: Child,
    /// Dropping it ends the watchdog.
    _watchdog: Sender<()>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn().expect("the program starts");
        let (watchdog, done) = channel::<()>();
        let id = child.id();
        thread::spawn(move || {
            if done.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                send_signal(id, "KILL");
            }
        });
        Self { child, _watchdog: watchdog }
    }

    /// The lines of the standard output until it is closed.
    fn lines(&mut self) -> impl Iterator<Item = String> + use<> {
        let output = self.child.stdout.take().expect("its output is a pipe");
        BufReader::new(output).lines().map_while(Result::ok)
    }

    /// All of the standard error until it is closed.
    fn errors(&mut self) -> String {
        let errors = self.child.stderr.take().expect("its standard error is a pipe");
        io::read_to_string(errors).expect("a text")
    }

    fn terminate(&self) {
        send_signal(self.child.id(), "TERM");
    }

    /// Waits for the end of the process.
    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().expect("a child can be waited for").code()
    }
}

/// A free address. A node needs its port in advance, because it is its own seed.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").to_string()
}

/// An output that accepts no more bytes, and its reader, which would have to make room.
fn full_output() -> (UnixStream, OwnedFd) {
    let (reader, mut writer) = UnixStream::pair().expect("a pair of sockets");
    writer.set_nonblocking(true).expect("a socket");
    let block = [0; 4096];
    for size in [block.len(), 1] {
        loop {
            match writer.write(&block[..size]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the output cannot be filled: {error}"),
            }
        }
    }
    writer.set_nonblocking(false).expect("a socket");
    (reader, writer.into())
}
