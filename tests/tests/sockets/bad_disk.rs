//! Disks that fail for a while, and file systems that cannot keep votes.

use std::{env, fs};

use ::tokio::task::yield_now;

use crate::{
    adapters::Adapter,
    shim,
    support::{agreed_view, elected_after, listen, voter},
};

with_each_adapter!(;
    alone: e4_a_disk_that_is_full_for_a_moment_costs_no_voter,
    a_file_system_without_directory_syncs_is_named,
);

/// While this file exists, the disk is full.
const FULL: &str = "FORMATION_TEST_FULL";

const FULL_DISK: &str = r#"
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int fsync(int file) {
    static int (*real)(int);
    struct stat found;
    if (!fstat(file, &found) && S_ISREG(found.st_mode) && !access(getenv("FORMATION_TEST_FULL"), F_OK)) {
        errno = ENOSPC;
        return -1;
    }
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    return real(file);
}
"#;

const NO_DIRECTORY_SYNCS: &str = r#"
#include <dlfcn.h>
#include <errno.h>
#include <sys/stat.h>

int fsync(int file) {
    static int (*real)(int);
    struct stat found;
    if (!fstat(file, &found) && S_ISDIR(found.st_mode)) {
        errno = EINVAL;
        return -1;
    }
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    return real(file);
}
"#;

/// The next master needs the votes of both voters that are left. None can store one until there is room again.
async fn e4_a_disk_that_is_full_for_a_moment_costs_no_voter<A: Adapter>() {
    let dir = tempfile::tempdir().unwrap();
    let full = dir.path().join("full");
    if !shim::is_preloaded(FULL_DISK, &[(FULL, full.to_str().unwrap())]) {
        return;
    }
    let (listeners, seeds): (Vec<_>, Vec<_>) = (0..3).map(|_| listen()).unzip();
    let start = |(number, listener): (usize, _)| {
        let dir = dir.path().join(number.to_string());
        A::start(voter(number, &seeds).local().state_dir(dir.to_str().unwrap()).build().unwrap(), listener)
    };
    let mut nodes: Vec<A> = listeners.into_iter().enumerate().map(start).collect();
    agreed_view(&nodes, 3).await;
    let (master, term) = nodes[0].wait_for_master().await;
    // Only the first subscriber gets the events since the start.
    let mut events: Vec<_> = nodes.iter().map(A::events).collect();
    let full = env::var_os(FULL).unwrap();
    fs::write(&full, "").unwrap();
    let at = nodes.iter().position(|node| *node.node() == master).unwrap();
    drop((nodes.remove(at), events.remove(at)));
    let mut events = events.remove(0);
    // The first candidate abstains, and then the other one does not stand.
    while nodes.iter().all(|node| node.status().can_vote) {
        yield_now().await;
    }
    fs::remove_file(&full).unwrap();
    elected_after::<A>(&mut events, term).await;
    agreed_view(&nodes, 2).await;
    assert!(nodes.iter().all(|node| node.status().can_vote));
}

async fn a_file_system_without_directory_syncs_is_named<A: Adapter>() {
    if !shim::is_preloaded(NO_DIRECTORY_SYNCS, &[]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (listener, address) = listen();
    let config = voter(0, &[address]).state_dir(dir.path().to_str().unwrap()).build().unwrap();
    let error = A::try_start(config, listener).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("file system") && error.contains(dir.path().to_str().unwrap()), "{error}");
}
