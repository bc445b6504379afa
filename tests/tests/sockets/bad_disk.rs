//! Disks that fail for a while, and file systems that cannot keep votes.

use std::{env, fs, net::TcpListener, time::Duration};

use ::tokio::task::yield_now;
use formation_tokio::LeaveError;

use crate::{
    adapters::Adapter,
    shim,
    support::{agreed_view, elected_after, listen, voter},
};

with_each_adapter!(;
    alone: e4_a_disk_that_is_full_for_a_moment_costs_no_voter,
    a_file_system_without_directory_syncs_is_named,
    a_limit_ends_the_wait_for_a_hung_disk,
);

/// While this file exists, the disk hangs.
const HANGS: &str = "FORMATION_TEST_HANGS";

/// It hangs on the threads that store votes, for a minute at most: a runtime waits for its threads when a test fails. A start stores
/// its record on the thread that it is called on.
const HUNG_DISK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int fsync(int file) {
    static int (*real)(int);
    char name[16] = "";
    pthread_getname_np(pthread_self(), name, sizeof name);
    if (!strncmp(name, "tokio-rt", 8) || !strncmp(name, "blocking", 8))
        for (int i = 0; i < 60000 && !access(getenv("FORMATION_TEST_HANGS"), F_OK); i++) usleep(1000);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    return real(file);
}
"#;

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
        A::start(voter(number, &seeds).local().state_dir(dir).build().unwrap(), listener)
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
    let config = voter(0, &[address]).state_dir(dir.path()).build().unwrap();
    let error = A::try_start(config, listener).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("file system") && error.contains(dir.path().to_str().unwrap()), "{error}");
}

/// The disk hangs with the first vote. At the limit only the directory is in use, and once the disk answers, it is free as well.
async fn a_limit_ends_the_wait_for_a_hung_disk<A: Adapter>() {
    let dir = tempfile::tempdir().unwrap();
    let hangs = dir.path().join("hangs");
    if !shim::is_preloaded(HUNG_DISK, &[(HANGS, hangs.to_str().unwrap())]) {
        return;
    }
    let hangs = env::var_os(HANGS).unwrap();
    // Enough to leave, even on a busy machine.
    let limit = Duration::from_secs(1);
    let (mut listener, address) = listen();
    let config = || voter(0, std::slice::from_ref(&address)).local().state_dir(dir.path()).build();
    for by_leaving in [true, false] {
        fs::write(&hangs, "").unwrap();
        let node = A::start(config().unwrap(), listener);
        let unfinished = match by_leaving {
            true => match node.leave_within(limit).await {
                Err(LeaveError::Unfinished(unfinished)) => unfinished,
                other => panic!("{other:?}"),
            },
            false => node.shutdown_within(limit).await.unwrap_err(),
        };
        assert!(unfinished.write && !unfinished.leave, "{unfinished}");
        listener = TcpListener::bind(&address).unwrap();
        let error = A::try_start(config().unwrap(), listener.try_clone().unwrap()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("is locked"), "{error}");
        fs::remove_file(&hangs).unwrap();
        node.shutdown().await;
    }
    A::start(config().unwrap(), listener).leave().await;
}
