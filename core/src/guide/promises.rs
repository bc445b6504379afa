//! What is promised, and what is not.
//!
//! The numbers (G1, E3) are those of `PROTOCOL.md`. A test carries each of them in its name.
//!
//! # What a service may rely on
//!
//! | | promise | it depends on |
//! | --- | --- | --- |
//! | G1 | a term has at most one master | votes that survive a restart: [`state_dir`](crate::ConfigBuilder::state_dir) |
//! | G2 | two nodes never have a lease at the same time. A lease ends early if the node leaves or resigns, and with its process | clocks whose rates differ by at most `max_clock_drift_percent`, and that keep running while a machine is suspended |
//! | G3 | the view of a node only moves forward; one view id names one member list | the same as G1 |
//! | G4 | how the bytes are cut into chunks changes nothing | – |
//! | G5 | where a quorum of voters can talk to each other, there is a master after a bounded time, and then one view | – |
//! | G6 | when all voters start together, the node with the highest priority is the first master, and of several the one with the lowest id | – |
//! | G7 | memory is bounded, whatever peers do | the [`Limits`](crate::Limits) |
//! | G8 | no bytes from a peer do harm | – |
//!
//! ## Suspended machines
//!
//! A lease is a time, so G2 needs a clock that counts the time in which a machine is suspended. The clock of
//! `formation-host`, which both adapters use:
//!
//! | system | clock | counts suspended time |
//! | --- | --- | --- |
//! | Linux, Android | `CLOCK_BOOTTIME` | yes |
//! | Windows | `std::time::Instant`, the performance counter | yes |
//! | macOS, iOS | `std::time::Instant`, `CLOCK_UPTIME_RAW` | no |
//! | others | `std::time::Instant`, the system's `CLOCK_MONOTONIC` | it depends on the system |
//!
//! Where the clock does not count it, a master that wakes up may hold a lease that has ended for everybody else: G2 does not
//! cover a machine that sleeps. Keep such a machine awake while a node runs on it, or end the node before it sleeps. On every
//! system, a virtual machine that is paused or restored from a snapshot has a clock that has stood still: do not pause a machine
//! on which a node runs.
//!
//! ## Acting as the master
//!
//! [`leadership`](crate::Formation::leadership) is the permission to act. The event that a master was elected is not:
//! an event may be read late. A reported leadership stays valid until [`valid_until`](crate::Leadership::valid_until),
//! with two exceptions:
//!
//! - Your own code makes the node leave or resign before that time. Such a master has to stop acting as the master first.
//! - A lease ends with its process. When a node has died and starts again, another node may lead at once, although the
//!   earlier process had reported a later end (E1). This needs one live process per seed address: start a node again
//!   only once its earlier process has ended, and let nothing act for that process after its end.
//!
//! A killed process may have started a write, for example a request that is still on its way to a database. That write
//! can take effect after the next master has begun to act, and before the `valid_until` of the killed process. Only
//! the receiver can prevent this: let it check the fencing token, as the end of this section says.
//!
//! With an adapter, use `run_while_master` and the guards of a `Lease`, which do the rest of this section for you. Without one: before
//! an action that takes time, ask whether it can take effect early enough.
//!
//! ```
//! use formation_core::{Leadership, Timestamp};
//!
//! /// Whether the node may still begin an action that takes effect within `micros`.
//! fn may_begin(leadership: Option<Leadership>, now: Timestamp, micros: u64) -> bool {
//!     leadership.is_some_and(|leadership| leadership.valid_until.since(now).as_micros() > u128::from(micros))
//! }
//!
//! # use formation_core::{Config, Formation, Incarnation, Input, Output, Start};
//! # let config = Config::single("orders", "node-a", "127.0.0.1:7000").build()?;
//! # let mut node = Formation::new(config, Start::new(Incarnation(1), 42), Timestamp::ZERO);
//! # let now = Timestamp::ZERO;
//! # while let Some(output) = node.poll_output() {
//! #     if let Output::Persist { seq, .. } = output { node.handle_input(now, Input::Persisted { seq })?; }
//! # }
//! assert!(may_begin(node.leadership(now), now, 500_000));
//! assert!(!may_begin(node.leadership(now), now, 5_000_000));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A clock cannot stop a write that is already under way. Where a late write would do harm, send the
//! [`term`](crate::Leadership::term) along, and let the receiver reject a term that is smaller than one it has already
//! seen. [`Fence`](crate::Fence) does this. The term is a fencing token: it is larger than the term of every earlier master. If votes survive restarts,
//! terms survive them too.
//!
//! # What is not promised
//!
//! - **A master at all times.** Without a quorum of the voters there is no master. After a master dies, there is none
//!   for about one lease. If the election needs a voter that has itself just started, and that has not heard from the old master, there
//!   is none until the end of its [`bootstrap_wait`](crate::Timing::bootstrap_wait) (3 s with `Timing::lan`, E1). After a master leaves,
//!   there is none for two round trips; with an adapter, for a [`lease_margin`](crate::ConfigBuilder::lease_margin) and two round trips.
//! - **Exclusive solo masters.** With [`solo_after`](crate::ConfigBuilder::solo_after) (E8), a master continues with
//!   the nodes that it can reach, without a quorum. G1, G2 and the second half of G3 then hold only among the masters
//!   that a quorum has elected. A solo master is shown as [`Phase::Solo`](crate::Phase::Solo). Its `leadership` does
//!   not exclude another node's, and its term fences nothing.
//! - **That a member in the view is alive.** The master has received something from it within `down_after`. A node
//!   that is missing is not necessarily dead: it may be cut off from the master only.
//! - **The same view everywhere at the same moment.** Members are behind by the time that messages take. View ids tell
//!   which view is newer.
//! - **Anything about your data.** There is no replicated log.
//! - **Protection against a compromised voter.** It may become master, write any view, and keep the cluster from having a
//!   master. Once it is gone, the other nodes are whole again (T3).
//! - **Members that are yours, without a key or TLS.** A peer that is no voter changes nobody's term, master, lease or
//!   entry in the view, and takes the identity of no living node (T2): it would have to prove that it is that node (H11).
//!   But it can be a member under an id and an address that nobody else uses, and it can make nodes dial addresses that it
//!   claims. Without a [key](crate::ClusterKey) and without TLS, anybody who can connect can be such a peer. With a key, a
//!   peer that does not hold it changes nothing (T1).
//! - **Protection against somebody on the network path, without TLS** (T4).
//!
//! Without a `state_dir`, a voter that restarts may vote twice in one term. G1 and G3 then hold only as long as no
//! voter restarts within a term, and terms start again once all voters were down at the same time. G2 holds in this
//! case too: a voter that has just started waits until it can no longer break a promise that it has forgotten (E1). A
//! voter that is bound by a live promise to another node follows a newer master, but confirms its heartbeats only once
//! that promise is over (E5).
//!
//! # What is assumed
//!
//! - There is one live process per seed address. A newer run of a node starts only after the earlier one has ended.
//! - The seed list is the same on every node, and stays when the voters change (E10). Another list needs all voters stopped (see
//!   [`former_seeds`](crate::ConfigBuilder::former_seeds)).
//! - The file system keeps what it has acknowledged.
