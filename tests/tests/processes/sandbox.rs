//! A world of its own for the suite: namespaces of the network, of mounts and of processes. When the suite ends, in whatever
//! way, the kernel takes away with them all processes, interfaces and mounts.

use std::{
    env,
    ffi::OsString,
    io::{Write, stderr},
    process::{Command, Stdio},
    time::Duration,
};

const UNSHARE: [&str; 7] = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Why there can be none here.
pub(crate) fn unavailable() -> Option<String> {
    let works = |command: &[&str]| {
        let (program, args) = command.split_first().expect("a command has a name");
        let run = Command::new(program).args(args).stdin(Stdio::null()).output();
        run.is_ok_and(|output| output.status.success())
    };
    let probes: [&[&str]; 3] = [&["ip", "-V"], &["tc", "-V"], &["nft", "-v"]];
    if let Some(missing) = probes.into_iter().find(|probe| !works(probe)) {
        return Some(format!("there is no {} (Debian: iproute2, nftables)", missing[0]));
    }
    let namespaces = [&UNSHARE[..], &["ip", "tuntap", "add", "probe", "mode", "tun"]].concat();
    (!works(&namespaces)).then(|| format!("'{}' fails: it takes Linux, root, namespaces and tun", namespaces.join(" ")))
}

/// Plays this test once more in there, with these variables, for no longer than `limit`.
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
            Some(124 | 137) => format!("it takes longer than {limit:?}"),
            _ => format!("it fails ({status})"),
        }
    );
}

/// What has to be there before there are machines.
pub(crate) fn furnish() {
    // The names of namespaces are kept there, and would stay behind outside.
    run(&["mount", "-t", "tmpfs", "tmpfs", "/run"]);
    run(&["ip", "link", "set", "lo", "up"]);
}

/// Does what cannot fail here.
pub(crate) fn run(command: &[&str]) {
    let output = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", command.join(" ")));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {}, {errors}", command.join(" "), output.status);
}

/// Tells, also when the test is captured.
pub(crate) fn tell(line: &str) {
    // Nobody listens any more when it fails.
    let _ = writeln!(stderr(), "{line}");
}
