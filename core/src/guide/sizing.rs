//! Sizing a cluster: which times, how many voters, and what a node needs.
//!
//! # Times
//!
//! | network | start with | a new master after a crash | a round trip may take |
//! | --- | --- | --- | --- |
//! | one machine, tests | `local` | about 0.3 s | 10 ms |
//! | one site, or the zones of one region of a cloud | `lan` (the default) | about 1.1 s | 50 ms |
//! | several regions, or virtual machines that stand still for seconds | `wan` | about 5.5 s | 250 ms |
//!
//! The third column is a `lease` and an election. If a voter that is needed has itself just started, a `bootstrap_wait` comes on top. A
//! master that leaves hands over in two round trips and a [`lease_margin`](crate::ConfigBuilder::lease_margin), whatever the times are.
//!
//! The last column is a rule of thumb: a quarter of [`heartbeat_interval`](crate::Timing::heartbeat_interval), so that a lost packet, which
//! TCP repeats after 200 ms or more, still leaves two heartbeats within a lease. Measure the path between the voters under load, and take
//! the slowest second of a day, not the average.
//!
//! Longer times cost nothing but the time without a master after a crash. Shorter ones cost elections: a pause of the process, of the
//! machine or of the network that is longer than a lease ends the mastership. In a cloud, live migration and a throttled processor are such
//! pauses. If `formation_master_losses_total` with `reason="lease_expired"` rises, choose longer times. How to change them while the
//! cluster runs is said under [changing things](super::operating#changing-things).
//!
//! # Voters
//!
//! | voters | may fail at once | |
//! | --- | --- | --- |
//! | 1 | 0 | no election: simple, and the service ends with the machine |
//! | 3 | 1 | the right number for most. A restart and a failure at the same time are too much |
//! | 5 | 2 | a restart and a failure at the same time are survived |
//! | 7 | 3 | rarely of use: an election waits for more answers |
//!
//! An even number survives no more than the odd one below it. Put them where they fail one at a time: machines, racks, zones. Two zones are
//! not better than one, because one of them has half of the voters or more. All other nodes only join, and there may be thousands.
//!
//! # A node
//!
//! | members | 100 | 1,000 | 10,000 |
//! | --- | --- | --- | --- |
//! | processor of the master | 0.3 % | 2 % | 45 % |
//! | processor of any other node | 0.001 % | 0.002 % | 0.004 % |
//! | traffic of the idle cluster, in all | 10 KB/s | 100 KB/s | 1 MB/s |
//! | bytes until all nodes have joined, in all | 0.3 MB | 26 MB | 2.5 GB |
//! | heap of a node | | | 1 MB |
//!
//! This is the state machine alone, with `lan`, on one processor of a small cloud machine: the figures of `tests/SCALE.md`. The sockets
//! come on top: a process with three voters and 1,000 idle members took 13 % of a processor on tokio, and 20 % on smol. With `wan`, an idle
//! cluster costs a fifth. Beyond 4,000 members, nothing but the simulation was tried.
//!
//! - **Memory.** Give the node program 64 MiB, and 256 MiB as a limit: [`Limits`](crate::Limits) bounds what peers can make it hold, and
//!   its defaults for unfinished frames and unsent bytes are 64 MiB each.
//! - **Files.** One for each connection, and some more. The master has one to each member: set `LimitNOFILE` above that.
//! - **Disk.** A voter writes at its start and once in each election, less than 1 KiB, and waits for `fsync`. Any disk is fast enough that
//!   answers within [`election_timeout`](crate::Timing::election_timeout). One that hangs costs the vote of this node, and nothing else.
//! - **Clocks.** No node compares the time of day with that of another one. Only the rates of the clocks matter: 1 %.
