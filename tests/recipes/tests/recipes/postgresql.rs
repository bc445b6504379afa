//! The fence of the master that writes to a database, in PostgreSQL.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write, stderr},
    iter,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use formation_tests::send_signal;
use tempfile::TempDir;

use crate::replicas::{LIMIT, poll};

/// A server of the test, on a socket in its directory.
struct Server {
    bin: PathBuf,
    dir: TempDir,
    process: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        send_signal(self.process.id(), "INT");
        let _ = self.process.wait();
    }
}

impl Server {
    fn start(bin: PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let command = |program: &str| {
            let mut command = Command::new(bin.join(program));
            command.arg("-D").arg(&data).stdin(Stdio::null());
            // The server refuses to run as root.
            if id(&["-u"]) == 0 {
                let (user, group) = (id(&["-u", "nobody"]), id(&["-g", "nobody"]));
                chown(dir.path(), Some(user), Some(group)).unwrap();
                command.uid(user).gid(group);
            }
            command
        };
        let made = command("initdb").args(["--auth=trust", "--username=orders", "--no-sync"]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut server = command("postgres");
        server.arg("-k").arg(dir.path()).args(["-c", "listen_addresses=", "-c", "fsync=off"]);
        let mut process = server.stderr(Stdio::piped()).spawn().unwrap();
        let log = lines(process.stderr.take().unwrap());
        let server = Self { bin, dir, process };
        while !log.recv_timeout(LIMIT).unwrap().contains("ready to accept connections") {}
        server
    }

    fn psql(&self) -> Command {
        let mut command = Command::new(self.bin.join("psql"));
        command.args([
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--username=orders",
            "--dbname=postgres",
        ]);
        command.arg("--host").arg(self.dir.path());
        command
    }

    fn run(&self, script: &Path) {
        let output = self.psql().arg("--set=ON_ERROR_STOP=1").arg("--file").arg(script).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn connect(&self) -> Session {
        let mut command = self.psql();
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Session { process, input, output: lines(output) }
    }
}

/// A connection to the server.
struct Session {
    process: Child,
    input: ChildStdin,
    output: Receiver<String>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Session {
    fn send(&mut self, statement: &str) {
        writeln!(self.input, "{statement}\n\\echo :ERROR :LAST_ERROR_MESSAGE\n\\echo end of the answer").unwrap();
    }

    /// What the statement returns, or the error.
    fn receive(&mut self) -> Result<String, String> {
        let lines = iter::repeat_with(|| self.output.recv_timeout(LIMIT).unwrap());
        let mut lines: Vec<String> = lines.take_while(|line| line != "end of the answer").collect();
        match lines.pop().unwrap().split_once(' ').unwrap() {
            ("false", _) => Ok(lines.join("\n")),
            (_, error) => Err(error.into()),
        }
    }

    fn ask(&mut self, statement: &str) -> Result<String, String> {
        self.send(statement);
        self.receive()
    }
}

/// The lines of this output. All of them are read, so that the process never waits for a reader.
fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Nobody may look at the rest.
            let _ = sender.send(line);
        }
    });
    lines
}

/// A number of a user or a group.
fn id(flags: &[&str]) -> u32 {
    let output = Command::new("id").args(flags).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Where the programs of an installed server are. Debian has them in a directory for each version.
fn installed() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|dir| dir.path().join("bin"));
    let is_whole = |dir: &PathBuf| ["initdb", "postgres", "psql"].iter().all(|program| dir.join(program).exists());
    env::split_paths(&path).chain(debian).find(is_whole)
}

#[test]
fn postgresql_refuses_the_late_write_of_an_earlier_master() {
    let Some(bin) = installed() else {
        // Not captured, so that the run of all tests shows it.
        let _ =
            writeln!(stderr(), "\n####\n#### NO POSTGRESQL IS TESTED: there are no initdb, postgres and psql\n####");
        return;
    };
    let server = Server::start(bin);
    server.run(&Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/fence.postgresql.sql"));
    let (mut old, mut new, mut other) = (server.connect(), server.connect(), server.connect());
    // Both statements are one transaction.
    let write = |term| {
        format!("UPDATE fence SET term = {term} \\; INSERT INTO orders (term, node) VALUES ({term}, 'node of {term}');")
    };
    let cases = [
        (1, "read committed", "stale term: 1 is over, a master of term 2 has written"),
        (2, "repeatable read", "could not serialize access due to concurrent update"),
    ];
    for (term, level, error) in cases {
        old.ask(&format!("SET default_transaction_isolation = '{level}';")).unwrap();
        old.ask(&write(term)).unwrap();
        new.ask("BEGIN;").unwrap();
        new.ask(&write(term + 1)).unwrap();
        // This is late, and begins all the same before the other one is done: it waits for the lock.
        old.send(&write(term));
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock';";
        poll("the wait for the lock", || (other.ask(waiting).unwrap() != "0").then_some(()));
        new.ask("COMMIT;").unwrap();
        assert_eq!(old.receive().unwrap_err(), error, "{level}");
        // It is no better the next time.
        let stale = format!("stale term: {term} is over, a master of term {} has written", term + 1);
        assert_eq!(old.ask(&write(term)).unwrap_err(), stale);
    }
    // A client that does not ask the fence is refused, too.
    for term in [2, 4] {
        let insert = format!("INSERT INTO orders (term, node) VALUES ({term}, 'node of {term}');");
        assert_eq!(other.ask(&insert).unwrap_err(), format!("not fenced: the fence is not at term {term}"));
    }
    for statement in ["DELETE FROM fence;", "TRUNCATE fence;"] {
        assert_eq!(other.ask(statement).unwrap_err(), "the fence must not be deleted", "{statement}");
    }
    let terms = other.ask("SELECT string_agg(term::text, ' ' ORDER BY number) FROM orders;");
    assert_eq!(terms.unwrap(), "1 2 2 3");
}
