//! Tests of the recording of a node, and of the subcommand that shows it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use super::{Process, Program, free_address};

impl Program {
    /// A node that is killed leaves a recording, and `replay` shows it.
    pub fn replays_what_it_has_recorded(self) {
        let dir = self.fresh_dir("recording");
        let (key, recording) = (dir.join("key"), dir.join("files"));
        fs::write(&key, "the key of this cluster\n").expect("a file");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("it is ours");
        let mut node = self.command(&free_address());
        node.args(["--config"]).arg(dir.join("node.toml")).arg("--key-file").arg(&key);
        let settings = format!("record_to = {recording:?}\nrecord_file_bytes = 1000000\nrecord_files = 3\n");
        fs::write(dir.join("node.toml"), settings).expect("a file");
        let mut node = Process::start(node.stdout(Stdio::piped()));
        let mut lines = node.lines();
        assert!(lines.any(|line| line.contains(r#""lease":{"term":1,"#)), "the node does not become master");
        // Its entries are on the disk a moment later. A master on its own renews its lease again and again.
        let is_written = |dir: &Path| fs::read_dir(dir).is_ok_and(|mut files| files.any(|file| is_long(&file)));
        while !is_written(&recording) && lines.next().is_some() {}
        drop(node);

        let replay = |arguments: &[&str]| {
            let mut command = Command::new(self.path);
            command.arg("replay").arg(&recording).args(arguments).output().expect("it runs")
        };
        let key = key.to_str().expect("a text");
        let said = |arguments: &[&str]| {
            let Output { status, stdout, stderr } = replay(&[&["--key-file", key], arguments].concat());
            assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
            String::from_utf8(stdout).expect("a text")
        };
        let all = said(&[]);
        assert!(all.contains(" 1 <- tick\n") && all.contains("  -> event: "), "{all}");
        let found = said(&["--find", "masterelected"]);
        assert_eq!(found.lines().filter(|line| line.contains(" <- ")).count(), 1, "{found}");
        let number = found.split(' ').nth(1).expect("the number follows the time");
        let then = said(&["--at", number]);
        assert!(then.contains("master in term 1") && then.contains("voters, of which 1 elect a master:"), "{then}");
        assert_eq!(
            said(&["--at", "2500-01-01T00:00:00Z"]).lines().next(),
            said(&[]).lines().rfind(|it| it.contains("<-"))
        );
        assert!(said(&["--at", number, "--json"]).contains(r#""explanation":{"#));
        assert!(
            said(&["--json"])
                .lines()
                .all(|line| line.starts_with(r#"{"number":"#) && line.ends_with(r#""difference":null}"#))
        );
        let test = said(&["--find", "MasterElected", "--test"]);
        assert!(test.contains("include_bytes!(") && test.contains(&format!("step.number == {number}")), "{test}");

        let fails = |arguments: &[&str], wanted: &str| {
            let Output { status, stderr, .. } = replay(arguments);
            let stderr = String::from_utf8_lossy(&stderr).into_owned();
            assert!(status.code() == Some(1) && stderr.contains(wanted), "{arguments:?}: {status} {stderr}");
        };
        fails(&[], "the node had the cluster key with the id");
        fails(&["--key-file", key, "--at", "999999"], "there is no such input");
        fails(&["--key-file", key, "--find", "no such event", "--test"], "there is no such event");
        fails(&["--key-file", key, "--test"], "--test needs --at or --find");
        // An earlier run has an input of this number, too, until nothing of it is left.
        let older = recording.join("00000000000000000001-000000000001.recording");
        let newer = fs::read_dir(&recording).expect("a directory").next().expect("a file").expect("it is there").path();
        fs::copy(&newer, &older).expect("a file");
        fails(&["--key-file", key, "--at", number], "several runs have an input of this number");
        fs::write(&older, "").expect("a file");
        assert_eq!(said(&["--at", number]), then);
        fs::remove_file(&older).expect("it is ours");
        self.refuses_another_version(&recording, key);
    }

    fn refuses_another_version(self, recording: &Path, key: &str) {
        let file = fs::read_dir(recording).expect("a directory").next().expect("a file").expect("it is there").path();
        let mut bytes = fs::read(&file).expect("a file");
        bytes[5] = b'9';
        fs::write(&file, bytes).expect("a file");
        let mut command = Command::new(self.path);
        let output = command.arg("replay").arg(&file).args(["--key-file", key]).output().expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && stderr.contains("replay it with version 9."), "{stderr}");
    }
}

/// Whether the file has more than its first entries.
fn is_long(file: &std::io::Result<fs::DirEntry>) -> bool {
    file.as_ref().is_ok_and(|file| file.metadata().is_ok_and(|file| file.len() > 900))
}
