//! Tests with functions of the C library that behave badly, in processes of their own.

use std::{env, process::Command};

/// Whether the functions of this C source are in place of those of the C library. If they are not, this starts the same test
/// once more, with them and with these variables of the environment. The test has to run in a process of its own.
pub(crate) fn is_preloaded(source: &str, variables: &[(&str, &str)]) -> bool {
    if env::var_os("LD_PRELOAD").is_some() {
        return true;
    }
    let dir = tempfile::tempdir().unwrap();
    let library = formation_tests::shim::compile(source, dir.path());
    let mut again = Command::new(env::current_exe().unwrap());
    again.args(env::args().skip(1)).env("LD_PRELOAD", library).envs(variables.iter().copied());
    let output = again.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    false
}
