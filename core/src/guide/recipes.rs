//! Services to copy from. Each is a program of its own in `tests/recipes` of the source of this project, says why it does what it does, and
//! runs in the tests as three processes, under the faults below. The whole of `web_service` and of
//! `sharding` also runs in memory, in virtual time.
//!
//! | recipe | what it shows | faults in the tests |
//! | --- | --- | --- |
//! | `web_service` | `axum` beside the job of the master, with the page, the probes and the metrics of `formation-http`, a fence at its database, and an end in order at SIGTERM, with limits. Its test with the kit is `tests/recipes/tests/recipes/web_service_in_memory.rs` | the master is killed, cut off, or told to end |
//! | `cron` | a job at fixed times, on the master only; no run is lost when the master changes; the run under way may be done again (at least once). A late master never overwrites what the next one has recorded | the master is killed, paused, or told to end |
//! | `sharding` | work that is divided among the members that have a tag, by rendezvous hashing, and a fence for each shard | a worker is killed, paused or cut off |
//! | `fenced_database` | SQLite or PostgreSQL that refuses the late writes of earlier masters, in the same transaction | the master is paused; clients that ignore the fence |
//! | `telemetry` | OpenTelemetry: the events of the node as log records, and a span for each mastership, with the steps of the master below it | the master is told to end |
//!
//! The examples of `formation-tokio` and `formation-smol` show more: `fenced_job` and `fenced_job_smol` a job with steps that must not be cut
//! short, `transport` other streams than TCP, and `demo` the whole life of a cluster.
//!
//! A library that is to run on both runtimes takes the handle and names no adapter: both adapters have the same `ClusterHandle`. Where it
//! needs timers or tasks of its own, it takes `formation_host::Runtime` as a parameter. The page of that trait
//! shows such a library.
//!
//! # What all of them do
//!
//! - They install the handler of SIGTERM before the node starts. Otherwise an early SIGTERM ends the process without a goodbye, and the
//!   others notice only after a while.
//! - They end with `leave` or `leave_within`, while the future of `run_while_master` still runs. Dropping that future first would cut a step
//!   short.
//! - They do what blocks (a database, a file) on a thread of its own, such as that of `spawn_blocking`. A node whose thread is blocked does not
//!   answer, and loses its lease.
//! - Each write goes with the term, or with the view id, and the receiver refuses older ones. A lease cannot stop a write that is under way.
//! - They have a [`state_dir`](crate::ConfigBuilder::state_dir). Without it, terms could begin again, and a fence would refuse everything.
//! - They end when the node has stopped by itself, for example because a newer process has its id.
