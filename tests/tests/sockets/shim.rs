//! A function of the C library that behaves badly, in a process of its own.

use std::{env, fs, process::Command};

/// Whether the functions of this C source are in place of those of the C library. If they are not, this starts the same test
/// once more, with them and with these variables of the environment. The test has to run in a process of its own.
pub(crate) fn is_preloaded(source: &str, variables: &[(&str, &str)]) -> bool {
    if env::var_os("LD_PRELOAD").is_some() {
        return true;
    }
    let dir = tempfile::tempdir().unwrap();
    let (code, library) = (dir.path().join("shim.c"), dir.path().join("shim.so"));
    fs::write(&code, format!("#define _GNU_SOURCE\n{source}")).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&code).arg("-ldl");
    assert!(compiler.status().unwrap().success(), "the C compiler fails");
    let mut again = Command::new(env::current_exe().unwrap());
    again.args(env::args().skip(1)).env("LD_PRELOAD", &library).envs(variables.iter().copied());
    let output = again.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    false
}
