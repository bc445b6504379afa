//! Tests of what a node program does beside running a node: it answers questions, and runs a command while it is the master.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Output, Stdio},
};

use super::{Process, Program, free_address, send_signal};

/// Says its term, and says so when it is told to end, which it obeys at once. Otherwise it ends after far longer than any test takes.
const OBEDIENT: &str = r#"trap 'echo told; exit 0' TERM; echo "term $FORMATION_TERM of $FORMATION_NODE"
    for n in $(seq 1500); do sleep 0.02; done; echo late"#;

/// Does not obey.
const STUBBORN: &str = r#"trap '' TERM; echo "term $FORMATION_TERM"
    for n in $(seq 1500); do sleep 0.02; done; echo late"#;

impl Program {
    /// The questions that can be asked, and the answers for people and for programs.
    pub fn answers_over_http(self) {
        let dir = self.fresh_dir("http");
        let token = dir.join("token");
        fs::write(&token, "9f2c7d1e5a804b6c\n").expect("a file");
        let (address, http) = (free_address(), free_address());
        let mut node = self.command(&address);
        node.args(["--http", &http, "--http-token-file"]).arg(&token);
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
        assert!(said(&["status", "--json"]).contains(r#""is_this_node":true"#));
        assert!(said(&["members"]).starts_with("NODE  STATE   ADDRESS\na     active  "), "{}", said(&["members"]));
        assert!(said(&["members", "--json"]).contains(r#""state":"Active""#));
        assert!(said(&["events"]).contains("is the MASTER of term 1"), "{}", said(&["events"]));
        assert!(said(&["events", "--json"]).contains(r#""MasterElected""#));
        assert!(said(&["explain"]).contains("voters, of which 1 elect a master:"), "{}", said(&["explain"]));
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
        let gone = ask(&["status"]);
        assert_eq!(gone.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&gone.stderr).contains("does not answer"));
    }

    /// A master that runs this script, with its standard output.
    fn exec(self, flags: &[&str], script: &str) -> (Process, BufReader<impl Read + use<>>) {
        let mut node = Command::new(self.path);
        node.args(["exec", "--while-master", "--cluster", "programs", "--id", "a", "--times", "lan"]);
        node.args(flags).args(["--", "sh", "-c", script]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut node = Process::start(&mut node);
        let output = node.child.stdout.take().expect("its output is a pipe");
        (node, BufReader::new(output))
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
        assert_eq!(line(&mut output), "term 1\n");
        node.terminate();
        assert_eq!((rest(&mut output).as_str(), node.exit_code()), ("", Some(0)));
    }

    /// The node leaves, and has the exit code of the command.
    pub fn leaves_when_its_command_has_ended(self) {
        let (mut node, mut output) = self.exec_alone("echo done; exit 7");
        assert_eq!((rest(&mut output).as_str(), node.exit_code()), ("done\n", Some(7)));
        let (mut node, _output) = self.exec_alone("kill -KILL $$");
        assert_eq!(node.exit_code(), Some(128 + 9));
        let mut missing = Command::new(self.path);
        missing.args(["exec", "--cluster", "c", "--", "true"]).stderr(Stdio::piped());
        let mut missing = Process::start(&mut missing);
        assert!(missing.errors().contains("--while-master"));
        assert_eq!(missing.exit_code(), Some(2));
    }

    /// Nobody is there to end the command but the system.
    pub fn takes_its_command_with_it_when_it_is_killed(self) {
        let (mut node, mut output) =
            self.exec_alone("echo $$; n=0; while [ $n -lt 5000000 ]; do n=$((n + 1)); done; echo late");
        let pid = line(&mut output);
        assert!(Path::new("/proc").join(pid.trim()).exists());
        send_signal(node.child.id(), "KILL");
        // The command has the other end of the pipe, and no child that has it, too.
        assert_eq!((rest(&mut output).as_str(), node.exit_code()), ("", None));
    }

    /// The command of a master that is cut off is told before the lease ends, and begins again in a newer term.
    pub fn ends_its_command_when_the_lease_is_not_renewed(self) {
        let [first, second] = [free_address(), free_address()];
        let seeds = ["--seed", &first, "--seed", &second];
        let other = || {
            let mut other = Command::new(self.path);
            other.args(["--cluster", "programs", "--id", "b", "--times", "lan", "--listen", &second]).args(seeds);
            Process::start(other.stdout(Stdio::null()).stderr(Stdio::null()))
        };
        let voter = other();
        let flags = [&seeds[..], &["--priority", "9", "--listen", &first]].concat();
        let (mut node, mut output) = self.exec(&flags, OBEDIENT);
        assert!(line(&mut output).starts_with("term "));
        drop(voter);
        assert_eq!(line(&mut output), "told\n");
        let _again = other();
        assert!(line(&mut output).starts_with("term "));
        node.terminate();
        assert_eq!((rest(&mut output).as_str(), node.exit_code()), ("told\n", Some(0)));
    }
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
