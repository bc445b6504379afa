//! Tests of what a node program does beside running a node: it answers questions, and runs a command while it is the master.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::{Process, Program, free_address, send_signal};

/// Says its term, and says so when it is told to end, which it obeys at once. Otherwise it ends after far longer than any test takes.
const OBEDIENT: &str = r#"trap 'echo told; exit 0' TERM; echo "term $FORMATION_TERM of $FORMATION_NODE"
    for n in $(seq 1500); do sleep 0.02; done; echo late"#;

/// Says so when it is told to end, and does not obey. `seq` would obey, so it comes first.
const DEFIANT: &str = r#"times=$(seq 1500); trap 'echo told' TERM; echo "term $FORMATION_TERM"
    for n in $times; do sleep 0.02; done; echo late"#;

/// Does not obey.
const STUBBORN: &str = r#"trap '' TERM; echo "$$ $PPID term $FORMATION_TERM"
    for n in $(seq 1500); do sleep 0.02; done; echo late"#;

impl Program {
    /// The questions that can be asked, and the answers for people and for programs.
    pub fn answers_over_http(self) {
        let dir = self.fresh_dir("http");
        let token = dir.join("token");
        fs::write(&token, "9f2c7d1e5a804b6c\n").expect("a file");
        let (address, http) = (free_address(), free_address());
        let mut node = self.command(&address);
        node.args(["--discover", "static:127.0.0.1:1", "--http", &http, "--http-token-file"]).arg(&token);
        let mut node = Process::start(node.stdout(Stdio::piped()));
        // It leaves once nobody reads its lines.
        let mut lines = node.lines();
        assert!(lines.any(|line| line.contains(r#""lease":{"term":1,"#)), "the node does not become master");
        let ask = |arguments: &[&str]| {
            let mut command = Command::new(self.path);
            command.arg(arguments[0]).args(["--http", &http]).args(&arguments[1..]).output().expect("it runs")
        };
        let said = |arguments: &[&str]| {
            let Output { status, stdout, stderr } = ask(arguments);
            assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
            String::from_utf8(stdout).expect("a text")
        };
        assert!(said(&["status"]).contains("master: a at "), "{}", said(&["status"]));
        assert!(said(&["status"]).contains("discovery: static:127.0.0.1:1: 1 address"), "{}", said(&["status"]));
        assert!(said(&["status", "--json"]).contains(r#""is_this_node":true"#));
        assert!(said(&["members"]).starts_with("NODE  STATE   ADDRESS\na     active  "), "{}", said(&["members"]));
        assert!(said(&["members", "--json"]).contains(r#""state":"Active""#));
        assert!(said(&["events"]).contains("is the MASTER of term 1"), "{}", said(&["events"]));
        assert!(said(&["events", "--json"]).contains(r#""MasterElected""#));
        assert!(said(&["explain"]).contains("voters, of which 1 elect a master:"), "{}", said(&["explain"]));
        assert!(said(&["voters"]).contains(", master\n"), "{}", said(&["voters"]));
        assert!(said(&["voters", "--json"]).contains(r#""role":"#));
        assert!(said(&["explain", "--json"]).contains(r#""quorum":1"#));

        let wrong = dir.join("wrong");
        fs::write(&wrong, "another token that is long").expect("a file");
        let wrong = wrong.to_str().expect("a text");
        let refused = ask(&["leave", "--http-token-file", wrong]);
        assert_eq!((refused.status.code(), refused.stdout), (Some(1), vec![]));
        assert!(said(&["resign", "--http-token-file", token.to_str().expect("a text")]).contains("resigned"));

        let mut follow = Command::new(self.path);
        follow.args(["events", "--follow", "--http", &http]).stdout(Stdio::piped());
        let mut follow = Process::start(&mut follow);
        let mut events = follow.lines();
        assert!(events.any(|line| line.contains("is the MASTER of term 1")));
        assert!(said(&["leave", "--http-token-file", token.to_str().expect("a text")]).contains("has left"));
        assert_eq!(node.exit_code(), Some(0));
        assert!(events.any(|line| line.contains("stopped: it has left the cluster")));
        drop(lines);
        let completions = Command::new(self.path).args(["completions", "bash"]).output().expect("it runs").stdout;
        let completions = String::from_utf8(completions).expect("a text");
        assert!(["--heartbeat-interval", "members", "--follow"].iter().all(|word| completions.contains(word)));
        let text = |arguments: &[&str]| {
            let output = Command::new(self.path).args(arguments).output().expect("it runs");
            (output.status.code(), String::from_utf8(output.stdout).expect("a text"))
        };
        let (code, page) = text(&["man"]);
        assert!(
            code == Some(0) && [".TH", "heartbeat\\-interval", "keygen"].iter().all(|word| page.contains(word)),
            "{page}"
        );
        assert!(text(&["man", "events"]).1.contains("\\-\\-follow"));
        assert_eq!(text(&["man", "nothing"]).0, Some(1));
        assert_eq!(text(&["keygen"]).1.trim_end().len(), 64);
        assert_eq!(text(&["top", "--http", &http]).0, Some(1), "it needs a terminal");
        let gone = ask(&["status"]);
        assert_eq!(gone.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&gone.stderr).contains("does not answer"));
    }

    /// A master that runs this script, with its standard output.
    fn exec(self, flags: &[&str], script: &str) -> (Process, BufReader<impl Read + use<>>) {
        self.exec_this(flags, &["sh", "-c", script])
    }

    fn exec_this(self, flags: &[&str], command: &[&str]) -> (Process, BufReader<impl Read + use<>>) {
        let mut node = Process::start(&mut self.exec_command(flags, command));
        let output = node.child.stdout.take().expect("its output is a pipe");
        (node, BufReader::new(output))
    }

    pub(super) fn exec_command(self, flags: &[&str], command: &[&str]) -> Command {
        let mut node = Command::new(self.path);
        node.args(["exec", "--while-master", "--cluster", "programs", "--id", "a", "--times", "lan"]);
        node.args(flags).arg("--").args(command).stdout(Stdio::piped()).stderr(Stdio::piped());
        node
    }

    fn exec_alone(self, script: &str) -> (Process, BufReader<impl Read + use<>>) {
        self.exec(&["--single", "--listen", &free_address()], script)
    }

    /// The command ends before the node leaves, and before the next master may begin.
    pub fn ends_its_command_before_it_leaves(self) {
        let (mut node, mut output) = self.exec_alone(OBEDIENT);
        assert_eq!(line(&mut output), "term 1 of a\n");
        node.terminate();
        assert_eq!(rest(&mut output), "told\n");
        assert_eq!(node.exit_code(), Some(0));
        // One that does not obey is killed at the end of the lease.
        let (mut node, mut output) = self.exec_alone(STUBBORN);
        let started = line(&mut output);
        let (process, _) = started.split_once(' ').expect("its process");
        node.terminate();
        assert_eq!((rest(&mut output).as_str(), node.exit_code()), ("", Some(0)));
        let errors = node.errors();
        for part in [&format!("started: process {process}, term 1"), "(SIGTERM)", "(SIGKILL)", "ended: signal: 9"] {
            assert!(errors.contains(part), "{part} is missing in {errors}");
        }
    }

    /// The node leaves, and has the exit code of the command.
    pub fn leaves_when_its_command_has_ended(self) {
        let (mut node, mut output) = self.exec_alone("echo done; exit 7");
        assert_eq!((rest(&mut output).as_str(), node.exit_code()), ("done\n", Some(7)));
        assert!(node.errors().contains("the command has ended: exit status: 7\n"));
        let (mut node, _output) = self.exec_alone("kill -KILL $$");
        assert_eq!(node.exit_code(), Some(128 + 9));
        // As a shell does it.
        for (command, code) in [("/no/such/command", 127), ("/", 126)] {
            let (mut node, _output) = self.exec_this(&["--single", "--listen", &free_address()], &[command]);
            assert_eq!(node.exit_code(), Some(code), "{command}");
        }
    }

    /// Wrong flags for a command, and the help.
    pub fn explains_how_to_run_a_command(self) {
        let needed = ["--cluster", "c", "--id", "a", "--listen", "a:1", "--single"];
        let exec = ["exec", "--while-master"];
        let (none, late) = (["--stop-before", "0s"], ["--stop-before", "5s"]);
        let command = ["--", "true"];
        for (flags, problem) in [
            (["exec"].iter().chain(&needed).chain(&command).collect::<Vec<_>>(), "--while-master"),
            (exec.iter().chain(&needed).collect(), "behind --"),
            (exec.iter().chain(&needed).chain(&none).chain(&command).collect(), "at least 50ms"),
            (exec.iter().chain(&needed).chain(&late).chain(&command).collect(), "at most 491ms"),
            (needed.iter().chain(&late).collect(), "no effect without exec"),
        ] {
            let mut refused = Process::start(Command::new(self.path).args(flags).stderr(Stdio::piped()));
            let errors = refused.errors();
            assert!(errors.contains(problem), "{problem} is missing in {errors}");
            assert_eq!(refused.exit_code(), Some(2), "{errors}");
        }
        let help = Command::new(self.path).args(exec).arg("--help").output().expect("it runs");
        assert!(help.status.success());
        assert!(String::from_utf8_lossy(&help.stdout).contains("--stop-before"));
        // Behind --, it is a flag of the command.
        let (mut node, mut output) =
            self.exec_this(&["--single", "--listen", &free_address()], &["echo", "--help", "--", "-h"]);
        assert_eq!((rest(&mut output).as_str(), node.exit_code()), ("--help -- -h\n", Some(0)));
    }

    /// The watchdog of the command notices it.
    pub fn takes_its_command_with_it_when_it_is_killed(self) {
        for (command, last) in [(OBEDIENT, "told\n"), (STUBBORN, "")] {
            let (mut node, mut output) = self.exec_alone(command);
            assert!(line(&mut output).contains("term 1"));
            send_signal(node.child.id(), "KILL");
            assert_eq!((rest(&mut output).as_str(), node.exit_code()), (last, None));
        }
    }

    /// Only Linux can do this: the watchdog is killed, too.
    pub fn takes_its_command_with_it_when_all_is_killed(self) {
        let (mut node, mut output) = self
            .exec_alone("trap '' TERM; echo $PPID; n=0; while [ $n -lt 5000000 ]; do n=$((n + 1)); done; echo late");
        let watchdog = line(&mut output).trim().parse().expect("a process");
        for process in [node.child.id(), watchdog] {
            send_signal(process, "KILL");
        }
        assert_eq!((rest(&mut output).as_str(), node.exit_code()), ("", None));
    }

    /// A stopped node does not notice that its lease ends.
    pub fn ends_its_command_while_it_is_stopped(self) {
        let (mut node, mut output) = self.exec_alone(STUBBORN);
        let started = line(&mut output);
        let (process, watchdog) = started.split_once(' ').expect("its process");
        let (watchdog, _) = watchdog.split_once(' ').expect("its parent");
        // A supervisor may send it to all processes of a service.
        send_signal(watchdog.parse().expect("a process"), "TERM");
        send_signal(node.child.id(), "STOP");
        while Path::new("/proc").join(process).exists() {
            thread::yield_now();
        }
        let state = fs::read_to_string(format!("/proc/{}/stat", node.child.id())).expect("it has not ended");
        assert!(state.contains(") T "), "the node does not stand still: {state}");
        // It goes on as a master of the same or of a newer term.
        send_signal(node.child.id(), "CONT");
        assert!(line(&mut output).contains(" term "));
        node.terminate();
        assert_eq!((rest(&mut output).as_str(), node.exit_code()), ("", Some(0)));
    }

    /// Another voter, which runs no command.
    fn voter(self, id: &str, listen: &str, seeds: &[&str]) -> Process {
        let mut voter = self.voter_command(id, listen, seeds);
        Process::start(voter.stdout(Stdio::null()).stderr(Stdio::null()))
    }

    pub(super) fn voter_command(self, id: &str, listen: &str, seeds: &[&str]) -> Command {
        let mut voter = Command::new(self.path);
        voter.args(["--cluster", "programs", "--id", id, "--times", "lan", "--listen", listen]).args(seeds);
        voter
    }

    /// The command of a master that is cut off is told before the lease ends, and begins again in a newer term.
    pub fn ends_its_command_when_the_lease_is_not_renewed(self) {
        let [first, second] = [free_address(), free_address()];
        let seeds = ["--seed", &first, "--seed", &second];
        let voter = self.voter("b", &second, &seeds);
        let flags = [&seeds[..], &["--priority", "9", "--listen", &first]].concat();
        let (mut node, mut output) = self.exec(&flags, OBEDIENT);
        assert!(line(&mut output).starts_with("term "));
        drop(voter);
        assert_eq!(line(&mut output), "told\n");
        let _again = self.voter("b", &second, &seeds);
        assert!(line(&mut output).starts_with("term "));
        node.terminate();
        assert_eq!((rest(&mut output).as_str(), node.exit_code()), ("told\n", Some(0)));
    }

    /// The other voter answers again after the command was told. The command has to end all the same, and begins again.
    pub fn ends_a_told_command_although_the_lease_is_renewed(self) {
        let [first, second] = [free_address(), free_address()];
        let seeds = ["--seed", &first, "--seed", &second];
        let voter = self.voter("b", &second, &seeds);
        let flags = [&seeds[..], &["--priority", "9", "--listen", &first]].concat();
        let (mut node, mut output) = self.exec(&flags, DEFIANT);
        assert!(line(&mut output).starts_with("term "));
        send_signal(voter.child.id(), "STOP");
        assert_eq!(line(&mut output), "told\n");
        send_signal(voter.child.id(), "CONT");
        assert!(line(&mut output).starts_with("term "));
        node.terminate();
        assert_eq!((rest(&mut output).as_str(), node.exit_code()), ("told\n", Some(0)));
    }

    /// SIGHUP makes the node read a certificate from a disk that does not answer. The node and its command go on.
    pub fn runs_its_command_while_a_certificate_cannot_be_read(self) {
        let dir = self.fresh_dir("certificates");
        let (certificate, tls) = certificate_in(&dir);
        let pipe = dir.join("pipe");
        let made = Command::new("mkfifo").arg(&pipe).status().expect("it runs");
        assert!(made.success());
        let address = free_address();
        let mut flags: Vec<&str> = tls.iter().map(String::as_str).collect();
        flags.extend(["--single", "--listen", &address]);
        let (mut node, mut output) = self.exec(&flags, OBEDIENT);
        assert_eq!(line(&mut output), "term 1 of a\n");
        fs::rename(&pipe, &certificate).expect("a file");
        send_signal(node.child.id(), "HUP");
        // Done when the node reads it.
        let _writer = File::options().write(true).open(certificate).expect("a pipe");
        node.terminate();
        assert_eq!((rest(&mut output).as_str(), node.exit_code()), ("told\n", Some(0)));
    }

    /// Files that have changed are read without a signal. Wrong ones change nothing.
    pub fn reads_changed_certificates(self) {
        let dir = self.fresh_dir("changed-certificates");
        let (certificate, tls) = certificate_in(&dir);
        let mut command = self.command(&free_address());
        command.args(&tls).args(["--tls-reload-every", "10ms"]);
        let mut node = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        // It leaves once nobody reads its lines.
        let mut lines = node.lines();
        assert!(lines.any(|line| line.contains(r#""lease":{"term":1,"#)), "the node does not become master");
        fs::write(&certificate, "no certificate").expect("a file");
        let errors = BufReader::new(node.child.stderr.take().expect("a pipe")).lines();
        let mut errors = errors.map_while(Result::ok);
        assert!(errors.any(|line| line.contains("the certificates stay as they were")), "the file is not read again");
        node.terminate();
        assert_eq!(node.exit_code(), Some(0));
    }

    /// A solo master gives way to the master of a quorum (E8), which acts already.
    pub fn kills_its_command_when_it_gives_way(self) {
        let addresses = [free_address(), free_address(), free_address()];
        let seeds: Vec<&str> = addresses.iter().flat_map(|address| ["--seed", address]).collect();
        let flags = [&seeds[..], &["--solo-after", "3s", "--listen", &addresses[0]]].concat();
        let (mut node, mut output) = self.exec(&flags, STUBBORN);
        assert!(line(&mut output).contains(" term "));
        let _voters = [self.voter("b", &addresses[1], &seeds), self.voter("c", &addresses[2], &seeds)];
        // Without a reader of its lines, the node would leave.
        let mut errors = BufReader::new(node.child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let killed = errors.find(|line| line.contains("(SIGKILL)"));
        assert!(killed.expect("it is killed").contains("the node gives its lease up"));
        node.terminate();
        assert_eq!((rest(&mut output).as_str(), node.exit_code()), ("", Some(0)));
    }
}

/// Writes a certificate of its own authority, and returns its path and the flags for it.
fn certificate_in(dir: &Path) -> (PathBuf, [String; 6]) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (dir.join("certificate"), dir.join("key"));
    fs::write(&certificate, cert.pem()).and_then(|()| fs::write(&key, signing_key.serialize_pem())).expect("files");
    let (path, key) = (certificate.display().to_string(), key.display().to_string());
    let flags = ["--tls-authority", &path, "--tls-certificate", &path, "--tls-key", &key].map(str::to_owned);
    (certificate, flags)
}

fn line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).expect("a text");
    line
}

fn rest(output: &mut impl BufRead) -> String {
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("a text");
    rest
}
