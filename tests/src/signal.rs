//! Signals to processes.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// Far longer than a stop takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Sends a signal, such as `TERM`, to a process. After `STOP`, no thread of the process runs any more.
///
/// # Panics
/// When the process does not run, or does not stop.
pub fn send_signal(process: u32, name: &str) {
    let kill = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status();
    assert!(kill.expect("there is a shell").success(), "the process {process} does not run");
    let end = Instant::now() + LIMIT;
    while name == "STOP" && !stands_still(process) {
        assert!(Instant::now() < end, "the process {process} does not stop");
        thread::yield_now();
    }
}

/// Whether no thread of a process runs. A stop reaches the threads one after the other. Until then, one that waits for a lock can still
/// get it, and keeps it.
fn stands_still(process: u32) -> bool {
    let Ok(mut threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        // Only Linux has these files.
        return !cfg!(target_os = "linux");
    };
    threads.all(|thread| {
        let stat = thread.and_then(|thread| fs::read_to_string(thread.path().join("stat")));
        // The state comes after the name, which is in parentheses. A thread that has ended has no file.
        stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
    })
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn after_a_stop_no_thread_runs() {
        // It would run for ever.
        let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn().unwrap();
        let was_running = !stands_still(child.id());
        send_signal(child.id(), "STOP");
        let stopped = stands_still(child.id());
        let ended = child.kill().and_then(|()| child.wait().map(drop));
        assert!(stopped && (was_running || !cfg!(target_os = "linux")));
        ended.unwrap();
    }
}
