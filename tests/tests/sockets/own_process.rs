//! Runs a test in its own process, because other tests would disturb what it counts, or consume what it waits for.

use std::{env, process::Command};

use crate::adapters;

const OWN_PROCESS: &str = "FORMATION_TEST_ALONE";

/// Runs the test with this path by starting this program again, only for that test. There, smol has two threads instead
/// of one, as a service may have. The output of the test is printed again.
pub(crate) fn run(path: &str, test: impl Future<Output = ()>) {
    if env::var_os(OWN_PROCESS).is_some() {
        return adapters::run(test);
    }
    let (_, name) = path.split_once("::").unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .envs([(OWN_PROCESS, "1"), ("SMOL_THREADS", "2")])
        .output()
        .unwrap();
    let (stdout, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{stdout}");
    assert!(output.status.success() && stdout.contains("1 passed"), "{name}:\n{errors}");
}
