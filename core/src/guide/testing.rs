//! How to test a service that depends on being the master.
//!
//! # The kit
//!
//! The package `formation-testing` runs a whole cluster of your service in one test: a network in memory, nodes with processes and
//! storage, and the faults that a service has to survive. Add it to the development dependencies, with the feature `tokio` or `smol`:
//!
//! ```text
//! use formation_testing::{TestNode, tokio::Network};
//!
//! #[test]
//! fn the_next_master_goes_on() {
//!     Network::new(7).run(async |network| {
//!         let cluster = network.services(3, async |node: TestNode| my_service(&node).await).await;
//!         let first = cluster.assert_one_master();
//!         cluster.kill(&first.node.id);
//!         cluster.wait_for_new_master(first.term).await;
//!         cluster.restart(&first.node.id);
//!         cluster.wait_for_members(3).await;
//!     });
//! }
//! ```
//!
//! `my_service` takes a `&ClusterHandle`, which `&node` becomes by itself. So it is the code that runs in production, where the `Cluster` of an adapter gives it the handle.
//! The documentation of `formation-testing` starts with a complete example. The recipe `web_service` in `tests/recipes` of the source of
//! this project is a whole service that is tested so: HTTP, the job of the master, its database, and its end at SIGTERM.
//!
//! The test fails as soon as two nodes have a valid lease at the same time, even if no code looks at it. Call `node.record(term)` where
//! a step takes effect. Then the test also fails at a step of an earlier master. A wait does not hang: it fails with what each node
//! says about itself.
//!
//! # Which one to choose
//!
//! | you test | use |
//! | --- | --- |
//! | a service on tokio | `formation-testing` with the feature `tokio`: virtual time, one thread, and a seed repeats the run |
//! | a service on smol | `formation-testing` with the feature `smol`: the same interface, in real time |
//! | a service that is a state machine without IO | `formation_testing::sim`: random faults, and the smallest set of them that breaks it |
//! | a service whose nodes talk to each other over simulated TCP | [turmoil](https://docs.rs/turmoil), with its streams as the `Transport`: `tests/tests/turmoil.rs` in the source of this project |
//! | on real sockets | [`ConfigBuilder::local`](crate::ConfigBuilder::local), whose times are short |
//! | your own embedding of the core | `Formation` itself: it does no IO, so a test calls it with any times and inputs |
//!
//! For another simulator, `Cluster::start_with` of the adapters takes an `Environment`: the clock, the incarnation, the random seed and
//! the storage of the node. With `paused_environment` of `formation-tokio`, a node lives in the paused time of tokio.
//!
//! On real sockets, wait for what the node reports (`wait_for_members`, `wait_until_master`, `watch_leadership`). Do not sleep and hope.
//!
//! # Without IO
//!
//! A service that is itself a state machine is simulated as a whole: `formation_testing::sim` of the package `formation-testing` runs it
//! above the real [`Formation`](crate::Formation), with crashes, pauses, partitions and late writes at random times. It finds by
//! itself whether your service fails under them, and reports the few faults that it takes.
//!
//! # Three faults that are easily forgotten
//!
//! The documentation of `formation-testing` has a test for each.
//!
//! - **A pause between the look at the lease and the write.** The process is stopped, its machine is suspended, or another
//!   program uses all processors. When the process continues, it writes although its lease has ended. With the kit, `pause` the
//!   master, `wait_for_new_master`, and `resume` it; with processes, stop a master with `SIGSTOP` for longer than its lease. Only
//!   the receiver of the write can refuse it:
//!
//!   ```
//!   use formation_core::{Fence, Term};
//!
//!   let mut fence = Fence::default();
//!   let mut stored = Vec::new();
//!   let mut write = |term, value| fence.admit(term).map(|()| stored.push(value));
//!   assert!(write(Term(1), "by the first master").is_ok());
//!   assert!(write(Term(2), "by the next one").is_ok());
//!   assert!(write(Term(1), "by the first one, after its pause").is_err());
//!   assert_eq!(stored, ["by the first master", "by the next one"]);
//!   ```
//!
//! - **A master that leaves in the middle of a step.** Each deployment does this. With the kit, call `leave` of the node while the service
//!   works. Or pass the service its signal as a future, which the test completes. With processes, send `SIGTERM`. A step with a guard
//!   ends first. A task that was spawned without a guard goes on beside the next master.
//! - **A master that is cut off and does not notice.** The service still reaches its database, but no other node. With the kit, use
//!   `partition`, or `cut` for single connections. The work has to end before the next master's work begins, and it does if it looks at
//!   its lease; a loop that blocks its thread does not look.
//!
//! The example `fenced_job` of `formation-tokio`, and `fenced_job_smol` of `formation-smol`, is a service that survives all three. The
//! test of both is `tests/tests/fenced_job.rs` of the repository, which uses the kit.
