//! How to test a service that depends on being the master.
//!
//! # In virtual time
//!
//! `Cluster::start_with` of the adapters takes an `Environment`: the clock, the incarnation, the random seed and the storage of the
//! node. With `paused_environment` of `formation-tokio`, a node lives in the paused time of tokio. With a network in memory as its
//! `Transport`, for example that of [turmoil](https://docs.rs/turmoil), a whole cluster of your service runs in one thread, hours pass
//! in seconds, and a seed repeats a run. `tests/tests/turmoil.rs` in the source of this project is such a test: three nodes form, a
//! master is cut off and its lease lapses, a node crashes and comes back, and the test asserts that no two masters work at once.
//!
//! On real sockets, use [`ConfigBuilder::local`](crate::ConfigBuilder::local), whose times are short, and wait for what the node
//! reports (`wait_for_members`, `wait_until_master`, `watch_leadership`). Do not sleep and hope.
//!
//! # Three faults that are easily forgotten
//!
//! - **A pause between the look at the lease and the write.** The process is stopped, its machine is suspended, or a garbage
//!   collection of a neighbour takes all processors. When it continues, it writes with a lease that has ended. Stop a master with
//!   `SIGSTOP` for longer than its lease, let another node work, and continue it. Only the receiver of the write can refuse it:
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
//! - **A master that leaves in the middle of a step.** Each deployment does this. Send `SIGTERM` while the service works. A step with a
//!   guard ends first; a task that was spawned without one goes on beside the next master.
//! - **A master that is cut off and does not notice.** The service still reaches its database, but no other node. Cut only the
//!   connections between the nodes. The work has to end before the next master's work begins, and it does if it looks at its lease;
//!   a loop that blocks its thread does not look.
//!
//! The example `fenced_job` of `formation-tokio`, and `fenced_job_smol` of `formation-smol`, is a service that stands all three.
