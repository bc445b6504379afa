//! A test that has a process to itself: other tests would disturb what it counts, or take what it waits for.

use std::{env, process::Command};

use crate::adapters;

const ALONE: &str = "FORMATION_TEST_ALONE";

/// Runs the test of this path by starting this program once more, for that test only. Its smol has two threads, as a service's
/// may have, and not only one. What the test says is said again.
pub(crate) fn run(path: &str, test: impl Future<Output = ()>) {
    if env::var_os(ALONE).is_some() {
        return adapters::run(test);
    }
    let (_, name) = path.split_once("::").unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .envs([(ALONE, "1"), ("SMOL_THREADS", "2")])
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success() && said.contains("1 passed"), "{name}:\n{errors}");
}
