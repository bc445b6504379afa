//! A sandbox for the test: its own namespaces for the network, mounts and processes. When the test ends, in whatever
//! way, the kernel removes them with all processes, interfaces and mounts.

use std::{
    env,
    ffi::OsString,
    io::{Write, stderr},
    process::{Command, Stdio},
    time::Duration,
};

const UNSHARE: [&str; 7] = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// The reason why the sandbox is not available here, if it is not.
pub(crate) fn unavailable() -> Option<String> {
    let works = |command: &[&str]| {
        let (program, args) = command.split_first().expect("a command has a name");
        let run = Command::new(program).args(args).stdin(Stdio::null()).output();
        run.is_ok_and(|output| output.status.success())
    };
    let probes: [&[&str]; 3] = [&["ip", "-V"], &["tc", "-V"], &["nft", "-v"]];
    if let Some(missing) = probes.into_iter().find(|probe| !works(probe)) {
        return Some(format!("{} is not installed (Debian: iproute2, nftables)", missing[0]));
    }
    let namespaces = [&UNSHARE[..], &["ip", "tuntap", "add", "probe", "mode", "tun"]].concat();
    (!works(&namespaces)).then(|| format!("'{}' fails: it takes Linux, root, namespaces and tun", namespaces.join(" ")))
}

/// Runs this test again inside the sandbox, with these variables, for at most `limit`.
pub(crate) fn enter(test: &str, vars: &[(&str, OsString)], limit: Duration) {
    let program = env::current_exe().expect("the test knows its program");
    let status = Command::new("timeout")
        .arg("--kill-after=5")
        .arg(limit.as_secs().to_string())
        .args(UNSHARE)
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .envs(vars.iter().map(|(name, value)| (name, value)))
        .status()
        .expect("coreutils has timeout");
    assert!(
        status.success(),
        "{}",
        match status.code() {
            Some(124 | 137) => format!("the test takes longer than {limit:?}"),
            _ => format!("the test fails ({status})"),
        }
    );
}

/// Prepares the sandbox for machines.
pub(crate) fn prepare() {
    // The names of namespaces are files in this directory. Without the mount, they would stay behind outside the
    // sandbox.
    run(&["mount", "-t", "tmpfs", "tmpfs", "/run"]);
    run(&["ip", "link", "set", "lo", "up"]);
}

/// Runs a command that must not fail.
pub(crate) fn run(command: &[&str]) {
    let output = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", command.join(" ")));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {}, {errors}", command.join(" "), output.status);
}

/// Prints a line, even if the output of the test is captured.
pub(crate) fn print_line(line: &str) {
    // If this fails, nobody reads the output any more.
    let _ = writeln!(stderr(), "{line}");
}
