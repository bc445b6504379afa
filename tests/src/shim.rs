//! Functions of the C library that behave badly, for tests of whole processes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Compiles C functions into a library in `dir`, for `LD_PRELOAD`.
///
/// # Panics
/// Without a C compiler, or when the code is wrong.
pub fn compile(source: &str, dir: &Path) -> PathBuf {
    let (code, library) = (dir.join("shim.c"), dir.join("shim.so"));
    fs::write(&code, format!("#define _GNU_SOURCE\n{source}")).expect("the directory is writable");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&code).arg("-ldl");
    assert!(compiler.status().expect("there is a C compiler").success(), "the C compiler fails");
    library
}
