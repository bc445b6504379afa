//! Services to copy from. Each is a program of its own in `tests/recipes` of the source of this project, says why it does what it does, and
//! runs in the tests as three processes, whose master is killed, paused and told to end.
//!
//! | recipe | what it shows |
//! | --- | --- |
//! | `web_service` | `axum` beside the job of the master: `/members`, `/health` that says why there is no master, and an end in order at SIGTERM, with limits |
//! | `cron` | a job at fixed times, on the master only; no run is lost when the master changes, and no two masters do it |
//! | `sharding` | work that is divided among the members that have a tag, by rendezvous hashing, and a fence for each shard |
//! | `fenced_database` | SQLite or PostgreSQL that refuses the late writes of earlier masters, in the same transaction |
//!
//! The examples of `formation-tokio` and `formation-smol` show more: `fenced_job` and `fenced_job_smol` a job with steps that must not be cut
//! short, `transport` other streams than TCP, and `demo` the whole life of a cluster.
//!
//! # What all of them do
//!
//! - They handle SIGTERM before the node starts. Otherwise an early signal ends the process, and the others have to find out.
//! - They end with `leave`, while the future of `run_while_master` still runs. Dropping that future first would cut a step short.
//! - They do what blocks (a database, a file) on a thread of its own, such as that of `spawn_blocking`. A node whose thread is blocked does not answer, and loses its lease.
//! - Each write goes with the term, or with the view id, and the receiver refuses older ones. A lease cannot stop a write that is under way.
//! - They have a [`state_dir`](crate::ConfigBuilder::state_dir). Without it, terms could begin again, and a fence would refuse everything.
//! - They end when the node has stopped by itself, for example because a newer process has its id.
