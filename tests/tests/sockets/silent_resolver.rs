//! Name servers that never answer.

use std::fs;

use ::tokio::task::yield_now;
use formation_core::Config;

use crate::{
    adapters::Adapter,
    shim,
    support::{self, CLUSTER, agreed_view, listen, voter},
};

with_each_adapter!(;
    alone: a_silent_resolver_has_one_lookup_per_name_and_no_waiter,
    votes_do_not_wait_for_names,
);

/// Lookups of names with `silent` never return. Each one is written to the file of this variable.
const LOOKUPS: &str = "FORMATION_TEST_LOOKUPS";

const RESOLVER: &str = r#"
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *name, const char *port, const struct addrinfo *hints, struct addrinfo **found) {
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (name && strstr(name, "silent")) {
        FILE *lookups = fopen(getenv("FORMATION_TEST_LOOKUPS"), "a");
        fprintf(lookups, "%s\n", name);
        fclose(lookups);
        for (;;) pause();
    }
    if (!real) real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(name, port, hints, found);
}
"#;

/// Whether the resolver is silent. The threads for blocking work are as few as a service may have.
fn resolver_is_silent() -> bool {
    let lookups = tempfile::NamedTempFile::new().unwrap();
    shim::is_preloaded(RESOLVER, &[(LOOKUPS, lookups.path().to_str().unwrap()), ("BLOCKING_MAX_THREADS", "4")])
}

/// The end of the process shows that nothing waits for the lookups.
async fn a_silent_resolver_has_one_lookup_per_name_and_no_waiter<A: Adapter>() {
    if !resolver_is_silent() {
        return;
    }
    let (subscriber, log) = support::debug_log();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let (listener, address) = listen();
    let names: Vec<String> = (0..6).map(|number| format!("silent-{number}.example:7000")).collect();
    let seeds = names.iter().chain([&address]);
    let config = Config::builder(CLUSTER, "a", address.as_str()).seeds(seeds.cloned()).local().build().unwrap();
    let node = A::start(config, listener);
    let failed =
        |log: &str, name: &str| log.lines().filter(|line| line.contains("dial failed") && line.contains(name)).count();
    while !names.iter().all(|name| failed(&log(), name) >= 3) {
        yield_now().await;
    }
    let lookups = fs::read_to_string(std::env::var_os(LOOKUPS).unwrap()).unwrap();
    let mut lookups: Vec<_> = lookups.lines().map(|name| format!("{name}:7000")).collect();
    lookups.sort();
    assert_eq!(lookups, names);
    node.leave().await;
}

/// Three of five voters live. The names of the two others do not resolve.
async fn votes_do_not_wait_for_names<A: Adapter>() {
    if !resolver_is_silent() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (listeners, mut seeds): (Vec<_>, Vec<_>) = (0..3).map(|_| listen()).unzip();
    seeds.extend(["silent-a.example:7000", "silent-b.example:7000"].map(str::to_owned));
    let start = |(number, listener): (usize, _)| {
        let dir = dir.path().join(number.to_string());
        A::start(voter(number, &seeds).local().state_dir(dir).build().unwrap(), listener)
    };
    let nodes: Vec<A> = listeners.into_iter().enumerate().map(start).collect();
    agreed_view(&nodes, 3).await;
}
