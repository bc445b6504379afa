//! Tests of voters that change while node programs run (PROTOCOL.md, E10).

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use super::{Process, Program, free_address};

/// A machine: where its node listens, and its disk.
struct Machine {
    id: &'static str,
    address: String,
    http: String,
    disk: PathBuf,
}

impl Machine {
    fn new(dir: &Path, id: &'static str) -> Self {
        Self { id, address: free_address(), http: free_address(), disk: dir.join(id) }
    }
}

impl Program {
    /// One node grows to three voters. Then the first one is lost with its disk, and replaced. Then all are killed, and start again from
    /// what they have stored.
    pub fn replaces_its_voters(self) {
        let dir = self.fresh_dir("voters");
        let token = dir.join("token");
        fs::write(&token, "9f2c7d1e5a804b6c\n").expect("a file");
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|id| Machine::new(&dir, id));
        let start = |machine: &Machine, flags: &[&str]| {
            let Machine { id, address, http, disk } = machine;
            let mut command = Command::new(self.path);
            command.args(["--json", "--cluster", "programs", "--id", id, "--listen", address, "--times", "local"]);
            command.args(["--http", http, "--http-token-file"]).arg(&token).arg("--state-dir").arg(disk).args(flags);
            Process::start(command.stdout(Stdio::piped()))
        };
        let await_master = |node: &mut Process| {
            let mut lines = node.lines();
            assert!(lines.any(|line| line.contains(r#""MasterElected""#)), "a node without a master");
            // A full pipe would stop the node.
            thread::spawn(move || lines.for_each(drop));
        };
        let change = |machine: &Machine, arguments: &[&str]| {
            let mut command = Command::new(self.path);
            command.arg("voters").args(arguments).args(["--http", &machine.http, "--http-token-file"]).arg(&token);
            let Output { status, stdout, stderr } = command.output().expect("it runs");
            match status.success() {
                true => Ok(String::from_utf8_lossy(&stdout).into_owned()),
                false => Err(String::from_utf8_lossy(&stderr).into_owned()),
            }
        };
        let seed: &[&str] = &["--seed", &a.address];
        let mut first = start(&a, &["--single"]);
        await_master(&mut first);
        let mut others = [start(&b, seed), start(&c, seed)];
        others.iter_mut().for_each(await_master);
        let refused = change(&b, &["add", &b.address]).expect_err("it is not the master");
        assert!(refused.contains(&format!("only the master changes the voters: ask a at {}", a.address)), "{refused}");
        for added in [&b, &c] {
            let said = change(&a, &["add", &added.address]).expect("the master adds it");
            assert!(said.contains("the voters have changed") && said.contains(&added.address), "{said}");
        }

        first.child.kill().expect("it runs");
        first.exit_code();
        fs::remove_dir_all(&a.disk).expect("it has stored something");
        let by_contacts = [seed, &["--contact", &b.address, "--contact", &c.address]].concat();
        let mut fourth = start(&d, &by_contacts);
        await_master(&mut fourth);
        let wanted = ["set", &b.address, &c.address, &d.address];
        // One of them is the master, and the other one names it.
        let mut accepted = [&b, &c].into_iter().filter_map(|machine| Some((machine, change(machine, &wanted).ok()?)));
        let (master, said) = accepted.next().expect("the master replaces it");
        assert!(said.contains(&d.address) && !said.contains(&a.address), "{said}");
        let said = change(master, &["remove", &d.address]).expect("the master removes it");
        assert!(!said.contains(&d.address), "{said}");
        let said = change(master, &["add", &d.address]).expect("the master adds it again");
        assert!(said.contains(&d.address), "{said}");

        drop((others, fourth));
        let mut nodes = [&b, &c, &d].map(|machine| start(machine, &by_contacts));
        nodes.iter_mut().for_each(await_master);
    }
}
