//! What is promised, and what is not.
//!
//! The names (G1, E3) are those of `PROTOCOL.md`; a test carries each of them in its name.
//!
//! # What a service may rely on
//!
//! | | promise | on what it hangs |
//! | --- | --- | --- |
//! | G1 | a term has one master at most | votes that outlive their node: [`state_dir`](crate::ConfigBuilder::state_dir) |
//! | G2 | two nodes are never masters at the same time | clocks whose rates differ by at most `max_clock_drift_percent`, and that go on while a machine is suspended |
//! | G3 | a node's view only moves forward; one view id is one member list | as G1 |
//! | G4 | how the bytes are cut changes nothing | – |
//! | G5 | where a quorum of voters can talk, there is a master after a bounded time, and then one view | – |
//! | G6 | when all voters start together, the lowest id is the first master | – |
//! | G7 | memory is bounded, whatever peers do | the [`Limits`](crate::Limits) |
//! | G8 | no bytes of a peer do harm | – |
//!
//! ## Acting as the master
//!
//! [`leadership`](crate::Formation::leadership) is the permission to act, not the event that a master was elected: an event
//! may be read late. What it has reported stays true until [`valid_until`](crate::Leadership::valid_until), unless the host itself
//! lets the node leave before: whoever leaves as the master stops acting as one first. Whoever starts
//! something that takes time looks again before it takes effect:
//!
//! ```
//! use formation_core::{Leadership, Timestamp};
//!
//! /// Whether something that takes effect within `micros` may still be begun.
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
//! A clock cannot save a write that is already on its way. Where a stale one would do harm, send the
//! [`term`](crate::Leadership::term) along, and let the receiver refuse a smaller one than it has seen: it is a fencing token,
//! larger than that of every master before. Terms outlive the cluster when votes do.
//!
//! # What is not promised
//!
//! - **A master at all times.** Without a quorum of the voters there is none, unless [`solo_after`](crate::ConfigBuilder::solo_after)
//!   was asked for (E8): then a master goes on with those it has, and G1, G2 and the second half of G3 hold only among masters that a
//!   quorum has elected. Such a master is [`Phase::Solo`](crate::Phase::Solo); its `leadership` is no permission that excludes another's, and its term fences nothing. Between the loss of one and the next there is
//!   about a lease without; after a master that leaves, two round trips.
//! - **That a member in the view lives.** It was heard within `down_after`, by the master. Nor that one that is missing is dead:
//!   it may be cut off from the master alone.
//! - **The same view at the same moment.** Members are behind by what messages take; view ids tell which view is newer.
//! - **Anything of your data.** There is no replicated log here.
//! - **Peers that lie.** Whoever may speak the protocol is believed about who it is. Run it where only your nodes can reach
//!   each other, or give the cluster a [key](crate::ClusterKey), which keeps out whoever does not hold it; who holds it is
//!   believed.
//!
//! Without a `state_dir` a voter that restarts may vote twice in one term. Then G1 and G3 hold only as long as no voter
//! restarts within a term, and terms begin anew when all voters were down at once. G2 holds all the same: a voter that has just
//! started waits until it can break no promise that it has forgotten (E1).
//!
//! # What is assumed
//!
//! One live node per seed address; a seed list that is the same on every node, and changes only while all voters are
//! stopped (see [`former_seeds`](crate::ConfigBuilder::former_seeds)); a file system that keeps what it has acknowledged.
